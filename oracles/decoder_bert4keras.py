"""bert4keras's AutoRegressiveDecoder on toy subclasses -> tests/golden/decoder_bert4keras.npz.

The subclasses stand in `tests/_decoders.py` and take the decoder's class as an argument; the same
run on ours in `tests/decoding/test_bert4keras_decoder.py`.
"""

from __future__ import annotations

import sys

import _golden
import numpy as np
from _bert4keras import bert4keras
from _decoders import cases, run
from bert4keras.snippets import AutoRegressiveDecoder

ENVIRONMENT = "bert4keras"
PATH = _golden.GOLDEN / "decoder_bert4keras.npz"


def make() -> _golden.Golden:
    """Every case, by bert4keras."""
    arrays = {}
    for name, case in cases().items():
        for index, ids in enumerate(run(AutoRegressiveDecoder, case)):
            arrays[f"{name}/{index}"] = np.asarray(ids, np.int64)
    return {"made_with": {"bert4keras": bert4keras.__version__}, "cases": sorted(cases())}, arrays


if __name__ == "__main__":
    sys.exit(_golden.main(make, PATH, 0))
