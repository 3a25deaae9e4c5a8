"""A softmax classifier without training: the closed form of kexue.fm/archives/8578.

Class means, a covariance and frequencies come from one pass over the rows, and `softmax_head` turns
them into the weights of a Dense layer: linear discriminant analysis under another name.

Near n = d rows the inverse of S runs wild and the closed form falls to chance; `shrinkage` mends
that (Ledoit-Wolf, OAS, or the one with the best leave-one-out score).

n rows, d features, k classes.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert4kexue.analysis.estimator import Estimator, check_rows, check_weights
from bert4kexue.analysis.inverse import Singular
from bert4kexue.analysis.labels import check_labels
from bert4kexue.analysis.leave_one_out import Downdates, LeaveOneOut
from bert4kexue.analysis.moments import ClassMoments
from bert4kexue.analysis.shrinkage import ledoit_wolf_intensity, oas_intensities, oas_intensity
from bert4kexue.analysis.softmax_head import SoftmaxHead, softmax_head

GRID = (0.0, 1e-4, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)


class ClosedFormSoftmax(Estimator):
    """The closed form as an estimator that scikit-learn's pipelines, clone and searches take.

    Args:
        shrinkage: 0 for the post's formula; a float up to 1; "auto" or "oas" for OAS, which merges
            and streams; "ledoit-wolf" and "loo" (the best leave-one-out log-loss), which need
            `fit` to see all rows.
        priors: None for the frequencies, "uniform", or (k,) probabilities in the order of
            `classes_`. They move the bias only.
        singular: "raise" where the covariance has no inverse, or "pinv".

    Attributes:
        classes_: (k,) the labels, sorted.
        statistics_: the `ClassMoments` of all rows so far.
        shrinkage_: the intensity that was used.
        coef_, intercept_: (k, d) and (k,), as scikit-learn has them.

    Example:
        >>> model = ClosedFormSoftmax(shrinkage="auto").fit(x, y)
        >>> model.predict_proba(x[:2]).sum(1)
        array([1., 1.])
    """

    classes_: np.ndarray
    statistics_: ClassMoments
    n_features_in_: int
    _given: float | None
    _head: SoftmaxHead | None

    def __init__(
        self,
        shrinkage: float | str = 0.0,
        priors: Any = None,
        singular: Singular = "raise",
    ) -> None:
        self.shrinkage = shrinkage
        self.priors = priors
        self.singular = singular

    # --- fitting ---

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ClosedFormSoftmax:  # noqa: N803
        """Fit all rows at once.

        Args:
            X: (n, d) features.
            y: (n,) labels, or (n, k) soft labels: shares that sum to 1, for classes 0 .. k-1.
            sample_weight: (n,); a weight of 2 counts as the row twice.

        Raises:
            ValueError: NaN or infinity, labels that are no labels, one class alone, or a covariance
                without an inverse.
        """
        self._check_parameters()
        rows, labels, weights, self.classes_ = self._checked(X, y, sample_weight, None)
        self.n_features_in_ = rows.shape[1]
        self.statistics_ = ClassMoments.of(rows, labels, len(self.classes_), weights)
        self._given = None
        if self.shrinkage == "ledoit-wolf":
            if labels.ndim == 2:
                raise ValueError("Ledoit-Wolf needs hard labels: pass shrinkage='auto'")
            centred = rows - self.statistics_.means[labels]
            self._given = ledoit_wolf_intensity(centred, weights)
        elif self.shrinkage == "loo":
            self._given = self._best_left_out(rows, labels, weights)
        self._head = None
        self._solve()
        self._warn_near_collapse()
        return self

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        classes: Sequence[Any] | np.ndarray | None = None,
        sample_weight: Any = None,
    ) -> ClosedFormSoftmax:
        """Add rows; what was added in any split gives the same as `fit` on all.

        Args:
            X: (n, d) features.
            y: (n,) labels or (n, k) soft labels.
            classes: all labels that will ever come; needed by the first call alone. Two-column
                soft labels need none.
            sample_weight: (n,).
        """
        self._check_parameters()
        if self.shrinkage in ("ledoit-wolf", "loo"):
            raise ValueError(
                f"shrinkage={self.shrinkage!r} needs all rows at once: call fit, or pass "
                "shrinkage='auto', which needs no more than the statistics"
            )
        known = getattr(self, "classes_", None)
        if classes is not None:
            classes_array = np.unique(np.asarray(classes))
            if known is not None and not np.array_equal(known, classes_array):
                raise ValueError(
                    f"classes={classes_array.tolist()} are not those of the first call, "
                    f"{known.tolist()}: make a new estimator"
                )
            known = classes_array
        if known is None and np.ndim(y) != 2:
            raise ValueError("classes must be given on the first call to partial_fit")
        features = getattr(self, "n_features_in_", None)
        rows, labels, weights, known = self._checked(X, y, sample_weight, known, features)
        new = ClassMoments.of(rows, labels, len(known), weights)
        old = getattr(self, "statistics_", None)
        self.classes_, self.n_features_in_ = known, rows.shape[1]
        self.statistics_ = new if old is None else old.merged(new)
        self._given = self._head = None  # solved when first asked: a batch costs no inverse
        return self

    def merge(self, other: ClosedFormSoftmax) -> ClosedFormSoftmax:
        """Add another worker's rows to these, and return self.

        Raises:
            ValueError: the classes or features differ, or one of them is not fitted.
        """
        self._check_fitted()
        other._check_fitted()
        if self.shrinkage in ("ledoit-wolf", "loo"):
            raise ValueError(f"shrinkage={self.shrinkage!r} does not merge: use 'auto'")
        if not np.array_equal(self.classes_, other.classes_):
            raise ValueError(
                f"classes {self.classes_.tolist()} and {other.classes_.tolist()} differ: give "
                "every worker the same `classes`"
            )
        self.statistics_ = self.statistics_.merged(other.statistics_)
        self._head = None
        return self

    def restore(self, classes: np.ndarray, statistics: ClassMoments) -> ClosedFormSoftmax:
        """Take on statistics that were computed elsewhere, for `classes` (k,), and return self."""
        self._check_parameters()
        self.classes_, self.statistics_ = classes, statistics
        self.n_features_in_ = statistics.means.shape[1]
        self._given = self._head = None
        return self

    def leave_one_out(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
    ) -> LeaveOneOut:
        """Each row's prediction by the fit to all other rows, exactly, without refitting.

        The parameters of this estimator are used, its statistics are not. Shrinkage by OAS is
        estimated anew without each row.

        Args:
            X: (n, d) all training rows.
            y: (n,) their labels.
            sample_weight: (n,).

        Raises:
            ValueError: soft labels, "ledoit-wolf" or "loo" (hold the intensity that fit found:
                `set_params(shrinkage=model.shrinkage_)`), or a singular fit.
        """
        self._check_parameters()
        rows, labels, weights, classes = self._checked(X, y, sample_weight, None)
        if labels.ndim == 2:
            raise ValueError(
                "leave-one-out has no closed form for soft labels: pass the likeliest label"
            )
        if self.shrinkage in ("ledoit-wolf", "loo"):
            raise ValueError(
                f"leave-one-out has no closed form for shrinkage={self.shrinkage!r}: fit, then "
                "set_params(shrinkage=model.shrinkage_)"
            )
        moments = ClassMoments.of(rows, labels, len(classes), weights)
        downdates = Downdates(rows, labels, weights, moments)
        return downdates.scores(self._intensity(rows.shape[1]), self._priors(len(classes)))

    # --- using ---

    @property
    def coef_(self) -> np.ndarray:
        """(k, d) weights."""
        return self._solve().weights.T

    @property
    def intercept_(self) -> np.ndarray:
        """(k,) biases."""
        return self._solve().bias

    @property
    def shrinkage_(self) -> float:
        """The intensity in use."""
        self._check_fitted()
        if self._given is not None:
            return self._given
        if self.shrinkage not in ("auto", "oas"):
            return float(self.shrinkage)
        covariance = self.statistics_.scatter / self.statistics_.weights.sum()
        return oas_intensity(
            np.trace(covariance),
            float((covariance**2).sum()),
            self.statistics_.weights.sum() - len(self.classes_),
            len(covariance),
        )

    def _logits(self, X: Any) -> np.ndarray:  # noqa: N803
        self._check_fitted()
        rows = check_rows(X, self.n_features_in_, type(self).__name__)
        head = self._solve()
        return rows @ head.weights + head.bias

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Logits (n, k); for two classes the second's less the first's, (n,)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_log_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Log-probabilities (n, k)."""
        logits = self._logits(X)
        logits -= logits.max(1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Probabilities (n, k), in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The likeliest label of each row, (n,)."""
        best = self._logits(X).argmax(1)
        return self.classes_[best]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """The weighted share of rows whose label is predicted."""
        right = self.predict(X) == np.asarray(y)
        return float(np.average(right, weights=sample_weight))

    # --- inside ---

    def _solve(self) -> SoftmaxHead:
        self._check_fitted()
        if self._head is None:
            self._head = softmax_head(
                self.statistics_,
                self.shrinkage_,
                self._priors(len(self.classes_)),
                self.singular,
            )
        return self._head

    def _checked(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        classes: np.ndarray | None,
        features: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rows = check_rows(X, features, type(self).__name__)
        labels, classes = check_labels(y, len(rows), classes)
        weights = check_weights(sample_weight, len(rows))
        return rows, labels, weights, classes

    def _check_parameters(self) -> None:
        names = ("auto", "oas", "ledoit-wolf", "loo")
        a = self.shrinkage
        number = isinstance(a, int | float | np.number) and 0 <= a <= 1
        if not number and not (isinstance(a, str) and a in names):
            raise ValueError(f"shrinkage must lie in [0, 1] or be one of {names}, got {a!r}")
        if self.singular not in ("raise", "pinv"):
            raise ValueError(f"singular must be 'raise' or 'pinv', got {self.singular!r}")

    def _priors(self, classes: int) -> np.ndarray | None:
        if self.priors is None:
            return None
        if isinstance(self.priors, str):
            if self.priors != "uniform":
                raise ValueError(f"priors must be None, 'uniform' or (k,), got {self.priors!r}")
            return np.full(classes, 1 / classes)
        priors = np.asarray(self.priors, np.float64)
        if priors.shape != (classes,):
            raise ValueError(f"priors need one number for each of {classes} classes, got {priors}")
        if not (np.isfinite(priors).all() and (priors > 0).all()):
            raise ValueError(
                f"priors must be above 0, got {priors}: the log of 0 would exclude a class for "
                "ever; leave its rows out instead"
            )
        if abs(priors.sum() - 1) > 1e-6:
            raise ValueError(f"priors must sum to 1, got {priors.sum()}: divide by their sum")
        return priors / priors.sum()

    def _intensity(self, features: int) -> Any:
        if self.shrinkage in ("auto", "oas"):
            return functools.partial(oas_intensities, features=features)
        return functools.partial(_constant, value=float(self.shrinkage))

    def _best_left_out(self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
        if labels.ndim == 2:
            raise ValueError("shrinkage='loo' needs hard labels: pass shrinkage='auto'")
        downdates = Downdates(rows, labels, weights, self.statistics_)
        priors = self._priors(len(self.classes_))
        counted = (weights > 0) & ~downdates.alone
        if not counted.any():
            raise ValueError("every class has one row: nothing can be left out")
        losses = {}
        for a in GRID:
            try:
                found = downdates.scores(functools.partial(_constant, value=a), priors)
            except ValueError:  # singular: too little shrinkage
                continue
            losses[a] = -np.average(found.own[counted], weights=weights[counted])
        return min(losses, key=losses.__getitem__)

    def _warn_near_collapse(self) -> None:
        rows, d = self.statistics_.rows - len(self.classes_), self.n_features_in_
        if self.shrinkage_ == 0 and d > 1 and rows < 1.5 * d:
            warnings.warn(
                f"{self.statistics_.rows} rows for {d} features: near as many rows as features the "
                "closed form falls towards chance; shrinkage='auto' mends it",
                stacklevel=3,
            )


def _constant(
    trace: np.ndarray, trace_of_square: np.ndarray, rows: np.ndarray, value: float
) -> np.ndarray:
    return np.full(len(trace), value)
