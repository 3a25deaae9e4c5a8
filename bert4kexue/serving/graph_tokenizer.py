"""The tokenizer as core TensorFlow operations: strings in, the ids of `Tokenizer.encode` out.

    graph = GraphTokenizer(tokenizer)             # a tf.Module; keep it on what is exported
    token_ids, segment_ids = graph(texts)         # texts (b,) tf.string -> int32 (b, n)
    token_ids, segment_ids = graph(texts, second, maxlen=64)
    token_ids, segment_ids, offsets = graph(texts, return_offsets=True)   # (b, n, 2)

Row i equals `tokenizer.encode(texts[i], second[i], maxlen)`, padded with 0 to the longest of the
batch, for every string. It needs no tensorflow-text and no custom operation, so that a SavedModel
with it runs wherever TensorFlow does. Bytes that are not UTF-8 are read as U+FFFD, which every
BERT tokenizer drops: `b"a\\xffb"` is the word "ab". `maxlen` may also be an int32 scalar tensor.

The way of a batch: all texts become one stream of code points with a mark before and after each
text; one gather makes them symbols (see tokenizer_tables.py); characters that fold to several, to
none, or by their neighbours are rewritten, if there are any; the words' longest pieces are found at
all positions at once, and the chain of pieces from each word's start is followed by jumps. Small
batches cost what the number of operations costs, so there are few, and what is rarely needed stands
in the branch of a condition. In a SavedModel the tables take 2.4 to 4.1 MB.
"""

from __future__ import annotations

from typing import Any, Literal

from bert4kexue.serving.graph_folding import GraphFolding
from bert4kexue.serving.graph_framing import Framing
from bert4kexue.serving.tokenizer_tables import (
    DEPTH_SHIFT,
    END_MARK,
    FIRST_ROOT,
    NAME_BITS,
    NO_TOKEN,
    NO_UNKNOWN,
    START_MARK,
    TAIL_ROOT,
    TokenizerTables,
    build_tables,
)
from bert4kexue.text.codepoints import REPLACEMENT
from bert4kexue.text.wordpiece import Tokenizer

_CHAIN = 8  # pieces of a word that are followed without a loop; words of more take a branch
_NODE_MASK = (1 << (DEPTH_SHIFT - NAME_BITS)) - 1


