"""Checkpoints of every format as named arrays, and the table that maps them onto a model."""

from .averaging import average_checkpoints as average_checkpoints
from .base import Checkpoint as Checkpoint
from .base import CheckpointError as CheckpointError
from .huggingface import as_original as as_original
from .huggingface import is_huggingface as is_huggingface
from .reader import open_checkpoint as open_checkpoint
from .surgery import select_tokens as select_tokens
from .table import TRAINING_STATE as TRAINING_STATE
from .table import CheckpointMismatch as CheckpointMismatch
from .table import Comparison as Comparison
from .table import Plan as Plan
from .table import Row as Row
from .table import compare as compare
from .table import match as match
from .tf_bundle import write_tf_checkpoint as write_tf_checkpoint
