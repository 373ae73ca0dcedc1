"""Simulated scans against an independent reconstruction in plain NumPy, and against what their headers promise."""

from __future__ import annotations

from typing import Any

import ismrmrd.xsd
import numpy as np
import numpy.typing as npt
import pytest

from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts, Waveform
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
    TimingConfig,
    Truth,
    WaveformConfig,
    simulate,
)

pytestmark = pytest.mark.torch_free

Array = npt.NDArray[Any]
QUIET = NoiseConfig(std=0.0, scan="none")
SMALL = GeometryConfig(matrix=(48, 40, 1), fov_mm=(240.0, 230.0, 6.0), offset_mm=(0.0, 0.0, 15.0))


def small(**parts: Any) -> ScanConfig:
    """A small scan without noise, with single parts of its configuration replaced."""
    return ScanConfig(**{"geometry": SMALL, "noise": QUIET, "coils": CoilConfig(n_coils=4), **parts})


def gathered(scan: SimulatedScan) -> Readouts:
    """All readouts of a scan that have the length of imaging ones, as a single block."""
    blocks = [item for item in scan.items(block=37) if isinstance(item, Readouts)]
    length = blocks[-1].samples.shape[2]
    blocks = [block for block in blocks if block.samples.shape[2] == length]
    return Readouts(
        np.concatenate([block.headers for block in blocks]),
        np.concatenate([block.samples for block in blocks]),
    )


def kspace_of(scan: SimulatedScan, readouts: Readouts) -> Array:
    """K-space (coil, k2, k1, k0) that the rules of the standard make of readouts, from the XML header's words."""
    header = ismrmrd.xsd.CreateFromDocument(scan.header_xml)
    encoding = header.encoding[0]
    size = encoding.encodedSpace.matrixSize
    limits = encoding.encodingLimits
    kspace = np.zeros((readouts.samples.shape[1], size.z, size.y, size.x), np.complex64)
    for head, samples in zip(readouts.headers, readouts.samples, strict=True):
        if int(head["flags"]) & int(NOT_IMAGING):
            continue
        row, echo = samples, int(head["center_sample"])
        if int(head["flags"]) & int(AcquisitionFlag.REVERSE):
            row, echo = samples[:, ::-1], samples.shape[1] - 1 - echo
        k1 = int(head["idx"]["kspace_encode_step_1"]) - limits.kspace_encoding_step_1.center + size.y // 2
        k2 = int(head["idx"]["kspace_encode_step_2"])
        if limits.kspace_encoding_step_2 is not None:
            k2 = k2 - limits.kspace_encoding_step_2.center + size.z // 2
        keep = slice(int(head["discard_pre"]), row.shape[1] - int(head["discard_post"]))
        k0 = np.arange(row.shape[1])[keep] - echo + size.x // 2
        kspace[:, k2, k1, k0] = row[:, keep]
    return kspace


def image_of(kspace: Array, recon: tuple[int, int, int]) -> Array:
    """Centred orthonormal inverse transform, cropped to the image (x, y, z)."""
    axes = (-3, -2, -1)
    image = np.fft.fftshift(
        np.fft.ifftn(np.fft.ifftshift(kspace, axes=axes), axes=axes, norm="ortho"), axes=axes
    )
    index: list[Any] = [slice(None)]
    for n, wanted in zip(kspace.shape[-3:], recon[::-1], strict=True):
        start = n // 2 - wanted // 2
        index.append(slice(start, start + wanted))
    return np.asarray(image[tuple(index)])


