"""Spans of BIO labels, the plain way."""

from __future__ import annotations


def spans_by_hand(labels):
    """BIO read one label after the other."""
    spans, start, kind = [], None, None
    for i, label in enumerate([*labels, "O"]):
        if start is not None and (label[0] != "I" or label[2:] != kind):
            spans.append((start, i, kind))
            start = None
        if label != "O" and start is None:
            start, kind = i, label[2:]
    return spans
