"""A closed form as an .npz file: its statistics, so that files of several workers can be merged."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from bert4kexue._files import atomic_write
from bert4kexue.analysis.closed_form import ClosedFormSoftmax
from bert4kexue.analysis.moments import ClassMoments


def save_closed_form(model: ClosedFormSoftmax, path: str | os.PathLike[str]) -> None:
    """Write a fitted classifier.

    An intensity that was found on the rows ("loo", "ledoit-wolf") is written as the number it is.

    Raises:
        ValueError: labels or priors that are no plain array.
    """
    model._check_fitted()
    classes = np.asarray(model.classes_)
    if classes.dtype.hasobject:
        classes = classes.astype(str)
    found = model.shrinkage in ("loo", "ledoit-wolf")
    arrays: dict[str, Any] = {
        "closed_form": np.array(1, np.int64),  # the format's version
        "classes": classes,
        "shrinkage": np.array(str(model.shrinkage_ if found else model.shrinkage)),
        "singular": np.array(model.singular),
        **model.statistics_.arrays(),
    }
    if model.priors is not None:
        arrays["priors"] = np.asarray(model.priors)
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def load_closed_form(path: str | os.PathLike[str]) -> ClosedFormSoftmax:
    """Read what `save_closed_form` wrote.

    Raises:
        ValueError: the file is no such file.
    """
    with np.load(path, allow_pickle=False) as archive:
        if "closed_form" not in archive or int(archive["closed_form"]) != 1:
            raise ValueError(f"{os.fspath(path)} is no closed form: make it with save_closed_form")
        arrays = {name: archive[name] for name in archive.files}
    text = str(arrays["shrinkage"])
    priors = arrays.get("priors")
    if priors is not None and priors.dtype.kind == "U":
        priors = str(priors)
    model = ClosedFormSoftmax(
        text if text in ("auto", "oas") else float(text),
        priors,
        "pinv" if str(arrays["singular"]) == "pinv" else "raise",
    )
    return model.restore(arrays["classes"], ClassMoments.from_arrays(arrays))
