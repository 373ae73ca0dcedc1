"""A learned reconstruction that is ready to run: the engine of a bundle that is best on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property

import torch

from scanside.engines.backends import NAMES
from scanside.engines.backends.base import Runner
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache
from scanside.engines.choice import Choice, rank
from scanside.engines.graph import BoundGraph, bind
from scanside.engines.manifest import AcceptanceReport, PrecisionChoice
from scanside.engines.passing import passes
from scanside.engines.shapes import Fit, check_frames, fit
from scanside.engines.times import Runners, Timekeeper
from scanside.errors import EngineError, EngineNotBuilt, EnginePostponed, ShapeError

__all__ = ["Engine"]

logger = logging.getLogger(__name__)


class Engine:
    """One engine, loaded and checked; make it with `Engine.load`.

    Attributes:
        bundle: that it comes from.
        form: of the network, which says what it takes.
        shape: ``(k1, k0)`` that it computes at; smaller images are padded to it.
        n_coils: of its input; None where no coils go in.
        n_frames: of its window; None where it takes single images.
        choice: why this backend, and why not each of the others.
        report: of its acceptance.
    """

    def __init__(
        self, source: BundleSource, runner: Runner, choice: Choice, report: AcceptanceReport
    ) -> None:
        self.bundle = source.bundle
        self.form = source.bundle.manifest.form(source.form)
        self.shape = source.shape
        self.n_coils = source.n_coils
        self.n_frames = source.n_frames
        self.choice = choice
        self.report = report
        self._source = source
        self._runner = runner

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        shape: tuple[int, int],
        n_coils: int | None = None,
        *,
        exactly: bool = False,
        name: str = "auto",
        precision: PrecisionChoice = "auto",
        cache: EngineCache | None = None,
        build: bool = True,
        deadline_ms: float | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Engine:
        """Choose, load and check the engine that is built for images of some size (`scanside.engines.shapes.fit`).

        Args:
            bundle: the network.
            shape: ``(k1, k0)`` of the images, or that of an engine; see `exactly`.
            n_coils: of the data, where coils go in.
            exactly: whether the shape is that of the engine.
            name: of the backend that must be used; ``auto`` for the best accepted one, see
                `scanside.engines.choice`.
            precision: of the network parts; ``auto`` allows all that were accepted.
            cache: engines of this machine; by default that of the user.
            build: build and judge engines that are missing, which takes seconds to minutes each, and time them
                against each other, where that was not done before or the machine was busy. If not, what was
                accepted and timed before is used.
            deadline_ms: time that an image may take; None for any.
            progress: is told what is being done.

        Raises:
            ConfigError: there is no such backend.
            ShapeError: the bundle has no engine for such images or coils; says what it takes.
            EngineNotBuilt: none was built before, and none is to be built now.
            EngineError: no engine was accepted, or the one that was asked for; says why for each.
            EnginePostponed: the same, for a reason that passes, such as a full disk.
            BundleError: the bundle's files are not what they should be.
        """
        if not exactly:
            shape = fit(bundle.manifest.lowering, bundle.manifest.shapes, *shape).bucket
        source = BundleSource(bundle, shape, n_coils)
        cache = cache or EngineCache()
        workshop = Workshop(source, cache, progress)
        candidates = workshop.candidates(NAMES if name == "auto" else (name,), precision, build=build)
        runners = Runners(source)
        times = Timekeeper(runners, cache, progress).times(candidates, measure=build)
        choice = rank(candidates, times, deadline_ms)
        postponed = any(one.postponed for one in candidates)
        while (chosen := choice.chosen) is not None:
            (candidate,) = (
                one
                for one in candidates
                if (one.backend, one.precision) == (chosen.backend, chosen.precision)
            )
            assert candidate.entry is not None
            try:
                runner = runners.load(candidate.entry)
            except (EngineError, OSError) as error:
                logger.warning("engine %s %s is not used: %s", chosen.backend, chosen.precision, error)
                postponed |= passes(error)
                choice = choice.failed(chosen, str(error))
                continue
            return cls(source, runner, choice, candidate.entry.report)
        if any(one.unbuilt for one in candidates):
            coils = "" if source.n_coils is None else f" and {source.n_coils} coils"
            size = "×".join(map(str, source.shape))
            raise EngineNotBuilt(
                f"no engine of '{bundle.name}' for {size}{coils} has been built on this machine"
            )
        wanted = "engine" if name == "auto" else f"engine of the backend '{name}'"
        kind = EnginePostponed if postponed else EngineError
        raise kind(f"no {wanted} of bundle '{bundle.name}' can be used on this machine:\n{choice}")

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.report.backend

    @property
    def provenance(self) -> dict[str, str]:
        """What made an image, for its meta: bundle, weights, backend, precision, versions and machine."""
        report = self.report
        return {
            "bundle": self.bundle.name,
            "bundle_version": self.bundle.manifest.version,
            "weights_sha256": self.bundle.manifest.weights_sha256,
            "signed_by": str(self.bundle.signer or "no one"),
            "backend": report.backend,
            "precision": report.precision,
            "shape": "×".join(
                map(str, self.shape if self.n_frames is None else (self.n_frames, *self.shape))
            ),
            "versions": ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items())),
            "hardware": report.hardware,
            "accepted": report.created.isoformat(timespec="seconds"),
        }

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Run the network.

        Args:
            inputs: as `form` lists them, float32, batch 1, normalised. They may be of a smaller
                size than the engine's, unless its lowering is ``fft`` or the network of a fixed size.

        Returns:
            The output ``(1, channel, k1, k0)``, of a window ``(1, channel, time, k1, k0)``, in the size and on the
            device of the first input.

        Raises:
            ShapeError: an input has a shape that this engine was not made for.
        """
        if not inputs:
            raise ShapeError("an engine was called without inputs")
        if self.n_frames is not None:
            check_frames(self.bundle.manifest.shapes, inputs[0].shape[2] if inputs[0].ndim == 5 else 1)
        place = self._place(inputs[0])
        if place is not None:
            inputs = self._padded(place, inputs)
        device = inputs[0].device
        if device.type not in ("cpu", self._runner.device):
            inputs = tuple(one.cpu() for one in inputs)
        result = self._runner(*(one.contiguous() for one in inputs)).to(device)
        return result if place is None else place.crop(result).contiguous()

    def traced(self, *inputs: torch.Tensor) -> torch.Tensor:
        """As a call, but by the bundle's fp32 graph as PyTorch runs it, so that gradients go back to the inputs.

        Args:
            inputs: as of a call.

        Raises:
            BundleError: the graph cannot be read.
        """
        place = self._place(inputs[0])
        result: torch.Tensor = self._graph(*(inputs if place is None else self._padded(place, inputs)))
        return result if place is None else place.crop(result)

    @cached_property
    def _graph(self) -> BoundGraph:
        return bind(self._source)

    def _place(self, image: torch.Tensor) -> Fit | None:
        """How an image is padded; None where it is not."""
        manifest = self.bundle.manifest
        if manifest.lowering == "fft" or manifest.shapes.fixed or tuple(image.shape[-2:]) == self.shape:
            return None
        size = (image.shape[-2], image.shape[-1])
        if size[0] > self.shape[0] or size[1] > self.shape[1]:
            raise ShapeError(
                f"an image of {size[0]}×{size[1]} does not fit into this engine of {self.shape[0]}×{self.shape[1]}: "
                "load the engine for its size"
            )
        return Fit(size, self.shape)

    def _padded(self, place: Fit, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        larger = place.reflected if self.form.lowering == "none" else place.surround
        return larger(self.form.inputs, inputs)
