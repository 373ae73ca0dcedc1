"""Regular undersampling of recorded scans: the lines that are kept, and scans of which it refuses to take any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scanside.errors import ShapeError
from scanside.mrd.dtypes import Headers
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.header import MrdHeader
from scanside.replay import Regular, replay
from scanside.simulate import ScanConfig, simulate

pytest.importorskip("torch")


def scan(**sampling: object) -> tuple[Headers, MrdHeader]:
    made = simulate(
        ScanConfig.model_validate(
            {
                "phantom": {"kind": "shepp-logan", "supersampling": (1, 1, 1)},
                "coils": {"n_coils": 2},
                "noise": {"scan": "none"},
                "geometry": {"matrix": (32, 40, 1), "n_slices": 2},
                "sampling": sampling,
            }
        )
    )
    return np.concatenate([item.headers for item in made.items()]), MrdHeader.parse(made.header_xml)


@pytest.mark.parametrize("acceleration", [2, 3, 5])
@pytest.mark.parametrize("partial", [1.0, 0.75])
def test_lines_are_those_of_an_accelerated_protocol(acceleration: int, partial: float) -> None:
    full = scan(partial_fourier=(partial, 1.0))
    mask = Regular(acceleration, 8).mask(*full)
    lines, header = scan(partial_fourier=(partial, 1.0), acceleration=(acceleration, 1), acs=(8, 0))
    assert (
        header.encoding(0).limit("kspace_encode_step_1").center
        == full[1].encoding(0).limit("kspace_encode_step_1").center
    )
    assert set(np.flatnonzero(mask)) == set(lines["idx"]["kspace_encode_step_1"])


def test_what_is_undersampled_already() -> None:
    with pytest.raises(ShapeError, match=r"not fully sampled: an image has 24 of 39 lines"):
        Regular(2).mask(*scan(acceleration=(2, 1), acs=(8, 0)))


def test_lines_beyond_the_matrix() -> None:
    lines, header = scan()
    lines["idx"]["kspace_encode_step_1"] += 3
    with pytest.raises(
        ShapeError, match="goes from 3 to 42 with the centre 20, and the header encodes 40 lines"
    ):
        Regular(2).mask(lines, header)


def test_several_encoding_spaces() -> None:
    lines, header = scan()
    lines["encoding_space_ref"][:40] = 1
    with pytest.raises(ShapeError, match="lines of one encoding space, this one has 2"):
        Regular(2).mask(lines, header)


@pytest.mark.parametrize(("acceleration", "acs"), [(1, 24), (0, 24), (2, -1)])
def test_numbers_that_are_too_small(acceleration: int, acs: int) -> None:
    with pytest.raises(ValueError, match="an acceleration from 2 and calibration lines from 0"):
        Regular(acceleration, acs)


def test_a_recording_without_lines(tmp_path: Path) -> None:
    noise = simulate(ScanConfig.model_validate({"noise": {"scan": "separate"}})).noise_scan
    assert noise is not None
    with Hdf5Writer(tmp_path / "none.h5", noise.header_xml) as writer:
        writer.write(noise.readouts)
    with pytest.raises(ShapeError, match="holds no lines of images"):
        replay(tmp_path / "none.h5", "fft", undersample=Regular(2))
