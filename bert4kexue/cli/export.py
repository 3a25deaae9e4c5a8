"""``bert4kexue export``: a checkpoint as a SavedModel, or for OpenVINO and ONNX."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import find_family, load_tokenizer
from bert4kexue.text.lines import read_lines

_HEADS: dict[str, dict[str, Any]] = {
    "hidden": {},
    "pooled": {"with_pool": "linear"},
    "nsp": {"with_nsp": True},
    "tokens": {"with_mlm": True},
}
_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}

_EPILOG = """\
heads, and the signatures beside serving_default:
  hidden   vectors of every token, (b, n, H)        token_vectors
  pooled   a vector of the sentence, (b, H)         vectors, cosine     RoFormer-Sim, SimBERT
  nsp      next-sentence probabilities, (b, 2)      next_sentence; with --labels zero_shot
  tokens   token probabilities, (b, n, v)           fill

examples:
  bert4kexue export --model pretrained/roformer_tiny_zh --output served/roformer --head pooled
  bert4kexue export --check served/roformer
  bert4kexue export --model chinese_L-12_H-768_A-12 --output served/bert --precision bf16 \
      --sentences some.txt
  bert4kexue export --model pretrained/bert_tiny_nsp_zh --output served/topics --head nsp \
      --labels 体育,财经 --template 这是一则{}新闻
  bert4kexue export --model chinese_L-12_H-768_A-12 --output bert-ov --format openvino

A SavedModel goes to a numbered folder, DIR/1, then DIR/2. The signature serving_default is the
model as it is: int32 token_ids and segment_ids (b, n), both sizes free; NAME takes these too, and
NAME_text takes strings."""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        help="write a SavedModel for TF Serving, or a model for OpenVINO or ONNX",
        description="Writes a SavedModel that needs nothing but TensorFlow to run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="folder in the original layout (bert_config.json, vocab.txt, bert_model.ckpt.*), its "
        ".zip or .tar.gz, or a name in pretrained/",
    )
    parser.add_argument(
        "--family",
        metavar="NAME",
        help="bert or roformer; told from the checkpoint's names when left out",
    )
    parser.add_argument("--output", metavar="DIR", help="the folder to write")
    parser.add_argument("--head", choices=_HEADS, default="hidden", help="what it returns (hidden)")
    parser.add_argument(
        "--format",
        choices=("saved_model", "openvino", "onnx"),
        default="saved_model",
        help="for whom (saved_model)",
    )
    parser.add_argument(
        "--precision",
        choices=_PRECISIONS,
        default="fp32",
        help="of the weights; with openvino, of the arithmetic (fp32)",
    )
    parser.add_argument("--version", type=int, metavar="N", help="the version's number (the next)")
    parser.add_argument(
        "--maxlen",
        type=int,
        metavar="N",
        help="most tokens of a text (what the model has positions for, else 512)",
    )
    parser.add_argument(
        "--sentences",
        metavar="FILE",
        help="one a line: the card says how far bf16 and int8 change the outputs on them",
    )
    parser.add_argument(
        "--inputs",
        choices=("int32", "bert4keras"),
        default="int32",
        help="bert4keras: float32 Input-Token and Input-Segment (int32)",
    )
    parser.add_argument(
        "--labels",
        help="with --head nsp: labels of a zero-shot classifier, separated by commas",
    )
    parser.add_argument(
        "--template",
        action="append",
        help="its prompts, with {} for the label; several are averaged ({})",
    )
    parser.add_argument(
        "--place", choices=("prefix", "suffix"), help="of the prompt before or behind a text"
    )
    parser.add_argument("--no-text", action="store_true", help="only signatures that take ids")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
    parser.add_argument(
        "--check", metavar="DIR", help="check an export in a fresh process, and write nothing"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write it, and say what it takes and gives; or check one."""
    if options.check:
        return _check(options.check)
    if not options.model or not options.output:
        raise ValueError("export needs --model NAME and --output DIR, or --check DIR")
    if options.format == "saved_model":
        return _saved_model(options)
    return _runtime(options)


def _check(folder: str) -> int:
    from bert4kexue.serving.check import check_export, newest

    found = check_export(folder)
    for name, worst in found.items():
        print(f"{name}\t{worst:.1e}")
    print(f"{newest(Path(folder))}: whole, and {len(found)} outputs are those recorded")
    return 0


