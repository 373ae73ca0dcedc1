"""Simulated multiband scans: what readouts and references hold, and what the header says."""

from __future__ import annotations

from typing import Any

import ismrmrd.xsd
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.readouts import Readouts
from scanside.simulate import ScanConfig, simulate

pytestmark = pytest.mark.torch_free

N = 16


def scan_of(sampling: dict[str, Any], *, n_slices: int = 6, **parts: Any) -> tuple[bytes, list[Readouts]]:
    """Small slices of a brain, without noise."""
    settings = {
        "phantom": {"supersampling": (1, 1, 1)},
        "coils": {"n_coils": 3},
        "noise": {"std": 0.0, "scan": "none"},
        "geometry": {"matrix": (N, N, 1), "n_slices": n_slices, "slice_gap_mm": 10.0},
        "sampling": sampling,
    }
    scan = simulate(ScanConfig.model_validate(settings | parts))
    return scan.header_xml, [item for item in scan.items() if isinstance(item, Readouts)]


def lines(blocks: list[Readouts], space: int, slice_: int) -> dict[int, npt.NDArray[np.complex64]]:
    """Samples of the readouts of an encoding space and a slice by their phase encoding."""
    found = {}
    for block in blocks:
        for header, samples in zip(block.headers, block.samples, strict=True):
            if header["encoding_space_ref"] == space and header["idx"]["slice"] == slice_:
                found[int(header["idx"]["kspace_encode_step_1"])] = samples
    return found


@pytest.mark.parametrize("reference_blips", [False, True])
@pytest.mark.parametrize(("factor", "shift"), [(2, 2), (3, 3), (3, -2), (2, 1)])
def test_readouts_are_sums_of_slices_with_their_phases(
    factor: int, shift: int, reference_blips: bool
) -> None:
    multiband = {"factor": factor, "shift": shift, "reference_blips": reference_blips}
    sampling = {"acceleration": (2, 1), "acs": (8, 0), "acs_mode": "separate", "multiband": multiband}
    _, blocks = scan_of(sampling)
    _, alone = scan_of({})
    apart, cycles = 6 // factor, 0 if shift == 1 else 1 / shift / 2
    for number in range(apart):
        found = lines(blocks, 0, number)
        assert sorted(found) == list(range(0, N, 2))
        for k1, samples in found.items():
            expected = sum(
                lines(alone, 0, number + band * apart)[k1]
                * np.exp(2j * np.pi * band * cycles * (k1 - N // 2))
                for band in range(factor)
            )
            np.testing.assert_allclose(samples, expected, atol=1e-4)
    for slice_ in range(6):
        references = lines(blocks, 1, slice_)
        assert sorted(references) == list(range(4, 12))
        for k1, samples in references.items():
            turn = np.exp(2j * np.pi * (slice_ // apart) * cycles * (k1 - N // 2)) if reference_blips else 1
            np.testing.assert_allclose(samples, lines(alone, 0, slice_)[k1] * turn, atol=1e-4)


def test_header_and_flags() -> None:
    sampling = {"acs": (8, 0), "acs_mode": "separate", "multiband": {"factor": 3, "shift": 3}}
    xml, blocks = scan_of(sampling)
    imaging, references = ismrmrd.xsd.CreateFromDocument(xml).encoding
    told = imaging.parallelImaging.multiband
    assert told.multiband_factor == 3
    assert list(told.spacing[0].dZ) == [0, 30, 60]
    assert told.deltaKz == pytest.approx(1 / 90)
    assert told.calibration_encoding == 1
    assert (imaging.encodingLimits.slice.maximum, references.encodingLimits.slice.maximum) == (1, 5)
    assert references.parallelImaging is None
    for block in blocks:
        of_references = block.headers["encoding_space_ref"] == 1
        assert np.array_equal(
            flagged(block.headers["flags"], AcquisitionFlag.PARALLEL_CALIBRATION), of_references
        )


@pytest.mark.parametrize(
    ("sampling", "n_slices", "told"),
    [
        ({"multiband": {"factor": 4}}, 6, "multiple of as many slices, got 6"),
        ({"multiband": {"factor": 2, "shift": 0}}, 6, "1 for no shift"),
        ({"multiband": {"factor": 2}, "acs": (8, 0)}, 6, "acs_mode is 'separate'"),
    ],
)
def test_what_cannot_be(sampling: dict[str, Any], n_slices: int, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        scan_of(sampling, n_slices=n_slices)
