"""Independent float64 NumPy forwards of BERT and RoFormer: what the library is measured against.

Nothing here knows Keras or any code of the library; each formula is the paper's, written for
reading.  BERT: Devlin et al. 2018 (post-norm encoder of Vaswani et al. 2017).  RoFormer: Su et
al. 2021, rotary positions over adjacent channel pairs.  UniLM: Dong et al. 2019.  RealFormer: He
et al. 2020.  Weights come under the names of an original TensorFlow checkpoint, kernels as
(in, out).

Axes: b batch, n sequence, h heads, d head size, H hidden, E embedding, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

Array = np.ndarray
Config = Mapping[str, Any]
Variables = Mapping[str, Array]
Family = Literal["bert", "roformer"]
Application = Literal["encoder", "lm", "unilm"]

MLM_NORM_EPSILON = 1e-12
NORM_EPSILON: dict[str, float] = {"bert": 1e-12, "roformer": 1e-7}

_erf = np.vectorize(math.erf, otypes=[np.float64])


# ---------------------------------------------------------------------------------------- pieces


def gelu(x: Array) -> Array:
    """x times the normal distribution function of x."""
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of `gelu`."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x) over its sum; -inf gives exactly 0."""
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softmax": softmax,
    "swish": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over the last axis, times gamma, plus beta."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + epsilon) * gamma + beta


def conditional_shift(condition: Array, weights: Mapping[str, Array], activation: str) -> Array:
    """What a condition (b, c) adds to gamma and to beta: a pair of (b, 1, H).

    `weights` holds "beta_dense" and "gamma_dense" kernels, and "hidden_dense" where the condition
    first goes through a hidden layer; none has a bias.
    """
    hidden = np.asarray(condition, np.float64)
    if "hidden_dense" in weights:
        hidden = ACTIVATIONS[activation](hidden @ weights["hidden_dense"].astype(np.float64))
    gamma = hidden @ weights["gamma_dense"].astype(np.float64)
    beta = hidden @ weights["beta_dense"].astype(np.float64)
    return np.stack([gamma, beta])[:, :, None, :]


def rope(x: Array, positions: Array) -> Array:
    """Rotate x (b, n, h, d) by its positions (b or 1, n).

    Channels 2i and 2i+1 of each head are the real and imaginary part of one complex number, which
    position p multiplies by exp(1j * p * 10000 ** (-2i / d)).
    """
    d = x.shape[-1]
    angles = np.asarray(positions, np.float64)[..., None] * 10000.0 ** (-np.arange(0, d, 2) / d)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, :, None, :]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    key_mask: Array | None = None,
    visible: Array | None = None,
    bias: Array | None = None,
    positions: Array | None = None,
    key_positions: Array | None = None,
) -> tuple[Array, Array]:
    """Multi-head attention over heads that are already projected and split.

    q (b, n, h, d), k (b, m, h, d), v (b, m, h, e); `key_mask` (b, m) True where a key may be seen;
    `visible` (n, m) or (b, n, m) True where a query may see a key; `bias` (b, h, n, m) is added to
    the scores; `positions` (b or 1, n) turns q, and k too unless it has `key_positions`.
    Returns (b, n, h, e) and the scores (b, h, n, m) as they are before bias and masks.
    """
    if positions is not None:
        q = rope(q, positions)
        k = rope(k, positions if key_positions is None else key_positions)
    raw = np.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(q.shape[-1])
    scores = raw if bias is None else raw + bias
    if key_mask is not None:
        scores = np.where(np.asarray(key_mask, bool)[:, None, None, :], scores, -np.inf)
    if visible is not None:
        visible = np.asarray(visible, bool)
        visible = visible[None, None] if visible.ndim == 2 else visible[:, None]
        scores = np.where(visible, scores, -np.inf)
    return np.einsum("bhnm,bmhe->bnhe", softmax(scores), v), raw


def padding_mask(token_ids: Array) -> Array:
    """True where a token is real: id 0 is padding, except in the first column."""
    mask = np.asarray(token_ids) != 0
    mask[:, 0] = True
    return mask


def visibility(application: str, segment_ids: Array | None, n: int) -> Array | None:
    """Which key (last axis) each query may see: None for all, else (n, n) or (b, n, n)."""
    if application == "encoder":
        return None
    if application == "lm":
        return np.tril(np.ones((n, n), bool))
    if application == "unilm":
        block = np.cumsum(np.asarray(segment_ids), axis=1)
        return block[:, None, :] <= block[:, :, None]
    raise ValueError(f"application is encoder, lm or unilm, not {application!r}")


