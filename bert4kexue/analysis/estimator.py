"""What scikit-learn asks of an estimator, without importing scikit-learn.

`clone`, pipelines, `cross_val_score` and `check_estimator` ask for parameters that go in and out
unchanged, for tags, and for certain errors. They get them here; scikit-learn itself is imported
only where it is the caller (tags) or is installed anyway (its NotFittedError).
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np


class Estimator:
    """Parameters by name; every argument of `__init__` is an attribute of the same name."""

    _kind = "classifier"

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name; `deep` changes nothing here."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Any:
        """Set constructor arguments by name and return the estimator.

        Raises:
            ValueError: a name is no argument.
        """
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self!r}. "
                    f"Valid parameters are: {self._names()!r}."
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = (
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name].default)
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        """What this is, for scikit-learn, which is the one that asks."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        several = self._kind == "regressor"
        return Tags(
            estimator_type=self._kind,
            target_tags=TargetTags(required=True, multi_output=several, single_output=True),
            transformer_tags=None,
            classifier_tags=None if several else ClassifierTags(),
            regressor_tags=RegressorTags() if several else None,
            input_tags=InputTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there are statistics to compute from."""
        return getattr(self, "statistics_", None) is not None

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            message = (
                f"This {type(self).__name__} instance is not fitted yet: call fit or partial_fit"
            )
            try:
                from sklearn.exceptions import NotFittedError
            except ImportError:
                raise ValueError(message) from None
            raise NotFittedError(message)


def check_rows(rows: Any, features: int | None = None, owner: str = "the estimator") -> np.ndarray:
    """Features as (n, d) float64.

    Args:
        rows: an array, a list of lists, a table.
        features: the d that is expected; any when None.
        owner: the estimator's name, for the error.

    Raises:
        ValueError: not two axes, no row, no column, another d, NaN or infinity, complex or sparse.
    """
    if hasattr(rows, "tocsr") or type(rows).__module__.startswith("scipy.sparse"):
        raise TypeError("sparse input is not supported: pass rows.toarray()")
    array = np.asarray(rows)
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: pass real features")
    array = array.astype(np.float64)
    if array.ndim == 1:
        raise ValueError(
            f"Reshape your data: features are (n, d), got one axis of {array.shape[0]}; "
            "one row is x[None, :], one column x[:, None]"
        )
    if array.ndim != 2:
        raise ValueError(f"features must have two axes, (n, d), got the shape {array.shape}")
    if not len(array):
        raise ValueError(
            f"0 sample(s) (shape={array.shape}) while a minimum of 1 is required: pass some rows"
        )
    if not array.shape[1]:
        raise ValueError(
            f"0 feature(s) (shape={array.shape}) while a minimum of 1 is required: pass columns"
        )
    if features is not None and array.shape[1] != features:
        raise ValueError(
            f"X has {array.shape[1]} features, but {owner} is expecting {features} features as "
            "input: use the encoder that made the rows it was fitted on"
        )
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"features must be finite, got NaN or infinity (inf), first at row {row}, column "
            f"{column}: drop the row or repair it"
        )
    return array


def check_weights(weights: Any, rows: int) -> np.ndarray:
    """Sample weights as (n,) float64; ones when None.

    Raises:
        ValueError: another shape, a negative or non-finite weight, or all zero.
    """
    if weights is None:
        return np.ones(rows)
    array = np.asarray(weights, np.float64)
    if array.ndim == 0:
        array = np.full(rows, float(array))
    if array.shape != (rows,):
        raise ValueError(
            f"sample_weight.shape == {array.shape}, expected ({rows},): one weight for each row"
        )
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("sample_weight must be finite and not negative")
    if not array.any():
        raise ValueError("sample_weight is zero for every row: at least one row must count")
    return array
