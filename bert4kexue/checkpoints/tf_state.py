"""The text file `checkpoint` beside TensorFlow checkpoints, which names the latest one.

It is a text-format protobuf; only `model_checkpoint_path: "..."` matters here, a path relative to
the folder or an absolute one of the machine that wrote it.
"""

from __future__ import annotations

import re
from pathlib import Path

_LATEST = re.compile(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)


def latest_in_folder(folder: Path) -> Path | None:
    """Return the prefix that the folder's state file names, where that checkpoint is there.

    Released archives often carry a state file with a path of the machine that trained them: such
    a path is tried by its last part in this folder, and ignored where that is absent too.
    """
    state = folder / "checkpoint"
    if not state.is_file():
        return None
    found = _LATEST.search(state.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        return None
    name = found.group(1).replace('\\"', '"').replace("\\\\", "\\")
    for prefix in (folder / name, folder / re.split(r"[/\\]", name)[-1]):
        if prefix.name and prefix.with_name(prefix.name + ".index").is_file():
            return prefix
    return None


def state_text(name: str) -> str:
    """Return the content of a state file that names one checkpoint of its own folder."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'model_checkpoint_path: "{quoted}"\nall_model_checkpoint_paths: "{quoted}"\n'
