"""The endless order in which training samples are drawn, which a resumed run joins where it left off."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch.utils.data import Sampler

from scanside_training.data import SampleKey

__all__ = ["Draws"]


class Draws(Sampler[SampleKey]):
    """Keys of training samples without end.

    Batches are numbered from the beginning of the run; a step takes one of each process (several, where batches
    are accumulated). So batch n is the same on any number of processes, and whether or not the run was
    interrupted before it.

    Args:
        batch_size: samples per batch.
        batches_per_epoch: batches until the next epoch begins.
        rank: number of this process.
        n_ranks: number of processes; each takes every `n_ranks`-th batch.
        first: number of the first batch of all processes.
    """

    def __init__(
        self, batch_size: int, batches_per_epoch: int, *, rank: int = 0, n_ranks: int = 1, first: int = 0
    ) -> None:
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.rank = rank
        self.n_ranks = n_ranks
        self.first = first

    def __iter__(self) -> Iterator[SampleKey]:
        """This process's keys, batch after batch."""
        for number in itertools.count(self.first + self.rank, self.n_ranks):
            epoch, batch = divmod(number, self.batches_per_epoch)
            for index in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                yield SampleKey(epoch, batch, index)
