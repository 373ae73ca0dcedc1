"""Learned reconstruction of samples that do not lie on a grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from scanside.context import Context
from scanside.engines.bundle import manifest_of
from scanside.engines.catalog import find_bundle
from scanside.engines.engine import Engine
from scanside.engines.manifest import PrecisionChoice
from scanside.engines.trust import TrustPolicy
from scanside.errors import ConfigError, EngineError, EngineNotBuilt, EnginePostponed, ScansideError
from scanside.items import Image, Samples
from scanside.outline import Outline, lacking_maps
from scanside.recon.noncartesian.density import acceleration_of, gridded_noise
from scanside.recon.noncartesian.sense import NonCartesianSense
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._finite import is_finite
from scanside.stages._fitness import Fitness, fitness_of_samples
from scanside.stages._images import image_of_samples
from scanside.stages._learned import Learned
from scanside.stages._provenance import describe_engine
from scanside.stages._refused import Refused
from scanside.stages._samples import Density, cell_weights, flat_points, noise_of_samples, require_finite
from scanside.stages._self_check import Verdict
from scanside.stages._unseen_readouts import UnseenReadouts
from scanside.stages.noncartesian_sense import NonCartesianSenseStage

__all__ = ["RunNonCartesianEngine"]

_VOLUME = "the network takes slices, and these samples are of a volume"

logger = logging.getLogger(__name__)


class RunNonCartesianEngine(Stage[Samples, Image]):
    """Reconstructs spokes, spiral arms and other samples of slices with a learned network, and by CG-SENSE where it
    must not.

    One engine serves all trajectories: it gets the density-compensated image ``Aᴴ W y``, coil maps of an earlier
    stage (``centre-maps``) and the Toeplitz kernel of ``Aᴴ W A``. Its image is taken if it is finite and agrees with
    the samples as well as their noise n allows: ``‖W^½ (A x − y)‖² ≤ (residual ‖W^½ y‖)² + ‖W^½ n‖²``. Otherwise the
    image of ``noncartesian-sense`` goes out, and ``ScansideFallback`` says why, the operator is told, and the scan's
    metrics count it; so it is with volumes, and with images larger than the network takes.

    Images of the network say in their meta what made them, how far they are from the samples
    (``ScansideDataConsistency``), in what the scan differs from those that it was trained for (``ScansideFitness``),
    and how it did on readouts that were kept from it (``ScansideCheck``), as those of the stage ``engine`` do.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            bundle: name of the bundle, or its path; may be pinned: ``NAME@sha256:DIGITS``.
            fallback: settings of ``noncartesian-sense``, which takes over.
            density: see ``gridding``; no sample counts for more than its cell of the grid here.
            sizes: of images, (k1, k0), for which engines are ready before a scan; by default the smallest of the
                bundle's. Others are run as PyTorch runs them.
            n_coils: coil counts for which they are ready; the network takes any.
            fitness: a scan that the network was not trained for: ``warn`` tells so in the meta and to the operator,
                ``fallback`` does without the network, ``ignore`` says nothing.
            residual: largest relative distance to the samples, beyond that of their noise; None for any.
            check: ``readouts`` leaves an eighth of the readouts out, has both reconstructions predict them, and
                compares what they say with what was acquired; it doubles the time of an image. ``none`` compares
                nothing.
            worse: an image whose network predicts those readouts worse than the fallback does, by more than that
                varies from readout to readout: ``fallback`` sends the fallback's, ``warn`` the network's with a
                warning. An undecided check is none against it.
            backend: that must be used; ``auto`` takes the fastest accepted one.
            precision: that must be used.
            require_signature: refuse bundles that no trusted key signed.
        """

        RESERVED = frozenset({"require_signature"})
        BUNDLES = frozenset({"bundle"})

        bundle: str
        fallback: NonCartesianSenseStage.Config = NonCartesianSenseStage.Config()
        density: Density = "auto"
        sizes: tuple[tuple[int, int], ...] = ()
        n_coils: tuple[int, ...] = (8,)
        fitness: Literal["warn", "fallback", "ignore"] = "warn"
        residual: float | None = Field(0.3, gt=0)
        check: Literal["none", "readouts"] = "readouts"
        worse: Literal["fallback", "warn"] = "fallback"
        backend: str = "auto"
        precision: PrecisionChoice = "auto"
        require_signature: bool = False

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Coil maps of a stage before, whether the bundle is there, and its network was trained for such a scan."""
        outline, name = outline.with_maps_for("the network", "centre-maps"), self.config.bundle
        try:
            manifest = manifest_of(find_bundle(name))
        except (EngineError, ConfigError) as error:
            return outline.refused(str(error))
        n0, n1, n2 = outline.encoding.recon.matrix
        fitness = fitness_of_samples(manifest, (n1, n0), None)
        if n2 > 1:
            fitness = Fitness((_VOLUME,))
        if fitness.cannot:
            told = "; ".join(fitness.cannot)
            return outline.doubted(f"the network '{name}' is left out: {told}; images are the fallback's")
        if fitness.untrained and self.config.fitness != "ignore":
            told = "; ".join(fitness.untrained)
            return outline.doubted(f"the network '{name}' was not trained for it: {told}")
        return outline

    def prepare(self, context: Context) -> None:
        """Open the bundle, and have its engines ready."""
        config = self.config
        policy = TrustPolicy(require_signature=config.require_signature)
        self._network = Learned(config.bundle, policy, config.backend, config.precision, anywhere=True)
        try:
            self._network.prepare(config.sizes, config.n_coils, context)
        except EnginePostponed as error:
            # The images that lack it come from the fallback, and say so.
            logger.warning("no engine of '%s' is ready: %s", self._network.name, error)
        self._fallback = NonCartesianSenseStage(config.fallback)
        self._fallback.prepare(context)

    @property
    def engines(self) -> list[Engine]:
        """Those that are loaded."""
        return list(self._network.engines)

    def outdated(self) -> list[str]:
        """The bundle, where it was replaced since it was opened."""
        why = self._network.outdated()
        return [] if why is None else [why]

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan
        self._told: set[str] = set()
        self._fallback.open(scan)
        self._untold = self._network.open(scan.header)

    def process(self, item: Samples) -> Iterator[Image]:
        """Make one image."""
        if item.coil_maps is None:
            raise ConfigError(lacking_maps("the network", "centre-maps"))
        try:
            yield self._learned(item)
        except Refused as refused:
            yield from self._fall_back(item, refused)

    def close(self) -> None:
        """Forget the scan."""
        self._fallback.close()
        self._network.close()

    def _learned(self, item: Samples) -> Image:
        """The network's image.

        Raises:
            Refused: it is not to be had, or not to be used.
        """
        data = _Weighted.of(item, self.config.density)
        require_finite(data.right, item)
        untrained = self._fit(item, data)
        engine = self._engine(item)
        image = self._imaged(item, data, engine)
        distance = self._distance(image, data)
        verdict = self._checked(item, engine)
        meta = item.meta.copy()
        describe_engine(meta, engine, self._scan.pipeline)
        meta["ScansideDataConsistency"] = f"{distance:.3g}"
        if untrained:
            meta["ScansideFitness"] = untrained
        if verdict is not None:
            meta["ScansideCheck"] = verdict.meta
        if not bool(image.any()):
            meta["ScansideEmpty"] = "all samples are zero, and so is the image"
        self._scan.count("engine.images")
        return image_of_samples(self._scan, item.replace(meta=meta), image)

    def _fit(self, item: Samples, data: _Weighted) -> tuple[str, ...]:
        """In what a scan differs from those of the training.

        Raises:
            Refused: the network is not fit for it.
        """
        name = self._network.name
        shape = (item.shape[0], item.shape[1])
        fitness = fitness_of_samples(self._network.manifest, shape, data.acceleration)
        told = () if self._untold is None else (self._untold,)
        untrained = () if self.config.fitness == "ignore" else fitness.untrained
        reasons = fitness.cannot + told + (untrained if self.config.fitness == "fallback" else ())
        if reasons:
            raise Refused("unfit", f"'{name}' is not fit for these samples: {'; '.join(reasons)}")
        if untrained:
            self._scan.count("engine.untrained")
            self._scan.warn(f"network '{name}' was not trained for such scans: {'; '.join(untrained)}")
        return untrained

    def _engine(self, item: Samples) -> Engine:
        size, n_coils = (item.shape[0], item.shape[1]), len(item.data)
        try:
            return self._network.engine(size, n_coils) or self._network.engine_now(size, n_coils)
        except (ScansideError, OSError) as error:
            raise Refused("not-built" if isinstance(error, EngineNotBuilt) else "size", str(error)) from error

    def _imaged(self, item: Samples, data: _Weighted, engine: Engine) -> torch.Tensor:
        """What the network makes of samples, complex ``(z, y, x)``."""
        assert item.coil_maps is not None
        if not bool(data.right.any()):
            return data.right
        scale = self._network.scale(data.right[0])
        start = data.right[0] / scale
        noise = torch.as_tensor(data.noise * data.gridded) / scale
        inputs = self._network.inputs_anywhere(
            engine, start, item.coil_maps[:, 0], data.operator.kernel, noise
        )
        try:
            output = engine(*inputs)
        except (
            ScansideError,
            RuntimeError,
        ) as error:  # native code reports whatever it meets as RuntimeError
            raise Refused("failed", f"the engine failed: {error}") from error
        image = scale * self._network.image(output, start)
        if not is_finite(image):
            raise Refused("non-finite", f"'{self._network.name}' gave NaN or infinite values")
        return image[None]

    def _distance(self, image: torch.Tensor, data: _Weighted) -> float:
        """Of an image to the samples, relative to these.

        Raises:
            Refused: it is too large.
        """
        distance, noise = data.distance(image)
        limit = self.config.residual
        if limit is not None and distance > math.hypot(limit, noise):
            raise Refused(
                "data-consistency",
                f"the image of '{self._network.name}' disagrees with the samples: its relative residual is "
                f"{distance:.3g}, allowed is {limit:g} (noncartesian-engine.residual) beside the noise's {noise:.3g}",
            )
        return distance

    def _checked(self, item: Samples, engine: Engine) -> Verdict | None:
        """What readouts that are left out say of the network's image; None where it is not checked.

        Raises:
            Refused: another image is to go out.
        """
        if self.config.check == "none":
            return None
        unseen = UnseenReadouts.of(item)
        if isinstance(unseen, str):
            verdict = Verdict("none", why=unseen)
            self._scan.warn(f"the image of '{self._network.name}' was not checked: {unseen}")
        else:
            data = _Weighted.of(unseen.seen, self.config.density)
            learned = self._imaged(unseen.seen, data, engine)
            classical = self._fallback.solve(unseen.seen).solution
            verdict = unseen.judge(learned, "noncartesian-sense", classical, data.noise)
        self._scan.count(f"engine.check.{verdict.word.replace(' ', '-')}")
        if verdict.is_worse and self.config.worse == "fallback":
            raise Refused("self-check", verdict.text(self._network.name), verdict)
        if verdict.is_worse:
            self._scan.warn(f"{verdict.text(self._network.name)}; its image goes out all the same")
        return verdict

    def _fall_back(self, item: Samples, refused: Refused) -> Iterator[Image]:
        self._scan.count(f"engine.fallback.{refused.why}")
        if refused.why not in self._told:
            self._told.add(refused.why)
            self._scan.warn(f"images come from the classical fallback 'noncartesian-sense': {refused}")
        for image in self._fallback.process(item):
            meta = image.meta.copy()
            meta["ScansideFallback"] = ["noncartesian-sense", refused.why, str(refused)]
            if refused.verdict is not None:
                meta["ScansideCheck"] = refused.verdict.meta
            yield image.replace(meta=meta)