def relative_error(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    "geometry",
    [
        SMALL,
        GeometryConfig(
            matrix=(45, 38, 1), fov_mm=(235.0, 220.0, 5.0), rotation_deg=(-20.0, 10.0, 30.0), left_handed=True
        ),
        GeometryConfig(
            matrix=(32, 28, 12), fov_mm=(240.0, 240.0, 120.0), plane="sagittal", in_plane_deg=15.0
        ),
    ],
    ids=["axial", "odd oblique left-handed", "3-D sagittal"],
)
def test_inverse_transform_of_full_data_with_flat_coils_is_the_truth(geometry: GeometryConfig) -> None:
    scan = simulate(small(geometry=geometry, coils=CoilConfig(n_coils=3, model="uniform")))
    image = image_of(kspace_of(scan, gathered(scan)), geometry.matrix)
    combined = np.sum(image * scan.truth.maps[0].conj(), axis=0)
    assert relative_error(combined, scan.truth.image()) < 2e-6
    # The truth is an image, not a constant that anything would match.
    assert relative_error(np.roll(combined, 1, axis=-1), scan.truth.image()) > 0.2


def test_combination_with_the_true_maps_gives_the_truth() -> None:
    geometry = SMALL.model_copy(update={"matrix": (96, 80, 1), "rotation_deg": (-15.0, 8.0, 5.0)})
    scan = simulate(small(geometry=geometry, coils=CoilConfig(n_coils=8)))
    image = image_of(kspace_of(scan, gathered(scan)), geometry.matrix)
    maps, truth, mask = scan.truth.maps[0], scan.truth.image(), scan.truth.mask[0]
    combined = np.sum(image * maps.conj(), axis=0) / np.sum(np.abs(maps) ** 2, axis=0)
    # Band limiting and coil weighting do not commute, hence the few per cent.
    assert relative_error(combined[mask], truth[mask]) < 0.03
    assert relative_error(np.roll(combined, 1, axis=-1)[mask], truth[mask]) > 0.2


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(reverse="alternate"),
        SamplingConfig(reverse="all", discard=(6, 6)),
        SamplingConfig(discard=(5, 3)),
        SamplingConfig(oversampling=1, phase_oversampling=0.25),
        SamplingConfig(acceleration=(2, 1), acs=(40, 0)),
    ],
    ids=["alternating", "reversed", "discards", "phase oversampling", "all lines are calibration"],
)
def test_every_way_to_sample_all_lines_gives_the_same_image(sampling: SamplingConfig) -> None:
    scan = simulate(small(sampling=sampling, coils=CoilConfig(n_coils=2, model="uniform")))
    image = image_of(kspace_of(scan, gathered(scan)), SMALL.matrix)
    combined = np.sum(image * scan.truth.maps[0].conj(), axis=0)
    # Phase oversampling leaves another band limit: the coarser samples of the same object.
    assert relative_error(combined, scan.truth.image()) < 2e-6


def test_partial_fourier_and_asymmetric_echo_leave_one_end_empty() -> None:
    sampling = SamplingConfig(partial_fourier=(0.75, 1.0), partial_echo=0.75)
    scan = simulate(small(sampling=sampling))
    readouts = gathered(scan)
    idx = readouts.headers["idx"]["kspace_encode_step_1"]
    limit = ismrmrd.xsd.CreateFromDocument(scan.header_xml).encoding[0].encodingLimits.kspace_encoding_step_1
    assert (limit.minimum, limit.maximum, limit.center) == (0, 29, 10)
    assert np.array_equal(idx, np.arange(30))
    assert np.all(readouts.headers["number_of_samples"] == 72)
    assert np.all(readouts.headers["center_sample"] == 24)
    full = simulate(small())
    expected = kspace_of(full, gathered(full))
    expected[:, :, :10] = 0
    expected[..., :24] = 0
    np.testing.assert_array_equal(kspace_of(scan, readouts), expected)


def test_late_partial_fourier_leaves_out_the_high_counters() -> None:
    sampling = SamplingConfig(partial_fourier=(0.75, 1.0), partial_fourier_side="late")
    scan = simulate(small(sampling=sampling))
    limit = ismrmrd.xsd.CreateFromDocument(scan.header_xml).encoding[0].encodingLimits.kspace_encoding_step_1
    assert (limit.maximum, limit.center) == (29, 20)
    assert not kspace_of(scan, gathered(scan))[:, :, 30:].any()


