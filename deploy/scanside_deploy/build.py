"""From a finished training run to a bundle: exported graphs, weights, reference vectors, manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from scanside._version import __version__
from scanside.engines.bundle import BundleWriter
from scanside.engines.manifest import (
    CALIBRATION_FILE,
    VECTORS_FILE,
    DataSource,
    Manifest,
    Range,
    Sampling,
    Shapes,
    Training,
)
from scanside.errors import ConfigError
from scanside.recon.consistency import Lowering
from scanside.storage import naming_disk
from scanside_deploy.cases import CaseKind, calibration, reference_vectors
from scanside_deploy.datasheet import data_sheet
from scanside_deploy.graphs import network_of, write_graphs
from scanside_deploy.told import taken_parameters
from scanside_deploy.trust import uncertainty_of
from scanside_training.ancestry import described, lineage_of
from scanside_training.checkpoint import CONFIG, WEIGHTS, load_weights
from scanside_training.config import TrainConfig, load_config
from scanside_training.data.noncartesian import NonCartesianTask
from scanside_training.data.simulation import SimulationConfig, draw_shape
from scanside_training.models import Network
from scanside_training.record import RECORD, Lineage, TrainingRecord, read_record

if TYPE_CHECKING:
    from scanside_training.evaluation.perturbation.sheet import Sheet

__all__ = ["BuildOptions", "buckets_of", "build_bundle", "check_licence", "sampling_of", "shapes_of"]

_N_MASKS = 2000  # enough to meet the rare ones
_N_TRAJECTORIES = 300
_ANY_COILS = Range(low=1, high=64)
_BUCKETS = ((256, 256),)
_STRUCTURES_PICTURE = "small-structures.png"


@dataclass(frozen=True)
class BuildOptions:
    """What a run does not know of the bundle to be.

    Attributes:
        name: of the bundle.
        version: of the bundle.
        description: one sentence for people.
        anatomy: what the training data show.
        lowering: of data consistency, for networks that have it.
        buckets: ``(k1, k0)`` for which engines are built beforehand; by default 256 × 256, or the one size that the
            network takes.
        weights: type in which weights are kept; ``float16`` halves the bundle and rounds them once, for every
            backend alike.
        size_limit: bytes that the bundle may have.
        licence: ``clean`` refuses weights that must not be given away; ``research`` takes also those that go back to
            networks whose data are not known. By default what the data ask for.
        perturbation: ``perturbation.json`` of an evaluation of the run, for the data sheet.
    """

    name: str
    version: str = "1.0.0"
    description: str = ""
    anatomy: tuple[str, ...] = ("brain",)
    lowering: Lowering = "pmatrix"
    buckets: tuple[tuple[int, int], ...] = ()
    weights: Literal["float32", "float16"] = "float32"
    size_limit: int | None = None
    licence: Literal["clean", "research"] | None = None
    perturbation: Path | None = None


def build_bundle(run: Path, output: Path, options: BuildOptions, *, replace: bool = False) -> Manifest:
    """Write the bundle of a finished run.

    Args:
        run: folder that ``scanside train`` wrote.
        output: the bundle's folder.
        options: what the run does not say.
        replace: put it in the place of a bundle that is there.

    Raises:
        ConfigError: the run is not finished, its network cannot become a bundle, or cannot compute at a bucket; or
            the data behind its weights are not known, or not as free as was asked for; or the perturbation analysis
            is not of this run.
        FormatError: the run's weights are damaged.
        BundleError: the bundle is larger than allowed, or an option is wrong.
        RunError: the disk is full, or the folder must not be written.
        FileExistsError: there is something at `output`, and it may not be replaced.
    """
    config, record = _finished(run)
    lineage = record.lineage or lineage_of(config)
    own = described(config, record.data)
    sources = tuple(dict.fromkeys((*own, *lineage.data)))
    check_licence(options, sources, lineage)
    structures = _structures(run, options)
    network = _network(run, config, options)
    buckets = buckets_of(network, options.buckets)
    uncertainty = uncertainty_of(network, config.data)
    parameters = taken_parameters(network, config.data)
    cases = CaseKind(
        network.task, network.lowering, network.n_frames, network.takes_parameters, network.fixed_size
    )
    with (
        naming_disk(output.parent, f"the bundle '{options.name}' was not written"),
        BundleWriter(output, replace=replace, size_limit=options.size_limit) as writer,
    ):
        graphs = write_graphs(network, writer, getattr(torch, options.weights))
        save_file(reference_vectors(cases, config.data), writer.path(VECTORS_FILE))
        save_file(calibration(cases, config.data), writer.path(CALIBRATION_FILE))
        sampling = sampling_of(config.data.simulation, options.anatomy)
        sheet = data_sheet(options.name, options.description, config, record, own, lineage, sampling)
        if structures is not None:
            sheet = f"{sheet}\n{structures.markdown(_STRUCTURES_PICTURE)}"
            structures.draw(writer.path(_STRUCTURES_PICTURE))
        writer.path("datasheet.md").write_text(sheet, "utf-8")
        writer.path(CONFIG).write_bytes((run / CONFIG).read_bytes())
        for one in lineage.ancestors:
            if one.ancestor.config is not None and one.settings is not None:
                writer.path(one.ancestor.config).write_text(one.settings, "utf-8")
        writer.path("training.csv").write_bytes((run / "metrics.csv").read_bytes())
        return writer.finish(
            name=options.name,
            version=options.version,
            created=datetime.now(timezone.utc),
            made_with={**record.versions, "scanside": __version__},
            description=options.description,
            task=network.task,
            inputs=graphs.inputs,
            outputs=graphs.outputs,
            uncertainty=uncertainty,
            parameters=parameters,
            lowering=network.lowering,
            shapes=shapes_of(network, buckets, sampling),
            input_image=config.data.simulation.task.input_image,
            graphs=graphs.files,
            columns=graphs.columns,
            trained_on=sources,
            sampling=sampling,
            n_parameters=record.n_parameters,
            calibration=CALIBRATION_FILE,
            training=Training(
                config=CONFIG,
                seed=record.seed,
                log="training.csv",
                datasheet="datasheet.md",
                picture=_STRUCTURES_PICTURE if structures is not None else None,
                cautions=record.cautions,
                initial=lineage.initial,
                teacher=lineage.teacher,
                ancestors=tuple(one.ancestor for one in lineage.ancestors),
            ),
        )


def _finished(run: Path) -> tuple[TrainConfig, TrainingRecord]:
    if not (run / CONFIG).is_file():
        raise ConfigError(
            f"{run} is no folder of a training run: it has no {CONFIG}; make one with 'scanside train'"
        )
    record = read_record(run)
    if record is None:
        raise ConfigError(
            f"the run in {run} is not finished: it has no {RECORD}; let it end, or go on with "
            "'scanside train --resume'"
        )
    return load_config(run / CONFIG), record


def _structures(run: Path, options: BuildOptions) -> Sheet | None:
    """What the data sheet tells of small structures.

    Raises:
        ConfigError: the analysis is not of this run.
    """
    if options.perturbation is None:
        return None
    # Evaluations need more packages than bundles do.
    from scanside_training.evaluation.perturbation.sheet import read_sheet

    return read_sheet(options.perturbation, (options.name, run.resolve().name))


def check_licence(options: BuildOptions, sources: Sequence[DataSource], lineage: Lineage) -> None:
    """Refuse weights whose ancestry is not known, and research weights where clean ones were asked for.

    Args:
        options: what was asked for.
        sources: all data behind the weights.
        lineage: what they go back to.

    Raises:
        ConfigError: they are refused.
    """
    if lineage.unknown and options.licence != "research":
        raise ConfigError(
            f"these weights go back to {', '.join(lineage.unknown)}, whose data are not known: bring the folders "
            "of those runs back to where 'initial' and 'distillation.teacher' name them, or build with "
            "--licence research"
        )
    research = [one.name for one in sources if one.licence == "research"]
    if research and options.licence == "clean":
        behind = [
            one.ancestor.name
            for one in lineage.ancestors
            if any(source.licence == "research" for source in one.ancestor.trained_on)
        ]
        through = f", by way of {', '.join(behind)}" if behind else ""
        raise ConfigError(
            f"weights trained on {', '.join(dict.fromkeys(research))}{through} must not be given away: they make no "
            "clean bundle"
        )


def _network(run: Path, config: TrainConfig, options: BuildOptions) -> Network:
    """The trained network with the lowering that was asked for."""
    network = network_of(config.model, options.lowering)
    load_weights(network, run / WEIGHTS)
    if options.weights == "float16":
        for tensor in network.state_dict().values():
            tensor.copy_(tensor.to(torch.float16))
    return network


def buckets_of(network: Network, asked: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The sizes for which engines of a network are built beforehand.

    Args:
        network: of the bundle.
        asked: ``(k1, k0)`` each; none for the usual ones.

    Raises:
        ConfigError: the network cannot take one. That is told before anything is exported, which takes a while.
    """
    fixed, multiple_of = network.fixed_size, network.multiple_of
    if fixed is not None:
        if wrong := [f"{k1}x{k0}" for k1, k0 in asked if (k1, k0) != fixed]:
            raise ConfigError(
                f"bucket {wrong[0]}: the network takes images of {fixed[0]}x{fixed[1]} and no others; leave the "
                "bucket out, or train the network for its size"
            )
        return (fixed,)
    buckets = asked or _BUCKETS
    for k1, k0 in buckets:
        if k1 % multiple_of or k0 % multiple_of:
            fitting = "x".join(str(-(-n // multiple_of) * multiple_of) for n in (k1, k0))
            raise ConfigError(
                f"bucket {k1}x{k0}: the network halves images, so that sizes must be divisible by {multiple_of}; "
                f"take {fitting}, to which smaller images are padded"
            )
    return buckets


def shapes_of(network: Network, buckets: tuple[tuple[int, int], ...], sampling: Sampling) -> Shapes:
    """Sizes that engines of a network take.

    Args:
        network: of the bundle.
        buckets: for which engines are built beforehand.
        sampling: scans that it was trained for.
    """
    names = {spec.name for spec in network.offered()}
    # What reads maps by their kernel alone sees what all coils together say, however many there are.
    coils = _ANY_COILS if "toeplitz" in names else sampling.n_coils
    return Shapes(
        multiple_of=network.multiple_of,
        buckets=buckets,
        coils=coils if any("coil" in spec.axes for spec in network.offered()) else None,
        frames=network.n_frames,
        fixed=network.fixed_size is not None,
    )


def sampling_of(simulation: SimulationConfig, anatomy: tuple[str, ...]) -> Sampling:
    """The scans that a simulation draws.

    Args:
        simulation: of the training.
        anatomy: what its data show.

    Raises:
        ConfigError: they have masks over two phase encodings.
    """
    if simulation.masks.plane is not None:
        raise ConfigError(
            "no engine is built for masks over two phase encodings (data.simulation.masks.plane): the stages that "
            "run engines take scans whose lines along k1 are acquired whole"
        )
    task = simulation.task
    anywhere = isinstance(task, NonCartesianTask)
    if isinstance(task, NonCartesianTask):
        acceleration, acs_lines = _range_of_trajectories(task, simulation), Range(low=0, high=0)
        kinds: tuple[str, ...] = task.trajectories
    else:
        acceleration, acs_lines = _ranges_of_masks(simulation)
        # A pattern that is drawn more often than others stands there several times.
        kinds = tuple(dict.fromkeys(task.masks_of(simulation.masks).patterns))
    return Sampling(
        acceleration=acceleration,
        acs_lines=acs_lines,
        kinds=kinds,
        undersampled_axes=2 if anywhere else 1,
        matrix=Range(
            low=min(simulation.k1[0], simulation.k0[0]), high=max(simulation.k1[1], simulation.k0[1])
        ),
        n_coils=Range(low=simulation.coils.n_coils[0], high=simulation.coils.n_coils[1]),
        snr=Range(low=simulation.snr[0], high=simulation.snr[1]),
        anatomy=anatomy,
    )


def _range_of_trajectories(task: NonCartesianTask, simulation: SimulationConfig) -> Range:
    """Acceleration as samples fill k-space, measured on trajectories."""
    rng = np.random.default_rng(0)
    found: list[float] = []
    for _ in range(_N_TRAJECTORIES):
        shape = draw_shape(simulation, rng)
        found += task.accelerations((shape.k1, shape.k0), 1, rng)
    return Range(low=math.floor(10 * min(found)) / 10, high=math.ceil(10 * max(found)) / 10)


def _ranges_of_masks(simulation: SimulationConfig) -> tuple[Range, Range]:
    """Acceleration of whole scans and width of their fully sampled centre, as masks of the training have them.

    Measured on masks, as the settings say neither: equispaced lines have the ACS lines on top, and lines that happen
    to lie beside the ACS lines make the centre wider.
    """
    rng = np.random.default_rng(0)
    accelerations, widths = [], []
    for _ in range(_N_MASKS):
        n = draw_shape(simulation, rng).k1
        for lines in simulation.task.lines_of(simulation.masks, n, rng):
            accelerations.append(n / max(int(lines.sum()), 1))
            widths.append(_width_of_centre(lines))
    acceleration = Range(
        low=math.floor(10 * min(accelerations)) / 10, high=math.ceil(10 * max(accelerations)) / 10
    )
    return acceleration, Range(low=min(widths), high=max(widths))


def _width_of_centre(lines: npt.NDArray[np.bool_]) -> int:
    """Lines without a gap around index N//2; 0 where that one is missing."""
    centre = len(lines) // 2
    gaps = np.flatnonzero(~np.pad(lines, 1)) - 1
    above, below = gaps[gaps >= centre].min(), gaps[gaps <= centre].max()
    return max(int(above - below) - 1, 0)
