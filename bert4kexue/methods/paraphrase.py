"""Other ways to say a sentence, written by a model and ranked by it: SimBERT's second half.

Nucleus sampling writes n sentences (kexue.fm/archives/7427, 8454), what is said twice or is the
sentence itself is dropped, the others are ranked by their cosine to it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.models.generation import Generator


class Paraphrase(NamedTuple):
    """A sentence, how near it is, and whether it ended by itself."""

    text: str
    cosine: float
    finished: bool


class ParaphraseGenerator:
    """Writes and ranks.

    Safe to call from several threads.

    Args:
        model: `build_transformer_model(..., application="unilm", with_pool="linear")`.
        tokenizer: with its vocabulary.
        encoder: that ranks; the model's own pooled vector when None.
        maxlen: the most tokens of a source and of what is written, frame included.
        **options: of :class:`bert4kexue.models.generation.Generator`.

    Example:
        >>> generator = ParaphraseGenerator(model, tokenizer)
        >>> generator.generate("怎么开机", n=100, k=20)[0].text
    """

    def __init__(
        self,
        model: keras.Model,
        tokenizer: Any,
        encoder: SentenceEncoder | None = None,
        *,
        maxlen: int = 64,
        **options: Any,
    ) -> None:
        self.tokenizer, self.maxlen = tokenizer, maxlen
        self.encoder = encoder or SentenceEncoder(model, tokenizer, maxlen=maxlen)
        self._generator = Generator(model, end_token_id=tokenizer._token_end_id, **options)
        self._lock = threading.Lock()

    def generate(
        self,
        text: str,
        n: int = 100,
        k: int | None = 20,
        *,
        mask_positions: Sequence[int] = (),
        topp: float | None = 0.95,
        topk: int | None = None,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> list[Paraphrase]:
        """Different sentences, nearest first.

        Args:
            text: the sentence.
            n: how many are written.
            k: how many are kept; None for all.
            mask_positions: tokens of the source, counted from 1 behind [CLS], that the model sees
                as [MASK]: what is written then differs more.
            topp, topk, temperature: of the sampling. The posts take top-p 0.95; SimBERT top-k 5.
            seed: the same seed writes the same.

        Returns:
            At most k, possibly none: all n may have been the sentence itself. What had not ended
            after `maxlen` tokens has `finished` False.

        Raises:
            ValueError: a text of no token or too long, a position of [CLS], [SEP] or nothing, n or
                k below 1.
        """
        if not isinstance(text, str):
            raise ValueError(f"generate takes one sentence, got {type(text).__name__}")
        if n < 1 or (k is not None and k < 1):
            raise ValueError(f"n and k must be 1 or more, got {n} and {k}")
        ids = list(self.tokenizer.encode(text)[0])
        if len(ids) < 3:
            raise ValueError(f"{text!r} has no token: there is nothing to say otherwise")
        if len(ids) > self.maxlen:
            raise ValueError(
                f"the sentence has {len(ids)} tokens and maxlen is {self.maxlen}: shorten it, or "
                "raise maxlen"
            )
        for position in mask_positions:
            if not 0 < position < len(ids) - 1:
                raise ValueError(
                    f"mask_positions holds {position}; the sentence's tokens are 1 to "
                    f"{len(ids) - 2} (0 is [CLS], {len(ids) - 1} is [SEP])"
                )
            ids[position] = self.tokenizer._token_mask_id
        with self._lock:
            (outputs,) = self._generator.generate(
                [ids],
                do_sample=True,
                num_return_sequences=n,
                topp=topp,
                topk=topk,
                temperature=temperature,
                max_new_tokens=self.maxlen,
                seed=seed,
            )
        end = self.tokenizer._token_end_id
        finished: dict[str, bool] = {}
        for output in outputs:
            written = self.tokenizer.decode([int(i) for i in output.ids if i != end])
            finished[written] = finished.get(written, False) or output.finished
        own = {text.strip(), self.tokenizer.decode(self.tokenizer.encode(text)[0][1:-1]), ""}
        texts = [written for written in finished if written not in own]
        if not texts:
            return []
        vectors = self.encoder.encode([text, *texts])
        cosines = vectors[1:] @ vectors[0]
        best = np.argsort(-cosines, kind="stable")[:k]
        return [
            Paraphrase(texts[i], float(np.clip(cosines[i], -1, 1)), finished[texts[i]])
            for i in best
        ]