def test_reduced_resolution_is_centred_and_so_is_the_truth() -> None:
    scan = simulate(
        small(sampling=SamplingConfig(phase_resolution=0.7), coils=CoilConfig(n_coils=1, model="uniform"))
    )
    limit = ismrmrd.xsd.CreateFromDocument(scan.header_xml).encoding[0].encodingLimits.kspace_encoding_step_1
    assert (limit.minimum, limit.maximum, limit.center) == (0, 27, 14)
    image = image_of(kspace_of(scan, gathered(scan)), SMALL.matrix)
    assert relative_error(np.sum(image * scan.truth.maps[0].conj(), axis=0), scan.truth.image()) < 2e-6


def test_partial_fourier_along_partitions_counts_from_its_first_line() -> None:
    geometry = GeometryConfig(matrix=(24, 20, 16), fov_mm=(240.0, 240.0, 160.0))
    sampling = SamplingConfig(partial_fourier=(1.0, 0.75), partition_oversampling=0.25)
    scan = simulate(small(geometry=geometry, sampling=sampling))
    encoding = ismrmrd.xsd.CreateFromDocument(scan.header_xml).encoding[0]
    assert encoding.encodedSpace.matrixSize.z == 20
    assert encoding.encodedSpace.fieldOfView_mm.z == pytest.approx(200.0)
    limit = encoding.encodingLimits.kspace_encoding_step_2
    assert (limit.minimum, limit.maximum, limit.center) == (0, 14, 5)
    # The centre line holds the most energy where the header says that it is.
    readouts = gathered(scan)
    energy = np.sum(np.abs(readouts.samples) ** 2, axis=(1, 2))
    peak = readouts.headers["idx"][int(np.argmax(energy))]
    assert (peak["kspace_encode_step_1"], peak["kspace_encode_step_2"]) == (10, 5)


def test_interpolated_images_show_the_same_object() -> None:
    coils = CoilConfig(n_coils=1, model="uniform")
    plain = simulate(small(coils=coils)).truth.image()
    geometry = SMALL.model_copy(update={"recon_matrix": (96, 80, 1)})
    fine = simulate(small(coils=coils, geometry=geometry)).truth.image()
    # Every second voxel of the interpolated image lies on one of the plain image, centre on centre.
    np.testing.assert_allclose(fine[:, ::2, ::2], plain, atol=2e-6)


def test_what_lies_outside_folds_in_where_it_is_not_saturated() -> None:
    """Half the field of view takes every second line of k-space."""
    geometry = GeometryConfig(matrix=(48, 40, 1), fov_mm=(120.0, 115.0, 6.0), offset_mm=(0.0, 0.0, 15.0))
    whole = SMALL.model_copy(update={"matrix": (48, 80, 1), "fov_mm": (120.0, 230.0, 6.0)})
    folded, saturated, every = (
        kspace_of(scan, gathered(scan))
        for scan in (
            simulate(small(geometry=geometry, phantom=PhantomConfig(saturated=False))),
            simulate(small(geometry=geometry)),
            simulate(small(geometry=whole)),
        )
    )
    expected = 2**0.5 * every[:, :, ::2]
    assert relative_error(folded, expected) < 1e-4
    assert relative_error(saturated, expected) > 0.1


