"""Instances keep to the standard, says a checker that others wrote."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside.dicom.files import encoded

ACCEPTED = (
    # Slope and intercept are no part of the classic MR image; ours, 1 and 0, change nothing.
    "Attribute is not present in standard DICOM IOD - (0x0028,0x1052) DS Rescale Intercept",
    "Attribute is not present in standard DICOM IOD - (0x0028,0x1053) DS Rescale Slope",
    "Attribute is not present in standard DICOM IOD - (0x0028,0x1054) LO Rescale Type",
    # Parallel imaging and the algorithm have names in newer images only; the standard allows them as an extension.
    "Attribute is not present in standard DICOM IOD - (0x0018,0x9069) FD Parallel Reduction Factor In-plane",
    "Attribute is not present in standard DICOM IOD - (0x0018,0x9077) CS Parallel Acquisition",
    "Attribute is not present in standard DICOM IOD - (0x0018,0x9155) FD Parallel Reduction Factor out-of-plane",
    "Attribute is not present in standard DICOM IOD - (0x0018,0x993d) SQ Reconstruction Algorithm Sequence",
    *(
        f"Attribute is not present in standard DICOM IOD - {name}"
        for name in (
            "(0x0066,0x002f) SQ Algorithm Family Code Sequence",
            "(0x0066,0x0031) LO Algorithm Version",
            "(0x0066,0x0032) LT Algorithm Parameters",
            "(0x0066,0x0036) LO Algorithm Name",
            "(0x0024,0x0202) LO Algorithm Source",
            "(0x0008,0x0100) SH Code Value",
            "(0x0008,0x0102) SH Coding Scheme Designator",
            "(0x0008,0x0104) LO Code Meaning",
        )
    ),
    "Dicom dataset contains attributes not present in standard DICOM IOD - this is a Standard Extended SOP Class",
    # The raw data's header does not tell the side of the body; nor who was examined, where that is left out.
    "is only permitted to be empty when actually unknown; should be absent (not empty) if an unpaired body part",
    "Missing attribute or value that would be needed to build DICOMDIR",
)
"""Warnings that are known and meant."""


def complaints(checker: str, content: bytes, path: Path) -> list[str]:
    path.write_bytes(content)
    run = subprocess.run([checker, path], capture_output=True, text=True, errors="replace")
    told = [line.strip() for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    assert "MRImage" in told, "it was not recognised as an MR image"
    return [line for line in told if line != "MRImage" and not any(text in line for text in ACCEPTED)]


@pytest.mark.parametrize("patient", ["anonymous", "header"])
@pytest.mark.parametrize(
    "which", ["classical", "learned", "fallback", "complex", "signed", "volume", "cine", "knee", "sparse"]
)
def test_dciodvfy(
    dciodvfy: str, parts: Any, export: Any, make_sparse: str, tmp_path: Path, which: str, patient: str
) -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal((6, 8, 2)).astype(np.float32)
    image, xml = {
        "classical": (parts.image(), None),
        "learned": (parts.image(meta=parts.learned), None),
        "fallback": (parts.image(meta=parts.fallback), None),
        "complex": (parts.image(values.view(np.complex64)[..., 0], "complex"), None),
        "signed": (parts.image(values[..., 0], "real"), None),
        "volume": (parts.image(generator.random((1, 3, 6, 8), np.float32)), None),
        "cine": (parts.image(phase=1, physiology_time_stamp=(9, 0, 0)), parts.header(**parts.cine)),
        "knee": (parts.image(), parts.header(HEAD="KNEE")),
        "sparse": (parts.image(acquisition_time_stamp=0), make_sparse),
    }[which]
    for i, dataset in enumerate(export(image, xml=xml, patient=patient)):
        assert complaints(dciodvfy, encoded(dataset), tmp_path / f"{i}.dcm") == []


def test_the_checker_would_complain(dciodvfy: str, parts: Any, export: Any, tmp_path: Path) -> None:
    (dataset,) = export(parts.image())
    del dataset.ImageOrientationPatient
    assert any(
        "ImageOrientationPatient" in line for line in complaints(dciodvfy, encoded(dataset), tmp_path / "a")
    )


@pytest.fixture
def make_sparse(parts: Any) -> str:
    """A header with nothing but its encoding."""
    xml = str(parts.header())
    return (
        "<ismrmrdHeader>"
        + xml[xml.index("<encoding>") : xml.index("</encoding>")]
        + "</encoding></ismrmrdHeader>"
    )
