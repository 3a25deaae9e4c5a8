"""TensorFlow itself as the judge: it reads what we write, and we read what it writes."""

from __future__ import annotations

import itertools
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bert4kexue.checkpoints import CheckpointError, open_checkpoint, write_tf_checkpoint

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1

DTYPES = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
    np.complex64,
    np.complex128,
]


def arrays_of_every_kind() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    arrays = {
        f"bert/encoder/layer_{i}/kernel": (rng.normal(size=(4, i + 1)) * 9).astype(kind)
        for i, kind in enumerate(DTYPES)
    }
    return {
        **arrays,
        "scalar": np.array(-7, np.int64),
        "empty": np.zeros((2, 0, 3), np.float32),
        "中文/名": np.arange(3, dtype=np.float32),
        "a": np.ones(1, np.float32),
        "aa" * 200: np.ones(2, np.float32),
        "aa" * 200 + "b": np.ones(3, np.float32),
    }


def save_with_tensorflow(prefix: Path, arrays: dict[str, np.ndarray]) -> None:
    names = list(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(arrays[name]) for name in names],
    )


def assert_same(read, names, arrays):
    assert sorted(names) == sorted(arrays)
    for name, value in arrays.items():
        found = read(name)
        assert found.dtype == value.dtype, name
        assert found.shape == value.shape, name
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_tensorflow_reads_what_we_write(tmp_path, shards):
    arrays = arrays_of_every_kind()
    write_tf_checkpoint(tmp_path / "m.ckpt", arrays, shards=shards)
    reader = tf.train.load_checkpoint(str(tmp_path / "m.ckpt"))
    # TensorFlow gives names as bytes or text by version; the shape map has them as text.
    assert_same(reader.get_tensor, reader.get_variable_to_shape_map(), arrays)


def test_tensorflow_reads_our_strings(tmp_path):
    words = np.array([[b"", b"\0a"], [b"x" * 300, "中".encode()]], object)
    write_tf_checkpoint(tmp_path / "m", {"words": words})
    found = tf.train.load_checkpoint(str(tmp_path / "m")).get_tensor("words")
    assert found.tolist() == words.tolist()


def test_we_read_what_tensorflow_writes_and_write_it_to_the_byte(tmp_path):
    arrays = arrays_of_every_kind()
    in_order = {name: arrays[name] for name in sorted(arrays, key=str.encode)}
    save_with_tensorflow(tmp_path / "theirs", in_order)
    with open_checkpoint(tmp_path / "theirs") as checkpoint:
        assert_same(checkpoint.read, checkpoint.names(), arrays)
        checkpoint.verify()
        write_tf_checkpoint(tmp_path / "ours", checkpoint)
    for suffix in (".data-00000-of-00001", ".index"):
        ours = (tmp_path / f"ours{suffix}").read_bytes()
        assert ours == (tmp_path / f"theirs{suffix}").read_bytes()


def test_any_order_of_tensorflow_is_copied_to_the_byte(tmp_path):
    arrays = arrays_of_every_kind()
    backwards = {name: arrays[name] for name in sorted(arrays, key=str.encode, reverse=True)}
    del backwards["empty"]  # a value without bytes lies nowhere in particular
    save_with_tensorflow(tmp_path / "theirs", backwards)
    with open_checkpoint(tmp_path / "theirs") as checkpoint:
        write_tf_checkpoint(tmp_path / "ours", checkpoint, order=checkpoint.layout())
    for suffix in (".data-00000-of-00001", ".index"):
        ours = (tmp_path / f"ours{suffix}").read_bytes()
        assert ours == (tmp_path / f"theirs{suffix}").read_bytes()


def test_several_blocks_of_names_agree_both_ways(tmp_path):
    rng = np.random.default_rng(3)
    letters = "abcdefgh/_"
    arrays = {
        "".join(letters[i] for i in rng.integers(0, 10, rng.integers(1, 90))): np.int32(n)
        for n in range(12_000)
    }
    arrays = {name: arrays[name] for name in sorted(arrays)}
    save_with_tensorflow(tmp_path / "theirs", arrays)
    write_tf_checkpoint(tmp_path / "ours", arrays)
    theirs = (tmp_path / "theirs.index").read_bytes()
    assert len(theirs) > 2 * 262144
    assert (tmp_path / "ours.index").read_bytes() == theirs
    with open_checkpoint(tmp_path / "theirs") as checkpoint:
        assert checkpoint.names() == list(arrays)
        assert all(checkpoint.read(name) == value for name, value in arrays.items())


