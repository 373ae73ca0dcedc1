"""View sharing as a stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from scanside.items import KSpace
from scanside.outline import Outline
from scanside.recon.view_sharing import share_views
from scanside.stage import Stage, StageConfig
from scanside.stages._films import check_film, without_gaps
from scanside.stages._finite import check_finite

__all__ = ["ShareViews"]


class ShareViews(Stage[KSpace, KSpace]):
    """Fills the lines that each frame of a film lacks from the frames nearest in time.

    What keeps still comes out as if it were fully sampled; what moves is smeared over the frames that its lines come
    from. Frames whose images nobody wants are left behind. Headers stay those of a frame's own lines, so that images
    keep its time. The meta attribute ``ScansideViewSharing`` tells where the lines came from.

    Markl, Hennig, Magn Reson Imaging 2001;19:669.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            reach: how many frames away lines may come from; None for any in the window.
        """

        reach: int | None = Field(None, ge=1)

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """Frames that lack lines, and have them in turns."""
        if outline.lines is None:
            return outline
        if without_gaps(outline):
            return outline.doubted("no frame lacks a line between others: there is nothing to share")
        together: npt.NDArray[np.bool_] = np.any(outline.lines, axis=0, keepdims=True)
        return replace(outline, lines=together)

    def process(self, item: KSpace) -> Iterator[KSpace]:
        """Share the lines of one window."""
        check_film(item, "view sharing")
        wanted = list(range(len(item.data)) if item.wanted is None else item.wanted)
        data, distance = share_views(item.data, item.mask, self.config.reach, wanted)
        check_finite(data, item)
        own, empty = (float((distance == which).float().mean()) for which in (0, -1))
        meta = item.meta.copy()
        meta["ScansideViewSharing"] = [
            f"{own:.3f} of the lines its own",
            f"{1 - own - empty:.3f} from up to {int(distance.max())} frames away",
            f"{empty:.3f} in no frame within reach",
        ]
        yield item.replace(
            data=data,
            mask=distance >= 0,
            headers=item.headers[wanted],
            meta=meta,
            wanted=None,
        )
