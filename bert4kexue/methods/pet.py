"""PET whole: patterns that learn from a few texts teach a classifier on unlabelled ones.

Pattern-exploiting training (arXiv 2001.07676) has three steps:

1. a model for each pattern, tuned on the few labelled texts (:func:`prompt_tuning.tune`);
2. together they say of every unlabelled text how likely each label is, with the logarithms divided
   by a temperature of 2 and each pattern weighted by its accuracy before training;
3. a classifier of the ordinary kind, the first token's vector and a Dense layer, learns these
   probabilities. No pattern is needed to use it, and it reads a text once, whatever the number of
   labels.

Axis letters: N texts, l labels, n tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from bert4kexue.methods.mlm_prompt import MaskedPromptClassifier, MaskedTemplate, split_at_head
from bert4kexue.methods.nsp_prompt import checked_texts, position_count
from bert4kexue.methods.prompt_classifier import checked_labels, softmax
from bert4kexue.methods.prompt_tuning import tune
from bert4kexue.models.prediction import SortedPredictor
from bert4kexue.training.data import sequence_padding


class PetClassifier:
    """Labels from a few labelled and many unlabelled texts, in the manner of scikit-learn.

    Args:
        build: makes a model with a masked-word head and the checkpoint's weights, a new one at
            every call: ``lambda: build_transformer_model(folder, with_mlm=True)``.
        tokenizer: with the model's vocabulary.
        labels: two or more.
        templates: one or more patterns; each has a model of its own.
        maxlen: the most tokens of a row; 128, or the model's positions, when None.
        epochs: of every pattern over the labelled texts.
        rate: of Adam for the patterns.
        student_epochs: of the classifier over the unlabelled texts.
        student_rate: of Adam for the classifier.
        batch: texts of a step of the patterns; the classifier takes four times as many.
        temperature: of what the patterns teach.
        seed: of order and of the Dense layer.

    Attributes:
        weights_: (templates,) after `fit`, accuracies on the labelled texts before training.
        student_: the classifier, a Keras model of ids to logits (N, l).

    Raises:
        ValueError: labels, templates or numbers that do not fit.

    Example::

        pet = PetClassifier(lambda: build_transformer_model(folder, with_mlm=True), tokenizer,
                            ["好评", "差评"], [MaskedTemplate("很[MASK]。{}", ("好", "差"))])
        pet.fit(texts, labels, unlabelled).predict(["物流很快"])
    """

    def __init__(
        self,
        build: Callable[[], keras.Model],
        tokenizer: Any,
        labels: Sequence[str],
        templates: Sequence[MaskedTemplate],
        *,
        maxlen: int | None = None,
        epochs: int = 10,
        rate: float = 1e-5,
        student_epochs: int = 3,
        student_rate: float = 1e-5,
        batch: int = 8,
        temperature: float = 2.0,
        seed: int = 0,
    ) -> None:
        self.labels, self.templates = checked_labels(labels), tuple(templates)
        if not self.templates:
            raise ValueError("PET needs at least one pattern, got none")
        if temperature <= 0 or min(epochs, student_epochs, batch) < 1:
            raise ValueError(
                "epochs and batch must be 1 or more and the temperature above 0, got "
                f"{epochs}, {student_epochs}, {batch} and {temperature}"
            )
        self.build, self.tokenizer, self.maxlen = build, tokenizer, maxlen
        self.epochs, self.rate, self.batch = epochs, rate, batch
        self.student_epochs, self.student_rate = student_epochs, student_rate
        self.temperature, self.seed = temperature, seed
        self._length = maxlen or 128
        self.weights_: np.ndarray | None = None
        self.student_: keras.Model | None = None

    def fit(self, texts: Sequence[str], labels: Sequence[str], unlabelled: Sequence[str]) -> Self:
        """Tune the patterns, let them label, and train the classifier on what they say.

        Raises:
            ValueError: no texts, labels that do not fit them, or no unlabelled text.
        """
        unlabelled = checked_texts(unlabelled, "the unlabelled texts")
        if not unlabelled:
            raise ValueError(
                "PET's last step learns from unlabelled texts, got none: with labelled ones alone "
                "use prompt_tuning.tune"
            )
        scores, weights = [], []
        for template in self.templates:
            classifier = MaskedPromptClassifier(
                self.build(), self.tokenizer, self.labels, template, maxlen=self.maxlen
            )
            wanted = classifier.label_numbers(labels)
            weights.append(float((classifier.decision_function(texts).argmax(1) == wanted).mean()))
            tune(
                classifier,
                texts,
                labels,
                epochs=self.epochs,
                batch=self.batch,
                rate=self.rate,
                seed=self.seed,
            )
            scores.append(classifier.decision_function(unlabelled))
        self.weights_ = np.array(weights)
        taught = soft_labels(scores, self.weights_, self.temperature)
        self._teach([*unlabelled], taught)
        return self

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """(N, l) probabilities of the labels.

        Raises:
            ValueError: `fit` was not called.
        """
        if self.student_ is None:
            raise ValueError("there is no classifier yet: call fit")
        texts = checked_texts(texts, "the texts")
        if not texts:
            return np.zeros((0, len(self.labels)))
        predictor = SortedPredictor(self.student_)
        return softmax(np.asarray(predictor.predict(self._encode(texts)), np.float64))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The best label of each text."""
        return [self.labels[i] for i in self.predict_proba(texts).argmax(1)]

    def _teach(self, texts: list[str], taught: np.ndarray) -> None:
        keras.utils.set_random_seed(self.seed)
        student = student_model(model := self.build(), len(self.labels))
        self._length = min(self.maxlen or 128, position_count(model) or self.maxlen or 128)
        data = _Taught(self._encode(texts), taught, 4 * self.batch, len(student.inputs), self.seed)
        student.compile(
            optimizer=keras.optimizers.Adam(self.student_rate),
            loss=distillation_loss(self.temperature),
            jit_compile=keras.backend.backend() == "jax",
        )
        student.fit(data, epochs=self.student_epochs, shuffle=False, verbose=0)
        self.student_ = student

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.tokenizer.encode(text, maxlen=self._length)[0] for text in texts]


