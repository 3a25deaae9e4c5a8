"""Reading and writing TensorFlow checkpoints without TensorFlow: laws, damage, genuine files."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert4kexue.checkpoints import CheckpointError, open_checkpoint, write_tf_checkpoint
from bert4kexue.checkpoints.crc32c import crc32c_extend
from bert4kexue.checkpoints.sstable import _between, read_table, write_table
from bert4kexue.checkpoints.tf_index import Entry, entry_bytes, parse_entry, slice_key
from bert4kexue.checkpoints.wire import WireError, bytes_field, varint_field

GOLDEN = Path(__file__).parent / "golden" / "tf1_saver"

DTYPES = [
    np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.int16, np.int32, np.int64,
    np.uint8, np.uint16, np.uint32, np.uint64, np.bool_, np.complex64, np.complex128,
]  # fmt: skip


def value_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The formula by which golden/make_tf1_saver.py filled its variables."""
    count = int(np.prod(shape))
    return ((zlib.crc32(name.encode()) + np.arange(count)) % 100).reshape(shape)


def sample() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        f"bert/layer_{i}/kernel": (rng.normal(size=(3, i)) * 9).astype(kind)
        for i, kind in enumerate(DTYPES)
    }
    return {**arrays, "scalar": np.array(7, np.int64), "empty": np.zeros((2, 0, 3), np.float32)}


def assert_same(checkpoint, arrays):
    assert checkpoint.names() == sorted(arrays, key=lambda name: name.encode())
    for name, value in arrays.items():
        assert checkpoint.shape(name) == value.shape
        assert checkpoint.dtype(name) == value.dtype
        found = checkpoint.read(name)
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)


def files_of(prefix: Path) -> dict[str, bytes]:
    names = prefix.parent.glob(prefix.name + ".*")
    return {path.name[len(prefix.name) :]: path.read_bytes() for path in names}


@pytest.mark.parametrize("shards", [1, 3])
def test_what_was_written_is_read(tmp_path, shards):
    arrays = sample()
    write_tf_checkpoint(tmp_path / "new" / "m.ckpt", arrays, shards=shards)
    with open_checkpoint(tmp_path / "new" / "m.ckpt") as checkpoint:
        assert_same(checkpoint, arrays)
        checkpoint.verify()
    expected = [f"m.ckpt.data-{i:05d}-of-{shards:05d}" for i in range(shards)] + ["m.ckpt.index"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == expected


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12).filter(lambda name: "\0" not in name),
        st.lists(st.integers(-100, 100), max_size=5),
        max_size=40,
    ),
    st.integers(1, 4),
)
def test_any_names_come_back(tmp_path, values, shards):
    try:
        [name.encode("utf-8") for name in values]
    except UnicodeEncodeError:
        return
    arrays = {name: np.array(value, np.int16) for name, value in values.items()}
    write_tf_checkpoint(tmp_path / "m", arrays, shards=shards)
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert_same(checkpoint, arrays)
        checkpoint.verify()


def test_strings_come_back(tmp_path):
    words = np.array([[b"", b"\0a"], [b"x" * 300, "中".encode()]], object)
    write_tf_checkpoint(tmp_path / "m", {"words": words, "one": np.array(b"abc", object)})
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert checkpoint.read("words").tolist() == words.tolist()
        assert checkpoint.read("one").tolist() == b"abc"
        checkpoint.verify()


def test_more_names_than_one_block_holds(tmp_path):
    arrays = {f"a/rather/long/prefix/{i * 7919:09d}/{'x' * 60}": np.int32(i) for i in range(6000)}
    write_tf_checkpoint(tmp_path / "m", arrays)
    index = (tmp_path / "m.index").read_bytes()
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert checkpoint.names() == sorted(arrays)
        assert all(checkpoint.read(name) == value for name, value in arrays.items())
    long_names = {f"{i:05d}" + "y" * 500: np.int32(i) for i in range(2000)}
    long_names = {name[::-1]: value for name, value in long_names.items()}
    write_tf_checkpoint(tmp_path / "m", long_names)
    assert len(index) > 0
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert checkpoint.names() == sorted(long_names)


