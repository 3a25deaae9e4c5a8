"""Measure a small RoFormer on what it was never trained on.

    BERT4KEXUE_DATA=... python examples/evaluate_roformer_tiny.py pretrained/roformer_tiny_zh

prints, each beside a baseline that knows nothing:
* masked words: accuracy on held-out text, whole words hidden, beside always guessing the commonest
  token (what `bert4kexue pretrain evaluate` measures);
* questions: the right triple out of a knowledge base of every held-out key plus five distractor
  predicates per subject, by beam search in the tree of its keys, beside substring + common
  subsequence; and the share of keys whose every token is the model's first choice;
* similarity: Spearman on CNSD STS-B, beside the Jaccard index of the characters.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import ship_sets

from bert4kexue._files import atomic_write
from bert4kexue.decoding import PrefixTree
from bert4kexue.decoding.lookahead import lcs_lengths
from bert4kexue.methods.question_rewriting import Question
from bert4kexue.methods.sts import spearman
from bert4kexue.methods.text_similarity import character_jaccard
from bert4kexue.models import build_transformer_model
from bert4kexue.models.pretraining import masked_accuracy
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training import bucketed_batches, sequence_padding
from bert4kexue.training.corpora import Corpus
from bert4kexue.training.objectives import Continuations
from bert4kexue.training.plan import Plan
from bert4kexue.training.preparation import prepare
from bert4kexue.training.records import Records
from bert4kexue.training.special import Special


class Encoder:
    """Text to ids without special tokens, and the ids of the special tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.cls, self.sep = tokenizer._token_start_id, tokenizer._token_end_id
        self.mask, self.vocab_size = tokenizer._token_mask_id, tokenizer._vocab_size

    def ids(self, text: str, limit: int = 62) -> list[int]:
        """Ids of the text alone, at most `limit`."""
        return self.tokenizer.encode(text, maxlen=limit + 2)[0][1:-1]

    def sentence(self, text: str, limit: int = 62) -> list[int]:
        """`[CLS] text [SEP]`."""
        return [self.cls, *self.ids(text, limit), self.sep]

    def key(self, subject: str, predicate: str, meaning: str) -> list[int]:
        """`S [SEP] P [SEP] M [SEP]`; an empty meaning leaves two [SEP] in a row."""
        parts = (self.ids(part, 40) for part in (subject, predicate, meaning))
        return [i for part in parts for i in (*part, self.sep)]


