"""Coil sensitivity maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field, model_validator

from scanside.errors import CalibrationError
from scanside.items import Calibration, KSpace
from scanside.outline import Outline
from scanside.recon import coil_maps
from scanside.recon.compression import pca, weakest_component
from scanside.recon.espirit import FEW, espirit_sets, fitting_kernel
from scanside.recon.explained import second_where_needed
from scanside.recon.resize import crop_or_pad
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._calibration import (
    CalibrationCache,
    calibration_found,
    calibration_region_of,
    foreseen_calibration,
    sampled_readout,
)

__all__ = ["CoilMaps"]

_MANY = 16  # coils; of more, ESPIRiT takes combinations
_HELD = 0.99999  # of the signal's energy, by these


@dataclass(frozen=True)
class _Made:
    """Maps of a k-space.

    Attributes:
        first: ``(*other, coil, z, y, x)``.
        second: a second set, where one is needed.
        flaws: what makes them less exact than they could be.
    """

    first: torch.Tensor
    second: torch.Tensor | None = None
    flaws: tuple[str, ...] = ()

    @property
    def changes(self) -> dict[str, torch.Tensor | None]:
        """What they are called in k-space."""
        return {"coil_maps": self.first, "second_maps": self.second}


class CoilMaps(Stage[Calibration | KSpace, Calibration | KSpace]):
    """Estimates coil sensitivities from the calibration lines, or from the fully sampled middle of k-space.

    Maps are made as soon as all calibration lines are there, while the image's other lines are still being acquired,
    and anew only where these lines have changed. Later stages get them then, too, to prepare what needs maps. A
    single coil is taken to see everything alike.

    Where an object is larger than the field of view, one set of maps cannot explain what a voxel holds: tissue that
    folds onto other tissue, or the two edges of the image, which meet. ESPIRiT then gives a second set
    (`KSpace.second_maps`), there and only there, and ``sense`` and networks that are solved by columns make one image
    of both. The meta attribute ``ScansideMapSets`` tells it.

    ESPIRiT: Uecker et al., Magn Reson Med 2014;71:990. Inati: Inati, Hansen, Kellman, ISMRM 2014, 4407.
    Walsh: Walsh, Gmitro, Marcellin, Magn Reson Med 2000;43:682.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            method: ``inati`` and ``walsh`` fit any combination; ``espirit`` is the choice for SENSE.
            kernel: edge of the neighbourhood in voxels (inati, walsh) or of the patch in samples (espirit);
                None takes the method's own: 5, 7 and 6. Where image or calibration lines are fewer, it is smaller;
                the operator is told where more calibration lines would have allowed a larger one.
            iterations: of inati and walsh; None takes the method's own: 2 and 3.
            calibration: largest edge of the block that espirit uses, in samples.
            threshold: espirit drops singular values below this part of the largest.
            crop: espirit sets maps to 0 where its eigenvalue lies below this; those of a second set below 0.8 in any
                case.
            sets: how many sets of maps espirit may give: ``auto``, a second one where the calibration lines hold
                signal that the first does not explain; 2, wherever its eigenvalue allows, as BART's
                ``ecalib -m2``; 1, never.
        """

        method: Literal["inati", "walsh", "espirit"] = "inati"
        kernel: int | None = Field(None, ge=1)
        iterations: int | None = Field(None, ge=1)
        calibration: int = Field(24, ge=2)
        threshold: float = Field(0.0316, ge=0, lt=1)
        crop: float = Field(0.8, ge=0, le=1)
        sets: Literal["auto", 1, 2] = "auto"

        @model_validator(mode="after")
        def _has_sets(self) -> CoilMaps.Config:
            if self.sets == 2 and self.method != "espirit":
                raise ValueError(f"two sets of maps need method 'espirit'; '{self.method}' makes one")
            return self

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Calibration lines that suffice for maps."""
        with_maps = replace(outline, coil_maps=True)
        if outline.n_coils == 1 or outline.lines is None:
            return with_maps
        espirit = self.config.method == "espirit"
        n2, (n1, n0) = outline.lines.shape[1], outline.size
        try:
            block = foreseen_calibration(outline, "ESPIRiT" if espirit else "the estimation of coil maps")
            if espirit and block is not None:
                k2 = n2 if n2 <= FEW else block[0]
                lines = torch.empty((outline.n_coils, k2, block[1], n0), device="meta")
                fitting_kernel(lines, (n2, n1, n0), self.config.kernel or 6, self.config.calibration)
        except CalibrationError as error:
            return outline.refused(str(error))
        return with_maps

    def open(self, scan: Scan) -> None:
        """A new scan: no maps are known."""
        self._scan = scan
        self._cache: CalibrationCache[_Made] = CalibrationCache()

    def process(self, item: Calibration | KSpace) -> Iterator[Calibration | KSpace]:
        """Give the item its maps; one that has maps keeps them."""
        if isinstance(item, Calibration):
            kspace = item.kspace
            with suppress(CalibrationError):  # raised again with the whole k-space, unless more lines come
                made = self._cache.get(kspace, lambda: self._maps(kspace))
                yield item.replace(**made.changes)
            return
        if item.coil_maps is not None:
            yield item
            return
        whole = item
        made = self._cache.get(whole, lambda: self._maps(whole))
        for flaw in made.flaws:
            self._scan.warn(flaw)
        if made.second is not None:
            meta = item.meta.copy()
            share = float((made.second != 0).any(-4).float().mean())
            meta["ScansideMapSets"] = ["2", f"a second set of coil maps in {100 * share:.1f} % of the image"]
            item = item.replace(meta=meta)
        yield item.replace(**made.changes)

    def close(self) -> None:
        """Forget the maps."""
        self._cache = CalibrationCache()

    def _maps(self, item: KSpace) -> _Made:
        config = self.config
        n2, n1, n0 = item.data.shape[-3:]
        if item.n_coils == 1:  # nothing to tell from other coils, and so nothing to calibrate
            return _Made(item.data.new_ones(1, n2, n1, n0))
        if config.method == "espirit":
            source, region = calibration_region_of(item, "ESPIRiT")
            readout = sampled_readout(source, at_center=True)
            block = source.data[..., region[0], region[1], readout]
            if block.shape[-3] < n2 <= FEW:  # those of a thin slab that are missing count as zeros
                grid, (_, along_k1) = _on_grid(source, region, item)
                block = grid[..., along_k1, readout]
            try:
                kernel = fitting_kernel(block, (n2, n1, n0), config.kernel or 6, config.calibration)
                first, second = self._espirit(block, (n2, n1, n0), kernel)
            except CalibrationError as error:
                raise CalibrationError(f"{error}{calibration_found(item)}") from None
            return _Made(first, second, self._small_kernel(kernel, block, (n2, n1, n0)))
        source, region = calibration_region_of(item, "the estimation of coil maps")
        grid, region = _on_grid(source, region, item)
        images = coil_maps.calibration_images(grid, region, _window_of(source))
        if config.method == "inati":
            return _Made(
                coil_maps.inati(images, kernel=config.kernel or 5, iterations=config.iterations or 2)
            )
        return _Made(coil_maps.walsh(images, kernel=config.kernel or 7, iterations=config.iterations or 3))

    def _espirit(
        self, block: torch.Tensor, shape: tuple[int, int, int], kernel: tuple[int, int, int]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One set of maps, or two.

        Time goes with the third power of the coils. Of a large array, they are made for the combinations that hold
        next to all of the signal, and are those of the coils then.
        """
        config = self.config
        if block.shape[-4] > _MANY and bool(block.any()):
            few = pca(block, energy=_HELD, noise=weakest_component(block))
            if few.n_virtual < block.shape[-4]:
                sets = self._espirit(few.apply(block), shape, kernel)
                first, second = (None if one is None else few.of_coils(one) for one in sets)
                assert first is not None
                return first, second
        first, second = espirit_sets(
            block,
            shape,
            kernel=kernel,
            calibration=config.calibration,
            threshold=config.threshold,
            crop=config.crop,
        )
        if second is None or config.sets == 1:
            return first, None
        if config.sets == "auto" and (second := second_where_needed(block, first, second)) is None:
            return first, None
        middle = crop_or_pad(block, [min(n, config.calibration) for n in block.shape[-3:]], (-3, -2, -1))
        return coil_maps.turned_to(coil_maps.virtual_coil(middle), first, second)

    def _small_kernel(
        self, kernel: tuple[int, int, int], block: torch.Tensor, shape: tuple[int, int, int]
    ) -> tuple[str, ...]:
        """That a kernel (k2, k1, k0) is smaller than wanted, where more calibration lines could have come."""
        wanted, most = self.config.kernel or 6, self.config.calibration
        return tuple(
            f"ESPIRiT takes a kernel of {edge} along {axis} instead of {wanted}, since only {min(n, most)} "
            f"calibration lines or samples lie side by side there: with {2 * wanted - 1} (and coil-maps.calibration "
            "not below) coil maps are more exact"
            for axis, edge, n, n_voxels in zip(
                ("k2", "k1", "k0"), kernel, block.shape[-3:], shape, strict=True
            )
            if edge < wanted and n < n_voxels
        )


def _window_of(source: KSpace) -> slice:
    """Which samples of a readout to fade out at their ends: fewer than all only where both sides lack some."""
    middle = sampled_readout(source, at_center=True)
    whole = sampled_readout(source, at_center=False)
    return middle if (middle.stop - middle.start) >= (whole.stop - whole.start) - 1 else slice(None)


def _on_grid(
    source: KSpace, region: tuple[slice, slice], item: KSpace
) -> tuple[torch.Tensor, tuple[slice, slice]]:
    """Calibration k-space on the image's grid, its centre where the image's is, and the region there."""
    if source is item:
        return item.data, region
    n2, n1 = item.data.shape[-3:-1]
    assert source.ranges is not None
    shift1 = n1 // 2 - source.ranges[1].center
    shift2 = n2 // 2 - source.ranges[2].center
    moved = (
        slice(region[0].start + shift2, region[0].stop + shift2),
        slice(region[1].start + shift1, region[1].stop + shift1),
    )
    grid = source.data.new_zeros((*source.data.shape[:-3], n2, n1, source.data.shape[-1]))
    grid[..., moved[0], moved[1], :] = source.data[..., region[0], region[1], :]
    return grid, moved
