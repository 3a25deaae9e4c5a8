"""Synthetic keys of a knowledge base with the shape of KgCLUE's, as integers, from a seed.

    python benchmarks/synthetic_triples.py --triples 1000000

KgCLUE's knowledge base (20,559,652 triples, 3,121,457 subjects, 245,838 predicates) is not public
as text here, so keys ``S [SEP] P [SEP] M [SEP]`` are drawn with its counts, and with the lengths
measured on its 20,000 public questions: subject 5.1 characters on average (at most 44), predicate
3.0 (at most 6), a meaning for 26.7 % of the subjects, 9.8 characters when there is one (at most
33). Assumed, since no public figure says it: characters follow Zipf's law with exponent 0.85 over
6,000 (subjects and meanings) or 3,000 characters (predicates); predicates are chosen by a Zipf law
with exponent 1; the triples of a subject are geometrically distributed with the mean of 6.6; and a
third of the meanings are one of 5,000 common ones, the rest drawn each on its own. Subject and
predicate of a triple are those of no other, so there are as many keys as triples.
"""

from __future__ import annotations

import argparse

import numpy as np

TRIPLES, SUBJECTS, PREDICATES = 20_559_652, 3_121_457, 245_838
SEPARATOR = 102
FIRST_CHARACTER = 670  # where the Chinese characters of the 21,128-token vocabulary begin
# Counts of lengths 1, 2, 3 ... among KgCLUE's public questions (the tails beyond cut).
SUBJECT_LENGTHS = (277, 2746, 4307, 4147, 2260, 1669, 1176, 859, 663, 513, 337, 311, 194, 148, 112,
                   79, 50, 34, 36, 22, 14, 8, 5, 9, 7, 3, 2, 4, 2, 2)  # fmt: skip
PREDICATE_LENGTHS = (257, 9056, 2051, 8036, 385, 215)
MEANING_LENGTHS = (0, 237, 91, 645, 241, 413, 400, 379, 393, 314, 295, 375, 259, 231, 265, 206, 215,
                   101, 102, 91, 31, 22, 11, 6, 7, 3, 1, 5, 4)  # fmt: skip
MEANING_SHARE, COMMON_SHARE, COMMON_MEANINGS = 0.267, 1 / 3, 5_000


def keys(triples: int = TRIPLES, seed: int = 8802) -> tuple[np.ndarray, np.ndarray]:
    """Keys in a random order, laid end to end: tokens (uint16) and starts (triples + 1,) int64.

    With fewer triples subjects and predicates shrink in proportion.
    """
    rng = np.random.default_rng(seed)
    subjects = max(1, round(SUBJECTS * triples / TRIPLES))
    predicates = max(1, round(PREDICATES * triples / TRIPLES))
    names = _words(rng, subjects, SUBJECT_LENGTHS, 6_000, distinct=True)
    relations = _words(rng, predicates, PREDICATE_LENGTHS, 3_000, distinct=True)
    meanings = max(1, round(subjects * MEANING_SHARE))
    texts = _words(rng, meanings + COMMON_MEANINGS, MEANING_LENGTHS, 6_000)
    empty = meanings + COMMON_MEANINGS
    texts = (texts[0], np.append(texts[1], texts[1][-1]))  # one more of length 0: no meaning
    meaning_of = np.full(subjects, empty)
    with_one = rng.random(subjects) < MEANING_SHARE
    common = rng.integers(0, COMMON_MEANINGS, subjects)
    own = COMMON_MEANINGS + rng.integers(0, meanings, subjects)
    chosen = np.where(rng.random(subjects) < COMMON_SHARE, common, own)
    meaning_of[with_one] = chosen[with_one]

    # Geometric counts with mean triples / subjects: each further triple goes to a weighted subject.
    weights = np.cumsum(rng.exponential(size=subjects))
    extra = np.searchsorted(weights, rng.random(triples - subjects) * weights[-1])
    subject = np.concatenate([np.arange(subjects), np.minimum(extra, subjects - 1)])
    rng.shuffle(subject)
    relation = _zipf(rng, predicates, triples, 1.0)
    for _ in range(100):  # a subject has a predicate once: those drawn again are redrawn uniformly
        code = subject * np.int64(predicates) + relation
        order = np.argsort(code)
        again = order[1:][code[order[1:]] == code[order[:-1]]]
        if not len(again):
            break
        relation[again] = rng.integers(0, predicates, len(again))
    parts = ((names, subject), (relations, relation), (texts, meaning_of[subject]))
    starts = np.zeros(triples + 1, np.int64)
    lengths = sum(np.diff(words[1])[chosen] + 1 for words, chosen in parts)
    np.cumsum(lengths, out=starts[1:])
    tokens = np.full(starts[-1], SEPARATOR, np.uint16)
    place = starts[:-1].copy()
    for (flat, begins), rows in parts:
        _copy(tokens, place, flat, begins, rows)
        place += np.diff(begins)[rows] + 1
    return tokens, starts


def _words(rng, count, lengths, characters, distinct=False):
    """Random words as (tokens, begins); with `distinct` a word drawn twice gets another end."""
    size = rng.choice(np.arange(1, len(lengths) + 1), count, p=np.array(lengths) / sum(lengths))
    if distinct:  # there are not enough characters for all words of one
        size[np.flatnonzero(size == 1)[characters // 3 :]] = 2
    begins = np.concatenate([[0], np.cumsum(size)])
    flat = (FIRST_CHARACTER + _zipf(rng, characters, begins[-1], 0.85)).astype(np.uint16)
    for _ in range(100 if distinct else 0):
        code = np.zeros(count, np.uint64)
        for column in range(len(lengths)):
            rows = np.flatnonzero(size > column)
            code[rows] = code[rows] * np.uint64(0x9E3779B97F4A7C15) + flat[begins[rows] + column]
        _, first = np.unique(code, return_index=True)
        drawn_twice = np.ones(count, bool)
        drawn_twice[first] = False
        again = np.flatnonzero(drawn_twice)
        if not len(again):
            break
        for column in range(len(lengths)):  # redrawn uniformly, or the short ones never end
            rows = again[size[again] > column]
            drawn = rng.integers(0, characters, len(rows))
            flat[begins[rows] + column] = FIRST_CHARACTER + drawn
    return flat, begins


def _zipf(rng, kinds, count, exponent):
    """Numbers below `kinds`, the small ones the most frequent."""
    weights = np.cumsum(np.arange(1, kinds + 1) ** -exponent)
    return np.searchsorted(weights, rng.random(count) * weights[-1]).clip(0, kinds - 1)


def _copy(target, place, flat, begins, rows):
    """Write word ``rows[i]`` to ``target[place[i]:]``, in blocks."""
    size = np.diff(begins)
    for first in range(0, len(rows), 1 << 20):
        part = rows[first : first + (1 << 20)]
        counts = size[part]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        where = np.repeat(place[first : first + (1 << 20)], counts) + within
        target[where] = flat[np.repeat(begins[part], counts) + within]


def main() -> None:
    """Say what the keys look like."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triples", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=8802)
    options = parser.parse_args()
    tokens, starts = keys(options.triples, options.seed)
    print(f"{len(starts) - 1:,} triples, {len(tokens) / (len(starts) - 1):.2f} tokens a key")


if __name__ == "__main__":
    main()
