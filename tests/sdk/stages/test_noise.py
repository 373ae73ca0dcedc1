"""Whitened noise has unit variance and no correlation, wherever its covariance comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside import Context, Readouts, ScanEnd
from scanside.errors import CalibrationError, NonFiniteError
from scanside.mrd.flags import AcquisitionFlag as Flag
from scanside.noise_store import NoiseStore
from scanside.stages.noise import PrewhitenNoise

N_COILS = 3
MIXING = np.array([[2.0, 0, 0], [1.0 + 1.0j, 0.5, 0], [-0.3j, 0.2, 4.0]])
NOISE = int(Flag.NOISE_MEASUREMENT)


@pytest.fixture
def lines(make_lines: Any) -> Any:
    return make_lines(n_coils=N_COILS, n_samples=200)


def correlated(block: Readouts, std: float = 1.0) -> Readouts:
    """The block with noise of a known covariance, ``std`` in each part before mixing."""
    samples = np.einsum("ab,nbs->nas", MIXING, std * block.samples).astype(np.complex64)
    return Readouts(block.headers, samples)


def covariance(blocks: list[Readouts]) -> npt.NDArray[np.complex128]:
    samples = np.concatenate([block.samples for block in blocks]).swapaxes(0, 1).reshape(N_COILS, -1)
    return samples @ samples.conj().T / samples.shape[1]


def assert_white(blocks: list[Readouts]) -> None:
    """Unit variance in real and imaginary part each, that is 2 in all."""
    np.testing.assert_allclose(covariance(blocks), 2 * np.eye(N_COILS), atol=0.15)


def test_noise_of_the_scan_itself(make_header: Any, lines: Any, run_stage: Any) -> None:
    noise, image = correlated(lines(range(60), flags=NOISE)), correlated(lines(range(60)))
    ran = run_stage(PrewhitenNoise(), make_header(), [noise, image])
    assert_white(ran.items)
    assert not any(block.headers["flags"].any() for block in ran.items), "noise readouts are taken out"
    assert ran.scan.warnings == []
    # The bound bites: without whitening it is far off.
    assert np.abs(covariance([image]) - 2 * np.eye(N_COILS)).max() > 5


def test_dwell_times_and_bandwidth(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Noise power goes with the bandwidth; noise readouts see the receiver's attenuated edges, image lines do not."""
    ratio = 0.8
    noise = correlated(lines(range(60), flags=NOISE, sample_time_us=20.0), std=np.sqrt(5 / 20 * ratio))
    image = correlated(lines(range(60), sample_time_us=5.0))
    xml = make_header(system=f"<relativeReceiverNoiseBandwidth>{ratio}</relativeReceiverNoiseBandwidth>")
    assert_white(run_stage(PrewhitenNoise(), xml, [noise, image]).items)
    with pytest.raises(AssertionError):
        assert_white(run_stage(PrewhitenNoise(), make_header(), [noise, image]).items)


def test_dwell_times_within_a_block(make_header: Any, lines: Any, run_stage: Any) -> None:
    slow, fast = lines(range(60), sample_time_us=10.0), correlated(lines(range(60), sample_time_us=5.0))
    slow = correlated(slow, std=np.sqrt(0.5))
    block = Readouts(
        np.concatenate([slow.headers, fast.headers]), np.concatenate([slow.samples, fast.samples])
    )
    noise = correlated(lines(range(60), flags=NOISE))
    out = run_stage(PrewhitenNoise(), make_header(), [noise, block]).items
    assert [len(part) for part in out] == [60, 60]
    for part in out:
        assert_white([part])


def test_mixed_block(make_header: Any, lines: Any, run_stage: Any) -> None:
    noise, image = correlated(lines(range(60), flags=NOISE)), correlated(lines(range(9)))
    mixed = Readouts(
        np.concatenate([noise.headers, image.headers]), np.concatenate([noise.samples, image.samples])
    )
    one = run_stage(PrewhitenNoise(), make_header(), [mixed]).one
    two = run_stage(PrewhitenNoise(), make_header(), [noise, image]).one
    np.testing.assert_array_equal(one.samples, two.samples)


