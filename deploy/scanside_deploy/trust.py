"""What a network's own word on its errors is worth, on subjects that trained nothing."""

from __future__ import annotations

import torch
from torch.utils.data import default_collate

from scanside.engines.manifest import Uncertainty
from scanside.errors import ConfigError
from scanside_training.data import DataConfig, SampleKey, SimulatedSamples
from scanside_training.losses.uncertainty import trust_in
from scanside_training.models import Network

__all__ = ["uncertainty_of"]

_MOST_IMAGES = 32


def uncertainty_of(network: Network, data: DataConfig) -> Uncertainty | None:
    """Compare errors and expected errors on samples of the validation; None for networks that expect none.

    Args:
        network: in evaluation mode.
        data: of its training.

    Raises:
        ConfigError: there is no validation, or what the network tells follows its errors in no way.
    """
    if not network.tells_uncertainty:
        return None
    samples = SimulatedSamples(data, "validation")
    n = min(data.validation_samples, _MOST_IMAGES)
    found = []
    for number in range(n):
        batch = default_collate([samples[SampleKey(0, number, number)]])
        with torch.inference_mode():
            image, others = network.split(network(*network.inputs(batch)))
        trust = trust_in(image, batch["target"], others["uncertainty"], batch["roi"])
        found.append((float(trust.correlation), float(trust.ratio)))
    correlation, factor = (sum(values) / n for values in zip(*found, strict=True)) if found else (0.0, 0.0)
    if not correlation > 0:
        raise ConfigError(
            f"the network's uncertainty does not follow its errors: on {n} images of the validation their "
            f"correlation is {correlation:.2f}; train it longer, or without (model.uncertainty: false)"
        )
    return Uncertainty(factor=factor, correlation=correlation, n_images=n)
