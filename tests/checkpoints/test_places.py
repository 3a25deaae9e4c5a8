"""Checkpoints by name and from released archives, which are another's work and are not believed."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bert4kexue.checkpoints import CheckpointError, archives
from bert4kexue.checkpoints.archives import unpacked
from bert4kexue.checkpoints.places import checkpoint_folder, find_checkpoint
from bert4kexue.checkpoints.released import RELEASED
from bert4kexue.models import build_transformer_model

FILES = {"bert_config.json": b"{}", "vocab.txt": b"[PAD]\n" * 999, "bert_model.ckpt.index": b"i"}


def make_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


MAKERS = {"model.zip": make_zip, "model.tar.gz": make_tar}


@pytest.fixture(params=sorted(MAKERS))
def make(request, tmp_path):
    return lambda files: MAKERS[request.param](tmp_path / request.param, files)


@pytest.mark.parametrize("inside", ["", "chinese_L-12_H-768_A-12/", "publish/model/"])
def test_an_archive_is_read_as_it_was_released(make, inside):
    path = make({inside + name: data for name, data in FILES.items()})
    with unpacked(path) as folder:
        assert {item.name: item.read_bytes() for item in folder.iterdir()} == FILES
    assert not folder.exists()


def test_what_file_managers_add_is_left_out(make):
    path = make(FILES | {"__MACOSX/._vocab.txt": b"x", ".DS_Store": b"x"})
    with unpacked(path) as folder:
        assert {item.name for item in folder.iterdir()} == set(FILES)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "a/../../evil", "C:/evil", "..\\evil"]
)
def test_a_member_outside_the_folder_is_refused(make, name):
    with pytest.raises(CheckpointError, match="outside the folder"), unpacked(make({name: b"x"})):
        pass


def test_links_are_refused(tmp_path):
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("vocab.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(CheckpointError, match="link or device"), unpacked(path):
        pass
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("vocab.txt")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(CheckpointError, match="is a link"), unpacked(path):
        pass


def test_a_name_twice_is_refused(tmp_path):
    path = make_zip(tmp_path / "model.zip", {"vocab.txt": b"a", "vocab.tyt": b"b"})
    path.write_bytes(path.read_bytes().replace(b"vocab.tyt", b"vocab.txt"))
    with pytest.raises(CheckpointError, match="twice"), unpacked(path):
        pass


def test_a_size_that_is_not_true_is_refused(tmp_path):
    path = make_zip(tmp_path / "model.zip", FILES)
    data = bytearray(path.read_bytes())
    # The size that the central directory declares for the first member: as much as 4 bytes say.
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFFE)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"early|unpacks to"), unpacked(path):
        pass


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_truncated_archive_is_refused(make, cut):
    path = make({name: bytes(range(256)) * 40 + name.encode() for name in FILES})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(CheckpointError, match="no whole archive"), unpacked(path):
        pass


def test_a_flipped_byte_is_refused(tmp_path):
    path = make_zip(tmp_path / "model.zip", FILES)
    data = bytearray(path.read_bytes())
    data[data.index(b"vocab.txt") + 15] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="no whole archive"), unpacked(path):
        pass


@pytest.mark.parametrize("packing", [0, 8, 12, 14, "w:", "w:gz", "w:bz2", "w:xz"])
def test_of_a_damaged_archive_only_true_contents_come_out(tmp_path, packing):
    files = {name: name.encode() * 30 for name in FILES}
    path = tmp_path / ("model.tar" if isinstance(packing, str) else "model.zip")
    if isinstance(packing, str):
        make_tar(path, files, packing)
    else:
        make_zip(path, files, packing)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(80):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found = []
        try:
            with unpacked(path) as folder:
                found = [item.read_bytes() for item in folder.rglob("*") if item.is_file()]
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017 - a flipped byte may be of no account
        if packing != "w:":  # which has no checksum of contents
            assert set(found) <= set(files.values())


def test_a_wrong_checksum_at_the_end_is_refused(tmp_path):
    path = make_tar(tmp_path / "model.tar.gz", FILES)
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF  # of the CRC-32; after it, the size
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"no whole archive \(CRC"), unpacked(path):
        pass


def test_a_damaged_header_is_not_the_end_of_the_archive(tmp_path):
    path = tmp_path / "model.tar"
    with tarfile.open(path, "w") as archive:
        for name in FILES:
            archive.addfile(tarfile.TarInfo(name))
    data = bytearray(path.read_bytes())
    data[1024 + 148] ^= 1  # the third header's checksum
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="header at byte 1,024 is damaged"), unpacked(path):
        pass


def test_corrupt_xz_is_refused(tmp_path):
    path = tmp_path / "model.tar.gz"
    noise = np.random.default_rng(0).bytes(50_000)
    data = bytearray(make_tar(path, {"vocab.txt": noise}, "w:xz").read_bytes())
    data[30_000] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="no whole archive"), unpacked(path):
        pass


def test_a_compression_that_python_does_not_read_is_told(tmp_path):
    path = make_zip(tmp_path / "model.zip", {"vocab.txt": b"a" * 99})
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.index(signature) + place
        data[at : at + 2] = struct.pack("<H", 9)  # Deflate64
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"'vocab.txt' is .* method 9"), unpacked(path):
        pass
    data[data.index(b"PK\x01\x02") + 6] = 99  # the version needed
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="Python does not read"), unpacked(path):
        pass


@pytest.mark.parametrize("files", [{"a": b"x", "a/b": b"y"}, {"A/b/c": b"x", "a": b"y"}])
def test_a_file_that_is_a_folder_too_is_refused(make, files):
    with pytest.raises(CheckpointError, match="a file and a folder at once"), unpacked(make(files)):
        pass


def test_a_member_that_names_no_file_is_refused(make):
    with pytest.raises(CheckpointError, match=r"'\.' names no file"), unpacked(make({".": b"x"})):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_is_told_apart_from_damage(make, monkeypatch):
    path = make(FILES)
    full = io.FileIO("/dev/full", "w")
    monkeypatch.setattr(archives, "open", lambda target, mode: full, raising=False)
    with pytest.raises(CheckpointError, match=r"the disk is full, with [\d,]+ bytes free"):
        unpacked(path).__enter__()


def test_a_name_that_the_system_refuses_is_told(make):
    path = make({"a" * 300: b"x"})
    with pytest.raises(CheckpointError, match=r"'a+' cannot be written below"), unpacked(path):
        pass


def test_a_name_is_a_folder_or_archive_of_the_places_in_turn(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        place.mkdir()
    make_zip(second / "alpha.zip", FILES)
    make_tar(second / "beta.tar.gz", FILES)
    (first / "gamma").mkdir()
    (second / "gamma").mkdir()
    places = [first, second]
    assert find_checkpoint("alpha", places) == second / "alpha.zip"
    assert find_checkpoint("beta", places) == second / "beta.tar.gz"
    assert find_checkpoint("gamma", places) == first / "gamma"
    assert find_checkpoint(second / "gamma", places) == second / "gamma"
    with checkpoint_folder("beta", places) as folder:
        assert (folder / "vocab.txt").read_bytes() == FILES["vocab.txt"]


def test_what_is_not_there_is_told_with_what_is(tmp_path):
    (tmp_path / "roformer_tiny").mkdir()
    with pytest.raises(CheckpointError, match="roformer_tiny is there"):
        find_checkpoint("roformer_tinny", [tmp_path])
    with pytest.raises(
        CheckpointError, match=r"released by Google as chinese_L-12_H-768_A-12\.zip"
    ):
        find_checkpoint("chinese_L-12_H-768_A-12", [tmp_path])
    with pytest.raises(CheckpointError, match="released names are like chinese_wwm_L-12"):
        find_checkpoint("chinese_wwm_L-12_H-786", [tmp_path])
    with pytest.raises(CheckpointError, match=r"there is no .*absent"):
        find_checkpoint(tmp_path / "absent", [tmp_path])


def test_a_released_name_is_told_when_absent_and_built_from_the_user_s_folder(
    tmp_path, monkeypatch
):
    name = "chinese_roformer-sim-char-ft_L-12_H-768_A-12"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    place = tmp_path / ".bert4kexue" / "pretrained"
    with pytest.raises(CheckpointError, match="released by Zhuiyi as chinese_roformer-sim") as told:
        build_transformer_model(name)
    assert str(place) in str(told.value)
    place.mkdir(parents=True)
    # Another's weights under its name: what is tested is how it is found and read.
    shipped = Path(__file__).parents[2] / "pretrained" / "roformer_tiny_zh"
    make_zip(place / f"{name}.zip", {f"{name}/{f.name}": f.read_bytes() for f in shipped.iterdir()})
    model = build_transformer_model(name, application="unilm", with_pool="linear")
    vectors, probabilities = model.predict_on_batch([np.array([[2, 9, 3]]), np.zeros((1, 3), int)])
    assert vectors.shape == (1, 256)
    assert probabilities.shape[:2] == (1, 3)


def test_every_released_name_stands_in_the_list_for_users():
    page = (Path(__file__).parents[2] / "pretrained" / "README.md").read_text(encoding="utf-8")
    assert [item.archive for item in RELEASED if f"`{item.archive}`" not in page] == []
