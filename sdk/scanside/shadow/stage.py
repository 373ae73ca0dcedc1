"""A learned reconstruction that runs in the shadow of a classical one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from scanside.context import Context
from scanside.errors import ScansideError
from scanside.items import Image, KSpace
from scanside.outline import Outline
from scanside.scan import Scan, ScanEnd
from scanside.shadow.background import Background
from scanside.shadow.branch import Branch, StageEntry
from scanside.shadow.comparison import compare, counters_of, magnitudes
from scanside.shadow.store import ComparisonStore, default_folder
from scanside.stage import Expected, Stage, StageConfig

__all__ = ["Shadow"]

_Voxels: TypeAlias = npt.NDArray[np.float32]


class Shadow(Stage[KSpace, Image]):
    """Sends the images of one branch, and makes those of another beside them, to be compared and kept.

    What is sent is what the stages of ``shown`` would send alone. The stages of ``beside`` work on a copy of the
    k-space in a thread of low priority: they never delay or end the scan. A k-space that finds too many waiting, or
    has waited too long, is dropped and counted.

    Every comparison is a line of ``comparisons.jsonl`` in the folder: NRMSE, PSNR and SSIM of the image beside
    against the shown one, what both say of their making and of their distance to the acquired lines, and how long it
    took. The latest pairs of images are kept, and of each scan a picture of the pair that differs most, drawn after
    the scan. No line names a person.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            shown: stages of the images that are sent, from k-space to ``finish``, as in a pipeline.
            beside: stages of the images to compare with them, likewise.
            folder: where comparisons are kept; by default ``SCANSIDE_SHADOW``, else a folder of the user.
            pairs: how many of the latest pairs of images are kept.
            every: compare every so-many-th k-space of a scan.
            waiting: k-spaces of which copies may wait.
            lag_s: time after which one that still waits is dropped.
        """

        RESERVED = frozenset({"shown", "beside", "folder", "pairs"})

        shown: tuple[StageEntry, ...] = Field(min_length=1)
        beside: tuple[StageEntry, ...] = Field(min_length=1)
        folder: Path | None = None
        pairs: int = Field(200, ge=0)
        every: int = Field(1, ge=1)
        waiting: int = Field(8, ge=1)
        lag_s: float = Field(120.0, gt=0)

    config: Config

    def __init__(self, config: StageConfig | None = None, **settings: object) -> None:
        super().__init__(config, **settings)
        self._shown = Branch("shown", self.config.shown)
        self._beside = _Beside(Branch("beside", self.config.beside), self.config)
        self._scan: Scan | None = None

    def prepare(self, context: Context) -> None:
        """Get both branches ready."""
        self._shown.prepare(context)
        self._beside.prepare(context)

    def expect(self, expected: Expected) -> Expected:
        """Get both branches ready for a scan."""
        self._shown.expect(expected)
        self._beside.branch.expect(expected)
        return expected

    def foresee(self, outline: Outline) -> Outline:
        """What speaks against the images that are sent."""
        return self._shown.foresee(outline)

    def outdated(self) -> list[str]:
        """What has changed in either branch."""
        return [*self._shown.outdated(), *self._beside.branch.outdated()]

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan
        self._n_kspaces = 0
        self._shown.open(scan)
        self._beside.open(scan)

    def process(self, item: KSpace) -> Iterator[Image]:
        """The shown images of one k-space; the others are made aside."""
        assert self._scan is not None
        wanted = self._n_kspaces % self.config.every == 0
        self._n_kspaces += 1
        shown = []
        for image in self._shown.images(item):
            if wanted:
                # Before it is given away: later stages may work in place.
                shown.append(image.replace(data=image.data.detach().cpu().clone()))
            yield image
        if wanted and shown and not self._beside.take(item, shown):
            self._scan.count("shadow.dropped")

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        """What the shown branch holds back."""
        return self._shown.finish(end)

    def close(self) -> None:
        """Forget the scan; what still waits of it is done aside."""
        if self._scan is not None:
            self._scan = None
            self._beside.close()
        self._shown.close()

    def wait(self, seconds: float) -> bool:
        """Wait until all that was taken is compared; says whether it is."""
        return self._beside.background.wait(seconds)


class _Beside:
    """The branch in the shadow. All but `take` happens in the background thread, in the order of the calls."""

    def __init__(self, branch: Branch, config: Shadow.Config) -> None:
        self.branch = branch
        self.background = Background(config.waiting)
        self._lag_s = config.lag_s
        self._store = ComparisonStore(config.folder or default_folder(), config.pairs)
        self._facts: dict[str, Any] = {}
        self._failure = ""
        self._worst: tuple[float, str, _Voxels, _Voxels] | None = None

    def prepare(self, context: Context) -> None:
        self.branch.prepare(context)
        self._store.prepare()

    def open(self, scan: Scan) -> None:
        own = Scan(scan.header, scan.pipeline, parameters=dict(scan.parameters))
        self.background.order(lambda: self._open(own))

    def take(self, item: KSpace, shown: list[Image]) -> bool:
        """Compare the images of a k-space with those that were shown; False where too many wait."""
        copy, came = _copy_of(item), monotonic()
        return self.background.offer(lambda: self._compare(copy, shown, came))

    def close(self) -> None:
        self.background.order(self._close)

    def _open(self, scan: Scan) -> None:
        # A name of its own: those in the header may name a person.
        self._facts = {"scan": uuid.uuid4().hex[:12], "pipeline": scan.pipeline}
        self._failure, self._worst = "", None
        try:
            self.branch.open(scan)
        except ScansideError as error:
            self._failure = str(error)

    def _close(self) -> None:
        worst, self._worst = self._worst, None
        self.branch.close()
        if worst is not None:
            _, name, shown, beside = worst
            self._store.draw(name, shown, beside)

    def _compare(self, item: KSpace, shown: list[Image], came: float) -> None:
        waited = monotonic() - came
        if self._failure or waited > self._lag_s:
            why = self._failure or f"it waited for {waited:.1f} s, allowed are {self._lag_s:g} (shadow.lag_s)"
            self._tell(shown[0], dropped=why)
            return
        begun = monotonic()
        try:
            found = {_key(image): image for image in self.branch.images(item)}
        except ScansideError as error:
            self._tell(shown[0], failed=str(error))
            return
        seconds = monotonic() - begun
        for image in shown:
            other = found.get(_key(image))
            if other is None:
                self._tell(image, failed="the branch beside made no such image")
            else:
                self._keep(image, other, seconds, waited)

    def _keep(self, shown: Image, beside: Image, seconds: float, waited: float) -> None:
        times = {"seconds": round(seconds, 4), "waited_s": round(waited, 4)}
        try:
            comparison = compare(shown, beside)
        except ScansideError as error:
            self._tell(shown, failed=str(error), **times)
            return
        record = {
            **self._common(),
            **comparison.record(),
            **times,
            "incomplete": shown.incomplete is not None,
        }
        name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}-{self._facts['scan']}"
        pair = magnitudes(shown), magnitudes(beside)
        self._store.add_pair(name, record, *pair)
        if self._worst is None or comparison.nrmse > self._worst[0]:
            self._worst = comparison.nrmse, name, *pair

    def _tell(self, shown: Image, **why: object) -> None:
        self._store.add({**self._common(), "counters": counters_of(shown), **why})

    def _common(self) -> dict[str, Any]:
        return {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **self._facts}


def _key(image: Image) -> tuple[int, ...]:
    return tuple(counters_of(image).values())


def _copy_of(item: KSpace) -> KSpace:
    """The k-space in memory of its own, as later k-spaces may use the same buffers."""
    tensors = ("data", "mask", "coil_maps", "second_maps", "trajectory", "density")
    copies: dict[str, Any] = {
        name: tensor.clone() for name in tensors if (tensor := getattr(item, name)) is not None
    }
    if item.reference is not None:
        copies["reference"] = _copy_of(item.reference)
    return item.replace(**copies, headers=item.headers.copy(), meta=item.meta.copy())
