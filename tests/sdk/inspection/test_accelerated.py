"""Shifted lattices and multiband, as `scanside inspect` tells of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scanside.inspection import Inspection, inspect_file
from scanside.inspection.describe import encoding_facts
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.simulate import ScanConfig, simulate

pytestmark = pytest.mark.torch_free


def inspected(path: Path, **parts: Any) -> Inspection:
    """A small scan without noise, written and inspected."""
    settings = {
        "phantom": {"supersampling": (1, 1, 1)},
        "coils": {"n_coils": 2},
        "noise": {"scan": "none"},
    }
    scan = simulate(ScanConfig.model_validate(settings | parts))
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    return inspect_file(path)


@pytest.mark.parametrize(("acceleration", "shift"), [((2, 2), 1), ((2, 3), 2), ((3, 2), 1)])
def test_shifted_lattice_is_no_other_acceleration(
    tmp_path: Path, acceleration: tuple[int, int], shift: int
) -> None:
    sampling = {"acceleration": acceleration, "shift": shift, "acs": (14, 12)}
    found = inspected(tmp_path / "scan.h5", sampling=sampling, geometry={"matrix": (8, 36, 30)})
    assert not [
        finding for finding in found.findings if "spaced by" in finding.text or "lost" in finding.text
    ]


def test_multiband(tmp_path: Path) -> None:
    multiband = {"factor": 2, "shift": 2}
    sampling = {"acs": (8, 0), "acs_mode": "separate", "multiband": multiband}
    found = inspected(
        tmp_path / "scan.h5", sampling=sampling, geometry={"matrix": (16, 16, 1), "n_slices": 4}
    )
    facts = dict(encoding_facts(found.survey.encodings[0]))
    assert facts["multiband"] == "2 slices at once, references of single ones: encoding space 1"
    assert any("take the pipeline 'multiband'" in finding.text for finding in found.findings)
