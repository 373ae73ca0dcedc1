"""The inputs on which engines are compared with their network: real ones at any size, and hard ones.

A bundle brings a few small real cases (*vectors*): named ``<case>.<what>``, normalised as in training.

========== ======================================================================================
task        tensors of a case, float32
========== ======================================================================================
image       ``image`` (1 or 2, k1, k0), ``truth`` (same); where the sampling is known, ``mask`` as below; where the
            network takes them, ``contrast:NAME`` (1, k1, k0)
unrolled    ``truth`` (2, k1, k0), ``maps`` (coil, 2, k1, k0), ``mask`` (k1, 1 or k0), centred; where the
            network takes it, ``noise`` (): standard deviation per coil and voxel of an orthonormal transform. Of
            samples anywhere in k-space ``points`` (readout, sample, 2) in cycles per voxel instead of the mask
dynamic     as ``unrolled`` with ``truth`` (2, time, k1, k0) and ``mask`` (time, k1, 1); without data
            consistency as ``image``, with a time axis
all         where the network takes them, ``parameters`` (n,), the role of that name
========== ======================================================================================

Engines have static shapes, so the cases are brought to the engine's size by reflection around their centre. For
networks with data consistency that is done with truth, maps and mask, from which ``Aᴴ A x`` is computed again: the
data stay consistent with the image, as those of a scan are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import torch

from scanside.engines.backends.base import InputShape
from scanside.engines.columns import column_inputs, column_weight
from scanside.engines.manifest import ColumnsForm, Lowering, Task
from scanside.engines.roles import Known, contrast_of, inputs_of
from scanside.engines.shapes import Fit, reflect
from scanside.errors import BundleError
from scanside.recon.columns import factorise
from scanside.recon.film_start import STARTS
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noncartesian.density import gridded_noise, interleaved_density, within_cells
from scanside.recon.noncartesian.nufft import Nufft
from scanside.recon.noncartesian.toeplitz import split_kernel, toeplitz_kernel

__all__ = [
    "LARGEST_VECTORS",
    "Case",
    "Network",
    "Probe",
    "each_probe",
    "make_probes",
    "read_cases",
    "real_inputs",
    "real_probe",
    "resized",
    "vectors_of",
    "with_coils",
]

LARGEST_VECTORS = 2**20
"""Bytes that the vectors of a bundle should stay below."""

_WEAK, _STRONG = 1e-5, 1e5
_ACS_ONLY = 8
_POINTS = "points"
_NOISE_LEVEL = 0.01  # of a quiet scan: data consistency has most to do
_NOISY = 100
_IMAGES = ("image", "kspace", "fitted", *STARTS)
_MOST_KEPT_BYTES = 2**28  # of one probe: there are a dozen of them


@dataclass(frozen=True)
class Network:
    """What the probes need to know of a network.

    Attributes:
        task: ``image``, ``unrolled`` or ``dynamic``.
        lowering: of the normal operator; ``none`` where there is none.
        inputs: static shapes of an engine's inputs.
        columns: how λ follows from the noise, where the lowering is ``columns``.
    """

    task: Task
    lowering: Lowering
    inputs: tuple[InputShape, ...]
    columns: ColumnsForm | None = None


@dataclass(frozen=True)
class Probe:
    """One set of inputs.

    Attributes:
        name: for reports, for example ``real-0`` or ``coil-dead``.
        inputs: as the engine takes them.
        truth: ``(channel, k1, k0)``, of a window ``(channel, time, k1, k0)``, what the result should be, where it is
            known.
        inside: the part of the engine's size that the truth covers.
        repeats: position of inputs that are the same all along an axis, and that axis: such a probe is small in a
            file.
    """

    name: str
    inputs: tuple[torch.Tensor, ...]
    truth: torch.Tensor | None = None
    inside: Fit | None = None
    repeats: Mapping[int, int] = field(default_factory=dict)


Case = Mapping[str, torch.Tensor]


def vectors_of(
    task: Task,
    cases: Sequence[Case],
    size: int = 64,
    n_coils: int = 4,
    lowering: Lowering = "none",
) -> dict[str, torch.Tensor]:
    """Vectors for a bundle from whole cases: cut out around the centre, and few of the coils, to stay small.

    Args:
        task: of the network.
        cases: the tensors of the table above, of any size.
        size: k1 and k0 to cut out.
        n_coils: coils to keep; what is left is scaled so that the squares of the maps add up to 1.
        lowering: of data consistency, which tells what networks for films take.

    Raises:
        BundleError: a case lacks a tensor.
    """
    vectors = {}
    for i, case in enumerate(cases):
        parts = _parts(task, lowering, case)
        if missing := [what for what in parts if what not in case]:
            raise BundleError(f"case {i} for the vectors of a bundle has no '{missing[0]}'")
        beside = [role for role in case if role == "mask" or contrast_of(role)]
        for what in dict.fromkeys((*parts, *beside)):
            tensor = case[what].detach().to("cpu", torch.float32)
            if what == "maps":
                tensor = with_coils(tensor, min(n_coils, len(tensor)))
            if what != _POINTS:
                for axis in (-2, -1):
                    tensor = reflect(tensor, axis, min(size, tensor.shape[axis]))
            vectors[f"real-{i}.{what}"] = tensor.contiguous()
        if "maps" in parts and "noise" in case:
            vectors[f"real-{i}.noise"] = case["noise"].detach().to("cpu", torch.float32)
        if "parameters" in case:
            vectors[f"real-{i}.parameters"] = case["parameters"].detach().to("cpu", torch.float32)
    return vectors


def read_cases(
    task: Task, vectors: Mapping[str, torch.Tensor], lowering: Lowering = "none"
) -> dict[str, Case]:
    """The cases of a bundle's vectors by name.

    Args:
        task: of the network.
        vectors: of the bundle.
        lowering: of data consistency, which tells what networks for films take.

    Raises:
        BundleError: there are none, or one lacks a tensor.
    """
    cases: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in sorted(vectors.items()):
        case, _, what = name.rpartition(".")
        cases.setdefault(case, {})[what] = tensor.float()
    for case, parts in cases.items():
        if missing := [what for what in _parts(task, lowering, parts) if what not in parts]:
            raise BundleError(f"case '{case}' of the reference vectors has no '{missing[0]}'")
    if not cases:
        raise BundleError("the bundle has no reference vectors: build it again from its training run")
    return dict(cases)


def make_probes(network: Network, cases: Mapping[str, Case]) -> list[Probe]:
    """All probes of a network: every real case, and hard ones made from the first.

    Args:
        network: with the shapes of the engine.
        cases: from `read_cases`.
    """
    return list(_probes(network, cases))


def each_probe(network: Network, cases: Mapping[str, Case]) -> Iterable[Probe]:
    """The same, to be gone through as often as they are needed.

    Where one takes hundreds of megabytes, as in the exact form of large images, they are not kept meanwhile, but made
    anew each time.

    Args:
        network: with the shapes of the engine.
        cases: from `read_cases`.
    """
    n_bytes = 4 * sum(math.prod(spec.shape) for spec in network.inputs)
    return _MadeAnew(network, cases) if n_bytes > _MOST_KEPT_BYTES else make_probes(network, cases)


@dataclass(frozen=True)
class _MadeAnew:
    """Probes that are made each time that they are gone through."""

    network: Network
    cases: Mapping[str, Case]

    def __iter__(self) -> Iterator[Probe]:
        return _probes(self.network, self.cases)


def real_inputs(network: Network, cases: Mapping[str, Case]) -> list[tuple[torch.Tensor, ...]]:
    """What a network is given of every real case.

    Args:
        network: with the shapes of the engine.
        cases: from `read_cases`.
    """
    return [probe.inputs for probe in islice(_probes(network, cases), len(cases))]


def real_probe(network: Network, cases: Mapping[str, Case]) -> Probe:
    """The first real case alone, with its truth."""
    name = next(iter(cases))
    return next(_probes(network, {name: cases[name]}))


def _probes(network: Network, cases: Mapping[str, Case]) -> Iterator[Probe]:
    """Real ones first."""
    case = next(iter(cases.values()))
    make = _image_probes if _parts(network.task, network.lowering, case)[0] == "image" else _unrolled_probes
    if network.task == "dynamic":
        _check_frames(network, cases)
    return make(network, cases)


def _parts(task: Task, lowering: Lowering, case: Case) -> tuple[str, ...]:
    """The tensors that a case must have."""
    if task == "image" or (task == "dynamic" and lowering == "none"):
        return ("image", "truth")
    return ("truth", "maps", _POINTS if _POINTS in case else "mask")


def _check_frames(network: Network, cases: Mapping[str, Case]) -> None:
    n_frames = network.inputs[0].shape[2]
    for name, case in cases.items():
        if case["truth"].ndim != 4 or case["truth"].shape[1] != n_frames:
            raise BundleError(
                f"case '{name}' of the reference vectors has the shape {tuple(case['truth'].shape)}, and the network "
                f"takes windows of {n_frames} frames: build the bundle again"
            )


def _image_probes(network: Network, cases: Mapping[str, Case]) -> Iterator[Probe]:
    bucket = (network.inputs[0].shape[-2], network.inputs[0].shape[-1])
    roles = tuple(spec.name for spec in network.inputs)

    def given(image: torch.Tensor, known: Known) -> tuple[torch.Tensor, ...]:
        return inputs_of(roles, replace(known, at_hand={**known.at_hand, "image": image}))

    real = []
    for name, case in cases.items():
        inside = Fit(
            (min(bucket[0], case["truth"].shape[-2]), min(bucket[1], case["truth"].shape[-1])), bucket
        )
        image, truth = (resized(case[what], inside.size) for what in ("image", "truth"))
        image = inside.pad(image)[None]
        mask = _mask_in(bucket, case["mask"])[None] if "mask" in case else None
        known = Known("none", mask=mask, at_hand=_beside(network, name, case, inside))
        real.append((Probe(name, given(image, known), truth, inside), image, known))
    yield from (probe for probe, *_ in real)
    probe, image, known = real[0]
    yield from _scaled(probe, [role in _IMAGES for role in roles])
    yield Probe("noise", given(_noise(image.shape), known))
    line = torch.zeros_like(image)
    line[..., bucket[0] // 2, bucket[1] // 2] = 1
    yield Probe("one-pixel", given(line, known))
    yield Probe("constant", given(torch.ones_like(image), known))
    if "parameters" in known.at_hand:
        zero = torch.zeros_like(known.at_hand["parameters"])
        told = replace(known, at_hand={**known.at_hand, "parameters": zero})
        yield Probe("parameters-zero", given(image, told))
    if network.task == "dynamic":
        dark = image.clone()
        dark[:, :, -1] = 0
        yield Probe("frame-empty", given(dark, known))


def _unrolled_probes(network: Network, cases: Mapping[str, Case]) -> Iterator[Probe]:
    image_shape = network.inputs[0].shape
    size = (image_shape[-2], image_shape[-1])
    whole = Fit(size, size)
    real = []
    for name, case in cases.items():
        n_coils = _coils(network, case)
        anywhere = _POINTS in case
        scan = (_ScanAnywhere if anywhere else _Scan)(
            truth=resized(case["truth"], size),
            maps=with_coils(resized(case["maps"], size), n_coils),
            sampling=case[_POINTS] if anywhere else _mask_in(size, case["mask"]),
            noise=_noise_of(network, name, case),
            told=_told(network, name, case),
        )
        real.append((Probe(name, scan.inputs(network), scan.truth, whole), scan))
    yield from (probe for probe, _ in real)
    probe, scan = real[0]
    images = tuple(spec.name in _IMAGES for spec in network.inputs)
    yield from _scaled(probe, images)
    noisy = zip(probe.inputs, images, strict=True)
    yield Probe("noise", tuple(_noise(one.shape) if is_image else one for one, is_image in noisy))
    if network.lowering == "columns":
        yield _with_one_column(network, probe)
    if len(scan.maps) > 1:
        dead = scan.maps.clone()
        dead[0] = 0
        yield Probe("coil-dead", replace(scan, maps=dead).inputs(network))
    for name, sampling in scan.extremes(network.task):
        yield Probe(name, replace(scan, sampling=sampling).inputs(network))
    if _takes_noise(network):
        for name, noise in (("noiseless", 0.0), ("noisy", _NOISY * scan.noise)):
            yield Probe(name, replace(scan, noise=noise).inputs(network))
    if scan.told:
        zero = {role: torch.zeros_like(one) for role, one in scan.told.items()}
        yield Probe("parameters-zero", replace(scan, told=zero).inputs(network))


def _told(network: Network, name: str, case: Case) -> dict[str, torch.Tensor]:
    """The input ``parameters`` ``(1, n)`` of a case by its name; empty where the network takes none."""
    if all(spec.name != "parameters" for spec in network.inputs):
        return {}
    if "parameters" not in case:
        raise BundleError(
            f"the network takes numbers of a scan, but case '{name}' of the vectors has no 'parameters': build the "
            "bundle again"
        )
    return {"parameters": case["parameters"][None]}


def _beside(network: Network, name: str, case: Case, inside: Fit) -> dict[str, torch.Tensor]:
    """What a network for images gets of a case beside its image, by role, at the engine's size."""
    beside = _told(network, name, case)
    for role in (spec.name for spec in network.inputs if contrast_of(spec.name)):
        if role not in case:
            raise BundleError(
                f"case '{name}' of the reference vectors has no '{role}', which the network takes"
            )
        beside[role] = inside.pad(resized(case[role], inside.size))[None]
    return beside


