"""The command ``bert4kexue``: one file per group of commands.

A group's module has ``add(subparsers)``. What is heavy is imported when a command runs, so that
``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bert4kexue import __version__
from bert4kexue.cli import (
    average,
    closed_form,
    density,
    export,
    flops,
    inspect,
    jl,
    kgqa,
    pretrain,
    similar,
    trie,
    zeroshot,
)

_EPILOG = """\
examples:
  bert4kexue inspect pretrained/roformer_tiny_zh
  bert4kexue similar search --model pretrained/roformer_tiny_zh --corpus lines.txt 怎么开机
  bert4kexue export --model pretrained/roformer_tiny_zh --output served/roformer
  bert4kexue trie build triples.tsv --model pretrained/roformer_tiny_zh --output facts.tree

`bert4kexue COMMAND --help` shows the options of a command."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="bert4kexue",
        description="Original Chinese checkpoints on Keras 3: look at them, use them, serve them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bert4kexue {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    groups = (
        *(inspect, similar, zeroshot, kgqa, export, closed_form, jl, trie, pretrain, flops),
        *(density, average),
    )
    for group in groups:
        group.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did its work, 1 when it found a fault, 2 for a user's mistake.

    Args:
        arguments: words after the command's name; the process's own when None.
    """
    parsed = make_parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    try:
        status = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has enough, as in `bert4kexue ... | head`
        # Python flushes standard output once more at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        print(f"bert4kexue: {error}", file=sys.stderr)
        return 2