def soft_labels(
    scores: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray, temperature: float = 2.0
) -> np.ndarray:
    """(N, l) probabilities that several patterns teach together.

    Args:
        scores: (N, l) of each pattern, logarithms.
        weights: of each, not negative; all alike where all are 0.
        temperature: that the mean is divided by.

    Raises:
        ValueError: no patterns, or not as many weights.
    """
    shares = np.asarray(weights, np.float64)
    if not len(scores) or shares.shape != (len(scores),) or (shares < 0).any():
        raise ValueError(f"{len(scores)} patterns need as many weights of 0 or more, got {weights}")
    shares = shares / shares.sum() if shares.sum() else np.full(len(shares), 1 / len(shares))
    return softmax(np.einsum("t,tnl->nl", shares, np.stack(scores)) / temperature)


def student_model(model: keras.Model, labels: int) -> keras.Model:
    """The model's first token and a new Dense layer: ids to logits (N, l)."""
    body, _ = split_at_head(model)
    first = body.outputs[0][:, 0]
    logits = keras.layers.Dense(labels, dtype="float32", name="Student-Logits")(first)
    return keras.Model(body.inputs if len(body.inputs) > 1 else body.inputs[0], logits)


def distillation_loss(temperature: float) -> Callable[[Any, Any], Any]:
    """(N,) cross-entropy of taught probabilities and softmax(logits / T), times T squared."""

    def loss(taught: Any, logits: Any) -> Any:
        logs = ops.log_softmax(logits / temperature)
        return -(temperature**2) * ops.sum(ops.cast(taught, logits.dtype) * logs, axis=-1)

    return loss


class _Taught(keras.utils.PyDataset):
    def __init__(
        self, rows: list[list[int]], taught: np.ndarray, batch: int, inputs: int, seed: int
    ) -> None:
        super().__init__()
        self.rows, self.taught, self.batch = rows, taught.astype(np.float32), batch
        self.given, self.seed, self.epoch = inputs, seed, 0
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> tuple[Any, np.ndarray]:
        texts = self.order[step]
        ids = sequence_padding([self.rows[i] for i in texts]).astype(np.int32)
        ids = np.pad(ids, ((0, 0), (0, -ids.shape[1] % 8)))
        places = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
        given = (ids, np.zeros_like(ids), places)[: self.given]
        return (given if len(given) > 1 else given[0]), self.taught[texts]

    def on_epoch_end(self) -> None:
        """Texts of like length stand together; the batches, and the texts alike, are shuffled."""
        rng = np.random.default_rng([self.seed, self.epoch])
        shuffled = rng.permutation(len(self.rows))
        by_length = shuffled[np.argsort([len(self.rows[i]) for i in shuffled], kind="stable")]
        cuts = [by_length[i : i + self.batch] for i in range(0, len(by_length), self.batch)]
        places = rng.permutation(len(cuts)).tolist()
        if self.epoch == 0:  # `fit` learns from its first two batches which axes differ
            places.sort(key=lambda i: {len(cuts) - 1: 0, 0: 1}.get(i, 2))
        self.order = [cuts[i] for i in places]
        self.epoch += 1
