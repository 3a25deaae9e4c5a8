"""A folder for TF Serving: a numbered version with everything that belongs to it.

name/1/saved_model.pb, variables/        the signatures of the tasks, in two forms
       assets/vocab.txt, labels_TASK.txt
       assets.extra/model_card.md, export.json, recorded.npz,
                    tf_serving_warmup_requests, SHA256SUMS
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert4kexue._files import atomic_folder
from bert4kexue.serving.card import record, write_card
from bert4kexue.serving.export import (
    Endpoint,
    Signature,
    as_endpoint,
    require_tensorflow,
    write_saved_model,
)
from bert4kexue.serving.forms import InputStyle, both_forms, embedding_sizes, model_form
from bert4kexue.serving.manifest import write_manifest
from bert4kexue.serving.quantization import Precision, forwards
from bert4kexue.serving.samples import (
    MOST_RECORDED,
    SENTENCES,
    Recorded,
    largest_change,
    load_signatures,
    run,
    run_saved,
    sample_inputs,
    write_recorded,
)
from bert4kexue.serving.task import Task, in_utf8, tasks_by_name
from bert4kexue.serving.warmup import write_warmup
from bert4kexue.text.wordpiece import Tokenizer

MAXLEN = 512  # a megabyte of text in one row would take a server's memory


def export_service(
    tasks: Mapping[str, Task],
    path: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    maxlen: int | None = None,
    precision: Precision = "float32",
    inputs: InputStyle = "int32",
    version: int | None = None,
    overwrite: bool = False,
    sentences: Sequence[str] = SENTENCES,
    facts: Mapping[str, Any] | None = None,
    more: Mapping[str, Signature | Endpoint] | None = None,
) -> Path:
    """Write one version of a served model; nothing stands there before it is whole.

    Args:
        tasks: by name; each gives the signature NAME (ids in) and, with a tokenizer, NAME_text.
        path: the folder of all versions, whose last part is the model's name.
        tokenizer: of the models' vocabulary; None leaves the strings forms out.
        maxlen: most tokens of a row made of strings; when None, the positions that all models know,
            and 512 where they have no limit of their own.
        precision: what the weights are stored in.
        inputs: ``'bert4keras'`` names ids ``Input-Token`` and ``Input-Segment``, float32.
        version: its number, 1 or more; None takes the next one.
        overwrite: replace that version where it exists.
        sentences: what the change of the outputs is measured on; the first 32 are also recorded
            and sent as warm-up requests.
        facts: for the card, by name.
        more: further signatures, written as they are (not converted to ``precision``). Another
            ``serving_default`` replaces the first task's model as it is.

    Returns:
        The numbered folder.

    Raises:
        FileExistsError: the version exists and ``overwrite`` is False, or ``path`` is a file.
        OSError: it cannot be written, for instance because no space is left; nothing stays then.
        ValueError: no tasks, a bad name, a version below 1, no sentences or such as UTF-8 cannot
            write, a tokenizer that no graph can hold or with ids that a model has no vectors for,
            a ``maxlen`` beyond a model's positions, or a ``precision`` that a task cannot have.
        RuntimeError: the backend is not TensorFlow.
    """
    require_tensorflow()
    path = Path(path)
    tasks = tasks_by_name(tasks)
    number = _version(path, version, overwrite)
    _check_sentences(sentences)
    if more and (taken := [n for n in more if n.removesuffix("_text") in tasks]):
        raise ValueError(f"{taken} are names of tasks: give the further signatures others")
    if precision != "float32" and (loops := [n for n, task in tasks.items() if task.generates]):
        raise ValueError(
            f"{loops} run the model token by token, in float32 alone: export with "
            f"precision='float32', got {precision!r}"
        )
    first = next(iter(tasks.values())).model
    size = embedding_sizes(first)[0]
    if maxlen is None:
        known = [embedding_sizes(task.model)[2] for task in tasks.values()]
        maxlen = min((positions for positions in known if positions), default=MAXLEN)
    if tokenizer is not None:
        for name, task in tasks.items():
            _check_fit(name, task, tokenizer, maxlen)
    options: dict[str, Any] = {"tokenizer": tokenizer, "maxlen": maxlen, "inputs": inputs}
    functions = forwards(tasks, precision)
    endpoints = both_forms(tasks, functions, **options)
    default = model_form(first, functions[next(iter(tasks))], inputs)
    original = endpoints
    if precision != "float32":
        original = both_forms(tasks, forwards(tasks, "float32"), **options)
    batches = [sentences[i : i + MOST_RECORDED] for i in range(0, len(sentences), MOST_RECORDED)]
    if tokenizer is None:  # without one the ids are random
        del batches[1:]

    def inputs_of(batch: Sequence[str]) -> Recorded:
        return sample_inputs(tasks, endpoints, tokenizer, batch, maxlen, size or 2)

    given = inputs_of(batches[0])
    path.mkdir(parents=True, exist_ok=True)
    with atomic_folder(path / str(number)) as folder, tempfile.TemporaryDirectory() as scratch:
        assets = _assets(Path(scratch), tasks, tokenizer)
        chosen = {"serving_default": default, **(more or {}), **endpoints}
        written = {name: as_endpoint(signature) for name, signature in chosen.items()}
        write_saved_model(folder, written, assets)
        (folder / "assets.extra").mkdir()
        signatures = load_signatures(folder)
        write_recorded(folder, given, run_saved(signatures, given))
        write_warmup(folder, path.name, list(given.items()))
        changes = largest_change(
            (
                {name: run(original[name], tried[name]) for name in tried},
                run_saved(signatures, tried),
            )
            for tried in map(inputs_of, batches)
        )
        samples = f"{sum(map(len, batches))} {'sentences' if tokenizer else 'rows of random ids'}"
        told = record(path.name, number, precision, written, changes, samples, facts or {})
        write_card(folder, told)
        write_manifest(folder)
    return path / str(number)


def versions(path: Path) -> list[int]:
    """The versions in a folder, in order."""
    if not path.is_dir():
        return []
    return sorted(int(p.name) for p in path.iterdir() if p.is_dir() and p.name.isdecimal())


def _version(path: Path, version: int | None, overwrite: bool) -> int:
    if path.is_file():
        raise FileExistsError(
            f"a folder of versions is written here, but {path} is a file: choose another name"
        )
    known = versions(path)
    if version is None:
        return known[-1] + 1 if known else 1
    if version < 1:
        raise ValueError(f"a version is 1 or more, got {version}")
    if (path / str(version)).exists() and not overwrite:
        raise FileExistsError(
            f"{path / str(version)} exists: choose another version, or pass overwrite=True "
            "(--overwrite)"
        )
    return version


def _check_sentences(sentences: Sequence[str]) -> None:
    if isinstance(sentences, str):
        raise ValueError(
            f"sentences must be a list of strings, got one: write [{sentences[:20]!r}]"
        )
    if not sentences:
        raise ValueError("an export is tried on sentences: give at least one")
    for i, sentence in enumerate(sentences):
        if not isinstance(sentence, str) or not in_utf8(sentence):
            raise ValueError(
                f"sentences[{i}] must be a string that UTF-8 can write, without lone surrogates, "
                f"got {sentence[:20]!r}: decode bytes with errors='replace'"
            )


def _check_fit(name: str, task: Task, tokenizer: Tokenizer, maxlen: int) -> None:
    size, _, positions = embedding_sizes(task.model)
    largest = max(tokenizer._token_dict.values(), default=-1)
    if size is not None and largest >= size:
        raise ValueError(
            f"the tokenizer has ids to {largest}, and the model of {name!r} vectors for 0 to "
            f"{size - 1}: give the tokenizer of the vocabulary it was trained with"
        )
    if positions is not None and maxlen > positions:
        raise ValueError(
            f"maxlen={maxlen} is too large: the model of {name!r} has {positions} positions; give "
            "that or less"
        )


def _assets(scratch: Path, tasks: Mapping[str, Task], tokenizer: Tokenizer | None) -> Any:
    files = {f"labels_{name}": task.labels for name, task in tasks.items() if task.labels}
    if tokenizer is not None:
        known = {i: token for token, i in tokenizer._token_dict.items()}
        files["vocab"] = tuple(known.get(i, f"[id{i}]") for i in range(max(known) + 1))
    assets = {}
    for role, lines in files.items():
        assets[role] = scratch / f"{role}.txt"
        text = "".join(f"{line}\n" for line in lines)
        assets[role].write_text(text, encoding="utf-8", newline="\n")
    return assets
