"""log p(x) by pythae's `get_nll` -> tests/golden/pythae_nll.npz.

Tiny perceptrons with random weights, binary data with its "bce" and real data with its "mse", which
is a normal density of variance 1. `get_nll` is called a point at a time with 50,000 draws; what it
returns is + log p(x), in spite of its name, and is kept as it is returned.
"""

from __future__ import annotations

import importlib.metadata
import sys

import _golden
import _pythae
import numpy as np
import torch

ENVIRONMENT = "pythae"
PATH = _golden.GOLDEN / "pythae_nll.npz"
# Other releases of torch may draw other numbers: five standard errors of the estimates.
TOLERANCE = 0.05
WIDTH, HIDDEN, LATENT, ROWS, DRAWS = 12, 8, 3, 6, 50_000


def make() -> _golden.Golden:
    """Weights, data (6, 12) and values (6,) of each of the two."""
    arrays = {}
    for number, loss in enumerate(("bce", "mse")):
        random = np.random.RandomState(number)
        shapes = [(WIDTH, HIDDEN), (HIDDEN, LATENT), (HIDDEN, LATENT), (LATENT, HIDDEN)]
        weights = []
        # A weak encoder proposes nearly the prior, and so reaches all that matters.
        scales = (0.1, 0.1, 0.1, 0.4, 0.4)
        for shape, scale in zip([*shapes, (HIDDEN, WIDTH)], scales, strict=True):
            weights.append((random.normal(size=shape) * scale).astype(np.float32))
            weights.append((random.normal(size=shape[1]) * scale).astype(np.float32))
        x = random.normal(size=(ROWS, WIDTH)).astype(np.float32)
        x = (x > 0).astype(np.float32) if loss == "bce" else x
        model = _pythae.model(weights, 1, loss)
        torch.manual_seed(0)
        with torch.no_grad():
            values = [model.get_nll(torch.tensor(row[None]), DRAWS, 1000) for row in x]
        arrays |= {f"{loss}/weight_{k}": weight for k, weight in enumerate(weights)}
        arrays |= {f"{loss}/x": x, f"{loss}/get_nll": np.array(values, np.float32)}
    made_with = {name: importlib.metadata.version(name) for name in ("pythae", "torch")}
    return {"draws": DRAWS, "made_with": made_with}, arrays


if __name__ == "__main__":
    sys.exit(_golden.main(make, PATH, TOLERANCE))
