"""A served knowledge base: question strings in, the facts of `KnowledgeQA` out."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from _hostile import hostile_questions
from tiny_models import scattered_model, tiny_tokenizer

from bert4kexue.decoding import PrefixTree
from bert4kexue.methods.knowledge_base import KnowledgeBase
from bert4kexue.methods.knowledge_files import build_tree_file
from bert4kexue.methods.knowledge_qa import KnowledgeQA
from bert4kexue.serving import export_service
from bert4kexue.serving.signatures import knowledge, knowledge_answers

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)

TRIPLES = [
    ("李白（唐代诗人）", "职业", "诗人"),
    ("李白（唐代诗人）", "出生地", "中"),
    ("李白（游戏角色）", "职业", "法师"),
    ("李白", "作者", "谁"),
    ("静夜思", "作者", "李白"),
    ("静夜思", "作者", "很好"),
    ("静夜龘", "作者", "此与下一个同键"),
    ("静夜龖", "作者", "a\tb"),
    ("静夜龖", "作者", ""),
]
QUESTIONS = [
    "谁写静夜思",
    "",
    "李白的职业是什么",
    "静夜龘作者" * 9,
    "x\t'; DROP TABLE",
    "[SEP]",
    "角色",
]
MAXLEN = 24
SERVE = """
    import sys
    import numpy as np
    import tensorflow as tf

    serve = tf.saved_model.load(sys.argv[1]).signatures["answers_text"]
    texts = open(sys.argv[2], encoding="utf-8").read().split("\\n")

    def plain(found):
        arrays = {name: x.numpy() for name, x in found.items()}
        return {
            name: np.char.decode(x.astype("S"), "utf-8") if x.dtype == object else x
            for name, x in arrays.items()
        }

    together = plain(serve(text=tf.constant(texts)))
    none = plain(serve(text=tf.constant([], tf.string)))
    alone = {}
    for i, text in enumerate(texts):
        found = plain(serve(text=tf.constant([text])))
        alone.update({f"{i}/{name}": x for name, x in found.items()})
    assert not any(name.startswith("bert4kexue") for name in sys.modules)
    np.savez(sys.argv[3], rows_of_none=len(none["scores"]), **together, **alone)
