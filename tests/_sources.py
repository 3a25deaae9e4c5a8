"""The project's own files, read as text and as syntax trees, for the tests of its structure."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bert4kexue"


def project_files() -> list[Path]:
    """Every file that belongs to the project: what git keeps, and what it would if asked now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        out = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
        names = [name for name in out.decode("utf-8").split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked source distribution
        names = [
            path.relative_to(ROOT).as_posix()
            for path in ROOT.rglob("*")
            if not any(part.startswith((".venv", "__pycache__")) for part in path.parts)
            and not any(part.endswith(".egg-info") for part in path.parts)
        ]
    return sorted(ROOT / name for name in names if (ROOT / name).is_file())


def python_files(*folders: str) -> list[Path]:
    """The project's Python files under these folders of the root (all of them for none)."""
    roots = [ROOT / folder for folder in folders] or [ROOT]
    return [
        path
        for path in project_files()
        if path.suffix == ".py" and any(path.is_relative_to(root) for root in roots)
    ]


def relative(path: Path) -> str:
    """The path as the tests print it: from the root, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """The dotted name of a file: that of its folder for an `__init__.py`."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module: its full dotted name, where, and whether a function does it."""

    module: str
    line: int
    inside_function: bool


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import of a source text, relative ones resolved, `if TYPE_CHECKING:` left out.

    `from a import b` yields `a.b`: b may be a module, and then it is b that is imported.
    """
    package = module if is_package else module.rpartition(".")[0]

    def visit(node: ast.AST, inside: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from visit(child, inside)
            return
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(module=name.name, line=node.lineno, inside_function=inside)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                above = parts[: len(parts) - (node.level - 1)]
                base = ".".join([*above, base] if base else above)
            for name in node.names:
                full = f"{base}.{name.name}"
                yield Import(module=full, line=node.lineno, inside_function=inside)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(source), False)
