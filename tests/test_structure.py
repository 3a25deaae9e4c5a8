"""The rules that keep the library livable, proven on the syntax tree of every file.

Each rule is a function from a source text to its violations, so that the rule itself is tested:
`test_the_rules_see_what_they_forbid` gives each a text that breaks it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from _sources import PACKAGE, imports, module_name, python_files, relative

# A file imports only from its own or a lower level. L0's folders do not import each other either.
LEVELS = {
    "text": 0,
    "checkpoints": 0,
    "decoding": 0,
    "analysis": 0,
    "_files": 0,
    "_keras": 1,
    "ops": 1,
    "layers": 2,
    "optimizers": 2,
    "metrics": 2,
    "training": 2,
    "models": 3,
    "methods": 4,
    "serving": 5,
    "compat": 6,
    "cli": 7,
    # A way in for `python -m bert4kexue`, and the facades with bert4keras's names: re-exports that
    # users import and no file of the library does.
    "__main__": 8,
    "backend": 8,
    "snippets": 8,
    "tokenizers": 8,
}
FACADES = {"backend", "snippets", "tokenizers"}
SHARED_IN_L0 = {"_files"}
# What the tokenizer, the trie and the checkpoint reader may need beyond the standard library.
L0_AT_THE_TOP = {"numpy", "ml_dtypes"}
L0_IN_A_FUNCTION = {
    *L0_AT_THE_TOP,
    "h5py",
    "jieba",
    "rjieba",
    "sentencepiece",
    "rapidfuzz",
    "sklearn",
    "google_crc32c",
}
# AutoRegressiveDecoder.last_token takes a Keras model: it imports Keras when it is called.
KERAS_IN_A_FUNCTION_OF = {"bert4kexue/decoding/autoregressive.py"}
BACKENDS = {"tensorflow", "jax", "torch"}
# A longer file holds more than one idea, unless it is said here why it does not.
LONGEST = 400
LONGER_BECAUSE: dict[str, str] = {
    "bert4kexue/decoding/autoregressive.py": "one class by contract: three searches on one loop",
}

LIBRARY = python_files("bert4kexue")


def piece(module: str) -> str | None:
    """The folder or file below the package that a module belongs to; None for anything else."""
    parts = module.split(".")
    return parts[1] if parts[0] == "bert4kexue" and len(parts) > 1 else None


def upward_imports(source: str, path: Path) -> list[str]:
    """Imports, inside functions too, of a higher level or of a facade or across L0's folders."""
    own = piece(module_name(path))
    found = []
    for item in imports(source, module_name(path), is_package=path.name == "__init__.py"):
        other = piece(item.module)
        if other is None or other == own or other.startswith("__version"):
            continue
        where = f"{relative(path)}:{item.line} imports {item.module}"
        if own is None:
            found.append(f"{where}: bert4kexue/__init__.py imports nothing of the library")
        elif other not in LEVELS:
            found.append(f"{where}: {other} has no level in LEVELS")
        elif own not in LEVELS:
            found.append(f"{where}: {own} has no level in LEVELS")
        elif LEVELS[other] > LEVELS[own]:
            found.append(f"{where}: L{LEVELS[own]} may not import L{LEVELS[other]}")
        elif other in FACADES:
            found.append(f"{where}: a facade is for users; import what it re-exports")
        elif LEVELS[own] == LEVELS[other] == 0 and other not in SHARED_IN_L0:
            found.append(f"{where}: the folders of L0 do not know each other")
    return found


def foreign_imports_in_l0(source: str, path: Path) -> list[str]:
    """What a file of L0 imports beyond the standard library, NumPy, ml_dtypes and its options."""
    if LEVELS.get(piece(module_name(path)) or "") != 0:
        return []
    found = []
    for item in imports(source, module_name(path), is_package=path.name == "__init__.py"):
        top = item.module.partition(".")[0]
        if top in sys.stdlib_module_names or top == "bert4kexue":
            continue
        allowed = L0_IN_A_FUNCTION if item.inside_function else L0_AT_THE_TOP
        if item.inside_function and relative(path) in KERAS_IN_A_FUNCTION_OF:
            allowed = allowed | {"keras"}
        if top not in allowed:
            found.append(f"{relative(path)}:{item.line} imports {item.module}")
    return found


def backends_at_the_top(source: str, path: Path) -> list[str]:
    """TensorFlow, JAX or torch imported with the module: a user of one would need the others."""
    return [
        f"{relative(path)}:{item.line} imports {item.module}"
        for item in imports(source, module_name(path), is_package=path.name == "__init__.py")
        if item.module.partition(".")[0] in BACKENDS and not item.inside_function
    ]


def forks_by_backend(source: str, path: Path) -> list[str]:
    """Questions for the backend's name in ops and layers: there is one code path for all three."""
    if piece(module_name(path)) not in {"ops", "layers"}:
        return []
    return [
        f"{relative(path)}:{node.lineno} asks {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("backend")
    ]


