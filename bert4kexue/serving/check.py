"""Whether an export is whole and computes what it computed when it was written.

The SavedModel runs in a fresh process that imports TensorFlow and NumPy, and nothing of this
library, as a server would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bert4kexue.serving.manifest import check_manifest
from bert4kexue.serving.samples import RECORDED

TOLERANCE = 1e-5

_SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf
folder, recorded = sys.argv[1:]
loaded = tf.saved_model.load(folder)
arrays = np.load(recorded)
cases = {}
for key in arrays.files:
    signature, side, name = key.split("/")
    cases.setdefault(signature, {"in": {}, "out": {}})[side][name] = arrays[key]
found = {}
for signature, case in cases.items():
    served = loaded.signatures[signature](**{k: tf.constant(v) for k, v in case["in"].items()})
    for name, expected in case["out"].items():
        value = served[name].numpy()
        if value.shape != expected.shape:
            worst = float("inf")
        elif expected.dtype.kind == "f":
            real = np.isfinite(expected)  # infinities stand for what a row has none of
            scale = max(1.0, float(np.abs(expected[real]).max(initial=0)))
            worst = float(np.abs(value[real] - expected[real]).max(initial=0)) / scale
            if not np.array_equal(value[~real], expected[~real]):
                worst = float("inf")
        elif expected.dtype.kind == "U":
            strings = [item.decode() for item in value.ravel().tolist()]
            worst = 0.0 if strings == expected.ravel().tolist() else float("inf")
        else:
            worst = 0.0 if (value == expected).all() else float("inf")
        found[signature + "." + name] = worst
assert not any(name.split(".")[0] == "bert4kexue" for name in sys.modules)
print(json.dumps(found))
"""


def check_export(folder: str | Path) -> dict[str, float]:
    """Verify checksums, load the SavedModel in a fresh process and compare with what it recorded.

    Args:
        folder: a numbered folder, or the one above it, of which the newest version is checked.

    Returns:
        By ``SIGNATURE.OUTPUT`` the largest difference, relative to the largest number where that is
        above 1; 0 for strings and integers.

    Raises:
        FileNotFoundError: there is no export.
        ValueError: a file is missing or changed, or an output differs by more than 1e-5.
        RuntimeError: it cannot be loaded; the message has TensorFlow's last line.
    """
    folder = newest(Path(folder))
    check_manifest(folder)
    words = [sys.executable, "-c", _SCRIPT, str(folder), str(folder / RECORDED)]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{folder} cannot be served: {last}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    wrong = {name: worst for name, worst in found.items() if not worst <= TOLERANCE}
    if wrong:
        raise ValueError(
            f"{folder} computes other outputs than when it was written: {wrong}, at most "
            f"{TOLERANCE} allowed; is another TensorFlow installed than the card says?"
        )
    return found


def newest(folder: Path) -> Path:
    """The folder of the highest version below, or the folder itself where there is none."""
    from bert4kexue.serving.service import versions

    known = versions(folder)
    return folder / str(known[-1]) if known else folder
