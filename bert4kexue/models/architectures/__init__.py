"""The families that can be built: one file each, one line here."""

from __future__ import annotations

from bert4kexue.models.architecture import Architecture
from bert4kexue.models.architectures.bert import BERT
from bert4kexue.models.architectures.roformer import ROFORMER

ARCHITECTURES: tuple[Architecture, ...] = (BERT, ROFORMER)


def find_architecture(name: str) -> Architecture:
    """The architecture of a name or an alias, in any case.

    Raises:
        ValueError: nobody has that name; the message lists the known ones.
    """
    by_name = {n: a for a in ARCHITECTURES for n in (a.name, *a.aliases)}
    if not isinstance(name, str) or name.lower() not in by_name:
        raise ValueError(f"model={name!r} is unknown: choose one of {sorted(by_name)}")
    return by_name[name.lower()]
