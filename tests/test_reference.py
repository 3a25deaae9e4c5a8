"""The NumPy reference against other people's numbers: the ruler is checked before it measures."""

from __future__ import annotations

import _golden_cases as golden
import numpy as np
import pytest

FILES = ["bert4keras_models.npz", "huggingface_models.npz"]
CASES = [(file, case) for file in FILES for case in golden.cases(file)]


@pytest.mark.parametrize(
    ("file", "case"), CASES, ids=[f"{file.split('_')[0]}-{golden.name(c)}" for file, c in CASES]
)
def test_reference_equals_another_library(file, case):
    got = golden.reference_outputs(case)
    assert len(got) == len(case["outputs"])
    for mine, theirs in zip(got, case["outputs"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=3e-6)
