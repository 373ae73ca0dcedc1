"""Virtual coils of a k-space: found in its calibration lines, and put into its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from scanside.items import AxisRange, KSpace
from scanside.mrd.dtypes import Headers
from scanside.mrd.meta import Meta
from scanside.recon.column_cache import changes
from scanside.recon.compression import ENERGY, CoilCompression, geometric, pca, weakest_component
from scanside.recon.noise_level import noise_level
from scanside.recon.resize import crop_or_pad
from scanside.stages._axes import readout_of
from scanside.stages._calibration import calibration_block
from scanside.stages._finite import check_finite

__all__ = [
    "EDGE",
    "LOSS",
    "FewerCoils",
    "Method",
    "compressed",
    "find_compression",
    "lost_in_compression",
    "method_for",
    "reference_of_virtual_coils",
    "without_samples",
]

Method = Literal["pca", "geometric"]

EDGE = 24
"""Largest edge of the block in which virtual coils are looked for, in samples."""

LOSS = "ScansideCoilCompressionLoss"
"""Meta attribute with the part of the signal's energy that virtual coils do not hold."""


def method_for(item: KSpace) -> Method:
    """By position along the readout, unless echoes are asymmetric: their samples cannot tell positions apart."""
    ranges = (item.reference or item).ranges
    return "geometric" if _whole(ranges, item.data.shape[-1]) else "pca"


def find_compression(
    item: KSpace, n_coils: int | None, method: Method, *, edge: int = EDGE, energy: float = ENERGY
) -> CoilCompression:
    """The virtual coils of a k-space.

    Args:
        item: whose calibration lines, or fully sampled middle, they are found in.
        n_coils: how many; None for as few as hold `energy`.
        method: how.
        edge: largest edge of the block that is used, in samples.
        energy: part of the signal's energy.

    Raises:
        CalibrationError: there are no calibration lines, or they are zero.
        NonFiniteError: they hold NaN or infinity.
    """
    block = calibration_block(item, "coil compression")
    source = item.reference or item
    block = crop_or_pad(block, [min(n, edge) for n in block.shape[-3:]], (-3, -2, -1))
    check_finite(block, source)
    noise = min(_noise(source), weakest_component(block))
    if method == "geometric":
        return geometric(block, n_coils, item.data.shape[-1], energy=energy, noise=noise)
    return pca(block, n_coils, energy=energy, noise=noise)


def compressed(compression: CoilCompression, item: KSpace, method: Method) -> KSpace:
    """A k-space of virtual coils, with maps where there were maps, that tells in its meta what was done.

    Its `KSpace.reference` stays as it is.
    """
    meta = item.meta.copy()
    meta["ScansideCoilCompression"] = [
        method,
        f"{item.n_coils} coils to {compression.n_virtual}",
        f"{compression.energy:.4f} of the energy",
    ]
    # Several compressions, one after the other, lose what they lose together.
    meta[LOSS] = f"{1 - (1 - lost_in_compression(item.meta)) * compression.energy:.3g}"
    return _of_virtual_coils(compression, item).replace(meta=meta)


def reference_of_virtual_coils(compression: CoilCompression, item: KSpace) -> KSpace | None:
    """The calibration lines of a k-space, compressed."""
    return None if item.reference is None else _of_virtual_coils(compression, item.reference)


def without_samples(compression: CoilCompression, item: KSpace) -> KSpace:
    """What is known of a k-space of virtual coils whose own samples are not there yet."""
    return item.replace(
        data=item.data.narrow(-4, 0, compression.n_virtual), **_maps_of_virtual_coils(compression, item)
    )


def lost_in_compression(meta: Meta) -> float:
    """The part of the signal's energy that a k-space lost when its coils became virtual ones."""
    return float(meta.first(LOSS)) if LOSS in meta else 0.0


class FewerCoils:
    """K-space of no more coils than an engine takes; its virtual coils are found once for the maps of a scan."""

    def __init__(self) -> None:
        self._known: _Known | None = None

    def __call__(self, item: KSpace, n_coils: int | None) -> KSpace:
        """The k-space, compressed where it has more coils, with the maps of the virtual coils.

        Args:
            item: with maps.
            n_coils: the most that are taken; None for any number.

        Raises:
            CalibrationError: there are no calibration lines that virtual coils could be found in.
        """
        maps = item.coil_maps
        if n_coils is None or item.n_coils <= n_coils or maps is None:
            return item
        method = method_for(item)
        if self._known is None or not self._known.serves(maps, n_coils, method):
            compression = find_compression(item, n_coils, method)
            virtual = compression.of_maps(maps)
            self._known = _Known(maps, changes(maps), n_coils, method, compression, virtual)
        fewer = compressed(self._known.compression, item.replace(coil_maps=None), method)
        return fewer.replace(coil_maps=self._known.virtual_maps)

    def close(self) -> None:
        """Forget the scan's coils."""
        self._known = None


@dataclass(frozen=True)
class _Known:
    maps: torch.Tensor
    n_changes: int
    n_coils: int
    method: Method
    compression: CoilCompression
    virtual_maps: torch.Tensor

    def serves(self, maps: torch.Tensor, n_coils: int, method: Method) -> bool:
        """Whether it was found for these maps, as they are."""
        same_maps = self.maps is maps and self.n_changes == changes(maps)
        return same_maps and (self.n_coils, self.method) == (n_coils, method)


def _of_virtual_coils(compression: CoilCompression, item: KSpace) -> KSpace:
    lines = item.mask.reshape(-1, *item.mask.shape[-2:]).any(0)
    return item.replace(
        data=compression.apply(item.data, lines),
        headers=_with_channels(item.headers, compression.n_virtual),
        **_maps_of_virtual_coils(compression, item),
    )


def _maps_of_virtual_coils(compression: CoilCompression, item: KSpace) -> dict[str, torch.Tensor]:
    sets = {"coil_maps": item.coil_maps, "second_maps": item.second_maps}
    return {name: compression.of_maps(maps) for name, maps in sets.items() if maps is not None}


def _noise(source: KSpace) -> float:
    """The level of the noise in calibration lines, or more where the ends of their readouts hold signal."""
    data, mask = source.data, source.mask
    if len(source.other):  # one frame tells it
        data, mask = data.flatten(0, -5)[0], mask.flatten(0, -3)[0]
    along_k1 = mask.any(0)
    partition = int(mask.sum(-1).argmax())
    if not bool(mask[partition].any()):
        return 0.0
    return float(noise_level(data[:, partition], mask[partition] & along_k1, readout_of(source)))


def _whole(ranges: tuple[AxisRange, AxisRange, AxisRange] | None, n_k0: int) -> bool:
    return ranges is None or (ranges[0].first == 0 and ranges[0].last == n_k0 - 1)


def _with_channels(headers: Headers, n: int) -> Headers:
    changed = headers.copy()
    changed["active_channels"][headers["version"] > 0] = n
    return changed