@pytest.mark.parametrize("size", [0, 1, 16, 17, 9000])
def test_a_table_gives_back_its_entries(size):
    entries = [
        (f"{i:06d}".encode() * (i % 5 + 1), bytes([i % 256]) * (i % 90)) for i in range(size)
    ]
    extend = crc32c_extend()
    data = write_table(entries, extend)
    assert list(read_table(data, extend)) == entries
    if size == 9000:
        assert len(data) > 262144


def test_tf1_savers_checkpoint_is_read():
    expected = {
        "bert/embeddings/LayerNorm/beta": ((4,), np.float32),
        "bert/embeddings/LayerNorm/beta/adam_m": ((4,), np.float32),
        "bert/embeddings/LayerNorm/gamma": ((4,), np.float16),
        "bert/embeddings/word_embeddings": ((10, 4), np.float32),  # partitioned in three
        "bert/encoder/layer_0/output/dense/kernel": ((8, 4), ml_dtypes.bfloat16),
        "bert/encoder/layer_10/output/dense/kernel": ((3, 5), np.float64),
        "counts/a": ((2, 1, 3), np.int32),
        "counts/b": ((3,), np.int8),
        "counts/c": ((0, 4), np.uint8),
        "flags": ((5,), np.bool_),
        "global_step": ((), np.int64),
    }
    with open_checkpoint(GOLDEN) as checkpoint:
        assert_same(checkpoint, {n: value_of(n, s).astype(t) for n, (s, t) in expected.items()})
        checkpoint.verify()
        assert Path(checkpoint.prefix) == GOLDEN / "model.ckpt"


def test_reading_then_writing_gives_the_same_files(tmp_path, data_dir):
    for folder, name in [
        ("toy_bert_tf_cyberzhg", "bert_model.ckpt"),
        ("toy_gpt2_tf_cyberzhg", "model.ckpt"),
    ]:
        source = data_dir / "ckpt" / folder / name
        with open_checkpoint(source) as checkpoint:
            write_tf_checkpoint(tmp_path / name, checkpoint)
        ours, theirs = files_of(tmp_path / name), files_of(source)
        data = ".data-00000-of-00001"
        assert ours[data] == theirs[data]
        if folder == "toy_bert_tf_cyberzhg":
            assert ours[".index"] == theirs[".index"]


def test_genuine_bert_has_its_139_variables(data_dir):
    with open_checkpoint(data_dir / "ckpt" / "toy_bert_tf_cyberzhg") as checkpoint:
        checkpoint.verify()
        names = checkpoint.names()
        assert len(names) == 139
        assert checkpoint.shape("bert/embeddings/word_embeddings")[0] == 15
        assert checkpoint.dtype("global_step") == np.int64
        assert sum(name.endswith(("adam_m", "adam_v")) for name in names) == 92
        assert all(np.isfinite(checkpoint.read(name)).all() for name in names)


def test_genuine_gpt2_is_found_by_its_folder(data_dir):
    with open_checkpoint(data_dir / "ckpt" / "toy_gpt2_tf_cyberzhg") as checkpoint:
        checkpoint.verify()
        assert len(checkpoint.names()) == 40
        assert "model/h0/attn/c_attn/w" in checkpoint.names()


def test_nine_genuine_indexes_say_what_is_known_of_them(data_dir, tmp_path):
    folder = data_dir / "ckpt" / "index_only"
    known = json.loads((folder / "shapes.json").read_text(encoding="utf-8"))
    assert len(known) == 9
    for name, variables in known.items():
        (index,) = (folder / name).glob("*.index")
        prefix = tmp_path / name / index.stem
        prefix.parent.mkdir()
        shutil.copyfile(index, tmp_path / name / index.name)
        with pytest.raises(CheckpointError, match=r"data-00000-of-00001, which is missing"):
            open_checkpoint(prefix)
        # A hole of the right length stands for the values.
        with open(f"{prefix}.data-00000-of-00001", "wb") as file:
            file.truncate(1 << 32)
        with open_checkpoint(prefix) as checkpoint:
            found = [
                [n, list(checkpoint.shape(n)), str(checkpoint.dtype(n))] for n in checkpoint.names()
            ]
        assert found == variables


