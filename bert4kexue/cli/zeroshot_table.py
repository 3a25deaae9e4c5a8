"""``bert4kexue zeroshot table``: the paper's Table 1 row, measured beside its targets."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import add_model_options

_NINE = ("eprstmt", "csldcp", "tnews", "iflytek", "ocnli", "bustm", "csl", "chid", "cluewsc")
_MEAN = 55.96  # "Score" of NSP-BERT in Table 1

_EPILOG = """\
The row NSP-BERT of Table 1 (arXiv 2109.03564) is accuracy on FewCLUE's test_public.json with UER's
BERT-base of mixed corpora, no label seen. It needs both:
  --model  that checkpoint in the original layout, with its next-sentence head: bert_config.json,
           vocab.txt, bert_model.ckpt.*
  --data   FewCLUE's folder: TASK/test_public.json for the nine tasks
What is missing is listed before anything runs. --split dev_few_all takes other files; the paper's
figures stand beside them all the same."""


def add(actions: Any, load: Callable[..., tuple[Any, Any]]) -> None:
    """Add the command; `load` gives model and tokenizer for a kind of task."""
    parser = actions.add_parser(
        "table",
        help="the nine FewCLUE tasks beside the paper's Table 1",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="FewCLUE's folder")
    parser.add_argument("--split", default="test_public", help="which file (test_public)")
    parser.add_argument("--tasks", default=",".join(_NINE), help="separated by commas (all nine)")
    parser.add_argument("--maxlen", type=int, default=128, help="most tokens of a row (128)")
    parser.set_defaults(run=lambda options: run(options, load))


def run(options: argparse.Namespace, load: Callable[..., tuple[Any, Any]]) -> int:
    """Check that all is there, then print a line a task as it is measured, and the mean."""
    from bert4kexue.methods.fewclue import find_task
    from bert4kexue.methods.fewclue_scores import accuracy, answer

    tasks = [find_task(name.strip()) for name in options.tasks.split(",") if name.strip()]
    files = {task.name: Path(options.data, task.name, f"{options.split}.json") for task in tasks}
    missing = [f"{file}, the rows of {name}" for name, file in files.items() if not file.is_file()]
    if problem := _no_checkpoint(options.model):
        missing.insert(0, problem)
    if missing or not tasks:
        raise FileNotFoundError(
            "Table 1 cannot be measured, this is missing:\n  "
            + "\n  ".join(missing or ["a task"])
            + "\nThe checkpoint is UER's BERT-base of mixed corpora in the original layout, the "
            "rows are FewCLUE's."
        )
    print(f"{'task':8} {'rows':>5} {'found':>6}  {'95 %':14} {'paper':>6} {'difference':>10}")
    values = []
    for task in tasks:
        samples = task.read(files[task.name])
        model, tokenizer = load(options, task.kind)
        found = answer(task, samples, model, tokenizer, maxlen=options.maxlen)
        score = accuracy(found, [sample.label for sample in samples])
        values.append(100 * score.value)
        interval = f"{100 * score.low:.1f} to {100 * score.high:.1f}"
        print(
            f"{task.name:8} {score.rows:5} {values[-1]:6.2f}  {interval:14} "
            f"{task.published:6.2f} {values[-1] - task.published:+10.2f}",
            flush=True,
        )
    mean = sum(values) / len(values)
    target = _MEAN if len(tasks) == len(_NINE) else sum(t.published for t in tasks) / len(tasks)
    print(f"{'mean':8} {'':5} {mean:6.2f}  {'':14} {target:6.2f} {mean - target:+10.2f}")
    print("paper: NSP-BERT's row of Table 1, test_public.json, UER's BERT-base of mixed corpora")
    return 0


def _no_checkpoint(name: str) -> str | None:
    """What is wrong with the checkpoint's place, or None."""
    from bert4kexue.checkpoints.places import checkpoint_folder

    try:
        with checkpoint_folder(name) as folder:
            wanted = ("bert_config.json", "vocab.txt")
            gone = [file for file in wanted if not (folder / file).is_file()]
            if gone:
                return f"{', '.join(gone)} in {name}"
    except (OSError, ValueError) as error:
        return f"the checkpoint: {error}"
    return None
