"""What every oracle script shares: cases kept in one .npz, checked or written.

A golden file holds a JSON text under "manifest" (what was computed, and from which seeds) and
arrays under "<case>/<name>". `--check` computes everything again and compares; `--write` replaces
the file.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(ROOT / "tests"))

Golden = tuple[dict[str, Any], dict[str, np.ndarray]]


def read(path: Path) -> Golden:
    """Manifest and arrays of a golden file."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(arrays.pop("manifest").item()), arrays


def encode(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a golden file; the same for the same content."""
    text = json.dumps(manifest, ensure_ascii=False, sort_keys=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, manifest=np.array(text), **arrays)
    return buffer.getvalue()


def replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def differences(fresh: Golden, kept: Golden, tolerance: float) -> list[str]:
    """Where two golden files disagree, one line each; none where they agree."""
    found = []
    for key in sorted(fresh[0].keys() | kept[0].keys()):
        if key == "made_with":  # versions may move; what they compute may not
            continue
        if fresh[0].get(key) != kept[0].get(key):
            found.append(f"manifest entry {key!r} differs")
    for name in sorted(fresh[1].keys() | kept[1].keys()):
        if name not in fresh[1] or name not in kept[1]:
            where = "golden file" if name in kept[1] else "fresh run"
            found.append(f"{name}: only in the {where}")
            continue
        new, old = fresh[1][name], kept[1][name]
        if new.shape != old.shape or new.dtype != old.dtype:
            found.append(f"{name}: {new.dtype}{new.shape}, golden {old.dtype}{old.shape}")
        elif new.dtype.kind == "f":
            # NaN compares false, so that it counts as a difference.
            worst = np.abs(new.astype(np.float64) - old.astype(np.float64)).max(initial=0)
            if not worst <= tolerance:
                found.append(f"{name}: differs by {worst:.3g}, tolerance {tolerance:g}")
        elif not np.array_equal(new, old):
            found.append(f"{name}: {int((new != old).sum())} of {new.size} values differ")
    return found


def main(make: Callable[[], Golden], path: Path, tolerance: float) -> int:
    """Run an oracle script's command line: `--check` (the default) or `--write`."""
    parser = argparse.ArgumentParser(description=f"Makes or checks {path.relative_to(ROOT)}.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="compare with the file (default)")
    choice.add_argument("--write", action="store_true", help="replace the file")
    arguments = parser.parse_args()
    if not arguments.write and not path.is_file():
        print(f"{path} is missing; make it with --write")
        return 1
    fresh = make()
    if arguments.write:
        content = encode(*fresh)
        replace(path, content)
        print(f"wrote {path.relative_to(ROOT)}: {len(fresh[1])} arrays, {len(content)} bytes")
        return 0
    found = differences(fresh, read(path), tolerance)
    for line in found:
        print(line)
    if not found:
        print(f"{path.relative_to(ROOT)}: {len(fresh[1])} arrays agree within {tolerance:g}")
    return 1 if found else 0
