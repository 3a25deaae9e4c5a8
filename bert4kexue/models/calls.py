"""A functional model as the list of its calls, in the order in which they can be made.

Decoding makes the same calls on other tensors: attention with its cache, positions where a token
really stands, the head on the last token alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Call(NamedTuple):
    """One layer called once: its operation, its symbolic arguments, its symbolic outputs."""

    operation: Any
    arguments: Any
    outputs: tuple[Any, ...]

    @property
    def inputs(self) -> list[Any]:
        """The symbolic tensors among the arguments."""
        return list(self.arguments.keras_tensors)


def calls_of(inputs: list[Any], output: Any) -> list[Call]:
    """What has to be called, and in which order, to come from ``inputs`` to ``output``.

    Args:
        inputs: symbolic tensors; whatever feeds them is left out.
        output: a symbolic tensor.

    Raises:
        ValueError: the output needs another input of the model.
    """
    given = {id(tensor) for tensor in inputs}
    made: dict[tuple[int, int], None] = {}
    found: list[Call] = []
    stack = [(output, False)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in given:
            continue
        history = tensor._keras_history
        key = (id(history.operation), history.node_index)
        if key in made:
            continue
        node = history.operation._inbound_nodes[history.node_index]
        if node.is_input:
            raise ValueError(
                f"the model has an input {tensor.name!r} besides Input-Token, Input-Segment and "
                "Input-Position: generation does not know what to give it"
            )
        call = Call(history.operation, node.arguments, tuple(node.outputs))
        if ready:
            made[key] = None
            found.append(call)
        else:
            stack.append((tensor, True))
            stack += [(before, False) for before in reversed(call.inputs)]
    return found