def hierarchical_table(table: Array, rows: int, alpha: float) -> Array:
    """Extend N position vectors to `rows` <= N * N of them (Su, "hierarchical decomposition").

    With u = (table - alpha * table[0]) / (1 - alpha), position i * N + j becomes
    alpha * u[i] + (1 - alpha) * u[j], which leaves the first N as they were.
    """
    n = len(table)
    u = (table - alpha * table[:1]) / (1 - alpha)
    p = np.arange(rows)
    return alpha * u[p // n] + (1 - alpha) * u[p % n]


def select_tokens(
    table: Array,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Any] | None = None,
) -> Array:
    """Rows of a (v, ...) table that are kept, in that order, then the averages asked for."""
    kept = table if keep_tokens is None else np.stack([table[i] for i in keep_tokens])
    extra = []
    for item in compound_tokens or ():
        ids, weights = item if isinstance(item, tuple) else (item, [1.0] * len(item))
        mean = sum(w * kept[i] for i, w in zip(ids, weights, strict=True)) / sum(weights)
        extra.append(mean)
    return np.concatenate([kept, np.stack(extra)]) if extra else kept


# --------------------------------------------------------------------------------------- forward


def forward(
    config: Config,
    variables: Variables,
    token_ids: Array,
    segment_ids: Array | None = None,
    *,
    family: Family = "bert",
    application: Application = "encoder",
    with_pool: bool | str = False,
    with_nsp: bool = False,
    with_mlm: bool | str = False,
    position_ids: Array | None = None,
    hierarchical_position: bool | float | None = None,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Any] | None = None,
    shared_segment_embeddings: bool = False,
    residual_attention_scores: bool = False,
    layer_norm_cond: Array | None = None,
    layer_norm_cond_hidden_act: str = "linear",
    condition_weights: Mapping[str, Mapping[str, Array]] | None = None,
) -> Array | list[Array]:
    """Outputs of a BERT or RoFormer in float64, chosen by the same options as the library's.

    `config` has the keys of an original bert_config.json, `variables` arrays under the names of
    an original checkpoint. `token_ids`, `segment_ids`, `position_ids` are (b, n). Without segment
    ids no segment embedding is added. `condition_weights` maps a normalisation's layer name
    ("Embedding-Norm", "Transformer-0-FeedForward-Norm", "MLM-Norm") to the kernels of
    `conditional_shift`.
    Returns the hidden states (b, n, H) where no head is asked for, the one head asked for, or
    [pool or NSP, MLM].
    """
    w = {name: np.asarray(array).astype(np.float64) for name, array in variables.items()}
    token_ids = np.asarray(token_ids).astype(np.int64)
    n = token_ids.shape[1]
    epsilon = NORM_EPSILON[family]
    act = ACTIVATIONS[config["hidden_act"]]
    heads = config["num_attention_heads"]
    with_mlm = with_mlm or application in ("lm", "unilm")
    with_pool = with_pool or with_nsp

    def dense(x: Array, name: str) -> Array:
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    def norm(x: Array, name: str, layer: str, epsilon: float) -> Array:
        gamma, beta = w[f"{name}/gamma"], w[f"{name}/beta"]
        if layer_norm_cond is not None:
            weights = condition_weights[layer]
            shift = conditional_shift(layer_norm_cond, weights, layer_norm_cond_hidden_act)
            gamma, beta = gamma + shift[0], beta + shift[1]
        return layer_norm(x, gamma, beta, epsilon)

    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:2], heads, -1)

    # Embeddings: (b, n, E), then (b, n, H).
    tokens = select_tokens(w["bert/embeddings/word_embeddings"], keep_tokens, compound_tokens)
    x = tokens[token_ids]
    if segment_ids is not None:
        segment_ids = np.asarray(segment_ids).astype(np.int64)
        segments = tokens if shared_segment_embeddings else None
        if segments is None:
            segments = w["bert/embeddings/token_type_embeddings"]
        x = x + segments[segment_ids]
    positions = np.arange(n)[None] if position_ids is None else np.asarray(position_ids, np.int64)
    if family == "bert":
        table = w["bert/embeddings/position_embeddings"]
        if hierarchical_position:
            alpha = 0.4 if hierarchical_position is True else hierarchical_position
            table = hierarchical_table(table, int(positions.max()) + 1, alpha)
        x = x + table[positions]
    x = norm(x, "bert/embeddings/LayerNorm", "Embedding-Norm", epsilon)
    if "bert/encoder/embedding_hidden_mapping_in/kernel" in w:
        x = dense(x, "bert/encoder/embedding_hidden_mapping_in")

    # Blocks: attention, add, norm, feed forward, add, norm.
    key_mask = padding_mask(token_ids)
    visible = visibility(application, segment_ids, n)
    scores = None
    for i in range(config["num_hidden_layers"]):
        p, layer = f"bert/encoder/layer_{i}", f"Transformer-{i}"
        o, scores = attention(
            split(dense(x, f"{p}/attention/self/query")),
            split(dense(x, f"{p}/attention/self/key")),
            split(dense(x, f"{p}/attention/self/value")),
            key_mask=key_mask,
            visible=visible,
            bias=scores if residual_attention_scores else None,
            positions=positions if family == "roformer" else None,
        )
        o = dense(o.reshape(*o.shape[:2], -1), f"{p}/attention/output/dense")
        x = norm(
            x + o,
            f"{p}/attention/output/LayerNorm",
            f"{layer}-MultiHeadSelfAttention-Norm",
            epsilon,
        )
        f = dense(act(dense(x, f"{p}/intermediate/dense")), f"{p}/output/dense")
        x = norm(x + f, f"{p}/output/LayerNorm", f"{layer}-FeedForward-Norm", epsilon)

    # Heads.
    outputs = []
    if with_pool:
        pooled = dense(x[:, 0], "bert/pooler/dense")  # (b, H)
        pooled = ACTIVATIONS["tanh" if with_pool is True else with_pool](pooled)
        if with_nsp:
            kernel = w["cls/seq_relationship/output_weights"].T  # the checkpoint holds (2, H)
            pooled = softmax(pooled @ kernel + w["cls/seq_relationship/output_bias"])
        outputs.append(pooled)
    if with_mlm:
        y = act(dense(x, "cls/predictions/transform/dense"))  # (b, n, E)
        y = norm(y, "cls/predictions/transform/LayerNorm", "MLM-Norm", MLM_NORM_EPSILON)
        bias = select_tokens(w["cls/predictions/output_bias"], keep_tokens, compound_tokens)
        logits = y @ tokens.T + bias  # (b, n, v)
        outputs.append(ACTIVATIONS["softmax" if with_mlm is True else with_mlm](logits))
    if not outputs:
        return x
    return outputs[0] if len(outputs) == 1 else outputs