def test_shards_that_tensorflow_merged_are_read(tmp_path):
    arrays = arrays_of_every_kind()
    names = list(arrays)
    parts = []
    for shard in range(3):
        part = tf.raw_ops.ShardedFilename(basename=str(tmp_path / "p"), shard=shard, num_shards=3)
        parts.append(part)
        save_with_tensorflow(
            Path(part.numpy().decode()), {name: arrays[name] for name in names[shard::3]}
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts,
        destination_prefix=str(tmp_path / "m"),
        delete_old_dirs=False,
    )
    assert len(list(tmp_path.glob("m.data-*-of-00003"))) == 3
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert_same(checkpoint.read, checkpoint.names(), arrays)
        checkpoint.verify()


@pytest.mark.parametrize(("rows", "parts"), [(10, 3), (70, 2), (9000, 4)])
def test_partitioned_variables_are_put_together(tmp_path, rows, parts):
    """The keys of slices hold their starts in a code whose length grows at 64 and at 8192."""
    table = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    edges = np.linspace(0, rows, parts + 1).astype(int)
    pieces = [(a, b - a) for a, b in itertools.pairwise(edges.tolist())]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "m"),
        tensor_names=["table"] * parts + ["other"],
        shape_and_slices=[f"{rows} 2 {a},{n}:-" for a, n in pieces] + [""],
        tensors=[table[a : a + n] for a, n in pieces] + [tf.constant(1.0)],
    )
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert checkpoint.names() == ["other", "table"]
        assert checkpoint.shape("table") == (rows, 2)
        np.testing.assert_array_equal(checkpoint.read("table"), table)
        checkpoint.verify()
    path = tmp_path / "m.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[table.nbytes // 2] ^= 1
    path.write_bytes(data)
    with open_checkpoint(tmp_path / "m") as damaged, pytest.raises(CheckpointError, match="table"):
        damaged.verify()


def test_object_based_checkpoints_are_read_with_their_graph(tmp_path):
    module = tf.train.Checkpoint(step=tf.Variable(5, dtype=tf.int64), w=tf.Variable([1.0, 2.0]))
    prefix = module.write(str(tmp_path / "m"))
    with open_checkpoint(prefix) as checkpoint:
        checkpoint.verify()
        assert checkpoint.names() == [
            "_CHECKPOINTABLE_OBJECT_GRAPH",
            "step/.ATTRIBUTES/VARIABLE_VALUE",
            "w/.ATTRIBUTES/VARIABLE_VALUE",
        ]
        np.testing.assert_array_equal(checkpoint.read("w/.ATTRIBUTES/VARIABLE_VALUE"), [1, 2])
        graph = checkpoint.read("_CHECKPOINTABLE_OBJECT_GRAPH")
        reader = tf.train.load_checkpoint(prefix)
        assert graph.tolist() == reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
        write_tf_checkpoint(tmp_path / "copy", checkpoint, order=checkpoint.layout())
    suffix = ".data-00000-of-00001"
    assert (tmp_path / f"copy{suffix}").read_bytes() == (tmp_path / f"m{suffix}").read_bytes()


def test_single_file_checkpoints_of_the_first_format_are_refused(tmp_path):
    tf.raw_ops.Save(filename=str(tmp_path / "old.ckpt"), tensor_names=["a"], data=[tf.zeros(3)])
    with pytest.raises(CheckpointError, match=r"old\.ckpt is a single-file checkpoint .*V1"):
        open_checkpoint(tmp_path / "old.ckpt")


def test_genuine_checkpoints_agree_with_tensorflow(data_dir):
    for name in ("toy_bert_tf_cyberzhg/bert_model.ckpt", "toy_gpt2_tf_cyberzhg/model.ckpt"):
        prefix = str(data_dir / "ckpt" / name)
        reader = tf.train.load_checkpoint(prefix)
        with open_checkpoint(prefix) as checkpoint:
            shapes = {name: list(checkpoint.shape(name)) for name in checkpoint.names()}
            assert shapes == reader.get_variable_to_shape_map()
            for name in checkpoint.names():
                np.testing.assert_array_equal(checkpoint.read(name), reader.get_tensor(name))
