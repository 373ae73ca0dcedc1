"""What is known of a finished run: its length, its data, and the networks that it goes back to."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from scanside._version import __version__
from scanside.engines.manifest import Ancestor, DataSource, inherited_cautions
from scanside.errors import FormatError

__all__ = [
    "RECORD",
    "AncestorRecord",
    "Lineage",
    "SourceRecord",
    "TrainingRecord",
    "identity",
    "read_record",
    "versions",
]

RECORD = "training.json"


def identity(origin: str, subject: str) -> str:
    """Tells a subject of training data from all others without naming it: 16 hexadecimal digits.

    Args:
        origin: of the data, see `scanside_training.data.sources`.
        subject: its name there.
    """
    return hashlib.sha256(f"{origin}\0{subject}".encode()).hexdigest()[:16]


class SourceRecord(BaseModel):
    """What a network has seen of one source of training data.

    Attributes:
        kind: of the source.
        licence: ``clean`` or ``research``: whether weights trained on it may be given away.
        subjects: names of its subjects in training.
        n_slices: number of their slices.
        seen: the subjects by `identity`, and hashes of the content of their recordings.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    licence: str
    subjects: tuple[str, ...]
    n_slices: int
    seen: tuple[str, ...] = ()

    def described(self, things: str = "slices") -> DataSource:
        """The same for a manifest, which names no subject."""
        what = f"{self.n_slices} {things} of {len(self.subjects)} subjects"
        return DataSource(name=self.kind, licence=self.licence, what=what, seen=self.seen)


class AncestorRecord(BaseModel):
    """A network that weights go back to.

    Attributes:
        ancestor: as it stands in a manifest.
        settings: its complete configuration as YAML; None where it is not known.
    """

    model_config = ConfigDict(frozen=True)

    ancestor: Ancestor
    settings: str | None = None


class Lineage(BaseModel):
    """All that weights go back to.

    Attributes:
        initial: name of the ancestor whose weights they began with.
        teacher: name of the ancestor that taught them.
        ancestors: every one, older ones first.
    """

    model_config = ConfigDict(frozen=True)

    initial: str | None = None
    teacher: str | None = None
    ancestors: tuple[AncestorRecord, ...] = ()

    @property
    def data(self) -> tuple[DataSource, ...]:
        """What the ancestors were trained on, each once."""
        return tuple(dict.fromkeys(one for each in self.ancestors for one in each.ancestor.trained_on))

    @property
    def cautions(self) -> tuple[str, ...]:
        """What people must be told of the ancestors, with their names."""
        return inherited_cautions(one.ancestor for one in self.ancestors)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Ancestors of whose data nothing is known."""
        return tuple(one.ancestor.name for one in self.ancestors if not one.ancestor.trained_on)


class TrainingRecord(BaseModel):
    """Facts about a finished run.

    Attributes:
        name: of the run.
        steps: optimiser steps made.
        complete: whether all steps were made, or patience ended the run, rather than the time used up.
        epochs: how often as many samples were used as an epoch has.
        seconds: time in training, over all resumed parts.
        seed: of all that was drawn.
        n_parameters: trained numbers of the network.
        data: what the network was trained on, its ancestors left out.
        lineage: what its weights go back to; None in records of earlier versions.
        cautions: what people must be told of a network that was trained like this.
        validation: measures of the final weights on the validation set.
        best_psnr: highest PSNR of a validation, dB.
        machine: processor, CUDA device, processes.
        versions: of Scanside, Python and what trained.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    steps: int
    complete: bool
    epochs: float | None = None
    seconds: float
    seed: int
    n_parameters: int
    data: tuple[SourceRecord, ...]
    lineage: Lineage | None = None
    cautions: tuple[str, ...] = ()
    validation: dict[str, float]
    best_psnr: float | None
    machine: dict[str, str | int]
    versions: dict[str, str]


def read_record(folder: Path) -> TrainingRecord | None:
    """The record of a run; None where it is not finished.

    Raises:
        FormatError: the file is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        return TrainingRecord.model_validate_json(path.read_text("utf-8"))
    except ValidationError as error:
        raise FormatError(
            f"{path} is no record of a training: copy it again, or remove the run's folder"
        ) from error


def versions() -> dict[str, str]:
    """Of Scanside, Python and the packages that train and build."""
    packages = ("torch", "lightning", "numpy", "safetensors")
    return {
        "scanside": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
