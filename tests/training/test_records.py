"""Corpora become shards that depend on the text and the vocabulary alone."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from bert4kexue import _files
from bert4kexue.text.segment import word_segmenter
from bert4kexue.text.wordpiece import Tokenizer
from bert4kexue.training import preparation
from bert4kexue.training.corpora import Corpus, CorpusError, read_rows
from bert4kexue.training.preparation import marked_tokens, prepare
from bert4kexue.training.records import ID_MASK, SENTENCE, WORD, Records, RecordsError

LINES = [
    "北京是中国的首都。人口很多！",
    "今天天气不错",
    "keras很好用，我喜欢。",
    "  ",
    "自然语言处理",
]


@pytest.fixture
def vocabulary(tmp_path):
    characters = sorted({c for line in LINES for c in line if c.strip()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ke", "##ras", *characters]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(tokens), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return Corpus(paths=(path,))


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def texts(made, vocabulary):
    tokens = vocabulary.read_text(encoding="utf-8").split("\n")
    return ["".join(tokens[i & ID_MASK].removeprefix("##") for i in row) for row in made]


def test_every_document_is_there_in_order(corpus, vocabulary, tmp_path):
    prepared = prepare(corpus, vocabulary, tmp_path / "records", characters=10)
    made = Records(tmp_path / "records", vocabulary)
    assert texts(made, vocabulary) == [line.strip() for line in LINES if line.strip()]
    assert prepared.shards > 1
    assert prepared.documents == len(made) == 4
    assert prepared.tokens == sum(made.lengths)
    assert [len(made[i]) for i in range(4)] == made.lengths.tolist()


def test_words_and_sentences_are_marked_where_they_begin(vocabulary):
    tokenizer = Tokenizer(vocabulary, do_lower_case=True)
    cut = word_segmenter(backend="jieba")
    (ids,) = marked_tokens(tokenizer, cut, [LINES[0]])
    characters = list(LINES[0])
    words, sentences = [], []
    for character, i in zip(characters, ids, strict=True):
        if i & SENTENCE:
            sentences.append("")
        if i & WORD:
            words.append("")
        sentences[-1] += character
        words[-1] += character
    assert words == cut(LINES[0])
    assert sentences == ["北京是中国的首都。", "人口很多！"]


def test_a_continuation_begins_no_word(vocabulary):
    tokenizer = Tokenizer(vocabulary, do_lower_case=True)
    (ids,) = marked_tokens(tokenizer, lambda text: ["keras", text[5:]], [LINES[2]])
    assert [bool(i & WORD) for i in ids[:3]] == [True, False, True]


def test_shards_do_not_depend_on_processes_or_interruptions(
    corpus, vocabulary, tmp_path, monkeypatch
):
    prepare(corpus, vocabulary, tmp_path / "one", characters=8)
    prepare(corpus, vocabulary, tmp_path / "two", characters=8, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")

    written = []
    write = preparation._Worker.write

    def failing(self, number, *rest):
        if len(written) == 1:
            raise OSError(28, "No space left on device")
        written.append(number)
        return write(self, number, *rest)

    monkeypatch.setattr(preparation._Worker, "write", failing)
    with pytest.raises(OSError, match="No space left"):
        prepare(corpus, vocabulary, tmp_path / "three", characters=8)
    with pytest.raises(RecordsError, match="no finished records"):
        Records(tmp_path / "three")
    monkeypatch.undo()
    again = prepare(corpus, vocabulary, tmp_path / "three", characters=8)
    assert again.reused == 1
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_progress_is_shown_every_shard(corpus, vocabulary, tmp_path):
    seen = []

    def watch(numbers):
        for number in numbers:
            seen.append(number)
            yield number

    prepared = prepare(corpus, vocabulary, tmp_path / "r", characters=8, progress=watch)
    assert seen == list(range(prepared.shards))


def test_json_lines_and_blocks_give_the_same_documents(tmp_path):
    path = tmp_path / "c.jsonl"
    rows = [json.dumps({"text": line, "id": 1}, ensure_ascii=False) for line in LINES]
    path.write_text("\n".join(rows), encoding="utf-8")
    expected = [line.strip() for line in LINES if line.strip()]
    assert list(Corpus(paths=(path,)).documents()) == expected
    path = tmp_path / "c.txt"
    path.write_text("\ufeff甲\n乙\n\n\n丙\r\n", encoding="utf-8")
    assert list(Corpus(paths=(path,), layout="block").documents()) == ["甲\n乙", "丙"]


@pytest.fixture
def as_parquet(tmp_path):
    """Writes columns, and gives the corpus of one of them."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(field, **columns):
        path = tmp_path / "c.parquet"
        parquet.write_table(pa.table(columns), path)
        return Corpus(paths=(path,), field=field)

    return write


