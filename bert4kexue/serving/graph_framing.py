"""From the tokens of many texts to padded rows, in a TensorFlow graph: truncation and pairs."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Framing:
    """How the texts of a batch are shortened and joined.

    Args:
        has_end: every text ends with an end token.
        cut_at: the index at which tokens are removed, as of `list.pop`.
        paired: texts come in pairs, the second of each behind its first.
        start_dropped: the second texts come without their start token, which counts only while
            the lengths are decided.
    """

    has_end: bool
    cut_at: int
    paired: bool
    start_dropped: bool

    @property
    def least(self) -> int:
        """What must remain of a text for the index of removal to exist."""
        return self.cut_at if self.cut_at >= 0 else -self.cut_at - 1

    def check(self, maxlen: Any) -> None:
        """Refuse a number that is too small wherever it shortens anything.

        Raises:
            ValueError: it leaves no room for what may not be removed.
        """
        least = self._least_total()
        if isinstance(maxlen, int) and maxlen < least:
            raise ValueError(self._too_small(maxlen, least))

    def dense(self, splits: Any, maxlen: Any, ids: Any, *others: Any) -> tuple[Any, ...]:
        """Padded rows.

        Args:
            splits: int32, where the tokens of each text begin, and their number.
            maxlen: the most tokens of a row, or None.
            ids: (tokens,) int32.
            others: more values of the tokens.

        Returns:
            Token ids (b, n), segment ids (b, n), and the others (b, n).
        """
        import tensorflow as tf

        values = (ids, *others)
        if maxlen is not None:
            maxlen = tf.convert_to_tensor(maxlen, tf.int32)
            lengths = splits[1:] - splits[:-1]
            totals = lengths[::2] + lengths[1::2] if self.paired else lengths
            # Behind the condition, so that a batch of short texts pays for one comparison.
            splits, *values = tf.cond(
                tf.reduce_any(totals > maxlen),
                lambda: self._cut(splits, lengths, maxlen, values),
                lambda: (splits, *values),
            )
        rows = splits[::2] if self.paired else splits
        padded = [
            tf.raw_ops.RaggedTensorToTensor(
                shape=tf.constant([-1, -1]),
                values=value,
                default_value=0,
                row_partition_tensors=[rows],
                row_partition_types=["ROW_SPLITS"],
            )
            for value in values
        ]
        if not self.paired:
            segment_ids = tf.zeros_like(padded[0])
        else:
            column = tf.range(tf.shape(padded[0])[1])[None]
            first = (splits[1::2] - rows[:-1])[:, None]
            total = (rows[1:] - rows[:-1])[:, None]
            segment_ids = tf.cast((column >= first) & (column < total), tf.int32)
        return (padded[0], segment_ids, *padded[1:])

    def _cut(self, splits: Any, lengths: Any, maxlen: Any, values: Any) -> tuple[Any, ...]:
        """What stays of each text is a part of its head and a part of its tail."""
        import tensorflow as tf

        least = self._least_total()
        room = tf.debugging.Assert(maxlen >= least, [self._too_small("...", least), maxlen])
        with tf.control_dependencies([room]):
            most = maxlen + int(self.start_dropped)
        dropped = 0  # of each text, the tokens that are counted but are not there
        if self.paired:
            first, second = lengths[::2], lengths[1::2] + int(self.start_dropped)
            kept = tf.minimum(first, tf.maximum(most // 2, most - second))
            short = first + second <= most
            targets = [tf.where(short, first, kept), tf.where(short, second, most - kept)]
            target = tf.reshape(tf.stack(targets, axis=1), [-1])
            dropped = tf.range(tf.size(target)) % 2 * int(self.start_dropped)
        else:
            target = tf.minimum(lengths, most)
        if self.cut_at >= 0:
            head = tf.minimum(self.cut_at, target)
            tail = target - head
        else:
            tail = tf.minimum(-self.cut_at - 1, target)
            head = target - tail
        # The start token goes last of all, and takes the place of what is then first.
        tail = tf.where(head < dropped, tf.maximum(tail - dropped, 0), tail)
        head = tf.maximum(head - dropped, 0)
        begin, end = splits[:-1], splits[1:]
        found, indices = tf.raw_ops.RaggedRange(
            starts=tf.reshape(tf.stack([begin, end - tail], axis=1), [-1]),
            limits=tf.reshape(tf.stack([begin + head, end], axis=1), [-1]),
            deltas=1,
            Tsplits=tf.int32,
        )
        return (found[::2], *(tf.gather(value, indices) for value in values))

    def _least_total(self) -> int:
        return self.least * (1 + self.paired) - int(self.start_dropped)

    def _too_small(self, maxlen: Any, least: int) -> str:
        return (
            f"maxlen={maxlen} is too small: removing at index {self.cut_at} needs at least "
            f"{least} tokens left; give a larger maxlen"
        )
