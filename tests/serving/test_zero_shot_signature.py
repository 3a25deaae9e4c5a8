"""A served zero-shot classifier: strings in, the answers of Python's classifier out."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from tiny_models import scattered_model, tiny_model, tiny_tokenizer

from bert4kexue.methods.nsp_prompt import PromptTemplate
from bert4kexue.methods.zero_shot import ZeroShotClassifier
from bert4kexue.serving import export_service
from bert4kexue.serving.signatures import zero_shot

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)

LABELS = ("天气", "诗人", "游戏角色")
TEXTS = ["今天天气很好", "", "李白是唐代诗人" * 9, "谁写静夜思", "[SEP]角色", "好"]
SERVE = """
    import sys
    import numpy as np
    import tensorflow as tf

    serve = tf.saved_model.load(sys.argv[1]).signatures["topic_text"]
    texts = open(sys.argv[2], encoding="utf-8").read().split("\\n")
    found = serve(text=tf.constant(texts))
    alone = np.concatenate([serve(text=tf.constant([t]))["probabilities"] for t in texts])
    none = serve(text=tf.constant([], tf.string))
    assert not any(name.startswith("bert4kexue") for name in sys.modules)
    np.savez(
        sys.argv[3],
        labels=np.array([x.decode("utf-8") for x in found["label"].numpy()]),
        probabilities=found["probabilities"].numpy(),
        alone=alone,
        none=none["probabilities"].numpy(),
    )
"""


@pytest.fixture(scope="module")
def model():
    return scattered_model(family="bert", with_nsp=True)


def test_a_process_that_knows_only_tensorflow_gives_the_classifiers_answers(model, tmp_path):
    two = ["{}的", PromptTemplate(("天气", "李白是诗人", "游戏"), "suffix")]
    tokenizer = tiny_tokenizer()
    classifier = ZeroShotClassifier(
        model, tokenizer, LABELS, two, priors=[0.5, 0.2, 0.3], maxlen=20
    )
    classifier.calibrate(["今天"])
    sure = classifier.predict_proba(TEXTS).max(1)
    classifier.abstain_below = float(np.sort(sure)[1:3].mean())
    task = zero_shot(classifier, rows_at_once=7)  # two texts at a time
    path = export_service({"topic": task}, tmp_path / "topics", tokenizer=tokenizer)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8", newline="\n")
    words = [str(path), str(tmp_path / "texts.txt"), str(tmp_path / "out.npz")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVE), *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "out.npz") as found:
        expected = classifier.predict_proba(TEXTS)
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
        np.testing.assert_allclose(found["alone"], expected, atol=1e-5)
        assert found["labels"].tolist() == [x or "" for x in classifier.predict(TEXTS)]
        assert found["labels"].tolist().count("") == 2
        assert found["none"].shape == (0, 3)
    assert (path / "assets/labels_topic.txt").read_text(encoding="utf-8").split() == list(LABELS)


def test_a_model_of_positions_is_refused():
    soft = tiny_model(family="bert", with_nsp=True, custom_position_ids=True)
    classifier = ZeroShotClassifier(soft, tiny_tokenizer(), LABELS)
    with pytest.raises(ValueError, match="without custom_position_ids"):
        zero_shot(classifier)


def test_no_row_at_once_is_refused(model):
    with pytest.raises(ValueError, match="rows_at_once must be 1 or more"):
        zero_shot(ZeroShotClassifier(model, tiny_tokenizer(), LABELS), rows_at_once=0)
