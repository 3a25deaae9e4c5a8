"""Choosing output tokens: the prefix tree, constraints, and the NumPy reference decoder."""

from bert4kexue.decoding.automaton import RegexConstraint as RegexConstraint
from bert4kexue.decoding.autoregressive import AutoRegressiveDecoder as AutoRegressiveDecoder
from bert4kexue.decoding.autoregressive import Hypothesis as Hypothesis
from bert4kexue.decoding.composition import Chain as Chain
from bert4kexue.decoding.composition import Intersection as Intersection
from bert4kexue.decoding.constraints import Constraint as Constraint
from bert4kexue.decoding.constraints import TreeConstraint as TreeConstraint
from bert4kexue.decoding.constraints import accepts as accepts
from bert4kexue.decoding.lookahead import LookAhead as LookAhead
from bert4kexue.decoding.overlay import EditedTree as EditedTree
from bert4kexue.decoding.substring import SubstringConstraint as SubstringConstraint
from bert4kexue.decoding.token_constraints import BannedWords as BannedWords
from bert4kexue.decoding.token_constraints import ForcedPrefix as ForcedPrefix
from bert4kexue.decoding.token_constraints import PrefixChoice as PrefixChoice
from bert4kexue.decoding.trie import PrefixTree as PrefixTree
from bert4kexue.decoding.trie import vocabulary_hash as vocabulary_hash
from bert4kexue.decoding.trie_vector import TreeArrays as TreeArrays
