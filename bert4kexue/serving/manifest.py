"""Checksums of an export, in the format of ``sha256sum``.

``cd VERSION; sha256sum -c assets.extra/SHA256SUMS`` checks it too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

MANIFEST = "assets.extra/SHA256SUMS"


def write_manifest(folder: Path) -> None:
    """List every file of the folder but the manifest itself."""
    lines = [f"{_digest(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8", newline="\n")


def check_manifest(folder: Path) -> None:
    """Compare the folder with its manifest.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file is missing, changed, or was added; one error lists them all.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {MANIFEST}: give the numbered folder that `bert4kexue export` wrote"
        )
    expected = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, separator, name = line.partition("  ")
        if not separator:
            raise ValueError(f"{path} is damaged: no checksum and name in the line {line!r}")
        expected[name] = digest
    present = set(_files(folder))
    faults = [f"{name} is missing" for name in expected if name not in present]
    faults += [f"{name} was added" for name in sorted(present - expected.keys())]
    faults += [
        f"{name} was changed"
        for name, digest in expected.items()
        if name in present and _digest(folder / name) != digest
    ]
    if faults:
        raise ValueError(f"{folder} is not what was exported: {'; '.join(faults)}. Export it again")


def _files(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
