"""Factorised columns that are kept for repetitions, and begun before they are needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from scanside.recon.columns import ColumnSystem, factorise, system_bytes

__all__ = ["ColumnCache", "changes"]

_MOST_BYTES = 2**29


@dataclass(frozen=True, eq=False)
class _Kept:
    """Maps and mask are copies: whatever happens to those that were given, the system is that of these."""

    given: torch.Tensor
    version: int
    maps: torch.Tensor
    mask: torch.Tensor
    weight: float
    system: Future[ColumnSystem]

    def serves(self, maps: torch.Tensor, mask: torch.Tensor, weight: float) -> bool:
        """Whether it is what was asked for; to compare maps takes a thousandth of a factorisation."""
        return (
            weight == self.weight
            and mask.shape == self.mask.shape
            and maps.shape == self.maps.shape
            and maps.dtype == self.maps.dtype
            and maps.device == self.maps.device
            and torch.equal(mask, self.mask)
            and (self._is_given(maps) or torch.equal(_bits(maps), _bits(self.maps)))
        )

    def _is_given(self, maps: torch.Tensor) -> bool:
        """Whether they lie in the memory of those that were given, which nobody has written to since."""
        return (
            maps.data_ptr() == self.given.data_ptr()
            and maps.stride() == self.given.stride()
            and self.version == changes(self.given) == changes(maps)
        )

    @property
    def failed(self) -> bool:
        """Whether it was not to be made."""
        return self.system.done() and self.system.exception() is not None

    @property
    def n_bytes(self) -> int:
        """Memory of system and maps, also while it is being made."""
        *_, n_rows, n_columns = self.maps.shape
        n_systems = self.maps.shape[:-3].numel()
        return n_systems * system_bytes(n_rows, n_columns, self.maps.dtype) + self.maps.nbytes


class ColumnCache:
    """Systems of columns for repetitions with the same maps, mask and weight; for one thread.

    Maps and masks are the same where their values are. What was used longest ago is given up first, when all together
    take more memory than allowed; the latest one is always kept. What is begun is computed by one thread beside, in
    turn.

    Args:
        most_bytes: of all systems and their maps.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: list[_Kept] = []  # the latest one last
        self._beside: ThreadPoolExecutor | None = None

    @property
    def n_bytes(self) -> int:
        """Memory that it holds."""
        return sum(kept.n_bytes for kept in self._kept)

    def begin(self, maps: torch.Tensor, mask: torch.Tensor, weight: float) -> Future[ColumnSystem]:
        """Have a system made beside, unless there is one; arguments as `scanside.recon.columns.factorise`."""
        kept = self._find(maps, mask, weight)
        if kept is None:
            if self._beside is None:  # not before: threads do not survive a fork
                self._beside = ThreadPoolExecutor(1, thread_name_prefix="scanside-columns")
            kept = self._keep(maps, mask, weight, self._beside.submit)
        return kept.system

    def get(self, maps: torch.Tensor, mask: torch.Tensor, weight: float) -> ColumnSystem:
        """The system: kept, begun or made now; arguments and errors as `scanside.recon.columns.factorise`."""
        kept = self._find(maps, mask, weight) or self._keep(maps, mask, weight, _at_once)
        return kept.system.result()

    def find(self, maps: torch.Tensor, mask: torch.Tensor, weight: float) -> Future[ColumnSystem] | None:
        """A system that was made or begun."""
        kept = self._find(maps, mask, weight)
        return None if kept is None else kept.system

    def close(self) -> None:
        """Give all up; what is being made is waited for."""
        if self._beside is not None:
            self._beside.shutdown(cancel_futures=True)
            self._beside = None
        self._kept = []

    def _find(self, maps: torch.Tensor, mask: torch.Tensor, weight: float) -> _Kept | None:
        self._kept = [kept for kept in self._kept if not kept.failed]
        for kept in reversed(self._kept):
            if kept.serves(maps, mask, weight):
                self._kept.remove(kept)
                self._kept.append(kept)
                return kept
        return None

    def _keep(
        self,
        maps: torch.Tensor,
        mask: torch.Tensor,
        weight: float,
        run: Callable[[Callable[[], ColumnSystem]], Future[ColumnSystem]],
    ) -> _Kept:
        given = maps.detach()
        maps, mask = maps.clone(memory_format=torch.contiguous_format), mask.clone()
        system = run(lambda: factorise(maps, mask, weight))
        kept = _Kept(given, changes(given), maps, mask, weight, system)
        self._kept.append(kept)
        while len(self._kept) > 1 and self.n_bytes > self._most_bytes:
            self._kept.pop(0).system.cancel()
        return kept


def changes(values: torch.Tensor) -> int:
    """How often a tensor's memory was written to, by torch: the same as before, it holds the same values."""
    return values._version  # noqa: SLF001 — torch has no other name for it


def _bits(values: torch.Tensor) -> torch.Tensor:
    """Numbers as integers, so that what is no number equals itself."""
    if not values.is_complex():
        return values
    planes = torch.view_as_real(values)
    return planes.view(torch.int64 if planes.dtype == torch.float64 else torch.int32)


def _at_once(make: Callable[[], ColumnSystem]) -> Future[ColumnSystem]:
    done: Future[ColumnSystem] = Future()
    try:
        done.set_result(make())
    except BaseException as error:  # noqa: BLE001 — raised again by whoever asked
        done.set_exception(error)
    return done
