"""Files as fastMRI's prostates are, from images whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.fastmri import header_xml
from scanside.datasets.fastmri_prostate import EpiReadout, interleave
from scanside.datasets.fourier import centred_fft, centred_ifft, middle

__all__ = ["sampled_on_ramps", "write_prostate_diffusion", "write_prostate_t2"]

Complex = npt.NDArray[np.complexfloating[Any, Any]]


def write_prostate_t2(
    path: Path,
    coil_images: Complex,
    *,
    image_size: tuple[int, int],
    n_columns: int,
    n_calibration: int = 8,
) -> None:
    """Write a T2-weighted file.

    Args:
        path: the file.
        coil_images: ``(slice, coil, k1, k0)``, square: the columns' field of view after padding.
        image_size: (k1, k0) of the reconstruction.
        n_columns: as many as are encoded; the rest is the padding that the file leaves out.
        n_calibration: columns of the calibration data.
    """
    n1, n0 = coil_images.shape[-2:]
    first = (n1 - n_columns) // 2
    encoded = np.zeros(n1, np.bool_)
    encoded[first : first + n_columns] = True
    kspace = centred_fft(coil_images) * encoded[:, None]
    rss = np.sqrt((np.abs(centred_ifft(kspace)) ** 2).sum(1))
    rows = kspace[:, :, encoded].swapaxes(-1, -2)
    averages = np.zeros((3, *rows.shape), np.complex64)
    for average, offset in enumerate((0, 1, 0)):
        averages[average, ..., offset::2] = rows[..., offset::2]
    header = header_xml((n_columns, n0), image_size, n_columns, n_columns // 2)
    with h5py.File(path, "w") as file:
        file["kspace"] = averages
        file["calibration_data"] = _calibration(coil_images, n_calibration)
        # The whole image is turned over, and then cut.
        file["reconstruction_rss"] = middle(rss.swapaxes(-1, -2)[:, ::-1], image_size[::-1]).astype(
            np.float32
        )
        file["ismrmrd_header"] = header.encode()
        file.attrs.update(
            acquisition="AXT2", patient_id="somebody", max=float(rss.max()), norm=float(np.linalg.norm(rss))
        )


def write_prostate_diffusion(
    path: Path,
    coil_images: Complex,
    maps: Complex,
    *,
    attenuation: Sequence[float],
    image_size: tuple[int, int],
    epi: EpiReadout,
    readout_us: float,
    n_calibration: int = 8,
) -> None:
    """Write a diffusion-weighted file.

    Args:
        path: the file.
        coil_images: ``(slice, coil, k1, k0)`` without diffusion weighting.
        maps: ``(slice, coil, k1, k0)``.
        attenuation: what is left of the signal, by place in `WEIGHTINGS`.
        image_size: (k1, k0) of the reconstruction.
        epi: the gradient.
        readout_us: how long a readout is.
        n_calibration: columns of the calibration data.
    """
    n1, n0 = coil_images.shape[-2:]
    rows = sampled_on_ramps(coil_images, epi, readout_us).swapaxes(-1, -2)
    volumes = np.zeros((50, *rows.shape), np.complex64)
    signals = {volume: attenuation[weighting] for volume, weighting, _ in interleave()}
    for volume in range(len(volumes)):
        volumes[volume, ..., ::2] = signals.get(volume, 1.0) * rows[..., ::2]
    header = header_xml((n1, n0), image_size, n1, n1 // 2)
    values = zip(
        ("rampUpTime", "rampDownTime", "flatTopTime", "acqDelayTime", "echoSpacing"), epi, strict=True
    )
    longs = "".join(
        f"<userParameterLong><name>{name}</name><value>{value:.0f}</value></userParameterLong>"
        for name, value in values
    )
    described = (
        "<trajectory>epi</trajectory><trajectoryDescription><identifier>ConventionalEPI</identifier>"
        f"{longs}</trajectoryDescription>"
    )
    with h5py.File(path, "w") as file:
        file["kspace"] = volumes
        file["calibration_data"] = rows[..., n1 // 2 - n_calibration // 2 :][..., :n_calibration].astype(
            np.complex64
        )
        file["coil_sens_maps"] = maps.swapaxes(-1, -2).astype(np.complex64)
        file["ismrmrd_header"] = header.replace("<trajectory>cartesian</trajectory>", described).encode()


def sampled_on_ramps(coil_images: Complex, epi: EpiReadout, readout_us: float) -> Complex:
    """K-space ``(…, k1, k0)`` of images, at equal steps of time along k0 instead of k-space.

    The position is the area under the trapezoid until then; the first and last one are those of a whole readout.
    """
    n1, n0 = coil_images.shape[-2:]
    time = np.linspace(epi.acquisition_delay_us, epi.acquisition_delay_us + readout_us, n0)
    up = np.clip(time, 0, epi.ramp_up_us)
    flat = np.clip(time - epi.ramp_up_us, 0, epi.flat_top_us)
    down = np.clip(time - epi.ramp_up_us - epi.flat_top_us, 0, epi.ramp_down_us)
    area = up**2 / (2 * epi.ramp_up_us) + flat + down - down**2 / (2 * epi.ramp_down_us)
    k0 = (area - area[0]) / (area[-1] - area[0]) * (n0 - 1) - n0 // 2
    k1 = np.arange(n1) - n1 // 2
    along0 = np.exp(-2j * np.pi / n0 * k0[:, None] * (np.arange(n0) - n0 // 2)) / np.sqrt(n0)
    along1 = np.exp(-2j * np.pi / n1 * k1[:, None] * k1) / np.sqrt(n1)
    return np.asarray(along1 @ coil_images @ along0.T)


def _calibration(coil_images: Complex, n: int) -> Complex:
    kspace = centred_fft(coil_images)
    n1 = kspace.shape[-2]
    return kspace[:, :, n1 // 2 - n // 2 :][:, :, :n].swapaxes(-1, -2).astype(np.complex64)
