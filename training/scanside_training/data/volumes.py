"""Volumes with two phase encodings, taken as slices along their readout: SKM-TEA and Calgary-Campinas."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from scanside.datasets import DATASETS
from scanside.datasets.skm_tea_annotations import read_skm_tea_annotations
from scanside.errors import ConfigError
from scanside_training.data.known_files import KnownFile, What
from scanside_training.data.measured_folders import MeasuredFolder
from scanside_training.data.measured_slices import MeasuredPlanes, MeasuredSlices

__all__ = ["CalgaryCampinas", "SkmTea"]

logger = logging.getLogger(__name__)


class _Volumes(MeasuredFolder):
    """What both share: k-space goes with masks over both phase encodings (``simulation.masks.plane``)."""

    planes: ClassVar = True

    what: What = "kspace"
    """See ``offers``."""
    ends: int = Field(default=0, ge=0)
    """Slices at either end of a volume that are left out."""

    def open(self, seed: int = 0) -> MeasuredSlices:
        """See `MeasuredFolder.open`.

        Raises:
            ConfigError: as there, or no slice is left between the ends.
            FileFormatError: as there.
        """
        if self.what == "images":
            return super().open(seed)
        found = MeasuredPlanes(
            self.wanted_files(), DATASETS.load(self.dataset), self.ends, with_maps=self.given_maps
        )
        if not len(found):
            raise ConfigError(
                f"source {self.kind}: of the volumes in {self.folder} {self.ends} slices at either end are left out, "
                "and there are no others: lower sources.ends"
            )
        return found

    @property
    def given_maps(self) -> bool:
        """Whether coil maps come with the files."""
        return False


class SkmTea(_Volumes):
    """A folder of SKM-TEA, double-echo knees in 3-D: each echo of each position along the readout is a slice."""

    dataset: ClassVar = "skm-tea"

    kind: Literal["skm-tea"] = "skm-tea"
    maps: Literal["given", "espirit"] = "espirit"
    """Those that come with the files, estimated from 24 × 24 samples; or ESPIRiT's of the ACS block that masks leave,
    as in the stream."""
    annotations: tuple[Path, ...] = ()
    """The data set's JSON tables, which say whose each scan is. Without them every scan counts as a subject."""

    @property
    def given_maps(self) -> bool:
        """See `_Volumes.given_maps`."""
        return self.maps == "given"

    def whose(self, files: Sequence[KnownFile]) -> Mapping[Path, str]:
        """See `MeasuredFolder.whose`.

        Raises:
            ConfigError: as there, or two tables give a scan to two subjects, or a scan is in none of them.
            FileFormatError: a table is none of the data set's.
        """
        if not self.annotations:
            if self.subjects is None:
                logger.warning(
                    "%s: files do not say whose they are, and every scan counts as a subject: name the data set's "
                    "tables (annotations), lest scans of one person be in training and in validation",
                    self.kind,
                )
            return super().whose(files)
        listed: dict[str, str] = {}
        for table in self.annotations:
            for name, scan in read_skm_tea_annotations(table).items():
                if listed.setdefault(name, str(scan.subject)) != str(scan.subject):
                    raise ConfigError(
                        f"{table} gives the scan {name} to subject {scan.subject}, and another table to subject "
                        f"{listed[name]}"
                    )
        unlisted = [one.path.name for one in files if one.subject not in listed]
        if unlisted:
            raise ConfigError(
                f"{len(unlisted)} files of {len(files)}, such as {unlisted[0]}, are in none of "
                f"{', '.join(map(str, self.annotations))}: name all tables of the data set"
            )
        return {one.path: listed[one.subject] for one in files}


class CalgaryCampinas(_Volumes):
    """A folder of Calgary-Campinas, brains in 3-D with partial Fourier along k0."""

    dataset: ClassVar = "calgary-campinas"
    offers: ClassVar = ("kspace",)

    kind: Literal["calgary-campinas"] = "calgary-campinas"
    ends: int = Field(default=50, ge=0)
    """Slices at either end of a volume that are left out, as the data set's challenge leaves them out."""
