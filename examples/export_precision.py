"""What bfloat16 and int8 weights, and OpenVINO's bfloat16, cost on real tasks.

    BERT4KEXUE_DATA=... python examples/export_precision.py

The shipped RoFormer is exported as a service with float32, bfloat16 and int8 weights, and as an
encoder for OpenVINO in fp32 and bf16 where openvino is installed. Each export answers three tests:

* similarity: cosines of the pairs of CNSD STS-B's test set, Spearman with the given scores;
* reviews: ChnSentiCorp's dev and test rows, two classes; the head is the closed form (OAS
  shrinkage) fitted on 3,000 training rows' vectors, and is exported with the encoder;
* masked words: one character hidden in each sentence of the similarity test, the first guess.

Writes export_precision.md to --output.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import ship_sets
import tensorflow as tf
from sentence_features import read_task, table_head, table_row

from bert4kexue.methods.sts import spearman
from bert4kexue.models import build_transformer_model
from bert4kexue.models.heads import fit_head, with_head
from bert4kexue.serving import export_service
from bert4kexue.serving.formats import export_runtime
from bert4kexue.serving.signatures import classification, cosine, filling
from bert4kexue.tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "pretrained" / "roformer_tiny_zh"
MAXLEN = 128
TRAINING_ROWS = 3000  # of 9,600: enough for a head of 256 numbers
PRECISIONS = ("float32", "bfloat16", "int8")


class Material(NamedTuple):
    """What the exports are asked."""

    pairs: list[tuple[str, str, float]]
    reviews: list[str]
    classes: list[str]  # of the reviews
    masked: list[str]
    hidden: list[str]  # what stood under the mask


class Answers(NamedTuple):
    """What an export answered; None where it has no such signature."""

    name: str
    megabytes: float
    cosines: np.ndarray
    classes: list[str] | None = None
    probabilities: np.ndarray | None = None
    guesses: list[str] | None = None


def hide(sentence: str, tokenizer: Tokenizer) -> tuple[str, str] | None:
    """The sentence with [MASK] for its middle character, and that; None where it is no token."""
    place = len(sentence) // 2
    if not "\u4e00" <= sentence[place : place + 1] <= "\u9fff":
        return None
    if sentence[place] not in tokenizer._token_dict:
        return None
    return f"{sentence[:place]}[MASK]{sentence[place + 1 :]}", sentence[place]


def batched(ask: Callable[..., Any], *columns: list[str], size: int = 64) -> dict[str, np.ndarray]:
    """Outputs of a signature for many rows, texts of similar length together."""
    order = np.argsort([max(map(len, row)) for row in zip(*columns, strict=True)], kind="stable")
    parts = []
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        given = [tf.constant([column[i] for i in rows]) for column in columns]
        parts.append({name: value.numpy() for name, value in ask(*given).items()})
    back = np.argsort(order)
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}


def service_answers(name: str, folder: Path, material: Material) -> Answers:
    """The three tests, strings in."""
    served = tf.saved_model.load(str(folder)).signatures
    first, second, _ = (list(column) for column in zip(*material.pairs, strict=True))
    cosines = batched(lambda a, b: served["cosine_text"](text=a, second=b), first, second)
    kinds = batched(lambda a: served["kind_text"](text=a), material.reviews)

    def fill(texts: Any) -> dict[str, Any]:
        return {"tokens": served["fill_text"](text=texts)["tokens"][:, 0, 0]}

    guesses = batched(fill, material.masked)["tokens"]
    weights = sum(file.stat().st_size for file in (folder / "variables").iterdir())
    return Answers(
        name,
        weights / 1e6,
        cosines["cosine"],
        [label.decode() for label in kinds["label"]],
        kinds["probabilities"],
        [token.decode() for token in guesses],
    )


def openvino_answers(precision: str, model: Any, tokenizer: Tokenizer, material: Material) -> Any:
    """The similarity test on OpenVINO's runtime, ids in."""
    import openvino

    with tempfile.TemporaryDirectory() as scratch:
        folder = export_runtime(model, Path(scratch, "m"), "openvino", precision=precision)
        wish = json.loads((folder / "runtime.json").read_text(encoding="utf-8"))
        compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", wish)
        size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6

    def ask(*texts: Any) -> dict[str, Any]:
        sides = []
        for side in texts:
            batch = tokenizer.encode_batch([t.decode() for t in side.numpy()], maxlen=MAXLEN)
            given = {"token_ids": batch.token_ids, "segment_ids": batch.segment_ids}
            vectors = np.array(compiled(given)[0], "float64")
            sides.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        return {"cosine": tf.constant(np.sum(sides[0] * sides[1], axis=1))}

    first, second, _ = (list(column) for column in zip(*material.pairs, strict=True))
    return Answers(f"OpenVINO, {precision}", size, batched(ask, first, second)["cosine"])


