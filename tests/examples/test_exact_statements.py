"""The examples of the closed form, the Johnson-Lindenstrauss lemma and of densities run small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.parametrize("name", ["closed_form_heads", "johnson_lindenstrauss"])
def test_the_smoke_run_writes_its_page_and_picture(name, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    environment = {key: value for key, value in os.environ.items() if key != "BERT4KEXUE_DATA"}
    script = str(ROOT / "examples" / f"{name}.py")
    done = subprocess.run(
        [sys.executable, script, "--smoke", "--output", str(tmp_path)],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{name}.md").read_text(encoding="utf-8").startswith("# ")
    assert (tmp_path / f"{name}.png").stat().st_size < 200_000


@pytest.mark.long
def test_the_density_examples_write_their_pages_and_pictures(tmp_path, data_dir):
    pytest.importorskip("matplotlib")
    for name, page in (
        ("vae_density_mnist", "density_mnist"),
        ("vae_compression_mnist", "density_compression"),
        ("vae_density_poems", "density_poems"),
    ):
        run = tmp_path / ("poems" if "poems" in name else "digits")
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / f"{name}.py"), str(run), "--smoke"],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "BERT4KEXUE_DATA": str(data_dir)},
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
        assert (run / f"{page}.md").read_text(encoding="utf-8").startswith("# ")
        assert (run / f"{page}.png").stat().st_size > 5_000
