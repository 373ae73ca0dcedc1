"""One bundle in a stage: its engines by size, and their inputs from k-space.

An image goes to the smallest engine that holds it of those that were prepared, else of those that were built on this
machine, unless they are much larger than the image. Else the network runs as PyTorch runs it, in the image's own size
(`scanside.engines.at_hand`): no image does without a network for its size alone, up to the largest that it takes.
"""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

import torch

from scanside.context import Context
from scanside.engines.at_hand import AtHand
from scanside.engines.backends.eager import Eager
from scanside.engines.build import built_shapes
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import find_bundle, manifest_sha256, split_pin
from scanside.engines.columns import column_inputs, column_inputs_of_two, column_weight
from scanside.engines.engine import Engine
from scanside.engines.manifest import ColumnsForm, PrecisionChoice
from scanside.engines.roles import ROLES, Known, contrast_role, inputs_of, is_role
from scanside.engines.shapes import fit, holds, own_size
from scanside.engines.trust import TrustPolicy
from scanside.errors import BundleError, ConfigError, EngineError, EngineNotBuilt, ScansideError, ShapeError
from scanside.items import Calibration, KSpace
from scanside.mrd.header import MrdHeader
from scanside.recon.columns import MAX_ROWS
from scanside.recon.noncartesian.toeplitz import split_kernel
from scanside.recon.scaling import film_scale, image_scale
from scanside.recon.stacked import StackedMaps
from scanside.stages._columns import Columns
from scanside.stages._fitness import SENSE_IMAGES
from scanside.stages._sequence import SequenceNumbers, contrast_counters

__all__ = ["Learned"]

logger = logging.getLogger(__name__)

_Key = tuple[tuple[int, int], int | None]

_ADJOINT = ("adjoint", "zero-filled")


