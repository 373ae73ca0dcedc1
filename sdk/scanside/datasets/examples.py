"""Small files that are built like those of data sets, of simulated objects whose truth is known.

They are for trying commands and configurations before the data are there. Heads and hearts of ellipses teach a
network nothing about people.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from scanside.datasets.bart_files import write_cfl
from scanside.datasets.calgary_campinas import write_calgary_campinas
from scanside.datasets.cmrxrecon import write_cmrxrecon
from scanside.datasets.fastmri import write_fastmri
from scanside.datasets.fastmri_prostate import EpiReadout
from scanside.datasets.fastmri_prostate_writers import write_prostate_diffusion, write_prostate_t2
from scanside.datasets.fourier import centred_fft
from scanside.datasets.knee_mri import write_knee_mri
from scanside.datasets.m4raw import write_m4raw
from scanside.datasets.mrnet import write_mrnet
from scanside.datasets.nifti_images import write_nifti
from scanside.datasets.skm_tea import write_skm_tea
from scanside.errors import ConfigError
from scanside.simulate import CoilConfig, DynamicsConfig, GeometryConfig, PhantomConfig, ScanConfig, simulate

__all__ = ["example_names", "write_example"]

Complex = npt.NDArray[np.complexfloating[Any, Any]]

_NOISE = 0.005
_N_COILS = 4
_PIXEL_MM = 2.0


def example_names() -> list[str]:
    """Data sets of which there are examples."""
    return sorted(_WRITERS)


def write_example(dataset: str, folder: Path) -> list[Path]:
    """Write small files of a data set, in its own folders.

    Args:
        dataset: its name.
        folder: to write to; it is made.

    Returns:
        The files, without tables.

    Raises:
        ConfigError: there is no example of such a data set, or the folder is not empty.
        MissingExtra: the files are of NIfTI, and nibabel is not installed.
    """
    if dataset not in _WRITERS:
        raise ConfigError(f"there is no example of '{dataset}'; there are {', '.join(example_names())}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there, and is no empty folder: name a new one")
    folder.mkdir(parents=True, exist_ok=True)
    return _WRITERS[dataset](folder)


def _truth(
    size: tuple[int, int],
    n_slices: int,
    *,
    kind: Literal["brain", "cardiac"] = "brain",
    phases: int = 1,
    pixel_mm: float = _PIXEL_MM,
) -> tuple[Complex, Complex]:
    """Images ``(phase, slice, k1, k0)`` and maps ``(slice, coil, k1, k0)``."""
    n1, n0 = size
    config = ScanConfig(
        phantom=PhantomConfig(kind=kind, supersampling=(1, 1, 1)),
        coils=CoilConfig(n_coils=_N_COILS),
        geometry=GeometryConfig(
            matrix=(n0, n1, 1), fov_mm=(pixel_mm * n0, pixel_mm * n1, 5.0), n_slices=n_slices
        ),
        dynamics=DynamicsConfig(phases=phases),
    )
    truth = simulate(config).truth
    return truth.images[0, :, 0, 0, :, 0], truth.maps[:, :, 0]


def _coil_images(size: tuple[int, int], n_slices: int, seed: int = 0, **settings: Any) -> Complex:
    """``(phase, slice, coil, k1, k0)`` with noise."""
    images, maps = _truth(size, n_slices, **settings)
    return _noisy(images[:, :, None] * maps, seed)


def _noisy(values: Complex, seed: int) -> Complex:
    rng = np.random.default_rng(seed)
    return values + _NOISE * (rng.standard_normal(values.shape) + 1j * rng.standard_normal(values.shape))


def _magnitudes(size: tuple[int, int], n_slices: int, pixel_mm: float = _PIXEL_MM) -> npt.NDArray[np.float64]:
    """``(slice, row, column)`` from 0 to 1."""
    values = np.abs(_truth(size, n_slices, pixel_mm=pixel_mm)[0][0])
    return np.asarray(values / values.max(), np.float64)


def _fastmri(folder: Path) -> list[Path]:
    paths: list[Path] = []
    for part, patient, n_files in (("train", "a", 2), ("train", "b", 1), ("val", "c", 1)):
        for _ in range(n_files):
            paths.append(folder / f"multicoil_{part}" / f"file{1000001 + len(paths)}.h5")
            paths[-1].parent.mkdir(exist_ok=True)
            coils = _coil_images((120, 256), 2, len(paths))[0]
            write_fastmri(
                paths[-1], coils, patient=patient, acquisition="AXT2", image_size=(112, 128), padding=(3, 2)
            )
    mask = np.zeros(120, np.bool_)
    mask[::4] = mask[54:66] = True
    paths.append(folder / "multicoil_test" / "file1000005.h5")
    paths[-1].parent.mkdir()
    coils = _coil_images((120, 256), 2, 5)[0]
    write_fastmri(paths[-1], coils, patient="d", acquisition="AXT2", image_size=(112, 128), mask=mask)
    return paths


def _prostate_t2(folder: Path) -> list[Path]:
    path = folder / "file_prostate_AXT2_001.h5"
    write_prostate_t2(path, _coil_images((128, 128), 2)[0], image_size=(64, 64), n_columns=96)
    return [path]


def _prostate_diffusion(folder: Path) -> list[Path]:
    path = folder / "file_prostate_AXDIFF_001.h5"
    images, maps = _truth((48, 64), 1, pixel_mm=5.0)
    write_prostate_diffusion(
        path,
        _noisy(images[0, :, None] * maps, 0),
        maps,
        attenuation=(0.9, 0.9, 0.9, 0.4, 0.4, 0.4),
        image_size=(48, 48),
        epi=EpiReadout(120.0, 120.0, 480.0, 30.0, 720.0),
        readout_us=660.0,
    )
    return [path]


def _m4raw(folder: Path) -> list[Path]:
    below = folder / "multicoil_train"
    below.mkdir()
    paths = [below / f"2022061003_T20{repetition}.h5" for repetition in (1, 2, 3)]
    for seed, path in enumerate(paths):
        write_m4raw(path, _coil_images((128, 128), 2, seed)[0], patient="2022061003", columns=(15, 112))
    return paths


def _skm_tea(folder: Path) -> list[Path]:
    below = folder / "files_recon_calib-24"
    below.mkdir()
    images, maps = _truth((96, 64), 4, pixel_mm=3.0)
    normal = maps / np.sqrt((np.abs(maps) ** 2).sum(1, keepdims=True))
    echoes = np.stack([images[0], 0.4 * images[0]], 1)
    mask = np.random.default_rng(0).random((80, 40)) < 0.25
    mask[28:52, 8:32] = True
    write_skm_tea(below / "MTR_005.h5", echoes, normal, acquired_size=(80, 40), masks={4.0: mask})
    return [below / "MTR_005.h5"]


def _cmrxrecon(folder: Path) -> list[Path]:
    path = folder / "MultiCoil" / "Cine" / "TrainingSet" / "FullSample" / "P001" / "cine_sax.mat"
    write_cmrxrecon(path, _coil_images((96, 128), 1, kind="cardiac", phases=4))
    return [path]


def _calgary_campinas(folder: Path) -> list[Path]:
    below = folder / "12-channel" / "Train"
    below.mkdir(parents=True)
    write_calgary_campinas(below / "e14089s3_P53248.7.h5", _coil_images((96, 80), 4, pixel_mm=3.0)[0])
    return [below / "e14089s3_P53248.7.h5"]


def _bart(folder: Path) -> list[Path]:
    below = folder / "volunteer-1"
    below.mkdir()
    images, maps = _truth((96, 128), 1)
    coils = _noisy(images[0, :, None] * maps, 0)[0]
    write_cfl(below / "kspace", centred_fft(coils).T[:, :, None])
    write_cfl(below / "maps", maps[0].T[:, :, None])
    return [below / "kspace.cfl"]


def _knee_mri(folder: Path) -> list[Path]:
    volume = (4095 * _magnitudes((96, 96), 6, 3.0)).astype(np.uint16)
    box = {"roiX": 30, "roiY": 32, "roiZ": 1, "roiHeight": 32, "roiWidth": 36, "roiDepth": 4}
    rows = [(329637, 8, 0), (329637, 9, 0), (390116, 9, 2)]
    return write_knee_mri(
        folder,
        [
            (volume, {"examId": exam, "seriesNo": series, "aclDiagnosis": acl, "kneeLR": 0} | box)
            for exam, series, acl in rows
        ],
    )


def _mrnet(folder: Path) -> list[Path]:
    volume = (255 * _magnitudes((256, 256), 2, 1.0)).astype(np.uint8)
    exams = {"0000": dict.fromkeys(("axial", "coronal", "sagittal"), volume)}
    return write_mrnet(folder, exams, {"abnormal": {"0000": 1}, "acl": {"0000": 0}, "meniscus": {"0000": 1}})


def _nifti(folder: Path) -> list[Path]:
    path = folder / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    values = _magnitudes((96, 96), 4).astype(np.float32).T
    # x, y and z run to the left, back and head.
    write_nifti(path, values, np.diag([-_PIXEL_MM, -_PIXEL_MM, 5.0, 1.0]), (_PIXEL_MM, _PIXEL_MM, 5.0))
    return [path]


_WRITERS: dict[str, Callable[[Path], list[Path]]] = {
    "bart": _bart,
    "calgary-campinas": _calgary_campinas,
    "cmrxrecon": _cmrxrecon,
    "fastmri": _fastmri,
    "fastmri-prostate-diffusion": _prostate_diffusion,
    "fastmri-prostate-t2": _prostate_t2,
    "knee-mri": _knee_mri,
    "m4raw": _m4raw,
    "mrnet": _mrnet,
    "nifti": _nifti,
    "skm-tea": _skm_tea,
}
