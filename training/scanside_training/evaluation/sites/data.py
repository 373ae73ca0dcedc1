"""Scans of other sites than those of training: a data set whose factors are crossed, and measured scans beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from scanside.metrics import object_mask
from scanside.recon.combine import root_sum_of_squares
from scanside.recon.fourier import to_image
from scanside.scratch import ScratchFolder
from scanside_training.data.settings import Settings
from scanside_training.evaluation.case import Case, Cases, Recorded
from scanside_training.evaluation.measured import CflData, MrdData, accumulated, written
from scanside_training.evaluation.problem import Problem
from scanside_training.evaluation.sites.plan import QUICK, SitePlan, planned
from scanside_training.evaluation.sites.scan import site_scan

__all__ = ["OtherSitesCases", "OtherSitesData"]


class OtherSitesData(Settings):
    """Raw data as scanners send them, with noise scan and oversampling, of objects, arrays, matrices, sampling and
    noise that no network was trained on; and measured scans.
    """

    kind: Literal["other-sites"] = "other-sites"
    scans: int = Field(default=72, ge=24)
    """How many are simulated: enough of them to exchange levels that do not go together."""
    seed: int = Field(default=0, ge=0)
    """Of the scans and all that is drawn for them."""
    quick: bool = False
    """Only the first ten of the scans that need no data and have no more than 192 lines and 16 coils."""
    root: Path | None = None
    """Folder of measured images and maps; default is ``$SCANSIDE_DATA``, else ``../shared/data``."""
    measured: tuple[Annotated[CflData | MrdData, Field(discriminator="kind")], ...] = ()
    """Measured scans that are undersampled; not of the quick ones."""

    @property
    def plans(self) -> tuple[SitePlan, ...]:
        """The scans that are simulated."""
        every = planned(self.scans, self.seed)
        if not self.quick:
            return every
        small = (one for one in every if not one.needs_data and one.lines <= 192 and one.n_coils <= 16)
        return tuple(small)[:QUICK]

    def open(self) -> OtherSitesCases:
        """The cases.

        Raises:
            ConfigError: measured data are not there.
            ScansideError: a measured scan cannot be read.
        """
        return OtherSitesCases(self)

    @property
    def title(self) -> str:
        """In words."""
        measured = (
            "" if self.quick or not self.measured else f", and {'; '.join(m.title for m in self.measured)}"
        )
        return f"{len(self.plans)} scans of other sites than those of training{measured}"


class OtherSitesCases:
    """Makes scans one by one; the file of each lies in a folder of its own, and is written once.

    Args:
        config: which scans.
    """

    def __init__(self, config: OtherSitesData) -> None:
        self._config = config
        self._plans = config.plans
        self._measured: list[Cases] = [] if config.quick else [data.open() for data in config.measured]
        self._folder = ScratchFolder("scanside-other-sites-")

    def __len__(self) -> int:
        return len(self._plans) + sum(map(len, self._measured))

    def __iter__(self) -> Iterator[Case]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Case:
        if number < len(self._plans):
            return self._simulated(self._plans[number])
        number -= len(self._plans)
        for cases in self._measured:
            if number < len(cases):
                case = cases[number]
                # Of a scan that nobody planned, these factors have the same names.
                subject = case.strata["subject"]
                strata = {"object": subject, "n_coils": case.strata["n_coils"], "subject": subject}
                return replace(case, strata=strata)
            number -= len(cases)
        raise IndexError(number)

    def _simulated(self, plan: SitePlan) -> Case:
        scan, full = site_scan(plan, self._config.seed, self._config.root)
        path, clean = (self._folder.path / f"{plan.number}-{what}.h5" for what in ("scan", "truth"))
        written(scan, path)
        written(full, clean)
        images = to_image(_only(clean)[0][:, None], (-2, -1))
        clean.unlink()
        problem = Problem.from_kspace(*_only(path))
        truth = root_sum_of_squares(images)[0].double().numpy()
        name = f"{plan.number:03d}-{plan.object}"
        return Case(
            name=name,
            # Every scan draws an individual of its own, but for the slices of one measured head.
            strata=plan.strata | {"subject": plan.object if plan.object == "t2-measured" else name},
            whole=truth,
            inside=truth,
            roi=object_mask(truth),
            problem=problem,
            recorded=Recorded(path, None, 0, 0),
            conditions=problem.conditions
            | {"acceleration": plan.acceleration, "acs": plan.acs, "snr": plan.snr},
        )


def _only(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """K-space ``(coil, k1, k0)`` and acquired lines ``(k1,)`` of a file with one slice."""
    (item,) = accumulated(path)
    n1 = item.mask.shape[-1]
    return item.data.reshape(-1, *item.data.shape[-2:]), item.mask.reshape(n1)
