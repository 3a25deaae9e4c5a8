"""Import this before bert4keras: makes version 0.11.5 live with TensorFlow 2.15.

bert4keras picks tf.keras by an environment variable and installs it as the module "keras". On
TensorFlow 2.15 tf.keras is loaded lazily, so it has to be touched first.
"""

from __future__ import annotations

import os
import warnings

os.environ["TF_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import tensorflow as tf

_ = tf.keras.layers.Layer
warnings.filterwarnings("ignore", "The initializer TruncatedNormal is unseeded", UserWarning)

import bert4keras  # noqa: E402

__all__ = ["bert4keras", "tf"]
