"""Batches for training: sources, splits and simulation behind one Lightning data module.

A sample is drawn from its epoch, its number within the epoch, and the seed, and what a batch shares from the number
of the batch; so it is the same whatever the number of worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import lightning
import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from scanside.errors import ConfigError
from scanside_training.data.batches import ByShape, ShapeBuckets
from scanside_training.data.boxes import Boxes, no_boxes
from scanside_training.data.kept_maps import KeptMaps
from scanside_training.data.measured_scan import measured_shape
from scanside_training.data.measured_slices import MeasuredSlices
from scanside_training.data.settings import Content, Settings
from scanside_training.data.simulation import (
    Drawn,
    SimulationConfig,
    draw_shape,
    middle_shape,
    simulate_sample,
)
from scanside_training.data.sources import Licence, SliceSource, SourceConfig
from scanside_training.data.splits import PARTS, Part, SharedSubjects
from scanside_training.record import identity

__all__ = [
    "DataConfig",
    "EpochKeys",
    "Origin",
    "Provenance",
    "ReconstructionData",
    "SampleKey",
    "SampleKeys",
    "SimulatedSamples",
]

_STREAM: dict[Part, int] = {"train": 0, "validation": 1, "test": 2}


_MEASURED: tuple[Content, ...] = ("scans", "kspace", "planes")
"""Of sizes, coils and noise of their own."""


class DataConfig(Settings):
    """Everything about the data of a training run."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """Where slices come from, or films: sources of both do not go together."""
    simulation: SimulationConfig = SimulationConfig()
    """How a slice becomes a sample."""
    validation_simulation: SimulationConfig | None = None
    """The same for validation and test, where it shall differ."""
    batch_size: int = Field(default=4, ge=1)
    """Samples of a batch. Of measured scans, which have sizes of their own, a batch holds those of one shape."""
    samples_per_epoch: int = Field(default=2000, ge=1)
    """Training samples per epoch and process, rounded up to whole batches."""
    validation_samples: int = Field(default=64, ge=1)
    """Samples for validation, spread evenly over its slices. They are the same in every epoch and for every batch
    size: all have the matrix and the number of coils in the middle of what the simulation draws. Likewise for the
    test."""
    num_workers: int = Field(default=0, ge=0)
    """Worker processes; with 0 samples are made in the process that trains."""
    prefetch: int = Field(default=4, ge=1)
    """Batches that each worker makes ahead."""
    seed: int | None = Field(default=None, ge=0)
    """Of all that is drawn here; by default the run's. One that is given keeps the data the same for all seeds of the
    run. Who is in training, validation and test does not hang on it: see `SubjectFractions`."""

    _run_seed: int = 0

    @property
    def drawn_from(self) -> int:
        """The seed that counts: the data's own, else that of the run."""
        return self._run_seed if self.seed is None else self.seed

    def of_run(self, seed: int) -> DataConfig:
        """The same data, drawn from a run's seed where they have none of their own."""
        data = self.model_copy()
        data._run_seed = seed  # noqa: SLF001 — of another of this class
        return data

    @model_validator(mode="after")
    def _films_for_films(self) -> DataConfig:
        simulations = [self.simulation, *([self.validation_simulation] if self.validation_simulation else [])]
        for simulation in simulations:
            if simulation.task.one_by_one and self.batch_size > 1:
                raise ValueError(
                    f"samples of the task '{simulation.task.kind}' have as many readouts as were drawn for each, and "
                    f"no batch holds {self.batch_size} of them: set batch_size to 1; 'accumulate' gathers gradients"
                )
            takes = simulation.takes
            wrong = [source for source in self.sources if not simulation.may_take(source.gives)]
            masks = {source.gives: source for source in wrong}
            if simulation.takes == "slices" and "planes" in masks:
                raise ValueError(
                    f"slices of {masks['planes'].kind} have two phase encodings, and masks are drawn along one: give "
                    "masks over both (simulation.masks.plane)"
                )
            if simulation.takes == "slices" and "kspace" in masks:
                raise ValueError(
                    f"k-space of {masks['kspace'].kind} has one phase encoding, and simulation.masks.plane has masks "
                    "over two: leave it out, or train on other sources"
                )
            if wrong:
                raise ValueError(
                    f"the task '{simulation.task.kind}' is made from {takes}, and "
                    f"{', '.join(source.kind for source in wrong)} gives {wrong[0].gives}: change sources, "
                    "simulation.task or simulation.sequences"
                )
            shared = [source.kind for source in self.sources if isinstance(source.split, SharedSubjects)]
            if shared and not simulation.task.keeps_lines_apart:
                raise ValueError(
                    f"{', '.join(shared)}: the same slices are in training and validation (split.shared), and the "
                    f"task '{simulation.task.kind}' judges networks by what they were trained on: take a task that "
                    "keeps lines apart (simulation.task.apart), or split by subject"
                )
        return self


