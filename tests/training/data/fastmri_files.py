"""Files that are built like fastMRI's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.datasets.fastmri import write_fastmri
from scanside_training.data.knees import knee

HEADER = "file,slice,study_level,x,y,width,height,label"
"""First line of the tables of fastMRI+."""


def write_images(
    path: Path,
    images: npt.NDArray[np.float32],
    patient: str = "patient-1",
    acquisition: str = "CORPD_FBK",
    *,
    n_coils: int = 1,
    **settings: Any,
) -> Path:
    """A file whose reconstructions are these images ``(slice, row, column)``, the readout along the rows."""
    n_rows, n_columns = images.shape[1:]
    image = np.pad(images.swapaxes(1, 2), ((0, 0), (0, 0), (n_rows // 2, n_rows - n_rows // 2)))
    y, x = np.meshgrid(np.linspace(-1, 1, n_columns), np.linspace(-2, 2, 2 * n_rows), indexing="ij")
    angles = 2 * np.pi * np.arange(n_coils) / n_coils
    maps = np.stack([np.exp(0.6 * (y * np.sin(a) + x * np.cos(a)) + 1j * (a + 0.5 * y)) for a in angles])
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0))
    size = (n_columns, n_rows)
    write_fastmri(
        path, image[:, None] * maps, patient=patient, acquisition=acquisition, image_size=size, **settings
    )
    return path


def write_knees(folder: Path, n_subjects: int, size: int, n_coils: int = 1) -> Path:
    """A folder of generated knees with a finding each, and the table of boxes around them, beside it."""
    folder.mkdir()
    rows = [HEADER]
    for subject in range(n_subjects):
        slices = knee(size, 2, np.random.default_rng(subject), finding=True)
        name = f"file{subject:07d}"
        pixels = np.stack([one.pixels for one in slices])
        write_images(folder / f"{name}.h5", pixels, f"patient-{subject}", n_coils=n_coils)
        for number, one in enumerate(slices):
            if one.finding.any():
                row, column = (np.flatnonzero(one.finding.any(axis)) for axis in (1, 0))
                y, height, width = size - row[-1] - 1, np.ptp(row) + 1, np.ptp(column) + 1
                rows.append(f"{name},{number},No,{column[0]},{y},{width},{height},Bone-Subchondral edema")
    table = folder.parent / "knee.csv"
    table.write_text("\n".join(rows) + "\n", "utf-8")
    return table
