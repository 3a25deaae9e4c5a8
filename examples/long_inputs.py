"""The shipped RoFormer beyond its trained length: plain, with log-n scaling, with interpolation.

    BERT4KEXUE_DATA=... python examples/long_inputs.py --output RESULTS.json
    python examples/long_inputs.py --smoke

pretrained/roformer_tiny_zh was trained on rows of at most 64 tokens. Held-out reviews of 248 tokens
or more are read in windows of 62, 124 and 248 tokens of text, [CLS] and [SEP] around each, with the
same tokens masked whatever the window is: only how far a token sees differs. Written are the shares
of masked tokens found again and, against windows of 62, the difference with its standard error over
the reviews. `attention_cost.py --trained` puts them on its page.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import ship_sets

from bert4kexue.models import build_transformer_model
from bert4kexue.tokenizers import Tokenizer

CHECKPOINT = Path(__file__).resolve().parent.parent / "pretrained" / "roformer_tiny_zh"
TRAINED, TEXT, WINDOWS = 64, 248, (62, 124, 248)
WAYS: dict[str, tuple[bool, bool]] = {  # log-n scaling, interpolation
    "plain": (False, False),
    "log-n": (True, False),
    "interpolation": (False, True),
    "both": (True, True),
}


def texts(root: Path, tokenizer: Tokenizer, most: int) -> np.ndarray:
    """Ids (r, TEXT) of held-out reviews without any piece that was trained on."""
    trained = {p for pieces in ship_sets.running_text(root).values() for p in pieces}
    rows = []
    for text in dict.fromkeys(ship_sets.reviews(root, "held_out")):
        if len(text) < TEXT or any(p in trained for p in ship_sets.pieces(text)):
            continue
        ids = tokenizer.encode(text)[0][1:-1]
        if len(ids) >= TEXT:
            rows.append(ids[:TEXT])
    order = np.random.RandomState(0).permutation(len(rows))[:most]
    return np.array(rows, "int32")[order]


def made_up(tokenizer: Tokenizer) -> np.ndarray:
    """Rows that need no data."""
    return np.random.RandomState(0).randint(200, tokenizer._vocab_size, (4, TEXT), "int32")


def models(log_n: bool, factor: float) -> tuple[keras.Model, keras.Model]:
    """Hidden states of (token ids, segment ids), and logits of some of them."""
    builder = build_transformer_model(
        CHECKPOINT,
        model="roformer",
        with_mlm="linear",
        return_keras_model=False,
        log_n_scaling=TRAINED if log_n else None,
        position_interpolation=factor,
    )
    last = f"Transformer-{builder.config.num_hidden_layers - 1}-FeedForward-Norm"
    body = keras.Model(builder.inputs, builder.layers[last].output)
    some = keras.Input((None, builder.config.hidden_size))
    return body, keras.Model(some, builder.apply_final_layers(some))


def found(ids: np.ndarray, hidden: np.ndarray, window: int, way: str, tokenizer: Any) -> np.ndarray:
    """Booleans (r, TEXT): masked tokens that the model puts first."""
    log_n, interpolated = WAYS[way]
    body, head = models(log_n, max(1.0, (window + 2) / TRAINED) if interpolated else 1.0)
    read = np.where(hidden, tokenizer._token_mask_id, ids).reshape(-1, window)
    ends = np.full((len(read), 1), tokenizer._token_end_id, "int32")
    rows = np.concatenate([np.full_like(ends, tokenizer._token_start_id), read, ends], 1)
    right = np.zeros(ids.shape, bool).reshape(-1, window)
    asked = hidden.reshape(-1, window)
    step = 4096 // (window + 2)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        states = np.asarray(body.predict_on_batch([rows[part], np.zeros_like(rows[part])]))
        logits = np.asarray(head.predict_on_batch(states[:, 1:-1][asked[part]][None]))[0]
        right[part][asked[part]] = logits.argmax(-1) == ids.reshape(-1, window)[part][asked[part]]
    return right.reshape(ids.shape)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("long_inputs.json"))
    parser.add_argument("--reviews", type=int, default=300)
    parser.add_argument("--smoke", action="store_true", help="four made-up rows, no data")
    args = parser.parse_args()
    tokenizer = Tokenizer(str(CHECKPOINT / "vocab.txt"), do_lower_case=True)
    if args.smoke:
        ids = made_up(tokenizer)
    else:
        ids = texts(ship_sets.data_folder(), tokenizer, args.reviews)
    hidden = np.random.RandomState(1).random_sample(ids.shape) < 0.15
    asked = hidden.sum(1)
    result: dict[str, Any] = {"reviews": len(ids), "asked": int(hidden.sum()), "rows": []}
    base = None
    for window in WINDOWS:
        for way in WAYS if window > WINDOWS[0] else ["plain"]:
            right = found(ids, hidden, window, way, tokenizer).sum(1)
            base = right if base is None else base
            shares = (right - base) / asked.mean()
            result["rows"].append(
                {
                    "window": window,
                    "way": way,
                    "accuracy": float(right.sum() / asked.sum()),
                    "difference": float(shares.mean()),
                    "error": float(shares.std(ddof=1) / len(ids) ** 0.5),
                }
            )
            print(json.dumps(result["rows"][-1]), flush=True)
            keras.backend.clear_session()
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
