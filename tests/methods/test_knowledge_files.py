"""Tree files from text: the same tree as from triples in memory, and every bad line by number."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer

from bert4kexue.decoding import PrefixTree
from bert4kexue.methods import knowledge_files
from bert4kexue.methods.knowledge_base import KnowledgeBase
from bert4kexue.methods.knowledge_files import NOT_UTF8, build_tree_file

TRIPLES = [
    ("李白（唐代诗人）", "职业", "诗人"),
    ("李白", "作者", "谁"),
    ("静夜思", "作者", "李白"),
    ("静夜思", "作者", "很好"),
]
NAME = st.text("李白静夜思（）a", min_size=1, max_size=6)


def write(path, lines):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))
    return path


def facts(tree):
    return {key: tree.values(tree.find(key)) for key in tree}


@settings(deadline=None, max_examples=30)
@given(
    triples=st.lists(st.tuples(NAME, st.text("作者a", min_size=1, max_size=3), NAME), min_size=1)
)
def test_file_is_the_knowledge_base_of_its_triples(tmp_path_factory, triples):
    folder, tokenizer = tmp_path_factory.mktemp("tree"), tiny_tokenizer()
    source = write(folder / "facts.tsv", ["\t".join(triple) for triple in triples])
    report = build_tree_file(source, folder / "tree", tokenizer)
    expected = KnowledgeBase.build(triples, tokenizer).tree
    with PrefixTree.load(folder / "tree", vocabulary=expected.vocabulary, verify=True) as tree:
        assert facts(tree) == facts(expected)
    assert (report.lines, report.keys, report.rejected) == (len(triples), len(expected), [])


def test_blocks_and_workers_do_not_change_the_tree(tmp_path, monkeypatch):
    lines = [f"李{'白' * (i % 7)}\t作者{'a' * (i % 5)}\t{i}" for i in range(300)]
    source, tokenizer = write(tmp_path / "facts.tsv", [*lines, "x"]), tiny_tokenizer()
    whole = build_tree_file(source, tmp_path / "one", tokenizer)
    monkeypatch.setattr(knowledge_files, "BLOCK", 100)
    monkeypatch.setattr(knowledge_files.read_blocks, "__defaults__", (100,))
    parts = build_tree_file(source, tmp_path / "two", tokenizer, workers=2)
    assert whole == parts
    assert parts.rejected == [(301, "has 1 columns, not 3")]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_bad_lines_are_named_and_the_rest_is_built(tmp_path):
    source = tmp_path / "facts.tsv"
    good = "\t".join(TRIPLES[0]).encode()
    lines = [good, b"", b"a\tb", b"\tb\tc", b"\xff\tb\tc", b"a\tb\tc\td"]
    source.write_bytes(b"\r\n".join([*lines, good]))
    report = build_tree_file(source, tmp_path / "tree", tiny_tokenizer())
    assert report.lines == 7
    assert dict(report.rejected) == {
        2: "is empty",
        3: "has 2 columns, not 3",
        4: "has an empty subject or predicate",
        5: NOT_UTF8,
        6: "has 4 columns, not 3",
    }
    assert report.reasons()["is empty"] == 1
    assert report.keys == 1, "line ends of either kind belong to no value"
    with PrefixTree.load(tmp_path / "tree") as tree:
        assert [len(texts) for texts in facts(tree).values()] == [2]


def test_too_long_keys_are_named(tmp_path):
    source = write(tmp_path / "names", ["李白", "静夜思李白静夜思"])
    report = build_tree_file(source, tmp_path / "tree", tiny_tokenizer(), "keys", maxlen=3)
    assert report.rejected == [(2, "has a key of more than 3 tokens")]


def test_a_line_whose_other_names_are_too_long_is_named_once(tmp_path):
    source = write(tmp_path / "facts.tsv", ["李白\t作者\t谁"])
    aliases = {"李白": ["静夜思" * 3, "静夜思" * 4]}
    report = build_tree_file(source, tmp_path / "tree", tiny_tokenizer(), maxlen=9, aliases=aliases)
    assert report == (1, 1, [(1, "has a key of more than 9 tokens")], 0, ())


def test_keys_that_lead_to_several_facts_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("bert4kexue.methods.knowledge_base._KEYS", 2)
    triples = [
        ("龘", "作者", "甲"),
        ("驫", "作者", "乙"),
        ("龘（驫）", "作者", '甲", "乙'),
        ('驫（ 驫", ）', "作者", "甲"),
        ("李白", "作者", '谁", '),
        ("李白", "作者", '", "谁",'),
        ("静夜思", "作者", "谁"),
        ("静夜思", "作者", "谁"),
        ("驫（龘）", "作者", "谁"),
    ]
    source = write(tmp_path / "facts.tsv", ["\t".join(triple) for triple in triples])
    tokenizer = tiny_tokenizer()
    report = build_tree_file(source, tmp_path / "tree", tokenizer)
    with PrefixTree.load(tmp_path / "tree") as tree:
        assert report.shared == len(KnowledgeBase(tree).collisions())
    assert report.shared == 2
    assert KnowledgeBase.build(triples, tokenizer).shared_keys() == 2
    assert build_tree_file(source, tmp_path / "keys", tokenizer, "keys").shared == 0


def test_what_is_at_fault_is_told_with_the_remedy(tmp_path):
    source, tree, tokenizer = tmp_path / "facts.tsv", tmp_path / "tree", tiny_tokenizer()
    line = "李白\t作者\t谁\n"
    for content, options, told in (
        (line.encode(), {"maxlen": 0}, "maxlen=0 and workers=1 must be 1 or more"),
        (line.encode(), {"workers": 0}, "maxlen=512 and workers=0 must be 1 or more"),
        (line.encode(), {"maxlen": 4}, "Line 1 has a key of more than 4 tokens. .* at most 4"),
        (line.encode("utf-16"), {}, r"facts\.tsv is UTF-16: convert it with iconv"),
        (line.encode("gb18030"), {}, "Line 1 is not UTF-8: convert the file, .* iconv"),
        (b"x\n", {}, "Line 1 has 1 columns, not 3. A line is `S（M）`, P, O with tabs between"),
        (b"x\n", {"separator": "|||"}, "with `|||` between them"),
        (b"x\n", {"called": "其他"}, "lines of 其他 gave a key"),
    ):
        source.write_bytes(content)
        with pytest.raises(ValueError, match=told.replace("|||", r"\|\|\|")):
            build_tree_file(source, tree, tokenizer, **options)
    assert list(tmp_path.iterdir()) == [source]


def test_columns_are_the_parts_of_a_key(tmp_path):
    tokenizer = tiny_tokenizer()
    source = write(tmp_path / "names", ["李\t白", "静\t\t夜", "\t夜"])
    report = build_tree_file(source, tmp_path / "tree", tokenizer, "keys")
    end = tokenizer._token_end_id
    li, bai, jing, ye = (tokenizer.encode(c)[0][1] for c in "李白静夜")
    with PrefixTree.load(tmp_path / "tree") as tree:
        assert set(tree) == {(li, end, bai, end), (jing, end, end, ye, end)}
    assert report.rejected == [(3, "has an empty first column")]


def test_nothing_is_left_behind_when_no_line_is_good(tmp_path):
    source = write(tmp_path / "facts.tsv", ["a", "b"])
    with pytest.raises(ValueError, match="none of the 2 lines"):
        build_tree_file(source, tmp_path / "tree", tiny_tokenizer())
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty: it needs one triple a line"):
        build_tree_file(tmp_path / "empty", tmp_path / "tree", tiny_tokenizer())
    with pytest.raises(ValueError, match="kind is 'triples' or 'keys'"):
        build_tree_file(source, tmp_path / "tree", tiny_tokenizer(), "words")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty", "facts.tsv"]


# --- going on after a kill ------------------------------------------------------------------------


def _lines(count=300):
    return [*(f"李{'白' * (i % 7)}\t作者{'a' * (i % 5)}\t{i}" for i in range(count)), "x"]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(knowledge_files.read_blocks, "__defaults__", (400,))


def _killed(source, target, stages, after, **options):
    """A build that ends with an exception once `after` blocks are kept."""

    def watch(blocks, size):
        for number, block in enumerate(blocks):
            if number == after:
                raise KeyboardInterrupt
            yield block

    with pytest.raises(KeyboardInterrupt):
        build_tree_file(source, target, tiny_tokenizer(), stages=stages, watch=watch, **options)


def _built(source, target, stages, **options):
    """The report, the bytes of text that were read, and the lines that were not."""
    read, before = [], [0]

    def watch(blocks, size):
        for block in blocks:
            read.append(block.size)
            yield block

    report = build_tree_file(
        source,
        target,
        tiny_tokenizer(),
        stages=stages,
        watch=watch,
        went_on=before.append,
        **options,
    )
    return report, sum(read), before[-1]


def test_a_killed_build_goes_on_and_gives_the_same_file(tmp_path, small_blocks):
    source = write(tmp_path / "facts.tsv", _lines())
    report, size, _ = _built(source, tmp_path / "whole", None)
    assert size == source.stat().st_size
    stages = tmp_path / "stages"
    _killed(source, tmp_path / "tree", stages, 3)
    _killed(source, tmp_path / "tree", stages, 2, workers=2)
    assert not (tmp_path / "tree").exists()
    # Half a block more, as a kill while it is written leaves it.
    for name in ("tokens", "text", "journal.jsonl"):
        with open(stages / name, "ab") as file:
            file.write(b'{"size": 4')
    again, rest, before = _built(source, tmp_path / "tree", stages)
    assert again == report
    assert before > 20
    kept = b"\n".join(source.read_bytes().split(b"\n")[:before]) + b"\n"
    assert rest == source.stat().st_size - len(kept)
    assert (tmp_path / "tree").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not stages.exists()


@pytest.mark.parametrize("row", ["x", "[1]", "{}", "\x80"])
def test_a_damaged_line_of_the_journal_keeps_what_is_before_it(tmp_path, small_blocks, row):
    source = write(tmp_path / "facts.tsv", _lines())
    report = _built(source, tmp_path / "whole", None)[0]
    stages = tmp_path / "stages"
    _killed(source, tmp_path / "tree", stages, 4)
    rows = (stages / "journal.jsonl").read_bytes().splitlines(keepends=True)
    damaged = [*rows[:2], row.encode("latin-1") + b"\n", *rows[2:]]
    (stages / "journal.jsonl").write_bytes(b"".join(damaged))
    again, rest, _ = _built(source, tmp_path / "tree", stages)
    assert again == report
    assert rest == source.stat().st_size - sum(json.loads(each)["size"] for each in rows[:2])
    assert (tmp_path / "tree").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("change", ["text", "settings", "stages"])
def test_what_was_finished_of_something_else_is_not_gone_on_with(tmp_path, small_blocks, change):
    lines, stages, options = _lines(), tmp_path / "stages", {}
    source = write(tmp_path / "facts.tsv", lines)
    _killed(source, tmp_path / "tree", stages, 3)
    if change == "text":
        write(source, ["静夜思\t作者\t李白", *lines[1:]])
    elif change == "settings":
        options = {"order": "smp"}
    else:
        damaged = bytearray((stages / "tokens").read_bytes())
        damaged[5] ^= 1
        (stages / "tokens").write_bytes(damaged)
    report, size, before = _built(source, tmp_path / "tree", stages, **options)
    assert (size, before) == (source.stat().st_size, 0)
    assert report == _built(source, tmp_path / "whole", None, **options)[0]
    assert (tmp_path / "tree").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_text_that_has_grown_is_read_again_from_its_last_line(
    tmp_path, small_blocks, monkeypatch
):
    source, stages = tmp_path / "facts.tsv", tmp_path / "stages"
    source.write_text("李白\t作者\t谁\n静夜思\t作者\t李", encoding="utf-8")

    def cut(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(knowledge_files.PrefixTree, "from_arrays", cut)
        with pytest.raises(KeyboardInterrupt):
            _built(source, tmp_path / "tree", stages)
    with open(source, "a", encoding="utf-8") as file:
        file.write("白\n")
    _, _, before = _built(source, tmp_path / "tree", stages)
    assert before == 0
    with PrefixTree.load(tmp_path / "tree") as tree:
        values = [value for key in tree for value in tree.values(tree.find(key))]
    assert any("李白" in value and "静夜思" in value for value in values)


def test_texts_at_fault_leave_nothing(tmp_path):
    source = write(tmp_path / "facts.tsv", ["x"])
    with pytest.raises(ValueError, match="gave a key"):
        _built(source, tmp_path / "tree", tmp_path / "stages")
    assert list(tmp_path.iterdir()) == [source]
