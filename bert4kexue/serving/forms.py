"""Two forms of every task: ids in, strings in.

A task ``vectors`` gives the signatures ``vectors`` (``token_ids`` and ``segment_ids``, int32, any
batch and any length) and, with a tokenizer, ``vectors_text`` (``text``, and ``second`` where a
question has two texts). The model is one function that all of them call, so its graph is stored
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras

from bert4kexue.serving.export import Endpoint, default_signature
from bert4kexue.serving.graph_tokenizer import GraphTokenizer
from bert4kexue.serving.task import Forward, Task
from bert4kexue.text.wordpiece import Tokenizer

InputStyle = Literal["int32", "bert4keras"]
# bert4keras's own SavedModels have its names with dashes. What Python loads from one is called with
# dashes or with underscores.
_STYLES = {
    "int32": (("token_ids", "segment_ids"), "int32"),
    "bert4keras": (("Input-Token", "Input-Segment"), "float32"),
}


def both_forms(
    tasks: Mapping[str, Task],
    forwards: Mapping[str, Callable[..., Any]],
    tokenizer: Tokenizer | None = None,
    *,
    maxlen: int | None = None,
    inputs: InputStyle = "int32",
) -> dict[str, Endpoint]:
    """The signatures of the tasks.

    Args:
        tasks: by name.
        forwards: by the task's name: ids, as the model takes them, to the model's outputs.
        tokenizer: of the model's vocabulary; None leaves the strings form out.
        maxlen: most tokens of a row made of strings.
        inputs: names and type of the ids.

    Raises:
        ValueError: a tokenizer that has no graph (word-based ones), or unknown ``inputs``.
    """
    if inputs not in _STYLES:
        raise ValueError(f"inputs must be one of {', '.join(_STYLES)}, got {inputs!r}")
    graph = None if tokenizer is None else _GraphOnce(GraphTokenizer(tokenizer), maxlen)
    checked: dict[int, Forward] = {}
    made = {}
    for name, task in tasks.items():
        key = id(forwards[name])
        if key not in checked:
            checked[key] = checked_forward(task.model, forwards[name])
        forward = checked[key]
        made[name] = ids_form(task, forward, inputs)
        if graph is not None:
            made[f"{name}_text"] = text_form(task, forward, graph)
    return made


def model_form(model: keras.Model, forward: Forward, inputs: InputStyle = "int32") -> Endpoint:
    """The model as it is, ids in, under the names of `default_signature`: ``serving_default``."""
    outputs = default_signature(model).outputs
    known, dtype = _STYLES[inputs]
    checked = checked_forward(model, forward)

    def call(token_ids: Any, segment_ids: Any = None) -> dict[str, Any]:
        import tensorflow as tf

        token_ids = tf.cast(token_ids, tf.int32)
        if segment_ids is None:
            segment_ids = tf.zeros_like(token_ids)
        answers = checked(token_ids, tf.cast(segment_ids, tf.int32))
        several = answers if isinstance(answers, list | tuple) else [answers]
        return dict(zip(outputs, several, strict=True))

    specs = [
        keras.InputSpec(shape=(None, None), dtype=dtype, name=name)
        for name in known[: len(model.inputs)]
    ]
    return Endpoint(call, tuple(specs), outputs)


def ids_form(task: Task, forward: Forward, inputs: InputStyle = "int32") -> Endpoint:
    """Ids in: ``token_ids`` and ``segment_ids`` (b, n); a second row's have ``other_`` before."""
    known, dtype = _STYLES[inputs]
    names = known[: len(task.model.inputs)]

    def call(*ids: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        whole = [tf.cast(part, tf.int32) for part in ids]
        rows = []
        for start in range(0, len(whole), len(names)):
            row = whole[start : start + len(names)]
            rows += row if len(row) == 2 else [row[0], tf.zeros_like(row[0])]
        return task.answer(forward, *rows)

    specs = [
        keras.InputSpec(shape=(None, None), dtype=dtype, name=before + name)
        for before in ("", "other_")[: task.rows]
        for name in names
    ]
    return Endpoint(call, tuple(specs), task.outputs)


def text_form(task: Task, forward: Forward, graph: _GraphOnce) -> Endpoint:
    """Strings in: ``text`` (b,), and ``second`` (b,) where a question has two texts."""

    def call(text: Any, second: Any = None) -> tuple[Any, ...]:
        if task.rows == 2:
            _same_number(text, second)
            rows = (*graph(text), *graph(second))
            return task.answer(forward, *rows)
        if second is not None:
            _same_number(text, second)
        if task.offsets is None:
            token_ids, segment_ids = graph(text, second)
        else:
            token_ids, segment_ids, offsets = graph.with_offsets(text, second)
        if task.prepare is not None:
            token_ids, segment_ids = task.prepare(token_ids, segment_ids)
        answers = task.answer(forward, token_ids, segment_ids)
        if task.offsets is None:
            return answers
        named = dict(zip(task.outputs, answers, strict=True))
        named[task.offsets] = to_characters(named[task.offsets], offsets)
        return tuple(named.values())

    several = max(task.texts, task.rows) == 2
    specs = tuple(
        keras.InputSpec(shape=(None,), dtype="string", name=name)
        for name in (("text", "second") if several else ("text",))
    )
    return Endpoint(call, specs, task.outputs, (graph.module,))


def to_characters(spans: Any, offsets: Any) -> Any:
    """Ranges of tokens (b, s, 2), end exclusive, as ranges of characters; -1 stays -1."""
    import tensorflow as tf

    real = spans[..., 0] >= 0
    first = tf.where(real, spans[..., 0], 0)
    last = tf.where(real, spans[..., 1] - 1, 0)
    start = tf.gather(offsets[..., 0], first, batch_dims=1)
    end = tf.gather(offsets[..., 1], last, batch_dims=1)
    return tf.where(real[..., None], tf.stack([start, end], axis=-1), -1)


def checked_forward(model: keras.Model, function: Callable[..., Any]) -> Forward:
    """The model's function behind a check of its ids: a message instead of a wrong vector."""
    import tensorflow as tf

    inputs = len(model.inputs)
    spec = tf.TensorSpec((None, None), tf.int32)

    def forward(token_ids: Any, segment_ids: Any) -> Any:
        ids = checked_ids(model, token_ids, segment_ids)
        return function(*ids[:inputs])

    return tf.function(forward, input_signature=[spec, spec], autograph=False)


def checked_ids(
    model: keras.Model, token_ids: Any, segment_ids: Any, *, written: int = 0
) -> tuple[Any, Any]:
    """The ids behind a check that the model has vectors for them and for `written` more tokens."""
    import tensorflow as tf

    v, segments, longest = embedding_sizes(model)
    checks = [
        _within(token_ids, v, "token_ids", "is the tokenizer of another vocabulary?"),
        tf.debugging.assert_equal(
            tf.shape(token_ids),
            tf.shape(segment_ids),
            "token_ids and segment_ids must have one shape (b, n)",
        ),
    ]
    if segments is not None:
        checks.append(_within(segment_ids, segments, "segment_ids", "use 0 and 1"))
    if longest is not None:
        beside = f", {written} of them for what is written" if written else ""
        checks.append(
            tf.debugging.assert_less_equal(
                tf.shape(token_ids)[1],
                longest - written,
                f"a row may have at most {longest - written} tokens, the positions the model knows"
                f"{beside}: cut the text",
            )
        )
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(token_ids), tf.identity(segment_ids)


def embedding_sizes(model: keras.Model) -> tuple[int | None, int | None, int | None]:
    """Token ids, segment ids and positions that the model has vectors for; None for no limit."""
    sizes: dict[str, int] = {}
    for layer in model.layers:
        for role in ("Embedding-Token", "Embedding-Segment", "Embedding-Position"):
            if layer.name.endswith(role) and getattr(layer, "hierarchical", None) is None:
                sizes[role] = layer.input_dim
    return (
        sizes.get("Embedding-Token"),
        sizes.get("Embedding-Segment"),
        sizes.get("Embedding-Position"),
    )


def _within(ids: Any, size: int | None, name: str, remedy: str) -> Any:
    import tensorflow as tf

    if size is None:
        return None
    good = tf.reduce_all((ids >= 0) & (ids < size))
    message = f"{name} must be 0 to {size - 1}: {remedy} The ids start with"
    return tf.debugging.Assert(good, [message, ids], summarize=8)


def _same_number(text: Any, second: Any) -> None:
    import tensorflow as tf

    tf.debugging.assert_equal(
        tf.size(text), tf.size(second), "text and second must hold as many strings: one pair a row"
    )


class _GraphOnce:
    """The graph tokenizer with its limit, stored once however many signatures call it."""

    def __init__(self, module: Any, maxlen: int | None) -> None:
        import tensorflow as tf

        self.module = module
        string = tf.TensorSpec((None,), tf.string)
        self._one = tf.function(
            lambda text: module(text, maxlen=maxlen), input_signature=[string], autograph=False
        )
        self._pair = tf.function(
            lambda text, second: module(text, second, maxlen=maxlen),
            input_signature=[string, string],
            autograph=False,
        )
        self._maxlen = maxlen

    def __call__(self, text: Any, second: Any = None) -> Any:
        made = self._one(text) if second is None else self._pair(text, second)
        return [_with_a_column(part) for part in made]

    def with_offsets(self, text: Any, second: Any = None) -> Any:
        made = self.module(text, second, maxlen=self._maxlen, return_offsets=True)
        return [_with_a_column(part) for part in made]


def _with_a_column(ids: Any) -> Any:
    """An empty batch has no longest row; the model reads a first token all the same."""
    import tensorflow as tf

    missing = tf.maximum(1 - tf.shape(ids)[1], 0)
    return tf.pad(ids, [[0, 0], [0, missing], *[[0, 0]] * (len(ids.shape) - 2)])
