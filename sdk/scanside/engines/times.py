"""Times of the engines of one network in one shape, taken against each other where they run, and kept beside them.

A time decides which engine is used. So it is no part of an engine's acceptance, which happens once, whatever the
machine is busy with: it is taken again when an engine comes or goes, when the number of threads is another one, and
when the machine was busy while it was taken.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone

import torch

from scanside.engines.backends import backend
from scanside.engines.backends.base import Runner
from scanside.engines.build import BundleSource
from scanside.engines.cache import CacheEntry, EngineCache, scratch_cache
from scanside.engines.check import read_check
from scanside.engines.choice import Candidate
from scanside.engines.gate import short_check
from scanside.engines.manifest import canonical_json, validated
from scanside.engines.taken_times import EngineTime, Times
from scanside.engines.timing import time_in_turn
from scanside.errors import BundleError, CacheUnusable, EngineError

__all__ = ["Runners", "Timekeeper", "kept_times"]

logger = logging.getLogger(__name__)

_KIND = "times"
_PATIENCE_S = 120.0


def kept_times(cache: EngineCache) -> list[Times]:
    """All that are kept in a cache, the newest first.

    Raises:
        CacheUnusable: it cannot be read, or others can write to it.
    """
    found = []
    for name, text in cache.notes(_KIND).items():
        try:
            found.append(validated(Times, text, name))
        except BundleError as error:
            logger.warning("%s", error)
    return sorted(found, key=lambda one: one.created, reverse=True)


class Runners:
    """Engines of a network that are loaded, each once, and checked.

    Args:
        source: the bundle in their shape.
    """

    def __init__(self, source: BundleSource) -> None:
        self.source = source
        self._loaded: dict[str, Runner | Exception] = {}

    def load(self, entry: CacheEntry) -> Runner:
        """An engine, at its first call loaded and checked.

        Raises:
            EngineError: it cannot be loaded, or is no longer what it was.
            OSError: its files cannot be read.
        """
        name = entry.key.digest
        if name not in self._loaded:
            self._loaded[name] = self._tried(entry)
        result = self._loaded[name]
        if isinstance(result, Exception):
            raise result
        return result

    def _tried(self, entry: CacheEntry) -> Runner | Exception:
        key = entry.key
        try:
            runner = backend(key.backend).load(entry.folder, self.source, key.precision)
            short_check(runner, entry.folder, key.precision, self.source.bundle.manifest.limits)
        except (EngineError, OSError) as error:
            return error
        return runner


class Timekeeper:
    """Knows the times of a network's engines, or takes them.

    Args:
        runners: of the network.
        cache: where times are kept, as engines are.
        progress: is told what is being done.
    """

    def __init__(
        self, runners: Runners, cache: EngineCache, progress: Callable[[str], None] = lambda _: None
    ) -> None:
        self._runners = runners
        self._cache = cache
        self._progress = progress

    def times(self, candidates: Sequence[Candidate], *, measure: bool) -> Times | None:
        """Times of those among candidates that were accepted.

        Args:
            candidates: to choose from.
            measure: take them where none are kept, or those that are were taken on a busy machine, which takes
                seconds. If not, what is kept is given.
        """
        entries = [one.entry for one in candidates if one.entry is not None and one.accepted]
        kept = self._kept(entries)
        if not measure or len(entries) < 2 or (kept is not None and not kept.busy):
            return kept
        with self._cache.alone(_KIND, _PATIENCE_S) as alone:
            if (now := self._kept(entries)) != kept:  # another process took them while this one waited
                return now
            if not alone:
                logger.warning("engines are not timed now: other processes have been at it for too long")
                return kept
            taken = self._taken(entries)
        if taken is None:
            return kept
        if kept is None or _worst(taken) <= _worst(kept):
            self._keep(entries, taken)
            return taken
        return kept

    def _taken(self, entries: Sequence[CacheEntry]) -> Times | None:
        source = self._runners.source
        size = "×".join(map(str, source.shape))
        runners: dict[str, Runner] = {}
        for entry in entries:
            self._progress(f"loading {entry.key.backend} {entry.key.precision} at {size}")
            try:
                runners[entry.key.digest] = self._runners.load(entry)
            except (EngineError, OSError) as error:
                logger.warning("engine %s %s is not timed: %s", entry.key.backend, entry.key.precision, error)
        if not runners:
            return None
        self._progress(f"timing {len(runners)} engines at {size}")
        inputs = read_check(next(entry.folder for entry in entries if entry.key.digest in runners)).inputs
        taken = time_in_turn({name: _call(runner, inputs) for name, runner in runners.items()})
        return Times(
            weights_sha256=source.bundle.manifest.weights_sha256,
            shape=source.shape,
            n_coils=source.n_coils,
            threads=torch.get_num_threads(),
            created=datetime.now(timezone.utc),
            engines=tuple(
                EngineTime(
                    engine=entry.key.digest,
                    backend=entry.key.backend,
                    precision=entry.key.precision,
                    ms=timed.ms,
                    busy=timed.busy,
                )
                for entry in entries
                if (timed := taken.get(entry.key.digest)) is not None
            ),
        )

    def _kept(self, entries: Sequence[CacheEntry]) -> Times | None:
        name = self._name(entries)
        for cache in self._caches():
            with suppress(CacheUnusable):  # told when something is to be kept there
                if (text := cache.note(_KIND, name)) is not None:
                    try:
                        return validated(Times, text, name)
                    except BundleError as error:
                        logger.warning("engines are timed again: %s", error)
        return None

    def _keep(self, entries: Sequence[CacheEntry], times: Times) -> None:
        text = canonical_json(times.model_dump(mode="json"))
        for cache in self._caches():
            try:
                cache.keep_note(_KIND, self._name(entries), text)
            except CacheUnusable as error:
                logger.warning("%s", error)
            else:
                return

    def _caches(self) -> Iterator[EngineCache]:
        """That of the machine, and that of this process for where the first is of no use."""
        yield self._cache
        with suppress(CacheUnusable):
            yield scratch_cache()

    def _name(self, entries: Sequence[CacheEntry]) -> str:
        """Times hold for these engines on so many threads."""
        told = [*sorted(entry.key.digest for entry in entries), str(torch.get_num_threads())]
        return hashlib.sha256(" ".join(told).encode()).hexdigest()[:32]


def _call(runner: Runner, inputs: Sequence[torch.Tensor]) -> Callable[[], torch.Tensor]:
    return lambda: runner(*inputs)


def _worst(times: Times) -> float:
    return max((one.busy or 0.0 for one in times.engines), default=0.0)