def test_later_noise_readouts_change_nothing(make_header: Any, lines: Any, run_stage: Any) -> None:
    """All lines of an image are whitened alike, however the stream is cut into blocks."""
    noise, image = correlated(lines(range(60), flags=NOISE)), correlated(lines(range(8)))
    late = correlated(lines(range(60), flags=NOISE), std=9.0)
    expected = run_stage(PrewhitenNoise(), make_header(), [noise, image]).one
    stream = Readouts(
        np.concatenate([noise.headers, image.headers[:4], late.headers, image.headers[4:]]),
        np.concatenate([noise.samples, image.samples[:4], late.samples, image.samples[4:]]),
    )
    for size in (1, 7, 62, len(stream)):
        blocks = [stream.select(slice(i, i + size)) for i in range(0, len(stream), size)]
        ran = run_stage(PrewhitenNoise(), make_header(), blocks)
        found = np.concatenate([block.samples for block in ran.items])
        np.testing.assert_allclose(found, expected.samples, rtol=1e-4, atol=1e-4)
        assert "not used" in ran.scan.warnings[0]


def test_noise_scan_before(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Two scans through one worker: the second one's header names the first."""
    context = Context(device="cpu")
    noise_xml = make_header(measurement="<measurementID>noise/1</measurementID>")
    ran = run_stage(PrewhitenNoise(), noise_xml, [correlated(lines(range(60), flags=NOISE))], context=context)
    assert ran.items == []
    image_xml = make_header(measurement=DEPENDS)
    ran = run_stage(PrewhitenNoise(), image_xml, [correlated(lines(range(60)))], context=context)
    assert_white(ran.items)
    assert ran.scan.warnings == []


DEPENDS = (
    "<measurementID>image_1</measurementID><measurementDependency><dependencyType>Noise</dependencyType>"
    "<measurementID>noise/1</measurementID></measurementDependency>"
)


def test_noise_scan_of_another_process(make_header: Any, lines: Any, run_stage: Any, tmp_path: Path) -> None:
    noise_xml = make_header(measurement="<measurementID>noise/1</measurementID>")
    context = Context(device="cpu", noise_store=NoiseStore(tmp_path))
    run_stage(PrewhitenNoise(), noise_xml, [correlated(lines(range(60), flags=NOISE))], context=context)
    other = Context(device="cpu", noise_store=NoiseStore(tmp_path))
    image = correlated(lines(range(60)))
    assert_white(run_stage(PrewhitenNoise(), make_header(measurement=DEPENDS), [image], context=other).items)


def test_missing_noise_is_told(make_header: Any, lines: Any, run_stage: Any) -> None:
    image = lines(range(5))
    ran = run_stage(PrewhitenNoise(), make_header(measurement=DEPENDS), [image, image])
    for block in ran.items:
        np.testing.assert_array_equal(block.samples, image.samples)
    (told,) = ran.scan.warnings
    assert "noise/1" in told
    assert "send that scan first" in told
    ran = run_stage(PrewhitenNoise(), make_header(), [image])
    assert "names no noise measurement" in ran.scan.warnings[0]
    with pytest.raises(CalibrationError, match="noise/1"):
        run_stage(PrewhitenNoise(missing="error"), make_header(measurement=DEPENDS), [image])


def names(*channels: str) -> str:
    return "".join(
        f"<coilLabel><coilNumber>{i}</coilNumber><coilName>{name}</coilName></coilLabel>"
        for i, name in enumerate(channels)
    )


def test_channels_in_another_order(make_header: Any, lines: Any, run_stage: Any) -> None:
    context = Context(device="cpu")
    measurement = "<measurementID>noise/1</measurementID>"
    noise_xml = make_header(measurement=measurement, system=names("A", "B", "C"))
    run_stage(PrewhitenNoise(), noise_xml, [correlated(lines(range(60), flags=NOISE))], context=context)
    image = correlated(lines(range(60)))
    turned = Readouts(image.headers, image.samples[:, [2, 0, 1]])
    xml = make_header(measurement=DEPENDS, system=names("C", "A", "B"))
    assert_white(run_stage(PrewhitenNoise(), xml, [turned], context=context).items)
    other = make_header(measurement=DEPENDS, system=names("C", "A", "D"))
    with pytest.raises(CalibrationError, match="no channel D"):
        run_stage(PrewhitenNoise(), other, [turned], context=context)


def test_other_number_of_channels(make_header: Any, lines: Any, make_lines: Any, run_stage: Any) -> None:
    image = make_lines(n_coils=N_COILS + 1)(range(5))
    with pytest.raises(CalibrationError, match="3 channels, the readout with scan counter 0 has 4"):
        run_stage(PrewhitenNoise(), make_header(), [lines(range(60), flags=NOISE), image])


COILS = "".join(
    f"<coilLabel><coilNumber>{i}</coilNumber><coilName>Head:{i + 1}</coilName></coilLabel>"
    for i in range(N_COILS)
)


def silent(block: Readouts, *channels: int) -> Readouts:
    """The block with channels that hold nothing."""
    block.samples[:, channels] = 0
    return block


def test_dead_channel_is_left_out(make_header: Any, lines: Any, run_stage: Any) -> None:
    """The others are whitened as if the dead one had never been there, also where it holds rubbish in the image."""
    noise = silent(correlated(lines(range(60), flags=NOISE)), 1)
    image = correlated(lines(range(60)))
    ran = run_stage(PrewhitenNoise(), make_header(system=COILS), [noise, image])
    assert ran.one.samples.shape == (60, 2, 200)
    assert (ran.one.headers["active_channels"] == 2).all()
    assert (image.headers["active_channels"] != 2).all()
    (told,) = ran.scan.warnings
    assert "1 (Head:2) of 3" in told
    live = [0, 2]
    without = [Readouts(block.headers, block.samples[:, live]) for block in (noise, image)]
    expected = run_stage(PrewhitenNoise(), make_header(), without).one
    np.testing.assert_allclose(ran.one.samples, expected.samples, rtol=1e-5)


def test_dead_channels_may_end_the_scan(make_header: Any, lines: Any, run_stage: Any) -> None:
    noise, image = silent(correlated(lines(range(60), flags=NOISE)), 0, 2), lines(range(5))
    with pytest.raises(CalibrationError, match=r"0, 2 of 3.*set noise\.dead_channels to 'remove'"):
        run_stage(PrewhitenNoise(dead_channels="error"), make_header(), [noise, image])
    with pytest.raises(CalibrationError, match=r"0, 1, 2 of 3.*none of them can be used"):
        run_stage(PrewhitenNoise(), make_header(), [silent(noise, 1), image])


def test_non_finite_noise(make_header: Any, lines: Any, run_stage: Any) -> None:
    noise = lines(range(6), flags=NOISE)
    noise.samples[2, 1, 0] = np.nan
    with pytest.raises(NonFiniteError, match="coils"):
        run_stage(PrewhitenNoise(), make_header(), [noise])


def test_missing_dwell_times(make_header: Any, lines: Any, run_stage: Any) -> None:
    noise = correlated(lines(range(60), flags=NOISE, sample_time_us=0.0))
    ran = run_stage(PrewhitenNoise(), make_header(), [noise, correlated(lines(range(60)))])
    assert "dwell times are missing" in ran.scan.warnings[0]
    assert_white(ran.items)


def test_store_that_cannot_be_written(make_header: Any, lines: Any, run_stage: Any, tmp_path: Path) -> None:
    """A full or forbidden disk is told, and this scan goes on."""
    (tmp_path / "file").touch()
    context = Context(device="cpu", noise_store=NoiseStore(tmp_path / "file" / "folder"))
    xml = make_header(measurement="<measurementID>a</measurementID>")
    blocks = [correlated(lines(range(60), flags=NOISE)), correlated(lines(range(60)))]
    ran = run_stage(PrewhitenNoise(), xml, blocks, context=context)
    assert_white(ran.items)
    assert "could not be kept" in ran.scan.warnings[0]


def test_a_damaged_record_is_as_good_as_none(
    make_header: Any, lines: Any, run_stage: Any, tmp_path: Path
) -> None:
    noise_xml = make_header(measurement="<measurementID>noise/1</measurementID>")
    context = Context(device="cpu", noise_store=NoiseStore(tmp_path))
    run_stage(PrewhitenNoise(), noise_xml, [correlated(lines(range(60), flags=NOISE))], context=context)
    (path,) = tmp_path.glob("noise_*.npz")
    path.write_bytes(path.read_bytes()[:100])
    other = Context(device="cpu", noise_store=NoiseStore(tmp_path))
    image = lines(range(5))
    ran = run_stage(PrewhitenNoise(), make_header(measurement=DEPENDS), [image], context=other)
    np.testing.assert_array_equal(ran.one.samples, image.samples)
    (told,) = ran.scan.warnings
    assert "data are not prewhitened" in told
    assert f"{path} is damaged" in told


def test_next_scan_knows_nothing(make_header: Any, lines: Any, run_stage: Any) -> None:
    stage = PrewhitenNoise()
    run_stage(stage, make_header(), [lines(range(60), flags=NOISE), lines(range(4))])
    image = lines(range(4))
    ran = run_stage(stage, make_header(), [image], end=ScanEnd())
    np.testing.assert_array_equal(ran.one.samples, image.samples)


def test_whitened_by_an_earlier_step(make_header: Any, lines: Any, run_stage: Any) -> None:
    noise, image = correlated(lines(range(20), flags=NOISE)), correlated(lines(range(20)))
    ran = run_stage(PrewhitenNoise(enabled=False), make_header(), [noise, image])
    assert ran.scan.warnings == []
    np.testing.assert_array_equal(np.concatenate([block.samples for block in ran.items]), image.samples)


def test_noise_of_other_coils_too(make_header: Any, make_lines: Any, lines: Any, run_stage: Any) -> None:
    """A body coil's noise beside that of the array: each serves its own channels."""
    body = make_lines(n_coils=2, n_samples=200)(range(60), flags=NOISE)
    noise, image = correlated(lines(range(60), flags=NOISE)), correlated(lines(range(60)))
    for blocks in ([body, noise, image], [noise, body, image]):
        ran = run_stage(PrewhitenNoise(), make_header(), blocks)
        assert_white(ran.items)
        assert ran.scan.warnings == []


def test_noise_of_two_dwell_times(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Noise power goes with the bandwidth: readouts of four times the dwell time have half the amplitude."""
    fast = correlated(lines(range(40), flags=NOISE, sample_time_us=5.0))
    slow = correlated(lines(range(40), flags=NOISE, sample_time_us=20.0), std=0.5)
    image = correlated(lines(range(60), sample_time_us=5.0))
    assert_white(run_stage(PrewhitenNoise(), make_header(), [fast, slow, image]).items)
    assert_white(run_stage(PrewhitenNoise(), make_header(), [slow, fast, image]).items)


@pytest.mark.parametrize("flag", [Flag.DUMMYSCAN_DATA, Flag.SURFACECOILCORRECTIONSCAN_DATA])
def test_prescans_before_the_noise(make_header: Any, lines: Any, run_stage: Any, flag: Flag) -> None:
    """They are no lines: the noise readouts behind them, in the same block or not, are used."""
    prescan = correlated(lines(range(3), flags=int(flag)))
    noise, image = correlated(lines(range(60), flags=NOISE)), correlated(lines(range(60)))
    mixed = Readouts(
        np.concatenate([prescan.headers, noise.headers]), np.concatenate([prescan.samples, noise.samples])
    )
    for blocks in ([prescan, noise, image], [mixed, image]):
        ran = run_stage(PrewhitenNoise(), make_header(), blocks)
        assert_white(ran.items[-1:])
        assert ran.scan.warnings == []


def test_navigators_are_whitened(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Whoever corrects lines by navigators needs both alike."""
    noise = correlated(lines(range(60), flags=NOISE))
    navigators = correlated(lines(range(60), flags=int(Flag.NAVIGATION_DATA)))
    assert_white(run_stage(PrewhitenNoise(), make_header(), [noise, navigators]).items)
