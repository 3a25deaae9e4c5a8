"""``bert4kexue kgqa export``: a knowledge base and its model as one SavedModel, strings in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import add_model_options, load_knowledge


def add(actions: Any) -> None:
    """Add the command."""
    parser = actions.add_parser(
        "export",
        help="one SavedModel from question strings to facts, for TensorFlow alone",
        description="Writes DIR/1, then DIR/2: `bert4kexue export --check DIR` checks it.",
    )
    add_model_options(parser)
    parser.add_argument("--knowledge", required=True, metavar="DIR", help="what build wrote")
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder of versions")
    parser.add_argument("--topk", type=int, default=5, help="keys of a question (5)")
    parser.add_argument("--beams", type=int, metavar="N", help="width of the beam (topk)")
    parser.add_argument("--maxlen", type=int, default=128, help="most tokens of a question (128)")
    parser.add_argument(
        "--lookahead", action=argparse.BooleanOptionalAction, default=True, help="of post 8802"
    )
    parser.add_argument("--version", type=int, metavar="N", help="the version's number (the next)")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write it, and say what it takes and gives."""
    from bert4kexue.serving import export_service
    from bert4kexue.serving.signatures import knowledge_answers

    model, tokenizer, knowledge = load_knowledge(options)
    task = knowledge_answers(
        model,
        tokenizer,
        knowledge,
        top=options.topk,
        num_beams=options.beams,
        lookahead=options.lookahead,
        maxlen=options.maxlen,
    )
    path = export_service(
        {"answers": task},
        options.output,
        tokenizer=tokenizer,
        maxlen=options.maxlen,
        version=options.version,
        overwrite=options.overwrite,
        facts={
            "model": Path(options.model).name,
            "knowledge": Path(options.knowledge).name,
            "keys": len(knowledge),
            "lookahead": options.lookahead,
        },
    )
    print(f"{path}: answers_text(text) -> {', '.join(task.outputs)}; {len(knowledge):,} keys")
    return 0
