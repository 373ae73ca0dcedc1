"""Removal of readout oversampling, against the image that a longer way round gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside import Readouts
from scanside.mrd.flags import AcquisitionFlag as Flag
from scanside.stages.oversampling import RemoveOversampling

Array = npt.NDArray[Any]


def image_of(samples: Array) -> Array:
    """Centred orthonormal inverse transform along the readout."""
    shifted = np.fft.ifftshift(samples, axes=-1)
    return np.fft.fftshift(np.fft.ifft(shifted, norm="ortho"), axes=-1)


@pytest.mark.parametrize(("encoded", "recon"), [(32, 16), (45, 15), (32, 15), (33, 22), (48, 16)])
def test_middle_of_the_image_stays(
    make_header: Any, make_lines: Any, run_stage: Any, encoded: int, recon: int
) -> None:
    block = make_lines(n_samples=encoded)(range(4))
    xml = make_header((encoded, 12, 1), (recon, 12, 1))
    cropped = run_stage(RemoveOversampling(), xml, [block]).one
    assert cropped.samples.shape == (4, 2, recon)
    first = encoded // 2 - recon // 2
    expected = image_of(block.samples)[..., first : first + recon]
    np.testing.assert_allclose(image_of(cropped.samples), expected, atol=1e-5)
    assert (cropped.headers["center_sample"] == recon // 2).all()
    assert (cropped.headers["number_of_samples"] == recon).all()
    assert (block.headers["number_of_samples"] == encoded).all(), "received headers stay as they were"


def test_asymmetric_echo_stays_one(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    """A point in the middle has constant k-space: what comes out is constant where it was acquired."""
    block = make_lines(n_samples=24)(range(2), center=8)
    ones = Readouts(block.headers, np.ones_like(block.samples))
    cropped = run_stage(RemoveOversampling(), make_header((32, 12, 1), (16, 12, 1)), [ones]).one
    assert cropped.samples.shape[2] == 12
    assert (cropped.headers["center_sample"] == 4).all()
    np.testing.assert_allclose(np.abs(cropped.samples[..., 3:]), np.sqrt(2), rtol=0.2)


def test_already_removed(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    block = make_lines(n_samples=16)(range(4))
    same = run_stage(RemoveOversampling(), make_header((32, 12, 1), (16, 12, 1)), [block]).one
    np.testing.assert_array_equal(same.samples, block.samples)
    assert (same.headers == block.headers).all()


def test_nothing_to_remove(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    block = make_lines(n_samples=16)(range(4))
    assert run_stage(RemoveOversampling(), make_header(), [block]).one is not None
    np.testing.assert_array_equal(
        run_stage(RemoveOversampling(), make_header(), [block]).one.samples, block.samples
    )


def test_noise_passes_and_order_stays(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines = make_lines(n_samples=32)
    parts = [lines(range(2)), lines(range(3), flags=Flag.NOISE_MEASUREMENT), lines(range(2, 4))]
    block = Readouts(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("headers", "samples")))
    out = run_stage(RemoveOversampling(), make_header((32, 12, 1), (16, 12, 1)), [block]).items
    assert [part.samples.shape[::2] for part in out] == [(2, 16), (3, 32), (2, 16)]
    np.testing.assert_array_equal(out[1].samples, parts[1].samples)
    counters = np.concatenate([part.headers["scan_counter"] for part in out])
    np.testing.assert_array_equal(counters, np.arange(7))


def test_encoding_spaces_within_a_block(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines = make_lines(n_samples=32)
    parts = [lines(range(2)), lines(range(2), encoding_space_ref=1)]
    block = Readouts(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("headers", "samples")))
    one, two = (make_header((32, 12, 1), recon) for recon in ((16, 12, 1), (8, 12, 1)))
    encoding = two[two.index("<encoding>") : two.index("</encoding>") + len("</encoding>")]
    out = run_stage(RemoveOversampling(), one.replace("</encoding>", f"</encoding>{encoding}"), [block]).items
    assert [part.samples.shape[2] for part in out] == [16, 8]


def test_reversed_readouts_are_turned(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines = make_lines(n_samples=32)
    forward = lines(range(2))
    headers = forward.headers.copy()
    headers["flags"] = int(Flag.REVERSE)
    headers["center_sample"] = 31 - 16  # of the sample as it is stored
    backward = Readouts(headers, np.ascontiguousarray(forward.samples[..., ::-1]))
    xml = make_header((32, 12, 1), (16, 12, 1))
    a, b = (run_stage(RemoveOversampling(), xml, [block]).one for block in (forward, backward))
    np.testing.assert_array_equal(a.samples, b.samples)
    assert not b.headers["flags"].any()


@pytest.mark.parametrize(("center", "n_parts"), [(15, 1), (16, 2)])
def test_both_directions_within_a_block(
    make_header: Any, make_lines: Any, run_stage: Any, center: int, n_parts: int
) -> None:
    """They stay together if their echo lies in one place; else each is cropped about its own."""
    lines = make_lines(n_samples=32)
    parts = [lines(range(2)), lines(range(2), center=center, flags=Flag.REVERSE)]
    block = Readouts(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("headers", "samples")))
    xml = make_header((34, 12, 1), (17, 12, 1))
    together = run_stage(RemoveOversampling(), xml, [block]).items
    apart = run_stage(RemoveOversampling(), xml, parts).items
    assert len(together) == n_parts
    for name in ("headers", "samples"):
        a, b = (np.concatenate([getattr(one, name) for one in out]) for out in (together, apart))
        np.testing.assert_array_equal(a, b)


def test_echo_positions_within_a_block(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    lines = make_lines(n_samples=24)
    parts = [lines(range(2), center=8), lines(range(2), center=16)]
    block = Readouts(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("headers", "samples")))
    xml = make_header((32, 12, 1), (16, 12, 1))
    together = run_stage(RemoveOversampling(), xml, [block]).items
    apart = run_stage(RemoveOversampling(), xml, parts).items
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)
        np.testing.assert_array_equal(a.headers, b.headers)


def test_white_noise_stays_white(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    block = make_lines(n_samples=512)(range(40))
    cropped = run_stage(RemoveOversampling(), make_header((512, 12, 1), (256, 12, 1)), [block]).one
    assert cropped.samples.real.std() == pytest.approx(1, abs=0.02)


def test_prescans_pass_as_they_fit(make_header: Any, make_lines: Any, run_stage: Any) -> None:
    """Readouts that are no lines of an image need not fit the matrix; those that do are cropped like lines."""
    header = make_header((32, 12, 1), (16, 12, 1))
    long, fitting = (make_lines(n_samples=n)(range(2), flags=int(Flag.NAVIGATION_DATA)) for n in (100, 32))
    np.testing.assert_array_equal(run_stage(RemoveOversampling(), header, [long]).one.samples, long.samples)
    lines = Readouts(fitting.headers.copy(), fitting.samples)
    lines.headers["flags"] = 0
    expected = run_stage(RemoveOversampling(), header, [lines]).one.samples
    np.testing.assert_array_equal(run_stage(RemoveOversampling(), header, [fitting]).one.samples, expected)
