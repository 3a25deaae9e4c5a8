"""Labels in the forms they come in: names, numbers, or shares of several classes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np


def check_labels(
    y: Any, rows: int, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as class numbers (n,) or shares (n, k), and the classes (k,).

    Raises:
        ValueError: missing, of another length, not discrete, one class alone, a label that is not
            among `classes`, or shares that do not sum to 1.
    """
    if y is None:
        raise ValueError("this estimator requires y to be passed, but the target y is None")
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        _warn_column()
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != rows:
        raise ValueError(
            f"y must be labels ({rows},) or shares ({rows}, k), one for each row of X, got the "
            f"shape {array.shape}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("Input y contains NaN or infinity (inf): every row needs a label")
    if array.ndim == 2:
        return _check_shares(array, classes)
    if array.dtype.kind in "fc" and (array != np.round(array.real)).any():
        raise ValueError(
            "Unknown label type: continuous numbers are no classes; for a number to predict use "
            "ClosedFormRegression, for shares pass (n, k)"
        )
    if classes is None:
        classes = np.unique(array)
        if len(classes) < 2:
            raise ValueError(
                f"a classifier needs two classes, got 1 class: {classes.tolist()}: add rows of "
                "another class"
            )
    numbers = np.searchsorted(classes, array).clip(0, len(classes) - 1)
    unknown = classes[numbers] != array
    if unknown.any():
        raise ValueError(
            f"labels {np.unique(array[unknown])[:8].tolist()} are not among the classes "
            f"{classes.tolist()[:20]}: name every class on the first call"
        )
    return numbers, classes


def _check_shares(shares: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    shares = shares.astype(np.float64)
    classes = np.arange(shares.shape[1]) if classes is None else classes
    if shares.shape[1] != len(classes):
        raise ValueError(
            f"soft labels have {shares.shape[1]} columns for {len(classes)} classes: one column "
            "for each class"
        )
    if (shares < 0).any() or (np.abs(shares.sum(1) - 1) > 1e-5).any():
        raise ValueError("soft labels must be shares: not negative, each row's sum 1")
    return shares / shares.sum(1, keepdims=True), classes


def _warn_column() -> None:
    message = "A column-vector y was passed when a 1d array was expected: pass y.ravel()"
    try:
        from sklearn.exceptions import DataConversionWarning
    except ImportError:
        warnings.warn(message, stacklevel=3)
    else:
        warnings.warn(message, DataConversionWarning, stacklevel=3)
