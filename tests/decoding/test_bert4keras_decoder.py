"""bert4keras's subclasses give the ids here that they give there (golden, from its own decoder)."""

from __future__ import annotations

import numpy as np
import pytest
from _decoders import cases, run
from _golden_cases import GOLDEN

from bert4kexue.snippets import AutoRegressiveDecoder

CASES = cases()


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "decoder_bert4keras.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", CASES)
def test_a_subclass_gives_the_ids_that_bert4keras_gives(golden, name):
    expected = [array for key, array in golden.items() if key.rpartition("/")[0] == name]
    found = run(AutoRegressiveDecoder, CASES[name])
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in expected]