# -- damage


@pytest.fixture
def written(tmp_path) -> Path:
    prefix = tmp_path / "m.ckpt"
    write_tf_checkpoint(prefix, sample(), shards=2)
    return prefix


def test_a_missing_shard_is_named(written):
    Path(f"{written}.data-00001-of-00002").unlink()
    with pytest.raises(CheckpointError, match=r"m\.ckpt\.data-00001-of-00002, which is missing"):
        open_checkpoint(written)


def test_a_shard_that_is_cut_off_is_refused_at_open(written):
    path = Path(f"{written}.data-00000-of-00002")
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(
        CheckpointError, match=f"has {len(data) - 1} bytes, its index needs {len(data)}"
    ):
        open_checkpoint(written)


def test_a_flipped_byte_is_found_by_verify_and_named(written):
    path = Path(f"{written}.data-00000-of-00002")
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with open_checkpoint(written) as checkpoint:
        first = next(name for name in checkpoint.layout() if sample()[name].size)
        with pytest.raises(CheckpointError, match=f"1 of 17 variables are wrong \\({first}\\)"):
            checkpoint.verify()
        checkpoint.verify(name for name in checkpoint.names() if name != first)


def test_damaged_strings_are_found(tmp_path):
    write_tf_checkpoint(tmp_path / "m", {"s": np.array([b"ab", b"c"], object)})
    path = tmp_path / "m.data-00000-of-00001"
    data = path.read_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with (
            open_checkpoint(tmp_path / "m") as checkpoint,
            pytest.raises(CheckpointError, match="damaged"),
        ):
            checkpoint.verify()


def test_an_absent_name_is_answered_with_the_nearest(written):
    with open_checkpoint(written) as checkpoint:
        with pytest.raises(CheckpointError, match=r"nearest names are bert/layer_14/kernel"):
            checkpoint.read("bert/layer_15/kernel")
        with pytest.raises(CheckpointError, match="has no variable 'x'"):
            checkpoint.verify(["x"])


def test_views_outlive_the_checkpoint_but_reading_does_not(written):
    with open_checkpoint(written) as checkpoint:
        view = checkpoint.read("bert/layer_5/kernel")
        assert not view.flags.writeable
    np.testing.assert_array_equal(view, sample()["bert/layer_5/kernel"])
    with pytest.raises(ValueError, match="was closed"):
        checkpoint.read("bert/layer_5/kernel")


def test_wrong_tensors_leave_the_old_checkpoint_as_it_was(written):
    before = files_of(written)
    with pytest.raises(CheckpointError, match="'bad' has dtype datetime64"):
        write_tf_checkpoint(written, {"a": np.zeros(3), "bad": np.zeros(2, "M8[s]")}, shards=2)
    with pytest.raises(CheckpointError, match="name is a string"):
        write_tf_checkpoint(written, {"": np.zeros(3)})
    with pytest.raises(CheckpointError, match="shards"):
        write_tf_checkpoint(written, {}, shards=0)
    assert files_of(written) == before
    assert not list(written.parent.glob("*.tmp")) + list(written.parent.glob(".*"))


def test_only_one_tensor_is_asked_for_at_a_time(tmp_path):
    class OnDemand(dict):
        def __getitem__(self, name):
            asked.append(name)
            return np.full(3, len(asked), np.float32)

    asked: list[str] = []
    write_tf_checkpoint(tmp_path / "m", OnDemand.fromkeys("bca"))
    assert asked == ["a", "b", "c"]


def test_state_file_is_written_when_asked_and_names_the_latest(tmp_path):
    write_tf_checkpoint(tmp_path / "a.ckpt", {"x": np.zeros(1)})
    assert not (tmp_path / "checkpoint").exists()
    write_tf_checkpoint(tmp_path / "b.ckpt", {"y": np.zeros(1)}, state_file=True)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.names() == ["y"]


