"""Learned reconstruction."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scanside.context import Context
from scanside.engines.bundle import manifest_of
from scanside.engines.catalog import find_bundle
from scanside.engines.engine import Engine
from scanside.engines.manifest import PrecisionChoice
from scanside.engines.trust import TrustPolicy
from scanside.engines.verdicts import Why
from scanside.errors import (
    CalibrationError,
    ConfigError,
    EngineError,
    EngineNotBuilt,
    EnginePostponed,
    ScansideError,
    ShapeError,
)
from scanside.items import Calibration, Image, KSpace
from scanside.outline import Outline, lacking_maps
from scanside.recon.combine import combine_sets
from scanside.scan import Scan
from scanside.stage import Expected, Stage, StageConfig
from scanside.stages._agreement import MapAgreement, MapCheck
from scanside.stages._checker import SelfCheck
from scanside.stages._classical import Classical
from scanside.stages._deadline import DeadlineRunner
from scanside.stages._fallback import Allowed, Fallback, wanted_frames
from scanside.stages._finite import is_finite
from scanside.stages._fitness import fitness_of, foreseen_fitness
from scanside.stages._imager import Asked, Imager, Levels, Made, Pull
from scanside.stages._images import images_of
from scanside.stages._learned import Learned
from scanside.stages._provenance import describe_engine
from scanside.stages._refused import Refused
from scanside.stages._rehearsal import rehearsal
from scanside.stages._self_check import Verdict
from scanside.stages._virtual_coils import FewerCoils
from scanside.stages.fourier import Fourier
from scanside.stages.sense import Sense
from scanside.trace import StageTimes

__all__ = ["RunEngine"]

logger = logging.getLogger(__name__)


class RunEngine(Stage[Calibration | KSpace, Image]):
    """Reconstructs with a learned network that was accepted on this machine, and classically where it must not.

    The network of the bundle gets what its manifest asks for: the image ``Aᴴ y`` of the acquired lines, with coil
    maps and sampling for unrolled networks, or a CG-SENSE image. Its image is taken if it is finite, came in time,
    and agrees with the acquired lines as well as noise n allows: ``‖A x − y‖² ≤ (residual ‖y‖)² + ‖n‖²``. Otherwise
    the fallback's image goes out, the attribute ``ScansideFallback`` says which and why, the operator is told, and
    the scan's metrics count it.

    Coil maps that do not explain the calibration lines are told, with the place; ``ScansideMaps`` says how much they
    explain. Where they cannot be those of the scan, nothing that uses them goes out: the image is the root sum of
    squares of the coils' zero-filled ones.

    A network for films gets all frames of a window in one call; the images that are wanted of it (`KSpace.wanted`)
    are taken or left together. Of a frame that no line was acquired of there is no image, and the operator is told:
    networks would invent one. The fallback, and networks for single images, make the wanted frames one by one.

    Every image of the network says in its meta which bundle, weights, backend and precision made it, how far it is
    from the acquired lines (``ScansideDataConsistency``), and in what the scan differs from those that the network
    was trained for (``ScansideFitness``). Where it is checked (`check`), it says how it did beside the fallback
    (``ScansideCheck``, see `scanside.stages._self_check.Verdict.meta`). K-space of zeros gives an image of zeros that
    says so.

    A network that is told numbers of the scan, such as its echo time, gets them from the header and the mask. Where
    the header lacks one, the operator is told when the scan begins, and the fallback makes its images.

    A network that solves for each readout column takes any number of coils. Where one takes certain numbers only, it
    gets virtual coils, as the stage ``coil-compression`` makes them (``ScansideCoilCompression`` tells), or empty
    ones; the fallback gets all that there are.

    Engines for the sizes in the settings are built, accepted and warmed up before any scan, and none while a scan
    waits: an image of another size goes to a larger engine that was built earlier, or the network runs as PyTorch
    runs it, in the image's own size, and the image says so and how to build a faster one (``ScansideEngineChoice``).
    Coil maps come from an earlier stage.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            bundle: name of the bundle, or its path; of several, the first that is fit for a k-space is taken. Each
                may be pinned: ``NAME@sha256:DIGITS`` takes that very release or none.
            fallback: classical stage that takes over, ``{sense: {…}}`` or ``{fourier: {…}}`` with its settings, for
                windows of frames also ``{low-rank-sparse: {…}}`` or ``{view-sharing: {…}}``; by default ``sense`` as
                the pipeline of that name has it. Of several, the first that takes the k-space and is in time. None
                makes an error of it. A network that improves a CG-SENSE image gets it from here.
            fallback_ms: longest time that a fallback may take, where a later one could have its place: one that takes
                longer for the first k-space of a scan is left out for the rest of it. ``pace`` is the time in which
                the scan acquires the wanted frames; None for any.
            sizes: of images, (k1, k0), for which engines are ready before a scan; by default the smallest of the
                bundle's.
            n_coils: coil counts for which they are ready, where coils go in.
            other_sizes: images of other sizes: ``built`` takes an engine that was built earlier, or the network as
                PyTorch runs it where there is none; ``fallback`` does without a network.
            fitness: a scan that the network was not trained for: ``warn`` tells so in the meta and to the operator,
                ``fallback`` does without the network, ``ignore`` says nothing.
            consistency: λ / noise² of a last step ``argmin ‖A x − y‖² + λ ‖x − z‖²``, which pulls the network's image
                z back to the acquired lines y, for networks that do not do so themselves: 1 / the squared error that
                the network's image is thought to have. None leaves the image as it is. Where the fallback solves by
                columns (``sense: {solver: columns}``), so does this, with λ on a grid of steps of 2^(1/8), so that
                repetitions with nearly the same noise need no new factorisation.
            consistency_iterations: conjugate-gradient steps of it, where it is not solved by columns.
            residual: largest relative distance to the acquired lines, beyond that of their noise; None for any.
            check: whether the network's image is compared with the fallback's, for every scan and without the truth:
                ``lines`` leaves a few acquired lines outside the middle out of a strip of the image, has both predict
                them, and compares what they say with what was acquired; ``none`` compares nothing. It takes about a
                quarter of the time of the image, and all of it where the network is of a fixed size.
            worse: an image whose network predicts those lines worse than the fallback does, by more than that varies
                from line to line: ``fallback`` sends the fallback's, or a zero-filled one where both do worse than
                nothing would, ``warn`` sends the network's with a warning. An undecided check is none against it.
            deadline_ms: longest time that an engine may take for an image, or for a window of frames; None for any.
                Of the accepted engines that are in time (at most four fifths of it when they are timed), one of the
                highest precision is taken, and of these the fastest.
            backend: that must be used; ``auto`` takes the fastest accepted one, or what ``deadline_ms`` says.
            precision: that must be used.
            require_signature: refuse bundles that no trusted key signed.
        """

        RESERVED = frozenset({"require_signature"})
        BUNDLES = frozenset({"bundle"})

        bundle: str | Annotated[tuple[str, ...], Field(min_length=1)]
        fallback: Classical | Annotated[tuple[Classical, ...], Field(min_length=1)] | None = Classical(
            sense=Sense.Config(l2_noise=10)
        )
        fallback_ms: Allowed = "pace"
        sizes: tuple[tuple[int, int], ...] = ()
        n_coils: tuple[int, ...] = (8,)
        other_sizes: Literal["built", "fallback"] = "built"
        fitness: Literal["warn", "fallback", "ignore"] = "warn"
        consistency: float | None = Field(None, gt=0)
        consistency_iterations: int = Field(8, ge=1)
        residual: float | None = Field(0.3, gt=0)
        check: Literal["none", "lines"] = "none"
        worse: Literal["fallback", "warn"] = "fallback"
        deadline_ms: float | None = Field(None, gt=0)
        backend: str = "auto"
        precision: PrecisionChoice = "auto"
        require_signature: bool = False

        @model_validator(mode="after")
        def _checkable(self) -> RunEngine.Config:
            if self.check != "none" and self.fallback is None:
                raise ValueError("check compares with the fallback: name one in engine.fallback")
            return self

        @property
        def bundles(self) -> tuple[str, ...]:
            """One or several."""
            return (self.bundle,) if isinstance(self.bundle, str) else self.bundle

        @property
        def fallbacks(self) -> tuple[Classical, ...]:
            """None, one or several."""
            if self.fallback is None:
                return ()
            return (self.fallback,) if isinstance(self.fallback, Classical) else self.fallback

    config: Config

    def prepare(self, context: Context) -> None:
        """Open the bundles, and have their engines ready."""
        self._context = context
        policy = TrustPolicy(require_signature=self.config.require_signature)
        self._networks = []
        self._postponed: dict[str, str] = {}
        for name in self.config.bundles:
            config = self.config
            network = Learned(name, policy, config.backend, config.precision, config.deadline_ms)
            try:
                network.prepare(self.config.sizes, self.config.n_coils, context)
            except EnginePostponed as error:
                if self.config.fallback is None:
                    raise
                # The images that lack it come from the fallback, and say so.
                self._postponed[network.name] = str(error)
                logger.warning("no engine of '%s' is ready: %s", network.name, error)
            self._networks.append(network)
        self._fallback = Fallback(self.config.fallbacks, self.config.fallback_ms)
        self._zero_filled = Fallback((Classical(fourier=Fourier.Config()),), None)
        for fallback in (self._fallback, self._zero_filled):
            fallback.prepare(context)
        imager = partial(
            Imager,
            pull=Pull(self.config.consistency, self.config.consistency_iterations),
            in_time=DeadlineRunner(),
            deadline_ms=self.config.deadline_ms,
        )
        self._imager = imager(self._fallback.sense)
        self._fewer_coils = FewerCoils()
        self._check = SelfCheck(self.config.fallbacks, imager) if self.config.check == "lines" else None
        if self._check is not None:
            self._check.prepare(self._networks, context)
        if context.builds_engines:
            self._rehearse()

    def _rehearse(self) -> None:
        """Make an image of each size by each network, so that none of a scan is the first."""
        for network in self._networks:
            shapes = network.manifest.shapes
            for size in self.config.sizes or (min(shapes.buckets),):
                for n_coils in sorted({shapes.coils_for(n) or n for n in self.config.n_coils}):
                    if network.engine(size, n_coils) is None:
                        continue
                    self._context.check()
                    scan, item = rehearsal(network.manifest, size, n_coils, self._context.torch_device)
                    self.open(scan)
                    try:
                        list(self._images(item, [network]))
                    except (ScansideError, RuntimeError) as error:
                        logger.warning(
                            "a first image by '%s', which is none of a scan: %s", network.name, error
                        )
                    finally:
                        self.close()

    def expect(self, expected: Expected) -> Expected:
        """Have engines ready for the sizes of a scan; what cannot be had is told by the images that lack it."""
        if expected.encoding.limit("kspace_encode_step_2").n > 1:
            return expected  # networks take slices, so that the fallback will reconstruct this slab
        n_coils = self.config.n_coils if expected.n_coils is None else (expected.n_coils,)
        for network in self._networks:
            try:
                network.expect(expected.size, n_coils, replace(self._context, builds_engines=True))
            except (EngineError, ShapeError) as error:
                logger.warning("no engine of '%s' is ready for this scan: %s", network.name, error)
        return expected

    def foresee(self, outline: Outline) -> Outline:
        """Coil maps of a stage before, whether the bundles are there, and networks were trained for such a scan."""
        outline, against = outline.with_maps_for("the network"), []
        for name in self.config.bundles:
            try:
                manifest = manifest_of(find_bundle(name))
            except (EngineError, ConfigError) as error:
                return outline.refused(str(error))
            fitness = foreseen_fitness(manifest, outline)
            if fitness.cannot:
                told = f"the network '{name}' is left out: {'; '.join(fitness.cannot)}"
                if not self.config.fallbacks:
                    return outline.refused(told)
                against.append(f"{told}; images are the fallback's")
            elif fitness.untrained and self.config.fitness != "ignore":
                against.append(f"the network '{name}' was not trained for it: {'; '.join(fitness.untrained)}")
            else:
                return outline
        return outline.doubted(against[0])

    @property
    def engines(self) -> list[Engine]:
        """Those that are loaded."""
        return [engine for network in self._networks for engine in network.engines]

    @property
    def engine_times(self) -> StageTimes:
        """Of the engine's calls in this scan; all else is left out, checks too."""
        return self._imager.times

    @property
    def check_times(self) -> StageTimes:
        """Of the checks in this scan."""
        return StageTimes() if self._check is None else self._check.times

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan
        self._map_check = MapCheck()
        self._told: set[str] = set()
        self._lacking: dict[tuple[object, ...], tuple[Why, str]] = {}
        self._imager.open()
        self._untold: dict[str, str] = {}
        for network in self._networks:
            if why := network.open(scan.header):
                self._untold[network.name] = why
                scan.warn(f"no image of this scan will come from {why}")
        for fallback in (self._fallback, self._zero_filled):
            fallback.open(scan)
        if self._check is not None:
            self._check.open(scan)

    def outdated(self) -> list[str]:
        """Bundles that were replaced since they were opened."""
        return [why for network in self._networks if (why := network.outdated())]

    def process(self, item: Calibration | KSpace) -> Iterator[Image]:
        """Reconstruct the images of one k-space; or prepare for them, when the calibration lines are there."""
        if isinstance(item, Calibration):
            self._begin(item)
        else:
            yield from self._images(item, self._networks)

    def _begin(self, item: Calibration) -> None:
        """What images to come will need, in the time in which their last lines are still to come."""
        if any(network.wants == "sense" for network in self._networks):
            list(self._fallback.sense.process(item))
        for network in self._networks:
            network.begin(item)
            # While lines are still to come there is time to load what none was prepared for.
            with suppress(Refused, ShapeError):  # told when there is an image to do without
                engine = self._engine(network, item.kspace)
                if self._check is not None:
                    self._check.begin(item, network, engine)

    def _images(self, item: KSpace, networks: Sequence[Learned]) -> Iterator[Image]:
        """The images of one k-space, by the first of some networks that is fit for it, or by the fallback."""
        if item.coil_maps is None:
            raise ConfigError(lacking_maps("the network"))
        item = self._with_lines(item)
        frames = wanted_frames(item)
        if not frames.data.numel():
            return
        asked: Asked | None = None
        agreement = self._map_check.of(item)
        try:
            network, given, untrained = self._fit(item, frames, networks, agreement)
            if agreement is not None and agreement.is_wrong:
                raise Refused("maps", str(agreement.flaw))
            engine = self._engine(network, item)
            given = self._for_coils(network, given, engine.n_coils)  # another form may serve than was thought
            if engine.choice.late:
                self._scan.count("engine.late")
                self._scan.warn(
                    f"no engine of '{network.name}' is sure to be in time (engine.deadline_ms): "
                    f"{engine.choice.chosen}"
                )
            asked = self._imager.asked(given, network, engine)
            levels: Levels = {}
            made, residual = self._reconstruct(asked, levels)
            verdict = self._checked(asked, levels)
        except Refused as refused:
            yield from self._fall_back(item, refused, () if asked is None else asked.classical)
            return
        self._scan.count("engine.images")
        meta = given.meta.copy()
        describe_engine(meta, engine, self._scan.pipeline)
        meta["ScansideDataConsistency"] = f"{residual:.3g}"
        if agreement is not None:
            meta["ScansideMaps"] = agreement.meta
        if untrained:
            meta["ScansideFitness"] = untrained
        if verdict is not None:
            meta["ScansideCheck"] = verdict.meta
        voxels = made.voxels if given.second_maps is None else combine_sets(made.voxels)
        if not bool(voxels.any()):
            meta["ScansideEmpty"] = "all acquired lines are zero, and so is the image"
        yield from images_of(self._scan, frames.replace(meta=meta), voxels)
        if made.uncertainty is not None:
            for image in images_of(self._scan, frames.replace(meta=meta), made.uncertainty):
                yield image.replace(what="uncertainty")

    def close(self) -> None:
        """Forget the scan."""
        self._map_check = MapCheck()
        for fallback in (self._fallback, self._zero_filled):
            fallback.close()
        if self._check is not None:
            self._check.close()
        for network in self._networks:
            network.close()
        self._fewer_coils.close()

    def _with_lines(self, item: KSpace) -> KSpace:
        """Of a window, no images of frames that nothing was acquired of: a network would invent them."""
        wanted = item.wanted
        if wanted is None:
            if len(item.other) != 1 or all(network.n_frames is None for network in self._networks):
                return item
            wanted = tuple(range(len(item.mask)))
        acquired = item.mask.flatten(1).any(1).tolist()
        for frame in wanted:
            if not acquired[frame]:
                self._scan.count("engine.frames_without_lines")
                self._scan.warn(
                    f"no line was acquired of frame {frame} of a window of {len(acquired)} along {item.other[0]}: "
                    "there is no image of it"
                )
        return item.replace(wanted=tuple(frame for frame in wanted if acquired[frame]))

    def _fit(
        self, item: KSpace, frames: KSpace, networks: Sequence[Learned], agreement: MapAgreement | None
    ) -> tuple[Learned, KSpace, tuple[str, ...]]:
        """The first network that is fit, else the first that may be used, what it is given, and what is new to it.

        Args:
            item: the k-space, perhaps a window.
            frames: of a window, the frames whose images are wanted.
            networks: of which one is taken.
            agreement: of its maps with its calibration lines.
        """
        told = agreement is not None and agreement.flaw is not None and not agreement.is_wrong
        flaws = (str(agreement.flaw),) if agreement is not None and told else ()
        usable: list[tuple[Learned, KSpace, tuple[str, ...]]] = []
        untrained: tuple[str, ...]
        against = []
        for network in networks:
            if network.name in self._untold:
                against.append(self._untold[network.name])
                continue
            given = frames if network.n_frames is None else item
            try:
                given = self._for_coils(network, given, network.coils_for(_size(item), item.n_coils))
            except Refused as refused:
                against.append(str(refused))
                continue
            fitness = fitness_of(network.manifest, given)
            untrained = ()
            if self.config.fitness != "ignore":
                untrained = fitness.untrained + network.told_untrained(given) + flaws
            reasons = fitness.cannot + (untrained if self.config.fitness == "fallback" else ())
            if reasons:
                against.append(f"'{network.name}': {'; '.join(reasons)}")
            else:
                usable.append((network, given, untrained))
        if not usable:
            raise Refused("unfit", f"no bundle is fit for this k-space: {'. '.join(against)}")
        network, given, untrained = min(usable, key=lambda one: bool(one[2]))
        if untrained:
            self._scan.count("engine.untrained")
            self._scan.warn(
                f"network '{network.name}' was not trained for such scans: {'; '.join(untrained)}"
            )
        return network, given, untrained

    def _for_coils(self, network: Learned, item: KSpace, n_coils: int | None) -> KSpace:
        """The k-space with no more coils than so many, where a network takes no more."""
        try:
            return self._fewer_coils(item, n_coils)
        except CalibrationError as error:
            what = f"'{network.name}': its {item.n_coils} coils would have to be compressed: {error}"
            raise Refused("unfit", what) from error

    def _engine(self, network: Learned, item: KSpace) -> Engine:
        size, n_coils = _size(item), item.n_coils
        engine = network.engine(size, n_coils)
        if engine is not None:
            return engine
        if self.config.other_sizes == "fallback":
            coils = "" if network.manifest.shapes.coils is None else f" and {n_coils} coils"
            what = f"no engine of '{network.name}' was prepared for {size[0]}×{size[1]}{coils}"
            raise Refused("size", f"{what}: name them in engine.sizes and engine.n_coils")
        wanted = (network.name, size, n_coils)
        if wanted not in self._lacking:  # what was not there is not looked for again in the same scan
            try:
                return network.engine_now(size, n_coils)
            except (ScansideError, OSError) as error:
                why: Why = "not-built" if isinstance(error, EngineNotBuilt) else "size"
                self._lacking[wanted] = why, self._postponed.get(network.name, str(error))
        raise Refused(*self._lacking[wanted])

    def _reconstruct(self, asked: Asked, levels: Levels) -> tuple[Made, float]:
        """The wanted images, and the largest of their distances to the acquired lines."""
        made = self._imager.images(asked, levels)
        voxels, data = made.voxels, made.data
        name = asked.network.name
        if not is_finite(voxels):
            raise Refused("non-finite", f"'{name}' gave NaN or infinite values")
        residual = data.distance(voxels)
        limit = self.config.residual
        if limit is not None and residual > limit:
            # Even the true image is as far from the lines as their noise.
            noise = data.noise_share(min(level for _, level in levels.values())) if levels else 0.0
            if residual > math.hypot(limit, noise):
                raise Refused(
                    "data-consistency",
                    f"the image of '{name}' disagrees with the acquired lines: its relative residual is "
                    f"{residual:.3g}, allowed is {limit:g} (engine.residual) beside the noise's {noise:.3g}",
                )
        return made, residual

    def _checked(self, asked: Asked, levels: Levels) -> Verdict | None:
        """What lines that are left out say of the network's image; None where it is not checked.

        Args:
            asked: what the network was to make.
            levels: of its image.

        Raises:
            Refused: another image is to go out.
        """
        if self._check is None:
            return None
        network = asked.network
        verdict = self._check(asked.item, network, asked.engine, levels)
        self._scan.count(f"engine.check.{verdict.word.replace(' ', '-')}")
        if verdict.word == "none":
            self._scan.warn(f"the image of '{network.name}' was not checked (engine.check): {verdict.why}")
        if verdict.is_worse and self.config.worse == "fallback":
            raise Refused("self-check", verdict.text(network.name), verdict)
        if verdict.is_worse:
            self._scan.warn(f"{verdict.text(network.name)}; its image goes out all the same (engine.worse)")
        return verdict

    def _fall_back(self, item: KSpace, refused: Refused, made: Sequence[Image]) -> Iterator[Image]:
        """Images of the fallback.

        Args:
            item: the k-space, perhaps a window.
            refused: why the network's are not taken.
            made: those that CG-SENSE has made already.
        """
        self._scan.count(f"engine.fallback.{refused.why}")
        if self.config.fallback is None:
            raise EngineError(
                f"{refused}. Set engine.fallback to have a classical image instead"
            ) from refused
        verdict = refused.verdict
        fallback = self._fallback
        worse_than_nothing = verdict is not None and verdict.word == "worse than nothing"
        if worse_than_nothing or refused.why == "maps":
            fallback, made = self._zero_filled, ()
        for choice, image in fallback.images(item, made):
            reason = refused.why if verdict is None else verdict.word
            if reason not in self._told:
                self._told.add(reason)
                self._scan.warn(f"images come from the classical fallback '{choice.name}': {refused}")
            meta = image.meta.copy()
            meta["ScansideFallback"] = [choice.name, refused.why, str(refused)]
            if verdict is not None:
                meta["ScansideCheck"] = verdict.meta
            yield image.replace(meta=meta)


def _size(item: KSpace) -> tuple[int, int]:
    """``(k1, k0)``."""
    return item.data.shape[-2], item.data.shape[-1]
