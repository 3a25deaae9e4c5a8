"""What the density examples share: training within a time, and the tables of their pages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np


def fit(
    model: Any, x: np.ndarray, path: Path, minutes: float, epochs: int, batch: int = 100
) -> str:
    """Train until a tenth of the rows says stop or the time is over; save; epochs and minutes.

    Args:
        model: a compiled VAE.
        x: rows to train on, the last tenth of them to watch.
        path: model file; the best so far lies beside it meanwhile.
        minutes: of the processor, so that a busy machine trains as long as an idle one.
        epochs: at most.
        batch: rows of a step.
    """
    import keras

    cut = len(x) * 9 // 10
    start = time.process_time()
    limit = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(
            model,
            "stop_training",
            model.stop_training or time.process_time() - start > 60 * minutes,
        )
    )
    history = model.fit(
        x[:cut],
        batch_size=batch,
        epochs=epochs,
        validation_data=(x[cut:],),
        verbose=0,
        callbacks=[
            # The bound of a draw scatters by some tenths of a nat from epoch to epoch.
            keras.callbacks.ReduceLROnPlateau(factor=0.3, patience=6, min_delta=0.2, min_lr=1e-5),
            keras.callbacks.EarlyStopping(patience=15, min_delta=0.2, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint(path.with_suffix(".best.keras"), save_best_only=True),
            keras.callbacks.CSVLogger(path.with_suffix(".csv")),
            limit,
        ],
    )
    spent = f"{len(history.epoch)} epochs, {(time.process_time() - start) / 60:.1f} min"
    path.with_suffix(".txt").write_text(spent, encoding="utf-8", newline="\n")
    model.save(path)
    print(f"{path.stem}: {spent}", flush=True)
    return spent


def timed_estimates(
    models: dict[str, Any], data: dict[str, np.ndarray], samples: int, chunk: int = 4096
) -> tuple[dict[str, Any], dict[str, float]]:
    """log p(x) by each model of its own data, and the seconds it took."""
    estimates, seconds = {}, {}
    for name, model in models.items():
        start = time.perf_counter()
        estimates[name] = model.log_prob(data[name], samples, chunk=chunk, seed=1)
        seconds[name] = time.perf_counter() - start
        print(f"{name}: {estimates[name].mean:.2f} nats, {seconds[name]:.0f} s", flush=True)
    return estimates, seconds


def likelihood_table(
    names: dict[str, str],
    estimates: dict[str, Any],
    spent: dict[str, str],
    seconds: dict[str, float],
    size: int,
    element: str,
) -> list[str]:
    """The held-out log-likelihood of each model, and the bound against the number of draws."""
    from bert4kexue.methods.density_estimates import bits_per_dimension

    first = next(iter(estimates.values()))
    lines = [
        f"| model | bound of 1 draw | log p(x), {first.samples} draws | error: draws "
        f"| error: rows | bits a {element} | effective draws: median, least "
        "| training (processor) | estimate |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in estimates.items():
        bits = bits_per_dimension(found.mean, size)
        effective = found.effective_samples
        lines.append(
            f"| {names[name]} | {found.curve[0].mean():.2f} | {found.mean:.2f} "
            f"| {found.mean_error:.3f} | {found.data_error:.2f} | {bits:.4f} "
            f"| {np.median(effective):.0f}, {effective.min():.1f} | {spent[name]} "
            f"| {seconds[name]:.0f} s |"
        )
    sizes = first.curve_samples
    lines += ["", "Nats a row. The bound rises with the number of draws:", ""]
    lines += ["| draws | " + " | ".join(map(str, sizes)) + " |", "|---" * (len(sizes) + 1) + "|"]
    for name, found in estimates.items():
        values = " | ".join(f"{value:.2f}" for value in found.curve.mean(axis=1))
        lines.append(f"| {names[name]} | {values} |")
    return lines


def auroc(ordinary: np.ndarray, strange: np.ndarray) -> float:
    """The chance that a strange score is above an ordinary one, ties by half."""
    above = (strange[:, None] > ordinary[None]).mean()
    return float(above + 0.5 * (strange[:, None] == ordinary[None]).mean())
