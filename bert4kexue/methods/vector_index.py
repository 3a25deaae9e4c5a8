"""The nearest of many vectors: compared with all of them, or by the faiss library.

    index = VectorIndex.build(vectors)                     # exact, NumPy alone
    index = VectorIndex.build(vectors, "hnsw")             # needs faiss
    rows, cosines = index.search(queries, k=10)
    index.save("corpus.index"); VectorIndex.load("corpus.index")

Cosines are found by dot products of vectors of length one, which `build` and `add` make. With
`reduce_to` a random projection out of a seed (kexue.fm/archives/8679) makes the vectors shorter
first; `recall` says what that, or an approximate index, loses.

N vectors, d dimensions, q queries.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from bert4kexue._files import atomic_folder
from bert4kexue.analysis.projections import project
from bert4kexue.methods.vector_codes import unit

Kind = Literal["exact", "flat", "ivf", "hnsw"]
_ROWS, _QUERIES = 65536, 256  # compared at once


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """What an index is.

    Attributes:
        kind: 'exact' compares with all by NumPy, 'flat' by faiss; 'ivf' with the vectors of the
            nearest cells; 'hnsw' walks a graph.
        dimensions: of what is given.
        reduce_to: dimensions after the random projection; None without one.
        seed: of the projection.
        cells: of 'ivf'; None takes four times the root of N.
        probes: cells that a query looks into.
        links: of a vector in the graph of 'hnsw'.
        effort: candidates that a query of 'hnsw' keeps.
    """

    kind: Kind
    dimensions: int
    reduce_to: int | None = None
    seed: int = 0
    cells: int | None = None
    probes: int = 8
    links: int = 32
    effort: int = 64

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind={self.kind!r}: choose one of {', '.join(get_args(Kind))}")
        for name in ("dimensions", "reduce_to", "cells", "probes", "links", "effort"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if self.reduce_to is not None and self.reduce_to >= self.dimensions:
            raise ValueError(
                f"reduce_to={self.reduce_to} reduces nothing of {self.dimensions} dimensions"
            )


class VectorIndex:
    """Vectors by row number; made by `build` or `load`.

    Safe to search and to add to from several threads: a search sees what was there when it began.
    """

    def __init__(self, settings: IndexSettings, parts: Any) -> None:
        self.settings = settings
        self._parts = parts  # a tuple of arrays, or an index of faiss
        self._lock = threading.Lock()

    @classmethod
    def build(cls, vectors: np.ndarray, kind: Kind = "exact", **options: Any) -> VectorIndex:
        """Of vectors (N, d), of any length.

        Args:
            vectors: finite, none of them zero.
            kind: see :class:`IndexSettings`, as all options.
            **options: likewise.

        Raises:
            ValueError: no vectors, NaN, a zero vector, too few vectors for the cells.
            ImportError: faiss is not installed, and `kind` is its.
        """
        vectors = _checked(vectors, None)
        settings = IndexSettings(kind, vectors.shape[1], **options)
        rows = _reduced(vectors, settings)
        return cls(settings, (rows,) if kind == "exact" else _faiss_index(rows, settings))

    def __len__(self) -> int:
        if self.settings.kind == "exact":
            return sum(map(len, self._parts))
        return int(self._parts.ntotal)

    def add(self, vectors: np.ndarray) -> None:
        """Put more behind the last row.

        Raises:
            ValueError: another width, NaN, a zero vector; or an index of faiss that was loaded
                mapped.
        """
        rows = _reduced(_checked(vectors, self.settings.dimensions), self.settings)
        with self._lock:
            if self.settings.kind == "exact":
                self._parts = (*self._parts, rows)
            elif getattr(self, "_mapped", False):
                raise ValueError(
                    "this index is mapped from its file, which cannot grow: load it with "
                    "mapped=False to add to it"
                )
            else:
                self._parts.add(rows)

    def search(self, queries: np.ndarray, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of each query.

        Args:
            queries: (q, d), of any length.
            k: how many; all where there are fewer.

        Returns:
            Row numbers (q, k) int64 and cosines (q, k) float32, largest first. An approximate index
            gives -1 and -inf where it found fewer.

        Raises:
            ValueError: k below 1, another width, NaN or a zero vector.
        """
        if k < 1:
            raise ValueError(f"k must be 1 or more, got {k}")
        queries = _reduced(_checked(queries, self.settings.dimensions), self.settings)
        k = min(k, len(self))
        if self.settings.kind == "exact":
            return exact_search(queries, self._parts, k)
        # Faiss's own searches may run side by side; what is added must not change under them.
        with self._lock:
            cosines, rows = self._parts.search(queries, k)
        return rows.astype(np.int64), np.where(rows < 0, -np.inf, cosines).astype(np.float32)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder, whole or not at all."""
        with atomic_folder(folder) as path:
            settings = {**dataclasses.asdict(self.settings), "count": len(self)}
            (path / "index.json").write_text(
                json.dumps(settings, indent=1) + "\n", encoding="utf-8", newline="\n"
            )
            if self.settings.kind == "exact":
                file = np.lib.format.open_memmap(
                    path / "vectors.npy",
                    "w+",
                    np.float32,
                    (len(self), self._parts[0].shape[1]),
                )
                start = 0
                for part in self._parts:
                    file[start : start + len(part)] = part
                    start += len(part)
                file.flush()
                del file
            else:
                _faiss().write_index(self._parts, str(path / "index.faiss"))

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, mapped: bool = True) -> VectorIndex:
        """What `save` wrote.

        Args:
            folder: its folder.
            mapped: leave the vectors on the disk and read what is asked; an exact index can be
                added to all the same.

        Raises:
            ValueError: the folder holds no index, or one whose files do not fit together.
        """
        path = Path(folder)
        try:
            found = json.loads((path / "index.json").read_text(encoding="utf-8"))
            count = found.pop("count")
            settings = IndexSettings(**found)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder} holds no index that can be read ({error})") from None
        if settings.kind == "exact":
            file = path / "vectors.npy"
            rows = np.load(file, mmap_mode="r" if mapped else None)
            if rows.shape != (count, settings.reduce_to or settings.dimensions):
                raise ValueError(
                    f"{file} has the shape {rows.shape} and index.json speaks of {count} vectors: "
                    "build the index again"
                )
            return cls(settings, (rows,))
        faiss = _faiss()
        flags = faiss.IO_FLAG_MMAP if mapped else 0
        index = faiss.read_index(str(path / "index.faiss"), flags)
        _set_effort(index, settings)
        made = cls(settings, index)
        made._mapped = mapped
        return made

    _mapped = False


def exact_search(
    queries: np.ndarray, parts: tuple[np.ndarray, ...], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of the largest dot products, some rows at a time; equal ones by row number.

    Args:
        queries: (q, d).
        parts: arrays (rows, d) that follow each other.
        k: at most all rows.
    """
    found = np.zeros((len(queries), k), np.int64)
    best = np.zeros((len(queries), k), np.float32)
    for start in range(0, len(queries), _QUERIES):
        some = slice(start, start + _QUERIES)
        found[some], best[some] = _best(queries[some], parts, k)
    return found, best