def _takes_noise(network: Network) -> bool:
    """Whether the level of noise has a say, in an input of its own or in λ."""
    return network.lowering == "columns" or any(spec.name == "noise" for spec in network.inputs)


def _noise_of(network: Network, name: str, case: Case) -> float:
    if "noise" not in case and _takes_noise(network):
        raise BundleError(
            f"the network takes the noise of a scan, but case '{name}' of the vectors has no 'noise'"
        )
    return float(case["noise"]) if "noise" in case else 0.0


def _scaled(real: Probe, images: Sequence[bool]) -> Iterator[Probe]:
    """Inputs that someone forgot to normalise, and a scan of nothing.

    Args:
        real: a probe.
        images: for each of its inputs, whether it is an image.
    """
    for name, factor in (("zeros", 0.0), ("weak", _WEAK), ("strong", _STRONG)):
        inputs = tuple(
            one * factor if is_image else one for one, is_image in zip(real.inputs, images, strict=True)
        )
        yield replace(real, name=name, inputs=inputs, truth=None, inside=None)


def _with_one_column(network: Network, real: Probe) -> Probe:
    """A probe whose data consistency is that of the middle column everywhere: its maps only change along k1."""
    inputs, repeats = list(real.inputs), {}
    for i, spec in enumerate(network.inputs):
        if spec.name == "kept":
            middle = inputs[i].shape[2] // 2
            inputs[i] = inputs[i][:, :, middle : middle + 1].expand_as(inputs[i]).contiguous()
            repeats[i] = 2
    return Probe("one-column", tuple(inputs), repeats=repeats)


