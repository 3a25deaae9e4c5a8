"""`bert4kexue trie`: what it builds, prints and refuses."""

from __future__ import annotations

import pytest

from bert4kexue.cli import main

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"李白作者谁静夜思"]


@pytest.fixture
def built(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    lines = ["李白\t作者\t谁", "bad", "静夜思\t作者\t李白", "worse"]
    (tmp_path / "facts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source, output = str(tmp_path / "facts.tsv"), str(tmp_path / "facts.tree")
    command = ["trie", "build", source, "--model", str(tmp_path), "--output", output]
    assert main(command) == 0
    return tmp_path, command, capsys.readouterr()


def test_build_names_the_lines_it_rejects(built):
    folder, command, said = built
    assert "2 keys of 4 lines" in said.out
    assert "2 lines rejected: it has 1 columns, not 3 (line 2, 4)" in said.err
    assert main([*command, "--strict", "--rejected", str(folder / "bad")]) == 1
    text = (folder / "bad").read_text(encoding="utf-8")
    assert text == "2\thas 1 columns, not 3\n4\thas 1 columns, not 3\n"


def test_info_and_verify(built, capsys):
    folder = built[0]
    assert main(["trie", "info", str(folder / "facts.tree")]) == 0
    said = capsys.readouterr().out
    assert "keys        2\n" in said
    assert "longest key 8 tokens" in said
    assert main(["trie", "verify", str(folder / "facts.tree")]) == 0
    assert "whole, 2 keys" in capsys.readouterr().out


def test_verify_finds_damage_that_opening_does_not_read(built, capsys):
    path = built[0] / "facts.tree"
    damaged = bytearray(path.read_bytes())
    place = damaged.rindex("李白".encode())
    damaged[place] ^= 1
    path.write_bytes(damaged)
    assert main(["trie", "info", str(path)]) == 0
    assert main(["trie", "verify", str(path)]) == 2
    assert "damaged section 'text'" in capsys.readouterr().err
