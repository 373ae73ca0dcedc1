"""Images of the same slices with another contrast, for networks that see them beside the scan's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, StringConstraints
from torch.nn.functional import grid_sample

from scanside.errors import FormatError
from scanside.items import Calibration, KSpace
from scanside.mrd.geometry import Geometry
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.outline import Outline
from scanside.recon.scaling import image_scale
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._images import geometry_of

__all__ = ["OtherContrasts"]

Points = npt.NDArray[np.float64]

_APART = 0.25
"""So many thicknesses of its slice an image may lie beside the plane that is scanned, at any corner of it."""


@dataclass(frozen=True, eq=False)
class _Placed:
    """A magnitude image ``(z, y, x)`` and where it lies."""

    voxels: torch.Tensor
    geometry: Geometry


class OtherContrasts(Stage[Calibration | KSpace, Calibration | KSpace]):
    """Gives each k-space the images of other contrasts that lie in its plane (`KSpace.contrasts`).

    They were reconstructed earlier, of the same patient in the same position, and lie in MRD files. They may have
    another matrix, field of view or rotation within the plane: they are interpolated to the grid of the scan, and so
    are volumes that hold the slice. What lies in another plane is not taken. Where there is no image, a network that
    needs it is left out, and the images of its fallback say so; the operator is told what was found.

    Nothing here knows whether the patient has moved, or is another one: `scanside.stages.engine.RunEngine` with
    ``check: lines`` tells where an image is worse for what the network saw beside it.

    Its place is behind what changes the grid of k-space (``oversampling``), and before ``engine``.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            images: MRD HDF5 file of each contrast by its name, as the network's inputs ``contrast:NAME`` have it. It
                is read when a scan begins, so that the file may be that of the scan before.
        """

        images: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")], Path] = Field(
            min_length=1
        )

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """The contrasts that are named, if there are images of them in the scan's plane."""
        return replace(outline, contrasts=outline.contrasts | set(self.config.images))

    def open(self, scan: Scan) -> None:
        """Read the images."""
        self._scan = scan
        self._told: set[str] = set()
        self._found: dict[tuple[object, ...], dict[str, torch.Tensor]] = {}
        self._placed: dict[str, list[_Placed]] = {}
        for name, path in self.config.images.items():
            try:
                self._placed[name] = _read(path)
            except (FormatError, OSError) as error:
                self._tell(f"no image of contrast '{name}' can be read (other-contrasts.images): {error}")

    def process(self, item: Calibration | KSpace) -> Iterator[Calibration | KSpace]:
        """Add what lies in the plane of the item."""
        if isinstance(item, Calibration):
            yield item
        else:
            yield item.replace(contrasts={**item.contrasts, **self._contrasts(item)})

    def close(self) -> None:
        """Forget the images."""
        self._placed, self._found = {}, {}

    def _contrasts(self, item: KSpace) -> dict[str, torch.Tensor]:
        try:
            geometry = geometry_of(item)
        except FormatError as error:
            self._tell(f"no other contrast is taken, as it is not known where the scan lies: {error}")
            return {}
        if geometry.assumed:
            self._tell("no other contrast is taken, as the readouts tell no directions")
            return {}
        key = (geometry.affine.tobytes(), geometry.matrix)
        if key not in self._found:
            made = ((name, self._contrast(name, placed, geometry)) for name, placed in self._placed.items())
            self._found[key] = {name: one.to(item.data.device) for name, one in made if one is not None}
        return self._found[key]

    def _contrast(self, name: str, placed: list[_Placed], geometry: Geometry) -> torch.Tensor | None:
        """The image of one contrast on the grid of a scan, scaled; None where none lies there."""
        path = self.config.images[name]
        if not placed:
            self._tell(f"{path} holds no images of contrast '{name}'")
            return None
        apart = [_apart_mm(one.geometry, geometry) for one in placed]
        nearest = int(np.argmin(apart))
        thickness = float(placed[nearest].geometry.voxel_size_mm[2])
        if apart[nearest] > _APART * thickness:
            self._tell(
                f"no image of contrast '{name}' lies in the plane of the scan: the nearest of {len(placed)} in "
                f"{path} is {apart[nearest]:.1f} mm apart at a corner, and may be {_APART * thickness:.1f} mm; "
                "acquire it with the scan's slices and angulation"
            )
            return None
        image = _on_grid(placed[nearest], geometry)
        if not bool(image.any()):
            self._tell(f"the image of contrast '{name}' in {path} is zero where the scan lies")
            return None
        return image / image_scale(image)[:, None, None]

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._scan.count("other-contrasts.missing")
            self._scan.warn(text)


def _read(path: Path) -> list[_Placed]:
    """All images of all series of a file whose place is known.

    Raises:
        FormatError: the file, or an image in it, is not what it should be.
        OSError: it cannot be read.
    """
    found = []
    with Hdf5Reader(path) as reader:
        for series in reader.image_series():
            for message in reader.images(series):
                geometry = Geometry.from_image_header(message.header)
                if geometry.assumed:
                    raise FormatError(f"{path}: an image of series '{series}' does not say where it lies")
                magnitude = np.abs(message.data[0]).astype(np.float32)
                found.append(_Placed(torch.from_numpy(magnitude), geometry))
    return found


def _apart_mm(image: Geometry, scan: Geometry) -> float:
    """How far the voxels of a scan lie at most beside a slice, or outside of a volume, in mm across it."""
    corners = scan.centre_of(np.array(list(product(*((0, n - 1) for n in scan.matrix)))))
    across = _indices(image, corners)[:, 2]
    beside = np.abs(across - np.clip(across, 0, image.matrix[2] - 1))
    return float(beside.max() * image.voxel_size_mm[2])


def _on_grid(placed: _Placed, scan: Geometry) -> torch.Tensor:
    """An image ``(z, y, x)`` at the voxels of a scan, interpolated; zero beyond it."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in reversed(scan.matrix)), indexing="ij")
    indices = _indices(placed.geometry, scan.centre_of(np.stack((x, y, z), -1)))
    last = np.maximum(np.array(placed.geometry.matrix) - 1, 1)
    points = torch.from_numpy(2 * indices / last - 1).to(torch.float32)
    at = partial(grid_sample, padding_mode="zeros", align_corners=True)
    if placed.geometry.matrix[2] > 1:
        volume: torch.Tensor = at(placed.voxels[None, None], points[None], mode="bilinear")
        return volume[0, 0]
    flat: torch.Tensor = at(placed.voxels[None], points.flatten(0, 1)[None, ..., :2], mode="bicubic")
    return flat.reshape(scan.matrix[::-1]).clamp_min(0)


def _indices(image: Geometry, points: Points) -> Points:
    """Where points ``(..., 3)`` in LPS mm lie in an image, as voxel indices (x, y, z)."""
    affine = image.affine
    return np.asarray((points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T)