def page(answers: list[Answers], material: Material, changes: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    scores = [score for _, _, score in material.pairs]
    plain = answers[0]
    lines = [
        "# What lower precision costs",
        "",
        "`pretrained/roformer_tiny_zh` exported by `bert4kexue.serving`, each export asked through",
        "its own signatures, strings in (OpenVINO: ids in). Written by",
        "`python examples/export_precision.py`.",
        "",
        f"## Similarity: {len(scores)} pairs of CNSD STS-B's test set",
        "",
        *table_head("export", "weights, MB", "Spearman", "loss", "largest change of a cosine"),
    ]
    for answer in answers:
        base = answers[len(PRECISIONS)] if "OpenVINO" in answer.name else plain
        rho, before = spearman(answer.cosines, scores), spearman(base.cosines, scores)
        change = np.abs(answer.cosines - base.cosines).max()
        lines.append(
            table_row(
                answer.name,
                f"{answer.megabytes:.1f}",
                f"{rho:.5f}",
                f"{before - rho + 0.0:.5f}",
                f"{change:.4f}",
            )
        )
    lines += [
        "",
        f"## Reviews: {len(material.reviews)} rows of ChnSentiCorp, two classes",
        "",
        *table_head(
            "weights", "accuracy", "labels that changed", "largest change of a probability"
        ),
    ]
    for answer in answers[: len(PRECISIONS)]:
        right = np.mean([a == b for a, b in zip(answer.classes, material.classes, strict=True)])
        moved = sum(a != b for a, b in zip(answer.classes, plain.classes, strict=True))
        change = np.abs(answer.probabilities - plain.probabilities).max()
        lines.append(table_row(answer.name, f"{right:.4f}", moved, f"{change:.4f}"))
    lines += [
        "",
        f"## Masked words: {len(material.hidden)} sentences, one character hidden in each",
        "",
        *table_head("weights", "right at the first guess", "guesses that changed"),
    ]
    for answer in answers[: len(PRECISIONS)]:
        right = np.mean([a == b for a, b in zip(answer.guesses, material.hidden, strict=True)])
        moved = sum(a != b for a, b in zip(answer.guesses, plain.guesses, strict=True))
        lines.append(table_row(answer.name, f"{right:.4f}", moved))
    sample = changes["bfloat16"]["change_measured_on"]
    lines += [
        "",
        f"## What the exporter wrote into the cards itself, measured on {sample}",
        "",
        *table_head("output", *PRECISIONS),
    ]
    for output in changes["float32"]["change_from_float32"]:
        if "_text" in output:
            told = [changes[precision]["change_from_float32"][output] for precision in PRECISIONS]
            shown = [value if isinstance(value, str) else f"{value:.1e}" for value in told]
            lines.append(table_row(f"`{output}`", *shown))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Export, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--limit", type=int, help="rows of each test; all if left out")
    options = parser.parse_args()
    data = ship_sets.data_folder()
    tokenizer = Tokenizer(SHIPPED / "vocab.txt", do_lower_case=True)
    pairs = ship_sets.sentence_pairs(data, "test")[: options.limit]
    reviews = read_task(data, "ChnSentiCorp")
    hidden = [hide(text, tokenizer) for text in dict.fromkeys(pair[0] for pair in pairs)]
    masked, answers_of = zip(*filter(None, hidden), strict=True)
    material = Material(
        pairs,
        reviews.test[: options.limit],
        list(reviews.test_labels[: options.limit]),
        list(masked),
        list(answers_of),
    )
    encoder = build_transformer_model(SHIPPED, model="roformer", with_pool="linear")
    words = build_transformer_model(SHIPPED, model="roformer", with_mlm=True)
    count = options.limit or TRAINING_ROWS
    train = reviews.train[:count], reviews.train_labels[:count]
    order = np.argsort([len(text) for text in train[0]], kind="stable")
    batches = (order[start : start + 64] for start in range(0, len(order), 64))
    encoded = (
        (tuple(tokenizer.encode_batch([train[0][i] for i in rows], maxlen=MAXLEN))[:2], rows)
        for rows in batches
    )
    labels = sorted(set(reviews.train_labels))
    head = fit_head(encoder, ((x, train[1][rows]) for x, rows in encoded), classes=labels)
    tasks = {
        "cosine": cosine(encoder),
        "kind": classification(with_head(encoder, head), labels),
        "fill": filling(words, tokenizer),
    }
    found, changes = [], {}
    sample = [*(text for pair in pairs[:250] for text in pair[:2]), *masked[:500]]
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = export_service(
                tasks,
                Path(scratch, "m"),
                tokenizer=tokenizer,
                maxlen=MAXLEN,
                precision=precision,
                sentences=sample,
            )
            changes[precision] = json.loads(
                (folder / "assets.extra" / "export.json").read_text(encoding="utf-8")
            )
            found.append(service_answers(precision, folder, material))
        print(precision, "done", flush=True)
    try:
        found += [openvino_answers(p, encoder, tokenizer, material) for p in ("fp32", "bf16")]
    except ImportError as error:
        print(f"without OpenVINO: {error}")
    text = page(found, material, changes)
    (options.output / "export_precision.md").write_text(text, encoding="utf-8", newline="\n")
    print(text)


if __name__ == "__main__":
    main()
