"""A bundle from a network that was trained elsewhere: any `torch.nn.Module`, or an exported ``.pt2``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt
from safetensors.torch import save_file
from torch import nn

from scanside._version import __version__
from scanside.engines.bundle import BundleWriter
from scanside.engines.manifest import (
    CALIBRATION_FILE,
    VECTORS_FILE,
    DataSource,
    Lowering,
    Manifest,
    Normalisation,
    TensorSpec,
)
from scanside.engines.parameters import Parameter
from scanside.engines.roles import ROLES, is_role
from scanside.errors import ConfigError
from scanside.storage import naming_disk
from scanside_deploy.build import BuildOptions, buckets_of, check_licence, sampling_of, shapes_of
from scanside_deploy.cases import CaseKind, calibration, reference_vectors
from scanside_deploy.graphs import write_graphs
from scanside_deploy.told import taken_parameters
from scanside_deploy.trust import uncertainty_of
from scanside_training.config import read_settings, read_yaml
from scanside_training.data import DataConfig, SampleKey, SimulatedSamples
from scanside_training.models import Network, NetworkConfig
from scanside_training.record import Lineage

__all__ = ["PortsConfig", "build_own", "read_module", "read_ports"]


class PortsConfig(NetworkConfig):
    """What a module takes and gives, and what it was trained on: ``ports.yaml``.

    Attributes:
        inputs: what the module is called with, in its order: role (see `scanside.engines.roles`) and axes.
        divisor: what the sizes k1 and k0 must be multiples of.
        size: the one size ``(k1, k0)`` of images that the module takes; None where it takes them of any.
        lowering: how its data consistency is written; ``none`` where it has none.
        quantile: of the input image's magnitude, by which images are divided beforehand.
        parameters: numbers of the scan that its input ``parameters`` holds, in their order (see
            `scanside.engines.parameters`).
        uncertainty: whether the module gives, behind the channels of the image, one with the error to be expected of
            each voxel, on the same scale.
        trained_on: the data behind its weights.
        data: what the gate judges engines on, and which scans it may be given: sources and simulation, as in the
            configuration of a training.
    """

    kind: str = "module"
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    divisor: PositiveInt = 1
    size: tuple[PositiveInt, PositiveInt] | None = None
    lowering: Lowering = "none"
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.99
    parameters: tuple[Parameter, ...] = ()
    uncertainty: bool = False
    trained_on: tuple[DataSource, ...] = Field(min_length=1)
    data: DataConfig

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of."""
        return self.divisor

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The one size of images that it takes."""
        return self.size

    def build(self) -> Network:
        """Is not known: the module comes from elsewhere.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("a module that was trained elsewhere is not built from settings")


class _Own(Network):
    """A module of someone's, as Scanside sees networks."""

    config: PortsConfig

    def __init__(self, module: nn.Module, ports: PortsConfig) -> None:
        super().__init__(ports)
        self.module = module
        self.lowering = ports.lowering
        self.takes_parameters = ports.parameters
        self.tells_uncertainty = ports.uncertainty
        self.n_frames = ports.data.simulation.task.n_frames
        self.task = "dynamic" if self.n_frames else "image" if ports.lowering == "none" else "unrolled"

    def offered(self) -> tuple[TensorSpec, ...]:
        return self.config.inputs

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.module(*inputs)
        return output


def read_ports(path: Path) -> PortsConfig:
    """Read ``ports.yaml``.

    Raises:
        ConfigError: no such file, not YAML, or a setting is unknown, missing or wrong; or a role that nothing makes.
    """
    ports = read_settings(PortsConfig, read_yaml(path, None, "description of ports"), str(path), "ports")
    unknown = [spec.name for spec in ports.inputs if not is_role(spec.name)]
    if unknown:
        raise ConfigError(
            f"{path}: nothing makes the role{'s' * (len(unknown) > 1)} {', '.join(unknown)} from a scan; roles are: "
            f"{', '.join(sorted(ROLES))} and contrast:NAME"
        )
    return ports


def read_module(where: str) -> nn.Module:
    """The module itself.

    Args:
        where: ``package.module:name`` of a module or of a function that gives it, on Python's path; or the path of a
            ``.pt2`` that `torch.export.save` wrote. Both run what they hold: use your own.

    Raises:
        ConfigError: it cannot be imported or read, or is no `torch.nn.Module`.
    """
    if where.endswith(".pt2"):
        try:
            module = torch.export.load(where).module()
        except Exception as error:  # torch raises whatever it meets in a damaged file
            raise ConfigError(f"{where} cannot be read as an exported program: {error}") from error
        # It is what it was exported as, and refuses to be told so; what it is put into need not know.
        for refusing in ("train", "eval"):
            module.__dict__.pop(refusing, None)
        return module
    name, _, attribute = where.partition(":")
    try:
        found: Any = importlib.import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
        found = found if isinstance(found, nn.Module) else found()
    except Exception as error:  # a module of someone else may raise anything while it is imported
        raise ConfigError(
            f"--module {where}: {type(error).__name__}: {error}; expected package.module:name of a torch.nn.Module, "
            "or of a function without arguments that gives one, on Python's path (PYTHONPATH)"
        ) from error
    if not isinstance(found, nn.Module):
        raise ConfigError(f"--module {where} gives a {type(found).__name__}, and no torch.nn.Module")
    return found


