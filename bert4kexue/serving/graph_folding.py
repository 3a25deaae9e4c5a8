"""What a per-character table cannot do, in a TensorFlow graph: the irregular symbols of a batch.

Marks of ours that a text brought itself, characters that become several or none, the capital sigma,
which becomes a final sigma at the end of a word, and combining marks, which canonical ordering
moves past each other. The result holds regular symbols only.
"""

from __future__ import annotations

from typing import Any

from bert4kexue.serving.tokenizer_tables import TokenizerTables


class GraphFolding:
    """Rewrites a stream of symbols; see `TokenizerTables`."""

    def __init__(self, tables: TokenizerTables) -> None:
        import tensorflow as tf

        self._tables = tables
        self._starts = tf.constant(tables.expansion_starts)
        self._expansions = tf.constant(tables.expansions)
        self._combining = tf.constant(tables.combining)

    def rewrite(
        self, points: Any, symbols: Any, splits: Any, marks: Any, found: Any, aligned: bool
    ) -> tuple[Any, ...]:
        """Regular symbols for irregular ones.

        Args:
            points: (s,) int32, the code points of all texts.
            symbols: (s,) int32, what they are.
            splits: where each text begins, and s.
            marks: where the marks put around the texts are.
            found: how many symbols are marks or irregular.
            aligned: also say where each result comes from.

        Returns:
            The symbols, their splits, and (aligned) the index in `points` of each one's source.
        """
        import tensorflow as tf

        tables = self._tables
        irregular = symbols >= tables.start + 2
        where = tf.where(irregular)
        own = found - tf.size(where) > tf.size(marks)  # a text brought marks of its own
        highest = tf.reduce_max(symbols)
        # Most often: characters that vanish, none behind a letter. They part no word, and so may
        # stay where they are, as symbols without a token.
        behind = tf.gather_nd(symbols, tf.maximum(where - 1, 0)) < tables.words
        stays = ~own & (highest < tables.start + 4) & ~tf.reduce_any(behind)

        def kept() -> tuple[Any, ...]:
            return (symbols, splits, *([tf.range(tf.size(symbols))] if aligned else []))

        def rewritten() -> tuple[Any, ...]:
            return self._rewrite(points, symbols, splits, marks, own, highest, aligned)

        return tf.cond(stays, kept, rewritten)

    def _rewrite(
        self,
        points: Any,
        symbols: Any,
        splits: Any,
        marks: Any,
        own: Any,
        highest: Any,
        aligned: bool,
    ) -> tuple[Any, ...]:
        import tensorflow as tf

        tables = self._tables
        symbols = tf.cond(own, lambda: self._drop_marks_of_texts(symbols, marks), lambda: symbols)
        if tables.sigma[0] >= 0:
            symbols = tf.cond(
                highest >= tables.sigma[0],
                lambda: self._lower_sigmas(points, symbols),
                lambda: symbols,
            )
            symbols, splits, origin = tf.cond(
                highest > tables.sigma[0],
                lambda: self._order_marks(symbols, splits),
                lambda: (symbols, splits, tf.range(tf.size(symbols) if aligned else 0)),
            )
        elif aligned:
            origin = tf.range(tf.size(symbols))
        symbols, splits, sources = self._expand(
            tf.gather(self._starts, symbols), tf.gather(self._starts, symbols + 1), splits, aligned
        )
        symbols = tf.gather(self._expansions, symbols)
        return (symbols, splits, tf.gather(origin, sources)) if aligned else (symbols, splits)

    def _drop_marks_of_texts(self, symbols: Any, marks: Any) -> Any:
        """The characters that serve as marks, where they are not ours, removed as in any text."""
        import tensorflow as tf

        start = self._tables.start
        ours = tf.scatter_nd(marks[:, None], tf.ones_like(marks), tf.shape(symbols)) > 0
        marked = tf.equal(symbols, start) | tf.equal(symbols, start + 1)
        return tf.where(marked & ~ours, self._tables.dropped, symbols)

    def _expand(self, starts: Any, limits: Any, splits: Any, aligned: bool) -> tuple[Any, Any, Any]:
        """Indices of the ranges end to end, the texts' new splits, and which range each is of."""
        import tensorflow as tf

        ends, indices = tf.raw_ops.RaggedRange(
            starts=starts, limits=limits, deltas=1, Tsplits=tf.int32
        )
        sources = tf.repeat(tf.range(tf.size(starts)), ends[1:] - ends[:-1]) if aligned else None
        return indices, tf.gather(ends, splits), sources

    def _lower_sigmas(self, points: Any, symbols: Any) -> Any:
        """Unicode's Final_Sigma: a cased letter before, none after, ignorables looked through."""
        import tensorflow as tf

        def inside(bounds: Any, of: Any) -> Any:
            return tf.equal(tf.searchsorted(bounds, of, side="right") % 2, 1)

        sigma, small, final = self._tables.sigma
        seen = ~inside(self._tables.ignorable, points)
        letters = tf.gather(points, tf.where(seen)[:, 0])  # those that are looked at
        rank = tf.cumsum(tf.cast(seen, tf.int32))  # of the next one among them
        where = tf.where(tf.equal(symbols, sigma))
        rank = tf.gather_nd(rank, where)
        # Around each text stands a mark or a space, so there is a letter on both sides.
        before = inside(self._tables.cased, tf.gather(letters, rank - 2))
        after = inside(self._tables.cased, tf.gather(letters, rank))
        return tf.tensor_scatter_nd_update(symbols, where, tf.where(before & ~after, final, small))

    def _order_marks(self, symbols: Any, splits: Any) -> tuple[Any, Any, Any]:
        """Canonical ordering: stable by class within each run of marks."""
        import tensorflow as tf

        total = len(self._tables.combining)
        # Only what becomes marks is expanded here: every other symbol stays as it is.
        holds_marks = (symbols > self._tables.sigma[0]) & tf.equal(
            tf.gather(self._combining, symbols), 0
        )
        pick = tf.concat([tf.range(total), self._expansions], 0)
        starts = tf.where(holds_marks, total + tf.gather(self._starts, symbols), symbols)
        limits = tf.where(holds_marks, total + tf.gather(self._starts, symbols + 1), symbols + 1)
        indices, splits, sources = self._expand(starts, limits, splits, True)
        symbols = tf.gather(pick, indices)
        classes = tf.cast(tf.gather(self._combining, symbols), tf.int64)
        run = tf.cumsum(tf.cast(tf.equal(classes, 0), tf.int64))
        order = tf.argsort(run * 256 + classes, stable=True)
        return tf.gather(symbols, order), splits, tf.gather(sources, order)
