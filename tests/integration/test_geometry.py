"""Simulated scans come back voxel by voxel: at the right place, with their phase, whatever way they were acquired.

The simulator computes its truth from the object by sums over points, not with the code under test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside import Context, Image, Readouts
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.geometry import Geometry
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    QuirkConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    simulate,
)

Array = npt.NDArray[Any]

QUIET = NoiseConfig(std=0.0, scan="none")
OBLIQUE = GeometryConfig(
    matrix=(48, 40, 1),
    fov_mm=(240.0, 210.0, 6.0),
    rotation_deg=(-20.0, 9.0, 13.0),
    in_plane_deg=17.0,
    offset_mm=(4.0, -7.0, 16.0),
)
ONE_COIL = CoilConfig(n_coils=1, model="uniform")
ARRAY = CoilConfig(n_coils=8)

# A single coil of constant sensitivity: the image is the object, phase included.
PLAIN = ["noise", "oversampling", "accumulate", "coil-maps", {"fourier": {"combine": "maps"}}]
COMPLEX = [*PLAIN, {"finish": {"kind": "complex"}}]
COMPLETED = [*PLAIN[:3], "partial-fourier", *PLAIN[3:], {"finish": {"kind": "complex"}}]


def scan_of(geometry: GeometryConfig = OBLIQUE, coils: CoilConfig = ONE_COIL, **parts: Any) -> SimulatedScan:
    return simulate(ScanConfig(geometry=geometry, coils=coils, **{"noise": QUIET, **parts}))


def like(geometry: GeometryConfig = OBLIQUE, **changes: Any) -> GeometryConfig:
    return GeometryConfig.model_validate({**geometry.model_dump(), **changes})


def misplaced_voxels(image: Image, affine: Array) -> float:
    """How far a voxel of an image is from where it should be, at worst, in voxels."""
    geometry = Geometry.from_image_header(image.header)
    corners = np.array([[*c, 1] for c in product(*((0, n - 1) for n in geometry.matrix))])
    distance = (geometry.affine - affine) @ corners.T
    return float(np.linalg.norm(distance[:3], axis=0).max() / geometry.voxel_size_mm.min())


def check(scan: SimulatedScan, result: Any, nrmse: Callable[..., float], bound: float = 2e-3) -> None:
    """Every image equals its truth and lies in its place; every frame of the scan came once."""
    seen = set()
    for i, image in enumerate(result.images):
        counters = {
            name: int(image.header[name]) for name in ("contrast", "phase", "repetition", "set", "slice")
        }
        seen.add(tuple(counters.values()))
        slice_, set_ = counters.pop("slice"), counters.pop("set")
        truth = scan.truth.image(slice_, set_=set_, **counters)
        assert result.voxels(i).shape == truth.shape
        assert nrmse(result.voxels(i), truth) < bound, counters
        assert misplaced_voxels(image, scan.truth.affines[slice_]) < 0.1
    dynamics = scan.config.dynamics
    n_frames = (
        len(dynamics.te_ms) * dynamics.phases * dynamics.repetitions * dynamics.sets * scan.grid.n_slices
    )
    assert len(seen) == len(result.images) == n_frames


def describe(parts: dict[str, Any]) -> str:
    """What differs from the defaults, as the name of a test."""
    changes = {}
    for part in parts.values():
        base = OBLIQUE if isinstance(part, GeometryConfig) else type(part)()
        changes |= {k: v for k, v in part.model_dump().items() if v != getattr(base, k)}
    return ",".join(f"{k}={v}" for k, v in changes.items()).replace(" ", "") or "plain"


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"geometry": like(left_handed=True)},
        {"geometry": like(plane="sagittal")},
        {"geometry": like(matrix=(45, 37, 1))},
        {"geometry": like(matrix=(45, 37, 1)), "sampling": SamplingConfig(oversampling=1)},
        {"geometry": like(matrix=(24, 20, 9), fov_mm=(240.0, 210.0, 140.0))},
        {"geometry": like(n_slices=4, slice_order="interleaved", slice_gap_mm=3.0)},
        {
            "geometry": like(matrix=(49, 41, 1), recon_matrix=(64, 60, 1)),
            "sampling": SamplingConfig(oversampling=1),
        },
        {"sampling": SamplingConfig(phase_oversampling=0.25)},
        {"sampling": SamplingConfig(reverse="alternate")},
        {"sampling": SamplingConfig(reverse="all", discard=(3, 3))},
        {"sampling": SamplingConfig(discard=(4, 2))},
        {"sampling": SamplingConfig(phase_resolution=0.7)},
        {"dynamics": DynamicsConfig(te_ms=(5.0, 15.0), sets=2)},
        {"dynamics": DynamicsConfig(segments=3, averages=2)},
        {"phantom": PhantomConfig(kind="cardiac"), "dynamics": DynamicsConfig(phases=3, repetitions=2)},
        {"quirks": QuirkConfig(navigator_every=7, phase_correction_lines=3)},
        {"quirks": QuirkConfig(limits="none")},
        {"quirks": QuirkConfig(limits="step_1")},
    ],
    ids=describe,
)
def test_scan_comes_back(parts: dict[str, Any], reconstruct: Any, nrmse: Any) -> None:
    scan = scan_of(**parts)
    result = reconstruct(COMPLEX, scan.header_xml, scan.items(block=29))
    check(scan, result, nrmse)
    expected = ("prewhitened", "taken from idx.user")
    if scan.config.sampling.reverse == "alternate":
        expected += ("these are echo-planar readouts",)
    assert not [text for text in result.scan.warnings if not any(known in text for known in expected)]
    assert not any(image.incomplete for image in result.images)


@pytest.mark.parametrize("limits", ["none", "step_1"])
def test_centre_stands_in_user_counters(reconstruct: Any, limits: Any) -> None:
    """Without encoding limits, lines of a partial Fourier scan are put where those of a full header are."""
    sampling = SamplingConfig(oversampling=1, partial_fourier=(0.7, 0.8))

    def kspace(**quirks: Any) -> Any:
        scan = scan_of(
            geometry=like(matrix=(24, 20, 10)), sampling=sampling, quirks=QuirkConfig(limits=limits, **quirks)
        )
        return reconstruct(["accumulate"], scan.header_xml, scan.items()).kspaces[0].mask

    full = scan_of(geometry=like(matrix=(24, 20, 10)), sampling=sampling)
    (expected,) = reconstruct(["accumulate"], full.header_xml, full.items()).kspaces
    assert torch.equal(kspace(), expected.mask)
    assert not torch.equal(kspace(center_in_user=False), expected.mask)


def test_finer_images_of_an_even_matrix(reconstruct: Any, nrmse: Any) -> None:
    """Of an even matrix, the highest frequency counts half on either side here, and on one side in the truth."""
    scan = scan_of(like(recon_matrix=(64, 60, 1)))
    check(scan, reconstruct(COMPLEX, scan.header_xml, scan.items()), nrmse, 0.04)


def test_coarser_images(reconstruct: Any, nrmse: Any) -> None:
    """Fewer voxels hold the middle of the k-space of all."""
    scan = scan_of(like(recon_matrix=(33, 29, 1)), sampling=SamplingConfig(oversampling=1))
    (image,) = (result := reconstruct(COMPLEX, scan.header_xml, scan.items())).images
    full = simulate(scan.config.model_copy(update={"geometry": OBLIQUE})).truth.image()[0]
    middle = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(full)))[20 - 14 : 20 + 15, 24 - 16 : 24 + 17]
    expected = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(middle)))
    assert nrmse(result.voxels(), expected) < 2e-3
    assert misplaced_voxels(image, scan.truth.affines[0]) < 0.1


def test_oversampling_of_partitions(reconstruct: Any, nrmse: Any) -> None:
    geometry = like(matrix=(24, 20, 8), fov_mm=(240.0, 210.0, 140.0))
    scan = scan_of(geometry, sampling=SamplingConfig(partition_oversampling=0.5))
    check(scan, reconstruct(COMPLEX, scan.header_xml, scan.items()), nrmse)


def test_half_a_pixel_is_noticed(reconstruct: Any, nrmse: Any) -> None:
    """The bounds above bite: a shift by half a voxel breaks them, and so does one line in the wrong place."""
    scan = scan_of()
    (image,) = reconstruct(COMPLEX, scan.header_xml, scan.items()).images
    kspace = np.fft.fft2(image.data[0, 0].numpy())
    for axis in (0, 1):
        ramp = np.exp(1j * np.pi * np.fft.fftfreq(kspace.shape[axis]))
        shifted = np.fft.ifft2(kspace * (ramp[:, None] if axis == 0 else ramp))
        assert nrmse(shifted, scan.truth.image()) > 0.05
    moved = image.replace(header=image.header.copy())
    moved.header["position"] += 0.5 * scan.grid.directions.phase * 210.0 / 40
    assert misplaced_voxels(moved, scan.truth.affines[0]) > 0.4

    def misplaced() -> Iterator[Readouts]:
        for block in scan.items():
            assert isinstance(block, Readouts)
            headers = block.headers.copy()
            one, other = (headers["idx"]["kspace_encode_step_1"] == k for k in (22, 23))
            headers["idx"]["kspace_encode_step_1"][one] = 23
            headers["idx"]["kspace_encode_step_1"][other] = 22
            yield Readouts(headers, block.samples)

    swapped = reconstruct(COMPLEX, scan.header_xml, misplaced())
    assert nrmse(swapped.voxels(), scan.truth.image()) > 0.01


def test_same_object_in_any_orientation(reconstruct: Any) -> None:
    """The centre of mass in patient coordinates does not depend on how the slab lies: no truth image needed."""
    centres = []
    for changes in (
        {"plane": "axial"},
        {"plane": "coronal", "left_handed": True},
        {"plane": "sagittal", "rotation_deg": (0.0, 12.0, 25.0)},
    ):
        geometry = GeometryConfig(
            matrix=(36, 34, 32), fov_mm=(300.0, 300.0, 300.0), offset_mm=(5.0, -3.0, 8.0), **changes
        )
        phantom = PhantomConfig(kind="shepp-logan", background_phase_rad=0.0)
        scan = scan_of(geometry, phantom=phantom, sampling=SamplingConfig(oversampling=1))
        result = reconstruct([*PLAIN, {"finish": {"kind": "real"}}], scan.header_xml, scan.items())
        weight = result.voxels()
        index = np.stack(np.meshgrid(*(np.arange(n) for n in weight.shape), indexing="ij"), axis=-1)[
            ..., ::-1
        ]
        place = Geometry.from_image_header(result.images[0].header).centre_of(index)
        centres.append((place * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum())
    np.testing.assert_allclose(centres[1:], [centres[0]] * 2, atol=0.1 * 300 / 36)


@pytest.mark.parametrize("side", ["early", "late"])
def test_partial_fourier_completed(side: str, reconstruct: Any, nrmse: Any) -> None:
    sampling = SamplingConfig(partial_fourier=(0.7, 1.0), partial_fourier_side=side)
    scan = scan_of(sampling=sampling)
    zero_filled = reconstruct(COMPLEX, scan.header_xml, scan.items())
    completed = reconstruct(COMPLETED, scan.header_xml, scan.items())
    homodyne = reconstruct(COMPLETED, scan.header_xml, scan.items(), {"partial-fourier.method": "homodyne"})
    errors = [nrmse(one.voxels(), scan.truth.image()) for one in (completed, homodyne, zero_filled)]
    assert errors[0] < 0.4 * errors[2]
    assert errors[1] < 0.6 * errors[2]
    assert completed.images[0].meta["ScansidePartialFourier"] == ["pocs", "k1"]
    assert not [text for one in (zero_filled, completed) for text in one.scan.warnings if "lost" in text]


def test_asymmetric_echo(reconstruct: Any, nrmse: Any) -> None:
    scan = scan_of(sampling=SamplingConfig(partial_echo=0.7))
    zero_filled = reconstruct(COMPLEX, scan.header_xml, scan.items())
    completed = reconstruct(COMPLETED, scan.header_xml, scan.items())
    before, after = (nrmse(one.voxels(), scan.truth.image()) for one in (zero_filled, completed))
    assert before < 0.2
    assert after < 0.5 * before
    assert completed.images[0].meta["ScansidePartialFourier"] == ["pocs", "k0"]


def seen_by_array(scan: SimulatedScan, slice_: int = 0, **counters: int) -> Array:
    """Magnitude of the truth under the array's root sum of squares, which is what combined coils see."""
    sensitivity = np.linalg.norm(scan.truth.maps[slice_], axis=0)
    return np.abs(scan.truth.image(slice_, **counters)) * sensitivity


