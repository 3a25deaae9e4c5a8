"""What the README shows works, and both of its languages show the same."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from _sources import ROOT

SHIPPED = ROOT / "pretrained" / "roformer_tiny_zh"


def blocks(name: str, language: str = r"\w*") -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_both_languages_show_the_same_code() -> None:
    def bare(name: str) -> list[list[str]]:
        return [
            [line.partition("#")[0].rstrip() for line in block.splitlines()]
            for block in blocks(name)
        ]

    assert bare("README.md") == bare("README_zh.md")
    assert len(blocks("README.md", "python")) == 2


def test_both_languages_have_the_same_sections_and_links() -> None:
    def shape(name: str) -> tuple[int, set[str]]:
        text = (ROOT / name).read_text(encoding="utf-8")
        links = set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README_zh.md"}
        return len(re.findall(r"^## ", text, flags=re.MULTILINE)), links

    assert shape("README.md") == shape("README_zh.md")


def test_the_code_of_the_readme_runs() -> None:
    pytest.importorskip("tensorflow")
    assert SHIPPED.is_dir()
    script = "\n".join(blocks("README.md", "python"))
    script += "\nassert found.shape == (1, 1) and best.objects == ('太白',), (found, best)\n"
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "李白 字 ('太白',)"