class Learned:
    """One bundle and its engines, loaded by the size of their images.

    Args:
        name: of the bundle, or its path; may be pinned.
        policy: what is asked of it.
        backend: ``auto`` or one that must be used.
        precision: ``auto`` or one that must be used.
        deadline_ms: time that an engine may take; None for any.
        anywhere: whether it is to take samples anywhere in k-space, rather than lines of a grid.

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
        *,
        anywhere: bool = False,
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
        self._others: dict[_Key, Engine] = {}
        self._serving: dict[_Key, Engine] = {}
        self._at_hand = AtHand(self.bundle)
        self._columns = Columns(MAX_ROWS)
        self._expected_weight = self._smallest_weight
        self._sequence = SequenceNumbers({})
        if self.manifest.input_image not in (*_ADJOINT, *SENSE_IMAGES):
            raise ConfigError(
                f"bundle '{self.bundle.name}' wants an input image '{self.manifest.input_image}', which this stage "
                f"cannot make: it makes {', '.join((*_ADJOINT, *SENSE_IMAGES))}"
            )
        strange = [spec.name for spec in self.manifest.inputs if not is_role(spec.name)]
        if strange:
            raise ConfigError(
                f"bundle '{self.bundle.name}' wants the role '{strange[0]}', which this stage cannot make of a scan: "
                f"it makes {', '.join(sorted(ROLES))} and contrast:NAME"
            )
        if any(spec.name == "toeplitz" for spec in self.manifest.inputs) != anywhere:
            what, other = "samples anywhere in k-space", "noncartesian-engine"
            if anywhere:
                what, other = "lines of a grid", "engine"
            raise ConfigError(
                f"bundle '{self.bundle.name}' takes {what}, which are for another stage: name it in '{other}'"
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
        return (*self._engines.values(), *self._others.values(), *self._at_hand.engines)

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
        counts = {shapes.coils_for(n) for n in coil_counts} or {None}
        for size in tuple(sizes) or (min(shapes.buckets),):
            for n_coils in sorted(counts, key=lambda n: n or 0):
                context.check()
                key = self._key(size, n_coils)
                if key in self._engines:
                    continue
                try:
                    self._engines[key] = self._load(key, build=context.builds_engines, tell=context.tell)
                except EngineError as error:
                    if context.builds_engines:
                        raise
                    logger.warning("%s: %s builds it", error, self._command(*key))

    def coils_for(self, size: tuple[int, int], n_coils: int) -> int | None:
        """How many coils its engine for an image of so many takes; None where any number, or no such image."""
        try:
            return self._key(size, n_coils)[1]
        except ShapeError:
            return None

    def expect(self, size: tuple[int, int], coil_counts: Iterable[int], context: Context) -> None:
        """Have an engine ready for images that are announced: one of the sizes that the bundle lists is built.

        For other sizes none is, which would take minutes for each: images go to what is there, or at hand.

        Raises:
            EngineError: none can be used on this machine.
            ShapeError: the bundle takes no such images.
        """
        if fit(self.manifest.lowering, self.manifest.shapes, *size).bucket in self.manifest.shapes.buckets:
            self.prepare([size], coil_counts, context)

    def engine(self, size: tuple[int, int], n_coils: int) -> Engine | None:
        """The engine for an image of those that were prepared; None where it fits into none of them."""
        serving = self._serve(self._engines, size, n_coils)
        return self._engines[serving[0]] if serving else None

    def engine_now(self, size: tuple[int, int], n_coils: int) -> Engine:
        """The engine for an image while a scan is running, where none was prepared: nothing is built.

        Raises:
            ShapeError: the bundle takes no such images.
            EngineNotBuilt: there is none, as a backend or a precision is asked for; says how to build it.
            EngineError: none can be used on this machine.
        """
        key = (size, n_coils)
        if key not in self._serving:
            self._serving[key] = self._built(size, n_coils) or self._own(size, n_coils)
        return self._serving[key]

    def strip_engine(self, engine: Engine, width: int, context: Context) -> Engine:
        """The same as an engine of this network, but for strips of so many columns of its images.

        Where there is none such, and none may be built, it is the network as PyTorch runs it.

        Args:
            engine: for whole images.
            width: a multiple of what the network needs.
            context: says whether it may be built now.

        Raises:
            EngineError: none can be used on this machine.
        """
        key = (engine, width)
        if key not in self._strips:
            self._strips[key] = self._strip(engine, (engine.shape[0], width), context)
        return self._strips[key]

    def _strip(self, engine: Engine, shape: tuple[int, int], context: Context) -> Engine:
        if engine in self._at_hand.engines:
            return self._at_hand.engine(shape, engine.n_coils, "as for the whole image")
        try:
            return Engine.load(
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
            logger.info("%s: the network checks itself as PyTorch runs it", error)
            return self._at_hand.engine(shape, engine.n_coils, str(error))

    def close(self) -> None:
        """Forget what was made for the maps of a scan, and which engines served it: others may be built meanwhile."""
        self._columns.close()
        self._serving = {}
        self._expected_weight = self._smallest_weight

    def _serve(self, keys: Iterable[_Key], size: tuple[int, int], n_coils: int) -> list[_Key]:
        """Of shapes of engines and their coils, those that serve an image; the smallest first."""
        lowering, shapes = self.manifest.lowering, self.manifest.shapes
        serving = {
            key
            for key in keys
            if key[1] == self._coils(key[0], n_coils) and holds(lowering, shapes, key[0], size)
        }
        return sorted(serving, key=lambda key: (math.prod(key[0]), key[0]))

    def _built(self, size: tuple[int, int], n_coils: int) -> Engine | None:
        """The smallest engine for an image that was built on this machine earlier, and can be used."""
        for key in self._serve(built_shapes(self.bundle), size, n_coils):
            try:
                if key not in self._others:
                    self._others[key] = self._load(key, build=False)
                return self._others[key]
            except EngineNotBuilt:  # but with other versions, or for another backend than is asked for
                continue
            except EngineError as error:
                logger.warning("%s", error)
        return None

    def _own(self, size: tuple[int, int], n_coils: int) -> Engine:
        """The network as it is, in the size of an image."""
        key = self._key(size, n_coils)
        why = f"no engine of '{self.name}' for {_text(*key)} has been built on this machine"
        command = self._command(*key)
        if self._backend not in ("auto", Eager.name) or self._precision not in ("auto", "fp32"):
            raise EngineNotBuilt(
                f"{why}, and none is built while a scan waits: build it, as the user that reconstructs, with "
                f"'{command}'"
            )
        shape = own_size(self.manifest.lowering, self.manifest.shapes, *size)
        engine = self._at_hand.engine(
            shape,
            self._coils(shape, n_coils),
            f"the network as PyTorch runs it, as {why}: '{command}' may give a faster one",
        )
        logger.info("engine %s: %s", self.bundle.name, engine.choice)
        return engine

    def open(self, header: MrdHeader) -> str | None:
        """A new scan: why it cannot be reconstructed, by what its header lacks; None where it can."""
        self._sequence = SequenceNumbers.of(header, self.manifest.parameters)
        if not self._sequence.lacking:
            return None
        return (
            f"'{self.name}' is told numbers of the scan that its header does not give: "
            f"{'; '.join(self._sequence.lacking)}"
        )

    def counters(self, item: KSpace, image: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The counters ``contrast`` of a k-space's readouts, as far as what the network is told hangs on them.

        Args:
            item: the k-space.
            image: index along its other axes; all of it where there is none.
        """
        return contrast_counters(item, image) if self.manifest.parameters else ()

    def told_untrained(self, item: KSpace) -> tuple[str, ...]:
        """Numbers of the scan that the network is told, and did not meet in training."""
        return tuple(self._sequence.differences(self.manifest.parameters, self.counters(item)))

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
        second: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        contrasts: Mapping[str, torch.Tensor] = MappingProxyType({}),
        counters: Sequence[int] = (0,),
    ) -> tuple[torch.Tensor, ...]:
        """The inputs of an engine, in the image's own size; those of the engine may be larger.

        Args:
            engine: of this network.
            image: ``(y, x)`` complex, or ``(time, y, x)`` where the network takes windows; what the manifest says of
                the input image, divided by its scale.
            maps: ``(coil, y, x)`` complex.
            mask: ``(k1,)`` or ``(time, k1)``, sampled lines.
            noise: scalar, standard deviation of the noise's real part in a coil's voxels, divided by the same scale.
            second: image and maps of a second set, where there is one; only an engine that is given its columns can
                do with it.
            contrasts: images ``(y, x)`` of other contrasts by their names, as `scanside.items.KSpace.contrasts`.
            counters: ``contrast`` of the image's readouts, by which echo times are told apart.

        Raises:
            Refused: the scan's header has no number for this image that the network takes.
        """
        form = engine.form
        at_hand = {contrast_role(name): one[None, None] for name, one in contrasts.items()}
        if self._magnitude:
            at_hand["image"] = image.abs()[None, None]
        known = Known(
            form.lowering,
            image=image[None],
            maps=self._padded(maps, engine.n_coils)[None],
            mask=mask[None, ..., None],
            noise=noise,
            parameters=tuple(one.name for one in self.manifest.parameters),
            sequence={
                name: image.real.new_tensor([value]) for name, value in self._sequence.at(counters).items()
            },
            exact=partial(self._solved, form, image, maps, mask, noise, second)
            if isinstance(form, ColumnsForm)
            else None,
            at_hand=at_hand,
        )
        return inputs_of((spec.name for spec in form.inputs), known)

    def inputs_anywhere(
        self,
        engine: Engine,
        image: torch.Tensor,
        maps: torch.Tensor,
        kernel: torch.Tensor,
        noise: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """The inputs of an engine for samples anywhere in k-space, in the image's own size.

        Args:
            engine: of this network.
            image: ``(y, x)`` complex, ``Aᴴ W y`` divided by its scale.
            maps: ``(coil, y, x)`` complex.
            kernel: ``(2 y, 2 x)``, from `scanside.recon.noncartesian.toeplitz.toeplitz_kernel`.
            noise: scalar, standard deviation of the noise's real part in the voxels of ``Fᴴ W y``, scaled.
        """
        known = Known(
            engine.form.lowering,
            image=image[None],
            maps=self._padded(maps, engine.n_coils)[None],
            noise=noise,
            at_hand={"toeplitz": split_kernel(kernel)[None]},
        )
        return inputs_of((spec.name for spec in engine.form.inputs), known)

    def _solved(
        self,
        form: ColumnsForm,
        image: torch.Tensor,
        maps: torch.Tensor,
        mask: torch.Tensor,
        noise: torch.Tensor,
        second: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What data consistency by columns needs ready made; the arguments are those of `inputs`."""
        weight = column_weight(form, noise)
        if weight != self._expected_weight:
            self._expected_weight = None
        stacked = StackedMaps(maps, None if second is None else second[1])
        system = self._columns.system(stacked, mask, weight)
        if second is None:
            return column_inputs(image, maps, system)
        return column_inputs_of_two(torch.stack((image, second[0])), stacked, system)

    @staticmethod
    def _padded(maps: torch.Tensor, n_coils: int | None) -> torch.Tensor:
        """Maps ``(coil, y, x)`` of so many coils as an engine takes: the others are empty."""
        if n_coils is None or n_coils <= len(maps):
            return maps
        return torch.cat((maps, maps.new_zeros(n_coils - len(maps), *maps.shape[1:])))

    def second_image(
        self,
        engine: Engine,
        right: torch.Tensor,
        maps: torch.Tensor,
        mask: torch.Tensor,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """The image ``(y, x)`` of a second set of maps once the first one is known.

        Args:
            engine: of this network, given its columns: its λ is that of the second image.
            right: ``(y, x)``, ``A₂ᴴ (y − A₁ x₁)``.
            maps: ``(coil, y, x)`` of the second set.
            mask: ``(k1,)``, sampled lines.
            noise: as `inputs`.
        """
        assert isinstance(engine.form, ColumnsForm)
        if not bool(maps.any()):
            return torch.zeros_like(right)
        alone = StackedMaps(maps[:, :0], maps)
        system = self._columns.system(alone, mask, column_weight(engine.form, noise))
        both = torch.stack((torch.zeros_like(right), right))
        return alone.apart(system.solve(alone.stacked(both)))[1]

    def image(self, output: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """The image complex ``(*, y, x)`` from an engine's output ``(1, 1|2, *, y, x)`` and the image at its input.

        A network of magnitudes leaves the phase as it was.
        """
        if self._magnitude:
            return output[0, 0] * torch.sgn(image)
        return torch.complex(output[0, 0], output[0, 1])

    def uncertainty(self, output: torch.Tensor) -> torch.Tensor | None:
        """The error to be expected of each voxel ``(*, y, x)``, from an engine's output, of networks that tell it."""
        found = self.manifest.uncertainty
        return None if found is None else found.factor * output[0, -1]

    @property
    def _smallest_weight(self) -> float | None:
        """Of data consistency that is solved by columns; None where it is not."""
        return None if self.manifest.columns is None else column_weight(self.manifest.columns, 0.0)

    @property
    def _magnitude(self) -> bool:
        return self.manifest.inputs[0].axes[1] == 1

    def _key(self, size: tuple[int, int], n_coils: int | None) -> _Key:
        """What is built for images of a size."""
        shape = fit(self.manifest.lowering, self.manifest.shapes, *size).bucket
        return shape, self._coils(shape, n_coils)

    def _coils(self, shape: tuple[int, int], n_coils: int | None) -> int | None:
        """Coils of an engine of a shape; None where none go in."""
        form = self.manifest.form(self.manifest.form_for(shape))
        return None if n_coils is None or not form.takes_coils else self.manifest.shapes.coils_for(n_coils)

    def _load(self, key: _Key, *, build: bool, tell: Callable[[str], None] = logger.info) -> Engine:
        shape, n_coils = key
        engine = Engine.load(
            self.bundle,
            shape,
            n_coils,
            exactly=True,
            name=self._backend,
            precision=self._precision,
            build=build,
            deadline_ms=self._deadline_ms,
            progress=lambda step: tell(f"engine of {self.bundle.name}: {step}"),
        )
        logger.info("engine %s: %s", self.bundle.name, engine.choice)
        return engine

    def _command(self, shape: tuple[int, int], n_coils: int | None) -> str:
        """What builds an engine."""
        command = ["scanside", "engines", "build", self._asked, "--bucket", f"{shape[0]}x{shape[1]}"]
        if n_coils is not None:
            command += ["--coils", str(n_coils)]
        if self._backend != "auto":
            command += ["--backend", self._backend]
        return shlex.join(command)


def _text(shape: tuple[int, int], n_coils: int | None) -> str:
    return f"{shape[0]}×{shape[1]}" + ("" if n_coils is None else f" and {n_coils} coils")