def test_different_oblique_scans_agree_where_they_see_the_same_point() -> None:
    """Truth through the affine: two views of one object, one left-handed, sampled at common world points."""
    views = []
    for update in (
        {"rotation_deg": (10.0, -12.0, 20.0), "offset_mm": (3.0, -5.0, 4.0)},
        {"plane": "coronal", "rotation_deg": (-7.0, 5.0, -9.0), "left_handed": True},
    ):
        geometry = GeometryConfig(matrix=(80, 80, 80), fov_mm=(240.0, 240.0, 240.0)).model_copy(update=update)
        scan = simulate(
            small(
                geometry=geometry,
                phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
                sampling=SamplingConfig(oversampling=1),
            )
        )
        views.append((scan.truth.image(), scan.truth.affines[0]))
    assert np.linalg.det(views[0][1]) > 0 > np.linalg.det(views[1][1])
    rng = np.random.default_rng(1)
    points = rng.uniform(-45, 45, (400, 3))
    found = [_trilinear(image, affine, points) for image, affine in views]
    inside = np.abs(found[0]) > 0.05
    assert inside.sum() > 300
    assert relative_error(found[0][inside], found[1][inside]) < 0.1
    shifted = views[1][1].copy()
    shifted[:3, 3] += 6.0
    assert relative_error(found[0][inside], _trilinear(views[1][0], shifted, points)[inside]) > 0.15


def _trilinear(image: Array, affine: Array, points: Array) -> Array:
    index = (np.linalg.inv(affine) @ np.c_[points, np.ones(len(points))].T)[:3][::-1]
    low = np.floor(index).astype(int)
    part = index - low
    total = np.zeros(len(points), complex)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner)[:, None] == 1, part, 1 - part), axis=0)
        total += weight * image[tuple(low + np.array(corner)[:, None])]
    return total


def test_headers_and_affine_place_the_image_alike() -> None:
    geometry = GeometryConfig(
        matrix=(32, 30, 1),
        fov_mm=(240.0, 230.0, 4.0),
        n_slices=3,
        slice_gap_mm=2.0,
        rotation_deg=(12.0, 5.0, -30.0),
        offset_mm=(5.0, -8.0, 20.0),
        left_handed=True,
    )
    scan = simulate(small(geometry=geometry))
    headers = gathered(scan).headers
    positions = []
    for slice_ in range(3):
        head = headers[headers["idx"]["slice"] == slice_][0]
        voxel = np.array([240 / 32, 230 / 30, 4.0])
        for name, axis in (("read_dir", 0), ("phase_dir", 1), ("slice_dir", 2)):
            np.testing.assert_allclose(
                scan.truth.affines[slice_][:3, axis], head[name] * voxel[axis], atol=1e-5
            )
        center = scan.truth.affines[slice_] @ [16, 15, 0, 1]
        np.testing.assert_allclose(center[:3], head["position"], atol=1e-4)
        np.testing.assert_allclose(scan.truth.affine @ [16, 15, slice_, 1], center, atol=1e-4)
        positions.append(head["position"].astype(float))
    step = positions[1] - positions[0]
    np.testing.assert_allclose(step, 6.0 * headers["slice_dir"][0], atol=1e-4)
    directions = np.stack([headers[name][0] for name in ("read_dir", "phase_dir", "slice_dir")])
    assert np.linalg.det(directions) == pytest.approx(-1, abs=1e-5)


def test_marker_capsules_lie_left_and_in_front() -> None:
    """The capsule of this slice is found at +x (left) and -y (front) through the affine, and on no other side."""
    geometry = GeometryConfig(matrix=(128, 128, 1), fov_mm=(240.0, 240.0, 3.0), offset_mm=(0.0, 0.0, 26.0))
    truth = simulate(small(geometry=geometry)).truth
    index = np.linalg.inv(truth.affines[0]) @ [66.0, -58.0, 26.0, 1.0]
    x, y = np.rint(index[:2]).astype(int)
    assert np.abs(truth.image()[0, y, x]) > 0.6
    assert np.abs(truth.image()[0, y, 127 - x]) < 0.1
    assert np.abs(truth.image()[0, 127 - y, x]) < 0.4
    assert truth.mask[0, 0, y, x]
    assert not truth.mask[0, 0, y, 127 - x]