class GraphTokenizer:
    """A `Tokenizer` inside a TensorFlow graph; an instance is also a `tf.Module`.

    Args:
        tokenizer: its vocabulary and options as they are now.

    Raises:
        ValueError: the tokenizer cuts texts with a Python function (word-based vocabularies), has
            methods of its own, or translates tokens that its vocabulary does not have.

    Example:
        >>> vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "深": 3, "圳": 4}
        >>> token_ids, segment_ids = GraphTokenizer(Tokenizer(vocabulary))(["深圳", "深"])
        >>> token_ids.numpy().tolist()
        [[1, 3, 4, 2], [1, 3, 2, 0]]
    """

    def __new__(cls, tokenizer: Tokenizer) -> GraphTokenizer:
        """An instance of this class and of tf.Module, which exists only once TensorFlow does."""
        import tensorflow as tf

        made = type(tf.Module)(cls.__name__, (cls, tf.Module), {"__module__": cls.__module__})
        return object.__new__(made)

    def __init__(self, tokenizer: Tokenizer) -> None:
        import tensorflow as tf

        super().__init__(name="graph_tokenizer")  # type: ignore[call-arg]
        tables = build_tables(tokenizer)
        self._tables: TokenizerTables = tables
        self._has_start = tokenizer._token_start is not None
        self._has_end = tokenizer._token_end is not None
        self._drops_start = bool(tokenizer._token_start)
        self._symbols = tf.constant(tables.symbols)
        self._ids = tf.constant(tables.ids)
        self._best = tf.constant(tables.pieces.best)
        self._folding = GraphFolding(tables)
        self._pieces = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tables.pieces.keys, tables.pieces.values), 0
        )

    def __call__(
        self,
        texts: Any,
        second: Any = None,
        maxlen: Any = None,
        *,
        pattern: str = "S*E*E",
        truncate_from: Literal["left", "right"] | int = "right",
        return_offsets: bool = False,
    ) -> tuple[Any, ...]:
        """Token ids and segment ids of a batch; the arguments are those of `Tokenizer.encode`.

        Args:
            texts: b strings, a tf.string tensor or what makes one.
            second: None, or b second texts.
            maxlen: the most ids of a row: an integer, an int32 scalar tensor, or None.
            pattern: 'S*E*E' leaves out the second text's start token.
            truncate_from: 'right', 'left', or the index at which tokens are removed.
            return_offsets: also say where in its own text each token lies.

        Returns:
            int32 tensors: token ids (b, n), segment ids (b, n) and, with return_offsets, offsets
            (b, n, 2) as of `Tokenizer.encode_batch`, counted in code points.

        Raises:
            ValueError: `maxlen` leaves no room for what may not be removed.
            tf.errors.InvalidArgumentError: the same where `maxlen` is a tensor; or a word is not in
                a vocabulary that has no [UNK].
        """
        import tensorflow as tf

        framing = Framing(
            has_end=self._has_end,
            cut_at=self._cut_at(truncate_from),
            paired=second is not None,
            start_dropped=second is not None and pattern == "S*E*E" and self._drops_start,
        )
        framing.check(maxlen)
        lead = START_MARK if self._has_start else " "
        tail = END_MARK if self._has_end else " "
        texts = tf.reshape(tf.convert_to_tensor(texts, tf.string), [-1])
        streams = tf.raw_ops.StringJoin(inputs=[lead, texts, tail])
        if second is not None:
            second = tf.reshape(tf.convert_to_tensor(second, tf.string), [-1])
            inner = " " if framing.start_dropped else lead
            seconds = tf.raw_ops.StringJoin(inputs=[inner, second, tail])
            streams = tf.reshape(tf.stack([streams, seconds], axis=1), [-1])
        splits, points = tf.raw_ops.UnicodeDecode(
            input=streams,
            input_encoding="UTF-8",
            errors="replace",
            replacement_char=REPLACEMENT,
            Tsplits=tf.int32,
        )
        symbols = tf.cast(tf.gather(self._symbols, points), tf.int32)
        symbols, places, origin = self._regular(
            points, symbols, splits, framing, bool(return_offsets)
        )
        marked = self._mark_tokens(symbols)
        is_token = marked >= 0
        where = tf.where(is_token)
        ids = tf.gather_nd(marked, where)
        token_splits = tf.raw_ops.LowerBound(  # how many tokens stand before each text
            sorted_inputs=tf.reshape(where, [1, -1]), values=tf.cast(places, tf.int64)[None]
        )[0]
        if not return_offsets:
            token_ids, segment_ids = framing.dense(token_splits, maxlen, ids)
            return self._checked(token_ids), segment_ids
        spans = self._spans(symbols, is_token, where, origin, splits)
        token_ids, segment_ids, firsts, stops = framing.dense(token_splits, maxlen, ids, *spans)
        return self._checked(token_ids), segment_ids, tf.stack([firsts, stops], axis=-1)

    def _cut_at(self, truncate_from: Literal["left", "right"] | int) -> int:
        if truncate_from == "right":
            return -2 if self._has_end else -1
        if truncate_from == "left":
            return 1 if self._has_start else 0
        if isinstance(truncate_from, str):
            raise ValueError(
                f"truncate_from must be 'right', 'left' or an integer index, not {truncate_from!r}"
            )
        return truncate_from

    def _checked(self, token_ids: Any) -> Any:
        """The ids; an error where one is missing in the vocabulary."""
        import tensorflow as tf

        if self._tables.unknown != NO_UNKNOWN:
            return token_ids
        known = tf.reduce_all(token_ids < NO_UNKNOWN)
        words = "some words are not in the vocabulary, and it has no [UNK] to stand for them"
        with tf.control_dependencies([tf.debugging.Assert(known, [words])]):
            return tf.identity(token_ids)

    def _regular(
        self, points: Any, symbols: Any, splits: Any, framing: Framing, aligned: bool
    ) -> tuple[Any, Any, Any]:
        """The symbols as they are, or rewritten where one of them is irregular.

        Returns:
            The symbols, where each text's begin, and (aligned) the code point each comes from.
        """
        import tensorflow as tf

        tables, folding = self._tables, self._folding
        rows = tf.size(splits) - 1
        expected = rows * (int(self._has_start) + int(self._has_end))
        if framing.start_dropped:
            expected -= rows // 2
        # Marks are the last regular symbols: more of them than were put there are the text's.
        found = tf.reduce_sum(tf.cast(symbols >= tables.start, tf.int32))

        def rewritten() -> tuple[Any, ...]:
            real = []
            if self._has_start:
                real.append(splits[: -1 : 2 if framing.start_dropped else 1])
            if self._has_end:
                real.append(splits[1:] - 1)
            marks = tf.concat(real, 0) if real else tf.zeros([0], tf.int32)
            return folding.rewrite(points, symbols, splits, marks, found, aligned)

        def kept() -> tuple[Any, ...]:
            return (symbols, splits, *([tf.range(tf.size(points))] if aligned else []))

        result = tf.cond(tf.equal(found, expected), kept, rewritten)
        return result[0], result[1], result[2] if aligned else None

    def _mark_tokens(self, symbols: Any) -> Any:
        """For each symbol the id of the token that begins there, or NO_TOKEN."""
        import tensorflow as tf

        alone = tf.gather(self._ids, symbols)
        in_word = symbols < self._tables.words
        return tf.cond(
            tf.reduce_any(in_word),
            lambda: self._mark_words(symbols, in_word, alone),
            lambda: alone,
        )

    def _mark_words(self, symbols: Any, in_word: Any, marked: Any) -> Any:
        """`marked` with the pieces of all words.

        Works on the words alone, each with the one symbol behind it, which no piece holds: so a
        path in the tree ends with its word, and from there on a jump leads nowhere else.
        """
        import tensorflow as tf

        tables = self._tables
        after = tf.concat([[False], in_word[:-1]], 0)
        where = tf.where(in_word | after)  # (m, 1)
        local = tf.gather_nd(symbols, where)  # (m,)
        is_start = tf.gather_nd(in_word & ~after, where)
        length, piece = self._longest_pieces(local, is_start)
        m = tf.size(local)
        jump = tf.range(m) + length
        starts = tf.cast(tf.squeeze(tf.where(is_start), 1), tf.int32)
        chain = [starts]
        for _ in range(_CHAIN):
            chain.append(tf.gather(jump, chain[-1]))
        last = chain.pop()
        finished = tf.equal(tf.gather(jump, last), last)
        if _CHAIN * tables.pieces.longest > tables.word_maxlen:
            finished &= last - starts <= tables.word_maxlen
        is_end = local >= tables.words

        def short() -> Any:
            heads = tf.stack(chain)
            spelled = tf.gather(is_end, last)
            otherwise = [[tables.unknown]] + [[NO_TOKEN]] * (_CHAIN - 1)
            ids = tf.where(spelled, tf.gather(piece, heads), otherwise)
            return tf.tensor_scatter_nd_max(marked, tf.gather(where, heads), ids)

        def long() -> Any:
            ids = self._chains_of_any_length(jump, piece, is_start, is_end, starts)
            return tf.tensor_scatter_nd_max(marked, where, ids)

        return tf.cond(tf.reduce_all(finished), short, long)

    def _longest_pieces(self, local: Any, is_start: Any) -> tuple[Any, Any]:
        """Length and id of the longest piece from every position: (m,) each; 0, NO_TOKEN if none.

        From the root, the longest jump that stays in the tree is taken, then those of half of it.
        """
        import tensorflow as tf

        levels = self._tables.pieces.levels
        # Long enough that the blocks of the highest level have one for every position.
        names = [tf.pad(tf.cast(local, tf.int64), [[0, 2**levels - 1]])]
        for level in range(levels):
            block = names[-1]
            key = block[: -(2**level)] * (1 << NAME_BITS) + block[2**level :]
            names.append(self._pieces.lookup(key))
        node = tf.where(is_start, tf.constant(FIRST_ROOT, tf.int64), TAIL_ROOT)
        origin = tf.range(-1, tf.size(local, tf.int64) - 1)  # a root has 1 for its depth
        for level in range(levels, -1, -1):
            name = names[level]
            if level < levels:
                name = tf.gather(name, origin + tf.bitwise.right_shift(node, DEPTH_SHIFT))
            node = tf.maximum(node, self._pieces.lookup(node + name))
        index = tf.bitwise.right_shift(node, NAME_BITS) & _NODE_MASK
        length, piece = tf.unstack(tf.gather(self._best, index), axis=1)
        return length, piece

    def _chains_of_any_length(
        self, jump: Any, piece: Any, is_start: Any, is_end: Any, starts: Any
    ) -> Any:
        """The id at each position where a piece begins, else NO_TOKEN, by doubling the jumps."""
        import tensorflow as tf

        tables = self._tables
        stops = tf.cast(tf.squeeze(tf.where(is_end), 1), tf.int32)  # one for each word
        sizes = stops - starts
        too_long = (sizes > tables.word_maxlen) & (tf.gather(jump, starts) < stops)
        word = tf.cumsum(tf.cast(is_start, tf.int32)) - 1

        def double(reached: Any, far: Any) -> tuple[Any, Any]:
            return tf.tensor_scatter_nd_max(reached, far[:, None], reached), tf.gather(far, far)

        reached, far = tf.while_loop(
            lambda reached, far: tf.reduce_any(tf.gather(far, far) != far),
            double,
            double(tf.cast(is_start, tf.int32), jump),
        )
        spelled = tf.gather(is_end, far) & ~tf.gather(too_long, word)
        ids = tf.where(spelled, piece, tf.where(is_start, tables.unknown, NO_TOKEN))
        return tf.where(reached > 0, ids, NO_TOKEN)

    def _spans(
        self, symbols: Any, is_token: Any, where: Any, origin: Any, splits: Any
    ) -> tuple[Any, Any]:
        """First code point of every token in its text, and one past the last; 0, 0 for marks."""
        import tensorflow as tf

        nothing = tf.equal(symbols, self._tables.space) | (symbols > self._tables.start + 1)
        borders = tf.where(is_token | nothing)[:, 0]
        begins = tf.gather(is_token, borders[:-1])
        stops = tf.boolean_mask(borders[1:], begins)
        # The last token has no border behind it where it is an end mark.
        heads = where[:, 0]
        stops = tf.concat([stops, heads[tf.size(stops) :] + 1], 0)
        first = tf.gather(origin, heads)
        stop = tf.gather(origin, stops - 1) + 1
        row = tf.searchsorted(splits, first, side="right") - 1
        base = tf.gather(splits, row) + 1
        text = tf.cast(tf.gather(symbols, heads) < self._tables.start, tf.int32)
        return (first - base) * text, (stop - base) * text
