"""Every other format that `open_checkpoint` reads, and how it finds out which one it is."""

from __future__ import annotations

import json
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert4kexue.checkpoints import (
    Checkpoint,
    CheckpointError,
    open_checkpoint,
    write_tf_checkpoint,
)

ARRAYS = {
    "bert/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bert/half": np.array([1.5, -2], np.float16),
    "scalar": np.array(3, np.int64),
    "empty": np.zeros((0, 2), np.float64),
    "flag": np.array([True, False]),
}


def assert_same(checkpoint, arrays):
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.names() == sorted(arrays)
    for name, value in arrays.items():
        assert checkpoint.shape(name) == value.shape
        assert checkpoint.dtype(name) == value.dtype
        found = checkpoint.read(name)
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)
    checkpoint.verify()
    with pytest.raises(CheckpointError, match="has no variable 'nobody'"):
        checkpoint.read("nobody")
    with pytest.raises(CheckpointError, match="has no variable 'nobody'"):
        checkpoint.verify(["nobody"])


def safetensors_bytes(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


# -- dict


def test_dict_gives_its_own_arrays():
    with open_checkpoint(ARRAYS) as checkpoint:
        assert_same(checkpoint, ARRAYS)
        assert checkpoint.read("bert/kernel") is ARRAYS["bert/kernel"]
        assert open_checkpoint(checkpoint) is checkpoint


@pytest.mark.parametrize("source", [{1: np.zeros(1)}, {"a": object()}, {"a": [{}]}, 7, None, b"x"])
def test_what_is_no_checkpoint_is_refused(source):
    with pytest.raises(CheckpointError):
        open_checkpoint(source)


# -- npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read(tmp_path, save):
    path = tmp_path / "m.npz"
    save(path, **ARRAYS)
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, ARRAYS)


def test_npz_with_pickles_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", a=np.array([{}], object))
    with pytest.raises(CheckpointError, match=r"'a' cannot be read .*pickle"):
        open_checkpoint(tmp_path / "m.npz")


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, a=np.arange(1000))
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-30])
    with pytest.raises(CheckpointError, match=r"no readable \.npz"):
        open_checkpoint(path)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with open_checkpoint(path) as checkpoint:
        with pytest.raises(CheckpointError, match="'a' cannot be read"):
            checkpoint.verify()
        with pytest.raises(CheckpointError, match="'a' cannot be read"):
            checkpoint.read("a")


def test_zip_with_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("a.npy", b"not an array")
    with pytest.raises(CheckpointError, match="'a' cannot be read"):
        open_checkpoint(tmp_path / "m.npz")


# -- safetensors


def test_safetensors_is_read_as_its_own_library_writes_it(tmp_path):
    numpy_api = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    numpy_api.save_file(ARRAYS, path, metadata={"format": "np"})
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, ARRAYS)
        assert not checkpoint.read("bert/kernel").flags.writeable


