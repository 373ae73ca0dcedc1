"""The data sheet of a bundle: what people should know of a network before they use it."""

from __future__ import annotations

from scanside.engines.manifest import DataSource, Sampling
from scanside_training.config import TrainConfig
from scanside_training.data.simulation import DynamicTask
from scanside_training.trainer import TrainingRecord

__all__ = ["data_sheet"]


def data_sheet(
    name: str,
    description: str,
    config: TrainConfig,
    record: TrainingRecord,
    sources: tuple[DataSource, ...],
    sampling: Sampling,
) -> str:
    """Markdown, after Mitchell et al., *Model cards for model reporting*, FAT* 2019."""
    measures = "\n".join(
        f"| {measure} | {value:.4g} | {record.validation.get(f'{measure}_std', float('nan')):.2g} |"
        for measure, value in record.validation.items()
        if not measure.endswith("_std") and measure != "loss"
    )
    data = "\n".join(f"- {source.name} ({source.licence}): {source.what}" for source in sources)
    machine = ", ".join(f"{key} {value}" for key, value in record.machine.items())
    versions = ", ".join(f"{key} {value}" for key, value in record.versions.items())
    task = config.data.simulation.task
    frames = f" films, windows of {task.time} frames" if isinstance(task, DynamicTask) else ""
    begun = (
        "" if config.initial is None else f"- it began with the weights of the run `{config.initial.name}`\n"
    )
    return f"""# {name}

{description}

**Research use only. Not a medical device.** A learned image can look right and be wrong: anatomy that the training
data lack, pathology above all, may be weakened or changed.

## Intended scans

- {", ".join(sampling.anatomy)}; 2-D Cartesian{frames}, {sampling.undersampled_axes} undersampled axis
- acceleration {sampling.acceleration}, {sampling.acs_lines} calibration lines, masks {", ".join(sampling.kinds)}
- matrix {sampling.matrix}, {sampling.n_coils} coils

## Training

- data:
{data}
- {record.steps} steps of {config.data.batch_size} samples in {record.seconds / 60:.0f} minutes; seed {record.seed}
{begun}- {record.n_parameters:,} parameters
- machine: {machine}; {versions}
- to do it again: `scanside train config.yaml` with the file beside this one; `training.csv` is its log

## On simulated scans that it did not see

{config.data.validation_samples} samples, magnitudes after the best scalar fit.

| measure | mean | standard deviation |
| --- | --- | --- |
{measures}
"""