def test_layout_makes_a_copy_of_any_order(tmp_path):
    arrays = sample()
    order = sorted(arrays, key=lambda name: name[::-1])
    write_tf_checkpoint(tmp_path / "a", arrays, order=order)
    with open_checkpoint(tmp_path / "a") as checkpoint:
        assert [n for n in checkpoint.layout() if arrays[n].size] == [
            n for n in order if arrays[n].size
        ]
        write_tf_checkpoint(tmp_path / "b", checkpoint, order=checkpoint.layout())
    assert (tmp_path / "a.data-00000-of-00001").read_bytes() == (
        tmp_path / "b.data-00000-of-00001"
    ).read_bytes()
    with pytest.raises(CheckpointError, match="order must hold every name once"):
        write_tf_checkpoint(tmp_path / "c", arrays, order=order[1:])


def test_big_endian_values_are_turned(tmp_path):
    arrays = {
        "a": np.arange(5, dtype=np.float32),
        "c": np.array([1 + 2j], np.complex64),
        "h": np.array([1.5, -2], ml_dtypes.bfloat16),
        "u": np.array([1, 2], np.uint8),
    }
    write_tf_checkpoint(tmp_path / "m", arrays)
    extend = crc32c_extend()
    entries = dict(read_table((tmp_path / "m.index").read_bytes(), extend))
    entries[b""] = b"\x08\x01\x10\x01\x1a\x02\x08\x01"  # one shard, endianness BIG, version 1
    (tmp_path / "m.index").write_bytes(write_table(sorted(entries.items()), extend))
    big = b"".join(
        arrays[name]
        .view("u4" if name in "ac" else "u2" if name == "h" else "u1")
        .byteswap()
        .tobytes()
        for name in sorted(arrays)
    )
    (tmp_path / "m.data-00000-of-00001").write_bytes(big)
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert_same(checkpoint, arrays)


# -- hostile bytes: refused as a CheckpointError, or right; never anything else


def outcome(prefix: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        with open_checkpoint(prefix) as checkpoint:
            checkpoint.verify()
            for name in checkpoint.names():
                checkpoint.read(name)
            assert_same(checkpoint, arrays)
    except CheckpointError:
        pass


SMALL = {
    "bert/a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bert/b": np.arange(4, dtype=np.int8),
    "s": np.array([b"one", b"two"], object),
}


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_flipped_and_cut_bytes_are_refused_or_harmless(tmp_path, data):
    prefix = tmp_path / "m"
    write_tf_checkpoint(prefix, SMALL)
    path = data.draw(
        st.sampled_from([Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")])
    )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    outcome(prefix, SMALL)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_hostile_entries_with_right_checksums_never_escape(tmp_path, data):
    """The checksums keep chance away, not malice: here they are made right again."""
    extend = crc32c_extend()
    source = open_checkpoint(GOLDEN)
    source.close()
    entries = list(read_table((GOLDEN / "model.ckpt.index").read_bytes(), extend))
    for path in GOLDEN.glob("model.ckpt.data-*"):
        shutil.copyfile(path, tmp_path / path.name)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(entries) - 1))
        key, value = entries[place]
        mutated = bytearray(value)
        if mutated and data.draw(st.booleans()):
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
        else:
            at = data.draw(st.integers(0, len(mutated)))
            mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=12))
        entries[place] = key, bytes(mutated)
    (tmp_path / "model.ckpt.index").write_bytes(write_table(entries, extend))
    try:
        with open_checkpoint(tmp_path / "model.ckpt") as checkpoint:
            for name in checkpoint.names():
                assert checkpoint.read(name).nbytes < 10_000
            checkpoint.verify()
    except CheckpointError:
        pass


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=120), st.sampled_from([0, 1, 2]))
def test_hostile_blocks_with_right_checksums_never_escape(tmp_path, block, compression):
    from bert4kexue.checkpoints.crc32c import mask
    from bert4kexue.checkpoints.sstable import MAGIC
    from bert4kexue.checkpoints.wire import write_varint

    extend = crc32c_extend()
    content = block + bytes([compression])
    check = mask(extend(0, np.frombuffer(content, np.uint8))).to_bytes(4, "little")
    handle = write_varint(0) + write_varint(len(block))
    path = tmp_path / "m.index"
    path.write_bytes(content + check + (handle * 2).ljust(40, b"\0") + MAGIC)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "m")


