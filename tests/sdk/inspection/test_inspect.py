"""What is in a file is told as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scanside.errors import FileFormatError
from scanside.inspection import as_dict, encoding_facts, facts, inspect_file, statements
from scanside.mrd.files import StreamWriter, open_recording
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.hdf5 import Hdf5Reader, Hdf5Writer
from scanside.mrd.readouts import Readouts
from scanside.sampling.temporal import frame_masks
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    WaveformConfig,
    simulate,
)

pytestmark = pytest.mark.torch_free


def test_scanner_file(shared_data: Path) -> None:
    """Facts that the file's description gives."""
    found = inspect_file(shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.h5")
    assert (found.n_readouts, found.format, found.group) == (69, "ISMRMRD HDF5", "dataset")
    (space,) = found.encodings
    pattern = space.sampling
    assert pattern is not None
    assert (pattern.n_lines, pattern.spacing) == (68, (3, 1))
    assert np.flatnonzero(pattern.within[0])[[0, -1]].tolist() == [18, 123]
    assert (pattern.bands[0].first, pattern.bands[0].last, pattern.bands[0].kind) == (18, 123, "reduced")
    told = dict(statements(space))
    assert "reduced resolution" in told["along phase"]
    assert "not partial Fourier" in told["along phase"]
    assert told["calibration"] == "48 lines (embedded), kspace_encode_step_1 30 to 77"
    assert space.geometries[0].is_left_handed
    assert [f.level for f in found.findings] == ["note"]
    assert "left-handed" in found.findings[0].text
    assert found.survey.noise is not None
    assert found.survey.noise.n_readouts == 1
    assert found.survey.flags["PARALLEL_CALIBRATION_AND_IMAGING"] == 16
    assert ("depends on (Noise)", "45387_1079885_1079904_343") in facts(found)


def test_sparse_header(shared_data: Path) -> None:
    found = inspect_file(shared_data / "scanner-ismrmrd" / "phantom_array16.h5")
    text = "\n".join(map(str, found.findings))
    for expected in (
        "directions are zero",
        "no dwell time",
        "no noise readouts",
        "no time stamps",
        "measurementID",
    ):
        assert expected in text
    assert not any(finding.level == "error" for finding in found.findings)


def test_file_of_images(shared_data: Path) -> None:
    found = inspect_file(shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.gadgetron-4.7.2.h5")
    assert found.header is None
    assert not found.findings
    (series,) = found.survey.images
    assert (series.n_images, series.shape, series.dtype) == (1, (1, 1, 144, 192), "uint16")


def test_captured_stream(shared_data: Path) -> None:
    """Recon data and waveforms of a recorded chain are counted, compressed or not."""
    captures = sorted((shared_data / "gadgetron-captures").glob("*acquisition*.bin.xz"))
    assert captures, "the captures have other names now"
    found = inspect_file(captures[0])
    assert found.format == "ISMRMRD stream"
    assert found.n_readouts > 0


def test_everything_is_json(make_scan: object) -> None:
    found = inspect_file(make_scan())  # type: ignore[operator]
    document = json.loads(json.dumps(as_dict(found), allow_nan=False))
    (space,) = document["encodings"]
    assert document["n_readouts"] == found.n_readouts
    assert space["counters"]["slice"] == {"minimum": 0, "maximum": 1, "n_values": 2, "limit": [0, 1, 0]}
    assert space["sampling"]["calibration_k1"] == [10, 21]
    assert len(document["noise"]["std_per_coil"]) == 4


def test_noise_covariance_is_that_of_the_simulation(make_scan: object) -> None:
    config = ScanConfig.model_validate(
        {"noise": {"readouts": 64, "relative_receiver_bandwidth": 1, "dwell_us": 5}}
    )
    found = inspect_file(make_scan(config))  # type: ignore[operator]
    expected = simulate(config).truth.covariance
    assert found.survey.noise is not None
    assert found.survey.noise.covariance is not None
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)).real)
    # The standard error of a correlation from 64 × 256 samples is below one percent.
    assert np.abs((found.survey.noise.covariance - expected) / scale).max() < 0.04


@pytest.mark.parametrize(
    ("settings", "axis", "expected"),
    [
        ({"phase_resolution": 0.7}, "along phase", "reduced resolution"),
        ({"partial_fourier": (0.75, 1.0)}, "along phase", "partial Fourier, 6.0/8"),
        (
            {"partial_fourier": (0.75, 1.0), "partial_fourier_side": "late"},
            "along phase",
            "partial Fourier, 6.0/8",
        ),
        ({"partial_echo": 0.75}, "along the readout", "asymmetric echo"),
        ({}, "along phase", "the whole matrix"),
    ],
)
def test_bands(make_scan: object, settings: dict[str, object], axis: str, expected: str) -> None:
    config = ScanConfig(sampling=SamplingConfig.model_validate(settings))
    found = inspect_file(make_scan(config))  # type: ignore[operator]
    told = dict(statements(found.encodings[0]))[axis]
    assert expected in told
    if expected.startswith("partial"):
        assert "not partial" not in told


def test_stream_and_file_give_the_same(make_scan: object, tmp_path: Path) -> None:
    file = make_scan(ScanConfig(waveforms=WaveformConfig(ecg=True)))  # type: ignore[operator]
    stream = tmp_path / "scan.bin"
    with open_recording(file) as source, StreamWriter(stream, source.header_xml) as writer:
        for item in source.items():
            writer.write(item)
    ours, theirs = as_dict(inspect_file(file)), as_dict(inspect_file(stream))
    different = {key for key in ours if ours[key] != theirs[key]}
    assert different == {"path", "format", "group"}


