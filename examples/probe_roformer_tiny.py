"""Which mix of objectives, depth, width and length of training the small RoFormer should have.

    BERT4KEXUE_DATA=... python examples/probe_roformer_tiny.py runs/probes --steps 400

trains the models of PROBES from nothing, one after another, by the commands that
`pretrain_roformer_tiny.py` gives, with the same seed, data and tokens a step, and measures each
with `evaluate_roformer_tiny.py`. Prints a table and keeps it as `probes.md` in the folder. What is
measured already is not trained again, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import evaluate_roformer_tiny as evaluation
import pretrain_roformer_tiny as pretraining
import ship_sets

from bert4kexue._files import atomic_write
from bert4kexue.checkpoints import open_checkpoint

BASE: dict[str, Any] = {"mix": "later", "layers": 4, "hidden": 256}
PROBES: dict[str, dict[str, Any]] = {
    "later": {},
    "masked only": {"mix": "masked"},
    "written, no similarity": {"mix": "written"},
    "all from the start": {"mix": "all"},
    "more similarity": {"mix": "similar"},
    "L2 H256": {"layers": 2},
    "L6 H256": {"layers": 6},
    "L4 H128": {"hidden": 128},
    "L4 H384": {"hidden": 384},
    "a quarter of the steps": {"part": 0.25},
    "half of the steps": {"part": 0.5},
    "twice the steps": {"part": 2},
}
COLUMNS = {
    "masked_accuracy": "masked words",
    "retrieval_exact_match": "questions",
    "every_token_first_choice": "no tree",
    "spearman_dev": "Spearman dev",
    "spearman_test": "Spearman test",
}


def main() -> None:
    """Train and measure what is missing, each in a process of its own; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the runs are kept, and resumed from")
    parser.add_argument("--steps", type=int, default=400, help="of a probe (400)")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a batch (2048)")
    parser.add_argument("--limit", type=int, default=300, help="of the questions (300)")
    parser.add_argument("--probes", nargs="+", choices=PROBES, default=list(PROBES))
    parser.add_argument("--one", choices=PROBES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        probe(options)
        return
    if not (options.folder / "records" / "records.json").exists():
        pretraining.prepare_corpus(options.folder, ship_sets.data_folder())
    rest = [
        word
        for name in ("steps", "tokens", "limit")
        for word in (f"--{name}", str(getattr(options, name)))
    ]
    for name in options.probes:
        if not result_file(options.folder, name).exists():
            command = [sys.executable, __file__, str(options.folder), "--one", name, *rest]
            subprocess.run(command, check=True)
    page = table(options.folder, options.probes)
    with atomic_write(options.folder / "probes.md", "w") as file:
        file.write(page)
    print(page)


def result_file(folder: Path, name: str) -> Path:
    """Where the scores of a probe lie."""
    return folder / f"{name.replace(' ', '_').replace(',', '')}.json"


def probe(options: argparse.Namespace) -> None:
    """Train one, measure it, keep its scores."""
    name = options.one
    choice = {**BASE, **PROBES[name]}
    steps = round(options.steps * choice.pop("part", 1))
    path = result_file(options.folder, name)
    began, used = time.monotonic(), time.process_time()
    model = pretraining.train(
        options.folder,
        options.folder / path.stem,
        steps=steps,
        tokens=options.tokens,
        **choice,
    )
    minutes = (time.monotonic() - began) / 60, (time.process_time() - used) / 60
    scores = evaluation.report(model, ship_sets.data_folder(), options.limit)
    with open_checkpoint(model / "bert_model.ckpt") as weights:
        parameters = sum(math.prod(weights.shape(variable)) for variable in weights.names())
    found = {
        "choice": {**choice, "steps": steps},
        "wall_minutes": round(minutes[0], 1),
        "processor_minutes": round(minutes[1], 1),
        "parameters": parameters,
        "scores": scores,
    }
    with atomic_write(path, "w") as file:
        file.write(json.dumps(found, indent=2) + "\n")


def table(folder: Path, names: list[str]) -> str:
    """A line for each probe that is measured, and the baselines."""
    head = ["probe", "mix", "layers x width", "M parameters", "steps", "minutes of a processor"]
    head += COLUMNS.values()
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    found = {}
    for name in names:
        path = result_file(folder, name)
        if not path.exists():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        choice = found["choice"]
        cells = [
            name,
            ", ".join(pretraining.MIXES[choice["mix"]]),
            f"{choice['layers']} x {choice['hidden']}",
            f"{found['parameters'] / 1e6:.1f}",
            str(choice["steps"]),
            f"{found['processor_minutes']:.1f}",
            *(f"{found['scores'][column]:.4f}" for column in COLUMNS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if found:
        scores = found["scores"]
        known = {
            "masked_accuracy": "masked_accuracy_commonest",
            "retrieval_exact_match": "retrieval_exact_match_baseline",
            "spearman_dev": "spearman_dev_jaccard",
            "spearman_test": "spearman_test_jaccard",
        }
        cells = [f"{scores[known[c]]:.4f}" if c in known else "-" for c in COLUMNS]
        lines.append("| baseline | - | - | - | - | - | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