def test_a_block_whose_checksum_is_wrong_is_refused(written):
    path = Path(f"{written}.index")
    data = bytearray(path.read_bytes())
    data[data.index(b"scalar")] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum of a block"):
        open_checkpoint(written)


def test_keys_out_of_order_are_refused():
    extend = crc32c_extend()
    for keys in ([b"b", b"a"], [b"a", b"a"]):
        data = write_table([(key, b"") for key in keys], extend)
        with pytest.raises(WireError, match="not in order"):
            list(read_table(data, extend))


def slices_of_golden(tmp_path, starts: list[int]) -> Path:
    """The checkpoint of TF1's Saver with its three slices of ten rows put at other starts."""
    extend = crc32c_extend()
    entries = dict(read_table((GOLDEN / "model.ckpt.index").read_bytes(), extend))
    name = b"bert/embeddings/word_embeddings"
    whole = parse_entry(entries[name])
    parts = {extents: entries.pop(slice_key(name, extents)) for extents in whole.slices}
    lists = b""
    for (old, part), start in zip(parts.items(), starts, strict=True):
        rows = parse_entry(part).shape[0]
        extents = ((start, rows), (0, -1))
        assert old[1] in ((0, -1), (0, 4))
        entries[slice_key(name, extents)] = part
        row = varint_field(1, start) + varint_field(2, rows)
        lists += bytes_field(7, bytes_field(1, row) + bytes_field(1, b""))
    entries[name] = entry_bytes(Entry(whole.code, whole.shape))[:-5] + lists
    for path in GOLDEN.glob("model.ckpt.data-*"):
        shutil.copyfile(path, tmp_path / path.name)
    (tmp_path / "model.ckpt.index").write_bytes(write_table(sorted(entries.items()), extend))
    return tmp_path / "model.ckpt"


def test_slices_that_overlap_or_leave_the_table_are_refused(tmp_path):
    with open_checkpoint(slices_of_golden(tmp_path, [0, 4, 7])) as checkpoint:
        name = "bert/embeddings/word_embeddings"
        np.testing.assert_array_equal(checkpoint.read(name), value_of(name, (10, 4)))
    overlapping = open_checkpoint(slices_of_golden(tmp_path, [0, 3, 7]))
    with overlapping, pytest.raises(CheckpointError, match="overlap and leave holes"):
        overlapping.read(name)
    with pytest.raises(CheckpointError, match="does not fit it"):
        open_checkpoint(slices_of_golden(tmp_path, [0, 4, 8]))


def test_slices_that_are_too_few_are_refused(tmp_path):
    extend = crc32c_extend()
    prefix = slices_of_golden(tmp_path, [0, 4, 7])
    entries = dict(read_table((tmp_path / "model.ckpt.index").read_bytes(), extend))
    name = b"bert/embeddings/word_embeddings"
    fewer = entries[name][: entries[name].rindex(b"\x3a")]
    entries[name] = fewer
    (tmp_path / "model.ckpt.index").write_bytes(write_table(sorted(entries.items()), extend))
    with pytest.raises(CheckpointError, match="do not make it up"):
        open_checkpoint(prefix)


@pytest.mark.parametrize(
    ("low", "high", "between"),
    [
        (b"abc", b"abz", b"abd"),
        (b"abc", b"abd", b"abc"),  # 'abd' itself would not be below the next key
        (b"ab", b"abc", b"ab"),
        (b"a\xff", b"b", b"a\xff"),
        (b"", b"a", b""),
    ],
)
def test_short_keys_of_the_index_separate_two_blocks(low, high, between):
    assert _between(low, high) == between
