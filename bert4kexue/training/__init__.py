"""What training needs around a model: batches of rows, padded and bucketed."""

from bert4kexue.training.data import (
    DataGenerator as DataGenerator,
)
from bert4kexue.training.data import (
    bucketed_batches as bucketed_batches,
)
from bert4kexue.training.data import (
    endless_batches as endless_batches,
)
from bert4kexue.training.data import (
    sequence_padding as sequence_padding,
)
