"""Write the small checkpoint beside this script with TensorFlow's own TF1 Saver.

    python tests/checkpoints/golden/make_tf1_saver.py

Run in the environment of TensorFlow 2.15 (`make oracles`). Every value is a formula of the
variable's name and place (`value_of` in tests/checkpoints/test_tf_golden.py), so the test needs
no second file. It holds what a training run leaves: slots of Adam, global_step, a partitioned
embedding table, and the dtypes that released checkpoints use; three shards.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1

VARIABLES = {
    "bert/embeddings/LayerNorm/beta": ((4,), tf.float32),
    "bert/embeddings/LayerNorm/beta/adam_m": ((4,), tf.float32),
    "bert/embeddings/LayerNorm/gamma": ((4,), tf.float16),
    "bert/encoder/layer_0/output/dense/kernel": ((8, 4), tf.bfloat16),
    "bert/encoder/layer_10/output/dense/kernel": ((3, 5), tf.float64),
    "counts/a": ((2, 1, 3), tf.int32),
    "counts/b": ((3,), tf.int8),
    "counts/c": ((0, 4), tf.uint8),
    "flags": ((5,), tf.bool),
    "global_step": ((), tf.int64),
}


def value_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return small whole numbers that every dtype holds exactly."""
    count = int(np.prod(shape))
    return ((zlib.crc32(name.encode()) + np.arange(count)) % 100).reshape(shape)


def main() -> None:
    """Write the checkpoint."""
    with (
        tf.Graph().as_default(),
        v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session,
    ):
        for index, (name, (shape, dtype)) in enumerate(VARIABLES.items()):
            with tf.device(f"/cpu:{index % 2}"):
                value = tf.cast(tf.constant(value_of(name, shape)), dtype)
                v1.get_variable(name, initializer=value, use_resource=False)
        table = value_of("bert/embeddings/word_embeddings", (10, 4)).astype(np.float32)

        def part_of_table(shape, dtype, partition_info):
            place = zip(partition_info.var_offset, shape, strict=True)
            return tf.constant(table[tuple(slice(start, start + size) for start, size in place)])

        v1.get_variable(
            "bert/embeddings/word_embeddings",
            shape=(10, 4),
            dtype=tf.float32,
            initializer=part_of_table,
            partitioner=v1.fixed_size_partitioner(3),
            use_resource=False,
        )
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(v1.global_variables(), sharded=True, save_relative_paths=True)
        prefix = Path(__file__).parent / "tf1_saver" / "model.ckpt"
        prefix.parent.mkdir(exist_ok=True)
        saver.save(session, str(prefix), write_meta_graph=False)


if __name__ == "__main__":
    main()
