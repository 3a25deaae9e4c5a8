"""The NumPy reference against other people's numbers: the ruler is checked before it measures."""

from __future__ import annotations

import _golden_cases as golden
import numpy as np
import pytest

CASES = golden.cases("bert4keras_models.npz")


@pytest.mark.parametrize("case", CASES, ids=golden.name)
def test_reference_equals_bert4keras(case):
    expected = case["outputs"]
    got = golden.reference_outputs(case)
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=3e-6)
