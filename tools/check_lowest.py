"""Say whether the running environment holds exactly the releases that tools/lowest.txt pins.

`make test-lowest` runs this before the tests: a resolver that slipped in a newer Keras would make
them prove nothing about the lower bounds.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

LOWEST = Path(__file__).with_name("lowest.txt")


def main() -> None:
    """Compare every pin that applies to this Python with what is installed."""
    wrong = []
    for line in LOWEST.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        found = version(pin.name)
        if not pin.specifier.contains(found):
            wrong.append(
                f"{pin.name} {found} is installed where {LOWEST.name} pins {pin.specifier}"
            )
        else:
            print(f"{pin.name} {found}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
