r"""Lines of text files: only "\n" and "\r\n" end one.

`str.splitlines` ends lines at U+2028, U+0085, "\x1c" and others too, which JSON and sentences may
hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """Each line of a UTF-8 file without its end, one in memory at a time.

    A byte order mark before the first is left out.

    Raises:
        ValueError: a line that is not UTF-8, with its number.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"line {number} of {os.fspath(path)} is not UTF-8 (byte "
                    f"{line[error.start]:#04x}): convert the file, for instance with "
                    "iconv -f GB18030 -t UTF-8"
                ) from None
            if number == 1:
                text = text.removeprefix("\ufeff")
            yield text.removesuffix("\n").removesuffix("\r")