@dataclass(frozen=True, eq=False)
class _Weighted:
    """Samples of an image as the network's data consistency has them.

    Attributes:
        item: the samples.
        weights: ``(n,)``, W.
        operator: ``A``.
        right: ``Aᴴ W y``, ``(z, y, x)``.
        noise: standard deviation of the noise's real part in a sample.
    """

    item: Samples
    weights: torch.Tensor
    operator: NonCartesianSense
    right: torch.Tensor
    noise: float

    @classmethod
    def of(cls, item: Samples, density: Density) -> _Weighted:
        """Of samples with coil maps.

        Raises:
            Refused: they are of a volume.
        """
        if len(item.shape) != 2:
            raise Refused("unfit", _VOLUME)
        assert item.coil_maps is not None
        weights = cell_weights(item, density).flatten()
        operator = NonCartesianSense(item.coil_maps, flat_points(item), weights)
        return cls(item, weights, operator, operator.adjoint(item.data.flatten(1)), noise_of_samples(item))

    @property
    def gridded(self) -> float:
        """Noise of a voxel over that of a sample."""
        return gridded_noise(self.weights, self.item.shape)

    @property
    def acceleration(self) -> float:
        """As manifests of such networks count it."""
        return acceleration_of(self.weights, self.item.shape)

    def distance(self, image: torch.Tensor) -> tuple[float, float]:
        """``‖W^½ (A x − y)‖`` of an image, and what noise makes of it on average, relative to ``‖W^½ y‖``."""
        samples = self.item.data.flatten(1)
        energy = float((self.weights * samples.abs().square()).sum())
        if energy == 0:
            return 0.0, 0.0
        left = self.operator.forward(image) - samples
        noise = 2 * self.noise**2 * len(samples) * float(self.weights.sum())
        return math.sqrt(float((self.weights * left.abs().square()).sum()) / energy), math.sqrt(
            noise / energy
        )