# ------------------------------------------------------------------------------- random material


def variable_shapes(config: Config, family: Family = "bert") -> dict[str, tuple[int, ...]]:
    """Names and shapes of a pretraining checkpoint with every head, in a fixed order."""
    hidden, inner, vocab = (
        config["hidden_size"],
        config["intermediate_size"],
        config["vocab_size"],
    )
    embedding = config.get("embedding_size") or hidden
    heads = config["num_attention_heads"]
    head_size = config.get("attention_head_size") or hidden // heads
    key_size = config.get("attention_key_size") or head_size
    shapes: dict[str, tuple[int, ...]] = {}

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}/kernel"] = (inputs, outputs)
        shapes[f"{name}/bias"] = (outputs,)

    def norm(name: str, size: int) -> None:
        shapes[f"{name}/beta"] = (size,)
        shapes[f"{name}/gamma"] = (size,)

    shapes["bert/embeddings/word_embeddings"] = (vocab, embedding)
    if config.get("type_vocab_size", 2):
        shapes["bert/embeddings/token_type_embeddings"] = (
            config.get("type_vocab_size", 2),
            embedding,
        )
    if family == "bert":
        shapes["bert/embeddings/position_embeddings"] = (
            config["max_position_embeddings"],
            embedding,
        )
    norm("bert/embeddings/LayerNorm", embedding)
    if embedding != hidden:
        dense("bert/encoder/embedding_hidden_mapping_in", embedding, hidden)
    for i in range(config["num_hidden_layers"]):
        p = f"bert/encoder/layer_{i}"
        dense(f"{p}/attention/self/query", hidden, key_size * heads)
        dense(f"{p}/attention/self/key", hidden, key_size * heads)
        dense(f"{p}/attention/self/value", hidden, head_size * heads)
        dense(f"{p}/attention/output/dense", head_size * heads, hidden)
        norm(f"{p}/attention/output/LayerNorm", hidden)
        dense(f"{p}/intermediate/dense", hidden, inner)
        dense(f"{p}/output/dense", inner, hidden)
        norm(f"{p}/output/LayerNorm", hidden)
    dense("bert/pooler/dense", hidden, hidden)
    shapes["cls/seq_relationship/output_weights"] = (2, hidden)
    shapes["cls/seq_relationship/output_bias"] = (2,)
    dense("cls/predictions/transform/dense", hidden, embedding)
    norm("cls/predictions/transform/LayerNorm", embedding)
    shapes["cls/predictions/output_bias"] = (vocab,)
    return shapes