def test_flags_of_an_integrated_calibration_are_those_of_siemens() -> None:
    scan = simulate(small(sampling=SamplingConfig(acceleration=(3, 1), acs=(12, 0))))
    headers = gathered(scan).headers
    line = headers["idx"]["kspace_encode_step_1"].astype(int)
    both = flagged(headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING)
    only = flagged(headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION)
    assert list(line[both | only]) == list(range(14, 26))
    assert np.all(line[both] % 3 == 20 % 3)
    assert np.all(line[only] % 3 != 20 % 3)
    assert set(line[~only]) == set(range(2, 40, 3))
    header = ismrmrd.xsd.CreateFromDocument(scan.header_xml)
    parallel = header.encoding[0].parallelImaging
    assert parallel.accelerationFactor.kspace_encoding_step_1 == 3
    assert parallel.calibrationMode.value == "embedded"
    user = {entry.name: entry.value for entry in header.userParameters.userParameterLong}
    assert user["EmbeddedRefLinesE1"] == 12
    assert np.all(headers["idx"]["user"][:, 5] == 20)


def test_separate_calibration_comes_first_and_is_only_that() -> None:
    scan = simulate(small(sampling=SamplingConfig(acceleration=(4, 1), acs=(12, 0), acs_mode="separate")))
    headers = gathered(scan).headers
    only = flagged(headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION)
    assert np.array_equal(only, np.arange(len(headers)) < 12)
    assert not flagged(headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING).any()
    assert sorted(headers["idx"]["kspace_encode_step_1"][12:]) == list(range(0, 40, 4))


def test_first_and_last_flags_mark_each_counter_once() -> None:
    dynamics = DynamicsConfig(
        averages=2,
        te_ms=(5.0, 12.0),
        phases=2,
        repetitions=2,
        sets=2,
        segments=3,
        order=("set", "segment", "line", "average", "slice", "contrast", "phase"),
    )
    geometry = GeometryConfig(matrix=(8, 12, 1), n_slices=3, slice_order="interleaved")
    phantom = PhantomConfig(kind="shepp-logan")
    scan = simulate(small(dynamics=dynamics, geometry=geometry, phantom=phantom))
    headers = gathered(scan).headers
    assert len(headers) == 2 * 2 * 2 * 2 * 2 * 3 * 12
    images = 2 * 2 * 2 * 2 * 3
    expected = {
        "REPETITION": 2,
        "SET": 4,
        "PHASE": 8,
        "CONTRAST": 16,
        "SLICE": images,
        "AVERAGE": images * 2,
        "SEGMENT": images * 2 * 3,
        "ENCODE_STEP1": images * 2,
        "ENCODE_STEP2": images * 2,
    }
    for name, count in expected.items():
        for end in ("FIRST", "LAST"):
            assert flagged(headers["flags"], AcquisitionFlag[f"{end}_IN_{name}"]).sum() == count, (end, name)
    last = flagged(headers["flags"], AcquisitionFlag.LAST_IN_MEASUREMENT)
    assert np.array_equal(np.flatnonzero(last), [len(headers) - 1])
    assert flagged(headers["flags"][-1:], AcquisitionFlag.LAST_IN_REPETITION)[0]
    # Interleaved slices within the line, and the innermost loop fastest.
    assert list(headers["idx"]["phase"][:4]) == [0, 1, 0, 1]
    assert list(dict.fromkeys(headers["idx"]["slice"].tolist())) == [0, 2, 1]
    assert np.array_equal(headers["scan_counter"], np.arange(len(headers)))


def test_limits_name_the_range_of_every_counter() -> None:
    dynamics = DynamicsConfig(averages=2, te_ms=(5.0, 9.0, 14.0), phases=4, repetitions=5, sets=6, segments=7)
    scan = simulate(small(dynamics=dynamics, geometry=SMALL.model_copy(update={"n_slices": 8})))
    limits = ismrmrd.xsd.CreateFromDocument(scan.header_xml).encoding[0].encodingLimits
    found = {
        name: getattr(limits, name).maximum
        for name in ("average", "contrast", "phase", "repetition", "set", "segment", "slice")
    }
    assert found == {
        "average": 1, "contrast": 2, "phase": 3, "repetition": 4, "set": 5, "segment": 6, "slice": 7
    }  # fmt: skip