def test_parquet(as_parquet):
    assert list(as_parquet("body", body=["甲", None, "乙"], n=[1, 2, 3]).documents()) == [
        "甲",
        "乙",
    ]
    with pytest.raises(CorpusError, match=r"no column 'text'; it has \['body'\]: name the column"):
        list(as_parquet("text", body=["甲"]).documents())


@pytest.mark.parametrize(
    ("column", "kind"), [([1, None], "int64"), ([["甲"]], "list<.*>"), ([b"x"], "binary")]
)
def test_a_column_that_holds_no_text_is_told(as_parquet, column, kind):
    with pytest.raises(CorpusError, match=f"c.parquet holds {kind} under 'text'.*name the column"):
        list(as_parquet("text", text=column).documents())


@pytest.mark.parametrize("place", [40, -6])
def test_a_damaged_parquet_file_is_told(as_parquet, place):
    corpus = as_parquet("text", text=["甲乙丙丁" * 9])
    (path,) = corpus.paths
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"c\.parquet is no whole Parquet file \(.*fetch"):
        list(corpus.documents())
    os.truncate(path, 20)
    with pytest.raises(CorpusError, match=r"c\.parquet is no whole Parquet file \(.*fetch"):
        list(corpus.documents())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no text"),
        (b" \n\t\n", "holds no text"),
        ("好\n".encode() + "中文".encode("gb18030"), "line 2 is not UTF-8.*reads as GB18030"),
        (b"ok\n\xff\xfe\n", "line 2 is not UTF-8"),
        (b"a\n" + b"x" * (1 << 20), r"line 2 is longer than 1,000,000 bytes: .*--longest-line"),
    ],
)
def test_bad_text_is_told_with_its_line_and_nothing_is_written(data, message, vocabulary, tmp_path):
    path = tmp_path / "bad.txt"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        prepare(Corpus(paths=(path,)), vocabulary, tmp_path / "records")
    assert not (tmp_path / "records").exists()
    path.write_text("好", encoding="utf-8")
    assert prepare(Corpus(paths=(path,)), vocabulary, tmp_path / "records").documents == 1


