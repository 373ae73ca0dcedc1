"""Every defect is found, and nothing else: the same scan without it has no such finding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scanside.inspection import inspect_file
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.readouts import Readouts
from scanside.simulate import (
    DynamicsConfig,
    EchoPlanarConfig,
    GeometryConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    preset,
    simulate,
)

pytestmark = pytest.mark.torch_free

LAST = int(
    AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_REPETITION | AcquisitionFlag.LAST_IN_MEASUREMENT
)


def test_sound_scan_has_no_findings(make_scan: Callable[..., str]) -> None:
    assert inspect_file(make_scan()).findings == []


def counter_outside(blocks: list[Readouts]) -> None:
    blocks[-1].headers["idx"]["kspace_encode_step_1"][-1] = 40


def slice_outside(blocks: list[Readouts]) -> None:
    blocks[-1].headers["idx"]["slice"][-1] = 7


def nan(blocks: list[Readouts]) -> None:
    blocks[-1].samples[3, 1, 5] = np.nan


def noise_nan(blocks: list[Readouts]) -> None:
    blocks[0].samples[0, 0, 0] = np.inf


def silent(blocks: list[Readouts]) -> None:
    blocks[-1].samples[3] = 0


def lost(blocks: list[Readouts]) -> None:
    last = blocks[-1]
    blocks[-1] = last.select(np.arange(len(last)) != 4)


def twice(blocks: list[Readouts]) -> None:
    blocks[-1].headers["scan_counter"][5] -= 1


def repeated(blocks: list[Readouts]) -> None:
    blocks.append(blocks[-1].select(slice(-1, None)).copy())


def other_length(blocks: list[Readouts]) -> None:
    last = blocks[-1]
    blocks[-1] = last.select(slice(0, -1))
    odd = last.select(slice(-1, None)).with_samples(last.samples[-1:, :, 2:].copy())
    blocks.append(odd)


def other_coils(blocks: list[Readouts]) -> None:
    last = blocks[-1]
    blocks[-1] = last.select(slice(0, -1))
    blocks.append(last.select(slice(-1, None)).with_samples(last.samples[-1:, :3].copy()))


def no_directions(blocks: list[Readouts]) -> None:
    for block in blocks:
        for name in ("read_dir", "phase_dir", "slice_dir"):
            block.headers[name] = 0


def skewed(blocks: list[Readouts]) -> None:
    for block in blocks:
        block.headers["phase_dir"] = block.headers["read_dir"]


def left_handed(blocks: list[Readouts]) -> None:
    for block in blocks:
        block.headers["slice_dir"] *= -1


def same_place(blocks: list[Readouts]) -> None:
    for block in blocks:
        block.headers["position"] = 0


def no_noise(blocks: list[Readouts]) -> None:
    del blocks[0]


def no_calibration(blocks: list[Readouts]) -> None:
    flags = AcquisitionFlag.PARALLEL_CALIBRATION | AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
    for block in blocks:
        block.headers["flags"] &= ~np.uint64(int(flags))


def no_last(blocks: list[Readouts]) -> None:
    for block in blocks:
        block.headers["flags"] &= ~np.uint64(LAST)


def other_space(blocks: list[Readouts]) -> None:
    blocks[-1].headers["encoding_space_ref"] = 1


def no_dwell(blocks: list[Readouts]) -> None:
    blocks[-1].headers["sample_time_us"] = 0


def nothing_left(blocks: list[Readouts]) -> None:
    blocks[-1].headers["discard_pre"][-2:] = 40


def centre_lost(blocks: list[Readouts]) -> None:
    for i, block in enumerate(blocks):
        at_centre = np.isin(block.headers["idx"]["kspace_encode_step_1"], range(14, 18))
        blocks[i] = block.select(~at_centre)


def last_too_early(blocks: list[Readouts]) -> None:
    blocks[-1].headers["flags"][3] |= np.uint64(LAST)


def noise_late(blocks: list[Readouts]) -> None:
    blocks.append(blocks[0].select(slice(4, None)))
    blocks[0] = blocks[0].select(slice(0, 4))


def noise_only(blocks: list[Readouts]) -> None:
    del blocks[1:]


def channel_without_noise(blocks: list[Readouts]) -> None:
    blocks[0].samples[:, 2] = 0


def ended_early(blocks: list[Readouts]) -> None:
    for i, block in enumerate(blocks):
        blocks[i] = block.select(block.headers["idx"]["slice"] == 0)


@pytest.mark.parametrize(
    ("edit", "level", "text"),
    [
        (
            counter_outside,
            "error",
            "kspace_encode_step_1 runs from 0 to 40, outside the header's limits 0 to 31",
        ),
        (slice_outside, "warning", "slice runs from 0 to 7, outside the header's limits 0 to 1"),
        (nan, "error", "NaN or infinite in 1 readout,"),
        (noise_nan, "error", "noise readouts are not finite"),
        (silent, "warning", "nothing but zeros in 1 readout"),
        (lost, "warning", "1 readout may be lost"),
        (centre_lost, "warning", "lines were lost: slice 0, "),
        (twice, "warning", "scan counters come twice (1 time"),
        (repeated, "warning", "were there before in 1 readout"),
        (other_length, "warning", "readouts change their samples: 62, 64 occur"),
        (other_coils, "error", "readouts change their channels: 3, 4 occur"),
        (other_coils, "warning", "the header announces 4 channels, readouts have 3 and 4"),
        (no_directions, "warning", "all directions are zero"),
        (skewed, "error", "perpendicular"),
        (left_handed, "note", "left-handed"),
        (same_place, "warning", "2 slices share 1 position"),
        (no_noise, "warning", "no noise readouts and no noise dependency"),
        (no_calibration, "warning", "none is flagged as calibration"),
        (no_last, "warning", "no readout is flagged as the last"),
        (other_space, "error", "readouts refer to encoding space 1, the header has 1"),
        (no_dwell, "warning", "no dwell time"),
        (nothing_left, "error", "nothing is left of the echo in 2 readouts"),
        (last_too_early, "error", "after the one that is flagged as its last"),
        (noise_late, "warning", "4 noise readouts came after the first line"),
        (noise_only, "note", "noise readouts only"),
        (channel_without_noise, "warning", "no noise in channels (counted from 0) 2 of 4"),
        (ended_early, "warning", "1 of the 2 values of slice"),
    ],
)
def test_defect(
    make_scan: Callable[..., str], edit: Callable[[list[Readouts]], None], level: str, text: str
) -> None:
    found = inspect_file(make_scan(edit=edit))
    assert [f for f in found.findings if f.level == level and text in f.text], [
        str(f) for f in found.findings
    ]


@pytest.mark.parametrize(
    ("old", "new", "level", "text"),
    [
        (b"<receiverChannels>4<", b"<receiverChannels>6<", "warning", "announces 6 channels"),
        (b"</encodingLimits>", b"</encodingLimits><oops>", "error", "not well-formed"),
        (b"kspace_encoding_step_1>2<", b"kspace_encoding_step_1>3<", "warning", "acceleration 3 × 1"),
        (b"<trajectory>cartesian<", b"<trajectory>spiral<", "error", "no readout carries its trajectory"),
        (b"Bandwidth>0.793<", b"Bandwidth>-1<", "error", "relativeReceiverNoiseBandwidth is -1"),
        (b"encodingLimits>", b"limits>", "warning", "no encoding limits"),
        (b"<center>16</center>", b"<center>40</center>", "warning", "lies outside its limits"),
        (b"<center>16</center>", b"<center>10</center>", "warning", "reach beyond the encoded matrix"),
        (b"measurementID>", b"anotherID>", "note", "measurementID"),
    ],
)
def test_defect_of_the_header(
    make_scan: Callable[..., str], old: bytes, new: bytes, level: str, text: str
) -> None:
    def edit(xml: bytes) -> bytes:
        assert old in xml
        return xml.replace(old, new)

    found = inspect_file(make_scan(header=edit))
    assert [f for f in found.findings if f.level == level and text in f.text], [
        str(f) for f in found.findings
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {
            "sampling": {"acceleration": (2, 1), "acs": (12, 0), "acs_mode": "separate"},
            "geometry": {"matrix": (16, 32, 1)},
        },
        {"sampling": {"reverse": "all", "discard": (2, 2)}},
        {"sampling": {"partial_fourier": (0.75, 1), "partial_echo": 0.75, "phase_oversampling": 0.25}},
        {
            "sampling": {"acceleration": (2, 1), "acs": (12, 0), "pattern": "variable-density"},
            "geometry": {"matrix": (16, 48, 1)},
        },
        {"sampling": {"acceleration": (2, 2), "acs": (12, 12)}, "geometry": {"matrix": (16, 24, 24)}},
        {"dynamics": {"averages": 2, "segments": 2, "te_ms": (5, 10), "sets": 2, "repetitions": 2}},
        {"quirks": {"navigator_every": 4, "phase_correction_lines": 3}},
        {"geometry": {"matrix": (17, 15, 1), "n_slices": 3, "slice_order": "interleaved"}},
    ],
)
def test_unusual_but_sound_scans_have_no_findings(
    make_scan: Callable[..., str], settings: dict[str, dict[str, object]]
) -> None:
    base = {
        "phantom": {"kind": "shepp-logan", "supersampling": (1, 1, 1)},
        "coils": {"n_coils": 2},
        "geometry": {"matrix": (16, 16, 1)},
    }
    found = inspect_file(make_scan(ScanConfig.model_validate(base | settings)))
    assert [str(finding) for finding in found.findings] == []


@pytest.mark.parametrize(
    ("settings", "found", "needed"),
    [
        ({"sampling": {"acceleration": (2, 1), "acs": (8, 0)}}, {"k1": 8}, 11),
        ({"sampling": {"acceleration": (4, 1), "acs": (12, 0)}}, {"k1": 12}, 14),
        ({"sampling": {"acceleration": (2, 1), "acs": (12, 0)}}, {}, 0),
        ({"sampling": {"partial_fourier": (0.53, 1)}}, {"k1": 3}, 11),
        ({"sampling": {"partial_fourier": (0.7, 1)}}, {}, 0),
        (
            {
                "geometry": {"matrix": (16, 16, 16)},
                "sampling": {"acceleration": (2, 2), "acs": (8, 8)},
            },
            {"k1": 8, "k2": 8},
            11,
        ),
        ({"geometry": {"matrix": (16, 16, 4)}}, {}, 0),
    ],
)
def test_few_calibration_lines(
    make_scan: Callable[..., str], settings: dict[str, dict[str, object]], found: dict[str, int], needed: int
) -> None:
    """Pipelines take smaller kernels then, or none, and say so."""
    base = {
        "phantom": {"kind": "shepp-logan", "supersampling": (1, 1, 1)},
        "coils": {"n_coils": 2},
        "geometry": {"matrix": (32, 32, 1)},
    }
    texts = [f.text for f in inspect_file(make_scan(ScanConfig.model_validate(base | settings))).findings]
    assert len(texts) == len(found)
    for (axis, n), text in zip(found.items(), texts, strict=True):
        assert f"the calibration region has {n} lines along {axis}" in text
        assert f"need {needed};" in text


@pytest.mark.parametrize("carried", [True, False])
def test_readouts_off_the_grid_need_their_trajectory(tmp_path: Path, carried: bool) -> None:
    pytest.importorskip("finufft", reason="trajectories are simulated by finufft")
    scan = simulate(preset("spiral").model_copy(update={"dynamics": DynamicsConfig()}))
    with Hdf5Writer(tmp_path / "scan.h5", scan.header_xml) as writer:
        for item in scan.items():
            if isinstance(item, Readouts) and not carried:
                item = Readouts(item.headers.copy(), item.samples)
                item.headers["trajectory_dimensions"] = 0
            writer.write(item)
    found = inspect_file(tmp_path / "scan.h5")
    told = "the header's trajectory is spiral, and no readout carries its trajectory: have the converter write it"
    errors = [f.text for f in found.findings if f.level == "error"]
    assert [told in text for text in errors] == ([] if carried else [True])


@pytest.mark.parametrize(
    ("identifier", "told"),
    [
        ("ConventionalEPI", "the header's trajectory is epi: samples on the gradient's ramps are regridded"),
        (
            None,
            "samples are taken for equidistant, as no trajectoryDescription ConventionalEPI",
        ),
    ],
)
def test_echo_trains_tell_whether_samples_can_be_regridded(
    make_scan: Callable[..., Path], identifier: str | None, told: str
) -> None:
    samples = 80 if identifier else None  # more than the encoded line has
    epi = EchoPlanarConfig(ramp_us=20, samples=samples, identifier=identifier)
    geometry, phantom = GeometryConfig(matrix=(32, 32, 1)), PhantomConfig(kind="shepp-logan")
    config = ScanConfig(geometry=geometry, phantom=phantom, sampling=SamplingConfig(epi=epi))
    findings = inspect_file(make_scan(config)).findings
    assert [f.level for f in findings if told in f.text] == ["note"]
    assert not [str(f) for f in findings if f.level == "error"]
    assert any("these are echo-planar readouts" in f.text for f in findings)
