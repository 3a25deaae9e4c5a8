"""Readers of pairs: every set of the data folder, every broken line; near-duplicates."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.methods import similarity_data as data
from bert4kexue.methods.near_duplicates import bigrams, jaccard, near_groups, pair_keys
from bert4kexue.training.corpora import CorpusError

# Rows of each file, counted by its lines with another program; of OCNLI without '-'.
ROWS = {
    ("ATEC", "valid"): 20000,
    ("BQ", "valid"): 10000,
    ("LCQMC", "valid"): 8802,
    ("PAWSX", "valid"): 2000,
    ("STS-B", "train"): 5231,
    ("STS-B", "valid"): 1458,
    ("STS-B", "test"): 1361,
    ("CNSD-STS-B", "train"): 5231,
    ("CNSD-STS-B", "dev"): 1458,
    ("CNSD-STS-B", "test"): 1361,
    ("LCQMC-sample", "train"): 10,
    ("BUSTM", "train_few_all"): 160,
    ("BUSTM-unlabelled", "all"): 4251,
    ("SimCLUE-pair", "train"): 10000,
    ("SimCLUE-positive", "train"): 10000,
    ("SimCLUE-rank", "train"): 10000,
    ("SimCLUE-corpus", "all"): 10000,
    ("triCLUE", "train"): 8313,
    ("triCLUE", "dev"): 1038,
    ("triCLUE", "test"): 1360,
    ("OCNLI", "train"): 9985,
    ("OCNLI", "train_3k"): 2994,
    ("OCNLI", "dev"): 2950,
    ("OCNLI-test", "test"): 3000,
    ("FewCLUE-OCNLI", "dev_few_all"): 160,
}


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def test_every_set_of_the_data_folder_is_read_whole(data_dir):
    for name, found in data.SETS.items():
        for split in found.files:
            rows = data.read_set(data_dir, name, split)
            assert rows
            if (name, split) in ROWS:
                assert len(rows) == ROWS[name, split], (name, split)
            if found.kind == "scored":
                scores = {row.score for row in rows}
                assert 0 <= min(scores) < max(scores) <= found.highest
    same = [data.read_set(data_dir, name, "test")[:50] for name in ("STS-B", "CNSD-STS-B")]
    assert same[0] == same[1]


def test_scored_rows_in_two_layouts(tmp_path):
    expected = [("今天", "明天", 1.0), ("a b", "c", 0.5)]
    path = write(tmp_path / "a.tsv", "\ufeff今天\t明天\t1\n\na b\tc\t0.5\r\n")
    assert data.read_scored(path) == expected
    path = write(tmp_path / "b.txt", "x-1||今天||明天||1\nx-2||a b||c||0.5\n")
    assert data.read_scored(path, separator="||", first_column=1) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("今天\t明天", "line 2 has 2 columns and needs 3"),
        ("今天\t明天\t1\t2", "line 2 has 4 columns and needs 3"),
        ("今天\t明天\t很像", "line 2: the score is '很像', and must be a finite number"),
        ("今天\t明天\tnan", "must be a finite number"),
        ("今天\t明天\tinf", "must be a finite number"),
        ("今天\t \t1", "line 2 has an empty sentence"),
    ],
)
def test_a_broken_scored_line_is_told_with_its_place(tmp_path, line, message):
    path = write(tmp_path / "a.tsv", f"好\t坏\t0\n{line}\n")
    with pytest.raises(CorpusError, match=message):
        data.read_scored(path)


def test_rows_without_three_columns_can_be_passed_over(tmp_path):
    path = write(tmp_path / "a.tsv", "今天\t明天\n好\t坏\t0\n")
    assert data.read_scored(path, skip_bad=True) == [("好", "坏", 0.0)]
    with pytest.raises(CorpusError, match="no row of two sentences"):
        data.read_scored(write(tmp_path / "b.tsv", "今天\n"), skip_bad=True)
    with pytest.raises(CorpusError, match="there is no file"):
        data.read_scored(tmp_path / "c.tsv")


def rows_of(path, *rows):
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def test_inference_rows_without_agreement_are_passed_over(tmp_path):
    pair = {"sentence1": "a", "sentence2": "b"}
    path = rows_of(
        tmp_path / "a.jsonl",
        {**pair, "label": "neutral"},
        {**pair, "label": "-"},
        {**pair, "gold_label": "contradiction"},
    )
    assert data.read_inference(path) == [("a", "b", 4), ("a", "b", 2)]
    with pytest.raises(CorpusError, match="label 'maybe' is none of contradiction"):
        data.read_inference(rows_of(tmp_path / "b.jsonl", {**pair, "label": "maybe"}))
    with pytest.raises(CorpusError, match="no labelled pair"):
        data.read_inference(rows_of(tmp_path / "c.jsonl", {**pair, "label": "-"}))


def test_pairs_that_are_alike_in_every_layout(tmp_path):
    assert data.read_alike(write(tmp_path / "a.tsv", "今天\t明天\n\n好\t坏\n")) == [
        ("今天", "明天"),
        ("好", "坏"),
    ]
    path = rows_of(
        tmp_path / "a.jsonl",
        {"text_a": "今天", "text_b": "明天"},
        {"query": "q", "title": "t"},
        {"text": "x", "synonyms": ["y", "z"]},
    )
    assert data.read_alike(path) == [("今天", "明天"), ("q", "t"), ("x", "y"), ("x", "z")]
    with pytest.raises(CorpusError, match=r"a row has the keys \['text'\]"):
        data.read_alike(rows_of(tmp_path / "b.jsonl", {"text": "x"}))
    with pytest.raises(CorpusError, match="line 1 has 3 columns and needs 2"):
        data.read_alike(write(tmp_path / "b.tsv", "a\tb\tc\n"))


def test_triples_say_which_is_nearer(tmp_path):
    row = {"sentence_0": "a", "sentence_1": "b", "sentence_2": "c"}
    path = rows_of(
        tmp_path / "a.jsonl",
        {**row, "label": 2},
        {**row, "label": "1"},
        {"query": "q", "title": "t", "neg_title": "n"},
    )
    assert data.read_triples(path) == [("a", "c", "b"), ("a", "b", "c"), ("q", "t", "n")]
    with pytest.raises(CorpusError, match="label 3, not 1 or 2"):
        data.read_triples(rows_of(tmp_path / "b.jsonl", {**row, "label": 3}))


def test_a_set_that_is_none_is_told(tmp_path):
    with pytest.raises(ValueError, match="no set 'QQP'"):
        data.read_set(tmp_path, "QQP", "train")
    with pytest.raises(ValueError, match="ATEC has no split 'test'; it has valid"):
        data.read_set(tmp_path, "ATEC", "test")


@given(st.lists(st.text("甲乙丙丁 ，A", min_size=1, max_size=12), min_size=2, max_size=12))
@settings(max_examples=60)
def test_near_sentences_share_a_group(sentences):
    groups = near_groups(sentences)
    for i, a in enumerate(sentences):
        for j, b in enumerate(sentences):
            if jaccard(bigrams(a), bigrams(b)) == 1:
                assert groups[i] == groups[j]
    # Nothing is joined that no chain of near sentences joins.
    for group in set(groups.tolist()):
        rows = np.flatnonzero(groups == group)
        reached, waiting = {rows[0]}, [rows[0]]
        while waiting:
            here = waiting.pop()
            near = {
                r for r in rows if jaccard(bigrams(sentences[here]), bigrams(sentences[r])) >= 0.8
            }
            waiting += near - reached
            reached |= near
        assert reached == set(rows)


def test_near_sentences_among_many_are_found():
    rng = np.random.default_rng(0)
    letters = [chr(0x4E00 + i) for i in range(800)]
    originals = ["".join(rng.choice(letters, 24)) for _ in range(300)]
    changed = [text[:12] + "囍" + text[13:] for text in originals]  # 21 of 25 bigrams are shared
    groups = near_groups(originals + changed)
    assert (groups[:300] == groups[300:]).mean() > 0.99
    assert len(set(groups.tolist())) <= 303
    names = dict(zip([*originals, *changed], groups.tolist(), strict=True))
    pairs = [(originals[0], originals[1]), (changed[1], changed[0]), (originals[0], originals[2])]
    keys = pair_keys(pairs, names)
    assert keys[0] == keys[1] != keys[2]