def hidden_state(source: str, path: Path) -> list[str]:
    """Caches that outlive a call, and switches read from the environment."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                name = ast.unparse(decorator).partition("(")[0].rpartition(".")[2]
                if name in {"cache", "lru_cache"}:
                    found.append(f"{relative(path)}:{node.lineno} {node.name} is cached for ever")
        if isinstance(node, ast.Global):
            found.append(f"{relative(path)}:{node.lineno} global {', '.join(node.names)}")
        reads = isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in {
            "os.environ",
            "os.getenv",
            "environ",
            "getenv",
        }
        if reads and piece(module_name(path)) != "cli":
            found.append(f"{relative(path)}:{node.lineno} reads the environment")
    return found


def work_at_import(source: str, path: Path) -> list[str]:
    """Statements at module level that do something: loops, bare calls, files, deletions."""
    if path.name == "__main__.py":  # nobody imports it: it is run
        return []
    found = []
    for node in ast.parse(source).body:
        inert = isinstance(
            node,
            ast.Import
            | ast.ImportFrom
            | ast.FunctionDef
            | ast.ClassDef
            | ast.Assign
            | ast.AnnAssign
            | ast.If
            | ast.Try,
        )
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not inert and not text:
            found.append(f"{relative(path)}:{node.lineno} {ast.unparse(node).splitlines()[0]}")
    return found


RULES = {
    "imports point down": upward_imports,
    "L0 needs NumPy alone": foreign_imports_in_l0,
    "no backend is imported with a module": backends_at_the_top,
    "one code path for every backend": forks_by_backend,
    "no hidden state": hidden_state,
    "no work at import": work_at_import,
}


def test_the_package_was_found() -> None:
    assert {"__init__", "vocab"} <= {path.stem for path in LIBRARY}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_every_file_keeps(rule) -> None:
    found = [
        violation for path in LIBRARY for violation in rule(path.read_text(encoding="utf-8"), path)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "file", "source"),
    [
        (upward_imports, "text/vocab.py", "from bert4kexue.ops import attention"),
        (upward_imports, "text/vocab.py", "from ..checkpoints import reader"),
        (upward_imports, "text/vocab.py", "def f():\n    import bert4kexue.models.factory"),
        (upward_imports, "ops/masking.py", "from .. import layers"),
        (upward_imports, "models/parts.py", "from bert4kexue.serving.export import export"),
        (upward_imports, "cli/inspect.py", "from bert4kexue import tokenizers, unheard_of"),
        (upward_imports, "serving/export.py", "from bert4kexue.tokenizers import Tokenizer"),
        (upward_imports, "__init__.py", "from .text import vocab"),
        (foreign_imports_in_l0, "text/vocab.py", "import keras"),
        (foreign_imports_in_l0, "text/segment.py", "import jieba"),
        (foreign_imports_in_l0, "checkpoints/reader.py", "def f():\n    import tensorflow"),
        (foreign_imports_in_l0, "decoding/trie.py", "def f():\n    from keras import ops"),
        (backends_at_the_top, "serving/export.py", "import tensorflow as tf"),
        (forks_by_backend, "layers/attention.py", "if keras.backend.backend() == 'jax':\n  pass"),
        (hidden_state, "ops/masking.py", "@functools.lru_cache(None)\ndef f(): pass"),
        (hidden_state, "models/factory.py", "def f():\n    return os.environ['TF_KERAS']"),
        (hidden_state, "models/factory.py", "def f():\n    global table\n    table = 1"),
        (work_at_import, "models/factory.py", "keras.config.set_floatx('float16')"),
        (work_at_import, "models/factory.py", "for name in names:\n    table[name] = 1"),
    ],
)
def test_the_rules_see_what_they_forbid(rule, file: str, source: str) -> None:
    assert rule(source, PACKAGE / file)


@pytest.mark.parametrize(
    ("rule", "file", "source"),
    [
        (upward_imports, "models/parts.py", "from ..ops.masking import f\nfrom .config import C"),
        (upward_imports, "text/vocab.py", "from .._files import replace"),
        (
            upward_imports,
            "text/vocab.py",
            "if TYPE_CHECKING:\n    from bert4kexue.models.factory import f",
        ),
        (foreign_imports_in_l0, "text/segment.py", "def f():\n    import jieba"),
        (backends_at_the_top, "serving/export.py", "def f():\n    import tensorflow as tf"),
        (hidden_state, "text/vocab.py", "@functools.cached_property\ndef f(self): pass"),
    ],
)
def test_the_rules_allow_what_is_meant_to_be(rule, file: str, source: str) -> None:
    assert not rule(source, PACKAGE / file)


def test_a_long_file_is_long_for_a_reason() -> None:
    lengths = {
        relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in LIBRARY
    }
    too_long = {
        file: n for file, n in lengths.items() if n > LONGEST and file not in LONGER_BECAUSE
    }
    assert not too_long
    out_of_date = [file for file in LONGER_BECAUSE if lengths.get(file, 0) <= LONGEST]
    assert not out_of_date, "no longer long: take them off LONGER_BECAUSE"