def random_array(name: str, shape: tuple[int, ...], random: np.random.RandomState) -> Array:
    """A float32 array for a variable of that name, at the scale that makes it matter.

    Kernels keep the size of what they multiply, attention scores spread over about +-2, biases
    and betas are far enough from 0 and gammas from 1 to show when one is lost.
    """
    noise = random.standard_normal(shape)
    role = name.rsplit("/", 1)[-1]
    if role == "gamma":
        array = 1 + 0.2 * noise
    elif role in ("beta", "bias", "output_bias"):
        array = 0.2 * noise
    elif role in ("kernel", "output_weights"):
        inputs = shape[1] if role == "output_weights" else shape[0]
        gain = 1.5 if name.endswith(("query/kernel", "key/kernel")) else 1.0
        array = gain / math.sqrt(inputs) * noise
    else:
        array = 0.05 * noise  # embeddings: so small that a normalisation's epsilon shows
    return np.asarray(array, np.float32)


def random_checkpoint(config: Config, family: Family = "bert", seed: int = 0) -> dict[str, Array]:
    """Random float32 arrays under the genuine names, every head present.

    The same on every machine and NumPy: the stream of the legacy generator is frozen.
    """
    random = np.random.RandomState(seed)
    return {
        name: random_array(name, shape, random)
        for name, shape in variable_shapes(config, family).items()
    }


def norm_layers(config: Config, *, with_mlm: bool = False) -> dict[str, int]:
    """Layer name and width of every normalisation of a model, from its input to its output."""
    embedding = config.get("embedding_size") or config["hidden_size"]
    layers = {"Embedding-Norm": embedding}
    for i in range(config["num_hidden_layers"]):
        layers[f"Transformer-{i}-MultiHeadSelfAttention-Norm"] = config["hidden_size"]
        layers[f"Transformer-{i}-FeedForward-Norm"] = config["hidden_size"]
    if with_mlm:
        layers["MLM-Norm"] = embedding
    return layers


def random_condition_weights(
    config: Config,
    condition_size: int,
    hidden_units: int | None = None,
    *,
    with_mlm: bool = False,
    seed: int = 0,
) -> dict[str, dict[str, Array]]:
    """Random kernels of `conditional_shift` for every normalisation, as `forward` takes them."""
    random = np.random.RandomState(seed)
    weights: dict[str, dict[str, Array]] = {}
    for layer, size in norm_layers(config, with_mlm=with_mlm).items():
        shapes = {} if hidden_units is None else {"hidden_dense": (condition_size, hidden_units)}
        inputs = hidden_units or condition_size
        shapes |= {"beta_dense": (inputs, size), "gamma_dense": (inputs, size)}
        weights[layer] = {
            name: np.asarray(0.3 * random.standard_normal(shape), np.float32)
            for name, shape in shapes.items()
        }
    return weights


def random_batch(
    config: Config, seed: int, batch: int, length: int, *, pad: bool = True, low: int = 1
) -> tuple[Array, Array]:
    """Token and segment ids (b, n), int32: rows of several lengths, two segments, zeros after.

    With `pad` the first row is full and each later row is shorter.
    """
    random = np.random.RandomState(seed)
    token_ids = random.randint(low, config["vocab_size"], size=(batch, length))
    segment_ids = np.zeros((batch, length), np.int64)
    for row in range(batch):
        real = length if row == 0 or not pad else random.randint(2, length + 1)
        token_ids[row, real:] = 0
        segment_ids[row, random.randint(1, real + 1) : real] = 1
    return token_ids.astype(np.int32), segment_ids.astype(np.int32)
