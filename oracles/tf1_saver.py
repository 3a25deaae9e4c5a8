"""TensorFlow 1's own Saver writes checkpoints -> tests/golden/tf1_checkpoint/ and tf1_dtypes/.

`tf1_checkpoint/` is a tiny BERT as google's run_pretraining.py leaves one: the original layout
(bert_config.json, vocab.txt, bert_model.ckpt.*) with MLM and NSP heads, two Adam slots for each
weight and global_step. `tf1_dtypes/` has one variable of each element type that checkpoints use.
`checksums.json` beside each says what every variable must be read as: element type, shape, and
SHA-256 of its little-endian bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import _golden
import numpy as np
from _bert4keras import tf
from _reference import random_array, random_checkpoint

ENVIRONMENT = "bert4keras"
SEED = 400

CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 8,
    "initializer_range": 0.02,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pooler_fc_size": 8,
    "pooler_num_attention_heads": 2,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 4,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 23,
}
VOCABULARY = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] 今 天 气 很 好 我 们 去 学 习 , 。 the a read ##s ##er ?"
)


def bert_values() -> dict[str, np.ndarray]:
    """Weights, Adam slots and the step counter of a pretraining run."""
    values = random_checkpoint(CONFIG, "bert", SEED)
    random = np.random.RandomState(SEED + 1)
    for name, array in list(values.items()):
        values[f"{name}/adam_m"] = 1e-3 * random_array(name, array.shape, random)
        values[f"{name}/adam_v"] = np.square(values[f"{name}/adam_m"])
    values["global_step"] = np.array(20000, np.int64)
    return values


def dtype_values() -> dict[str, np.ndarray]:
    """One small array of each element type, a scalar and an empty array among them."""
    random = np.random.RandomState(SEED + 2)
    floats = random.standard_normal((3, 5))
    whole = random.randint(0, 100, (2, 7))
    values = {
        "bfloat16": np.asarray(floats, tf.bfloat16.as_numpy_dtype),
        "bool": floats > 0,
        "complex64": np.asarray(floats + 1j * floats[::-1], np.complex64),
        "empty": np.zeros((0, 4), np.float32),
        "float16": np.asarray(floats, np.float16),
        "float32": np.asarray(floats, np.float32),
        "float64": floats,
        "scalar": np.array(-1.5, np.float32),
    }
    for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16"):
        sign = -1 if kind.startswith("i") else 1
        values[kind] = np.asarray(sign * whole, kind)
    return values


def save(values: dict[str, np.ndarray], prefix: Path) -> None:
    """Write variables of a TensorFlow 1 graph with tf.train.Saver."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        feeds, variables = {}, []
        for name, value in values.items():
            # Fed, not held as a constant, so that every element type goes through unchanged.
            placeholder = v1.placeholder(value.dtype, value.shape)
            variables.append(v1.get_variable(name, initializer=placeholder, use_resource=False))
            feeds[placeholder] = value
        session.run([v.initializer for v in variables], feeds)
        saver = v1.train.Saver(variables)
        saver.save(session, str(prefix), write_meta_graph=False, write_state=False)


def checksums(prefix: Path) -> dict[str, dict]:
    """Element type, shape and SHA-256 of every variable, read by TensorFlow."""
    reader = tf.train.load_checkpoint(str(prefix))
    found = {}
    for name, dtype in sorted(reader.get_variable_to_dtype_map().items()):
        array = np.ascontiguousarray(reader.get_tensor(name))
        digest = hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes())
        found[name] = {
            "dtype": dtype.name,
            "shape": reader.get_variable_to_shape_map()[name],
            "sha256": digest.hexdigest(),
        }
    return found


def text(value: dict) -> bytes:
    """JSON with one entry a line."""
    lines = [f" {json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in value.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def contents() -> dict[str, bytes]:
    """Every file of the two folders, made afresh."""
    files = {
        "tf1_checkpoint/bert_config.json": text(CONFIG),
        "tf1_checkpoint/vocab.txt": ("\n".join(VOCABULARY.split()) + "\n").encode(),
    }
    made = {
        "tf1_checkpoint/bert_model.ckpt": bert_values(),
        "tf1_dtypes/dtypes.ckpt": dtype_values(),
    }
    for name, values in made.items():
        with tempfile.TemporaryDirectory() as temporary:
            prefix = Path(temporary, Path(name).name)
            save(values, prefix)
            for path in sorted(Path(temporary).iterdir()):
                files[f"{Path(name).parent.as_posix()}/{path.name}"] = path.read_bytes()
            files[f"{Path(name).parent.as_posix()}/checksums.json"] = text(checksums(prefix))
    return files


def main() -> int:
    """Run the command line: `--check` (the default) or `--write`."""
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="compare with the files (default)")
    choice.add_argument("--write", action="store_true", help="replace the files")
    write = parser.parse_args().write
    status = 0
    for name, content in contents().items():
        path = _golden.GOLDEN / name
        if write:
            _golden.replace(path, content)
            print(f"wrote tests/golden/{name}: {len(content)} bytes")
        elif not path.is_file():
            print(f"{path} is missing; make it with --write")
            status = 1
        elif path.read_bytes() != content:
            print(f"tests/golden/{name}: not the bytes that TensorFlow {tf.__version__} writes")
            status = 1
    if not write and not status:
        print("tests/golden/tf1_checkpoint and tf1_dtypes: the bytes agree")
    return status


if __name__ == "__main__":
    sys.exit(main())
