"""A made-up k-space on which a stage is tried before any scan, so that the first image waits for nothing.

The first call of nearly everything takes longer: code is loaded, transforms are planned, memory is asked for, threads
are started. What is made of it is thrown away, and what is noticed about it nobody is told.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from scanside.engines.manifest import Manifest
from scanside.items import AxisRange, KSpace
from scanside.mrd.readouts import Readouts
from scanside.recon.fourier import to_kspace
from scanside.scan import Scan

__all__ = ["RehearsedScan", "rehearsal"]

_VOXEL_MM = 1.0

_HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <acquisitionSystemInformation><systemFieldStrength_T>1.5</systemFieldStrength_T></acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>{space}</encodedSpace>
    <reconSpace>{space}</reconSpace>
    <encodingLimits><kspace_encoding_step_1>
      <minimum>0</minimum><maximum>{last}</maximum><center>{center}</center>
    </kspace_encoding_step_1></encodingLimits>
    <trajectory>cartesian</trajectory>
  </encoding>
  <sequenceParameters>
    <TR>1000</TR><TE>50</TE><TI>1000</TI><flipAngle_deg>90</flipAngle_deg>
  </sequenceParameters>
</ismrmrdHeader>
"""
_SPACE = (
    "<matrixSize><x>{k0}</x><y>{k1}</y><z>1</z></matrixSize>"
    "<fieldOfView_mm><x>{x}</x><y>{y}</y><z>5</z></fieldOfView_mm>"
)


class RehearsedScan(Scan):
    """A scan that is none: no operator hears of it."""

    def warn(self, text: str) -> None:
        """Nothing is told."""


def rehearsal(
    manifest: Manifest, size: tuple[int, int], n_coils: int, device: torch.device
) -> tuple[Scan, KSpace]:
    """A scan and its k-space ``(*time, coil, 1, k1, k0)`` with coil maps, sampled as a network was trained for.

    Args:
        manifest: of the network.
        size: ``(k1, k0)``.
        n_coils: of the data.
        device: of the k-space.
    """
    k1, k0 = size
    space = _SPACE.format(k1=k1, k0=k0, y=k1 * _VOXEL_MM, x=k0 * _VOXEL_MM)
    scan = RehearsedScan.from_xml(_HEADER.format(space=space, last=k1 - 1, center=k1 // 2))
    time = () if manifest.shapes.frames is None else (manifest.shapes.frames,)
    mask = _lines(manifest, k1).expand(*time, 1, k1).clone()
    image, maps = _object(k1, k0, n_coils)
    kspace = to_kspace(image * maps)
    noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=torch.Generator().manual_seed(2))
    kspace = (kspace + _noise_level(manifest) * noise) * mask[..., None, :, :, None]
    headers = Readouts.empty_headers(mask.numel()).reshape(mask.shape)
    headers["read_dir"], headers["phase_dir"], headers["slice_dir"] = np.eye(3)
    headers["idx"]["kspace_encode_step_1"] = np.arange(k1)
    headers["version"][~mask.numpy()] = 0
    item = KSpace(
        data=kspace.to(device),
        mask=mask.to(device),
        headers=headers,
        encoding=scan.encoding(),
        other=("repetition",) if time else (),
        ranges=(AxisRange(0, k0 - 1, k0 // 2), AxisRange(0, k1 - 1, k1 // 2), AxisRange(0, 0, 0)),
        coil_maps=maps.to(device),
    )
    return scan, item


def _lines(manifest: Manifest, k1: int) -> torch.Tensor:
    """Every few lines and a full centre, or lines at random where that is not what the network knows."""
    trained = manifest.sampling
    apart = max(round((trained.acceleration.low + trained.acceleration.high) / 2), 1)
    centre = round((trained.acs_lines.low + trained.acs_lines.high) / 2)
    mask = torch.zeros(k1, dtype=torch.bool)
    if "equispaced" in trained.kinds:
        mask[::apart] = True
    else:
        mask[torch.randperm(k1, generator=torch.Generator().manual_seed(1))[: k1 // apart]] = True
    mask[max(k1 // 2 - centre // 2, 0) : k1 // 2 + (centre + 1) // 2] = True
    return mask


def _noise_level(manifest: Manifest) -> float:
    """The standard deviation of complex noise amid those that the network knows, for an object as bright as 1."""
    snr = manifest.sampling.snr
    return 0.0 if snr is None else math.sqrt(2 / (snr.low * snr.high))


def _object(k1: int, k0: int, n_coils: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A round object ``(z, y, x)`` and coils around it ``(coil, z, y, x)``, their squares adding up to 1."""
    y = torch.linspace(-1, 1, k1)[:, None]
    x = torch.linspace(-1, 1, k0)
    angles = 2 * torch.pi * torch.arange(n_coils)[:, None, None, None] / n_coils
    distance = (y - 1.3 * torch.sin(angles)).square() + (x - 1.3 * torch.cos(angles)).square()
    maps = torch.polar(torch.exp(-distance / 2), angles + 0.4 * distance)
    maps = maps / maps.abs().square().sum(0).sqrt()
    image = torch.exp(-4 * (y.square() + x.square()).square())[None]
    return image.to(maps.dtype), maps
