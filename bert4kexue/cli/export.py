"""``bert4kexue export``: a checkpoint as a SavedModel."""

from __future__ import annotations

import argparse
from typing import Any

from bert4kexue.cli.models import add_model_options, find_family

_HEADS: dict[str, dict[str, Any]] = {
    "hidden": {},
    "pooled": {"with_pool": "linear"},
    "nsp": {"with_nsp": True},
    "tokens": {"with_mlm": True},
}

_EPILOG = """\
heads:
  hidden   vectors of every token, (b, n, H)
  pooled   a vector of the sentence, (b, H)      RoFormer-Sim, SimBERT
  nsp      next-sentence probabilities, (b, 2)
  tokens   token probabilities, (b, n, v)

examples:
  bert4kexue export --model pretrained/roformer_tiny_zh --output served/roformer --head pooled
  bert4kexue export --model chinese_L-12_H-768_A-12 --output served/bert --overwrite

The signature serving_default takes int32 token_ids and segment_ids (b, n), both sizes free."""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        help="write a SavedModel for TF Serving",
        description="Writes a SavedModel that needs nothing but TensorFlow to run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--head", choices=_HEADS, default="hidden", help="what it returns (hidden)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write it, and say what it takes and gives."""
    from pathlib import Path

    if Path(options.output).exists() and not options.overwrite:
        raise FileExistsError(f"{options.output} exists: choose another, or pass --overwrite")
    family = find_family(options)
    from bert4kexue.models import build_transformer_model
    from bert4kexue.serving import default_signature, export_saved_model

    model = build_transformer_model(options.model, model=family, **_HEADS[options.head])
    path = export_saved_model(model, options.output, overwrite=options.overwrite)
    signature = default_signature(model)
    print(f"{path}: serving_default({', '.join(signature.inputs)}) -> {signature.outputs[0]}")
    return 0
