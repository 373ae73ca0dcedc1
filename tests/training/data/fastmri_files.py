"""Files that are built like fastMRI's."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from scanside_training.data.knees import knee

HEADER = "file,slice,study_level,x,y,width,height,label"
"""First line of the tables of fastMRI+."""


def write_fastmri(
    path: Path,
    images: npt.NDArray[np.float32],
    patient: str = "patient-1",
    acquisition: str = "CORPD_FBK",
    *,
    image: str = "reconstruction_rss",
) -> Path:
    """A file of training: k-space of one coil, twice as long along the readout, and magnitude images."""
    padded = np.pad(images, ((0, 0), (images.shape[1] // 2, images.shape[1] // 2), (0, 0)))
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(padded, axes), norm="ortho"), axes)
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace[:, None].astype(np.complex64)
        file[image] = images
        file["ismrmrd_header"] = b"<ismrmrdHeader xmlns='http://www.ismrm.org/ISMRMRD'/>"
        file.attrs.update(acquisition=acquisition, max=float(images.max()), norm=1.0, patient_id=patient)
    return path


def write_knees(folder: Path, n_subjects: int, size: int) -> Path:
    """A folder of generated knees with a finding each, and the table of boxes around them, beside it."""
    folder.mkdir()
    rows = [HEADER]
    for subject in range(n_subjects):
        slices = knee(size, 2, np.random.default_rng(subject), finding=True)
        name = f"file{subject:07d}"
        write_fastmri(folder / f"{name}.h5", np.stack([one.pixels for one in slices]), f"patient-{subject}")
        for number, one in enumerate(slices):
            if one.finding.any():
                row, column = (np.flatnonzero(one.finding.any(axis)) for axis in (1, 0))
                y, height, width = size - row[-1] - 1, np.ptp(row) + 1, np.ptp(column) + 1
                rows.append(f"{name},{number},No,{column[0]},{y},{width},{height},Bone-Subchondral edema")
    table = folder.parent / "knee.csv"
    table.write_text("\n".join(rows) + "\n", "utf-8")
    return table
