"""The two-way table between a model's weights and a checkpoint's variables.

An architecture is known by its rows: which of our weights is which variable, of which shape. The
comparison goes both ways and is told in one error: a wanted weight whose variable is absent, a
variable that nobody knows, and a variable of another shape. So a checkpoint of another family,
of another depth or of another vocabulary is refused before anything is loaded, and never half.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .base import Checkpoint, CheckpointError
from .families import family_of
from .nearest import nearest_names, numbers, template
from .surgery import Compound, select_tokens

#: Variables of training, not of the model: slots of optimizers, counters, moving averages, and
#: the object graph that TensorFlow 2 adds. Every pattern must match the whole name.
TRAINING_STATE: tuple[str, ...] = (
    r".*/(adam|lamb)_[mv]",
    r".*/(Adam|AdamW|AdamWeightDecay(Optimizer)?|LAMB|LAMBOptimizer|Momentum|Adafactor)(_\d+)?",
    r".*/ExponentialMovingAverage",
    r".*/slot_[vmrc]+",
    r"(.*/)?global_step",
    r"(.*/)?beta[12]_power(_\d+)?",
    r"(.*/)?(loss_scale|good_steps|bad_steps|current_loss_scale)",
    r"save_counter(/.*)?",
    r"_CHECKPOINTABLE_OBJECT_GRAPH",
    r".*/\.OPTIMIZER_SLOT/.*",
    r"optimizer/.*",
)

_LONGEST_LIST = 20


@dataclass(frozen=True)
class Row:
    """One weight of ours and the variable of the original checkpoint that holds it.

    Attributes:
        weight: Our path: layer name without prefix, then the attributes, as in
            'Transformer-0-MultiHeadSelfAttention/query/kernel'.
        variable: The checkpoint's name.
        shape: The checkpoint's shape (before `transform`).
        transform: 'transpose' where the checkpoint keeps the axes in reverse order, else None.
        optional: Whether a checkpoint may lack it; the weight then keeps its initial value.
        vocab_axis: The axis, in the checkpoint's order, on which keep_tokens and
            compound_tokens act; None where there is no vocabulary axis.
    """

    weight: str
    variable: str
    shape: tuple[int, ...]
    transform: Literal["transpose"] | None = None
    optional: bool = False
    vocab_axis: int | None = None


@dataclass(frozen=True)
class Misshapen:
    """A variable that is there in another shape than its row says."""

    row: Row
    found: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What to read into which weight: the outcome of a comparison without faults.

    Attributes:
        checkpoint: What is read from.
        rows: By our path, the rows whose variable is there and whose weight is wanted.
        ignored: Variables of the checkpoint that were knowingly ignored, sorted.
        unused: Variables that rows know but whose weights are not wanted (a head that is not
            built), sorted.
        absent: Wanted weights of optional rows whose variable the checkpoint lacks, sorted.
    """

    checkpoint: Checkpoint
    rows: dict[str, Row]
    ignored: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def weights(self) -> list[str]:
        """Return our paths in the order of the table."""
        return list(self.rows)

    def read(
        self,
        weight: str,
        keep_tokens: Sequence[int] | None = None,
        compound_tokens: Sequence[Compound] | None = None,
    ) -> np.ndarray:
        """Return the value of one weight, in our order of axes.

        Args:
            weight: Our path.
            keep_tokens: Applied on the row's vocabulary axis, if it has one; see
                `select_tokens`.
            compound_tokens: Likewise.

        Returns:
            An array that may be a read-only view of the file.

        Raises:
            KeyError: The plan does not hold this weight.
        """
        row = self.rows[weight]
        array = self.checkpoint.read(row.variable)
        if row.vocab_axis is not None:
            array = select_tokens(array, keep_tokens, compound_tokens, row.vocab_axis)
        return array.T if row.transform == "transpose" else array