def test_whitening_as_gadgetron_does_it_leaves_unit_noise() -> None:
    """Cholesky of the noise readouts, sqrt(2 · dwell ratio · bandwidth): imaging noise of variance one."""
    noise = NoiseConfig(std=0.5, neighbour_correlation=0.6, readouts=400, samples=256, dwell_us=17.0, seed=3)
    geometry = GeometryConfig(matrix=(64, 400, 1), fov_mm=(240.0, 240.0, 5.0), offset_mm=(0.0, 0.0, 400.0))
    scan = simulate(small(noise=noise, geometry=geometry, timing=TimingConfig(dwell_us=3.0)))
    blocks = [item for item in scan.items(1000) if isinstance(item, Readouts)]
    measured = blocks[0].samples.swapaxes(0, 1).reshape(4, -1)
    assert flagged(blocks[0].headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT).all()
    # The slice lies far above the head: the imaging readouts hold nothing but noise.
    imaging = blocks[1].samples.swapaxes(0, 1).reshape(4, -1)
    covariance = measured @ measured.conj().T / measured.shape[1]
    header = ismrmrd.xsd.CreateFromDocument(scan.header_xml)
    bandwidth = header.acquisitionSystemInformation.relativeReceiverNoiseBandwidth
    ratio = blocks[1].headers["sample_time_us"][0] / blocks[0].headers["sample_time_us"][0]
    white = np.linalg.inv(np.linalg.cholesky(covariance)) @ imaging * np.sqrt(2 * ratio * bandwidth)
    found = white @ white.conj().T / white.shape[1]
    np.testing.assert_allclose(found, 2 * np.eye(4), atol=0.05)
    assert np.std(white.real) == pytest.approx(1.0, abs=0.01)
    # And the noise is what was asked for.
    expected = imaging @ imaging.conj().T / imaging.shape[1]
    np.testing.assert_allclose(
        expected, scan.truth.covariance, atol=0.02 * np.abs(scan.truth.covariance).max()
    )
    assert np.sqrt(np.trace(scan.truth.covariance).real / 4 / 2) == pytest.approx(0.5)
    correlation = np.abs(scan.truth.covariance) / np.sqrt(
        np.outer(np.diag(scan.truth.covariance), np.diag(scan.truth.covariance)).real
    )
    assert correlation[0, 1] == pytest.approx(0.6)
    assert correlation[0, 2] < 0.55


def test_separate_noise_scan_is_what_the_header_depends_on() -> None:
    scan = simulate(small(noise=NoiseConfig(scan="separate", readouts=4)))
    assert scan.noise_scan is not None
    header = ismrmrd.xsd.CreateFromDocument(scan.header_xml)
    noise_header = ismrmrd.xsd.CreateFromDocument(scan.noise_scan.header_xml)
    dependency = header.measurementInformation.measurementDependency[0]
    assert dependency.dependencyType == "Noise"
    assert dependency.measurementID == noise_header.measurementInformation.measurementID
    assert dependency.measurementID != header.measurementInformation.measurementID
    (block,) = scan.noise_scan.items()
    assert len(block) == 4
    assert not flagged(gathered(scan).headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT).any()


def test_stream_does_not_depend_on_blocks_or_on_earlier_reading() -> None:
    scan = simulate(
        small(
            noise=NoiseConfig(readouts=3, samples=96), dynamics=DynamicsConfig(repetitions=2), waveforms=ECG
        )
    )
    other = simulate(scan.config)
    next(iter(other.items(5)))
    parts = []
    for source, block in ((scan, 7), (scan, 1000), (other, 64)):
        readouts = [item for item in source.items(block) if isinstance(item, Readouts)]
        parts.append(
            (
                np.concatenate([part.headers for part in readouts]),
                np.concatenate([part.samples for part in readouts]),
            )
        )
    for headers, samples in parts[1:]:
        np.testing.assert_array_equal(headers, parts[0][0])
        np.testing.assert_array_equal(samples, parts[0][1])


