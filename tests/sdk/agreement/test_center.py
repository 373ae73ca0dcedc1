"""The centre that the header names is held against where the signal is strongest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scanside.mrd.flags import AcquisitionFlag

pytestmark = pytest.mark.torch_free

VOLUME = {
    "geometry": {"matrix": (32, 32, 16)},
    "sampling": {"partial_fourier": (0.75, 0.75)},
    "quirks": {"center_in_user": True},
}


def named(text: str, texts: list[str]) -> str:
    (found,) = [one for one in texts if text in one]
    return found


def test_wrong_centres_of_both_phase_encodings(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(**VOLUME)
    assert scan.texts() == []
    scan.change_header("<center>8</center>", "<center>16</center>")
    scan.change_header("<center>4</center>", "<center>8</center>")
    told, _ = scan.compare(block=50)
    assert [finding.level for finding in told] == ["warning", "warning"]
    texts = [finding.text for finding in told]
    first = named("kspace_encode_step_1", texts)
    assert "kspace_encode_step_1 = 16, but the signal is strongest at 8, " in first
    assert first.endswith("(to 8: user counter 5 of the readouts says so)")
    second = named("kspace_encode_step_2", texts)
    assert "kspace_encode_step_2 = 8, but the signal is strongest at 4, " in second
    assert second.endswith("(to 4: user counter 6 of the readouts says so)")


def test_without_limits_the_middle_of_the_matrix_is_meant(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(**{**VOLUME, "quirks": {"center_in_user": False}})
    limits = scan.xml[scan.xml.index("<encodingLimits>") : scan.xml.index("</encodingLimits>")]
    scan.change_header(limits, "<encodingLimits>")
    found = named("kspace_encode_step_1", scan.texts())
    assert "kspace_encode_step_1 = 16, but the signal is strongest at 8" in found
    assert "user counter" not in found


def test_user_counters_that_are_used_are_no_contradiction(make_scan: Callable[..., Any]) -> None:
    """Of Siemens scans without limits the user counters give the centre."""
    scan = make_scan(**VOLUME)
    limits = scan.xml[scan.xml.index("<encodingLimits>") : scan.xml.index("</encodingLimits>")]
    scan.change_header(limits, "<encodingLimits>")
    scan.change_header("<systemVendor>Scanside<", "<systemVendor>SIEMENS<")
    assert scan.texts() == []


@pytest.mark.parametrize("center", [0, 40])
def test_centre_where_nothing_was_sampled(make_scan: Callable[..., Any], center: int) -> None:
    """A centre outside what was measured is told too, since the signal falls off on both sides of the peak."""
    scan = make_scan()
    block = scan.lines
    block.headers["idx"]["kspace_encode_step_1"] += 6
    scan.change_header(
        "<maximum>31</maximum>\n    <center>16", f"<maximum>40</maximum>\n    <center>{center}"
    )
    assert f"strongest at 22, and nothing was sampled near {center}" in named("step_1", scan.texts())


@pytest.mark.parametrize(("shift", "is_far"), [(2, False), (9, True)])
def test_center_sample(make_scan: Callable[..., Any], shift: int, is_far: bool) -> None:
    scan = make_scan()
    scan.lines.headers["center_sample"] += shift
    expected = (
        [f"the echo lies at sample {32 + shift} of 64, but the signal is strongest at 33"] if is_far else []
    )
    texts = scan.texts()
    assert len(texts) == len(expected)
    assert all(text in found for text, found in zip(expected, texts, strict=True))


def test_center_sample_of_reversed_readouts(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(sampling={"reverse": "alternate", "partial_echo": 0.75})
    lines = scan.lines
    # Of 48 samples the echo is the 16th; of reversed ones it is stored as the 31st, and 20 is neither.
    assert set(lines.headers["center_sample"].tolist()) == {16, 31}
    lines.headers["center_sample"][1::2] = 20
    found = named("center_sample", scan.texts())
    assert (
        "reversed readouts says that the echo lies at sample 20 of 48, but the signal is strongest at 31"
        in found
    )


def test_discarded_samples_do_not_count(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(sampling={"discard": (4, 4)})
    scan.lines.samples[:, :, :4] *= 1e6
    assert scan.texts() == []


@pytest.mark.parametrize(
    "settings",
    [
        {"sampling": {"partial_fourier": (0.6, 1.0), "partial_fourier_side": "early"}},
        {"sampling": {"partial_fourier": (0.6, 1.0), "partial_fourier_side": "late"}},
        {"sampling": {"acceleration": (4, 1), "acs": (12, 0)}, "geometry": {"matrix": (32, 64, 1)}},
        {"sampling": {"acceleration": (2, 2), "acs": (8, 8)}, "geometry": {"matrix": (24, 24, 24)}},
        {"sampling": {"partial_echo": 0.6}},
        {"dynamics": {"te_ms": (5, 10), "averages": 2, "segments": 2}},
        {"coils": {"n_coils": 1}},
        {"noise": {"readouts": 4, "std": 50.0}},
        {"geometry": {"matrix": (17, 15, 1), "n_slices": 3, "slice_order": "interleaved"}},
    ],
)
def test_sound_scans(make_scan: Callable[..., Any], settings: dict[str, Any]) -> None:
    assert make_scan(**settings).texts() == []


def test_noise_alone_has_no_centre(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    noise = np.random.default_rng(3).standard_normal((*scan.lines.samples.shape, 2)).astype(np.float32)
    scan.lines.samples[:] = noise.view(np.complex64)[..., 0]
    assert scan.texts() == []


@pytest.mark.parametrize("where", [(3,), (20, slice(None), 7)], ids=["line", "sample"])
def test_disturbance_is_no_centre(make_scan: Callable[..., Any], where: Any) -> None:
    scan = make_scan()
    scan.lines.samples[where] *= 1e3
    assert scan.texts() == []


def test_samples_that_are_no_numbers(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    scan.lines.samples[3] = np.nan
    scan.lines.samples[4, 0, 3] = np.inf
    scan.lines.samples[5] = 3e38
    assert scan.texts() == []


def test_calibration_of_its_own_says_nothing(make_scan: Callable[..., Any]) -> None:
    """Separate calibration lines may be a shorter measurement with counters of its own."""
    scan = make_scan(sampling={"acceleration": (2, 1), "acs": (8, 0), "acs_mode": "separate"})
    calibration = [
        block
        for block in scan.blocks
        if (block.headers["flags"] == int(AcquisitionFlag.PARALLEL_CALIBRATION)).any()
    ]
    for block in calibration:
        only = block.headers["flags"] == int(AcquisitionFlag.PARALLEL_CALIBRATION)
        block.headers["idx"]["kspace_encode_step_1"][only] -= 12
        block.samples[only] *= 10
    assert calibration
    assert scan.texts() == []


def test_looks_no_further_once_the_centre_is_plain(make_scan: Callable[..., Any]) -> None:
    """Later images cost nothing: samples that would contradict are not looked at any more."""
    scan = make_scan(dynamics={"repetitions": 2})
    second = scan.lines.headers["idx"]["repetition"] == 1
    lines = scan.lines.headers["idx"]["kspace_encode_step_1"]
    lines[second] = np.roll(lines[second], 8)
    assert scan.texts() == []
