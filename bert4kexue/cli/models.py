"""What commands share that work with a model: a folder in the original layout, loaded."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable
from typing import Any


def add_model_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--model and --family."""
    parser.add_argument(
        "--model",
        required=required,
        metavar="NAME",
        help="folder in the original layout (bert_config.json, vocab.txt, bert_model.ckpt.*), its "
        ".zip or .tar.gz, or a name in pretrained/",
    )
    parser.add_argument(
        "--family",
        metavar="NAME",
        help="bert or roformer; told from the checkpoint's names when left out",
    )


def add_dtype(parser: argparse.ArgumentParser, default: str) -> None:
    """--dtype, of the checkpoint that a training writes."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default=default,
        help=f"of the written checkpoint ({default})",
    )


def given_texts(words: Iterable[str]) -> list[str]:
    """The texts of a command line: a word each, and for - the lines of standard input."""
    texts = (
        text for word in words for text in (sys.stdin.read().split("\n") if word == "-" else [word])
    )
    return [text for text in texts if text.strip()]


def find_family(options: argparse.Namespace) -> str:
    """The family given, or the one that takes the checkpoint whole."""
    if options.family:
        return options.family
    from bert4kexue.checkpoints.places import checkpoint_folder
    from bert4kexue.models.inspection import inspect_checkpoint

    with checkpoint_folder(options.model) as folder:
        found = inspect_checkpoint(folder)
    if found.model is None:
        raise ValueError(
            f"{options.model} is no checkpoint that can be built "
            f"({found.family or 'of no known family'}); "
            f"`bert4kexue inspect {options.model}` tells why"
        )
    return found.model


def load_tokenizer(folder: str) -> Any:
    """The folder's vocabulary as a tokenizer, lower-casing unless the vocabulary is cased."""
    from bert4kexue.checkpoints.places import checkpoint_folder
    from bert4kexue.text.vocab import load_vocab
    from bert4kexue.text.wordpiece import Tokenizer

    with checkpoint_folder(folder) as found:
        path = found / "vocab.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no vocab.txt: put the checkpoint's own there")
        vocabulary = load_vocab(path)
    cased = any(len(t) > 1 and t.isascii() and t.isalpha() and t != t.lower() for t in vocabulary)
    return Tokenizer(vocabulary, do_lower_case=not cased)


def model_fingerprint(name: str) -> str:
    """SHA-256 of the files of a folder, its notes (.md) left out, or of an archive."""
    from bert4kexue.checkpoints.places import find_checkpoint

    path, digest = find_checkpoint(name), hashlib.sha256()
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    for each in inside:
        if each.is_file() and each.suffix != ".md":
            with open(each, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update((each.name if path.is_dir() else "").encode() + b"\0" + content)
    return digest.hexdigest()


def load_knowledge(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The model that --model names, its tokenizer, and the facts of --knowledge, which fit it."""
    from bert4kexue.methods.knowledge_base import KnowledgeBase
    from bert4kexue.methods.knowledge_folder import check_orders
    from bert4kexue.models import build_transformer_model

    check_orders(options.model, options.knowledge)
    tokenizer = load_tokenizer(options.model)
    knowledge = KnowledgeBase.load(options.knowledge, tokenizer)
    model = build_transformer_model(
        options.model, model=find_family(options), application="unilm", with_mlm="linear"
    )
    return model, tokenizer, knowledge