class SampleKey(NamedTuple):
    """What a sample is drawn from.

    Attributes:
        epoch: of training; 0 for validation and test.
        batch: number of the batch within the epoch.
        sample: number of the sample within the epoch.
    """

    epoch: int
    batch: int
    sample: int


class SampleKeys(Sampler[SampleKey]):
    """The keys of one epoch, in the order of batches: always the same.

    Args:
        n_samples: samples per epoch of all processes.
        batch_size: samples per batch.
        rank: number of this process.
        world_size: number of processes: each takes every so-manyth batch.
    """

    def __init__(self, n_samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self._n_samples, self._batch_size = n_samples, batch_size
        self._rank, self._world_size = rank, world_size
        self._epoch = 0

    def __len__(self) -> int:
        return sum(
            min(self._batch_size, self._n_samples - batch * self._batch_size) for batch in self._batches()
        )

    def __iter__(self) -> Iterator[SampleKey]:
        for batch in self._batches():
            first = batch * self._batch_size
            for index in range(first, min(first + self._batch_size, self._n_samples)):
                yield SampleKey(self._epoch, batch, index)

    def _batches(self) -> range:
        return range(self._rank, -(-self._n_samples // self._batch_size), self._world_size)


class EpochKeys(SampleKeys):
    """Other keys in every epoch, for training. Lightning calls `set_epoch` on every sampler that has one."""

    def set_epoch(self, epoch: int) -> None:
        """Draw other samples from now on."""
        self._epoch = epoch


class Provenance(NamedTuple):
    """What a network has seen of one source.

    Attributes:
        kind: of the source.
        licence: ``clean`` or ``research``.
        subjects: names of its subjects in training.
        n_slices: number of their slices.
    """

    kind: str
    licence: Licence
    subjects: tuple[str, ...]
    n_slices: int


class Origin(NamedTuple):
    """Which subjects those of a source are, so that others can be told from them.

    Attributes:
        origin: tells subjects of one name apart, see `scanside_training.data.sources`.
        recordings: hashes of the content of their recordings, where the source has any.
    """

    origin: str
    recordings: tuple[str, ...]


@runtime_checkable
class Shaped(Protocol):
    """What sources of measured scans give whose samples may be several in a batch."""

    def shape_of(self, index: int) -> tuple[int, ...]:
        """The shape of a slice, which is not read for it."""


class _Opened(NamedTuple):
    """A source as one part of the data draws from it.

    Attributes:
        slices: all that it has.
        indices: those of the part.
        boxes: of every slice; None where it has no marks.
        config: its settings.
    """

    slices: SliceSource
    indices: list[int]
    boxes: Sequence[Boxes] | None
    config: SourceConfig

    def boxes_of(self, index: int) -> Boxes:
        """What is marked in a slice."""
        return no_boxes() if self.boxes is None else self.boxes[index]

    def shape_of(self, index: int, simulation: SimulationConfig) -> tuple[int, ...] | None:
        """The shape of a slice's samples, (coil, k1, k0); None where the simulation says it.

        Raises:
            ConfigError: the source does not tell.
        """
        if self.config.gives not in _MEASURED:
            return None
        if not isinstance(self.slices, Shaped):
            raise ConfigError(
                f"slices of {self.config.kind} are measured scans, and the source does not tell their shapes "
                "(shape_of), which batches of several need: set batch_size to 1"
            )
        return measured_shape(simulation, self.slices.shape_of(index))


class SimulatedSamples(Dataset[dict[str, Tensor]]):
    """Samples of one part, made when asked for by their `SampleKey`.

    Args:
        config: sources, simulation and seed.
        part: ``train``, ``validation`` or ``test``.

    Raises:
        ConfigError: no source has a slice in this part, a file is not there, or the same subject or recording is in
            more than one part.
        FormatError: a file is not what it should be.
    """

    def __init__(self, config: DataConfig, part: Part) -> None:
        self._part: Part = part
        self._seed = config.drawn_from
        self._n_fixed = config.validation_samples
        other = config.validation_simulation
        self._simulation = config.simulation if part == "train" or other is None else other
        # Measured scans have coils of their own.
        simulated = any(source.gives not in _MEASURED for source in config.sources)
        self._measured = self._simulation.coils.load() if simulated else None
        self._sources: list[_Opened] = []
        self.provenance: list[Provenance] = []
        self.origins: list[Origin] = []
        weights = []
        stores = [source.open(self._seed) for source in config.sources]
        _check_leaks(config, stores)
        for source, slices in zip(config.sources, stores, strict=True):
            if part == "train" and source.weight == 0:
                continue
            members = source.members(part, slices)
            indices = [i for i, subject in enumerate(slices.subjects) if subject in members]
            if indices:
                self._sources.append(_Opened(slices, indices, source.boxes(slices), source))
                weights.append(source.weight)
                recordings = sorted({slices.recordings[i] for i in indices} - {""})
                self.provenance.append(
                    Provenance(source.kind, source.licence, tuple(sorted(members)), len(indices))
                )
                self.origins.append(Origin(source.origin(self._seed), tuple(recordings)))
        if not self._sources:
            raise ConfigError(
                f"no source ({', '.join(source.kind for source in config.sources)}) has a slice for {part}: "
                f"name subjects in sources.split.{part}, or add a source"
            )
        self._probability = np.array(weights) / sum(weights) if sum(weights) else None
        self.by_shape = config.batch_size > 1 and any(one.config.gives in _MEASURED for one in self._sources)
        self._buckets: ShapeBuckets | None = None
        if self.by_shape and part == "train":
            shapes = [
                [one.shape_of(index, self._simulation) for index in one.indices] for one in self._sources
            ]
            self._buckets = ShapeBuckets(shapes, weights)
        self._marked = any(source.boxes is not None for source in self._sources)
        self._all = [
            (source, index, of)
            for source, of in zip(self._sources, self.origins, strict=True)
            for index in source.indices
        ]

    @property
    def n_slices(self) -> int:
        """Number of slices that samples are made from."""
        return len(self._all)

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        """The sample of a key: see `scanside_training.data.simulate_sample`."""
        root = [self._seed, _STREAM[self._part], key.epoch]
        rng = np.random.default_rng([*root, 1, key.sample])
        if self._part == "train":
            shape = draw_shape(self._simulation, np.random.default_rng([*root, 0, key.batch]))
            source, index = self._drawn(rng, [*root, 2, key.batch])
        else:
            shape = middle_shape(self._simulation)
            source, index, _ = self._fixed(key.sample)
        pixels = torch.from_numpy(source.slices[index])
        boxes = source.boxes_of(index) if self._marked else None
        judging = self._part != "train"
        kept = self._kept_maps(source.slices, index)
        drawn = Drawn(self._simulation, shape, rng, self._measured, boxes, judging, kept)
        return simulate_sample(pixels, drawn)

    def shape(self, key: SampleKey) -> tuple[int, ...] | None:
        """The shape of a sample for validation or test, (coil, k1, k0); None where the simulation says it.

        Raises:
            ConfigError: the source does not tell.
        """
        source, index, _ = self._fixed(key.sample)
        return source.shape_of(index, self._simulation)

    def subject(self, key: SampleKey) -> str:
        """Whose slice a sample for validation or test is made from; of several sources also which."""
        source, index, _ = self._fixed(key.sample)
        name = source.slices.subjects[index]
        # Subjects of two sources may be called alike, and are two.
        if len(self._sources) == 1:
            return name
        number = next(i for i, one in enumerate(self._sources, 1) if one is source)
        return f"{name} (source {number})"

    def volume(self, key: SampleKey) -> str:
        """The volume of the slice that a sample for validation or test is made from: a recording, else a subject."""
        source, index, _ = self._fixed(key.sample)
        recording = source.slices.recordings[index]
        return f"{self.subject(key)} {recording[:8]}" if recording else self.subject(key)

    def identities(self, key: SampleKey) -> frozenset[str]:
        """The same, and the recording, as they are told apart in records of trainings."""
        source, index, of = self._fixed(key.sample)
        return frozenset(
            {identity(of.origin, source.slices.subjects[index]), source.slices.recordings[index]} - {""}
        )

    def _kept_maps(self, slices: SliceSource, index: int) -> KeptMaps | None:
        most_gb = self._simulation.espirit.kept_gb
        if not most_gb or not isinstance(slices, MeasuredSlices):
            return None
        return KeptMaps(slices.identity(index), most_gb)

    def _drawn(self, rng: np.random.Generator, of_batch: list[int]) -> tuple[_Opened, int]:
        if self._buckets is not None:
            number, which = self._buckets.draw(np.random.default_rng(of_batch), rng)
            return self._sources[number], self._sources[number].indices[which]
        source = self._sources[int(rng.choice(len(self._sources), p=self._probability))]
        return source, source.indices[int(rng.integers(len(source.indices)))]

    def _fixed(self, index: int) -> tuple[_Opened, int, Origin]:
        return self._all[int((index + 0.5) * len(self._all) / self._n_fixed) % len(self._all)]


def _check_leaks(config: DataConfig, stores: list[SliceSource]) -> None:
    """Refuse data of which one subject or recording is in two parts, through two sources.

    Raises:
        ConfigError: names both places.
    """
    first: dict[str, tuple[Part, str]] = {}
    for number, (source, slices) in enumerate(zip(config.sources, stores, strict=True)):
        origin = source.origin(config.drawn_from)
        recordings: dict[str, set[str]] = {}
        for subject, recording in zip(slices.subjects, slices.recordings, strict=True):
            recordings.setdefault(subject, set()).add(recording)
        for part in PARTS:
            if part == "train" and source.weight == 0:
                continue
            if part == "validation" and isinstance(source.split, SharedSubjects):
                continue  # of these slices other lines
            for subject in sorted(source.members(part, slices)):
                where = f"{part} as subject '{subject}' of sources[{number}] ({source.kind})"
                person = identity(origin, subject)
                for key in (person, *sorted(recordings[subject] - {""})):
                    other, place = first.setdefault(key, (part, where))
                    if other != part:
                        what = "the same subject" if key == person else "the same recording"
                        raise ConfigError(
                            f"{what} is in {place}, and in {where}: a network would be measured on what it has seen. "
                            "Change the splits so that it is in one part only"
                        )


class ReconstructionData(lightning.LightningDataModule):
    """Training, validation and test batches.

    Every process of a distributed run takes its own batches: the trainer must not put a sampler of its own in
    place (``Trainer(use_distributed_sampler=False)``).

    Args:
        config: everything about the data.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__()
        self.config = config
        self._samples: dict[Part, SimulatedSamples] = {}

    def prepare_data(self) -> None:
        """Decode all slices into the cache."""
        for source in self.config.sources:
            source.open(self.config.drawn_from)

    @property
    def provenance(self) -> list[Provenance]:
        """What the network is trained on, for the manifest of its bundle."""
        return self.samples("train").provenance

    def samples(self, part: Part) -> SimulatedSamples:
        """The samples of one part.

        Raises:
            ConfigError: no source has a slice in this part, or a file is not there.
        """
        if part not in self._samples:
            self._samples[part] = SimulatedSamples(self.config, part)
        return self._samples[part]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Endlessly many samples, ``samples_per_epoch`` in each epoch."""
        config = self.config
        _, world_size = self._process()
        whole = -(-config.samples_per_epoch // config.batch_size) * config.batch_size * world_size
        return self.loader("train", EpochKeys(whole, config.batch_size, *self._process()))

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Always the same samples."""
        return self.loader("validation", EpochKeys(self.config.validation_samples, self.config.batch_size))

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Always the same samples."""
        return self.loader("test", self._keys(self.config.validation_samples))

    def loader(self, part: Part, keys: Sampler[SampleKey]) -> DataLoader[dict[str, Tensor]]:
        """Batches of one part, in any order of keys.

        Args:
            part: ``train``, ``validation`` or ``test``.
            keys: of samples; those of a batch follow each other.

        Raises:
            ConfigError: no source has a slice in this part, or a file is not there.
        """
        samples, workers, batch_size = self.samples(part), self.config.num_workers, self.config.batch_size
        batches: dict[str, Any] = {"batch_size": batch_size, "sampler": keys}
        if samples.by_shape and part != "train":
            batches = {"batch_sampler": ByShape(keys, batch_size, samples.shape)}
        return DataLoader(
            samples,
            **batches,
            num_workers=workers,
            prefetch_factor=self.config.prefetch if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _keys(self, n_samples: int) -> SampleKeys:
        return SampleKeys(n_samples, self.config.batch_size, *self._process())

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
