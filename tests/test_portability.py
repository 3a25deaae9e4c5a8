"""What can be known about Windows and macOS on any machine, from the sources alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePosixPath

import pytest
from _sources import ROOT, project_files, python_files, relative

PYTHON = python_files()
SUFFIXES = {".py", ".md", ".toml", ".txt", ".json", ".in", ".cfg", ".yml", ".sh", ""}
TEXTS = [path for path in project_files() if path.suffix in SUFFIXES]
ON_WINDOWS_TAKEN = {"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in "123")}
# Written in pieces, so that this file does not hold what it looks for.
REGISTRIES = ["pypi" + ".org", "python" + "hosted", "registry.np" + "mjs", "deb.deb" + "ian"]
# Files are put in place by os.replace; this file moves whole folders, to names that are free.
RENAMES_FOLDERS = "bert4kexue/_files.py"
DATA_FOLDER = "shared" + "/data"
MACHINE = re.compile(r"(?<![\w.])/(?:" + "work|root" + r")/\w")


# Calls that open a file: the position of their mode, and the mode where they name none.
MODES = {"open": (1, "r"), "io.open": (1, "r"), "os.fdopen": (1, "r"), "gzip.open": (1, "rb")}
TEMPORARY = (0, "w+b")
METHOD = (0, "r")
NOT_TEXT = {"os.open", "zipfile.open", "tarfile.open", "webbrowser.open"}


def text_files_without_encoding(source: str) -> list[str]:
    """Calls that open a text file in whatever encoding, or with whatever line ends, is around."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        function = ast.unparse(node.func)
        name = function.rpartition(".")[2]
        if name in {"read_text", "write_text"}:
            writes = name == "write_text"
            if node.args[int(writes) :]:
                keywords["encoding"] = node.args[-1]
        elif name in {"open", "fdopen", "NamedTemporaryFile", "TemporaryFile"}:
            if function in NOT_TEXT:
                continue
            position, mode = MODES.get(function, TEMPORARY if name.endswith("File") else METHOD)
            given = keywords.get("mode", next(iter(node.args[position : position + 1]), None))
            if given is not None:
                mode = ast.literal_eval(given) if isinstance(given, ast.Constant) else "b"
            if "b" in mode:
                continue
            writes = bool(set(mode) & set("wax+"))
        else:
            continue
        if None in keywords:  # **options: not to be known here
            continue
        if "encoding" not in keywords:
            found.append(f"line {node.lineno}: no encoding in {ast.unparse(node)}")
        elif writes and "newline" not in keywords:
            found.append(f"line {node.lineno}: no newline in {ast.unparse(node)}")
    return found


def tied_to_one_system(source: str) -> list[str]:
    """Calls that exist, or mean the same, on one kind of system only."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in {"os.fork", "os.rename", "os.mkfifo", "os.getuid", "os.uname", "os.link"}:
                found.append(f"line {node.lineno}: {name}")
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0] if node.args else None
            value = first.value if isinstance(first, ast.Constant) else None
            if name in {"get_context", "set_start_method"} and value in {"fork", "forkserver"}:
                found.append(f"line {node.lineno}: processes started by {value}")
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and re.match(r"/(tmp|dev|proc|etc)(/|$)", text):
            found.append(f"line {node.lineno}: the path {text!r}")
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {getattr(node, "module", None), *(name.name for name in node.names)}
            for name in names & {"fcntl", "pwd", "grp", "resource", "termios", "uvloop"}:
                found.append(f"line {node.lineno}: import {name}")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "open(path, 'w', encoding='utf-8')",
        "path.open()",
        "path.open('w', encoding='utf-8')",
        "path.read_text()",
        "path.write_text(text)",
        "path.write_text(text, encoding='utf-8')",
        "io.open(path, mode='a', encoding='utf-8')",
        "os.fdopen(handle, 'w')",
        "gzip.open(path, 'rt')",
        "tempfile.NamedTemporaryFile('w')",
    ],
)
def test_an_open_without_encoding_is_seen(source: str) -> None:
    assert text_files_without_encoding(source)


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'rb')",
        "open(path, encoding='utf-8')",
        "path.open('rb')",
        "path.write_text(text, encoding='utf-8', newline='\\n')",
        "path.read_text('utf-8')",
        "gzip.open(path)",
        "os.open(path, flags)",
        "tempfile.NamedTemporaryFile()",
        "open_checkpoint(path)",
    ],
)
def test_a_careful_open_is_let_through(source: str) -> None:
    assert not text_files_without_encoding(source)


@pytest.mark.parametrize(
    "source",
    [
        "os.fork()",
        "os.rename(a, b)",
        "multiprocessing.get_context('fork')",
        "open('/tmp/x', 'rb')",
        "import fcntl",
        "from resource import getrusage",
    ],
)
def test_what_one_system_alone_has_is_seen(source: str) -> None:
    assert tied_to_one_system(source)


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_text_files_are_opened_as_utf8_with_plain_line_ends(path: Path) -> None:
    found = text_files_without_encoding(path.read_text(encoding="utf-8"))
    if relative(path).startswith(("tests/", "benchmarks/")):  # nobody keeps the files they write
        found = [item for item in found if "no newline" not in item]
    assert not found, "\n".join(found)


def test_the_library_runs_on_every_system() -> None:
    found = [
        f"{relative(path)} {item}"
        for path in python_files("bert4kexue", "examples")
        for item in tied_to_one_system(path.read_text(encoding="utf-8"))
        if not (relative(path) == RENAMES_FOLDERS and item.endswith("os.rename"))
    ]
    assert not found, "\n".join(found)


def test_every_text_file_is_utf8_with_plain_line_ends() -> None:
    assert len(TEXTS) > 50
    found = []
    for path in TEXTS:
        data = path.read_bytes()
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            found.append(f"{relative(path)}: {error}")
        if data.startswith(b"\xef\xbb\xbf"):
            found.append(f"{relative(path)}: byte order mark")
        if b"\r" in data:
            found.append(f"{relative(path)}: carriage returns")
        if data and not data.endswith(b"\n"):
            found.append(f"{relative(path)}: no line end at the end")
    assert not found, "\n".join(found)


def test_file_names_can_be_checked_out_on_windows_and_macos() -> None:
    names = [relative(path) for path in project_files()]
    assert len({name.casefold() for name in names}) == len(names), "names differ in case alone"
    for name in names:
        for part in PurePosixPath(name).parts:
            assert re.fullmatch(r"[\w.+-]+", part), name
            assert not part.endswith("."), name
            assert part.partition(".")[0].casefold() not in ON_WINDOWS_TAKEN, name
        assert len(name) < 150, name


def test_only_the_ci_script_knows_where_the_data_stands() -> None:
    holders = {relative(p) for p in TEXTS if DATA_FOLDER in p.read_text(encoding="utf-8")}
    assert holders == {".ci/run"}


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = []
    for path in TEXTS:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE.search(line) or any(registry in line for registry in REGISTRIES):
                found.append(f"{relative(path)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_relative_links_of_the_pages_lead_somewhere() -> None:
    pages = [path for path in project_files() if path.suffix == ".md"]
    assert ROOT / "README.md" in pages
    dead = []
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            local = not re.match(r"[a-z]+:|#", target)
            if local and not (page.parent / target.partition("#")[0]).exists():
                dead.append(f"{relative(page)}: {target}")
    assert not dead, "\n".join(dead)
