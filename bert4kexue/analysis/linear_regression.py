"""Linear regression in closed form (kexue.fm/archives/8578): W = Sxx^-1 Sxy, b = my - mx W.

Sxx and Sxy are the scatters of x and of x with y about their means, so the answer streams and
merges like the classifier's. A ridge penalty stands where that one has shrinkage. Leave-one-out
residuals are the residuals divided by 1 - leverage (Allen's PRESS).

n rows, d features, t targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bert4kexue.analysis.estimator import Estimator, check_rows, check_weights
from bert4kexue.analysis.inverse import Singular, inverse_times
from bert4kexue.analysis.moments import Moments


class ClosedFormRegression(Estimator):
    """Least squares from mergeable statistics, as a scikit-learn estimator.

    Args:
        ridge: penalty on the squared weights, in units of summed squares (scikit-learn's Ridge
            calls it alpha).
        singular: "raise" where the features are collinear and ridge is 0, or "pinv".

    Attributes:
        coef_: (t, d), or (d,) for targets (n,).
        intercept_: (t,), or a number.
        statistics_: the `Moments` of the features beside the targets.

    Example:
        >>> model = ClosedFormRegression().fit(x, y)
        >>> residuals = model.leave_one_out_residuals(x, y)
    """

    _kind = "regressor"
    statistics_: Moments | None
    n_features_in_: int
    _targets: tuple[int, ...]
    _solution: tuple[np.ndarray, np.ndarray] | None

    def __init__(self, ridge: float = 0.0, singular: Singular = "raise") -> None:
        self.ridge = ridge
        self.singular = singular

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
    ) -> ClosedFormRegression:
        """Fit all rows at once.

        Args:
            X: (n, d) features.
            y: (n,) or (n, t) numbers.
            sample_weight: (n,); a weight of 2 counts as the row twice.

        Raises:
            ValueError: NaN or infinity, or features without an inverse.
        """
        self.statistics_ = None
        self._add(X, y, sample_weight)
        self._solve()
        return self

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
    ) -> ClosedFormRegression:
        """Add rows; what was added in any split gives the same as `fit` on all."""
        self._add(X, y, sample_weight)
        return self

    def merge(self, other: ClosedFormRegression) -> ClosedFormRegression:
        """Add another worker's rows to these, and return self.

        Raises:
            ValueError: the features or targets differ, or one of them is not fitted.
        """
        self._check_fitted()
        other._check_fitted()
        if (self.n_features_in_, self._targets) != (other.n_features_in_, other._targets):
            raise ValueError(
                f"{self.n_features_in_} features and targets {self._targets} do not add to "
                f"{other.n_features_in_} and {other._targets}: use one encoder everywhere"
            )
        assert self.statistics_ is not None
        assert other.statistics_ is not None
        self.statistics_ = self.statistics_.merged(other.statistics_)
        self._solution = None
        return self

    def leave_one_out_residuals(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
    ) -> np.ndarray:
        """y less its prediction by the fit to all other rows, exactly, in the shape of y.

        Args:
            X: (n, d) all training rows; the fitted statistics are not used.
            y: (n,) or (n, t).
            sample_weight: (n,).

        Raises:
            ValueError: a row alone determines a direction of the fit (its leverage is 1).
        """
        fitted = ClosedFormRegression(self.ridge, self.singular).fit(X, y, sample_weight)
        assert fitted.statistics_ is not None
        rows = check_rows(X)
        weights = check_weights(sample_weight, len(rows))
        d = rows.shape[1]
        moments = fitted.statistics_
        centred = rows - moments.mean[:d]
        solved = fitted._inverse_times(centred.T)
        leverage = weights * (1 / moments.weight + (centred * solved.T).sum(1))
        if (leverage > 1 - 1e-10).any():
            row = int(leverage.argmax())
            raise ValueError(
                f"row {row} alone determines a direction of the fit: leave-one-out exists with "
                "ridge above 0 or more rows"
            )
        residuals = np.asarray(y, np.float64) - fitted.predict(X)
        return residuals / (1 - leverage).reshape(-1, *[1] * (residuals.ndim - 1))

    @property
    def coef_(self) -> np.ndarray:
        """(t, d), or (d,) for targets (n,)."""
        weights, _ = self._solve()
        return weights[:, 0] if self._targets == () else weights.T

    @property
    def intercept_(self) -> Any:
        """(t,), or a number for targets (n,)."""
        _, bias = self._solve()
        return float(bias[0]) if self._targets == () else bias

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """(n,) or (n, t), as the targets were."""
        self._check_fitted()
        rows = check_rows(X, self.n_features_in_, type(self).__name__)
        weights, bias = self._solve()
        return (rows @ weights + bias).reshape(len(rows), *self._targets)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """1 less the residual squares over the squares about the mean (R^2), mean over targets."""
        y = np.asarray(y, np.float64).reshape(len(y), -1)
        weights = check_weights(sample_weight, len(y))[:, None]
        residual = (weights * (y - self.predict(X).reshape(y.shape)) ** 2).sum(0)
        about = (weights * (y - (weights * y).sum(0) / weights.sum()) ** 2).sum(0)
        flat = np.where(residual == 0, 1.0, 0.0)
        explained = 1 - residual / np.where(about == 0, 1.0, about)
        return float(np.mean(np.where(about == 0, flat, explained)))

    def _add(self, X: Any, y: Any, sample_weight: Any) -> None:  # noqa: N803
        if not (isinstance(self.ridge, int | float | np.number) and 0 <= self.ridge < np.inf):
            raise ValueError(f"ridge must be 0 or more, got {self.ridge!r}")
        old = getattr(self, "statistics_", None)
        features = None if old is None else self.n_features_in_
        rows = check_rows(X, features, type(self).__name__)
        weights = check_weights(sample_weight, len(rows))
        targets = check_targets(y, len(rows))
        shape = targets.shape[1:]
        if old is not None and shape != self._targets:
            raise ValueError(f"targets had the shape (n, *{self._targets}), now (n, *{shape})")
        new = Moments.of(np.hstack([rows, targets.reshape(len(rows), -1)]), weights)
        self.n_features_in_, self._targets = rows.shape[1], shape
        self.statistics_ = new if old is None else old.merged(new)
        self._solution = None

    def _inverse_times(self, right: np.ndarray) -> np.ndarray:
        moments, d = self.statistics_, self.n_features_in_
        assert moments is not None
        scatter = moments.scatter[:d, :d].copy()
        scatter[np.diag_indices(d)] += self.ridge
        return inverse_times(
            scatter,
            right,
            rows=moments.rows,
            scale=np.abs(moments.mean[:d]) * np.sqrt(moments.weight),
            singular=self.singular,
            remedy="ridge above 0",
        )

    def _solve(self) -> tuple[np.ndarray, np.ndarray]:
        self._check_fitted()
        if self._solution is None:
            moments, d = self.statistics_, self.n_features_in_
            assert moments is not None
            weights = self._inverse_times(moments.scatter[:d, d:])
            self._solution = weights, moments.mean[d:] - moments.mean[:d] @ weights
        return self._solution


def check_targets(y: Any, rows: int) -> np.ndarray:
    """Numbers to predict, (n,) or (n, t) float64.

    Raises:
        ValueError: missing, of another length, NaN or infinite.
    """
    if y is None:
        raise ValueError("this estimator requires y to be passed, but the target y is None")
    targets = np.asarray(y)
    if targets.dtype.kind == "c":
        raise ValueError("Complex data not supported: pass real targets")
    targets = targets.astype(np.float64)
    if targets.ndim not in (1, 2) or len(targets) != rows:
        raise ValueError(
            f"y must be (n,) or (n, t) with n = {rows} as X has, got the shape {targets.shape}"
        )
    if not np.isfinite(targets).all():
        raise ValueError("Input y contains NaN or infinity (inf): every row needs a target")
    return targets
