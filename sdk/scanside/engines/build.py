"""Builds a bundle's engines on this machine and keeps those that are accepted."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.engines.backends import NAMES, backend
from scanside.engines.backends.base import Backend, InputShape, Precision
from scanside.engines.bundle import ENGINES_FOLDER, Bundle
from scanside.engines.cache import CacheEntry, EngineCache, EngineKey, scratch_cache
from scanside.engines.choice import Candidate
from scanside.engines.gate import Reference, accept, refused_report
from scanside.engines.manifest import FormName, PrecisionChoice
from scanside.engines.passing import passes
from scanside.engines.plan_store import Plan, PlanStore
from scanside.engines.probes import Network, each_probe, read_cases, real_inputs
from scanside.engines.shapes import own_size
from scanside.errors import BundleError, CacheUnusable, EngineError, EnginePostponed, ShapeError
from scanside.storage import has_no_room, is_storage_error, storage_problem

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from scanside.engines.plain import PlainGraph

__all__ = ["BundleSource", "Workshop", "built_shapes"]

logger = logging.getLogger(__name__)

_PATIENCE_S = 1200.0


class BundleSource:
    """The `Source` that a bundle is, in the shapes of one engine; reads graph and weights when they are asked for.

    Args:
        bundle: opened, so its hashes have been checked.
        shape: ``(k1, k0)`` of the engine.
        n_coils: of its input; not asked for where no coils go in.
        form: of the network; by default the one that engines of this shape are made of.

    Attributes:
        form: of the network.
        n_coils: of the input; None where no coils go in.

    Raises:
        ShapeError: the bundle does not take that many coils, or is of another, fixed size.
    """

    def __init__(
        self,
        bundle: Bundle,
        shape: tuple[int, int],
        n_coils: int | None = None,
        form: FormName | None = None,
    ) -> None:
        shapes = bundle.manifest.shapes
        if shapes.fixed:
            shape = own_size(bundle.manifest.lowering, shapes, *shape)
        self.form: FormName = form or bundle.manifest.form_for(shape)
        taken = bundle.manifest.form(self.form)
        if not taken.takes_coils:
            n_coils = None
        elif n_coils is None or not shapes.accepts_coils(n_coils):
            raise ShapeError(
                f"bundle '{bundle.name}' takes data of {shapes.coils} coils, got {n_coils or 'no coil count'}: "
                "compress the coils first"
            )
        self.bundle = bundle
        self.shape = shape
        self.n_coils = n_coils
        self.n_frames = shapes.frames
        self.inputs = tuple(
            InputShape(spec.name, spec.shape(*shape, n_coils, n_frames=self.n_frames))
            for spec in taken.inputs
        )
        self._programs: dict[Precision, ExportedProgram] = {}

    def program(self, precision: Precision) -> ExportedProgram:
        """See `Source`.

        Raises:
            BundleError: there is no graph of this precision.
        """
        if precision not in self._programs:
            self._programs[precision] = self.bundle.graph(precision, self.form)
        return self._programs[precision]

    def plain(self, precision: Precision) -> PlainGraph:
        """See `Source`.

        Raises:
            BundleError: there is no graph of this precision.
        """
        return self.bundle.plain(precision, self.form)

    def weights(self) -> dict[str, torch.Tensor]:
        """See `Source`."""
        return self._weights

    def calibration(self) -> list[tuple[torch.Tensor, ...]]:
        """See `Source`."""
        bundle = self.bundle
        if bundle.manifest.calibration is None:
            return []
        cases = read_cases(bundle.manifest.task, bundle.calibration(), bundle.manifest.lowering)
        return real_inputs(self.network, cases)

    @property
    def network(self) -> Network:
        """What the probes need to know of it."""
        manifest = self.bundle.manifest
        return Network(manifest.task, manifest.form(self.form).lowering, self.inputs, manifest.columns)

    @cached_property
    def _weights(self) -> dict[str, torch.Tensor]:
        return self.bundle.weights()


class Workshop:
    """Finds, builds and judges the engines of one bundle in one shape.

    A cache that cannot be written or trusted is no precondition: engines are then built for this process alone, which
    is told in the log.

    Args:
        source: the bundle in the engine's shape.
        cache: where engines of this machine are kept.
        progress: is told what is being done.
    """

    def __init__(
        self, source: BundleSource, cache: EngineCache, progress: Callable[[str], None] = lambda _: None
    ) -> None:
        self._source = source
        self._cache = cache
        self._plans = PlanStore(cache)
        self._progress = progress

    def candidates(
        self,
        names: Sequence[str] = NAMES,
        precision: PrecisionChoice = "auto",
        *,
        build: bool = True,
    ) -> list[Candidate]:
        """All engines that could be used, each with its entry in the cache or the reason why there is none.

        Args:
            names: backends to think of.
            precision: ``auto`` for all that a backend offers.
            build: build those that are missing, and judge them. If not, those that were accepted before are found.

        Raises:
            ConfigError: there is no backend of some name.
        """
        found = []
        for name in names:
            one = backend(name)
            if reason := one.available():
                asked: Precision = "fp32" if precision == "auto" else precision
                found.append(Candidate(name, asked, reason=f"{reason}{self._waiting_plans(one)}"))
                continue
            offered = one.precisions()
            for each in offered if precision == "auto" else (precision,):
                if each not in offered:
                    found.append(
                        Candidate(name, each, reason="the backend does not offer it on this machine")
                    )
                else:
                    found.append(self._candidate(one, each, build=build))
        return found

    def _candidate(self, one: Backend, precision: Precision, *, build: bool) -> Candidate:
        try:
            key = self._key(one, precision)
        except BundleError as error:
            return Candidate(one.name, precision, reason=str(error))
        plan, no_plan = self._plan(one, key)
        if plan is not None:
            key = key.model_copy(update={"plan": plan.sha256})
        entry = self._found(key)
        if entry is None:
            built = plan is not None or self._source.bundle.built_engine(key.digest) is not None
            if not built and (missing := one.lacks(self._source, precision)):
                return Candidate(one.name, precision, reason=missing)
            if not build:
                waiting = "its plan is installed, and was not tried on this GPU yet"
                reason = waiting if plan else no_plan or "not built on this machine yet"
                return Candidate(one.name, precision, reason=reason, unbuilt=True)
            prebuilt = plan.folder if plan else self._source.bundle.built_engine(key.digest)
            if prebuilt is None and (reason := no_plan or one.buildable() or ""):
                return Candidate(one.name, precision, reason=f"{reason}{self._not_those_of_the_bundle}")
            try:
                # Of several workers that start, one builds and judges an engine, and the others take it.
                with self._cache.alone(key.digest, _PATIENCE_S):
                    entry = self._found(key) or self._built(one, precision, key, prebuilt)
            except (CacheUnusable, EnginePostponed) as error:
                return Candidate(one.name, precision, reason=str(error), postponed=True)
        return Candidate(one.name, precision, entry)

    def _plan(self, one: Backend, key: EngineKey) -> tuple[Plan | None, str]:
        """The installed plan of an engine; or why there is none, where that keeps it from being built here, too."""
        if not one.takes_plans:
            return None, ""
        try:
            plan, reasons = self._plans.find(key, one, self._source.bundle.policy)
        except CacheUnusable as error:
            plan, reasons = None, str(error)
        if plan is None and (missing := one.buildable()):
            return None, "; ".join(filter(None, (reasons, missing)))
        return plan, ""

    def _waiting_plans(self, one: Backend) -> str:
        """Said of a backend that is not available, although plans for it are here."""
        if not one.takes_plans:
            return ""
        with suppress(CacheUnusable):
            weights = self._source.bundle.manifest.weights_sha256
            records = [stored.record for stored in self._plans.stored() if stored.record is not None]
            if waiting := [record.name for record in records if record.weights_sha256 == weights]:
                return f"; installed and waiting for it: {', '.join(waiting)}"
        return ""

    def _found(self, key: EngineKey) -> CacheEntry | None:
        """The engine of a key: that of the machine, or one that this process built for itself."""
        with suppress(CacheUnusable):  # told when something is to be kept there
            if (entry := self._cache.find(key)) is not None:
                return entry
        with suppress(CacheUnusable):
            return scratch_cache().find(key)
        return None

    def _built(self, one: Backend, precision: Precision, key: EngineKey, prebuilt: Path | None) -> CacheEntry:
        """A new engine in the cache; where that is of no use, one for this process.

        Raises:
            CacheUnusable: nothing can be written at all.
            EnginePostponed: it could not be built or judged for a reason that passes.
        """
        try:
            return self._build(one, precision, key, prebuilt, self._cache)
        except (CacheUnusable, EnginePostponed) as error:
            if not isinstance(error, CacheUnusable) and not is_storage_error(error):
                raise
            scratch = scratch_cache()
            logger.warning(
                "%s. Until then, engines are built in %s for one process each", error, scratch.folder
            )
        return self._build(one, precision, key, prebuilt, scratch)

    def _key(self, one: Backend, precision: Precision) -> EngineKey:
        source = self._source
        return EngineKey(
            weights_sha256=source.bundle.manifest.weights_sha256,
            graph_sha256=source.bundle.graph_sha256(one.graph_precision(precision), source.form),
            shape=source.shape,
            n_coils=source.n_coils,
            precision=precision,
            backend=one.name,
            versions=one.versions(),
            hardware=one.hardware(),
            calibration=source.bundle.calibration_sha256(precision),
        )

    def _build(
        self, one: Backend, precision: Precision, key: EngineKey, prebuilt: Path | None, cache: EngineCache
    ) -> CacheEntry:
        source = self._source
        size = "×".join(map(str, source.shape))
        with cache.building(key) as draft:
            try:
                if prebuilt is not None:
                    shutil.copytree(prebuilt, draft.folder, dirs_exist_ok=True)
                else:
                    self._progress(
                        f"building {one.name} {precision} at {size}{self._not_those_of_the_bundle}"
                    )
                    one.build(source, precision, draft.folder)
                reference = self._reference
            except Exception as error:
                self._check_room(draft.folder, str(error))
                if passes(error):
                    raise EnginePostponed(f"not built now, and tried again the next time: {error}") from error
                if not isinstance(error, EngineError):
                    raise
                return draft.keep(refused_report(one, source, precision, str(error)))
            self._progress(f"checking {one.name} {precision} at {size}")
            limits = source.bundle.manifest.limits
            report = accept(one, source, precision, draft.folder, reference, limits)
            if not report.passed:
                self._check_room(draft.folder, report.failures[0].note)
            return draft.keep(report)

    def _check_room(self, folder: Path, why: str) -> None:
        """What failed on a full disk failed for that, whatever the library says of it.

        Raises:
            EnginePostponed: there is less room than the bundle itself takes.
        """
        for place in (folder, Path(tempfile.gettempdir())):
            if has_no_room(place, self._source.bundle.manifest.size):
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise EnginePostponed(
                    f"not built now, and tried again the next time: {storage_problem(full, place)} ({why})"
                ) from full

    @property
    def _not_those_of_the_bundle(self) -> str:
        """Said of an engine that is missing, although engines came with the bundle."""
        files = self._source.bundle.manifest.files
        if not any(name.startswith(f"{ENGINES_FOLDER}/") for name in files):
            return ""
        return "; those that came with the bundle are for other machines, versions or sizes"

    @cached_property
    def _reference(self) -> Reference:
        source, manifest = self._source, self._source.bundle.manifest
        cases = read_cases(manifest.task, source.bundle.vectors(), manifest.lowering)
        return Reference.compute(source, each_probe(source.network, cases))


def built_shapes(bundle: Bundle) -> set[tuple[tuple[int, int], int | None]]:
    """Shape ``(k1, k0)`` and coils of all engines of a bundle's weights that were built on this machine and accepted.

    Some of them may be for other versions than those of now. A cache that cannot be read is told of, and has none.
    """
    found = set()
    for open_cache in (EngineCache, scratch_cache):
        try:
            entries = list(open_cache().entries())
        except CacheUnusable as error:
            logger.warning("%s", error)
            continue
        weights = bundle.manifest.weights_sha256
        found |= {
            (one.key.shape, one.key.n_coils)
            for one in entries
            if one.key.weights_sha256 == weights and one.report.passed
        }
    return found
