"""The ancestry of weights: what they began with or learned from, and what that goes back to in turn."""

from __future__ import annotations

from pathlib import Path

from scanside.engines.bundle import Bundle
from scanside.engines.hashing import file_record
from scanside.engines.manifest import MANIFEST_FILE, Ancestor, DataSource, Training
from scanside.errors import ConfigError
from scanside_training.checkpoint import CONFIG, WEIGHTS
from scanside_training.config import TrainConfig, load_config
from scanside_training.record import AncestorRecord, Lineage, SourceRecord, read_record

__all__ = ["described", "lineage_of"]


def lineage_of(config: TrainConfig) -> Lineage:
    """What weights of a configuration go back to, read from the folders of runs and bundles that it names.

    An ancestor whose folder is gone stands there with its name alone: its data are not known.

    Raises:
        FormatError: the record of an ancestor is damaged.
        ConfigError: its configuration is.
        BundleError: a bundle among them cannot be trusted.
    """
    family = _Family()
    initial, teacher = family.parents(config)
    return Lineage(initial=initial, teacher=teacher, ancestors=tuple(family.members.values()))


def described(config: TrainConfig, sources: tuple[SourceRecord, ...]) -> tuple[DataSource, ...]:
    """What a run was trained on, for a manifest."""
    things = config.data.simulation.task.takes
    return tuple(one.described(things) for one in sources)


class _Family:
    """Ancestors by name, older ones first; each name stands once."""

    def __init__(self) -> None:
        self.members: dict[str, AncestorRecord] = {}
        self._places: dict[Path, str | None] = {}

    def parents(self, config: TrainConfig) -> tuple[str | None, str | None]:
        teacher = None if config.distillation is None else config.distillation.teacher
        return self._of(config.initial), self._of(teacher)

    def _of(self, folder: Path | None) -> str | None:
        if folder is None:
            return None
        place = folder.resolve()
        if self._places.get(place, "") is None:
            raise ConfigError(
                f"{folder} would be its own ancestor: 'initial' or the teacher of one of its runs names it"
            )
        if place not in self._places:
            self._places[place] = None  # being looked at
            if (place / MANIFEST_FILE).is_file():
                self._places[place] = self._bundle(place)
            elif (place / CONFIG).is_file():
                self._places[place] = self._run(place)
            else:
                self._places[place] = self._unknown(place.name)
        return self._places[place]

    def _run(self, folder: Path) -> str:
        config, record = load_config(folder / CONFIG), read_record(folder)
        if record is not None and record.lineage is not None:
            initial, teacher = self._adopted(record.lineage)
        else:
            initial, teacher = self.parents(config)
        if record is not None:
            data = described(config, record.data)
        else:
            data = tuple(
                DataSource(name=one.kind, licence=one.licence, what="of a run that was not finished")
                for one in config.data.sources
                if one.weight
            )
        return self._add(
            Ancestor(
                name=config.name,
                weights_sha256=file_record(folder / WEIGHTS).sha256 if (folder / WEIGHTS).is_file() else None,
                trained_on=data,
                cautions=config.loss.cautions,
                initial=initial,
                teacher=teacher,
            ),
            (folder / CONFIG).read_text("utf-8"),
        )

    def _bundle(self, folder: Path) -> str:
        bundle = Bundle.open(folder)
        manifest, training = bundle.manifest, bundle.manifest.training
        name, settings = manifest.name, None
        initial = teacher = None
        if training is not None:
            settings = (folder / training.config).read_text("utf-8")
            config = load_config(folder / training.config)
            name = config.name
            initial, teacher = self._of_bundle(folder, training, config)
        return self._add(
            Ancestor(
                name=name,
                weights_sha256=manifest.weights_sha256,
                trained_on=manifest.trained_on,
                cautions=() if training is None else training.cautions,
                initial=initial,
                teacher=teacher,
            ),
            settings,
        )

    def _of_bundle(
        self, folder: Path, training: Training, config: TrainConfig
    ) -> tuple[str | None, str | None]:
        """The parents of a bundle's weights."""
        if training.ancestors:
            records = tuple(
                AncestorRecord(
                    ancestor=one,
                    settings=None if one.config is None else (folder / one.config).read_text("utf-8"),
                )
                for one in training.ancestors
            )
            return self._adopted(
                Lineage(initial=training.initial, teacher=training.teacher, ancestors=records)
            )
        # A bundle of an earlier version: its configuration names parents that lie elsewhere, or nowhere.
        taught = None if config.distillation is None else config.distillation.teacher
        initial, teacher = (
            None if one is None else self._unknown(one.name) for one in (config.initial, taught)
        )
        return initial, teacher

    def _unknown(self, name: str) -> str:
        return self._add(Ancestor(name=name), None)

    def _adopted(self, lineage: Lineage) -> tuple[str | None, str | None]:
        """Take the ancestors of one of ours among ours; gives the names that its parents have here."""
        here: dict[str | None, str | None] = {None: None}
        for one in lineage.ancestors:
            ancestor = one.ancestor
            parents = {"initial": here[ancestor.initial], "teacher": here[ancestor.teacher]}
            here[ancestor.name] = self._add(ancestor.model_copy(update=parents), one.settings)
        return here[lineage.initial], here[lineage.teacher]

    def _add(self, ancestor: Ancestor, settings: str | None) -> str:
        """Its name here: its own, with a number where another network has that name."""
        name, number = ancestor.name, 1
        while (there := self._named(name)) is not None:
            if there.weights_sha256 == ancestor.weights_sha256 and there.trained_on == ancestor.trained_on:
                return there.name
            number += 1
            name = f"{ancestor.name}-{number}"
        ancestor = ancestor.model_copy(
            update={"name": name, "config": None if settings is None else f"ancestors/{name}.yaml"}
        )
        self.members[name] = AncestorRecord(ancestor=ancestor, settings=settings)
        return name

    def _named(self, name: str) -> Ancestor | None:
        same = (
            one.ancestor for one in self.members.values() if one.ancestor.name.casefold() == name.casefold()
        )
        return next(same, None)
