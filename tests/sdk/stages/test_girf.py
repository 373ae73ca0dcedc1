"""Images of gradients that eddy currents oppose, with their impulse response or their measured trajectory by file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside import Context, Image, Pipeline, Readouts, Scan, ScanEnd
from scanside.errors import FileFormatError, NonFiniteError, ScanError, ShapeError, StageError
from scanside.items import Samples
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    TrajectoryConfig,
    simulate,
)
from scanside.stages._trajectory_files import MeasuredTrajectory, read_girf
from scanside.stages.gather import GatherSamples
from scanside.stages.girf import PredictTrajectory

SHARE, DECAY_US = (0.06, 0.05), (80.0, 300.0)
FREQUENCIES = np.arange(0.0, 100_001.0, 100.0)
SPIRAL = {"kind": "spiral", "readouts": 12, "samples": 500}
Arrays = dict[str, Any]


def scan_of(*, turned: float = 0.0, eddy: bool = True, **trajectory: Any) -> SimulatedScan:
    share = SHARE if eddy else (0.0, 0.0)
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(64, 64, 1), offset_mm=(6.0, -4.0, 20.0), in_plane_deg=turned),
            coils=CoilConfig(n_coils=6),
            noise=NoiseConfig(std=0.002, spread=0.0, neighbour_correlation=0.0),
            sampling=SamplingConfig(
                trajectory=TrajectoryConfig(**trajectory, eddy_share=share, eddy_us=DECAY_US)
            ),
        )
    )


def response() -> Arrays:
    """Of the simulated eddy currents, in closed form."""
    turning = [2j * np.pi * FREQUENCIES * 1e-6 * decay for decay in DECAY_US]
    rows = [1 - share * s / (1 + s) for share, s in zip(SHARE, turning, strict=True)]
    return {"frequencies": FREQUENCIES, "transfer": np.stack([*rows, np.ones(len(FREQUENCIES))])}


def written(path: Path, arrays: Arrays, **attributes: str) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs.update(attributes)
    return path


@pytest.fixture
def girf(tmp_path: Path) -> Path:
    return written(tmp_path / "girf.h5", response(), axes="readout")


def image_of(
    simulated: SimulatedScan,
    pipeline: str,
    change: Callable[[Readouts], Readouts] | None = None,
    **settings: Any,
) -> Image:
    ready = Pipeline.load(pipeline, {name.replace("__", "."): str(value) for name, value in settings.items()})
    ready.prepare(Context(device="cpu"))
    made: list[Image] = []
    with ready.open(Scan.from_xml(simulated.header_xml)) as run:
        for item in simulated.items():
            item = change(item) if change is not None and isinstance(item, Readouts) else item
            made += [out for out in run.push(item) if isinstance(out, Image)]
        made += [out for out in run.finish(ScanEnd()) if isinstance(out, Image)]
    (image,) = made
    return image


def error(image: Image, simulated: SimulatedScan) -> float:
    truth = np.abs(simulated.truth.image()) * np.sqrt((np.abs(simulated.truth.maps[0]) ** 2).sum(0))
    mask = simulated.truth.mask[0]
    a, b = np.abs(np.asarray(image.data[0]))[mask], truth[mask]
    return float(np.linalg.norm(a * (a @ b) / (a @ a) - b) / np.linalg.norm(b))


def samples_of(simulated: SimulatedScan, **settings: Any) -> Samples:
    gather = GatherSamples(**settings)
    gather.prepare(Context(device="cpu"))
    gather.open(Scan.from_xml(simulated.header_xml))
    made = [one for item in simulated.items() if isinstance(item, Readouts) for one in gather.process(item)]
    (samples,) = [*made, *gather.finish(ScanEnd())]
    return samples


def predicted(samples: Samples, path: Path) -> Samples:
    stage = PredictTrajectory(file=path)
    stage.prepare(Context(device="cpu"))
    (made,) = stage.process(samples)
    return made


def planned_and_made(simulated: SimulatedScan) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Readouts]:
    """Points as planned and as made ``(readout, sample, 2)`` in cycles per voxel, and the readouts."""
    blocks = [item for item in simulated.items(1 << 10) if isinstance(item, Readouts)]
    trajectory, block = simulated._trajectory, blocks[-1]
    assert trajectory is not None
    return trajectory.nominal(block.headers)[..., :2], trajectory.points(block.headers)[..., :2], block


def test_a_spiral_is_the_object_with_the_response_alone(girf: Path) -> None:
    simulated, plain = scan_of(**SPIRAL), scan_of(eddy=False, **SPIRAL)
    with_response = image_of(simulated, "spiral", girf__file=girf)
    reference = error(image_of(plain, "spiral"), plain)
    assert error(with_response, simulated) <= 1.1 * reference + 0.005
    assert error(image_of(simulated, "spiral"), simulated) > 2 * reference
    assert float(with_response.meta.first("GirfShift")) > 0.5


def test_spokes_need_no_delays_with_it(girf: Path) -> None:
    image = image_of(scan_of(readouts=30), "radial", girf__file=girf)
    assert [float(one) for one in image.meta["GradientDelays"]] == pytest.approx([0, 0, 0], abs=0.05)
    without = image_of(scan_of(readouts=30), "radial")
    delays = [share * decay / 5.0 for share, decay in zip(SHARE, DECAY_US, strict=True)]  # in samples of 5 µs
    assert [float(one) for one in without.meta["GradientDelays"]] == pytest.approx([*delays, 0], abs=0.05)


def test_axes_of_the_patient_are_turned(tmp_path: Path) -> None:
    """Read and phase direction change places, and so do what their axes do."""
    arrays = response()
    swapped = {**arrays, "transfer": arrays["transfer"][[1, 0, 2]]}
    patient = written(tmp_path / "patient.h5", swapped, axes="patient")
    samples = samples_of(scan_of(turned=90.0, readouts=10))
    readout = predicted(samples, written(tmp_path / "readout.h5", arrays, axes="readout"))
    torch.testing.assert_close(predicted(samples, patient).points, readout.points, atol=1e-5, rtol=0)


def test_the_phase_of_the_field_is_taken_away(tmp_path: Path) -> None:
    arrays = response()
    field = np.zeros((3, len(FREQUENCIES)))
    field[0] = 0.002
    samples = samples_of(scan_of(readouts=10))
    plain = predicted(samples, written(tmp_path / "plain.h5", arrays, axes="readout"))
    changed = predicted(samples, written(tmp_path / "field.h5", {**arrays, "field": field}, axes="readout"))
    per_metre = samples.points[..., 0].double() / (1e-3 * samples.encoding.recon.voxel_mm[0])
    expected = plain.data * torch.exp(2j * torch.pi * 0.002 * per_metre)
    torch.testing.assert_close(changed.data, expected.to(torch.complex64), rtol=1e-4, atol=1e-4)


def test_a_measured_trajectory_takes_the_place_of_what_readouts_carry(tmp_path: Path) -> None:
    simulated = scan_of(**SPIRAL)
    _, made, block = planned_and_made(simulated)
    steps = block.headers["idx"]["kspace_encode_step_1"]
    order = np.random.default_rng(0).permutation(len(made))
    path = written(
        tmp_path / "measured.h5",
        {"trajectory": made[order] * 2 * np.pi, "kspace_encode_step_1": steps[order]},
        unit="radian",
    )
    reference = image_of(scan_of(eddy=False, **SPIRAL), "spiral")
    image = image_of(simulated, "spiral", gather__trajectory=path)
    assert error(image, simulated) <= 1.1 * error(reference, simulated) + 0.005

    def bare(readouts: Readouts) -> Readouts:
        return Readouts(readouts.headers, readouts.samples)

    without = image_of(simulated, "spiral", bare, gather__trajectory=path)
    torch.testing.assert_close(without.data, image.data, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "axes", "why"),
    [
        ({"transfer": None}, "readout", "holds no array 'transfer'"),
        (
            {"transfer": np.ones((2, len(FREQUENCIES)))},
            "readout",
            r"has shape \(2, 1001\), expected \(3, 1001\)",
        ),
        ({"transfer": np.zeros((3, len(FREQUENCIES)))}, "readout", "expected about 1"),
        ({"frequencies": FREQUENCIES - 5e4}, "readout", "from 0 on, rising"),
        ({"frequencies": FREQUENCIES[:-1]}, "readout", "has shape"),
        ({"field": np.zeros(3)}, "readout", "field of"),
        ({"transfer": np.array([b"abc"])}, "readout", "holds no numbers"),
        ({}, "scanner", "attribute axes of .* is 'scanner'"),
    ],
)
def test_responses_that_cannot_be_used(tmp_path: Path, change: Arrays, axes: str, why: str) -> None:
    arrays = {name: array for name, array in {**response(), **change}.items() if array is not None}
    with pytest.raises(FileFormatError, match=why):
        read_girf(written(tmp_path / "bad.h5", arrays, axes=axes))


def test_responses_that_hold_no_numbers(tmp_path: Path) -> None:
    arrays = response()
    arrays["transfer"][1, 7] = np.nan
    with pytest.raises(NonFiniteError, match="1 of 3003 values of 'transfer'"):
        read_girf(written(tmp_path / "bad.h5", arrays, axes="readout"))


def test_files_that_are_no_hdf5_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gradient impulse response"):
        read_girf(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("frequencies")
    with pytest.raises(FileFormatError, match="is no HDF5 file"):
        read_girf(tmp_path / "text.h5")


def test_a_response_below_the_gradients_frequencies(tmp_path: Path) -> None:
    few = {name: array[..., :8] for name, array in response().items()}
    path = written(tmp_path / "few.h5", few, axes="readout")
    with pytest.raises(ScanError, match="lies above 700 Hz"):
        predicted(samples_of(scan_of(**SPIRAL)), path)


def test_readouts_that_tell_no_time_or_directions(tmp_path: Path, girf: Path) -> None:
    samples = samples_of(scan_of(readouts=6))
    untimed = samples.replace(headers=samples.headers.copy())
    untimed.headers["sample_time_us"] = 0
    with pytest.raises(ScanError, match="tells no sample time"):
        predicted(untimed, girf)
    undirected = samples.replace(headers=samples.headers.copy())
    undirected.headers["read_dir"] = 0
    with pytest.raises(ScanError, match="tells no directions"):
        predicted(undirected, written(tmp_path / "patient.h5", response(), axes="patient"))


TRAJECTORY: Arrays = {
    "trajectory": np.zeros((5, 128, 2), np.float32),
    "kspace_encode_step_1": np.arange(5),
}


@pytest.mark.parametrize(
    ("change", "unit", "why"),
    [
        ({"trajectory": np.zeros((5, 128))}, "voxel", r"has shape \(5, 128\)"),
        ({"trajectory": np.zeros((5, 128, 4))}, "voxel", "2 or 3"),
        ({"kspace_encode_step_1": np.arange(4)}, "voxel", r"has shape \(4,\), expected \(5,\)"),
        ({"kspace_encode_step_1": None}, "voxel", "holds no counters"),
        ({"kspace_encode_step_1": np.zeros(5)}, "voxel", "holds 4 readouts twice, by kspace_encode_step_1"),
        ({}, "metres", "attribute unit of .* is 'metres'"),
    ],
)
def test_measured_trajectories_that_cannot_be_used(
    tmp_path: Path, change: Arrays, unit: str, why: str
) -> None:
    arrays = {name: array for name, array in {**TRAJECTORY, **change}.items() if array is not None}
    with pytest.raises(FileFormatError, match=why):
        MeasuredTrajectory.load(written(tmp_path / "bad.h5", arrays, unit=unit))


def test_measured_trajectories_of_another_protocol(tmp_path: Path) -> None:
    path = written(tmp_path / "other.h5", TRAJECTORY, unit="voxel")
    with pytest.raises(
        ScanError, match=r"no trajectory of the readout with scan counter \d+ \(kspace_encode_step_1 5\)"
    ):
        samples_of(scan_of(readouts=6), trajectory=path)
    with pytest.raises(ShapeError, match=r"readouts have 200 samples, and those of .* 128"):
        samples_of(scan_of(readouts=5, samples=200), trajectory=path)


def test_a_file_that_cannot_be_read_stops_the_pipeline(tmp_path: Path) -> None:
    with pytest.raises((StageError, FileNotFoundError), match="gradient impulse response"):
        image_of(scan_of(readouts=6), "radial", girf__file=tmp_path / "none.h5")
