"""The data sheet of a bundle: what people should know of a network before they use it."""

from __future__ import annotations

from scanside.engines.manifest import DataSource, Sampling
from scanside_training.config import TrainConfig
from scanside_training.data import NonCartesianTask, TaskConfig
from scanside_training.record import Lineage, TrainingRecord

__all__ = ["data_sheet"]


def data_sheet(
    name: str,
    description: str,
    config: TrainConfig,
    record: TrainingRecord,
    sources: tuple[DataSource, ...],
    lineage: Lineage,
    sampling: Sampling,
) -> str:
    """Markdown, after Mitchell et al., *Model cards for model reporting*, FAT* 2019.

    Args:
        name: of the bundle.
        description: one sentence.
        config: of the run.
        record: of the run.
        sources: the run's own data.
        lineage: what its weights go back to.
        sampling: scans that they are for.
    """
    measures = "\n".join(
        f"| {measure} | {value:.4g} | {_spread(record, measure)} |"
        for measure, value in record.validation.items()
        if not measure.endswith("_std") and measure != "loss"
    )
    machine = ", ".join(f"{key} {value}" for key, value in record.machine.items())
    versions = ", ".join(f"{key} {value}" for key, value in record.versions.items())
    task = config.data.simulation.task
    frames = f" films, windows of {task.n_frames} frames" if task.n_frames else ""
    research = lineage.unknown or any(one.licence == "research" for one in (*sources, *lineage.data))
    licence = (
        "research: the weights must not be given away"
        if research
        else "as their data, of which none forbids to give them away"
    )
    return f"""# {name}

{description}

**Research use only. Not a medical device.** A learned image can look right and be wrong: anatomy that the training
data lack, pathology above all, may be weakened or changed.
{_cautions((*record.cautions, *lineage.cautions))}
## Intended scans

- {", ".join(sampling.anatomy)}; {_sampled(task, sampling, frames)}
- matrix {sampling.matrix}, {sampling.n_coils} coils, SNR {sampling.snr}

## Training

- licence of the weights: {licence}
- data:
{_list(sources)}
- {record.steps} steps of {config.data.batch_size} samples in {record.seconds / 60:.0f} minutes; seed {record.seed}
{_parents(lineage.initial, lineage.teacher)}- {record.n_parameters:,} parameters
- machine: {machine}; {versions}
- `training.csv` is its log
{_ancestors(lineage)}
### To do it again

In a copy of this folder, with the data where `SCANSIDE_DATA` says:

```sh
{_commands(config.name, lineage)}
```

## On simulated scans that it did not see

{config.data.validation_samples} samples, magnitudes after the best scalar fit.

| measure | mean | standard deviation |
| --- | --- | --- |
{measures}
"""


def _sampled(task: TaskConfig, sampling: Sampling, frames: str) -> str:
    if isinstance(task, NonCartesianTask):
        return (
            f"2-D {', '.join(sampling.kinds)}, any trajectory by its Toeplitz kernel\n"
            f"- acceleration {sampling.acceleration} (the disc of k-space over what samples fill of it)"
        )
    return (
        f"2-D Cartesian{frames}, {sampling.undersampled_axes} undersampled axis\n"
        f"- acceleration {sampling.acceleration}, {sampling.acs_lines} calibration lines, "
        f"masks {', '.join(sampling.kinds)}"
    )


def _cautions(cautions: tuple[str, ...]) -> str:
    return "".join(f"\n**{caution[0].upper()}{caution[1:]}.**\n" for caution in cautions)


def _spread(record: TrainingRecord, measure: str) -> str:
    """What is measured of all images together has no deviation."""
    found = record.validation.get(f"{measure}_std")
    return "–" if found is None else f"{found:.2g}"


def _list(sources: tuple[DataSource, ...], indent: str = "  ") -> str:
    return "\n".join(f"{indent}- {source.name} ({source.licence}): {source.what}" for source in sources)


def _parents(initial: str | None, teacher: str | None, indent: str = "") -> str:
    said = "" if initial is None else f"{indent}- it began with the weights of `{initial}`\n"
    return said + ("" if teacher is None else f"{indent}- it was taught by `{teacher}`\n")


def _ancestors(lineage: Lineage) -> str:
    """Every network that the weights go back to, with its data."""
    if not lineage.ancestors:
        return ""
    parts = ["\n### What it goes back to\n"]
    for record in lineage.ancestors:
        one = record.ancestor
        data = _list(one.trained_on) or "  - its data are not known"
        parts.append(f"- `{one.name}`\n{data}\n{_parents(one.initial, one.teacher, '  ')}".rstrip())
    return "\n".join(parts) + "\n"


def _commands(name: str, lineage: Lineage) -> str:
    """Trains all ancestors, older ones first, and then the network itself."""
    lines = []
    for record in lineage.ancestors:
        one = record.ancestor
        if one.config is None:
            lines.append(f"# runs/{one.name}: its configuration is not known")
        else:
            lines.append(_command(one.config, one.name, one.initial, one.teacher))
    return "\n".join([*lines, _command("config.yaml", name, lineage.initial, lineage.teacher)])


def _command(config: str, name: str, initial: str | None, teacher: str | None) -> str:
    begun = "" if initial is None else f" --set initial=runs/{initial}"
    taught = "" if teacher is None else f" --set distillation.teacher=runs/{teacher}"
    return f"scanside train {config} --output runs/{name}{begun}{taught}"
