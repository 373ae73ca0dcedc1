"""The numbers of a scan that a network is told, and which of them it met in training."""

from __future__ import annotations

from scanside.engines.manifest import Range, TakenParameter
from scanside_training.data import DataConfig, SampleKey, SimulatedSamples
from scanside_training.models import Network, known_in

__all__ = ["taken_parameters"]

_N_SAMPLES = 100


def taken_parameters(network: Network, data: DataConfig) -> tuple[TakenParameter, ...]:
    """What a manifest says of them; the ranges are those of a hundred samples of the training.

    Args:
        network: none are told of one that takes none.
        data: of its training.

    Raises:
        ConfigError: the data do not say a number that the network takes.
    """
    if not network.takes_parameters:
        return ()
    samples = SimulatedSamples(data, "train")
    found: list[list[float]] = [[] for _ in network.takes_parameters]
    for number in range(_N_SAMPLES):
        sample = samples[SampleKey(0, number // data.batch_size, number)]
        known = known_in({k: v[None] for k, v in sample.items()}, network.lowering)
        for values, name in zip(found, network.takes_parameters, strict=True):
            values.append(float(known.value(name)))
    return tuple(
        TakenParameter(name=name, trained=Range(low=min(values), high=max(values)))
        for name, values in zip(network.takes_parameters, found, strict=True)
    )
