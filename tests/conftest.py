"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Laws are about values: by hypothesis's own 200 ms an example fails where the machine is busy.
settings.register_profile("bert4kexue", deadline=None)
settings.load_profile("bert4kexue")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; the test that asks for it skips, by name, where there is none."""
    root = os.environ.get("BERT4KEXUE_DATA")
    if not root:
        pytest.skip("BERT4KEXUE_DATA is not set: this test reads the data folder")
    path = Path(root)
    if not path.is_dir():
        pytest.fail(f"BERT4KEXUE_DATA={root!r} is not a folder")
    return path