def _saved_model(options: argparse.Namespace) -> int:
    wanted = Path(options.output, str(options.version))
    if options.version is not None and wanted.exists() and not options.overwrite:
        raise FileExistsError(f"{wanted} exists: choose another version, or pass --overwrite")
    sentences = _sentences(options.sentences)
    _check_labels(options)
    model = _build(options)
    tokenizer = load_tokenizer(options.model)
    from bert4kexue.serving import export_service
    from bert4kexue.serving.card import RECORD
    from bert4kexue.serving.samples import SENTENCES

    path = export_service(
        _tasks(options, model, tokenizer),
        options.output,
        tokenizer=None if options.no_text else tokenizer,
        maxlen=options.maxlen,
        precision=_PRECISIONS[options.precision],  # type: ignore[arg-type]
        inputs=options.inputs,
        version=options.version,
        overwrite=options.overwrite,
        facts={"model": Path(options.model).name, "head": options.head},
        sentences=sentences or SENTENCES,
    )
    told = json.loads((path / RECORD).read_text(encoding="utf-8"))
    for name, signature in told["signatures"].items():
        print(
            f"{path}: {name}({', '.join(signature['inputs'])}) -> {', '.join(signature['outputs'])}"
        )
    return 0


def _check_labels(options: argparse.Namespace) -> None:
    if options.labels and options.head != "nsp":
        raise ValueError(f"--labels need --head nsp, the next-sentence head, got {options.head}")
    if not options.labels and (options.template or options.place):
        raise ValueError("--template and --place say how --labels are asked for: give --labels")


def _sentences(path: str | None) -> list[str]:
    """The lines of a file that are not empty; none where no file is named."""
    if path is None:
        return []
    found = [line for line in read_lines(path) if line.strip()]
    if not found:
        raise ValueError(f"--sentences {path} has no line with text: write one sentence a line")
    return found


def _runtime(options: argparse.Namespace) -> int:
    usual = {
        "version": None,
        "maxlen": None,
        "sentences": None,
        "inputs": "int32",
        "no_text": False,
        "labels": None,
        "template": None,
        "place": None,
    }
    given = [
        "--" + name.replace("_", "-")
        for name, value in usual.items()
        if getattr(options, name) != value
    ]
    if given:
        raise ValueError(
            f"{', '.join(given)} {'are' if given[1:] else 'is'} of a SavedModel: with --format "
            f"{options.format}, ids in and no versions, leave {'them' if given[1:] else 'it'} out"
        )
    from bert4kexue.serving.formats import export_runtime

    model = _build(options)
    path = export_runtime(
        model,
        options.output,
        options.format,
        precision=options.precision,
        overwrite=options.overwrite,
    )
    names = ", ".join(sorted(file.name for file in path.iterdir()))
    print(f"{path}: {names}")
    return 0


def _build(options: argparse.Namespace) -> Any:
    family = find_family(options)
    from bert4kexue.models import build_transformer_model

    return build_transformer_model(options.model, model=family, **_HEADS[options.head])


def _tasks(options: argparse.Namespace, model: Any, tokenizer: Any) -> dict[str, Any]:
    from bert4kexue.serving import signatures

    head = options.head
    if head == "pooled":
        return {"vectors": signatures.sentence_vectors(model), "cosine": signatures.cosine(model)}
    if head == "nsp":
        labels = ("next", "other")
        tasks = {"next_sentence": signatures.classification(model, labels, texts=2)}
        if options.labels:
            tasks["zero_shot"] = signatures.zero_shot(_zero_shot(options, model, tokenizer))
        return tasks
    if head == "tokens":
        return {"fill": signatures.filling(model, tokenizer)}
    return {"token_vectors": signatures.token_vectors(model)}


def _zero_shot(options: argparse.Namespace, model: Any, tokenizer: Any) -> Any:
    from bert4kexue.methods.nsp_prompt import PromptTemplate
    from bert4kexue.methods.zero_shot import ZeroShotClassifier

    labels = [label.strip() for label in options.labels.split(",") if label.strip()]
    place: Any = options.place or "prefix"
    templates = [PromptTemplate.of(one, labels, place) for one in options.template or ["{}"]]
    return ZeroShotClassifier(model, tokenizer, labels, templates, maxlen=options.maxlen)
