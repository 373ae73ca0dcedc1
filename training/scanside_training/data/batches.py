"""Batches whose samples have one shape, of measured scans that have many: matrix, columns and coils are their own.

For training every batch draws a shape, as often as its slices would be drawn one by one, and its samples among the
slices of that shape: each slice comes as often as with batches of one, whatever the weights of sources and the number
of processes. Samples for validation and test are always the same, and are put together by shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from torch.utils.data import Sampler

__all__ = ["ByShape", "ShapeBuckets"]

K = TypeVar("K")


class ShapeBuckets:
    """The slices of several sources by the shapes of their samples.

    Args:
        shapes: of the samples of every slice of every source.
        weights: how often slices of a source are drawn, relative to the other sources.
    """

    def __init__(self, shapes: Sequence[Sequence[Hashable]], weights: Sequence[float]) -> None:
        members: dict[Hashable, list[tuple[int, int]]] = {}
        for source, of_source in enumerate(shapes):
            for number, shape in enumerate(of_source):
                members.setdefault(shape, []).append((source, number))
        share = [weight / len(of_source) for weight, of_source in zip(weights, shapes, strict=True)]
        self._members = list(members.values())
        self._upto = [np.cumsum([share[source] for source, _ in bucket]) for bucket in self._members]
        self._buckets_upto = np.cumsum([upto[-1] for upto in self._upto])

    def draw(self, of_batch: np.random.Generator, of_sample: np.random.Generator) -> tuple[int, int]:
        """A source, and the number of one of its slices.

        Args:
            of_batch: draws the shape: the same for all samples of a batch.
            of_sample: draws the slice.
        """
        bucket = _drawn(self._buckets_upto, of_batch)
        return self._members[bucket][_drawn(self._upto[bucket], of_sample)]


def _drawn(upto: np.ndarray[tuple[int], np.dtype[np.float64]], rng: np.random.Generator) -> int:
    """One of several things, from the sums of their weights up to each."""
    return min(int(np.searchsorted(upto, rng.random() * upto[-1], side="right")), len(upto) - 1)


class ByShape(Sampler[list[K]]):
    """Batches of the keys of samples, each of one shape, in the order in which they become full.

    Args:
        keys: of all samples.
        batch_size: samples of a batch; the last one of a shape may have fewer.
        shape_of: the shape of a key's sample.
    """

    def __init__(self, keys: Sampler[K], batch_size: int, shape_of: Callable[[K], Hashable]) -> None:
        self._keys, self._batch_size, self._shape_of = keys, batch_size, shape_of

    def __len__(self) -> int:
        counts = Counter(self._shape_of(key) for key in self._keys)
        return sum(-(-n // self._batch_size) for n in counts.values())

    def __iter__(self) -> Iterator[list[K]]:
        waiting: dict[Hashable, list[K]] = {}
        for key in self._keys:
            batch = waiting.setdefault(shape := self._shape_of(key), [])
            batch.append(key)
            if len(batch) == self._batch_size:
                yield waiting.pop(shape)
        yield from waiting.values()
