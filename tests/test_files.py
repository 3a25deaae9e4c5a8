"""Nothing half-written: a file or folder is whole or as it was."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from bert4kexue._files import atomic_folder, atomic_write, write_array


def test_file_appears_only_at_the_end(tmp_path):
    path = tmp_path / "a"
    with atomic_write(path) as file:
        file.write(b"x\n")
        assert not path.exists()
    assert path.read_bytes() == b"x\n"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    with atomic_write(tmp_path / "a", "w") as file:
        file.write("中\n")
    assert (tmp_path / "a").read_bytes() == "中\n".encode()


def test_an_exception_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail():
        with atomic_write(path) as file:
            file.write(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("size", [2000, 200_000])
def test_a_full_disk_is_told_with_the_path_and_leaves_the_old_file(tmp_path, size):
    """A limit on the size of files stands for a full disk, which fails in the same call."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    path = tmp_path / "a"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"a could not be written .*[\d,]+ bytes are free"
        ) as told:
            write_array(path, np.zeros(size, np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.arange(6).reshape(2, 3).T, np.array(2.5)])
def test_an_array_is_written_as_numpy_reads_it(tmp_path, array):
    write_array(tmp_path / "a.npy", array)
    found = np.load(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape


def test_folder_replaces_the_old_one_whole(tmp_path):
    path = tmp_path / "d"
    for content in ("one", "two"):
        with atomic_folder(path) as folder:
            (folder / content).write_bytes(b"")
        assert [item.name for item in path.iterdir()] == [content]
    assert [item.name for item in tmp_path.iterdir()] == ["d"]


def test_an_exception_leaves_the_old_folder(tmp_path):
    path = tmp_path / "d"
    path.mkdir()
    (path / "old").write_bytes(b"")

    def fail():
        with atomic_folder(path) as folder:
            (folder / "half").write_bytes(b"")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert [item.name for item in path.iterdir()] == ["old"]
    assert [item.name for item in tmp_path.iterdir()] == ["d"]


def test_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(FileExistsError, match="remove it first"), atomic_folder(tmp_path / "f"):
        pass
