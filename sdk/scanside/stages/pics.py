"""Parallel imaging with compressed sensing."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from scanside.errors import ConfigError
from scanside.items import KSpace
from scanside.mrd.meta import Meta
from scanside.outline import Outline
from scanside.recon.acquired import Acquired, acquired
from scanside.stages._axes import readout_of
from scanside.stages._films import check_film, lacking_film
from scanside.stages._finite import check_finite
from scanside.stages._fit_images import FitImages, FitImagesConfig
from scanside.stages._signal import noise_of_item, snr_of
from scanside.stages._sparsity import SparsityConfig, sparse_image

__all__ = ["Pics"]

_TOGETHER = "compressed sensing of frames together"


class Pics(FitImages):
    """Solves for the image whose coil views fit the acquired lines and that is sparse, for irregular undersampling.

    It minimises ½ ‖F S x − y‖² + Σ weight · penalty(x), with coil maps from an earlier stage: the L1 norm of wavelet
    coefficients, total variation, or both; of slices, slabs, and of films frame by frame or as one. Wavelets alone by
    FISTA with adaptive restart, all else by primal-dual splitting. The meta attribute ``PicsIterations`` tells how
    many it took, for each image, and one that has not converged is one with a warning.

    What partial Fourier leaves out, and second sets of maps, are treated as by ``sense``.

    Lustig, Donoho, Pauly, Magn Reson Med 2007;58:1182. Uecker et al., Berkeley advanced reconstruction toolbox, ISMRM
    2015;2486. Beck, Teboulle, SIAM J Imaging Sci 2009;2:183.
    """

    class Config(FitImagesConfig, SparsityConfig):
        """Settings.

        Attributes:
            noise: raises `wavelet` to this / SNR where that is more, SNR being bright tissue over the noise's
                standard deviation, as told by the lines of a slice. 0 leaves it as it is; so do slabs.
            frames: ``apart`` makes the frames of a window one by one; ``together`` makes them one film, whose
                wavelets run along time, too.
            temporal_tv: of frames together, weight of total variation along time.
        """

        noise: float = Field(0.0, ge=0)
        frames: Literal["apart", "together"] = "apart"
        temporal_tv: float = Field(0.0, ge=0)

        @model_validator(mode="after")
        def _of_films(self) -> Pics.Config:
            if self.temporal_tv and self.frames == "apart":
                raise ValueError("temporal_tv needs frames: together")
            return self

        @property
        def weights(self) -> tuple[float, ...]:
            """Those of all penalties."""
            return (*super().weights, self.temporal_tv)

    what = "compressed sensing"
    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Coil maps of a stage before, and a film where frames are made together."""
        outline = super().foresee(outline)
        if self.config.frames == "together" and outline.window is None:
            return outline.refused(lacking_film(_TOGETHER, "single frames"))
        return outline

    def solved(self, item: KSpace, data: Acquired, meta: Meta) -> torch.Tensor:
        """See `FitImages`."""
        if self.config.frames == "together":
            check_film(item, _TOGETHER)
            if item.second_maps is not None:
                raise ConfigError(
                    "compressed sensing of frames together takes one set of coil maps, and there are two: set "
                    "coil-maps.sets to 1"
                )
            return self._one(item, data, meta, film=True)
        frames = [*np.ndindex(*item.data.shape[:-4])]
        if len(frames) == 1:
            return self._one(item, data, meta)
        assert item.coil_maps is not None
        images = []
        for frame in frames:
            one = item.replace(
                data=item.data[frame],
                mask=item.mask[frame],
                headers=item.headers[frame],
                other=(),
                wanted=None,
            )
            found = acquired(one.data, item.coil_maps, one.mask, readout_of(item), second=item.second_maps)
            images.append(self._one(one, found, meta))
        shape = (*item.data.shape[:-4], *images[0].shape[-3:])
        if item.second_maps is None:
            return torch.stack(images).reshape(shape)
        return torch.stack(images, 1).reshape(2, *shape)

    def _one(self, item: KSpace, data: Acquired, meta: Meta, *, film: bool = False) -> torch.Tensor:
        """An image or a film."""
        assert item.coil_maps is not None
        check_finite(data.right, item)
        # Neither transforms nor masks make anything larger.
        largest = sum(
            float(torch.view_as_real(maps).square().sum((-5, -1)).max())
            for maps in (item.coil_maps, item.second_maps)
            if maps is not None
        )
        solution = sparse_image(
            self._scan,
            "pics",
            self.config,
            data.operator.normal,
            data.right,
            meta,
            lipschitz=largest or 1.0,
            temporal_tv=self.config.temporal_tv,
            noise_weight=self._noise_weight(item),
            film=film,
        )
        check_finite(solution, item)
        return solution

    def _noise_weight(self, item: KSpace) -> float:
        if not self.config.noise or item.data.shape[-3] > 1 or not bool(item.mask.any()):
            return 0.0
        snr = snr_of(item, noise_of_item(item))
        return 0.0 if snr is None else self.config.noise / snr