ECG = WaveformConfig(ecg=True, chunk_ms=50.0)


def test_waveforms_come_when_their_last_sample_is_there() -> None:
    scan = simulate(small(waveforms=ECG, timing=TimingConfig(tr_ms=8.0, heart_rate_bpm=75.0)))
    latest = -1
    beats = []
    n_waveforms = 0
    for item in scan.items(16):
        if isinstance(item, Waveform):
            n_waveforms += 1
            end = int(item.header["time_stamp"]) + item.data.shape[1]
            assert latest < end
            beats += (int(item.header["time_stamp"]) + np.flatnonzero(item.data[1])).tolist()
            assert abs(int(item.data[0].min()) - 2048) < 400
            earliest_next = end
        else:
            if n_waveforms:
                assert item.headers["acquisition_time_stamp"][0] >= earliest_next
            latest = int(item.headers["acquisition_time_stamp"][-1])
    # 40 readouts of 8 ms are 320 ms: six pieces of 50 ms.
    assert n_waveforms == 6
    assert beats == [43_200 * 400]
    assert "ECG" in scan.header_xml.decode()


def test_time_stamps_count_two_and_a_half_ms() -> None:
    scan = simulate(small(timing=TimingConfig(tr_ms=7.0, start_s=100.0)))
    stamps = gathered(scan).headers["acquisition_time_stamp"].astype(int)
    np.testing.assert_array_equal(stamps, np.floor(40_000 + np.arange(40) * 2.8).astype(int))


def test_navigators_and_phase_correction_stay_out_of_the_image() -> None:
    quirks = QuirkConfig(navigator_every=10, phase_correction_lines=3)
    scan = simulate(small(quirks=quirks, noise=NoiseConfig(std=0.05, scan="none")))
    headers = gathered(scan).headers
    navigators = flagged(headers["flags"], AcquisitionFlag.NAVIGATION_DATA)
    corrections = flagged(headers["flags"], AcquisitionFlag.PHASECORR_DATA)
    assert navigators.sum() == 3
    assert list(np.flatnonzero(corrections)) == [0, 1, 2]
    assert np.all(headers["idx"]["kspace_encode_step_1"][navigators | corrections] == 20)
    assert (~navigators & ~corrections).sum() == 40


def test_quirks_take_away_what_a_reader_may_not_rely_on() -> None:
    quirks = QuirkConfig(
        limits="none",
        zero_directions=True,
        center_in_user=False,
        absent=(
            "measurementInformation",
            "acquisitionSystemInformation",
            "sequenceParameters",
            "parallelImaging",
        ),
    )
    scan = simulate(small(quirks=quirks, sampling=SamplingConfig(acceleration=(2, 1), acs=(8, 0))))
    header = ismrmrd.xsd.CreateFromDocument(scan.header_xml)
    assert header.measurementInformation is None
    assert header.acquisitionSystemInformation is None
    assert header.encoding[0].parallelImaging is None
    assert header.encoding[0].encodingLimits.kspace_encoding_step_1 is None
    headers = gathered(scan).headers
    for name in ("position", "read_dir", "phase_dir", "slice_dir", "sample_time_us"):
        assert not headers[name].any()
    assert not headers["idx"]["user"].any()


@pytest.mark.parametrize(
    ("limits", "center_in_user", "vendor"),
    [
        ("full", True, "Scanside"),
        ("step_1", True, "SIEMENS"),
        ("none", True, "SIEMENS"),
        ("none", False, "Scanside"),
    ],
)
def test_vendor_whose_user_counters_tell_the_centre(limits: Any, center_in_user: bool, vendor: str) -> None:
    scan = simulate(small(quirks=QuirkConfig(limits=limits, center_in_user=center_in_user)))
    system = ismrmrd.xsd.CreateFromDocument(scan.header_xml).acquisitionSystemInformation
    assert system.systemVendor == vendor