@pytest.mark.parametrize(
    "parts",
    [
        {"sampling": SamplingConfig(acceleration=(2, 1), acs=(20, 0))},
        {"sampling": SamplingConfig(acceleration=(2, 1), acs=(20, 0), acs_mode="separate")},
        {
            "sampling": SamplingConfig(acceleration=(2, 1), acs=(20, 0), acs_mode="separate", vary=True),
            "dynamics": DynamicsConfig(phases=2, repetitions=2),
        },
        {
            "sampling": SamplingConfig(acceleration=(2, 1), acs=(20, 0)),
            "dynamics": DynamicsConfig(phases=2, segments=3, te_ms=(5.0, 9.0)),
        },
        {
            "sampling": SamplingConfig(acceleration=(2, 1), acs=(20, 0), acs_mode="separate"),
            "dynamics": DynamicsConfig(te_ms=(5.0, 9.0), sets=2),
        },
        {
            "sampling": SamplingConfig(acceleration=(2, 1), acs=(20, 0), reverse="alternate"),
            "quirks": QuirkConfig(navigator_every=5),
        },
        {
            "geometry": like(matrix=(24, 24, 12), fov_mm=(240.0, 210.0, 140.0)),
            "sampling": SamplingConfig(acceleration=(2, 1), acs=(16, 0)),
        },
    ],
    ids=describe,
)
def test_accelerated_scan_comes_back(parts: dict[str, Any], reconstruct: Any, nrmse: Any) -> None:
    # Noise that is white already: whitening then leaves the coils' weights as the truth has them.
    noise = NoiseConfig(std=1e-4, spread=0.0, neighbour_correlation=0.0, readouts=64)
    scan = scan_of(coils=ARRAY, noise=noise, **parts)
    full_sampling = scan.config.sampling.model_copy(update={"acceleration": (1, 1), "vary": False})
    full_scan = simulate(scan.config.model_copy(update={"sampling": full_sampling}))
    full = reconstruct("grappa", full_scan.header_xml, full_scan.items())
    result = reconstruct("grappa", scan.header_xml, scan.items(block=31))
    aliased = reconstruct("fft", scan.header_xml, scan.items(block=31))
    dynamics = scan.config.dynamics
    n_images = len(dynamics.te_ms) * dynamics.phases * dynamics.repetitions * dynamics.sets
    assert len(result.images) == len(full.images) == n_images
    is_epi = scan.config.sampling.reverse == "alternate"
    for one in (result, full):
        assert ["these are echo-planar readouts" in text for text in one.scan.warnings] == [True] * is_epi
    for i, image in enumerate(result.images):
        names = ("contrast", "phase", "repetition", "slice", "set")
        counters = {name: int(image.header[name]) for name in names}
        assert counters == {name: int(full.images[i].header[name]) for name in names}
        assert nrmse(result.voxels(i), full.voxels(i)) < 0.045
        assert nrmse(aliased.voxels(i), full.voxels(i)) > 0.07
        slice_, set_ = counters.pop("slice"), counters.pop("set")
        # Coil combination costs little in 2-D; twelve partitions are too coarse for the coils' sensitivities.
        is_3d = image.data.shape[1] > 1
        truth = seen_by_array(scan, slice_, set_=set_, **counters)
        assert nrmse(result.voxels(i), truth) < (0.15 if is_3d else 0.08)
        assert misplaced_voxels(image, scan.truth.affines[slice_]) < 0.1