"""


@pytest.fixture(scope="module")
def model():
    return scattered_model(application="unilm", with_mlm="linear")


@pytest.fixture(scope="module")
def base():
    return KnowledgeBase.build(TRIPLES, tiny_tokenizer())


def _answers(found, row):
    """Rows of the signature as the answers of Python."""
    rows = zip(*(found[name][row] for name in knowledge.OUTPUTS), strict=True)
    return [(s, p, m, o.tolist(), score) for s, p, m, o, score in rows if score > -np.inf]


@pytest.mark.parametrize("lookahead", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_process_with_tensorflow_alone_answers_as_python(model, base, tmp_path, lookahead):
    tokenizer = tiny_tokenizer()
    task = knowledge_answers(
        model, tokenizer, base, top=5, num_beams=7, lookahead=lookahead, maxlen=MAXLEN
    )
    path = export_service({"answers": task}, tmp_path / "kb", tokenizer=tokenizer, maxlen=MAXLEN)
    (tmp_path / "q.txt").write_text("\n".join(QUESTIONS), encoding="utf-8", newline="\n")
    words = [str(path), str(tmp_path / "q.txt"), str(tmp_path / "out.npz")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVE), *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    qa = KnowledgeQA(model, tokenizer, base, lookahead=lookahead, maxlen=MAXLEN)
    expected = qa.answer_batch(QUESTIONS, 5, 7)
    with np.load(tmp_path / "out.npz") as file:
        found = dict(file)
    for row, answers in enumerate(expected):
        alone = {name: found[f"{row}/{name}"] for name in knowledge.OUTPUTS}
        for served in (_answers(found, row), _answers(alone, 0)):
            assert len(served) == len(answers) >= 5
            for one, other in zip(served, answers, strict=True):
                assert one[:3] == other[:3]
                objects = list(other.objects)
                assert one[3][: len(objects)] == objects
                assert set(one[3][len(objects) :]) <= {""}
                assert one[4] == pytest.approx(other.score, abs=1e-4)
    assert any(len(answers) > 5 for answers in expected)  # two facts of one key
    assert found["rows_of_none"] == 0


def test_the_exported_graph_answers_hundreds_of_hostile_questions_as_python(model, base, tmp_path):
    import tensorflow as tf

    tokenizer, questions = tiny_tokenizer(), hostile_questions(300, seed=1)
    # The tokenizers agree on what UTF-8 can write.
    questions = [text.encode("utf-8", "replace").decode("utf-8") for text in questions]
    task = knowledge_answers(model, tokenizer, base, top=3, maxlen=MAXLEN)
    path = export_service({"answers": task}, tmp_path / "kb", tokenizer=tokenizer, maxlen=MAXLEN)
    serve = tf.saved_model.load(str(path)).signatures["answers_text"]
    qa = KnowledgeQA(model, tokenizer, base, lookahead=True, maxlen=MAXLEN, batch_size=100)
    for start in range(0, len(questions), 100):
        several = questions[start : start + 100]
        found = {name: x.numpy() for name, x in serve(text=tf.constant(several)).items()}
        assert not np.isnan(found["scores"]).any()
        for row, answers in enumerate(qa.answer_batch(several, 3)):
            text = several[row][:40]
            served = _answers(found, row)
            expected = {each[:3]: each for each in answers}
            assert len(served) == len(answers) >= 3, text
            for *fact, objects, score in served:
                each = expected[tuple(part.decode("utf-8") for part in fact)]
                objects = [value.decode("utf-8") for value in objects]
                assert objects[: len(each.objects)] == list(each.objects), text
                assert score == pytest.approx(each.score, abs=1e-4), text


def test_a_fact_with_several_keys_is_served_once(model, tmp_path):
    tokenizer = tiny_tokenizer()
    text = "".join("\t".join(triple) + "\n" for triple in TRIPLES)
    (tmp_path / "facts.tsv").write_text(text, encoding="utf-8")
    aliases = {"李白": ["角色今天"], "静夜龘": ["思"]}
    build_tree_file(tmp_path / "facts.tsv", tmp_path / "tree", tokenizer, aliases=aliases)
    base = KnowledgeBase.load(tmp_path / "tree", tokenizer)
    task = knowledge_answers(model, tokenizer, base, top=9, maxlen=MAXLEN)
    qa = KnowledgeQA(model, tokenizer, base, lookahead=True, maxlen=MAXLEN)
    for question in QUESTIONS:
        ids = np.array([tokenizer.encode(question, maxlen=MAXLEN)[0]], "int32")
        found = dict(zip(task.outputs, task.answer(None, ids, 0 * ids), strict=True))
        arrays = {name: value.numpy() for name, value in found.items()}
        expected = qa.answer(question, 9)
        served = arrays["subject"][0], arrays["predicate"][0], arrays["meaning"][0]
        facts = [tuple(part.decode("utf-8") for part in fact) for fact in zip(*served, strict=True)]
        facts = facts[: len(expected)]
        assert len(set(facts)) == len(facts)
        assert sorted(facts) == sorted(each[:3] for each in expected)
        assert not np.isfinite(arrays["scores"][0, len(expected) :]).any()
        scores = {fact: arrays["scores"][0, i] for i, fact in enumerate(facts)}
        for each in expected:
            assert scores[each[:3]] == pytest.approx(each.score, abs=1e-4)
    base.tree.close()


def test_weights_that_are_no_numbers_give_no_fact(base):
    model = scattered_model(application="unilm", with_mlm="linear", seed=1)
    model.weights[-1].assign(np.nan * np.zeros(model.weights[-1].shape))
    task = knowledge_answers(model, tiny_tokenizer(), base, top=2, maxlen=MAXLEN)
    ids = np.array([[2, 6, 7, 3]], "int32")
    named = dict(zip(task.outputs, task.answer(None, ids, 0 * ids), strict=True))
    assert np.isnan(named["scores"].numpy()).all()
    for name in ("subject", "predicate", "meaning", "objects"):
        assert set(named[name].numpy().ravel().tolist()) == {b""}


def test_mistakes_are_named(model, base, monkeypatch, tmp_path):
    tokenizer = tiny_tokenizer()
    with pytest.raises(ValueError, match="top must be 1 to 6, the number of keys, got 7"):
        knowledge_answers(model, tokenizer, base, top=7)
    with pytest.raises(ValueError, match="another vocabulary"):
        knowledge_answers(model, tiny_tokenizer("一二三"), base)
    with pytest.raises(ValueError, match="holds no key"):
        knowledge_answers(model, tokenizer, KnowledgeBase(PrefixTree.from_keys([])))
    causal = scattered_model(application="lm", with_mlm="linear")
    with pytest.raises(ValueError, match="application='unilm'"):
        knowledge_answers(causal, tokenizer, base)
    learned = scattered_model(family="bert", application="unilm", with_mlm="linear")
    with pytest.raises(ValueError, match="the model has 64: lower maxlen"):
        knowledge_answers(learned, tokenizer, base, maxlen=60)
    task = knowledge_answers(learned, tokenizer, base, top=2, maxlen=30)
    with pytest.raises(ValueError, match="in float32 alone"):
        export_service({"a": task}, tmp_path / "x", tokenizer=tokenizer, precision="bfloat16")
    assert not (tmp_path / "x").exists()
    too_long = np.full((1, 60), 5, "int32")
    with pytest.raises(Exception, match=r"a row may have at most 5. tokens.* for what is written"):
        task.answer(None, too_long, 0 * too_long)
    monkeypatch.setattr(knowledge, "MOST_NODES", 5)
    with pytest.raises(ValueError, match="kgqa predict"):
        knowledge_answers(model, tokenizer, base)