def test_safetensors_bfloat16_by_hand(tmp_path):
    value = np.array([[1.5, -2, 3]], ml_dtypes.bfloat16)
    header = {"w": {"dtype": "BF16", "shape": [1, 3], "data_offsets": [0, 6]}}
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes(header, value.tobytes()))
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, {"w": value})


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"\xff" * 8, "header would have"),
        (safetensors_bytes(b"{", b""), "not JSON"),
        (safetensors_bytes(b"[" * 100_000, b""), "not JSON"),
        (safetensors_bytes(b"[]", b""), "not a JSON object"),
        (safetensors_bytes({"a": ENTRY}, bytes(7)), "end at byte"),
        (safetensors_bytes({"a": ENTRY}, bytes(9)), "end at byte"),
        (safetensors_bytes({"a": {**ENTRY, "dtype": "F4"}}, bytes(8)), "dtype 'F4'"),
        (safetensors_bytes({"a": {**ENTRY, "dtype": []}}, bytes(8)), "dtype"),
        (safetensors_bytes({"a": {**ENTRY, "shape": [-2]}}, bytes(8)), "whole numbers"),
        (safetensors_bytes({"a": {**ENTRY, "shape": [True]}}, bytes(8)), "whole numbers"),
        (safetensors_bytes({"a": {**ENTRY, "shape": 2}}, bytes(8)), "whole numbers"),
        (safetensors_bytes({"a": {**ENTRY, "shape": [3]}}, bytes(8)), "needs 12"),
        (safetensors_bytes({"a": {**ENTRY, "data_offsets": [8, 16]}}, bytes(16)), "0 was due"),
        (safetensors_bytes({"a": ENTRY, "b": ENTRY}, bytes(16)), "8 was due"),
        (safetensors_bytes({"a": {"dtype": "F32"}}, bytes(8)), "lacks"),
        (safetensors_bytes({"a": 5}, b""), "lacks"),
    ],
)
def test_damaged_safetensors_is_refused(tmp_path, content, words):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_flipped_safetensors_bytes_never_escape(tmp_path, data):
    header = {"a": ENTRY, "b": {"dtype": "I8", "shape": [1, 2], "data_offsets": [8, 10]}}
    content = bytearray(safetensors_bytes(header, bytes(10)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    try:
        with open_checkpoint(path) as checkpoint:
            assert all(checkpoint.read(name).nbytes <= 10 for name in checkpoint.names())
    except CheckpointError:
        pass


# -- Keras


def test_keras_weights_are_read(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    kernel, bias = model.get_weights()
    with open_checkpoint(path) as checkpoint:
        assert_same(checkpoint, {"layers/dense/vars/0": kernel, "layers/dense/vars/1": bias})


def test_keras_bfloat16_weights_are_read(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16", name="dense")]
    )
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.dtype("layers/dense/vars/0") == ml_dtypes.bfloat16
        expected = keras.ops.convert_to_numpy(keras.ops.cast(model.layers[-1].kernel, "float32"))
        np.testing.assert_array_equal(
            checkpoint.read("layers/dense/vars/0").astype(np.float32), expected
        )


def test_file_that_is_no_hdf5_is_refused(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "m.weights.h5").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no readable HDF5"):
        open_checkpoint(tmp_path / "m.weights.h5")


# -- which one is it


@pytest.mark.parametrize("given_as", ["m.ckpt", "m.ckpt.index", "m.ckpt.data-00000-of-00001", "."])
def test_tensorflow_checkpoint_is_found_by_any_of_its_names(tmp_path, given_as):
    write_tf_checkpoint(tmp_path / "m.ckpt", ARRAYS)
    with open_checkpoint(tmp_path / given_as) as checkpoint:
        assert_same(checkpoint, ARRAYS)
    with open_checkpoint(str(tmp_path / given_as)) as checkpoint:
        assert "m.ckpt" in checkpoint.description


def test_folder_with_two_checkpoints_asks_which(tmp_path):
    write_tf_checkpoint(tmp_path / "a.ckpt", ARRAYS)
    np.savez(tmp_path / "b.npz", **ARRAYS)
    with pytest.raises(CheckpointError, match=r"has 2: a\.ckpt, b\.npz; give the path of one"):
        open_checkpoint(tmp_path)


def test_folders_state_file_may_name_a_path_of_another_machine(tmp_path):
    for name in ("a.ckpt", "b.ckpt"):
        write_tf_checkpoint(tmp_path / name, {name: np.zeros(1)})
    state = tmp_path / "checkpoint"
    for text in (
        'model_checkpoint_path: "/home/me/run 1/b.ckpt"\n',
        r'model_checkpoint_path: "C:\\b.ckpt"',
    ):
        state.write_text(text, encoding="utf-8")
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.names() == ["b.ckpt"]
    state.write_text('model_checkpoint_path: "gone.ckpt"', encoding="utf-8")
    with pytest.raises(CheckpointError, match="exactly one"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing.ckpt", r"there is no checkpoint .*the folder has m\.npz"),
        ("away/m.ckpt", "its folder .* does not exist"),
        ("half.ckpt", r"half\.ckpt\.index is missing beside half\.ckpt\.data-00000-of-00001"),
        ("text.bin", "of no known format"),
        ("empty", "holds no checkpoint; it has nothing"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(tmp_path, path, words):
    np.savez(tmp_path / "m.npz", a=np.zeros(1))
    (tmp_path / "half.ckpt.data-00000-of-00001").write_bytes(b"")
    (tmp_path / "text.bin").write_bytes(b"text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path / path)
