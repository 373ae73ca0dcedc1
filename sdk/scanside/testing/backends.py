"""What every engine backend must do, as tests that a backend's own tests inherit."""

from __future__ import annotations

import copy
import tempfile
from functools import cache
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest

import torch
from torch import nn

from scanside.engines.backends.base import Backend, InputShape, Precision, Runner, Source
from scanside.engines.backends.eager import Eager
from scanside.engines.check import relative_error, write_check
from scanside.engines.fresh import run_fresh
from scanside.engines.graph import GraphSource, ShapesOnly, dynamic_axes, export_graph
from scanside.errors import EngineError, ShapeError

__all__ = ["BackendTests", "SmallNetwork", "small_inputs", "small_source"]

_SIZE = (32, 24)


class SmallNetwork(nn.Module):
    """All kinds of operators that Scanside's networks have, in few: a one-level U-Net and a step of data consistency.

    Args:
        channels: features of the convolutions.
    """

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.step: torch.Tensor
        self.down = nn.Sequential(
            nn.Conv2d(2, channels, 3, padding=1), nn.InstanceNorm2d(channels), nn.LeakyReLU(0.2)
        )
        self.up = nn.Sequential(nn.Conv2d(channels, 4 * channels, 1, bias=False), nn.PixelShuffle(2))
        self.last = nn.Conv2d(2 * channels, 2, 1)
        self.register_buffer("step", torch.tensor(0.5))

    def forward(self, image: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """From image ``(1, 2, k1, k0)`` and matrix ``(1, 2, k1, k1)`` to ``(1, 2, k1, k0)``; k1, k0 are even."""
        features = self.down(image.to(self.last.weight.dtype))
        coarse = self.up(nn.functional.avg_pool2d(features, 2))
        correction = self.last(torch.cat((features, coarse), dim=1)).float()
        x = image + 0.1 * correction
        xr, xi = x.unbind(1)
        pr, pi = p.unbind(1)
        misfit = image - torch.stack((pr @ xr - pi @ xi, pr @ xi + pi @ xr), dim=1)
        energy = misfit.square().sum((1, 2, 3), keepdim=True)
        # As in conjugate gradients: 1 where there is any misfit, and no number at all if 1e-30 is taken for 0.
        weight = energy / (energy + 1e-30)
        result: torch.Tensor = x + self.step * weight * misfit
        return result


@cache
def small_source(seed: int = 0, size: tuple[int, int] = _SIZE) -> GraphSource:
    """A `SmallNetwork` with random weights, exported in both precisions."""
    k1, k0 = size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallNetwork().eval()
    reduced = copy.deepcopy(network)
    for part in (reduced.down, reduced.up, reduced.last):
        part.to(torch.bfloat16)
    axes = (("batch", 2, "k1", "k0"), ("batch", 2, "k1", "k1"))
    example = (torch.zeros(1, 2, 16, 8), torch.zeros(1, 2, 16, 16))
    program, weights = export_graph(network, example, dynamic_axes(axes, 2))
    program_bf16, _ = export_graph(reduced, example, dynamic_axes(axes, 2))
    inputs = (InputShape("image", (1, 2, k1, k0)), InputShape("p", (1, 2, k1, k1)))
    samples = [small_inputs(10 + i, size) for i in range(3)]
    return GraphSource(inputs, {"fp32": program, "bf16": program_bf16}, weights, samples)


def small_inputs(seed: int = 0, size: tuple[int, int] = _SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs for `small_source` of the same size."""
    k1, k0 = size
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 2, k1, k0, generator=generator)
    return image, torch.randn(1, 2, k1, k1, generator=generator) / k1


class BackendTests:
    """Tests that certify an engine backend; say how to make it and inherit them.

    ::

        from scanside.testing import BackendTests

        class TestMine(BackendTests):
            def backend(self):
                return Mine()

    What a machine lacks is a reason to skip, which the backend itself must give. Engines are built once for all
    tests of a class.

    Attributes:
        rtol: largest error relative to eager fp32, by precision.
    """

    rtol: ClassVar[dict[Precision, float]] = {"fp32": 1e-5, "bf16": 2e-2, "int8": 2e-2}
    _folders: ClassVar[dict[tuple[Precision, int], Path]]
    _scratch: ClassVar[tempfile.TemporaryDirectory[str]]

    @classmethod
    def setup_class(cls) -> None:
        """Make room for engines."""
        cls._folders = {}
        cls._scratch = tempfile.TemporaryDirectory()

    @classmethod
    def teardown_class(cls) -> None:
        """Remove the engines."""
        cls._scratch.cleanup()

    def backend(self) -> Backend:
        """The backend."""
        raise NotImplementedError(f"{type(self).__name__} must say in backend() how its backend is made")

    # What it is.

    def test_says_whether_it_is_there(self) -> None:
        """Absence has a reason in words, and what cannot be loaded cannot be built either."""
        one = self.backend()
        for reason in (one.available(), one.buildable()):
            assert reason is None or len(reason) > 10, f"'{reason}' does not say why the backend is absent"
        assert one.available() is None or one.buildable() is not None

    def test_says_what_it_depends_on(self) -> None:
        """Versions and hardware are part of an engine's key."""
        one = self._present()
        assert "torch" in one.versions()
        assert all(one.versions().values())
        assert one.hardware()
        assert one.precisions()

    # What its engines compute.

    def test_agrees_with_eager(self) -> None:
        """Every precision keeps its limit, on real-looking input and on none."""
        one = self._present()
        for precision in one.precisions():
            if one.lacks(self._source(), precision):
                continue
            runner, eager = self._runner(precision), self._eager()
            real_norm = float(eager(*small_inputs()).norm())
            for image, p in (small_inputs(), small_inputs(1), (small_inputs()[0] * 0, small_inputs()[1])):
                image, p = self._placed(image, p)
                result, expected = runner(image, p), eager(image.cpu(), p.cpu())
                assert result.dtype == torch.float32
                assert result.device == image.device
                assert bool(result.isfinite().all()), f"{precision}: the result is not finite"
                # Of nothing comes nearly nothing, all of it rounding: it is seen against a real result.
                error = relative_error(result, expected, at_least=real_norm)
                assert error <= self.rtol[precision], f"{precision}: relative error {error:.2g}"

    def test_has_the_weights_it_was_built_with(self) -> None:
        """Of two networks with equal graphs, each keeps its own weights."""
        inputs = self._placed(*small_inputs())
        first, second = self._runner("fp32", seed=0)(*inputs), self._runner("fp32", seed=7)(*inputs)
        assert relative_error(first, second) > 1e-3

    def test_next_call_leaves_the_last_result_alone(self) -> None:
        """Results are not views of memory that the engine uses again; nor are inputs written to."""
        runner = self._runner("fp32")
        inputs = self._placed(*small_inputs())
        before = [one.clone() for one in inputs]
        result = runner(*inputs)
        kept = result.clone()
        runner(*self._placed(*small_inputs(5)))
        assert torch.equal(result, kept), "the second call overwrote the result of the first"
        assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True)), "an input was modified"
        assert torch.equal(runner(*inputs), kept), "equal inputs gave another result"

    def test_refuses_what_it_was_not_built_for(self) -> None:
        """Another size, type, layout or number of inputs is an error that names the input."""
        runner = self._runner("fp32")
        image, p = self._placed(*small_inputs())
        wrong: dict[str, tuple[torch.Tensor, ...]] = {
            "a larger image": (torch.cat((image, image), dim=-1), p),
            "a smaller image": (image[..., :-2].contiguous(), p),
            "a batch of two": (torch.cat((image, image)), p),
            "an image in fp64": (image.double(), p),
            "an image that is not contiguous": (image.mT.contiguous().mT, p),
            "no image": (p,),
        }
        for what, inputs in wrong.items():
            said = None
            try:
                runner(*inputs)
            except ShapeError as error:
                said = str(error)
            assert said is not None, f"{what} was taken"
            assert "image" in said, f"{what}: the error does not name the input: {said}"

    # Where its engines live.

    def test_loads_without_graph_and_weights(self) -> None:
        """An engine that carries them does not ask for them."""
        one = self._present()
        if not one.carries_network:
            raise SkipTest("engines of this backend are the bundle itself")
        inputs = self._placed(*small_inputs())
        source = self._source()
        runner = one.load(self._built("fp32"), ShapesOnly(source.inputs), "fp32")
        assert relative_error(runner(*inputs), self._runner("fp32")(*inputs)) <= self.rtol["fp32"]

    def test_loads_in_a_fresh_process_without_a_compiler(self) -> None:
        """As at the scanner."""
        one = self._present()
        if not one.carries_network:
            raise SkipTest("engines of this backend are the bundle itself")
        folder, inputs = self._built("fp32"), small_inputs()
        write_check(folder, ["image", "p"], inputs, self._eager()(*inputs))
        assert run_fresh(one.name, "fp32", folder) <= self.rtol["fp32"]

    def test_empty_folder_is_an_error(self) -> None:
        """An engine whose files are gone says so."""
        one = self._present()
        if not one.carries_network:
            raise SkipTest("engines of this backend are the bundle itself")
        said = None
        with tempfile.TemporaryDirectory() as empty:
            try:
                one.load(Path(empty), self._source(), "fp32")
            except EngineError as error:
                said = str(error)
        assert said, "an engine was loaded from an empty folder"

    # How the tests are made.

    def _present(self) -> Backend:
        one = self.backend()
        if reason := one.buildable():
            raise SkipTest(f"{one.name}: {reason}")
        return one

    def _source(self, seed: int = 0) -> Source:
        return small_source(seed)

    def _eager(self) -> Runner:
        return Eager().load(Path(), self._source(), "fp32")

    def _placed(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Inputs where the backend computes."""
        return tuple(one.to(self.backend().device) for one in tensors)

    def _built(self, precision: Precision, seed: int = 0) -> Path:
        key = (precision, seed)
        if key not in self._folders:
            # A folder of its own for each try: one that failed must not hide why from the tests that follow.
            folder = Path(tempfile.mkdtemp(prefix=f"{precision}-{seed}-", dir=self._scratch.name))
            self._present().build(self._source(seed), precision, folder)
            self._folders[key] = folder
        return self._folders[key]

    def _runner(self, precision: Precision, seed: int = 0) -> Runner:
        one = self._present()
        return one.load(self._built(precision, seed), self._source(seed), precision)