@dataclass(frozen=True)
class Comparison:
    """Both directions of the table at once: what fits (`plan`) and what does not.

    Attributes:
        plan: The rows that fit.
        missing: Wanted rows whose variable the checkpoint lacks.
        unexpected: Variables that no row and no known pattern covers.
        misshapen: Variables of another shape than their row.
        known_names: All variables that the rows know (for the nearest names).
    """

    plan: Plan
    missing: tuple[Row, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[Misshapen, ...]
    known_names: tuple[str, ...] = field(repr=False)

    @property
    def fits(self) -> bool:
        """Whether nothing is missing, unexpected or misshapen."""
        return not (self.missing or self.unexpected or self.misshapen)


class CheckpointMismatch(CheckpointError):  # noqa: N818 - the name users catch
    """A checkpoint that is not the one the config describes; `comparison` has the lists."""

    def __init__(self, comparison: Comparison, context: str) -> None:
        self.comparison = comparison
        super().__init__(_report(comparison, context))


def compare(
    rows: Iterable[Row],
    checkpoint: Checkpoint,
    *,
    wanted: Iterable[str] | None = None,
    known: Sequence[str] = (),
) -> Comparison:
    """Compare the table with a checkpoint in both directions; raise nothing.

    Args:
        rows: Every row that the family knows for this config, heads included.
        checkpoint: What `open_checkpoint` returned.
        wanted: Our paths that the model to be built has; None for every row's.
        known: Regular expressions, each matching a whole name, of variables that are knowingly
            ignored. A variable that a row knows is never ignored.

    Returns:
        The comparison.

    Raises:
        ValueError: Two rows for one weight, or a wanted weight without a row: the table is wrong.
    """
    rows = list(rows)
    by_weight: dict[str, Row] = {}
    for row in rows:
        if row.weight in by_weight:
            raise ValueError(f"a weight has one row, got two for {row.weight!r}")
        by_weight[row.weight] = row
    wanted = set(by_weight) if wanted is None else set(wanted)
    strangers = sorted(wanted - set(by_weight))
    if strangers:
        raise ValueError(f"every wanted weight needs a row in the table, got none for {strangers}")

    present = set(checkpoint.names())
    fitting: dict[str, Row] = {}
    missing, misshapen, absent = [], [], []
    for row in rows:
        if row.weight not in wanted:
            continue
        if row.variable not in present:
            if row.optional:
                absent.append(row.weight)
            else:
                missing.append(row)
        elif (found := tuple(checkpoint.shape(row.variable))) != tuple(row.shape):
            misshapen.append(Misshapen(row, found))
        else:
            fitting[row.weight] = row

    names_of_rows = {row.variable for row in rows}
    needed = {row.variable for row in rows if row.weight in wanted}
    patterns = [re.compile(pattern) for pattern in known]
    strange = sorted(present - names_of_rows)
    ignored = [name for name in strange if any(p.fullmatch(name) for p in patterns)]
    plan = Plan(
        checkpoint=checkpoint,
        rows=fitting,
        ignored=tuple(ignored),
        unused=tuple(sorted((present & names_of_rows) - needed)),
        absent=tuple(sorted(absent)),
    )
    return Comparison(
        plan=plan,
        missing=tuple(missing),
        unexpected=tuple(sorted(set(strange) - set(ignored))),
        misshapen=tuple(misshapen),
        known_names=tuple(dict.fromkeys(row.variable for row in rows)),
    )


def match(
    rows: Iterable[Row],
    checkpoint: Checkpoint,
    *,
    wanted: Iterable[str] | None = None,
    known: Sequence[str] = (),
    context: str,
) -> Plan:
    """Compare in both directions and return the plan, or refuse with everything at once.

    Args:
        rows: See `compare`.
        checkpoint: See `compare`.
        wanted: See `compare`.
        known: See `compare`.
        context: What was to be loaded, for the error: "model 'roformer' with config x.json".

    Returns:
        The plan.

    Raises:
        CheckpointMismatch: Lists every missing, unexpected and misshapen variable, counts first,
            each with the nearest names; `error.comparison` holds them as data.
    """
    comparison = compare(rows, checkpoint, wanted=wanted, known=known)
    if not comparison.fits:
        raise CheckpointMismatch(comparison, context)
    return comparison.plan


def _report(comparison: Comparison, context: str) -> str:
    checkpoint = comparison.plan.checkpoint
    names = checkpoint.names()
    missing_names = {row.variable for row in comparison.missing}
    strange = set(comparison.unexpected)

    def missing_line(row: Row) -> str:
        # A variable that nobody else claims is the likelier spelling of the one that is missing.
        near = nearest_names(row.variable, strange) or nearest_names(row.variable, names)
        return f"{row.variable} {_size(row.shape)}{_near(near)}"

    def unexpected_line(name: str) -> str:
        near = nearest_names(name, missing_names) or nearest_names(name, comparison.known_names)
        return f"{name} {_size(checkpoint.shape(name))}{_near(near)}"

    def misshapen_line(item: Misshapen) -> str:
        right_shape = [
            n for n in strange if n != item.row.variable and checkpoint.shape(n) == item.row.shape
        ]
        near = nearest_names(item.row.variable, right_shape)
        hint = f" (of the expected shape: {', '.join(near)})" if near else ""
        expected = _size(item.row.shape)
        return f"{item.row.variable}: expected {expected}, found {_size(item.found)}{hint}"

    counts = (
        f"{len(comparison.missing)} missing, {len(comparison.unexpected)} unexpected, "
        f"{len(comparison.misshapen)} misshapen"
    )
    parts = [f"{checkpoint.description} does not fit {context}: {counts} variables."]
    parts += _guesses(comparison)
    parts += _listing("Missing from the checkpoint", comparison.missing, missing_line)
    parts += _listing("Unexpected in the checkpoint", comparison.unexpected, unexpected_line)
    parts += _listing("Of another shape", comparison.misshapen, misshapen_line)
    parts.append("Nothing was loaded. Check that config, model name and checkpoint go together.")
    return "\n".join(parts)


def _guesses(comparison: Comparison) -> list[str]:
    """What most likely went wrong, where it can be seen from the lists."""
    guesses = []
    family = family_of(comparison.plan.checkpoint.names())
    if family is not None:
        guesses.append(f"By its names it is a checkpoint of {family}.")
    sizes = {
        (item.row.shape[item.row.vocab_axis], item.found[item.row.vocab_axis])
        for item in comparison.misshapen
        if item.row.vocab_axis is not None and len(item.found) == len(item.row.shape)
    }
    sizes = {(expected, found) for expected, found in sizes if expected != found}
    if len(sizes) == 1:
        ((expected, found),) = sizes
        guesses.append(
            f"The vocabulary differs: {expected} tokens are expected, the checkpoint has {found}; "
            "set vocab_size and vocab.txt to the checkpoint's own."
        )
    theirs = _depth(comparison.unexpected)
    ours = _depth(comparison.known_names)
    if theirs is not None and ours is not None and theirs > ours:
        guesses.append(
            f"The checkpoint is deeper: it has layers up to {theirs}, the config goes up to "
            f"{ours}; see num_hidden_layers."
        )
    deepest_missing = _depth([row.variable for row in comparison.missing])
    there = _depth(comparison.plan.checkpoint.names())
    if deepest_missing is not None and there is not None and deepest_missing > there:
        guesses.append(
            f"The checkpoint is shallower: it has layers up to {there}, the config goes up to "
            f"{deepest_missing}; see num_hidden_layers."
        )
    return guesses


def _depth(names: Iterable[str]) -> int | None:
    """The highest number of names like '.../layer_7/...', where such names are there."""
    found = [
        numbers(part)[0]
        for name in names
        for part in name.split("/")
        if template(part) in ("layer_#", "block_#", "layer#")
    ]
    return max(found, default=None)


def _listing(title: str, items: Sequence, line: object) -> list[str]:
    if not items:
        return []
    lines = [f"{title} ({len(items)}):"]
    lines += [f"  - {line(item)}" for item in items[:_LONGEST_LIST]]  # type: ignore[operator]
    if len(items) > _LONGEST_LIST:
        lines.append(f"  and {len(items) - _LONGEST_LIST} more")
    return lines


def _size(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"


def _near(names: Sequence[str]) -> str:
    return f" (nearest: {', '.join(names)})" if names else ""
