"""``bert4kexue average``: a checkpoint between several of one origin."""

from __future__ import annotations

import argparse
from typing import Any

_EPILOG = """\
examples:
  bert4kexue average base finetuned --output between               half-way
  bert4kexue average base finetuned --shares 0.7 0.3 --output b    nearer to where it began
  bert4kexue average seed1 seed2 seed3 --output soup               several runs from one model"""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "average",
        help="the weighted mean of checkpoints of one origin",
        description="Takes folders in the original layout; config and vocabulary are the first's.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="two or more")
    parser.add_argument("--shares", nargs="+", type=float, help="of each; all alike")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to be made")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the folder."""
    import shutil
    from contextlib import ExitStack
    from pathlib import Path

    from bert4kexue._files import atomic_folder
    from bert4kexue.checkpoints.averaging import average_checkpoints
    from bert4kexue.checkpoints.places import checkpoint_folder

    if Path(options.output).exists():
        raise ValueError(f"{options.output} exists: name a folder that does not, or remove it")
    with ExitStack() as stack:
        folders = [stack.enter_context(checkpoint_folder(folder)) for folder in options.folders]
        vocabularies = {(folder / "vocab.txt").read_bytes() for folder in folders}
        if len(vocabularies) > 1:
            raise ValueError("the folders' vocab.txt differ: their token vectors have no mean")
        Path(options.output).absolute().parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(options.output) as made:
            average_checkpoints(folders, made / "bert_model.ckpt", options.shares)
            for name in ("bert_config.json", "config.json", "vocab.txt"):
                if (folders[0] / name).is_file():
                    shutil.copyfile(folders[0] / name, made / name)
    print(f"wrote {options.output}")
    return 0
