"""``bert4kexue similar eval``: Spearman of scored pairs, and the post's own cosines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import add_model_options

_EPILOG = """\
examples:
  bert4kexue similar eval --model DIR --scored ATEC.tsv --scored STS-B.tsv
  bert4kexue similar eval --model DIR --scored pairs.tsv --calibrate pairs.json --precision 0.95
  bert4kexue similar eval --post-8541
"""


def add(actions: Any) -> None:
    """Add the command."""
    parser = actions.add_parser(
        "eval",
        help="Spearman with intervals on scored pairs; the cosines of kexue.fm/archives/8541",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser, required=False)
    parser.add_argument(
        "--scored", action="append", default=[], metavar="FILE", help="first TAB second TAB score"
    )
    parser.add_argument("--skip-bad", action="store_true", help="pass over broken rows")
    parser.add_argument(
        "--pooling", choices=("pooler", "cls", "mean"), default="pooler", help="(pooler)"
    )
    parser.add_argument("--maxlen", type=int, default=64, help="tokens read at once (64)")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap (1000)")
    parser.add_argument(
        "--calibrate", metavar="FILE", help="write a calibration of all pairs, as JSON"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="score above which a pair is alike (0.5)"
    )
    parser.add_argument(
        "--precision", type=float, help="advise the cosine from which pairs are so precise"
    )
    parser.add_argument(
        "--post-8541", action="store_true", help="compare with the cosines that the post prints"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line a set; 1 where the post's cosines are not met."""
    if options.post_8541:
        return _post(options)
    if not options.model or not options.scored:
        raise ValueError("give --model and --scored FILE, or --post-8541")
    from bert4kexue.methods.sentence_encoder import SentenceEncoder
    from bert4kexue.methods.similarity_data import read_scored
    from bert4kexue.methods.sts import bootstrap_interval, cosines_of, evaluate_sts, spearman
    from bert4kexue.methods.text_similarity import character_jaccard

    sets = {path: read_scored(path, skip_bad=options.skip_bad) for path in options.scored}
    encoder = SentenceEncoder.load(
        options.model, family=options.family, pooling=options.pooling, maxlen=options.maxlen
    )
    for path, pairs in sets.items():
        found = evaluate_sts(encoder.encode, {path: pairs}, resamples=options.resamples)[path]
        scores, near = [pair.score for pair in pairs], character_jaccard(pairs)
        low, high = bootstrap_interval(near, scores, resamples=options.resamples)
        print(
            f"{Path(path).name}, {found.pairs} pairs: {100 * found.spearman:.2f} "
            f"({100 * found.low:.2f} to {100 * found.high:.2f}); shared characters alone "
            f"{100 * spearman(near, scores):.2f} ({100 * low:.2f} to {100 * high:.2f})"
        )
    if options.calibrate or options.precision:
        from bert4kexue.methods.calibration import Calibration

        every = [pair for pairs in sets.values() for pair in pairs]
        labels = [int(pair.score > options.threshold) for pair in every]
        fitted = Calibration.fit(cosines_of(encoder.encode, every), labels)
        if options.calibrate:
            fitted.save(options.calibrate)
        if options.precision:
            line = fitted.threshold(options.precision)
            print(
                f"from cosine {line.cosine:.4f} on {100 * line.precision:.1f} % of {line.pairs} "
                f"pairs are alike (95 %: at least {100 * line.lowest_precision:.1f} %), "
                f"{100 * line.recall:.1f} % of all that are"
            )
    return 0


def _post(options: argparse.Namespace) -> int:
    from bert4kexue.checkpoints.places import checkpoint_folder
    from bert4kexue.methods.post_8541 import CHECKPOINT, compare

    name = options.model or CHECKPOINT
    try:
        with checkpoint_folder(name):
            pass
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"the post's cosines are those of the released {CHECKPOINT}, which is not here "
            f"({error}). Place its archive, or the folder in it, in pretrained/ or in "
            ".bert4kexue/pretrained of your home and give the command again; --model NAME "
            "compares another model"
        ) from None
    from bert4kexue.methods.sentence_encoder import SentenceEncoder

    encoder = SentenceEncoder.load(name, family=options.family, maxlen=options.maxlen)
    found = compare(encoder)
    print("post    found   first\tsecond")
    for row in found:
        mark = " " if row.agrees else "*"
        print(f"{row.post:.4f}  {row.found:.4f}{mark} {row.first}\t{row.second}")
    wrong = sum(not row.agrees for row in found)
    print(f"{len(found) - wrong} of {len(found)} agree" + (", * differ" if wrong else ""))
    return 1 if wrong else 0
