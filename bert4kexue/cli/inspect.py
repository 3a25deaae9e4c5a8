"""``bert4kexue inspect``: what a checkpoint is, and what of it would load."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from bert4kexue.models.inspection import Inspection

_EPILOG = """\
examples:
  bert4kexue inspect chinese_L-12_H-768_A-12            a folder in the original layout
  bert4kexue inspect chinese_L-12_H-768_A-12.zip        its archive, as released
  bert4kexue inspect model/bert_model.ckpt              a TensorFlow checkpoint's prefix
  bert4kexue inspect model.safetensors --variables      every name, shape and dtype

exit status: 0 when it would load, 1 when it would not, 2 when it cannot be read"""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "inspect",
        help="what a checkpoint is, which config fits it, what would not load",
        description="Reads names and shapes, builds nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path", help="folder, archive, name, checkpoint prefix, .safetensors, .npz, .weights.h5"
    )
    parser.add_argument("--variables", action="store_true", help="list every variable")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the inspection."""
    from pathlib import Path

    from bert4kexue.checkpoints.archives import is_archive
    from bert4kexue.checkpoints.places import checkpoint_folder
    from bert4kexue.models.inspection import inspect_checkpoint

    path = Path(options.path)
    is_prefix = path.with_name(path.name + ".index").exists()
    is_name = len(path.parts) == 1 and not path.exists() and not is_prefix
    with checkpoint_folder(path) if is_archive(path) or is_name else nullcontext(path) as place:
        found = inspect_checkpoint(place)
        print("\n".join(_lines(found)))
        if options.variables:
            print("\n".join(_variables(place)))
    return 1 if found.problems else 0


def _lines(found: Inspection) -> list[str]:
    dtypes = ", ".join(f"{count} {name}" for name, count in sorted(found.dtypes.items()))
    lines = [
        found.description + (" (Hugging Face names)" if found.huggingface else ""),
        f"  {found.variables} variables ({dtypes}), {found.numbers:,} numbers, "
        f"{found.bytes / 1e6:,.1f} MB",
        f"  family: {found.family or 'unknown'}",
    ]
    if found.model:
        options = "".join(f", {head}=True" for head in found.heads)
        lines.append(f"  loads with: build_transformer_model(..., model={found.model!r}{options})")
    if found.config:
        lines.append(f"  config: {json.dumps(found.config, ensure_ascii=False)}")
    if found.guessed:
        lines.append(f"  not told by the checkpoint, usual values: {', '.join(found.guessed)}")
    if found.ignored:
        shown = ", ".join(found.ignored[:4]) + (", ..." if len(found.ignored) > 4 else "")
        lines.append(f"  {len(found.ignored)} variables are left out knowingly: {shown}")
    if found.problems:
        lines.append("  would not load:")
        lines += [f"    {line}" for problem in found.problems for line in problem.splitlines()]
    return lines


def _variables(path: Path) -> list[str]:
    from bert4kexue.checkpoints import open_checkpoint

    with open_checkpoint(path) as opened:
        return [
            f"{name} {list(opened.shape(name))} {opened.dtype(name)}" for name in opened.names()
        ]