def build_own(
    module: nn.Module, ports: PortsConfig, output: Path, options: BuildOptions, *, replace: bool = False
) -> Manifest:
    """Write the bundle of a module that was trained elsewhere.

    Args:
        module: with its weights.
        ports: what it takes, and what it was trained on.
        output: the bundle's folder.
        options: all but `lowering`, which the ports say.
        replace: put it in the place of a bundle that is there.

    Raises:
        ConfigError: ports and module do not fit, weights are not finite, the module cannot be exported, or its data
            are not as free as was asked for.
        BundleError: the bundle is larger than allowed, or an option is wrong.
        RunError: the disk is full, or the folder must not be written.
        FileExistsError: there is something at `output`, and it may not be replaced.
    """
    network = _Own(module, ports).eval()
    check_licence(options, ports.trained_on, Lineage())
    buckets = buckets_of(network, options.buckets)
    _check_weights(network)
    _check_call(network, ports.data)
    uncertainty = uncertainty_of(network, ports.data)
    parameters = taken_parameters(network, ports.data)
    cases = CaseKind(
        network.task, network.lowering, network.n_frames, network.takes_parameters, network.fixed_size
    )
    with (
        naming_disk(output.parent, f"the bundle '{options.name}' was not written"),
        BundleWriter(output, replace=replace, size_limit=options.size_limit) as writer,
    ):
        graphs = _exported(lambda: write_graphs(network, writer, getattr(torch, options.weights)))
        save_file(reference_vectors(cases, ports.data), writer.path(VECTORS_FILE))
        save_file(calibration(cases, ports.data), writer.path(CALIBRATION_FILE))
        sampling = sampling_of(ports.data.simulation, options.anatomy)
        return writer.finish(
            name=options.name,
            version=options.version,
            created=datetime.now(timezone.utc),
            made_with={"torch": torch.__version__, "scanside": __version__},
            description=options.description,
            task=network.task,
            inputs=graphs.inputs,
            outputs=graphs.outputs,
            uncertainty=uncertainty,
            parameters=parameters,
            lowering=network.lowering,
            shapes=shapes_of(network, buckets, sampling),
            normalisation=Normalisation(quantile=ports.quantile),
            input_image=ports.data.simulation.task.input_image,
            graphs=graphs.files,
            columns=graphs.columns,
            trained_on=ports.trained_on,
            sampling=sampling,
            n_parameters=max(sum(p.numel() for p in network.parameters()), 1),
            calibration=CALIBRATION_FILE,
        )


def _check_weights(network: Network) -> None:
    wrong = [name for name, one in network.state_dict().items() if not bool(one.isfinite().all())]
    if wrong:
        raise ConfigError(
            f"weights that are NaN or infinite: {', '.join(name.removeprefix('module.') for name in wrong[:5])}: "
            "export the weights of an earlier, finite state of the training"
        )


def _check_call(network: _Own, data: DataConfig) -> None:
    """Call the module once with a sample, so that ports that do not fit are told in the words of the ports."""
    sample = SimulatedSamples(data, "validation")[SampleKey(0, 0, 0)]
    batch = {name: one[None] for name, one in sample.items()}
    k1, k0 = batch["target"].shape[-2:]
    if network.fixed_size not in (None, (k1, k0)):
        raise ConfigError(
            f"size: the module takes images of {'x'.join(map(str, network.fixed_size))}, and data.simulation gives "
            f"{k1}x{k0}: set its k1 and k0, and its readout_crop to null"
        )
    n_coils = batch["maps"].shape[1] if "maps" in batch else None
    inputs = network.inputs(batch)
    for spec, tensor in zip(network.offered(), inputs, strict=True):
        expected = spec.shape(k1, k0, n_coils, n_frames=network.n_frames)
        if tuple(tensor.shape) != expected:
            raise ConfigError(
                f"port '{spec}' stands for the shape {expected}, and the task '{data.simulation.task.kind}' gives "
                f"{tuple(tensor.shape)}: correct its axes, or data.simulation.task"
            )
    ports = ", ".join(str(spec) for spec in network.offered())
    try:
        with torch.inference_mode():
            output: Any = network(*inputs)
    except Exception as error:  # a module of someone else may raise anything
        raise ConfigError(
            f"the module cannot be called with its ports, {ports}: {type(error).__name__}: {error}"
        ) from error
    n, _, *size = batch["target"].shape
    expected = (n, sum(int(spec.axes[1]) for spec in network.outputs()), *size)
    if not isinstance(output, torch.Tensor) or output.shape != expected:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(
            f"the module gives {found} for an image of {tuple(batch['target'].shape)}: it must give one tensor of "
            f"the shape {expected} (see 'uncertainty' in the ports); wrap it in a module that does"
        )
    if not bool(output.isfinite().all()):
        raise ConfigError("the module gives an image with NaN or infinity for a simulated scan")


def _exported(write: Callable[[], Any]) -> Any:
    try:
        return write()
    except ConfigError:
        raise
    except Exception as error:  # torch's exporter has many errors, and no base class of them
        first = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"torch.export cannot take the module: {type(error).__name__}: {first}. Write its forward without "
            "branches on values of tensors, with sizes taken from shapes, and with operators of real numbers; "
            "torch.export.export(module, inputs) alone shows the place"
        ) from error