class Measured:
    """A trained folder: its tokenizer, hidden states and pooled vectors, and its token head."""

    def __init__(self, folder: Path) -> None:
        self.encoder = Encoder(Tokenizer(str(folder / "vocab.txt"), do_lower_case=True))
        builder = build_transformer_model(
            folder,
            model="roformer",
            application="unilm",
            with_pool="linear",
            with_mlm="linear",
            return_keras_model=False,
        )
        layers = builder.config.num_hidden_layers
        hidden = builder.layers[f"Transformer-{layers - 1}-FeedForward-Norm"].output
        self.body = keras.Model(builder.inputs, [hidden, builder.outputs[0]])
        some = keras.Input((None, builder.config.hidden_size))
        self.head = keras.Model(some, builder.apply_final_layers(some)[1])
        self.whole = builder.model

    def logits(self, token_ids: Any, segment_ids: Any, positions: np.ndarray) -> np.ndarray:
        """Logits (t, v) at flattened positions of a batch."""
        hidden, _ = self.body.predict_on_batch([token_ids, segment_ids])
        rows = np.asarray(hidden, "float32").reshape(-1, hidden.shape[-1])[positions]
        return np.asarray(self.head.predict_on_batch(rows[None])[0], "float32")

    def pooled(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (b, H), computed in batches of similar length."""
        rows = [self.encoder.sentence(t) for t in texts]
        out: list[Any] = [None] * len(rows)
        for batch in bucketed_batches([len(r) for r in rows], 8192, 4):
            ids = sequence_padding([rows[i] for i in batch])
            _, pooled = self.body.predict_on_batch([ids, np.zeros_like(ids)])
            for i, vector in zip(batch, np.asarray(pooled, "float32"), strict=True):
                out[i] = vector / np.linalg.norm(vector)
        return np.stack(out)


# --- questions ----------------------------------------------------------------------------------


def knowledge_base(
    gold: Sequence[Question], others: Sequence[Question], distractors: int = 5, seed: int = 0
) -> list[tuple[str, str, str]]:
    """Every gold key, and for its subject other predicates drawn by their frequency in `others`."""
    rng = np.random.default_rng(seed)
    counts = Counter(q.predicate for q in others)
    predicates = sorted(counts)
    weights = np.array([counts[p] for p in predicates], float)
    keys = {(q.subject, q.predicate, q.meaning): None for q in gold}
    for subject, meaning in dict.fromkeys((q.subject, q.meaning) for q in gold):
        drawn = rng.choice(len(predicates), distractors, replace=False, p=weights / weights.sum())
        keys.update({(subject, predicates[i], meaning): None for i in drawn})
    return list(keys)


class Hypothesis(NamedTuple):
    """A path into the tree: its log-probability among allowed tokens, node and ids."""

    score: float
    node: int
    ids: tuple[int, ...]


def retrieve(
    model: Measured, tree: PrefixTree, questions: Sequence[str], topk: int = 3
) -> list[tuple[int, ...]]:
    """The ids of the best key for each question, by beam search over all questions at once.

    Probabilities are renormalised over the allowed tokens, so where the tree leaves no choice
    nothing has to be computed.
    """

    def advanced(h: Hypothesis) -> Hypothesis:
        while len(allowed := tree.allowed(h.node)) == 1:
            token = int(allowed[0])
            h = Hypothesis(h.score, tree.step(h.node, token), (*h.ids, token))
        return h

    prompts = [model.encoder.sentence(q) for q in questions]
    beams = [[advanced(Hypothesis(0.0, tree.root, ()))] for _ in prompts]
    while True:
        open_ends = [
            (i, h) for i, beam in enumerate(beams) for h in beam if len(tree.allowed(h.node))
        ]
        if not open_ends:
            return [beam[0].ids for beam in beams]
        grown: defaultdict[int, list[Hypothesis]] = defaultdict(list)
        lengths = [len(prompts[i]) + len(h.ids) for i, h in open_ends]
        for rows in bucketed_batches(lengths, 8192, 4):
            chosen = [open_ends[r] for r in rows]
            ids = sequence_padding([[*prompts[i], *h.ids] for i, h in chosen])
            segments = sequence_padding(
                [[0] * len(prompts[i]) + [1] * len(h.ids) for i, h in chosen]
            )
            ends = np.array([len(prompts[i]) + len(h.ids) - 1 for i, h in chosen])
            last = np.arange(len(chosen)) * ids.shape[1] + ends
            for (i, h), logits in zip(chosen, model.logits(ids, segments, last), strict=True):
                allowed = tree.allowed(h.node)
                scores = logits[allowed].astype("float64")
                scores -= np.logaddexp.reduce(scores)
                for place in np.argsort(-scores)[:topk]:
                    token = int(allowed[place])
                    step = Hypothesis(
                        h.score + scores[place], tree.step(h.node, token), (*h.ids, token)
                    )
                    grown[i].append(advanced(step))
        for i, new in grown.items():
            done = [h for h in beams[i] if not len(tree.allowed(h.node))]
            beams[i] = sorted(done + new, key=lambda h: -h.score)[:topk]


def retrieve_by_string(
    keys: Sequence[tuple[str, str, str]], questions: Sequence[str]
) -> list[tuple[str, str, str]]:
    """The baseline: the longest subject that the question contains, the predicate most alike."""
    by_subject: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for key in keys:
        by_subject[key[0]].append(key)
    answers = []
    for question in questions:
        found = [s for s in by_subject if s in question]
        subject = max(found, key=len) if found else next(iter(by_subject))
        rest = list(map(ord, question.replace(subject, "")))
        predicates = [list(map(ord, predicate)) for _, predicate, _ in by_subject[subject]]
        shares = lcs_lengths(predicates, rest) / [len(predicate) for predicate in predicates]
        answers.append(by_subject[subject][int(shares.argmax())])
    return answers


def first_choices(model: Measured, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float:
    """Share of the (question, key) rows whose every key token is the likeliest, no tree asked."""
    e = model.encoder
    written = Continuations(rows, Special(e.cls, e.sep, e.mask, e.vocab_size))
    plan = Plan(written, 8192, int(written.lengths().max()), [0])
    right = 0
    for number in range(plan.steps_per_epoch):
        batch = plan.batch(number, np.random.default_rng(0))
        asked = batch["weights"] > 0
        n = batch["token_ids"].shape[1]
        places = np.nonzero(asked)[0] * n + batch["positions"][asked]
        best = model.logits(batch["token_ids"], batch["segment_ids"], places).argmax(-1)
        wrong = np.zeros(len(asked), bool)
        wrong[np.nonzero(asked)[0][best != batch["labels"][asked]]] = True
        right += int((asked.any(1) & ~wrong).sum())
    return right / len(rows)


def question_scores(
    model: Measured, gold: Sequence[Question], others: Sequence[Question]
) -> dict[str, float]:
    """Shares of questions answered right, by the model and by the baseline."""
    keys = knowledge_base(gold, others)
    tree = PrefixTree.from_keys([model.encoder.key(*k) for k in keys])
    wanted = [tuple(model.encoder.key(*q[1:])) for q in gold]
    subjects = [tuple([*model.encoder.ids(q.subject, 40), model.encoder.sep]) for q in gold]
    texts = [q.question for q in gold]
    found = retrieve(model, tree, texts)
    by_string = retrieve_by_string(keys, texts)
    spoken = np.array([q.predicate in q.question for q in gold])
    right = np.array([f == w for f, w in zip(found, wanted, strict=True)])
    baseline = np.array([f == tuple(q[1:]) for f, q in zip(by_string, gold, strict=True)])

    forced = first_choices(
        model, [(model.encoder.ids(t), w) for t, w in zip(texts, wanted, strict=True)]
    )
    return {
        "questions": len(gold),
        "knowledge_base_keys": len(tree),
        "retrieval_exact_match": right.mean(),
        "retrieval_exact_match_baseline": baseline.mean(),
        "retrieval_predicate_literal": right[spoken].mean(),
        "retrieval_predicate_literal_baseline": baseline[spoken].mean(),
        "retrieval_predicate_not_literal": right[~spoken].mean(),
        "retrieval_predicate_not_literal_baseline": baseline[~spoken].mean(),
        "retrieval_subject": np.mean(
            [f[: len(s)] == s for f, s in zip(found, subjects, strict=True)]
        ),
        "every_token_first_choice": forced,
    }


# --- similarity ---------------------------------------------------------------------------------


def similarity_scores(
    model: Measured, pairs: Sequence[tuple[str, str, float]]
) -> tuple[float, float]:
    """Spearman of the cosine, and of the Jaccard index of the characters, with the scores."""
    first, second, scores = zip(*pairs, strict=True)
    cosine = (model.pooled(first) * model.pooled(second)).sum(-1)
    return spearman(cosine, scores), spearman(character_jaccard(pairs), scores)


# --- everything ---------------------------------------------------------------------------------


def sample(texts: Sequence[str], count: int = 2000) -> list[str]:
    """Some of the texts, always the same."""
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:count]]


def report(folder: Path, root: Path, limit: int | None = None) -> dict[str, float]:
    """Measure everything, print it, and, unless limited, keep it as `scores.json` in the folder.

    Args:
        folder: bert_config.json, vocab.txt, bert_model.ckpt.*
        root: of the data.
        limit: of the questions; all if None.
    """
    began = time.monotonic()
    model = Measured(folder)
    texts = [t for ts in ship_sets.running_text(root, "held_out").values() for t in ts]
    scores: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        lines = Path(temporary) / "held_out.txt"
        lines.write_text("\n".join(sample(texts)), encoding="utf-8", newline="\n")
        records = Path(temporary) / "records"
        prepare(Corpus(paths=(lines,)), folder / "vocab.txt", records)
        found = masked_accuracy(model.whole, Records(records), folder / "vocab.txt")
    scores["masked_accuracy"] = found.accuracy
    scores["masked_accuracy_commonest"] = found.commonest
    scores["masked_cross_entropy"] = found.loss
    gold = ship_sets.questions(root, "held_out")[:limit]
    scores.update(question_scores(model, gold, ship_sets.questions(root)))
    for split in ("dev", "test"):
        name = f"spearman_{split}"
        scores[name], scores[f"{name}_jaccard"] = similarity_scores(
            model, ship_sets.sentence_pairs(root, split)
        )
    scores = {name: round(float(value), 4) for name, value in scores.items()}
    for name, value in scores.items():
        print(f"{name:42s} {value:g}")
    print(f"measured in {time.monotonic() - began:.0f} s")
    if limit is None:
        with atomic_write(folder / "scores.json", "w") as file:
            file.write(json.dumps(scores, indent=2) + "\n")
    return scores


def main() -> None:
    """Measure a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="bert_config.json, vocab.txt, bert_model.ckpt.*")
    parser.add_argument("--limit", type=int, help="of the questions; all if left out")
    args = parser.parse_args()
    report(args.folder, ship_sets.data_folder(), args.limit)


if __name__ == "__main__":
    main()