def test_contrasts_decay_and_sets_differ_in_phase_only() -> None:
    scan = simulate(small(dynamics=DynamicsConfig(te_ms=(5.0, 35.0), sets=2)))
    first, later = scan.truth.image(), scan.truth.image(contrast=1)
    mask = scan.truth.mask[0]
    assert np.abs(later[mask]).mean() < 0.8 * np.abs(first[mask]).mean()
    other = scan.truth.image(set_=1)
    np.testing.assert_allclose(np.abs(other).sum(), np.abs(first).sum(), rtol=0.05)
    assert np.abs(np.angle(np.vdot(first, other))) > 0.3
    readouts = gathered(scan)
    for contrast, set_ in np.ndindex(2, 2):
        idx = readouts.headers["idx"]
        some = readouts.select((idx["contrast"] == contrast) & (idx["set"] == set_))
        image = image_of(kspace_of(scan, some), SMALL.matrix)
        combined = np.sum(image * scan.truth.maps[0].conj(), axis=0)
        phase = np.angle(np.vdot(scan.truth.image(contrast=contrast, set_=set_), combined))
        assert abs(phase) < 0.02


def test_gated_and_real_time_hearts_beat_and_a_static_head_is_kept_once() -> None:
    heart = PhantomConfig(kind="cardiac")
    geometry = GeometryConfig(matrix=(48, 40, 1), fov_mm=(360.0, 360.0, 8.0))
    gated = simulate(small(phantom=heart, geometry=geometry, dynamics=DynamicsConfig(phases=3)))
    assert gated.truth.images.shape == (1, 3, 1, 1, 1, 1, 40, 48)
    assert relative_error(gated.truth.image(phase=1), gated.truth.image(phase=0)) > 0.02
    timing = TimingConfig(tr_ms=10.0, heart_rate_bpm=50.0)
    dynamics = DynamicsConfig(repetitions=4, beat="time")
    live = simulate(small(phantom=heart, geometry=geometry, dynamics=dynamics, timing=timing))
    # 40 lines of 10 ms are a third of a beat of 1.2 s: the fourth repetition sees the first one's heart.
    assert live.truth.images.shape[2] == 4
    np.testing.assert_allclose(live.truth.image(repetition=3), live.truth.image(repetition=0), atol=1e-5)
    np.testing.assert_allclose(live.truth.image(repetition=1), gated.truth.image(phase=1), atol=1e-5)
    static = simulate(small(dynamics=DynamicsConfig(repetitions=50)))
    assert static.truth.images.shape[2] == 1
    np.testing.assert_array_equal(static.truth.image(repetition=49), static.truth.image())


def test_truth_survives_its_file(tmp_path: Any) -> None:
    truth = simulate(small()).truth
    truth.save(tmp_path / "truth.npz")
    loaded = Truth.load(tmp_path / "truth.npz")
    for name in ("images", "maps", "mask", "affines", "affine", "covariance"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(truth, name))
    np.savez(tmp_path / "other.npz", images=truth.images)
    with pytest.raises(ValueError, match="lacks maps"):
        Truth.load(tmp_path / "other.npz")


def test_measurement_ids_are_such_as_gadgetron_adjusts_noise_for() -> None:
    """Device, patient, study and measurement, joined by underscores; a noise scan has a measurement of its own."""
    scan = simulate(small(noise=NoiseConfig(scan="separate", readouts=4)))
    assert scan.noise_scan is not None
    ids = [MrdHeader.parse(one.header_xml).measurement_id or "" for one in (scan, scan.noise_scan)]
    parts = [one.split("_") for one in ids]
    assert [len(one) for one in parts] == [4, 4]
    assert parts[0][:3] == parts[1][:3]
    assert MrdHeader.parse(scan.header_xml).depends_on("Noise") == (ids[1],)
