"""`bert4kexue trie`: what it builds, prints and refuses."""

from __future__ import annotations

import subprocess
import sys

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


#: The command, which stops and waits where it is told to: `bert4kexue trie build` in the middle.
STOPPED = """
import sys
import bert4kexue._files
import bert4kexue.cli.trie
from bert4kexue.cli import main

where, *command = sys.argv[1:]

def stop(*_):
    print("here", flush=True)
    sys.stdin.read()

def read(blocks, *_):
    for block in blocks:
        yield block
        stop()

if where == "reading":
    bert4kexue.cli.trie.progress = read
else:
    bert4kexue._files.os.fsync = stop
main(command)
"""


@pytest.mark.parametrize("where", ["reading", "writing"])
@pytest.mark.parametrize("older", [False, True])
def test_a_build_that_is_killed_leaves_no_half_file_and_runs_again(built, where, older, capsys):
    folder, command, _ = built
    tree = folder / "facts.tree"
    before, expected = sorted(each.name for each in folder.iterdir()), tree.read_bytes()
    if not older:
        tree.unlink()
        before.remove(tree.name)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen([sys.executable, "-c", STOPPED, where, *command], **pipes) as process:
        assert process.stdout.readline() == "here\n"
        process.kill()
    left = sorted(each.name for each in folder.iterdir())
    if where == "writing":  # what was being written has no name that anybody reads
        left = [name for name in left if not (name.startswith(".") and name.endswith(".tmp"))]
    assert left == before
    if older:
        assert tree.read_bytes() == expected, "the older tree is as it was"
    assert main(command) == 0
    assert tree.read_bytes() == expected
    assert "2 lines rejected" in capsys.readouterr().err
