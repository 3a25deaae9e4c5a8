"""What a cosine means: the probability that two sentences are alike, and where to draw the line.

Cosines of one model say nothing about another's, and 0.8 may be much or little. A calibration is
fitted to labelled pairs that the model was not trained on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bert4kexue._files import atomic_write
from bert4kexue.methods.intervals import wilson

Method = Literal["isotonic", "platt"]


class Threshold(NamedTuple):
    """Where to draw the line, and what that gave on the pairs it was fitted to."""

    cosine: float
    precision: float
    recall: float
    pairs: int  # at or above it
    lowest_precision: float  # end of the 95 % Wilson interval


class Calibration:
    """From cosines to probabilities, rising.

    Args:
        method: 'isotonic', any rising staircase (some hundreds of pairs and more), or 'platt', a
            logistic curve (fewer).
        parameters: of a fitted one, as `save` writes them.

    Example:
        >>> calibration = Calibration.fit(cosines, labels)
        >>> calibration.probability([0.62, 0.91])
        >>> calibration.threshold(precision=0.95).cosine
    """

    def __init__(self, method: Method, parameters: dict[str, Any]) -> None:
        self.method, self.parameters = method, parameters

    @classmethod
    def fit(
        cls,
        cosines: Sequence[float] | np.ndarray,
        labels: Sequence[int] | np.ndarray,
        method: Method = "isotonic",
    ) -> Calibration:
        """By scikit-learn.

        Args:
            cosines: (n,).
            labels: (n,) 1 for alike, 0 for not.
            method: see the class.

        Raises:
            ValueError: another number of labels, labels other than 0 and 1 or of one kind only, NaN
                or an unknown method.
            ImportError: scikit-learn is not installed.
        """
        x, y = np.asarray(cosines, np.float64), np.asarray(labels)
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(f"one label a cosine: {x.shape} and {y.shape}")
        if not np.isfinite(x).all():
            raise ValueError("a cosine is NaN or infinity: find what computed it")
        if set(np.unique(y).tolist()) != {0, 1}:
            raise ValueError(
                "a calibration needs pairs that are alike (1) and pairs that are not (0), got the "
                f"labels {np.unique(y).tolist()[:5]}"
            )
        if method not in ("isotonic", "platt"):
            raise ValueError(f"method={method!r}: choose 'isotonic' or 'platt'")
        try:
            from sklearn.isotonic import IsotonicRegression
            from sklearn.linear_model import LogisticRegression
        except ImportError:
            raise ImportError(
                "a calibration needs scikit-learn: pip install 'bert4kexue[analysis]'"
            ) from None
        if method == "isotonic":
            steps = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, y)
            parameters = {
                "x": steps.X_thresholds_.tolist(),
                "y": steps.y_thresholds_.tolist(),
            }
        else:
            line = LogisticRegression(C=1e6).fit(x[:, None], y)
            parameters = {"slope": float(line.coef_[0, 0]), "offset": float(line.intercept_[0])}
        order = np.argsort(-x, kind="stable")
        parameters["cosines"] = x[order].tolist()
        parameters["labels"] = y[order].astype(int).tolist()
        return cls(method, parameters)

    def probability(self, cosines: Any) -> np.ndarray:
        """Of being alike, for cosines of any shape."""
        x = np.asarray(cosines, np.float64)
        p = self.parameters
        if self.method == "isotonic":
            return np.interp(x, p["x"], p["y"])
        return 1 / (1 + np.exp(-(p["slope"] * x + p["offset"])))

    def threshold(self, precision: float, least_pairs: int = 1) -> Threshold:
        """The lowest cosine from which on so large a share of the fitted pairs is alike.

        Args:
            precision: wanted share, above 0 and at most 1.
            least_pairs: so many pairs must lie at or above it.

        Raises:
            ValueError: no cosine gives it; the message says the best there is.
        """
        if not 0 < precision <= 1:
            raise ValueError(f"precision is a share, above 0 and at most 1; got {precision}")
        x = np.asarray(self.parameters["cosines"])
        y = np.asarray(self.parameters["labels"])
        count = np.arange(1, len(x) + 1)
        share = np.cumsum(y) / count
        # A line can only be drawn between different cosines.
        last = np.append(x[1:] != x[:-1], True) & (count >= least_pairs)
        if not last.any() or share[last].max() < precision:
            best = share[last].max() if last.any() else 0.0
            raise ValueError(
                f"no cosine has precision {precision} with {least_pairs} pairs above it: the best "
                f"is {best:.4f} of {len(x)} pairs; ask for less, or train a better model"
            )
        at = int(np.flatnonzero(last & (share >= precision))[-1])
        hits, n = int(y[: at + 1].sum()), at + 1
        return Threshold(float(x[at]), hits / n, hits / int(y.sum()), n, wilson(hits / n, n)[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON."""
        with atomic_write(path, "w") as file:
            json.dump({"method": self.method, **self.parameters}, file)
            file.write("\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """What `save` wrote; needs no scikit-learn."""
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return cls(found.pop("method"), found)


def reliability(
    probabilities: Sequence[float] | np.ndarray, labels: Sequence[int] | np.ndarray, bins: int = 10
) -> list[tuple[float, float, int]]:
    """Mean probability, share that is alike, and pairs, of each bin that has any.

    The curve of a good calibration is the diagonal.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    place = np.minimum((p * bins).astype(int), bins - 1)
    return [
        (float(p[place == b].mean()), float(y[place == b].mean()), int((place == b).sum()))
        for b in range(bins)
        if (place == b).any()
    ]