def _mask_in(size: tuple[int, int], mask: torch.Tensor) -> torch.Tensor:
    """A mask ``(*, k1, 1 or k0)`` in another size."""
    mask = reflect(mask, -2, size[0])
    return reflect(mask, -1, size[1]) if mask.shape[-1] > 1 else mask


def _coils(network: Network, case: Case) -> int:
    """Of the engine's maps; where none go in, those that the case has."""
    of_maps = (spec.shape[1] for spec in network.inputs if spec.name == "maps")
    return next(of_maps, len(case["maps"]))


def _noise(shape: Sequence[int]) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))


def resized(tensor: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cropped around the centre or continued by reflection, ``(*, k1, k0)``."""
    return reflect(reflect(tensor, -2, size[0]), -1, size[1])


def with_coils(maps: torch.Tensor, n_coils: int) -> torch.Tensor:
    """Maps ``(coil, 2, k1, k0)`` of another coil count: some left out, or all again, mirrored along the readout."""
    copies = [maps, maps.flip(-1), maps.flip(-2), maps.flip(-1, -2)]
    while len(copies) * len(maps) < n_coils:
        copies += copies
    maps = torch.cat(copies)[:n_coils]
    power = maps.square().sum((0, 1)).sqrt()
    return maps / torch.where(power > 0, power, 1)


@dataclass(frozen=True)
class _Scan:
    """What a scan is made of.

    Attributes:
        truth: ``(2, *time, k1, k0)``.
        maps: ``(coil, 2, k1, k0)``.
        sampling: the mask ``(*time, k1, 1 or k0)``, centred.
        noise: standard deviation of real and imaginary part in a coil's voxels.
        told: the input ``parameters`` ``(1, n)``, where the network takes it.
    """

    truth: torch.Tensor
    maps: torch.Tensor
    sampling: torch.Tensor
    noise: float
    told: Mapping[str, torch.Tensor]

    def extremes(self, task: Task) -> Iterator[tuple[str, torch.Tensor]]:
        """Samplings that no scan should have, by name."""
        mask, middle = self.sampling, self.truth.shape[-2] // 2
        yield "mask-full", torch.ones_like(mask)
        centre, line = torch.zeros_like(mask), torch.zeros_like(mask)
        centre[..., middle - _ACS_ONLY // 2 : middle + _ACS_ONLY // 2, :] = 1
        yield "mask-centre", centre
        line[..., middle, :] = 1
        yield "mask-one-line", line
        if task == "dynamic":
            empty = mask.clone()
            empty[-1] = 0
            yield "frame-empty", empty

    def inputs(self, network: Network) -> tuple[torch.Tensor, ...]:
        """What the network is given: ``Aᴴ y``, maps, noise where it takes it, and sampling."""
        assert network.lowering != "none"
        s = torch.complex(*self.maps.unbind(1))
        kspace = to_kspace(s * torch.complex(*self.truth.unbind(0)).unsqueeze(-3))
        noise = self.noise * torch.view_as_complex(_noise((*kspace.shape, 2)))
        adjoint = (s.conj() * to_image((kspace + noise) * self.sampling.unsqueeze(-3))).sum(-3)
        two_axes = any(spec.name == "mask" and spec.shape[-1] > 1 for spec in network.inputs)
        mask = self.sampling.expand(-1, s.shape[-1]) if two_axes else self.sampling

        def solved() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            assert network.columns is not None
            system = factorise(s, self.sampling[:, 0] > 0, column_weight(network.columns, self.noise))
            return column_inputs(adjoint, s, system)

        known = Known(
            network.lowering,
            image=adjoint[None],
            maps=s[None],
            mask=mask[None],
            noise=torch.tensor([self.noise]),
            exact=solved,
            at_hand={"maps": self.maps[None].contiguous(), **self.told},
        )
        return inputs_of((spec.name for spec in network.inputs), known)


class _ScanAnywhere(_Scan):
    """The same of samples anywhere in k-space: its ``sampling`` are the points ``(readout, sample, 2)``."""

    def extremes(self, task: Task) -> Iterator[tuple[str, torch.Tensor]]:
        """A single readout, and readouts that do not leave the centre."""
        yield "points-one-readout", self.sampling[:1]
        yield "points-centre", self.sampling * (_ACS_ONLY / self.truth.shape[-1])

    def inputs(self, network: Network) -> tuple[torch.Tensor, ...]:
        """What the network is given: ``Aᴴ W y``, maps, noise, kernel and transforms."""
        s, shape = torch.complex(*self.maps.unbind(1)), self.truth.shape[-2:]
        weights = within_cells(interleaved_density(self.sampling, shape), self.sampling, shape).flatten()
        transform = Nufft(self.sampling.flatten(0, 1), shape)
        samples = transform.forward(s * torch.complex(*self.truth.unbind(0)))
        per_sample = self.noise / gridded_noise(weights, shape)
        samples = samples + per_sample * torch.view_as_complex(_noise((*samples.shape, 2)))
        kernel = split_kernel(toeplitz_kernel(transform.points, shape, weights))
        known = Known(
            network.lowering,
            image=(s.conj() * transform.adjoint(samples * weights)).sum(0)[None],
            noise=torch.tensor([self.noise]),
            at_hand={"maps": self.maps[None].contiguous(), "toeplitz": kernel[None], **self.told},
        )
        return inputs_of((spec.name for spec in network.inputs), known)
