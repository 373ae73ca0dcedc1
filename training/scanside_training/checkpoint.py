"""What a run leaves behind: weights as safetensors beside the configuration, and checkpoints to go on from.

Everything downstream reads ``config.yaml`` and ``model.safetensors`` only; nothing of those is unpickled.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from scanside.engines.bundle import Bundle
from scanside.engines.manifest import MANIFEST_FILE
from scanside.errors import ConfigError, FormatError
from scanside_training.config import TrainConfig, load_config
from scanside_training.models import Network
from scanside_training.models.upsampling import Upsampling, renewed

__all__ = [
    "BEST_WEIGHTS",
    "CONFIG",
    "LAST_CHECKPOINT",
    "WEIGHTS",
    "begin_with",
    "config_text",
    "load_bundle_weights",
    "load_model",
    "load_weights",
    "network_of",
    "read_checkpoint",
    "renew_moments",
    "save_weights",
    "write_config",
]

CONFIG = "config.yaml"
"""The whole configuration, defaults spelt out."""
WEIGHTS = "model.safetensors"
"""Weights of the last validation, and in the end of the last step; averaged where the run averages."""
BEST_WEIGHTS = "best.safetensors"
"""Weights of the validation with the highest PSNR."""
LAST_CHECKPOINT = "last.ckpt"
"""All that resuming needs: weights, their average, optimiser, schedule, counters."""


def load_model(run_folder: Path | str, weights: str = WEIGHTS) -> tuple[Network, TrainConfig]:
    """The trained network of a run, in evaluation mode on the CPU.

    Args:
        run_folder: folder that ``scanside train`` wrote.
        weights: name of the weights' file in it.

    Raises:
        ConfigError: there is no such run, or its configuration cannot be read.
        FormatError: the weights are truncated, are no safetensors file, or belong to another network.
    """
    folder = Path(run_folder)
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"{folder} is no folder of a training run: it has no {CONFIG}; make one with 'scanside train'"
        )
    config = load_config(folder / CONFIG)
    model = config.model.build()
    load_weights(model, folder / weights)
    return model.eval(), config


def network_of(run_folder: Path) -> Network:
    """The network of `load_model` alone, for losses that look through it."""
    return load_model(run_folder)[0]


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of a safetensors file into a network of the same architecture.

    Raises:
        FormatError: there is no such file, it is damaged, or its names or shapes are not the network's.
    """
    _put(model, _read(path), path, CONFIG)


def load_bundle_weights(model: nn.Module, bundle: Bundle) -> None:
    """Put the weights of a bundle into a network of the same architecture.

    Raises:
        FormatError: names or shapes are not the network's.
        BundleError: the weights cannot be read.
    """
    _put(model, bundle.weights(), bundle.folder, MANIFEST_FILE)


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise FormatError(
            f"{path} does not exist: expected weights of a run, which it writes at each validation"
        ) from None
    except SafetensorError as error:
        raise FormatError(
            f"{path} is truncated or no safetensors file ({error}): resume the run, or copy the file again"
        ) from error


def _put(model: nn.Module, found: dict[str, torch.Tensor], path: Path, settings: str) -> None:
    found = renewed(model, found)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = [
        f"{name} is {tuple(found[name].shape) if name in found else 'missing'}, expected {shape}"
        for name, shape in expected.items()
        if name not in found or tuple(found[name].shape) != shape
    ]
    wrong += [f"{name} is not in the network" for name in found if name not in expected]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise FormatError(
            f"{path} holds the weights of another network: {'; '.join(wrong[:3])}{more}. "
            f"The model settings must be those of the run that it comes from (its {settings})"
        )
    model.load_state_dict(found)


def begin_with(model: Network, folder: Path) -> None:
    """Begin a training with the weights of another; what is not learned stays as the network's settings have it.

    A network may take weights of another kind, as one of kind ``exact`` takes those of kind ``unrolled``: see
    `Network.adopted`.

    Args:
        model: changed in place.
        folder: of a run, or a bundle, whose files and signature are checked as before a scan.

    Raises:
        FormatError: as `load_weights`.
        BundleError: the bundle cannot be trusted.
    """
    fixed = {name: one.detach().clone() for name, one in model.named_parameters() if not one.requires_grad}
    if (folder / MANIFEST_FILE).is_file():
        found, path, settings = Bundle.open(folder).weights(), folder, MANIFEST_FILE
    else:
        found, path, settings = _read(folder / WEIGHTS), folder / WEIGHTS, CONFIG
    _put(model, model.adopted(found), path, settings)
    model.load_state_dict(fixed, strict=False)


def save_weights(model: nn.Module, path: Path, *, step: int) -> None:
    """Write a network's weights; a reader sees the old file or the new one, never a part."""
    part = path.with_name(f".{path.name}.part")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    part.write_bytes(save(tensors, metadata={"format": "scanside-weights", "step": str(step)}))
    part.replace(path)


def write_config(config: TrainConfig, folder: Path) -> None:
    """Write the whole configuration, defaults spelt out, as ``config.yaml``."""
    (folder / CONFIG).write_text(config_text(config), "utf-8")


def config_text(config: TrainConfig) -> str:
    """The whole configuration as YAML, defaults spelt out."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to resume from; only tensors and plain values are unpickled.

    Raises:
        FormatError: there is none, it is truncated, or it holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise FormatError(
            f"{path} does not exist: there is nothing to resume; start without --resume (a checkpoint is "
            "written at each validation)"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch would advise to unpickle it all the same.
        raise FormatError(
            f"{path} is no checkpoint of 'scanside train', or a damaged one: it holds more than tensors and plain "
            "values, which is not read. Restore it from a copy, or start a new run with 'initial:' set to this "
            f"folder, which begins with its {WEIGHTS}"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition(". ")[0].partition("\n")[0] or type(error).__name__
        raise FormatError(
            f"{path} is truncated or no checkpoint ({reason}): restore it from a copy, or start a new run with "
            f"'initial:' set to this folder, which begins with its {WEIGHTS}"
        ) from error
    if not isinstance(checkpoint, dict) or "global_step" not in checkpoint:
        raise FormatError(f"{path} is no checkpoint of 'scanside train': it tells no step to resume from")
    return checkpoint


def renew_moments(module: nn.Module, optimiser: dict[str, Any]) -> None:
    """Put what an optimiser knows of each weight into the order that the weights have now (`renewed`).

    Args:
        module: whose trained parameters the optimiser has, in their order.
        optimiser: its state from a checkpoint, changed in place.
    """
    layers = {id(one.weight): one for one in module.modules() if isinstance(one, Upsampling)}
    trained = (parameter for parameter in module.parameters() if parameter.requires_grad)
    for index, parameter in enumerate(trained):
        known = optimiser["state"].get(index, {})
        if (layer := layers.get(id(parameter))) is not None:
            known.update({name: layer.renewed(one) for name, one in known.items() if torch.is_tensor(one)})