def test_several_encoding_spaces(reconstruct: Any, nrmse: Any) -> None:
    """Two scans of different matrix in one stream, as scanners interleave a low-resolution reference."""
    scans = [scan_of(), scan_of(like(matrix=(24, 22, 1)))]
    second = scans[1].header_xml.decode()
    encoding = second[second.index("<encoding>") : second.index("</encoding>") + len("</encoding>")]
    xml = scans[0].header_xml.decode().replace("</encoding>", f"</encoding>{encoding}", 1)
    parts = []
    for space, scan in enumerate(scans):
        (block,) = (block.copy() for block in scan.items() if isinstance(block, Readouts))
        block.headers["encoding_space_ref"] = space
        parts.append(block)
    halves = [part.select(half) for half in (slice(0, 11), slice(11, None)) for part in parts]
    result = reconstruct(COMPLEX, xml, halves)
    assert len(result.images) == 2
    for image in result.images:
        scan = scans[int(image.data.shape[-1] == 24)]
        assert nrmse(image.data[0].numpy(), scan.truth.image()) < 2e-3
        assert misplaced_voxels(image, scan.truth.affines[0]) < 0.1


def test_partial_fourier_with_grappa(reconstruct: Any, nrmse: Any) -> None:
    sampling = SamplingConfig(acceleration=(2, 1), acs=(20, 0), partial_fourier=(0.75, 1.0))
    scan = scan_of(like(matrix=(48, 48, 1)), ARRAY, sampling=sampling)
    stages: list[Any] = [
        "oversampling",
        "accumulate",
        "coil-maps",
        "grappa",
        {"fourier": {"combine": "maps"}},
    ]
    zero_filled = reconstruct([*stages, "finish"], scan.header_xml, scan.items())
    stages.insert(4, "partial-fourier")
    completed = reconstruct([*stages, "finish"], scan.header_xml, scan.items())
    before, after = (nrmse(one.voxels(), seen_by_array(scan)) for one in (zero_filled, completed))
    assert after < 0.8 * before
    stages.remove("grappa")
    unfilled = reconstruct([*stages, "finish"], scan.header_xml, scan.items())
    assert "gaps" in " ".join(unfilled.scan.warnings)


