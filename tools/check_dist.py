"""Build the wheel and the source distribution, install each in a clean environment, and use it.

`make dist` runs this; the two files stay in dist/. The wheel is installed with its dependencies and
TensorFlow and has to tokenize, write and read a checkpoint, build a model from it and answer on the
command line, all from outside the source tree. The source distribution is built again into a wheel,
which has to hold the same files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"

SMOKE = """
import json, pathlib, sys
import bert4kexue

folder = pathlib.Path(sys.argv[1])
assert "site-packages" in bert4kexue.__file__, bert4kexue.__file__
assert pathlib.Path(bert4kexue.__file__).with_name("py.typed").is_file()

from bert4kexue.tokenizers import Tokenizer
words = "[PAD] [UNK] [CLS] [SEP] [MASK] 科 学 空 间".split()
(folder / "vocab.txt").write_text("\\n".join(words) + "\\n", encoding="utf-8", newline="\\n")
tokenizer = Tokenizer(str(folder / "vocab.txt"))
assert tokenizer.encode("科学")[0] == [2, 5, 6, 3]

from bert4kexue.models import build_transformer_model
config = dict(
    vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, hidden_act="gelu", max_position_embeddings=16, type_vocab_size=2,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)
(folder / "bert_config.json").write_text(json.dumps(config), encoding="utf-8", newline="\\n")
builder = build_transformer_model(
    str(folder / "bert_config.json"), model="roformer", return_keras_model=False
)
builder.save_weights_as_checkpoint(str(folder / "bert_model.ckpt"))
model = build_transformer_model(str(folder), model="roformer")
import numpy as np
ids, segments = tokenizer.encode("科学空间")
inputs = [np.array([ids], "float32"), np.array([segments], "float32")]
np.testing.assert_array_equal(model.predict(inputs, verbose=0),
                              builder.model.predict(inputs, verbose=0))
print("wheel: tokenizer, checkpoint and model work,", bert4kexue.__version__)
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What the command prints; this script ends where the command fails."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    environment |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(map(str, command))}")
    return done.stdout


def clean_environment(folder: Path) -> Path:
    """A virtual environment with pip alone; the path of its folder of programs."""
    venv.create(folder, with_pip=True, clear=True)
    return folder / ("Scripts" if os.name == "nt" else "bin")


def names(wheel: Path) -> set[str]:
    """The files in a wheel, those of its metadata folder left out."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def check_contents(wheel: Path) -> None:
    """The wheel holds the library's files, all of them and nothing else."""
    package = ROOT / "bert4kexue"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = names(wheel)
    if held != wanted:
        sys.exit(f"wheel: missing {sorted(wanted - held)}, too many {sorted(held - wanted)}")
    print(f"wheel: {len(held)} files, {wheel.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Build, install, use."""
    shutil.rmtree(DIST, ignore_errors=True)
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # an old build would leak into the wheel
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    (wheel,) = DIST.glob("*.whl")
    (sdist,) = DIST.glob("*.tar.gz")
    check_contents(wheel)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bin_folder = clean_environment(folder / "clean")
        python = bin_folder / "python"
        quiet = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(python, *quiet, f"bert4kexue[tensorflow] @ {wheel.as_uri()}")
        model = folder / "model"
        model.mkdir()
        (folder / "smoke.py").write_text(SMOKE, encoding="utf-8", newline="\n")
        print(run(python, folder / "smoke.py", model, cwd=folder).strip())

        program = bin_folder / "bert4kexue"
        usage = run(program, "--help", cwd=folder)
        for command in ("inspect", "similar", "export"):
            if command not in usage:
                sys.exit(f"bert4kexue --help does not speak of {command}:\n{usage}")
        told = run(program, "inspect", model, cwd=folder)
        if "roformer" not in told.lower():
            sys.exit(f"bert4kexue inspect does not find the family:\n{told}")
        print("wheel: bert4kexue --help and bert4kexue inspect work")

        run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder / "again", sdist)
        (again,) = (folder / "again").glob("*.whl")
        if names(again) != names(wheel):
            sys.exit(f"sdist: another wheel, {sorted(names(again) ^ names(wheel))}")
        run(python, *quiet, "--no-deps", "--force-reinstall", again)
        print(run(python, folder / "smoke.py", model, cwd=folder).strip().replace("wheel", "sdist"))


if __name__ == "__main__":
    main()
