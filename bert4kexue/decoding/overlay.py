"""A prefix tree with keys added and deleted, without building it anew.

Only the prefixes of edited keys are held, as dictionaries: an edit costs one small node per token
of its key. Such a node knows the base tree's node of the same prefix, and everywhere else the base
tree answers, with its own nodes. Both kinds are plain integers, and a decoder sees no difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.decoding.trie import PrefixTree
from bert4kexue.decoding.trie_build import MAX_TOKEN
from bert4kexue.decoding.trie_rows import gather
from bert4kexue.decoding.trie_walks import ABSENT, TreeWalks
from bert4kexue.decoding.values import encode_texts

EDITED = 2**62
"""The first number of edited nodes, beyond those of any tree."""


class _Node:
    """A prefix of an edited key."""

    __slots__ = ("base", "children", "count", "is_key", "keeps", "values")

    def __init__(self, tree: PrefixTree, base: int) -> None:
        self.base = base
        self.children: dict[int, int] = {}
        self.count = tree.count(base)
        self.is_key = base != ABSENT and tree.is_key(base)
        self.keeps = self.is_key
        """Whether the base tree's values still belong to the key."""
        self.values: list[str] = []


class EditedTree(TreeWalks):
    """A prefix tree that keys can be added to and deleted from.

        >>> edited = EditedTree(PrefixTree.from_keys([[7, 1], [8, 1]]))
        >>> edited.delete([7, 1]), edited.add([9, 1])
        (True, True)
        >>> list(edited.merged())
        [(8, 1), (9, 1)]

    Nodes taken before an edit of a key below them do not see it: decode between edits. `depth` is
    the length of the longest key ever in the tree.
    """

    root = EDITED

    def __init__(self, tree: PrefixTree) -> None:
        self.base, self.depth, self.vocabulary = tree, tree.depth, tree.vocabulary
        self._nodes = [_Node(tree, tree.root)]

    def __len__(self) -> int:
        """The number of different keys."""
        return self._nodes[0].count

    def add(self, key: Sequence[int], value: str | None = None) -> bool:
        """Add a key, or a further value to a key; whether the key is new.

        Raises:
            ValueError: an id out of range.
        """
        for token in key:
            if not 0 <= token <= MAX_TOKEN:
                raise ValueError(
                    f"token ids of a key must be 0 to {MAX_TOKEN}, got {token}: pass ids of a "
                    "tokenizer"
                )
        path = self._touch(key)
        node = path[-1]
        new = not node.is_key
        if new:
            node.is_key = True
            self.depth = max(self.depth, len(key))
            for each in path:
                each.count += 1
        if value is not None:
            node.values.append(value)
        return new

    def delete(self, key: Sequence[int]) -> bool:
        """Delete a key with its values; whether there was one."""
        if not self.contains(key):
            return False
        path = self._touch(key)
        node = path[-1]
        node.is_key, node.keeps, node.values = False, False, []
        for each in path:
            each.count -= 1
        return True

    def allowed(self, node: int) -> np.ndarray:
        """The tokens that may follow at `node`, ascending, (children,) int32."""
        if node < EDITED:
            return self.base.allowed(node)
        here = self._nodes[node - EDITED]
        tokens = self.base.allowed(here.base) if here.base != ABSENT else np.zeros(0, np.int32)
        live = [token for token, child in here.children.items() if self._nodes[child].count]
        untouched = tokens[~np.isin(tokens, list(here.children))] if here.children else tokens
        return np.sort(np.concatenate([untouched, np.array(live, np.int32)]))

    def step(self, node: int, token: int) -> int:
        """The node reached from `node` by `token`, or -1 where there is none."""
        if node < EDITED:
            return self.base.step(node, token)
        here = self._nodes[node - EDITED]
        child = here.children.get(token)
        if child is not None:
            return child + EDITED if self._nodes[child].count else ABSENT
        return self.base.step(here.base, token) if here.base != ABSENT else ABSENT

    def is_key(self, node: int) -> bool:
        """Whether a key ends at `node`."""
        return self.base.is_key(node) if node < EDITED else self._nodes[node - EDITED].is_key

    def count(self, node: int = root) -> int:
        """The exact number of keys at and below `node`."""
        return self.base.count(node) if node < EDITED else self._nodes[node - EDITED].count

    def values(self, node: int) -> list[str]:
        """The strings of the key that ends at `node`, the base tree's first."""
        if node < EDITED:
            return self.base.values(node)
        here = self._nodes[node - EDITED]
        return (self.base.values(here.base) if here.keeps else []) + here.values

    def merged(self) -> PrefixTree:
        """A new compact tree of the same keys and values; neither this nor the base changes."""
        tree = self.base
        added: list[tuple[int, ...]] = []
        owners: list[int] = []
        dropped: list[int] = []
        texts: list[str] = []
        pending: list[tuple[int, tuple[int, ...]]] = [(0, ())]
        while pending:
            place, path = pending.pop()
            node = self._nodes[place]
            number = tree.number(node.base) if node.base != ABSENT else ABSENT
            if number != ABSENT and (not node.keeps or node.values):
                dropped.append(number)
            if node.is_key and (not node.keeps or node.values):
                texts += self.values(place + EDITED)
                owners += [len(added)] * (len(texts) - len(owners))
                added.append(path)
            pending += [(child, (*path, token)) for token, child in node.children.items()]
        blocks = [_without(block, dropped) for block in tree.key_blocks()]
        flat = [np.fromiter((t for key in added for t in key), np.int32)]
        lengths = np.concatenate([list(map(len, added)), *(block[1] for block in blocks)])
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens = np.concatenate(flat + [block[0] for block in blocks])
        numbers = np.concatenate([block[2] for block in blocks] or [np.zeros(0, np.int64)])
        text, bounds = encode_texts(texts)
        owner = np.array(owners, np.int64)
        kept = tree.value_columns(numbers)
        if kept is not None:
            counts, old_text, sizes = kept
            owner = np.concatenate([owner, np.repeat(np.arange(len(numbers)) + len(added), counts)])
            text = np.concatenate([text, old_text])
            bounds = np.concatenate([bounds, bounds[-1] + np.cumsum(sizes)])
        has_values = len(owner) or kept is not None
        return PrefixTree.from_arrays(
            tokens,
            starts,
            (text, bounds) if has_values else None,
            owners=owner,
            vocabulary=self.vocabulary,
        )

    def _touch(self, key: Sequence[int]) -> list[_Node]:
        """The nodes of all prefixes of `key`, made where they are not there."""
        place, path = 0, [self._nodes[0]]
        for token in map(int, key):
            node = path[-1]
            if token not in node.children:
                base = self.base.step(node.base, token) if node.base != ABSENT else ABSENT
                node.children[token] = len(self._nodes)
                self._nodes.append(_Node(self.base, base))
            place = node.children[token]
            path.append(self._nodes[place])
        return path


def _without(
    block: tuple[np.ndarray, np.ndarray, np.ndarray], dropped: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens, lengths, numbers = block
    kept = ~np.isin(numbers, dropped)
    begins = (np.cumsum(lengths) - lengths)[kept]
    return gather(tokens, begins, lengths[kept]), lengths[kept], numbers[kept]
