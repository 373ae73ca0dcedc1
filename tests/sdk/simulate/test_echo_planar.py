"""Simulated echo trains against the Cartesian scan of the same object, and against the sum that samples stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    EchoPlanarConfig,
    GeometryConfig,
    NoiseConfig,
    ReferenceConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    preset,
    simulate,
)

pytestmark = pytest.mark.torch_free

N = 32
Array = npt.NDArray[Any]


def config_of(sampling: dict[str, Any], **others: Any) -> ScanConfig:
    return ScanConfig(
        **{
            "geometry": GeometryConfig(matrix=(N, N, 1)),
            "coils": CoilConfig(n_coils=2),
            "noise": NoiseConfig(std=0.0, scan="none"),
            "sampling": SamplingConfig(**sampling),
            **others,
        }
    )


def scan_of(
    sampling: dict[str, Any] | None = None, dynamics: DynamicsConfig | None = None, **epi: Any
) -> SimulatedScan:
    base = {"ramp_us": 40, **epi}
    return simulate(
        config_of(
            {**(sampling or {}), "epi": EchoPlanarConfig(**base)}, dynamics=dynamics or DynamicsConfig()
        )
    )


def readouts_of(scan: SimulatedScan, block: int = 256) -> tuple[Array, Array]:
    blocks = [item for item in scan.items(block) if isinstance(item, Readouts)]
    return np.concatenate([one.headers for one in blocks]), np.concatenate([one.samples for one in blocks])


def cartesian() -> Array:
    return readouts_of(simulate(config_of({})))[1]


def backwards(headers: Array) -> npt.NDArray[np.bool_]:
    return flagged(headers["flags"], AcquisitionFlag.REVERSE)


def test_without_ramps_and_phases_lines_are_those_of_a_cartesian_scan() -> None:
    headers, samples = readouts_of(scan_of(ramp_us=0, navigators=0))
    reverse = backwards(headers)
    np.testing.assert_array_equal(reverse, np.arange(N) % 2 == 1)
    samples[reverse] = samples[reverse][..., ::-1]
    np.testing.assert_allclose(samples, cartesian(), atol=2e-6)


@pytest.mark.parametrize("delay_us", [0.0, 3.0])
def test_ramp_samples_are_the_sum_at_their_positions(delay_us: float) -> None:
    """Against the image of the Cartesian scan, in the middle of k-space, which is little cut."""
    scan = scan_of(samples=80, delay_us=delay_us, navigators=0)
    headers, samples = readouts_of(scan)
    lines = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(cartesian(), axes=-1)), axes=-1)
    n = lines.shape[-1]
    x = (np.arange(n) - n // 2) / n
    total, dwell = 80 * 5 + 2 * 20, 5.0
    fine = np.linspace(0, total, 44_001)
    moment = np.concatenate(
        [[0], np.cumsum(np.interp(fine, [0, 40, total - 40, total], [0, 1, 1, 0]))[1:] * 0.01]
    )
    k = np.interp(20 + dwell * (np.arange(80) + 1) - delay_us, fine, moment) - moment[-1] / 2
    k *= n / np.ptp(np.interp([20, 20 + 80 * dwell], fine, moment))
    for way, which in ((1, ~backwards(headers)), (-1, backwards(headers))):
        wanted = lines[which] @ np.exp(-2j * np.pi * np.outer(x, way * k))
        middle = slice(20, 60)
        error = np.linalg.norm((samples[which] - wanted)[..., middle]) / np.linalg.norm(wanted[..., middle])
        assert error < 0.01


def test_phases_by_direction_and_echo() -> None:
    plain, turned = (
        readouts_of(scan_of(ramp_us=0, **settings))
        for settings in ({}, {"odd_even_rad": (0.5,), "b0_hz": (10.0, 0.0)})
    )
    headers, samples = plain
    ratio = np.angle((turned[1] * samples.conj()).sum(axis=(1, 2)))
    spacing_s = (2 * N * 5 + 40) / 1e6
    echo = np.arange(len(headers)) - 3  # the first line after three navigators has gained nothing yet
    wanted = 2 * np.pi * 10 * spacing_s * echo + 0.5 * backwards(headers)
    np.testing.assert_allclose(ratio, wanted, atol=1e-5)


def test_off_resonance_drifts_over_the_scan() -> None:
    dynamics = DynamicsConfig(repetitions=2)
    plain, turned = (
        readouts_of(scan_of(ramp_us=0, dynamics=dynamics, drift_hz_s=drift)) for drift in (0.0, 20.0)
    )
    phase = np.angle((turned[1] * plain[1].conj()).sum(axis=(1, 2)))
    last = phase.reshape(2, -1)[:, -1]
    assert last[1] > 1.5 * last[0] > 0


def test_trains_have_navigators_and_alternate() -> None:
    dynamics = DynamicsConfig(segments=2, averages=2)
    headers, _ = readouts_of(scan_of(dynamics=dynamics))
    trains = headers.reshape(4, 3 + N // 2)
    navigators = flagged(trains["flags"], AcquisitionFlag.PHASECORR_DATA)
    assert navigators[:, :3].all()
    assert not navigators[:, 3:].any()
    assert (backwards(trains) == (np.arange(3 + N // 2) % 2 == 1)).all()
    assert trains["idx"]["segment"][:, 5].tolist() == [0, 1, 0, 1]
    assert (trains["idx"]["kspace_encode_step_1"][:, :3] == N // 2).all()
    assert not flagged(trains["flags"], AcquisitionFlag.FIRST_IN_SLICE)[:, :3].any()


def test_separate_calibration_lines_are_trains_too() -> None:
    headers, _ = readouts_of(scan_of({"acceleration": (2, 1), "acs": (8, 0), "acs_mode": "separate"}))
    calibration = flagged(headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION)
    assert calibration.tolist() == [False] * 3 + [True] * 8 + [False] * (3 + N // 2)
    assert len(np.unique(headers["idx"]["user"][:, 0])) == 3 + N // 2


def test_blocks_change_nothing() -> None:
    scan = scan_of(odd_even_rad=(0.3, 1.0), drift_hz_s=5.0, dynamics=DynamicsConfig(repetitions=2))
    whole, parts = readouts_of(scan), readouts_of(scan, block=5)
    assert whole[0].tobytes() == parts[0].tobytes()
    np.testing.assert_allclose(whole[1], parts[1], atol=1e-6)


def test_header_describes_the_gradient() -> None:
    encoding = MrdHeader.parse(scan_of(samples=80).header_xml).encoding(0)
    assert encoding.trajectory == "epi"
    assert encoding.description is not None
    assert encoding.description.identifier == "ConventionalEPI"
    assert encoding.description.parameters == {
        "numberOfNavigators": 3,
        "rampUpTime": 40,
        "rampDownTime": 40,
        "flatTopTime": 360,
        "echoSpacing": 440,
        "acqDelayTime": 20,
        "numSamples": 80,
        "dwellTime": 5.0,
    }
    assert MrdHeader.parse(scan_of(identifier=None).header_xml).encoding(0).description is None


def test_preset_is_one() -> None:
    assert preset("epi").sampling.epi is not None


@pytest.mark.parametrize(
    ("sampling", "others", "text"),
    [
        ({"partial_echo": 0.75, "epi": {}}, {}, "no partial_echo, discard or reverse"),
        ({"reverse": "alternate", "epi": {}}, {}, "no partial_echo, discard or reverse"),
        ({"epi": {"navigators": 2}}, {}, "three and more, got 2"),
        ({"epi": {"ramp_us": 0, "samples": 80}}, {}, "needs ramps"),
        ({"epi": {"ramp_us": 400}}, {}, "flat top comes to -440 µs"),
        ({"epi": {}}, {"geometry": {"matrix": (N, N, 4)}}, "2-D scans"),
    ],
)
def test_configurations_that_cannot_be(sampling: dict[str, Any], others: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ScanConfig.model_validate({"geometry": {"matrix": (N, N, 1)}, "sampling": sampling, **others})


def test_reference_in_a_second_encoding_space() -> None:
    config = ScanConfig(
        geometry=GeometryConfig(matrix=(32, 32, 1), n_slices=2),
        coils=CoilConfig(n_coils=2),
        sampling=SamplingConfig(
            acceleration=(2, 1), reference=ReferenceConfig(matrix=(16, 12)), epi=EchoPlanarConfig(ramp_us=0)
        ),
    )
    simulated = simulate(config)
    flash = MrdHeader.parse(simulated.header_xml).encodings[1]
    assert (flash.trajectory, flash.encoded.matrix, flash.recon.matrix) == (
        "cartesian",
        (32, 12, 1),
        (16, 12, 1),
    )
    assert (flash.calibration_mode, flash.acceleration) == ("separate", (1, 1))
    headers = np.concatenate([item.headers for item in simulated.items() if isinstance(item, Readouts)])
    of_space = headers[headers["encoding_space_ref"] == 1]
    assert len(of_space) == 2 * 12
    assert flagged(of_space["flags"], AcquisitionFlag.PARALLEL_CALIBRATION).all()
    assert not flagged(of_space["flags"], AcquisitionFlag.REVERSE).any()
    assert set(of_space["number_of_samples"].tolist()) == {32}
    assert (np.diff(headers["scan_counter"].astype(int)) == 1).all()
    with pytest.raises(ValidationError, match="acs or a reference of their own, not both"):
        SamplingConfig(acs=(8, 0), reference=ReferenceConfig())
