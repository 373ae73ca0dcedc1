"""A small scan of known content, and its items: enough to send through a stage in milliseconds.

One slice of 24 × 24 voxels of 10 mm, 4 coils, readout oversampling 2, every second phase-encoding line, with
embedded calibration lines 8 to 15, after a block of noise readouts. The object is asymmetric.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scanside.items import AxisRange, Image, KSpace
from scanside.mrd.dtypes import IMAGE_HEADER, IMAGE_TYPES, WAVEFORM_HEADER, Headers
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.readouts import Readouts, Waveform
from scanside.scan import Scan

if TYPE_CHECKING:
    import torch

__all__ = ["small_image", "small_kspace", "small_readouts", "small_scan", "small_waveform"]

_N = 24
_OVERSAMPLED = 2 * _N
_N_COILS = 4
_ACS = range(8, 16)
_LINES = tuple(k1 for k1 in range(_N) if k1 % 2 == 0 or k1 in _ACS)
_VOXEL_MM = 10.0
_BLOCK = 5  # readouts per block, as a live stream might deliver them

_HEADER = f"""<?xml version="1.0" encoding="UTF-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <measurementInformation>
    <measurementID>small_1</measurementID>
    <patientPosition>HFS</patientPosition>
  </measurementInformation>
  <acquisitionSystemInformation>
    <relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth>
    <receiverChannels>{_N_COILS}</receiverChannels>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>{_OVERSAMPLED}</x><y>{_N}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{_OVERSAMPLED * _VOXEL_MM}</x><y>{_N * _VOXEL_MM}</y><z>5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{_N}</x><y>{_N}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{_N * _VOXEL_MM}</x><y>{_N * _VOXEL_MM}</y><z>5</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1>
        <minimum>0</minimum><maximum>{_N - 1}</maximum><center>{_N // 2}</center>
      </kspace_encoding_step_1>
    </encodingLimits>
    <trajectory>cartesian</trajectory>
    <parallelImaging>
      <accelerationFactor>
        <kspace_encoding_step_1>2</kspace_encoding_step_1><kspace_encoding_step_2>1</kspace_encoding_step_2>
      </accelerationFactor>
      <calibrationMode>embedded</calibrationMode>
    </parallelImaging>
  </encoding>
</ismrmrdHeader>
"""


def small_scan() -> Scan:
    """The small scan."""
    return Scan.from_xml(_HEADER, "small")


def small_readouts() -> list[Readouts]:
    """Its readouts: a block of noise ``(8, 4, 48)``, then the 16 lines ``(n, 4, 48)`` in blocks of up to 5."""
    generator = np.random.default_rng(1)
    noise = Readouts(_headers(8), _noise(generator, (8, _N_COILS, _OVERSAMPLED)))
    noise.headers["flags"] = AcquisitionFlag.NOISE_MEASUREMENT
    samples = _coil_kspace(_OVERSAMPLED)[:, 0, _LINES].swapaxes(0, 1)
    lines = Readouts(_line_headers(_OVERSAMPLED), samples + _noise(generator, samples.shape))
    return [noise, *(lines.select(slice(i, i + _BLOCK)) for i in range(0, len(lines), _BLOCK))]


def small_waveform() -> Waveform:
    """A piece of a waveform with 2 channels and 10 samples."""
    header = np.zeros(1, WAVEFORM_HEADER)[0]
    header["version"] = 1
    header["channels"], header["number_of_samples"] = 2, 10
    header["sample_time_us"] = 2500
    return Waveform(header, np.arange(20, dtype=np.uint32).reshape(2, 10))


def small_kspace(*, repetition: int = 0, coil_maps: bool = False) -> KSpace:
    """Its k-space ``(4, 1, 24, 24)`` without oversampling, with its calibration lines as `KSpace.reference`.

    Args:
        repetition: its counter; each has noise of its own.
        coil_maps: give it the true sensitivities ``(4, 1, 24, 24)``, normalised to root sum of squares 1.
    """
    import torch

    generator = np.random.default_rng(2 + repetition)
    mask = np.zeros((1, _N), np.bool_)
    mask[0, _LINES] = True
    data = _coil_kspace(_N)
    data = np.where(mask[..., None], data + _noise(generator, data.shape), 0).astype(np.complex64)
    headers = Readouts.empty_headers(_N).reshape(1, _N)
    headers["version"] = 0
    headers[0, _LINES] = _line_headers(_N)
    headers["idx"]["repetition"][mask] = repetition
    readout, phase = AxisRange(0, _N - 1, _N // 2), AxisRange(_LINES[0], _LINES[-1], _N // 2)
    calibration = slice(_ACS.start, _ACS.stop)
    encoding = small_scan().encoding()
    counters = {"slice": 0, "contrast": 0, "phase": 0, "repetition": repetition, "set": 0}
    extent_mm = encoding.recon.field_of_view_mm

    def part(lines: slice, range_k1: AxisRange, reference: KSpace | None) -> KSpace:
        return KSpace(
            data=torch.from_numpy(data[:, :, lines].copy()),
            mask=torch.from_numpy(mask[:, lines].copy()),
            headers=headers[:, lines].copy(),
            encoding=encoding,
            counters=counters,
            ranges=(readout, range_k1, AxisRange(0, 0, 0)),
            field_of_view_mm=extent_mm,
            reference=reference,
            coil_maps=torch.from_numpy(_sensitivities()) if coil_maps and reference else None,
        )

    reference = part(calibration, AxisRange(0, len(_ACS) - 1, _N // 2 - _ACS.start), None)
    return part(slice(None), phase, reference)


def small_image(*, repetition: int = 0) -> Image:
    """Its image ``(1, 1, 24, 24)``, complex64.

    Args:
        repetition: its counter; each has noise of its own.
    """
    voxels = _object() + _noise(np.random.default_rng(2 + repetition), (_N, _N))
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["version"] = 1
    header["matrix_size"] = (_N, _N, 1)
    header["field_of_view"] = (_N * _VOXEL_MM, _N * _VOXEL_MM, 5)
    header["channels"] = 1
    header["repetition"] = repetition
    header["image_type"] = IMAGE_TYPES["complex"]
    header["image_index"] = 1 + repetition
    header["image_series_index"] = 1
    header["read_dir"], header["phase_dir"], header["slice_dir"] = np.eye(3)
    return Image(_tensor(voxels[None, None]), header, encoding=small_scan().encoding())


def _tensor(array: npt.NDArray[np.complex128]) -> torch.Tensor:
    import torch

    return torch.from_numpy(array.astype(np.complex64))


def _noise(generator: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.complex64]:
    real, imag = generator.standard_normal((2, *shape))
    noise: npt.NDArray[np.complex64] = (0.002 * (real + 1j * imag)).astype(np.complex64)
    return noise


def _position() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Coordinates (y, x) of the voxels, from −1 to 1."""
    along = (np.arange(_N) - _N // 2) / (_N // 2)
    return along[:, None], along[None]


def _object() -> npt.NDArray[np.complex128]:
    """Three blobs of different size, with a phase that varies slowly, ``(y, x)``."""
    y, x = _position()
    blobs = ((0.0, 0.0, 0.5, 1.0), (-0.3, 0.25, 0.12, 0.7), (0.2, -0.35, 0.08, -0.4))
    magnitude = sum(a * np.exp(-(((y - v) ** 2 + (x - u) ** 2) / (2 * s**2))) for v, u, s, a in blobs)
    return np.asarray(magnitude * np.exp(1j * (0.3 + 0.5 * x - 0.2 * y)))


@functools.cache
def _sensitivities() -> npt.NDArray[np.complex64]:
    """Coils on a circle, ``(coil, z, y, x)``."""
    y, x = _position()
    angles = 2 * np.pi * (np.arange(_N_COILS)[:, None, None] + 0.2) / _N_COILS
    distance = (y - 1.3 * np.sin(angles)) ** 2 + (x - 1.3 * np.cos(angles)) ** 2
    maps = np.exp(-distance / 2 + 1j * (angles + 0.4 * distance))
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    stack: npt.NDArray[np.complex64] = maps[:, None].astype(np.complex64)
    return stack


def _coil_kspace(n_k0: int) -> npt.NDArray[np.complex64]:
    """Full k-space without noise, ``(coil, k2, k1, k0)``; a longer k0 spans a larger field of view."""
    coils = _object() * _sensitivities()
    margin = (n_k0 - _N) // 2
    coils = np.pad(coils, ((0, 0), (0, 0), (0, 0), (margin, margin)))
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(coils, axes), norm="ortho"), axes)
    return kspace.astype(np.complex64)


def _headers(n: int) -> Headers:
    headers = Readouts.empty_headers(n)
    headers["scan_counter"] = np.arange(n)
    headers["number_of_samples"] = _OVERSAMPLED
    headers["active_channels"] = headers["available_channels"] = _N_COILS
    headers["center_sample"] = _OVERSAMPLED // 2
    headers["sample_time_us"] = 5
    headers["read_dir"], headers["phase_dir"], headers["slice_dir"] = np.eye(3)
    return headers


def _line_headers(n_k0: int) -> Headers:
    headers = _headers(len(_LINES))
    headers["scan_counter"] += 8
    headers["acquisition_time_stamp"] = 4000 + 2 * np.arange(len(_LINES))
    headers["number_of_samples"], headers["center_sample"] = n_k0, n_k0 // 2
    headers["sample_time_us"] = 10
    headers["idx"]["kspace_encode_step_1"] = _LINES
    calibration = np.isin(_LINES, _ACS)
    headers["flags"][calibration] = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
    last = AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_MEASUREMENT
    headers["flags"][-1] |= np.uint64(last)
    return headers
