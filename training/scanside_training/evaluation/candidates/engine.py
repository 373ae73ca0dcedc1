"""Engines from bundles: the accepted one that is fastest here, or the one that is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field
from torch.utils.data import default_collate

from scanside.engines.bundle import Bundle
from scanside.engines.catalog import find_bundle
from scanside.engines.engine import Engine
from scanside.engines.manifest import ColumnsForm, PrecisionChoice
from scanside.engines.roles import inputs_of
from scanside.errors import ConfigError
from scanside.recon.scaling import image_scale
from scanside_training.evaluation.candidates.base import CandidateConfig, Job, Silent, image_of, problem_of
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.inputs import image_input, known_of, known_of_image
from scanside_training.models.base import known_in

__all__ = ["EngineOf"]


class EngineOf(CandidateConfig):
    """An engine of a bundle. One that is missing on this machine is built and judged first."""

    kind: Literal["engine"] = "engine"
    bundle: str
    """Name of the bundle, or its folder (with a ``/``)."""
    backend: str = "auto"
    """``auto`` for the fastest that was accepted."""
    precision: PrecisionChoice = "auto"
    l2: float = Field(default=0.002, ge=0)
    """Of the CG-SENSE image at the input, where the bundle wants one."""
    iterations: int = Field(default=15, ge=1)
    """The same: most steps of conjugate gradients."""

    @property
    def label(self) -> str:
        """Name where none is given."""
        choice = [one for one in (self.backend, self.precision) if one != "auto"]
        return " ".join([self.bundle.rstrip("/").rpartition("/")[2], *choice])

    def open(self) -> _Engine:
        """The bundle, checked; its engines are loaded when the size of images is known.

        Raises:
            BundleNotFound: there is none.
            BundleError: its files are not what they should be.
        """
        return _Engine(self)


@dataclass(frozen=True, eq=False)
class _Call:
    """An engine with its inputs, to be called.

    Attributes:
        engine: that makes the image.
        inputs: makes them; what belongs to a reconstruction, such as solving, is done here and not before.
        scale: of the data.
    """

    engine: Engine
    inputs: Callable[[], tuple[torch.Tensor, ...]]
    scale: torch.Tensor


class _Engine(Silent):
    timed = True

    def __init__(self, config: EngineOf) -> None:
        self._config = config
        self._bundle = Bundle.open(find_bundle(config.bundle))
        self._engines: dict[tuple[int, ...], Engine] = {}
        manifest = self._bundle.manifest
        self.n_parameters = manifest.n_parameters
        self.facts = {"bundle": f"{manifest.name} {manifest.version}"}

    def job(self, case: Case) -> Job:
        call = self._prepared(case)
        return lambda: self._image_of(call.engine(*call.inputs())) * call.scale

    def traced(self, case: Case) -> torch.Tensor:
        """See `Traceable`."""
        call = self._prepared(case)
        return self._image_of(call.engine.traced(*call.inputs())) * call.scale

    def _prepared(self, case: Case) -> _Call:
        task = self._bundle.manifest.task
        if case.is_film != (task == "dynamic"):
            raise ConfigError(
                f"the data are {'films' if case.is_film else 'single images'}, and bundle "
                f"'{self._bundle.manifest.name}' takes {'single images' if case.is_film else 'films'}"
            )
        return {"image": self._image, "unrolled": self._unrolled, "dynamic": self._film}[task](case)

    def _image(self, case: Case) -> _Call:
        manifest, config = self._bundle.manifest, self._config
        channels = manifest.inputs[0].axes[1]
        if case.problem is None:
            image, scale = case.sample["image"], torch.ones(())
            if len(image) != channels:
                raise ConfigError(
                    f"the data's images have {len(image)} channel(s), and the bundle takes {channels}"
                )
        else:
            kind: Literal["zero-filled", "cg-sense"] = (
                "cg-sense" if manifest.input_image in ("cg-sense", "sense") else "zero-filled"
            )
            found, scale = image_input(case.problem, kind, config.l2, config.iterations)
            image = found.abs()[None] if channels == 1 else torch.stack((found.real, found.imag))
        engine = self._engine(image.shape[-2], image.shape[-1], None)
        told = tuple(one.name for one in manifest.parameters)
        inputs = inputs_of((spec.name for spec in manifest.inputs), known_of_image(case, image, told))
        return _Call(engine, lambda: inputs, scale)

    def _unrolled(self, case: Case) -> _Call:
        manifest, problem = self._bundle.manifest, problem_of(case)
        scale = (
            torch.ones(())
            if case.sample
            else image_scale(problem.adjoint.detach(), manifest.normalisation.quantile)
        )
        n1, n0 = problem.adjoint.shape
        engine = self._engine(n1, n0, len(problem.maps))
        form = engine.form
        known = known_of(problem, form.lowering, scale, form if isinstance(form, ColumnsForm) else None)
        # Solving is part of what is timed, as in other engines, and factorising is not.
        roles = [spec.name for spec in form.inputs]
        return _Call(engine, lambda: inputs_of(roles, replace(known)), scale)

    def _film(self, case: Case) -> _Call:
        manifest = self._bundle.manifest
        if len(case.whole) != manifest.shapes.frames:
            raise ConfigError(
                f"bundle '{manifest.name}' takes films of {manifest.shapes.frames} frames, and these are "
                f"{case.whole.shape}"
            )
        batch = default_collate([case.sample])
        n_coils = None if manifest.shapes.coils is None else batch["maps"].shape[1]
        inputs = inputs_of((spec.name for spec in manifest.inputs), known_in(batch, manifest.lowering))
        n1, n0 = batch["image"].shape[-2:]
        engine = self._engine(n1, n0, n_coils)
        return _Call(engine, lambda: inputs, torch.ones(()))

    def _image_of(self, output: torch.Tensor) -> torch.Tensor:
        return image_of(output[0, : self._bundle.manifest.outputs[0].axes[1]])

    def _engine(self, k1: int, k0: int, n_coils: int | None) -> Engine:
        key = (k1, k0, n_coils or 0)
        if key not in self._engines:
            config = self._config
            engine = Engine.load(
                self._bundle, (k1, k0), n_coils, name=config.backend, precision=config.precision
            )
            self._engines[key] = engine
            self.facts["backend"] = f"{engine.backend} {engine.report.precision}"
        return self._engines[key]
