"""Maps of the noise: SNR, g-factor and standard deviation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field

from scanside.context import Context
from scanside.errors import ConfigError
from scanside.items import Image, KSpace
from scanside.outline import Outline
from scanside.recon.noise_maps import g_factor
from scanside.recon.resize import crop_or_pad
from scanside.registry import load_stage
from scanside.scan import Scan, ScanEnd
from scanside.stage import Expected, Stage, StageConfig
from scanside.stage_list import StageList
from scanside.stages._noise_spread import analytic, by_replicas, frames_of, without_formula
from scanside.stages._signal import noise_of_item

__all__ = ["MapNoise"]

Kind = Literal["snr", "g-factor", "deviation"]

_WITHOUT_MAPS = (
    "the g-factor compares with what coil maps allow, but no stage before 'noise-maps' made them: add 'coil-maps', "
    "or leave 'g-factor' out of noise-maps.maps"
)


class MapNoise(Stage[KSpace, Image]):
    """Has other stages make images, and gives maps of their noise beside them, as series of their own.

    The map ``snr`` is the image in SNR units: its magnitude over the standard deviation of the noise. The map
    ``g-factor`` is the noise over that of full sampling, beyond √R; ``deviation`` is the standard deviation of the
    noise in the image's own scaling. By formula they are exact for SENSE and GRAPPA; by replicas they are there for
    everything that goes from k-space to images, networks too. The noise of prewhitened data is known; that of others
    is estimated from the ends of the outer lines, and taken for the same in all coils: the operator is told.

    Calibration is taken as free of noise, so what errors of weights and maps add is not in the maps.

    Kellman, McVeigh, Magn Reson Med 2005;54:1439. Robson et al., Comprehensive quantification of signal-to-noise
    ratio and g-factor for image-based and k-space-based parallel imaging reconstructions, Magn Reson Med 2008;60:895.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            stages: what makes the images, as a pipeline lists stages; from k-space, with coil maps, to images.
            maps: which maps.
            method: ``analytic`` is for ``sense``, and for ``grappa`` followed by ``fourier`` with combine ``maps``;
                ``replicas`` runs the stages again for each of them, and is for all.
            replicas: how many; the maps are uncertain by 1 / √(2 replicas) of themselves.
            strength: noise that replicas add, relative to the noise that is there: little, so that what adapts to
                the noise, as networks and regularisation do, stays what it is.
            seed: of that noise.
        """

        RESERVED = frozenset({"stages"})

        stages: StageList = (("grappa", {}), ("fourier", {"combine": "maps"}))
        maps: tuple[Kind, ...] = Field(("snr", "g-factor", "deviation"), min_length=1)
        method: Literal["analytic", "replicas"] = "analytic"
        replicas: int = Field(100, ge=2)
        strength: float = Field(0.1, gt=0, le=1)
        seed: int = Field(0, ge=0)

    config: Config

    def __init__(self, config: StageConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.stages = [load_stage(name)(**own) for name, own in self.config.stages]
        flowing: type = KSpace
        for (name, _), stage in zip(self.config.stages, self.stages, strict=True):
            if flowing not in stage.takes():
                raise ConfigError(
                    f"noise-maps.stages lead from k-space to images, but '{name}' takes no {flowing.__name__}"
                )
            flowing = Image if Image in stage.gives() else KSpace
        if flowing is not Image:
            raise ConfigError(
                "noise-maps.stages lead from k-space to images, but the last of them gives none"
            )

    def prepare(self, context: Context) -> None:
        """Prepare the stages."""
        for stage in self.stages:
            stage.prepare(context)

    def expect(self, expected: Expected) -> Expected:
        """Have the stages get ready."""
        leaving = expected
        for stage in self.stages:
            leaving = stage.expect(leaving)
        return leaving

    def foresee(self, outline: Outline) -> Outline:
        """Coil maps for the g-factor, stages that there is a formula for, and what speaks against these."""
        if "g-factor" in self.config.maps and not outline.coil_maps:
            return outline.refused(_WITHOUT_MAPS)
        if self.config.method == "analytic" and (why := without_formula(self.stages)) is not None:
            return outline.refused(why)
        for stage in self.stages:
            outline = stage.foresee(outline)
            if outline.refusals:
                break
        return outline

    def outdated(self) -> list[str]:
        """What has changed for any of the stages."""
        return [change for stage in self.stages for change in stage.outdated()]

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan
        for stage in self.stages:
            stage.open(scan)

    def process(self, item: KSpace) -> Iterator[Image]:
        """The images of one k-space, each followed by its maps."""
        if "g-factor" in self.config.maps and item.coil_maps is None:
            raise ConfigError(_WITHOUT_MAPS)
        images = self._run(item)
        level = self._level(item)
        if self.config.method == "analytic":
            spread = analytic(self.stages, item, images)
        else:
            # Of noise at its level, so that `strength` is relative to it.
            settings = self.config.replicas, self.config.strength * level, self.config.seed
            spread = by_replicas(self._run, item, *settings)
        for image, index, deviation in zip(images, frames_of(item), spread, strict=True):
            yield image
            yield from self._maps(item, index, image, deviation, level)

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        """Nothing: what the stages would give only now has no k-space that its noise could be told from."""
        held = [made for stage in self.stages for made in stage.finish(end)]
        if held:
            raise ConfigError(
                f"noise-maps.stages held {len(held)} items back until the scan ended: only stages that answer each "
                "k-space at once can be in it; put the others before or behind 'noise-maps'"
            )
        return iter(())

    def close(self) -> None:
        """Forget the scan."""
        for stage in self.stages:
            stage.close()

    def _run(self, item: KSpace) -> list[Image]:
        items: list[Any] = [item]
        for stage in self.stages:
            items = [made for one in items for made in stage.process(one)]
        return items

    def _level(self, item: KSpace) -> float:
        """Standard deviation of the real part of the samples' noise."""
        if self._scan.whitening is not None:
            return 1.0
        level = noise_of_item(item)
        self._scan.warn(
            "maps of the noise rest on an estimate of its level, as the data are not prewhitened: coils with other "
            "noise than the rest, or with noise in common, make them wrong"
        )
        if not level > 0:
            raise ConfigError("maps of the noise need noise, and the ends of the outer lines hold none")
        return level

    def _maps(
        self, item: KSpace, index: tuple[int, ...], image: Image, deviation: torch.Tensor, level: float
    ) -> Iterator[Image]:
        meta = image.meta.copy()
        by = ["analytic"] if self.config.method == "analytic" else ["replicas", str(self.config.replicas)]
        meta["ScansideNoiseMaps"] = [
            *by,
            "level",
            "1" if self._scan.whitening is not None else f"{level:.3g} estimated",
        ]
        for kind in self.config.maps:
            if kind == "snr":
                noise = deviation * level
                data = torch.where(noise > 0, image.data[0].abs() / noise, 0)
            elif kind == "deviation":
                data = deviation * level
            else:
                assert item.coil_maps is not None
                maps = item.coil_maps.expand(*item.data.shape)[index]
                maps = crop_or_pad(maps, (deviation.shape[-1],), (-1,))
                data = g_factor(deviation, maps, item.mask[index])
            header = image.header.copy()
            yield image.replace(data=data[None], header=header, meta=meta.copy(), what=kind)
