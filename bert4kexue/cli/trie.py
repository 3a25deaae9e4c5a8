"""``bert4kexue trie``: prefix trees of keys, from text files of any size."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bert4kexue._files import atomic_write
from bert4kexue.cli.models import load_tokenizer
from bert4kexue.cli.progress import progress

SHOWN = 10
"""Line numbers printed for each reason; all of them go to --rejected."""

_EPILOG = """\
examples:
  bert4kexue trie build triples.tsv --model pretrained/roformer_tiny_zh --output facts.tree
  bert4kexue trie build names.txt --kind keys --model DIR --output names.tree --workers 2
  bert4kexue trie verify facts.tree
  bert4kexue trie info facts.tree"""


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser(
        "trie",
        help="prefix trees: build one from a text file, verify it, look at it",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = actions.add_parser(
        "build",
        help="a tree file from lines of text",
        description="Builds a tree file. Lines that give no key are counted and named, never left "
        "out silently; the file appears complete or not at all.",
    )
    build.add_argument("source", metavar="FILE", help="UTF-8, columns separated by tabs")
    build.add_argument("--model", required=True, metavar="DIR", help="whose vocab.txt is used")
    build.add_argument("--output", required=True, metavar="FILE", help="the tree file to write")
    build.add_argument(
        "--kind",
        choices=("triples", "keys"),
        default="triples",
        help="triples: `S（M）`, P, O, a knowledge base; keys: every column is a part of the key",
    )
    build.add_argument("--maxlen", type=int, default=512, help="most tokens of a key (512)")
    build.add_argument("--workers", type=int, default=1, help="processes that tokenize (1)")
    build.add_argument("--rejected", metavar="FILE", help="write number and reason of bad lines")
    build.add_argument("--strict", action="store_true", help="exit with 1 if a line was rejected")
    build.set_defaults(run=run_build)
    verify = actions.add_parser("verify", help="read a tree file whole and compare its checksums")
    verify.add_argument("tree", metavar="FILE")
    verify.set_defaults(run=run_verify)
    info = actions.add_parser("info", help="keys, nodes, sizes and vocabulary of a tree file")
    info.add_argument("tree", metavar="FILE")
    info.set_defaults(run=run_info)


def run_build(options: argparse.Namespace) -> int:
    """Build, and say which lines gave no key."""
    from bert4kexue.methods.knowledge_files import build_tree_file

    def watch(blocks: Iterable[Any], size: int) -> Iterable[Any]:
        return progress(blocks, size, "reading", lambda block: block.size)

    report = build_tree_file(
        options.source,
        options.output,
        load_tokenizer(options.model),
        options.kind,
        maxlen=options.maxlen,
        workers=options.workers,
        watch=watch,
    )
    if options.rejected:
        with atomic_write(options.rejected, "w") as file:
            file.writelines(f"{number}\t{reason}\n" for number, reason in report.rejected)
    for reason, count in report.reasons().most_common():
        numbers = [str(line.number) for line in report.rejected if line.reason == reason][:SHOWN]
        more = ", ..." if count > len(numbers) else ""
        lines = f"{count:,} lines rejected" if count > 1 else "1 line rejected"
        print(f"{lines}: it {reason} (line {', '.join(numbers)}{more})", file=sys.stderr)
    print(f"{options.output}: {report.keys:,} keys of {report.lines:,} lines")
    return int(options.strict and bool(report.rejected))


def run_verify(options: argparse.Namespace) -> int:
    """Say whether every checksum holds; a fault is an error that names the section."""
    from bert4kexue.decoding import PrefixTree

    with PrefixTree.load(options.tree, verify=True) as tree:
        print(f"{options.tree}: whole, {len(tree):,} keys")
    return 0


def run_info(options: argparse.Namespace) -> int:
    """Print what the header and the sections say."""
    from bert4kexue.decoding import PrefixTree

    with PrefixTree.load(options.tree) as tree:
        print(f"keys        {len(tree):,}")
        print(f"nodes       {tree.node_count:,}")
        print(f"longest key {tree.depth} tokens")
        print(f"vocabulary  {tree.vocabulary or 'unknown'}")
        print(f"file        {Path(options.tree).stat().st_size:,} bytes")
        for name, size in tree.section_sizes().items():
            print(f"  {name:<14}{size:,} bytes")
    return 0