def test_damaged_stream_is_told_as_far_as_it_goes(make_scan: object, tmp_path: Path) -> None:
    stream = tmp_path / "scan.bin"
    with Hdf5Reader(make_scan()) as source, StreamWriter(stream, source.header_xml) as writer:  # type: ignore[operator]
        for block in source.blocks():
            writer.write(block)
    whole = inspect_file(stream)
    stream.write_bytes(stream.read_bytes()[:-10_000])
    cut = inspect_file(stream)
    assert 0 < cut.n_readouts < whole.n_readouts
    assert cut.findings[0].level == "error"
    assert "reading ended early" in cut.findings[0].text
    assert not whole.findings


def test_neither_file_nor_stream(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no raw data here")
    with pytest.raises(FileFormatError, match="neither"):
        inspect_file(path)


def test_frames_of_a_film(tmp_path: Path) -> None:
    config = ScanConfig(
        phantom=PhantomConfig(kind="cardiac"),
        coils=CoilConfig(n_coils=1),
        geometry=GeometryConfig(matrix=(16, 32, 1), n_slices=2, slice_gap_mm=5.0),
        sampling=SamplingConfig(pattern="golden", acceleration=(4, 1), acs=(3, 0)),
        dynamics=DynamicsConfig(repetitions=3, phases=2),
    )
    scan = simulate(config)
    path = tmp_path / "film.h5"
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    (space,) = inspect_file(path).encodings
    assert space.sampling is not None
    rng = np.random.default_rng([config.sampling.seed, 5])
    expected = frame_masks("golden", 32, 6, acceleration=4, acs=3, rng=rng)
    assert space.sampling.frames is not None
    assert np.array_equal(space.sampling.frames, expected)
    assert len(space.sampling.frames_text()) == 7


def in_two_spaces(tmp_path: Path) -> Path:
    """A scan whose separate calibration lines were moved to an encoding space of their own."""
    scan = simulate(
        ScanConfig(
            phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=4),
            sampling=SamplingConfig(acceleration=(2, 1), acs=(16, 0), acs_mode="separate"),
            geometry=GeometryConfig(matrix=(32, 32, 1)),
        )
    )
    begin, end = (
        scan.header_xml.index(b"<encoding>"),
        scan.header_xml.index(b"</encoding>") + len(b"</encoding>"),
    )
    path = tmp_path / "scan.h5"
    with Hdf5Writer(path, scan.header_xml[:end] + scan.header_xml[begin:]) as writer:
        for item in scan.items():
            if isinstance(item, Readouts):
                block = item.copy()
                only = flagged(block.headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION)
                block.headers["encoding_space_ref"][only] = 1
                writer.write(block)
    return path


def test_calibration_lines_in_another_space(tmp_path: Path) -> None:
    found = inspect_file(in_two_spaces(tmp_path))
    image, reference = found.encodings
    assert reference.sampling is not None
    assert reference.sampling.describe() == "16 lines for calibration, and none of an image"
    (told,) = [finding for finding in found.findings if "calibration lines" in finding.text]
    assert told.level == "note"
    assert "encoding space 0: lines are left out" in told.text
    assert "calibration lines lie in encoding space 1" in told.text
    assert image.sampling is not None
    assert image.sampling.describe().startswith("16 of 32 lines")


def test_stacks_of_different_orientation(tmp_path: Path) -> None:
    """Each is told, with the slices that it has."""
    scan = simulate(
        ScanConfig(
            phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=2),
            geometry=GeometryConfig(matrix=(16, 16, 1), n_slices=5),
        )
    )
    x, y, z = np.eye(3, dtype=np.float32)
    path = tmp_path / "scan.h5"
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            if isinstance(item, Readouts):
                block = item.copy()
                for numbers, directions in (((0, 1, 2), (x, y, z)), ((3,), (y, z, x)), ((4,), (x, z, y))):
                    of_stack = np.isin(block.headers["idx"]["slice"], numbers)
                    for name, direction in zip(
                        ("read_dir", "phase_dir", "slice_dir"), directions, strict=True
                    ):
                        block.headers[name][of_stack] = direction
                writer.write(block)
    (space,) = inspect_file(path).encodings
    rows = encoding_facts(space)
    planes = [text.split(";")[0] for name, text in rows if name == "orientation"]
    assert planes == ["axial", "sagittal", "coronal"]
    places = [text for name, text in rows if name == "position"]
    assert [text.split(" at ")[0] for text in places] == ["slice 0", "slice 3", "slice 4"]
    assert places[0].endswith("; 3 slices")
    assert not places[1].endswith("slices")


@pytest.mark.parametrize("shifting", [True, False])
def test_frames_that_take_turns(tmp_path: Path, shifting: bool) -> None:
    """Together they hold all lines, which is calibration enough; the same lines in each frame are not."""
    sampling = SamplingConfig(pattern="kt" if shifting else "equispaced", acceleration=(2, 1))
    scan = simulate(
        ScanConfig(
            phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=2),
            sampling=sampling,
            geometry=GeometryConfig(matrix=(32, 32, 1)),
            dynamics=DynamicsConfig(repetitions=4),
        )
    )
    path = tmp_path / "scan.h5"
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    (told,) = [finding for finding in inspect_file(path).findings if "lines are left out" in finding.text]
    assert told.level == ("note" if shifting else "warning")
    assert ("calibration is over the frames" in told.text) == shifting
