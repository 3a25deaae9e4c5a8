"""Make the oracles' environments, run their scripts, say whether the golden numbers still agree.

    python oracles/run.py                      check every script's golden numbers
    python oracles/run.py minilm               check one
    python oracles/run.py --write tf1_saver    make them again

A script declares `ENVIRONMENT = "bert4keras"`, `"huggingface"` or `"pythae"` and understands
`--check` and `--write`. Each environment is a folder `.venv-oracle-<name>` beside this one, made
once from requirements-<name>.txt with Python 3.11: the interpreter in $PYTHON311, else this one,
else `python3.11` on PATH. Exit status: 0 all agree, 1 some script disagrees, 2 nothing could be
run.
Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
ENVIRONMENTS = ("bert4keras", "huggingface", "pythae")


class OracleError(Exception):
    """An environment that cannot be made; the text says what to do."""


def declared_environment(script: Path) -> str | None:
    """The value of a script's `ENVIRONMENT = "..."`, read without running it."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == "ENVIRONMENT":
                    return node.value.value
    return None


def find_scripts() -> dict[str, tuple[Path, str]]:
    """Name -> (script, environment) of every oracle in this folder."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        environment = declared_environment(path)
        if environment is None:
            continue
        if environment not in ENVIRONMENTS:
            raise OracleError(
                f"{path.name} declares ENVIRONMENT = {environment!r}; there are {ENVIRONMENTS}"
            )
        found[path.stem] = (path, environment)
    return found


def is_python311(command: str) -> bool:
    """Whether a command starts Python 3.11 (a shim on PATH may not)."""
    question = [command, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"]
    return subprocess.run(question, capture_output=True, check=False).returncode == 0


def find_python311() -> str:
    """An interpreter of the version that TensorFlow 2.15 and bert4keras can both live with."""
    given = os.environ.get("PYTHON311")
    if given:
        if shutil.which(given) and is_python311(given):
            return given
        raise OracleError(f"PYTHON311={given!r} is not a Python 3.11 that can be run")
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    names = ["python3.11", "python3", "python"]
    # Every folder of PATH, not only the first: a version manager's shim may hide a real one.
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for name in names:
            command = shutil.which(name, path=folder)
            if command and is_python311(command):
                return command
    raise OracleError("no Python 3.11 on PATH: install one, or name it in the variable PYTHON311")


def environment_python(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_environment(name: str) -> Path:
    """Make `.venv-oracle-<name>` where it is missing or of other requirements; its interpreter."""
    folder = ROOT / f".venv-oracle-{name}"
    python = environment_python(folder)
    files = [FOLDER / f"requirements-{name}.txt", FOLDER / f"requirements-{name}-no-deps.txt"]
    wanted = "".join(file.read_text(encoding="utf-8") for file in files)
    stamp = folder / "made-from.txt"
    if stamp.is_file() and python.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    base = find_python311()
    print(f"making {folder.name} with {base} (once; downloads about 1 GB)", flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [
        [base, "-m", "venv", "--clear", str(folder)],
        [*pip, "--upgrade", "pip"],
        [*pip, "-r", str(files[0])],
        [*pip, "--no-deps", "-r", str(files[1])],
    ]
    for step in steps:
        if subprocess.run(step, check=False).returncode:
            raise OracleError(f"{folder.name} could not be made: {' '.join(step)} failed")
    stamp.write_text(wanted, encoding="utf-8", newline="\n")
    return python


def run_script(python: Path, script: Path, mode: str) -> bool:
    """Run one oracle, pass its words on, and say whether it agreed."""
    environment = {
        **os.environ,
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HF_HUB_OFFLINE": "1",
    }
    begin = time.monotonic()
    result = subprocess.run(
        [str(python), str(script), mode],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    seconds = time.monotonic() - begin
    good = result.returncode == 0
    word = ("wrote" if mode == "--write" else "agrees") if good else "DISAGREES"
    print(f"{word:9} {script.stem} ({seconds:.0f} s)")
    lines = result.stdout.splitlines()
    if not good:
        lines += result.stderr.splitlines()[-30:]
    for line in lines:
        print(f"          {line}")
    sys.stdout.flush()
    return good


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scripts", nargs="*", help="names of scripts; all when none is given")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="compare (default)")
    choice.add_argument("--write", action="store_true", help="make the golden files again")
    for name in ENVIRONMENTS:
        parser.add_argument(
            f"--python-{name}",
            metavar="PATH",
            help=f"an interpreter that already has what requirements-{name}*.txt list",
        )
    arguments = parser.parse_args()
    try:
        scripts = find_scripts()
        unknown = sorted({Path(s).stem for s in arguments.scripts} - scripts.keys())
        if unknown:
            raise OracleError(f"there is no script {unknown}; there are {sorted(scripts)}")
        chosen = {Path(s).stem for s in arguments.scripts} or scripts.keys()
        pythons: dict[str, Path] = {}
        for name in {scripts[script][1] for script in chosen}:
            given = getattr(arguments, f"python_{name}")
            pythons[name] = Path(given) if given else make_environment(name)
    except OracleError as problem:
        print(problem, file=sys.stderr)
        return 2
    mode = "--write" if arguments.write else "--check"
    good = {
        name: run_script(pythons[environment], path, mode)
        for name, (path, environment) in scripts.items()
        if name in chosen
    }
    bad = sorted(name for name, fine in good.items() if not fine)
    done = "written" if arguments.write else "agree"
    print(f"{len(good) - len(bad)} of {len(good)} {done}" + (f"; not: {bad}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
