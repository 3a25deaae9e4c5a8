"""Released archives (.zip, .tar.gz) read as they are, unpacked for as long as they are needed.

An archive is another's work, so nothing in it is believed: no member is written outside the
temporary folder, links and devices are refused, and what is unpacked is no more than was declared.
"""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from .base import CheckpointError

ARCHIVE_SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")
_LARGEST = 64 << 30  # bytes of one unpacked archive; the largest release known is a few GB

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
_DAMAGE_NUMBERS = (None, errno.EINVAL)  # of OSErrors: what gzip and bzip2 say; a false offset
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class _Member(NamedTuple):
    name: str
    size: int
    handle: Any


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether the name ends as archives do: .zip, .tar.gz, .tgz, .tar."""
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


@contextmanager
def unpacked(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Unpack an archive for the length of a block.

    Args:
        path: a .zip, .tar, .tar.gz or .tgz of one checkpoint, its files at the top or in one
            folder (deeper ones are looked for the checkpoint's config).

    Yields:
        The folder that holds the archive's config (or, without one, everything); it is removed
        when the block ends.

    Raises:
        CheckpointError: no archive or a damaged one, one compressed as Python does not read, a
            member that would leave the folder, a link, two members of one name, more bytes than
            declared, or too little space.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no archive {path}")
    with tempfile.TemporaryDirectory(prefix="bert4kexue-", ignore_cleanup_errors=True) as folder:
        try:
            if path.name.lower().endswith(".zip"):
                with zipfile.ZipFile(path) as archive:
                    _unpack(path, _zip_members(path, archive), archive.open, Path(folder))
            else:
                with tarfile.open(path) as archive:
                    _unpack(path, _tar_members(path, archive), archive.extractfile, Path(folder))
        except CheckpointError:
            raise
        except NotImplementedError as error:
            raise CheckpointError(
                f"{path} is packed in a way that Python does not read ({error}): unpack it by "
                "hand, and give the folder"
            ) from error
        except (*_DAMAGE, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _DAMAGE_NUMBERS:
                raise
            raise CheckpointError(
                f"{path} is no whole archive ({error}): fetch it again and compare its size with "
                "what its author publishes"
            ) from error
        yield _home(Path(folder))


def _zip_members(path: Path, archive: zipfile.ZipFile) -> list[_Member]:
    members = []
    for info in archive.infolist():
        if info.filename.endswith("/"):
            continue
        if info.compress_type not in _READABLE:
            raise CheckpointError(
                f"{path}: {info.filename!r} is compressed by zip's method {info.compress_type}, "
                "and Python reads stored, deflate, bzip2 and lzma: unpack it by hand, and give "
                "the folder"
            )
        if info.flag_bits & 1:
            raise CheckpointError(f"{path}: {info.filename!r} is encrypted; unpack it by hand")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise CheckpointError(f"{path}: {info.filename!r} is a link; archives hold plain files")
        members.append(_Member(info.filename, info.file_size, info))
    return members


def _tar_members(path: Path, archive: tarfile.TarFile) -> list[_Member]:
    members = []
    for info in archive:
        if info.isdir():
            continue
        if not info.isreg():
            raise CheckpointError(f"{path}: {info.name!r} is a link or device, not a plain file")
        members.append(_Member(info.name, info.size, info))
    _check_end(archive)
    return members


def _check_end(archive: tarfile.TarFile) -> None:
    """Read what follows the last member: zeros, and where it is compressed a checksum of all."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a damaged header for the end
        raise tarfile.ReadError(f"the header at byte {archive.offset:,} is damaged")
    while file.read(1 << 20):
        pass


def _unpack(path: Path, members: list[_Member], open_member: Any, folder: Path) -> None:
    members = [m for m in members if not _is_clutter(m.name)]
    total = sum(member.size for member in members)
    if total > min(_LARGEST, free := shutil.disk_usage(folder).free):
        raise CheckpointError(
            f"{path} unpacks to {total:,} bytes and {folder.parent} has {free:,}: unpack it by "
            "hand where there is room, and give the folder"
        )
    files: dict[PurePosixPath, str] = {}
    folders: dict[PurePosixPath, str] = {}
    for member in members:
        place = _inside(path, member.name)
        key = PurePosixPath(str(place).casefold())
        if key in files:
            raise CheckpointError(f"{path} holds {member.name!r} twice: unpack it by hand")
        other = folders.get(key) or next((files[up] for up in key.parents if up in files), None)
        if other is not None:
            raise CheckpointError(
                f"{path} holds {member.name!r} and {other!r}, one of them a file and a folder at "
                "once: fetch it again, or unpack by hand what you need"
            )
        files[key] = member.name
        folders |= dict.fromkeys(key.parents, member.name)
        with open_member(member.handle) as source, _new_file(path, member, folder / place) as file:
            _copy(path, member, source, file)


@contextmanager
def _new_file(path: Path, member: _Member, target: Path) -> Iterator[IO[bytes]]:
    """Open a member's file; what the system refuses is told with both names."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            yield file
    except OSError as error:
        if error.errno in _DAMAGE_NUMBERS:
            raise
        why, place = error.strerror, tempfile.gettempdir()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = f"the disk is full, with {shutil.disk_usage(place).free:,} bytes free"
        raise CheckpointError(
            f"{path}: {member.name!r} cannot be written below {place} ({why}): unpack it by hand "
            "where it can, and give the folder"
        ) from error


def _copy(path: Path, member: _Member, source: IO[bytes], file: IO[bytes]) -> None:
    left = member.size
    while left:
        block = source.read(min(left, 1 << 20))
        if not block:
            raise CheckpointError(f"{path}: {member.name!r} ends {left:,} bytes early")
        file.write(block)
        left -= len(block)
    if source.read(1):
        raise CheckpointError(
            f"{path}: {member.name!r} is longer than the {member.size:,} declared"
        )


def _inside(path: Path, name: str) -> PurePosixPath:
    """The member's place below the folder; refused where it would leave it on any system."""
    place = PurePosixPath(name.replace("\\", "/"))
    if not place.parts:
        raise CheckpointError(f"{path}: the member {name!r} names no file: fetch it again")
    if place.is_absolute() or ".." in place.parts or ":" in name or "\0" in name:
        raise CheckpointError(
            f"{path}: the member {name!r} would be written outside the folder; do not use this file"
        )
    return place


def _is_clutter(name: str) -> bool:
    """What file managers put beside: resource forks, thumbnails."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or (bool(parts) and parts[-1] in (".DS_Store", "Thumbs.db"))


def _home(folder: Path) -> Path:
    """The one folder with a config; else the deepest folder that holds everything."""
    homes = sorted({config.parent for config in folder.rglob("*config*.json")})
    if len(homes) == 1:
        return homes[0]
    while len(inner := list(folder.iterdir())) == 1 and inner[0].is_dir():
        folder = inner[0]
    return folder
