"""One bundle in a stage: its engines by size, and their inputs from k-space."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable
from typing import Literal

import torch

from scanside.context import Context
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import find_bundle, manifest_sha256, split_pin
from scanside.engines.columns import column_inputs, column_weight
from scanside.engines.engine import Engine
from scanside.engines.manifest import ColumnsForm, PrecisionChoice
from scanside.engines.shapes import fit
from scanside.engines.trust import TrustPolicy
from scanside.errors import BundleError, ConfigError, EngineError, EngineNotBuilt, ScansideError
from scanside.items import Calibration
from scanside.recon.consistency import film_sampling_inputs, sampling_inputs
from scanside.recon.scaling import film_scale, image_scale
from scanside.stages._columns import Columns

__all__ = ["Learned"]

logger = logging.getLogger(__name__)

_Key = tuple[tuple[int, int], int | None]

_ADJOINT = ("adjoint", "zero-filled")
_CLASSICAL = ("cg-sense", "sense")


class Learned:
    """One bundle and its engines, loaded by the size of their images.

    Args:
        name: of the bundle, or its path; may be pinned.
        policy: what is asked of it.
        backend: ``auto`` or one that must be used.
        precision: ``auto`` or one that must be used.
        deadline_ms: time that an engine may take; None for any.

    Raises:
        BundleError: its files are not what they should be.
        BundleNotFound: there is none, or not what it is pinned to.
        ConfigError: its input is an image that nothing here makes.
    """

    def __init__(
        self,
        name: str,
        policy: TrustPolicy,
        backend: str,
        precision: PrecisionChoice,
        deadline_ms: float | None = None,
    ) -> None:
        self._asked = name
        self.bundle = Bundle.open(find_bundle(name), policy)
        _, pin = split_pin(name)
        if pin is not None and not self.bundle.sha256.startswith(pin):
            raise BundleError(f"{self.bundle.folder} was replaced while it was opened: open it again")
        self.manifest = self.bundle.manifest
        self._backend, self._precision, self._deadline_ms = backend, precision, deadline_ms
        self._engines: dict[_Key, Engine] = {}
        self._strips: dict[tuple[Engine, int], Engine] = {}
        self._columns = Columns()
        self._expected_weight = self._smallest_weight
        if self.manifest.input_image not in (*_ADJOINT, *_CLASSICAL):
            raise ConfigError(
                f"bundle '{self.bundle.name}' wants an input image '{self.manifest.input_image}', which this stage "
                f"cannot make: it makes {', '.join((*_ADJOINT, *_CLASSICAL))}"
            )
        if self.n_frames is not None and self.wants != "adjoint":
            raise ConfigError(
                f"bundle '{self.bundle.name}' wants films of '{self.manifest.input_image}' images, which this stage "
                f"does not make: it makes {', '.join(_ADJOINT)} ones"
            )

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.bundle.name

    def outdated(self) -> str | None:
        """In what the bundle that its name finds now differs from this one; None where it is the same."""
        try:
            folder = find_bundle(self._asked)
        except ScansideError as error:
            return str(error)
        if (now := manifest_sha256(folder)) == self.bundle.sha256:
            return None
        return f"bundle '{self._asked}' was sha256:{self.bundle.sha256[:16]}… and is sha256:{now[:16]}… now"

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Those that are loaded."""
        return tuple(self._engines.values())

    @property
    def n_frames(self) -> int | None:
        """Length of the windows that it takes; None where it takes images one by one."""
        return self.manifest.shapes.frames

    @property
    def wants(self) -> Literal["adjoint", "sense"]:
        """The image at its input: ``Aᴴ y``, or that of CG-SENSE."""
        return "adjoint" if self.manifest.input_image in _ADJOINT else "sense"

    def prepare(self, sizes: Iterable[tuple[int, int]], coil_counts: Iterable[int], context: Context) -> None:
        """Load and warm up engines for images ``(k1, k0)``; by default for the smallest bucket.

        Where the context says so, those that are missing are built and accepted first. If not, an image that needs
        one of them tells of it.

        Raises:
            EngineError: none can be used on this machine, although it may be built.
            ShapeError: the bundle takes no such images.
        """
        shapes = self.manifest.shapes
        counts: set[int | None] = {None}
        if shapes.coils is not None:
            counts = {shapes.coils_for(n) for n in coil_counts} - {None}
        for size in tuple(sizes) or (min(shapes.buckets),):
            for n_coils in sorted(counts, key=lambda n: n or 0):
                context.check()
                try:
                    self._load(self._key(size, n_coils), build=context.builds_engines, tell=context.tell)
                except EngineError as error:
                    if context.builds_engines:
                        raise
                    logger.warning("%s", error)

    def engine(self, size: tuple[int, int], n_coils: int) -> Engine | None:
        """The engine for an image, where one is loaded."""
        return self._engines.get(self._key(size, n_coils))

    def load_built(self, size: tuple[int, int], n_coils: int) -> Engine:
        """An engine for an image while a scan is running: one that was built earlier.

        Raises:
            EngineNotBuilt: there is none; says how to build it.
            EngineError: none can be used on this machine.
        """
        return self._load(self._key(size, n_coils), build=False)

    def strip_engine(self, engine: Engine, width: int, context: Context) -> Engine:
        """The same as an engine of this network, but for strips of so many columns of its images.

        Args:
            engine: for whole images.
            width: a multiple of what the network needs.
            context: says whether it may be built now.

        Raises:
            EngineNotBuilt: there is none, and none may be built; says how.
            EngineError: none can be used on this machine.
        """
        key = (engine, width)
        if key not in self._strips:
            shape = (engine.shape[0], width)
            try:
                self._strips[key] = Engine.load(
                    self.bundle,
                    shape,
                    engine.n_coils,
                    exactly=True,
                    name=engine.backend,
                    precision=engine.report.precision,
                    build=context.builds_engines,
                    progress=lambda step: context.tell(f"engine of {self.bundle.name}: {step}"),
                )
            except EngineNotBuilt as error:
                raise EngineNotBuilt(
                    f"{error}: '{self._command(shape, engine.n_coils)}' builds it"
                ) from error
        return self._strips[key]

    def close(self) -> None:
        """Forget what was made for the maps of a scan."""
        self._columns.close()
        self._expected_weight = self._smallest_weight

    def begin(self, item: Calibration) -> None:
        """Begin what images to come will need, as their maps and lines are known: factorised columns.

        The weight of the data depends on data that are still to come. It is the smallest one in quiet scans; in
        others, nothing is begun after the first image.
        """
        if self._expected_weight is not None:
            self._columns.begin(item, self._expected_weight)

    def scale(self, image: torch.Tensor) -> torch.Tensor:
        """What an input image ``(*, y, x)`` is divided by, and the result multiplied with, as in training.

        A window ``(time, y, x)`` has one scale.
        """
        scale_of = image_scale if self.n_frames is None else film_scale
        return scale_of(image, self.manifest.normalisation.quantile)

    def inputs(
        self,
        engine: Engine,
        image: torch.Tensor,
        maps: torch.Tensor,
        mask: torch.Tensor,
        noise: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """The inputs of an engine, in the image's own size; those of the engine may be larger.

        Args:
            engine: of this network.
            image: ``(y, x)`` complex, or ``(time, y, x)`` where the network takes windows; what the manifest says of
                the input image, divided by its scale.
            maps: ``(coil, y, x)`` complex.
            mask: ``(k1,)`` or ``(time, k1)``, sampled lines.
            noise: scalar, standard deviation of the noise's real part in a coil's voxels, divided by the same scale.
        """
        if self._magnitude:
            return (image.abs()[None, None],)
        if isinstance(engine.form, ColumnsForm):
            weight = column_weight(engine.form, noise)
            if weight != self._expected_weight:
                self._expected_weight = None
            return column_inputs(image, maps, self._columns.system(maps, mask, weight))
        first = torch.view_as_real(image).movedim(-1, 0).contiguous()[None]
        if self.manifest.lowering == "none":
            return (first,)
        planes = torch.view_as_real(maps).movedim(-1, -3).contiguous()[None]
        known = {"image": first, "maps": planes, "noise": noise.view(1, 1, 1, 1)}
        make = sampling_inputs if self.n_frames is None else film_sampling_inputs
        sampling = iter(make(self.manifest.lowering, mask[None, ..., None]))
        names = [spec.name for spec in self.manifest.inputs]
        return tuple(known[name] if name in known else next(sampling) for name in names)

    def image(self, output: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """The image complex ``(*, y, x)`` from an engine's output ``(1, 1|2, *, y, x)`` and the image at its input.

        A network of magnitudes leaves the phase as it was.
        """
        if self._magnitude:
            return output[0, 0] * torch.sgn(image)
        return torch.complex(output[0, 0], output[0, 1])

    @property
    def _smallest_weight(self) -> float | None:
        """Of data consistency that is solved by columns; None where it is not."""
        return None if self.manifest.columns is None else column_weight(self.manifest.columns, 0.0)

    @property
    def _magnitude(self) -> bool:
        return self.manifest.inputs[0].axes[1] == 1

    def _key(self, size: tuple[int, int], n_coils: int | None) -> _Key:
        place = fit(self.manifest.lowering, self.manifest.shapes, *size)
        form = self.manifest.form(self.manifest.form_for(place.bucket))
        return place.bucket, n_coils if form.takes_coils else None

    def _load(self, key: _Key, *, build: bool, tell: Callable[[str], None] = logger.info) -> Engine:
        if key not in self._engines:
            shape, n_coils = key
            try:
                engine = Engine.load(
                    self.bundle,
                    shape,
                    n_coils,
                    name=self._backend,
                    precision=self._precision,
                    build=build,
                    deadline_ms=self._deadline_ms,
                    progress=lambda step: tell(f"engine of {self.bundle.name}: {step}"),
                )
            except EngineNotBuilt as error:
                raise EngineNotBuilt(
                    f"{error}, and none is built while a scan waits: build it, as the user that reconstructs, with "
                    f"'{self._command(shape, n_coils)}'"
                ) from error
            logger.info("engine %s: %s", self.bundle.name, engine.choice)
            self._engines[key] = engine
        return self._engines[key]

    def _command(self, shape: tuple[int, int], n_coils: int | None) -> str:
        """What builds an engine."""
        command = ["scanside", "engines", "build", self._asked, "--bucket", f"{shape[0]}x{shape[1]}"]
        if n_coils is not None:
            command += ["--coils", str(n_coils)]
        if self._backend != "auto":
            command += ["--backend", self._backend]
        return shlex.join(command)
