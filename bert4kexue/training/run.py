"""A pretraining run that can be killed at any moment and goes on as if nothing had happened.

Everything random is drawn from the seed and the number of the step: which objective is asked, which
rows, what is hidden in them. A save holds weights, optimizer, the dropout's own generators and the
counters, whole or not at all; after a kill the steps since the last save are taken again, the same
steps. The checkpoint in `model/` is written after the save, and `model.json` after that, with the
step: a run that was stopped between the two writes the checkpoint when it is started again. Where
dropout draws from a generator of the backend (torch), which no save can hold, that is seeded anew
after every save. `loss.csv` is cut back to the save, so its curve has no seam.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4kexue._files import atomic_write
from bert4kexue.training.event_log import EventLog
from bert4kexue.training.objectives import Batch
from bert4kexue.training.plan import Plan
from bert4kexue.training.pretraining import Pretrainer


class RunError(ValueError):
    """A run that cannot be started or resumed as it was asked."""


@dataclasses.dataclass(frozen=True)
class Task:
    """An objective's batches and how often they are drawn.

    Args:
        plan: the batches.
        share: weight against the other tasks; or a function of the share of the run that is over.
    """

    plan: Plan
    share: float | Callable[[float], float] = 1.0

    def weight(self, progress: float) -> float:
        """The share at this point of the run, from 0 to 1."""
        return self.share(progress) if callable(self.share) else self.share


class PretrainingRun:
    """Trains step by step, logs, saves, resumes.

    Args:
        folder: where state, logs and checkpoint go; made where it is missing.
        model: compiled.
        tasks: by name.
        steps: of the whole run.
        seed: of everything random but weights and dropout.
        write_checkpoint: writes the model for users, at every save.
        log_every: steps whose mean losses make one line of `loss.csv`.
        save_every: steps; a multiple of `log_every`.
        devices: that split every batch; it is filled up with empty rows to a multiple of them.
        settings: what must not change between starts (config, data, objectives), as JSON.

    Raises:
        RunError: the folder holds a save of a run with other settings.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        model: Pretrainer,
        tasks: Mapping[str, Task],
        *,
        steps: int,
        seed: int,
        write_checkpoint: Callable[[Path], None] | None = None,
        log_every: int = 50,
        save_every: int = 500,
        devices: int = 1,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not tasks:
            raise RunError("a run needs at least one task")
        if steps < 1 or log_every < 1 or save_every % log_every or save_every < 1:
            raise RunError(
                "steps and log_every must be 1 or more and save_every a multiple of log_every, got "
                f"{steps}, {log_every}, {save_every}"
            )
        self.folder, self.model, self.tasks = Path(folder), model, dict(tasks)
        self.steps, self.seed = steps, seed
        self.write_checkpoint = write_checkpoint
        self.log_every, self.save_every, self.devices = log_every, save_every, devices
        self.step = 0
        self.drawn = dict.fromkeys(self.tasks, 0)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_settings(dict(settings or {}) | {"steps": steps, "seed": seed})
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)

    # --- training -----------------------------------------------------------------------------

    def train(
        self,
        report: Callable[[int, dict[str, float]], None] | None = None,
        watch: Callable[[Iterable[Any], int], Iterable[Any]] = lambda batches, left: batches,
    ) -> None:
        """Go on from the last save to the end; global generators are seeded (`set_random_seed`).

        Args:
            report: told every `log_every` steps: the step, and rate and mean losses by name.
            watch: what the batches go through, a progress bar for instance; told how many are left.

        Raises:
            RunError: a loss is not finite.
        """
        if self.resume() and not self._model_is_written():
            self._write_model()
        if self.step >= self.steps:
            return
        log = EventLog(self.folder / "tensorboard", self.step)
        losses: dict[str, list[float]] = {name: [] for name in self.tasks}
        batches = self._batches()
        try:
            for name, batch in watch(batches, self.steps - self.step):
                if self.step % self.save_every == 0:
                    self._seed_backend()
                loss = self._train_on(batch)
                self.drawn[name] += 1
                if not np.isfinite(loss):
                    raise self._not_finite(name, loss)
                losses[name].append(loss)
                self.step += 1
                if self.step % self.log_every == 0 or self.step == self.steps:
                    means = {k: float(np.mean(v)) for k, v in losses.items() if v}
                    losses = {key: [] for key in self.tasks}
                    self._log(log, means, report)
                if self.step % self.save_every == 0 or self.step == self.steps:
                    self.save()
        finally:
            batches.close()
            log.close()

    def _not_finite(self, name: str, loss: float) -> RunError:
        told = "nothing has been saved yet, so the same folder will do"
        if self._state.exists():
            told = "the last save is kept, and other settings need another folder"
        return RunError(
            f"the loss of {name} is {loss} at step {self.step}: lower the learning rate, warm up "
            f"longer, or use float32; {told}"
        )

    def _seed_backend(self) -> None:
        rng = np.random.default_rng([self.seed, 3, self.step])
        keras.utils.set_random_seed(int(rng.integers(2**31)))

    def _batches(self) -> Generator[tuple[str, Batch], None, None]:
        """Task and batch of each step left; one is made while the one before is trained on."""
        drawn = dict(self.drawn)

        def make(step: int) -> tuple[str, Batch]:
            name = self._draw(step)
            rng = np.random.default_rng([self.seed, 2, step])
            batch = self.tasks[name].plan.batch(drawn[name], rng)
            drawn[name] += 1
            return name, filled_up(batch, self.devices)

        with ThreadPoolExecutor(1) as worker:
            coming = worker.submit(make, self.step)
            for step in range(self.step + 1, self.steps + 1):
                made = coming.result()
                if step < self.steps:
                    coming = worker.submit(make, step)
                yield made

    def _draw(self, step: int) -> str:
        progress = step / self.steps
        weights = np.array([task.weight(progress) for task in self.tasks.values()], float)
        if weights.min() < 0 or not weights.sum() > 0:
            raise RunError(
                f"the shares at {progress:.0%} of the run are {weights.tolist()}: none may be "
                "negative, and at every step one must be above 0"
            )
        rng = np.random.default_rng([self.seed, 1, step])
        return str(rng.choice(list(self.tasks), p=weights / weights.sum()))

    def _train_on(self, batch: Batch) -> float:
        self.model.reset_metrics()
        return float(self.model.train_on_batch(batch))

    def _log(
        self,
        log: EventLog,
        means: dict[str, float],
        report: Callable[[int, dict[str, float]], None] | None,
    ) -> None:
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values = {"learning_rate": rate, **means}
        path = self.folder / "loss.csv"
        new = not path.exists()
        with path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(["step", "learning_rate", *self.tasks])
            row = [f"{means[name]:.6f}" if name in means else "" for name in self.tasks]
            writer.writerow([self.step, f"{rate:.6e}", *row])
        log.add(self.step, values)
        if report is not None:
            report(self.step, values)

    # --- saving and resuming ------------------------------------------------------------------

    def save(self) -> None:
        """Write state and checkpoint, each complete before it takes its name.

        With moving averages of the weights (`use_ema`) the checkpoint holds the averages.
        """
        arrays = {f"variable/{i}": _numpy(v) for i, v in enumerate(self._variables())}
        arrays["counters"] = np.array(json.dumps({"step": self.step, "drawn": self.drawn}))
        with atomic_write(self._state) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        self._write_model()

    @property
    def _state(self) -> Path:
        return self.folder / "state.npz"

    def _model_is_written(self) -> bool:
        """Whether `model/` is of the present step."""
        if self.write_checkpoint is None:
            return True
        mark = self.folder / "model.json"
        return (
            (self.folder / "model").is_dir()
            and mark.is_file()
            and mark.read_bytes() == self._mark().encode()
        )

    def _mark(self) -> str:
        return json.dumps({"step": self.step}) + "\n"

    def _write_model(self) -> None:
        if self.write_checkpoint is None:
            return
        optimizer: Any = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        kept = None
        if optimizer.use_ema:
            kept = [_numpy(v) for v in self.model.trainable_variables]
            optimizer.finalize_variable_values(self.model.trainable_variables)
        try:
            self.write_checkpoint(self.folder / "model")
        finally:
            for variable, value in zip(self.model.trainable_variables, kept or (), strict=False):
                variable.assign(value)
        with atomic_write(self.folder / "model.json", "w") as file:
            file.write(self._mark())

    def resume(self) -> bool:
        """Take up the last save, if there is one; whether there was.

        Raises:
            RunError: the state is damaged, or of another model.
        """
        path = self._state
        if not path.exists():
            for name in ("loss.csv", "model.json"):
                (self.folder / name).unlink(missing_ok=True)
            return False
        try:
            with path.open("rb") as file, np.load(file) as state:
                counters = json.loads(str(state["counters"]))
                variables = self._variables()
                arrays = [state[f"variable/{i}"] for i in range(len(variables))]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{path} is damaged or of another model ({error})") from error
        for variable, array in zip(variables, arrays, strict=True):
            if tuple(variable.shape) != array.shape:
                raise RunError(
                    f"{path} is of another model: {variable.path} has the shape "
                    f"{tuple(variable.shape)} and there it has {array.shape}"
                )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.step = counters["step"]
        self.drawn = {name: counters["drawn"].get(name, 0) for name in self.tasks}
        self._cut_log()
        return True

    def _cut_log(self) -> None:
        path = self.folder / "loss.csv"
        if not path.exists():
            return
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = list(csv.reader(file))
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(r for r in rows if len(r) == len(head) and int(r[0]) <= self.step)
        with atomic_write(path, "w") as file:
            file.write(out.getvalue())

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = self.folder / "run.json"
        settings = json.loads(json.dumps(settings))
        if path.exists() and self._state.exists():
            there = json.loads(path.read_text(encoding="utf-8"))
            different = sorted(
                key for key in there.keys() | settings if there.get(key) != settings.get(key)
            )
            if different:
                told = "; ".join(
                    f"{key} was {there.get(key)!r} and is {settings.get(key)!r}"
                    for key in different
                )
                raise RunError(
                    f"{self.folder} holds a run with other settings ({told}): give the same, or "
                    "another folder"
                )
        else:
            with atomic_write(path, "w") as file:
                json.dump(settings, file, ensure_ascii=False, indent=1, sort_keys=True)
                file.write("\n")


def filled_up(batch: Batch, devices: int) -> Batch:
    """The batch with as many empty rows, or pairs of rows, as every device gets equally many of."""
    rows = len(batch["token_ids"]) // (2 if "pair_weights" in batch else 1)
    more = -rows % devices
    if not more:
        return batch

    def filled(array: np.ndarray) -> np.ndarray:
        empty = np.zeros((more * len(array) // rows, *array.shape[1:]), array.dtype)
        return np.concatenate([array, empty])

    return {key: filled(array) for key, array in batch.items()}


def _numpy(variable: Any) -> np.ndarray:
    array = np.array(keras.ops.convert_to_numpy(variable))
    # npz knows no bfloat16, of which float32 holds every value.
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def plot_losses(csv_path: str | os.PathLike[str], png_path: str | os.PathLike[str]) -> None:
    """Draw `loss.csv`: a curve for each task, over the steps.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "the loss curve needs matplotlib: pip install 'bert4kexue[pretraining]'"
        ) from None
    with open(csv_path, encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for column, name in enumerate(head[2:], 2):
        points = [(int(row[0]), float(row[column])) for row in rows if row[column]]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(png_path, dpi=110)
