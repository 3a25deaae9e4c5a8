"""Pictures of the examples: matplotlib, asked for before anything is computed."""

from __future__ import annotations

from types import ModuleType


def pyplot() -> ModuleType:
    """`matplotlib.pyplot`, drawing into files.

    Called at the start of an example, so that a missing package ends it before the measuring.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise SystemExit(
            "This example draws a picture with matplotlib, which is not installed: "
            "run `pip install matplotlib`."
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt
