"""What the layers of a network put out while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches

import torch
from torch import nn

from scanside.errors import ConfigError

__all__ = ["captured", "standardised", "undisturbed"]


@contextmanager
def captured(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Catch the outputs of some layers while the network runs within the context.

    The hooks live no longer than the context: copies of the network (for moving averages, other processes, or
    export) never carry them.

    Args:
        network: the network.
        layers: names of its modules, as in ``network.get_submodule(name)``.

    Yields:
        Layer's name to its output, filled while the network runs. Of a layer that runs several times, as those of an
        unrolled network with shared weights do, it holds the last output.

    Raises:
        ConfigError: the network has no layer of that name.
    """
    features: dict[str, torch.Tensor] = {}

    def keep(name: str, output: torch.Tensor) -> None:
        features[name] = output

    with ExitStack() as hooks:
        for name in layers:
            module = _module(network, name)
            hook = module.register_forward_hook(
                lambda _module, _inputs, output, name=name: keep(name, output)
            )
            hooks.callback(hook.remove)
        yield features


@contextmanager
def undisturbed(*networks: nn.Module) -> Iterator[None]:
    """Run networks for evaluation: without dropout and gradients, and in their own modes again afterwards."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _module(network: nn.Module, name: str) -> nn.Module:
    names = [known for known, _ in network.named_modules() if known]
    if name not in names:
        similar = get_close_matches(name, names, n=3) or names[:12]
        raise ConfigError(
            f"{type(network).__name__} has no layer '{name}': name one of its modules, such as {', '.join(similar)}"
        )
    return network.get_submodule(name)


def standardised(features: torch.Tensor) -> torch.Tensor:
    """Each channel of each sample with mean 0 and variance 1; a constant channel becomes 0.

    Args:
        features: ``(B, channel, y, x)``.

    Returns:
        The same shape, float32 or better.
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    variance, mean = torch.var_mean(features, dim=(-2, -1), correction=0, keepdim=True)
    return (features - mean) * torch.rsqrt(variance + 1e-5)
