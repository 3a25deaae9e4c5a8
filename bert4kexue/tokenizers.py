"""Tokenizers under bert4keras's module name. Works where Keras is not installed."""

from bert4kexue.text.base import TokenizerBase as TokenizerBase
from bert4kexue.text.segment import word_segmenter as word_segmenter
from bert4kexue.text.vocab import load_vocab as load_vocab
from bert4kexue.text.vocab import save_vocab as save_vocab
from bert4kexue.text.wordpiece import Tokenizer as Tokenizer
from bert4kexue.text.wordpiece import UnknownIdError as UnknownIdError