def _best(
    queries: np.ndarray, parts: tuple[np.ndarray, ...], k: int
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.zeros((len(queries), 0), np.int64)
    best = np.zeros((len(queries), 0), np.float32)
    offset = 0
    for part in parts:
        for start in range(0, len(part), _ROWS):
            scores = queries @ np.asarray(part[start : start + _ROWS]).T
            width = scores.shape[1]
            numbers = np.broadcast_to(np.arange(offset, offset + width), scores.shape)
            if rows.shape[1] == k:
                # Most rows cannot be among the k any more.
                lines, columns = np.nonzero(scores > best[:, -1:])
                scores, numbers = _ragged(lines, columns, scores, offset, len(queries))
            both = np.concatenate([best, scores], axis=1)
            names = np.concatenate([rows, numbers], axis=1)
            rows, best = largest(both, names, k)
            offset += width
    return rows, best


def _ragged(
    lines: np.ndarray, columns: np.ndarray, scores: np.ndarray, offset: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The chosen scores of each line, as few columns as the longest line needs."""
    place = np.arange(len(lines)) - np.searchsorted(lines, lines)
    width = int(place.max()) + 1 if len(place) else 0
    values = np.full((count, width), -np.inf, np.float32)
    numbers = np.full((count, width), np.iinfo(np.int64).max)
    values[lines, place] = scores[lines, columns]
    numbers[lines, place] = columns + offset
    return values, numbers


def largest(scores: np.ndarray, names: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Names and scores (q, min(k, columns)) of the largest, equal ones by name.

    Names rise from left to right in each line.
    """
    width = scores.shape[1]
    if width > 4 * k:
        # All that reaches the k-th largest, equal ones too, and then in order.
        least = np.partition(scores, width - k, axis=1)[:, width - k]
        kept = scores >= least[:, None]
        lines, columns = np.nonzero(kept)
        place = np.arange(len(lines)) - np.searchsorted(lines, lines)
        most = int(place.max()) + 1
        fewer = np.full((len(scores), most), -np.inf, scores.dtype)
        named = np.zeros((len(scores), most), names.dtype)
        fewer[lines, place] = scores[lines, columns]
        named[lines, place] = names[lines, columns]
        scores, names = fewer, named
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(names, order, 1), np.take_along_axis(scores, order, 1)


def recall(index: VectorIndex, vectors: np.ndarray, queries: np.ndarray, k: int = 10) -> float:
    """Share of the true k nearest that the index finds.

    Args:
        index: of `vectors`, approximate or reduced.
        vectors: (N, d) that it was built of.
        queries: (q, d).
        k: of both.
    """
    true, _ = exact_search(unit(queries), (unit(vectors),), min(k, len(vectors)))
    found, _ = index.search(queries, k)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(true, found, strict=True)]
    return float(np.mean(shared) / true.shape[1])


def _checked(vectors: np.ndarray, width: int | None) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or not len(vectors) or (width is not None and vectors.shape[1] != width):
        wanted = "(N, d)" if width is None else f"(n, {width})"
        raise ValueError(
            f"vectors must have the shape {wanted} with a row or more, got {vectors.shape}: encode "
            "all with one model"
        )
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
    if len(bad):
        what = "zero" if squares[bad[0]] == 0 else "not finite"
        raise ValueError(f"row {bad[0]} is {what}: it has no direction, so no cosine")
    return unit(vectors)


def _reduced(vectors: np.ndarray, settings: IndexSettings) -> np.ndarray:
    if settings.reduce_to is None:
        return vectors
    return unit(project(vectors, settings.reduce_to, "gaussian", settings.seed))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ImportError(
            "this index needs the faiss library: pip install 'bert4kexue[search]'; kind='exact' "
            "needs NumPy alone"
        ) from None
    return faiss


def _faiss_index(rows: np.ndarray, settings: IndexSettings) -> Any:
    faiss = _faiss()
    d, product = rows.shape[1], faiss.METRIC_INNER_PRODUCT
    if settings.kind == "flat":
        index = faiss.IndexFlatIP(d)
    elif settings.kind == "hnsw":
        index = faiss.IndexHNSWFlat(d, settings.links, product)
    else:
        cells = settings.cells or max(1, min(4 * int(len(rows) ** 0.5), len(rows)))
        if cells > len(rows):
            raise ValueError(
                f"{cells} cells cannot be told by {len(rows)} vectors: take fewer cells, or 'exact'"
            )
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, product)
        index.cp.min_points_per_centroid = 1  # few vectors are no mistake
        index.cp.seed = settings.seed + 1
        index.train(rows)
    _set_effort(index, settings)
    index.add(rows)
    return index


def _set_effort(index: Any, settings: IndexSettings) -> None:
    if settings.kind == "ivf":
        index.nprobe = settings.probes
    elif settings.kind == "hnsw":
        index.hnsw.efSearch = settings.effort
