"""Cloze by next sentence: the candidate stands in the other segment, at the positions of the blank.

"有时候我给你#idiom#,但你..." loses its blank; the candidate becomes the other segment but gets the
position ids that it would have inside the text (arXiv 2109.03564, "soft position"). The ids of a
row are a permutation of 0 .. n-1 whatever is cut away, because the text is cut first, around the
blank, and numbered then.

Axis letters: n tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.methods.nsp_prompt import NSPScorer, Place, Row

BLANK = "#idiom#"


def soft_position_ids(
    before: int, candidate: int, after: int, place: Place = "prefix"
) -> list[int]:
    """Position ids of a row, in the order of its tokens.

    Args:
        before: tokens of the text before the blank.
        candidate: tokens of the candidate.
        after: tokens of the text after the blank.
        place: 'prefix', `[CLS] candidate [SEP] text [SEP]`; 'suffix',
            `[CLS] text [SEP] candidate [SEP]`.
    """
    n = before + candidate + after + 3
    lead = 2 if place == "prefix" else 1  # [CLS], and for a prefix the [SEP] after the candidate
    blank = lead + before
    inside = list(range(blank, blank + candidate))
    text = [*range(lead, blank), *range(blank + candidate, blank + candidate + after)]
    if place == "prefix":
        return [0, *inside, 1, *text, n - 1]
    return [0, *text, n - 2, *inside, n - 1]


def cloze_rows(
    scorer: NSPScorer,
    text: str,
    candidates: Sequence[str],
    place: Place = "prefix",
    blank: str = BLANK,
) -> list[Row]:
    """A row for each candidate; long texts are cut at both ends, around the blank.

    Raises:
        ValueError: not exactly one blank in the text, fewer than two candidates, one twice or
            empty; or a candidate that leaves no room.
    """
    if text.count(blank) != 1:
        raise ValueError(
            f"the text needs exactly one {blank}, it has {text.count(blank)}: {text[:60]!r}"
        )
    if isinstance(candidates, str) or len(set(candidates)) < max(2, len(candidates)):
        raise ValueError(f"a cloze needs different candidates, two or more, got {candidates!r}")
    before, after = text.split(blank)
    ids = scorer.encode([before, after, *candidates])
    start, end = scorer.row([], []).token_ids[:2]
    rows = []
    for candidate in candidates:
        inside = ids[candidate]
        room = scorer.maxlen - 3 - len(inside)
        if not inside or room < 1:
            raise ValueError(
                f"the candidate {candidate!r} has {len(inside)} tokens: it needs one or more, and "
                f"room for a text within maxlen={scorer.maxlen}"
            )
        left, right = _window(len(ids[before]), len(ids[after]), room)
        head = ids[before][len(ids[before]) - left :]
        tail = ids[after][:right]
        whole = [*head, *tail]
        first, second = (inside, whole) if place == "prefix" else (whole, inside)
        rows.append(
            Row(
                [start, *first, end, *second, end],
                [0] * (len(first) + 2) + [1] * (len(second) + 1),
                soft_position_ids(left, len(inside), right, place),
            )
        )
    return rows


def score_cloze(
    scorer: NSPScorer,
    texts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    place: Place = "prefix",
    blank: str = BLANK,
) -> list[np.ndarray]:
    """Each text's scores, one a candidate; texts may have different numbers of them.

    Args:
        scorer: of a model with ``custom_position_ids=True``.
        texts: with one blank each.
        candidates: of each text.
        place: of the candidate.
        blank: the mark.

    Raises:
        ValueError: as :func:`cloze_rows`; or not as many lists of candidates as texts.
    """
    if len(texts) != len(candidates):
        raise ValueError(f"{len(texts)} texts and {len(candidates)} lists of candidates")
    rows = [
        cloze_rows(scorer, text, some, place, blank)
        for text, some in zip(texts, candidates, strict=True)
    ]
    scores = scorer.score_rows([row for several in rows for row in several])
    return np.split(scores, np.cumsum([len(several) for several in rows])[:-1]) if rows else []


def _window(before: int, after: int, room: int) -> tuple[int, int]:
    """How many tokens stay on each side: as even as both sides allow."""
    left = min(before, max(room // 2, room - after))
    return left, min(after, room - left)
