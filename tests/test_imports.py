"""What importing the library does, seen from fresh processes: nothing, and without Keras."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from _sources import ROOT

# Put in front of a script: these packages look as if they were not installed.
WITHOUT = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""
BACKENDS = frozenset({"tensorflow", "jax", "jaxlib", "torch"})
OPTIONS = {"h5py", "jieba", "rjieba", "sentencepiece", "google_crc32c"}
NUMPY_ONLY = BACKENDS | OPTIONS | {"keras", "tf_keras"}


def run_python(script: str, *, missing: frozenset[str] = frozenset(), cwd: Path = ROOT) -> str:
    """What a fresh interpreter prints for the script; the test fails where it fails."""
    hook = WITHOUT.format(missing=sorted(missing)) if missing else ""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:bert4kexue", "-"],
        input=hook + textwrap.dedent(script),
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_hook_hides_an_installed_package() -> None:
    script = """
        try:
            import h5py
        except ModuleNotFoundError as error:
            print(error.name)
    """
    assert run_python(script, missing=frozenset({"h5py"})).split() == ["h5py"]


def test_importing_the_package_imports_neither_keras_nor_numpy() -> None:
    script = """
        import sys
        before = set(sys.modules)
        import bert4kexue
        print(bert4kexue.__version__)
        print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
    """
    version, new = run_python(script).splitlines()
    assert version.count(".") == 2
    assert new == "['bert4kexue']"


def test_the_tokenizer_works_where_keras_is_not_installed() -> None:
    script = """
        import sys
        from bert4kexue.tokenizers import Tokenizer
        words = "[PAD] [UNK] [CLS] [SEP] [MASK] 科 学 空 间 ker ##as".split()
        tokenizer = Tokenizer({word: i for i, word in enumerate(words)}, do_lower_case=True)
        print(*tokenizer.encode("科学 Keras！")[0])
        print(*tokenizer.encode_batch(["科学 Keras！", "空间"]).token_ids.tolist())
        print(tokenizer.decode([2, 5, 6, 9, 10, 3]))
        print([name for name in sys.modules if name.partition(".")[0] in ("keras", "tensorflow")])
    """
    ids, batch, text, keras = run_python(script, missing=NUMPY_ONLY).splitlines()
    assert ids == "2 5 6 9 10 1 3"
    assert batch == "[2, 5, 6, 9, 10, 1, 3] [2, 7, 8, 3, 0, 0, 0]"
    assert text == "科学keras"
    assert keras == "[]"


def test_checkpoints_are_written_and_read_where_keras_is_not_installed(tmp_path: Path) -> None:
    script = f"""
        import numpy as np
        from bert4kexue.checkpoints import open_checkpoint, write_tf_checkpoint
        prefix = {str(tmp_path / "bert_model.ckpt")!r}
        write_tf_checkpoint(prefix, {{"bert/pooler/dense/bias": np.arange(3, dtype=np.float32)}})
        with open_checkpoint(prefix) as checkpoint:
            print(checkpoint.names(), checkpoint.read("bert/pooler/dense/bias").tolist())
    """
    printed = run_python(script, missing=NUMPY_ONLY)
    assert printed.split("\n")[0] == "['bert/pooler/dense/bias'] [0.0, 1.0, 2.0]"


def test_the_tree_and_beam_search_work_where_keras_is_not_installed() -> None:
    script = """
        import numpy as np
        from bert4kexue.decoding.trie import PrefixTree
        import bert4kexue.decoding.autoregressive
        import bert4kexue.decoding.constraints
        tree = PrefixTree.from_keys([[5, 6, 3], [5, 7, 3]], ["a", "b"])
        print(tree.allowed(tree.step(tree.root, 5)).tolist())
    """
    assert run_python(script, missing=NUMPY_ONLY).strip() == "[6, 7]"


def test_without_a_backend_the_error_says_what_to_install() -> None:
    script = """
        try:
            from bert4kexue.models import build_transformer_model
        except ImportError as error:
            print(error)
    """
    printed = run_python(script, missing=BACKENDS)
    assert "bert4kexue[tensorflow]" in printed
    assert "jax" in printed
    assert "torch" in printed


# Snapshots of everything that a library could bend, by identity.
SNAPSHOT = """
import builtins, importlib, logging, os, pkgutil, sys, types, warnings
import keras, numpy

def public(owner):
    return {
        name: id(value)
        for name, value in vars(owner).items()
        if not isinstance(value, types.ModuleType)
        and name not in ("_", "__builtins__", "__warningregistry__", "__cached__")
    }

def snapshot():
    modules = [builtins, numpy] + [
        module
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] == "keras" and isinstance(module, types.ModuleType)
    ]
    owners = {module.__name__: module for module in modules}
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__.partition(".")[0] == "keras":
                owners[f"{value.__module__}.{value.__qualname__}"] = value
    state = {name: public(owner) for name, owner in owners.items()}
    state["custom objects"] = {
        name: id(value)
        for name, value in keras.saving.get_custom_objects().items()
        if not name.startswith("bert4kexue>")
    }
    state["config"] = {
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "policy": keras.config.dtype_policy().name,
        "backend": keras.config.backend(),
        "format": keras.config.image_data_format(),
    }
    state["environment"] = dict(os.environ)
    state["warnings"] = {i: repr(entry) for i, entry in enumerate(warnings.filters)}
    state["logging"] = {i: repr(h) for i, h in enumerate(logging.getLogger().handlers)}
    state["random"] = {"numpy": hash(numpy.random.get_state()[1].tobytes())}
    state["paths"] = dict(enumerate(sys.path))
    return state

def differences(before, after):
    for owner, values in before.items():
        for name in sorted({*values, *after[owner]}, key=str):
            if values.get(name) != after[owner].get(name):
                yield f"{owner}: {name}"
"""
IMPORT_ALL = """
import bert4kexue
imported = 0
for found in pkgutil.walk_packages(bert4kexue.__path__, "bert4kexue."):
    if not found.name.endswith("__main__") and found.name != "bert4kexue.compat.install":
        importlib.import_module(found.name)
        imported += 1
assert imported > 20, imported
"""


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (IMPORT_ALL, []),
        ("keras.layers.Layer.call_twice = print", ["keras.src.layers.layer.Layer: call_twice"]),
        ("keras.ops.relu = keras.ops.gelu", ["keras.ops: relu"]),
        ("builtins.strtobool = bool", ["builtins: strtobool"]),
        (
            "keras.saving.get_custom_objects()['gelu'] = keras.ops.gelu",
            ["custom objects: gelu"],
        ),
        ("keras.config.set_epsilon(1e-3)", ["config: epsilon"]),
        ("os.environ['TF_KERAS'] = '1'", ["environment: TF_KERAS"]),
    ],
    ids=[
        "every module",
        "a method",
        "a function",
        "builtins",
        "an object",
        "config",
        "environment",
    ],
)
def test_nothing_is_patched_at_import(act: str, seen: list[str]) -> None:
    """The first row imports every module; the others prove that the snapshot sees a patch."""
    report = "print('\\n'.join(differences(before, snapshot())))"
    printed = run_python(f"{SNAPSHOT}\nbefore = snapshot()\n{act}\n{report}")
    lines = [line for line in printed.splitlines() if line]
    assert set(seen) <= set(lines) if seen else not lines, lines
