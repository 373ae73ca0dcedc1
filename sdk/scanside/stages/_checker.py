"""The self-check of a stage: its own reconstructions of strips that lack lines, of which no operator hears."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch

from scanside.context import Context
from scanside.engines.engine import Engine
from scanside.errors import EngineError
from scanside.items import Calibration, KSpace
from scanside.scan import Scan
from scanside.stages._classical import Classical
from scanside.stages._fallback import Fallback
from scanside.stages._imager import Imager, Levels
from scanside.stages._learned import Learned
from scanside.stages._refused import Refused
from scanside.stages._rehearsal import RehearsedScan
from scanside.stages._self_check import Unseen, Verdict, ahead, strip_width, unseen
from scanside.stages.sense import Sense
from scanside.trace import StageTimes

__all__ = ["SelfCheck"]

logger = logging.getLogger(__name__)


class SelfCheck:
    """Tells by lines that are left out whether a network's image is better than the fallback's.

    Args:
        choices: of the fallback that it is compared with.
        imager: makes what makes the network's images of strips, with this CG-SENSE.

    Attributes:
        times: of the checks in this scan.
    """

    def __init__(self, choices: Sequence[Classical], imager: Callable[[Sense], Imager]) -> None:
        self._fallback = Fallback([_exactly(choice) for choice in choices], None)
        self._sense = self._fallback.sense
        self._imager = imager(self._sense)
        self.times = StageTimes()

    def prepare(self, networks: Sequence[Learned], context: Context) -> None:
        """Have the engines for strips of all engines of networks ready."""
        self._context = context
        self._fallback.prepare(context)
        for network in networks:
            for engine in network.engines:
                try:
                    network.strip_engine(engine, _strip_of(network, engine), context)
                except EngineError as error:
                    logger.warning("images of '%s' will not be checked: %s", network.name, error)

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self.times = StageTimes()
        self._imager.open()
        self._fallback.open(RehearsedScan(scan.header, scan.pipeline))

    def close(self) -> None:
        """Forget the scan."""
        self._fallback.close()

    def begin(self, item: Calibration, network: Learned, engine: Engine) -> None:
        """Begin what a check will need, as calibration lines are there and the last ones are still to come."""
        strip = ahead(item, _strip_of(network, engine))
        if strip is not None:
            network.begin(strip)
            list(self._sense.process(strip))
            with suppress(EngineError):  # told by the image that is not checked
                self._engine(network, engine)

    def __call__(self, item: KSpace, network: Learned, engine: Engine, levels: Levels) -> Verdict:
        """What lines that are left out say of a network's image.

        Args:
            item: the k-space.
            network: that made the image.
            engine: of the network.
            levels: of the image.
        """
        begun = time.perf_counter()
        verdict = self._verdict(item, network, engine, levels)
        self.times.add(1e3 * (time.perf_counter() - begun))
        return verdict

    def _verdict(self, item: KSpace, network: Learned, engine: Engine, levels: Levels) -> Verdict:
        if not levels:
            return Verdict("none", why="all acquired lines are zero")
        strip = unseen(item, _strip_of(network, engine))
        if isinstance(strip, str):
            return Verdict("none", why=strip)
        try:
            learned, against, classical = self._compared(
                strip, network, self._engine(network, engine), levels
            )
        except (EngineError, Refused) as error:
            return Verdict("none", why=str(error))
        noise = torch.stack([level for _, level in levels.values()]).square().mean().sqrt()
        return strip.judge(learned, against, classical, noise)

    def _engine(self, network: Learned, engine: Engine) -> Engine:
        """For strips; nothing is built while a scan waits."""
        return network.strip_engine(engine, _strip_of(network, engine), self._context.while_a_scan_waits())

    def _compared(
        self, strip: Unseen, network: Learned, engine: Engine, levels: Levels
    ) -> tuple[torch.Tensor, str, torch.Tensor]:
        """Errors of the network's image of a strip, and of the fallback's, whose name stands between them."""
        asked = self._imager.asked(strip.item, network, engine)
        voxels = self._imager.images(asked, dict(levels)).voxels
        if (
            strip.item.second_maps is not None
        ):  # it is both images that predict lines, not what is made of them
            return strip.errors(voxels), "sense", strip.errors(self._sense.solution(strip.item, asked.data))
        return strip.errors(voxels), *strip.classical(self._fallback, asked.classical, asked.data)


def _exactly(choice: Classical) -> Classical:
    """The same reconstruction, solved by columns where it iterates until nothing changes.

    Columns of strips are begun early, and serve repetitions. Iterations that stop sooner are part of the image.
    """
    sense, default = choice.sense, Sense.Config()
    if sense is None or sense.l2 == 0:
        return choice
    if sense.tolerance > default.tolerance or sense.max_iterations < default.max_iterations:
        return choice
    return Classical(sense=sense.model_copy(update={"solver": "columns"}))


def _strip_of(network: Learned, engine: Engine) -> int:
    """Columns of an engine's images that a check judges: all of a network that takes no others."""
    shapes = network.manifest.shapes
    return engine.shape[1] if shapes.fixed else strip_width(engine.shape[1], shapes.multiple_of)