def test_the_longest_line_can_be_raised_and_a_missing_file_is_told(vocabulary, tmp_path):
    path = tmp_path / "long.txt"
    path.write_bytes(b"x" * (1 << 20))
    assert len(next(Corpus(paths=(path,), longest_line=1 << 20).documents())) == 1 << 20
    with pytest.raises(CorpusError, match="longest_line must be 1 or more"):
        list(Corpus(paths=(path,), longest_line=0).documents())
    with pytest.raises(CorpusError, match=r"there is no file .*absent\.txt"):
        prepare(Corpus(paths=(tmp_path / "absent.txt",)), vocabulary, tmp_path / "records")
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is no JSON"),
        ('{"body": "x"}', r"under 'text'; it has \['body'\]"),
        ("[" * 100_000, "line 1 is no JSON"),
        ("1" * 5000, "line 1 is no JSON"),
        (r'{"text": "\ud83d\ude00 a\ud83d"}', r"line 1 holds half of a surrogate pair \(.ud83d\)"),
    ],
)
def test_bad_json_is_told_with_its_line(line, message, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        list(Corpus(paths=(path,)).documents())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no row"),
        (b"\n  \n", "holds no row"),
        (b'{"a": "x", "b": 1.5}\n{"a"', "line 2 is no JSON"),
        (b'{"a": "x"}', r"line 1 has no .* under 'b'; it has \['a'\]"),
        (b'{"a": 1, "b": 1}', "line 1 has no text under 'a'"),
        (b"[1]", "line 1 has no text under 'a'; it has list"),
        ('{"a": "中文", "b": 1}'.encode("gb18030"), "line 1 is not UTF-8.*reads as GB18030"),
        (
            b'{"a": "' + b"x" * (1 << 20) + b'", "b": 1}',
            "line 1 is longer than 1,000,000 bytes: break it into lines$",
        ),
    ],
)
def test_bad_rows_are_told_with_their_line(data, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        list(read_rows(path, {"a": str, "b": int | float}))
    with pytest.raises(CorpusError, match="there is no file"):
        list(read_rows(tmp_path / "absent.jsonl", {"a": str}))


def test_rows_are_read_whatever_else_they_hold(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"a": "中", "b": 2, "c": null}\n\n{"a": "文", "b": 0.5}\n', "utf-8")
    rows = list(read_rows(path, {"a": str, "b": int | float}))
    assert [(row["a"], row["b"]) for row in rows] == [("中", 2), ("文", 0.5)]


def test_a_full_disk_leaves_the_finished_shards_alone(corpus, vocabulary, tmp_path):
    """A limit on the size of files stands for a full disk, which fails in the same call."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    with corpus.paths[0].open("a", encoding="utf-8", newline="") as file:
        file.write("\n" + "中" * 5000)
    folder, whole = tmp_path / "records", tmp_path / "whole"
    shards = prepare(corpus, vocabulary, whole, characters=8).shards
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"tokens\.npy could .*bytes are free.*make room") as told:
            prepare(corpus, vocabulary, folder, characters=8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.value.errno == errno.EFBIG
    names = {p.name for p in folder.iterdir()}
    finished = {p.name for p in whole.iterdir()} - {"records.json"}
    assert names == {name for name in finished if not name.startswith(f"shard-{shards - 1:05d}")}
    with pytest.raises(RecordsError, match=r"records\.json is missing"):
        Records(folder)
    assert prepare(corpus, vocabulary, folder, characters=8).reused == shards - 1
    assert contents(folder) == contents(whole)


def test_a_corpus_that_changes_between_runs_is_refused(corpus, vocabulary, tmp_path):
    prepare(corpus, vocabulary, tmp_path / "records")
    corpus.paths[0].write_text("\n".join([*LINES, "多一行"]), encoding="utf-8")
    with pytest.raises(RecordsError, match="another corpus"):
        prepare(corpus, vocabulary, tmp_path / "records")


def test_other_settings_are_refused_only_where_there_are_shards(corpus, vocabulary, tmp_path):
    folder, other = tmp_path / "records", tmp_path / "other.txt"
    other.write_text("[PAD]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
        prepare(corpus, vocabulary, folder, workers=0, characters=9)
    with pytest.raises(ValueError, match="characters must be 1 or more, got 0"):
        prepare(corpus, vocabulary, folder, characters=0)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=r"bytes\.txt is not utf-8"):
        prepare(corpus, tmp_path / "bytes.txt", folder, workers=2)
    assert not folder.exists()
    with pytest.raises(ValueError, match="the vocabulary has neither"):
        prepare(corpus, other, folder)
    prepare(corpus, vocabulary, folder)
    with pytest.raises(RecordsError, match=r"made with another do_lower_case, characters"):
        prepare(corpus, vocabulary, folder, characters=9, do_lower_case=False)
    (folder / "settings.json").write_text("", encoding="utf-8")
    with pytest.raises(RecordsError, match=r"settings\.json, which says .* is missing or damaged"):
        prepare(corpus, vocabulary, folder)
    for path in folder.glob("shard-*"):
        path.unlink()
    assert prepare(corpus, vocabulary, folder, characters=9).reused == 0
    assert len(Records(folder)) == 4


def test_a_file_repaired_as_the_error_says_keeps_the_shards_before(corpus, vocabulary, tmp_path):
    folder = tmp_path / "records"
    text = corpus.paths[0].read_bytes()
    corpus.paths[0].write_bytes(text + b"\n\xff\xfe\n")
    with pytest.raises(CorpusError, match="line 6 is not UTF-8"):
        prepare(corpus, vocabulary, folder, characters=8)
    finished = len(list(folder.glob("shard-*.json")))
    corpus.paths[0].write_bytes(text)
    assert prepare(corpus, vocabulary, folder, characters=8).reused == finished > 1
    prepare(corpus, vocabulary, tmp_path / "whole", characters=8)
    assert contents(folder) == contents(tmp_path / "whole")


def test_an_interrupted_change_of_the_same_length_does_not_pass_as_finished(
    corpus, vocabulary, tmp_path, monkeypatch
):
    folder = tmp_path / "records"
    prepare(corpus, vocabulary, folder, characters=8)
    text = corpus.paths[0].read_text(encoding="utf-8")
    changed = text.replace("今天天气", "气天天今").replace("自然语言", "言语然自")
    corpus.paths[0].write_text(changed, encoding="utf-8")

    written = []

    def killed(path, array):
        if len(written) == 3:  # a shard and another's tokens
            raise KeyboardInterrupt
        written.append(path)
        _files.write_array(path, array)

    monkeypatch.setattr(preparation, "write_array", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, vocabulary, folder, characters=8)
    monkeypatch.undo()
    with pytest.raises(RecordsError, match="no finished records"):
        Records(folder)
    corpus.paths[0].write_text(text, encoding="utf-8")
    prepare(corpus, vocabulary, folder, characters=8)
    prepare(corpus, vocabulary, tmp_path / "whole", characters=8)
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_change_of_the_same_length_is_written_anew(corpus, vocabulary, tmp_path):
    prepare(corpus, vocabulary, tmp_path / "records", characters=8)
    text = corpus.paths[0].read_text(encoding="utf-8")
    corpus.paths[0].write_text(text.replace("天气", "气天"), encoding="utf-8")
    prepared = prepare(corpus, vocabulary, tmp_path / "records", characters=8)
    assert prepared.reused == prepared.shards - 1
    assert "今天气天不错" in texts(Records(tmp_path / "records"), vocabulary)


def flip(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("tokens.npy", flip, r"shard 1 of .* has changed since .* \(checksum\)"),
        ("documents.npy", flip, r"shard 1 of .* has changed since .* \(checksum\)"),
        ("tokens.npy", lambda p: os.truncate(p, p.stat().st_size - 4), "shard 1 of .* is damaged"),
        ("tokens.npy", lambda p: os.truncate(p, 0), "shard 1 of .* is damaged"),
        ("tokens.npy", os.remove, r"shard 1 of .* is missing or incomplete"),
        ("json", os.remove, r"shard 1 of .* is missing or incomplete"),
        ("json", lambda p: os.truncate(p, 0), r"shard-00001\.json is damaged"),
        ("json", lambda p: p.write_text("{}", "utf-8"), r"shard-00001\.json is damaged"),
    ],
)
def test_a_deleted_or_damaged_shard_is_told_and_made_anew(
    corpus, vocabulary, tmp_path, name, damage, message
):
    folder = tmp_path / "records"
    prepare(corpus, vocabulary, folder, characters=8)
    before = contents(folder)
    damage(folder / f"shard-00001.{name}")
    with pytest.raises(RecordsError, match=f"{message}.*run `bert4kexue pretrain prepare` again"):
        Records(folder)
    again = prepare(corpus, vocabulary, folder, characters=8)
    assert again.reused == again.shards - 1 > 0
    assert contents(folder) == before


def test_what_checksums_alone_tell_is_let_through_when_asked(corpus, vocabulary, tmp_path):
    prepare(corpus, vocabulary, tmp_path / "records", characters=8)
    flip(tmp_path / "records" / "shard-00001.tokens.npy")
    assert len(Records(tmp_path / "records", verify=False)) == 4


def test_a_damaged_summary_or_another_vocabulary_is_told(corpus, vocabulary, tmp_path):
    folder, other = tmp_path / "records", tmp_path / "other.txt"
    prepare(corpus, vocabulary, folder)
    other.write_text(vocabulary.read_text(encoding="utf-8") + "\n新", encoding="utf-8")
    with pytest.raises(RecordsError, match="another vocabulary"):
        Records(folder, other)
    os.truncate(folder / "records.json", 9)
    with pytest.raises(RecordsError, match=r"records\.json is damaged\): run .* prepare"):
        Records(folder)
    assert prepare(corpus, vocabulary, folder).reused == 1
    assert len(Records(folder)) == 4


def test_the_checksum_tells_other_records(corpus, vocabulary, tmp_path):
    for name in ("a", "b"):
        prepare(corpus, vocabulary, tmp_path / name)
    assert Records(tmp_path / "a").checksum() == Records(tmp_path / "b").checksum()
    prepare(corpus, vocabulary, tmp_path / "c", do_lower_case=False, characters=8)
    assert Records(tmp_path / "a").checksum() != Records(tmp_path / "c").checksum()
    assert isinstance(np.asarray(Records(tmp_path / "a")[0]), np.ndarray)
