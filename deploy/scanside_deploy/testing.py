"""What every network must do, as tests that a network's own tests inherit."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import SkipTest

import torch

from scanside.engines.bundle import BundleWriter
from scanside.engines.graph import BoundGraph
from scanside.engines.manifest import Precision, TensorSpec
from scanside.engines.parameters import SequenceParameter
from scanside.engines.plain import read_plain
from scanside.engines.roles import planes
from scanside.engines.shapes import Fit
from scanside.errors import ShapeError
from scanside.recon.consistency import LOWERINGS
from scanside.recon.fourier import to_image, to_kspace
from scanside_deploy.graphs import Graphs, write_graphs
from scanside_training.models import Batch, Network, NetworkConfig

__all__ = ["NetworkTests", "small_batch"]

_N_COILS = 3
_NOISE = 0.02
_SEQUENCE: dict[SequenceParameter, float] = {
    "field_strength": 3.0,
    "te": 90.0,
    "tr": 4000.0,
    "ti": 2000.0,
    "flip_angle": 70.0,
}
_FRAMES = 1.4  # pixels that the object of a film moves from frame to frame


class NetworkTests:
    """Tests that certify a network; say what its settings are and inherit them.

    ::

        from scanside.testing import NetworkTests

        class TestMine(NetworkTests):
            def config(self):
                return MineConfig(channels=4)

    They look at the network as trainers, exporters and stages do, with the random weights that it begins with.

    Attributes:
        rtol: how far an exported graph may be from the network, relative to the image.
        rtol_reduced: the same of one whose bodies compute in bf16.
        rtol_lowerings: how far ways to write data consistency may be apart.
    """

    rtol: float = 1e-5
    rtol_reduced: float = 5e-2
    rtol_lowerings: float = 1e-3

    def config(self) -> NetworkConfig:
        """Settings of a small network."""
        raise NotImplementedError(
            f"{type(self).__name__} must say in config() what the network's settings are"
        )

    def batch(self, network: Network) -> Batch:
        """A sample that it takes, the same each time; for roles that `small_batch` has not."""
        return small_batch(network)

    # What it is.

    def test_settings_survive_a_file(self) -> None:
        """Its settings can be written as JSON, and read back by their kind."""
        config = self.config()
        again = NetworkConfig.model_validate(json.loads(config.model_dump_json()))
        assert again == config, f"settings {config!r} came back as {again!r}"

    def test_says_what_it_takes(self) -> None:
        """It is called with what it offers to take, and gives an image like the one that goes in."""
        network = self._network()
        batch = self.batch(network)
        given = network.inputs(batch)
        assert len(given) == len(network.offered())
        for spec, tensor in zip(network.offered(), given, strict=True):
            assert tensor.shape == self._shape(spec, batch, network), spec
        output = self._run(network, given)
        image, others = network.split(output)
        assert image.shape == batch["target"].shape
        for spec in network.outputs()[1:]:
            assert others[spec.name].shape == self._shape(spec, batch, network), spec
        assert output.dtype == torch.float32, f"it gives {output.dtype}, not float32"
        assert bool(output.isfinite().all())

    # What it computes.

    def test_gradient(self) -> None:
        """What it makes depends on its weights, and has a finite gradient with respect to each that is trained."""
        network = self._network().train()
        batch = self.batch(network)
        with torch.enable_grad():
            image, others = network.split(network(*network.inputs(batch)))
            errors = (image - batch["target"], *others.values())
            loss: Any = sum(one.square().mean() for one in errors)
            loss.backward()
        trained = {name: one for name, one in network.named_parameters() if one.requires_grad}
        assert trained, "nothing of it is trained"
        without = [name for name, one in trained.items() if one.grad is None or not one.grad.isfinite().all()]
        assert not without, f"no gradient, or one that is not finite: {', '.join(without)}"
        assert any(bool(one.grad.any()) for one in trained.values() if one.grad is not None)

    def test_takes_an_empty_scan(self) -> None:
        """Where the scan gave nothing, the image is finite: what there is to norm is zero. How near it is to zero
        depends on the weights; the gate looks at that.
        """
        network = self._network()
        batch = self.batch(network)
        batch = batch | {"image": torch.zeros_like(batch["image"])}
        output = self._run(network, network.inputs(batch))
        assert bool(output.isfinite().all()), "of an image of zeros it makes what is not finite"

    def test_takes_images_in_larger_engines(self) -> None:
        """Surrounded as a stage surrounds it, an image comes out in the engine's size; with data consistency in the
        network, the result beside it is zero.
        """
        network = self.config().lowered("pmatrix").build().eval()
        if network.fixed_size is not None:
            raise SkipTest("it takes images of one size")
        given = network.inputs(self.batch(network))
        size = (int(given[0].shape[-2]), int(given[0].shape[-1]))
        m = network.multiple_of
        place = Fit(size, (size[0] + 2 * m, size[1] + 2 * m))
        larger = place.reflected if network.lowering == "none" else place.surround
        output = self._run(network, larger(network.offered(), given))
        assert output.shape[-2:] == place.bucket
        assert bool(output.isfinite().all())
        if network.lowering == "pmatrix":
            beside = output.clone()
            place.crop(beside).zero_()
            assert not beside.any(), f"beside the image it makes {float(beside.abs().max()):.2g}"

    def test_refuses_other_sizes(self) -> None:
        """A network that takes images of one size says which, where it is given another."""
        network = self._network()
        if network.fixed_size is None:
            raise SkipTest("it takes images of any size")
        k1, k0 = network.fixed_size
        said = "it made an image"
        try:
            self._run(network, network.inputs(small_batch(network, (k1 + 8, k0))))
        except ShapeError as error:
            said = str(error)
        assert f"{k1}×{k0}" in said, f"of an image of another size, its own being {k1}×{k0}: {said}"

    def test_lowerings_agree(self) -> None:
        """However its data consistency is written, the image is the same."""
        network = self._network()
        batch = self.batch(network)
        expected = self._run(network, network.inputs(batch))
        others = [self.config().lowered(lowering) for lowering in LOWERINGS]
        if all(config == self.config() for config in others):
            raise SkipTest("its data consistency is written in one way, or it has none")
        for config in others:
            other = config.build().eval()
            other.load_state_dict(network.state_dict())
            found = self._run(other, other.inputs(batch))
            self._assert_close(found, expected, self.rtol_lowerings, f"lowering '{other.lowering}'")

    # What becomes of it.

    def test_exports(self) -> None:
        """Its graphs, in all precisions, take images of any size that it takes, and give what it gives."""
        network = self._network()
        batch = self.batch(network)
        expected = self._run(network, network.inputs(batch))
        roles = dict(zip((spec.name for spec in network.offered()), network.inputs(batch), strict=True))
        for precision, graphs, graph in self._exported(network):
            output = self._run(graph, tuple(roles[spec.name] for spec in graphs.inputs))
            limit = self.rtol if precision == "fp32" else self.rtol_reduced
            self._assert_close(output, expected, limit, f"the graph in {precision}")

    @staticmethod
    def _exported(network: Network) -> Iterator[tuple[Precision, Graphs, BoundGraph]]:
        with tempfile.TemporaryDirectory() as folder, BundleWriter(Path(folder) / "network") as writer:
            graphs = write_graphs(network, writer)
            weights = network.state_dict()
            for precision, file in graphs.files.items():
                yield precision, graphs, BoundGraph(read_plain(writer.path(file)), weights)

    def _network(self) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.config().build().eval()

    @staticmethod
    def _run(network: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
        with torch.inference_mode():
            output: torch.Tensor = network(*given)
        return output

    @staticmethod
    def _shape(spec: TensorSpec, batch: Mapping[str, torch.Tensor], network: Network) -> tuple[int, ...]:
        k1, k0 = batch["target"].shape[-2:]
        return spec.shape(k1, k0, _N_COILS, len(batch["target"]), network.n_frames)

    @staticmethod
    def _assert_close(found: torch.Tensor, expected: torch.Tensor, limit: float, what: str) -> None:
        error = float((found - expected).norm() / expected.norm())
        assert error <= limit, f"{what} differs by {error:.2g} of the image (limit {limit:g})"


def small_batch(network: Network, size: tuple[int, int] | None = None) -> Batch:
    """A sample of a scan of an object of smooth spots, as a network's task has them.

    Args:
        network: whose samples they are.
        size: ``(k1, k0)``; by default a small one that the network takes.

    Returns:
        ``image`` ``(1, 1 or 2, *time, k1, k0)``, ``target``, ``maps``, ``mask`` and ``noise``, see
        `scanside_training.data.simulate_sample`; and numbers of a sequence (`scanside.engines.parameters`).
    """
    m = network.multiple_of
    k1, k0 = size or network.fixed_size or tuple(math.ceil(n / m) * m for n in (24, 32))
    generator = torch.Generator().manual_seed(0)
    object_ = _spots(k1, k0, network.n_frames)
    y, x = torch.linspace(-1, 1, k1)[:, None], torch.linspace(-1, 1, k0)
    weights = torch.stack([torch.exp(-((y - a) ** 2) - (x - b) ** 2) for a, b in ((-1, 0), (1, -1), (0, 1))])
    maps = weights / weights.square().sum(0).sqrt() * torch.exp(1j * weights)
    lines = torch.stack([(torch.arange(k1) + frame) % 2 == 0 for frame in range(network.n_frames or 1)])
    lines[:, k1 // 2 - 4 : k1 // 2 + 4] = True
    mask = lines[..., None].float()
    kspace = to_kspace(maps * object_[:, None])
    kspace = kspace + _NOISE * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    image = (maps.conj() * to_image(kspace * mask[:, None])).sum(1)
    if network.n_frames is None:
        image, object_, mask = image[0], object_[0], mask[0]
    planed = {name: planes(one[None])[0] for name, one in (("image", image), ("target", object_))}
    if network.offered()[0].axes[1] == 1:
        planed = {name: torch.linalg.vector_norm(one, dim=0, keepdim=True) for name, one in planed.items()}
    sample: Batch = {
        **planed,
        "maps": torch.view_as_real(maps).movedim(-1, 1),
        "mask": mask,
        "noise": torch.tensor(_NOISE),
    }
    sample |= {name: torch.tensor(value) for name, value in _SEQUENCE.items()}
    return {name: one[None].contiguous() for name, one in sample.items()}


def _spots(k1: int, k0: int, n_frames: int | None) -> torch.Tensor:
    """``(frame, k1, k0)`` complex: smooth, dark at the edges, and in a film on its way."""
    y, x = torch.arange(k1)[:, None], torch.arange(k0)
    frames = []
    for frame in range(n_frames or 1):
        moved = _FRAMES * frame
        spot = torch.exp(-((y - k1 / 2) ** 2 + (x - k0 / 3 - moved) ** 2) / 18)
        other = torch.exp(-((y - k1 / 3) ** 2 + (x - k0 / 2) ** 2) / 8)
        frames.append(torch.complex(spot + 0.5 * other, 0.3 * other))
    return torch.stack(frames)