def test_frames_kept_together(reconstruct: Any, nrmse: Any) -> None:
    """Interleaved slices and phases as axes of one k-space give the images that they give one by one."""
    geometry = like(n_slices=3, slice_order="interleaved")
    scan = scan_of(geometry, ARRAY, sampling=SamplingConfig(acceleration=(2, 1), acs=(20, 0)))
    apart = reconstruct("grappa", scan.header_xml, scan.items())
    together = reconstruct("grappa", scan.header_xml, scan.items(), {"accumulate.together": ["slice"]})
    apart.images.sort(key=lambda image: int(image.header["slice"]))
    by_slice = {int(image.header["slice"]): image for image in apart.images}
    assert len(together.images) == 3
    for image in together.images:
        one = by_slice[int(image.header["slice"])]
        np.testing.assert_allclose(image.data.numpy(), one.data.numpy(), rtol=1e-3, atol=1e-4)
        assert image.header["position"].tolist() == one.header["position"].tolist()


def test_navigators_stay_out(reconstruct: Any) -> None:
    """Their counters are those of the central line: in the image they would show."""
    scan = scan_of(quirks=QuirkConfig(navigator_every=5))
    n_navigators = sum(
        int(flagged(block.headers["flags"], AcquisitionFlag.NAVIGATION_DATA).sum())
        for block in scan.items()
        if isinstance(block, Readouts)
    )
    assert n_navigators > 5

    def louder() -> Iterator[Readouts]:
        for block in scan.items():
            assert isinstance(block, Readouts)
            nav = flagged(block.headers["flags"], AcquisitionFlag.NAVIGATION_DATA)
            yield Readouts(block.headers, np.where(nav[:, None, None], np.complex64(100), block.samples))

    quiet, loud = (
        reconstruct(COMPLEX, scan.header_xml, items).voxels() for items in (scan.items(), louder())
    )
    np.testing.assert_array_equal(quiet, loud)


@pytest.mark.cuda
@pytest.mark.parametrize("pipeline", ["fft", "grappa", "grappa-filtered", "sense"])
def test_same_images_on_cuda(pipeline: str, reconstruct: Any, nrmse: Any) -> None:
    sampling = SamplingConfig(acceleration=(2, 1), acs=(20, 0), partial_fourier=(0.75, 1.0))
    dynamics = DynamicsConfig(repetitions=2, sets=2)
    scan = scan_of(coils=ARRAY, noise=NoiseConfig(), sampling=sampling, dynamics=dynamics)
    on_cpu, on_cuda = (
        reconstruct(pipeline, scan.header_xml, scan.items(), context=Context(device=device))
        for device in ("cpu", "cuda")
    )
    assert len(on_cuda.images) == 4
    for i, image in enumerate(on_cuda.images):
        assert image.data.is_cuda
        assert nrmse(on_cuda.voxels(i), on_cpu.voxels(i), fit=False) < 1e-4
        assert image.header.tobytes() == on_cpu.images[i].header.tobytes()
