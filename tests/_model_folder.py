"""A tiny checkpoint in the original layout, for tests of the command line."""

from __future__ import annotations

import json

from _reference import random_checkpoint
from _tiny import CONFIG

from bert4kexue.checkpoints import write_tf_checkpoint

SENTENCES = ["你好吗", "天气很好", "今天天气好", "再见"]
CHARACTERS = sorted({c for s in SENTENCES for c in s})


def write_folder(path, family="roformer", **change):
    """A random model of SENTENCES' characters; `change` adds variables or replaces them."""
    path.mkdir(exist_ok=True)
    variables = random_checkpoint(CONFIG, family, seed=2)
    write_tf_checkpoint(path / "bert_model.ckpt", {**variables, **change})
    (path / "bert_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "mask", *CHARACTERS]
    tokens += [f"[unused{k}]" for k in range(30 - len(tokens))]
    (path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return path
