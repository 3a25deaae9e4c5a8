"""``bert4kexue similar generate``: other ways to say a sentence."""

from __future__ import annotations

import argparse
from typing import Any

from bert4kexue.cli.models import add_model_options, find_family, given_texts, load_tokenizer

_EPILOG = """\
examples:
  bert4kexue similar generate --model chinese_roformer-sim-char-ft_L-12_H-768_A-12 怎么开机
  bert4kexue similar generate --model DIR -n 50 -k 5 --seed 1 - < questions.txt

The output has one line a sentence: source, rank, cosine, sentence, separated by tabs."""


def add(actions: Any) -> None:
    """Add the command."""
    parser = actions.add_parser(
        "generate",
        help="paraphrases of a sentence, sampled and ranked",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("-n", type=int, default=100, help="sentences written (100)")
    parser.add_argument("-k", type=int, default=20, help="sentences kept (20)")
    parser.add_argument("--topp", type=float, default=0.95, help="nucleus of the sampling (0.95)")
    parser.add_argument("--topk", type=int, help="the likeliest tokens alone; SimBERT: 5")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--maxlen", type=int, default=64, help="tokens of a sentence (64)")
    parser.add_argument(
        "--mask", type=int, nargs="*", default=[], help="tokens of the source to hide, from 1"
    )
    parser.add_argument("--seed", type=int, help="the same seed writes the same")
    parser.add_argument("text", nargs="+", help="a sentence; - reads standard input")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the sentences."""
    texts = given_texts(options.text)
    family = find_family(options)
    from bert4kexue.methods.paraphrase import ParaphraseGenerator
    from bert4kexue.models import build_transformer_model

    model = build_transformer_model(
        options.model, model=family, application="unilm", with_pool="linear"
    )
    generator = ParaphraseGenerator(model, load_tokenizer(options.model), maxlen=options.maxlen)
    for text in texts:
        found = generator.generate(
            text,
            options.n,
            options.k,
            mask_positions=options.mask,
            topp=options.topp,
            topk=options.topk,
            temperature=options.temperature,
            seed=options.seed,
        )
        for rank, (written, cosine, _) in enumerate(found, 1):
            print(f"{text}\t{rank}\t{cosine:.4f}\t{written}", flush=True)
    return 0
