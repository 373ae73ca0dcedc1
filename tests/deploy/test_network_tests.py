"""All kinds of networks, by the tests that certify anyone's; and that these tests find what they look for."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest
import torch

from scanside.engines.manifest import TensorSpec
from scanside.testing import NetworkTests
from scanside_deploy.testing import small_batch
from scanside_training.models import (
    AutomapConfig,
    Batch,
    ConditionedUnetConfig,
    DualUnetConfig,
    ExactConfig,
    KikiConfig,
    Network,
    NetworkConfig,
    TemporalConfig,
    UnetConfig,
    UnrolledConfig,
)
from scanside_training.models.encoder_decoder import EncoderDecoderConfig
from scanside_training.models.rules import GradientConfig, HardConfig, ProximalConfig
from scanside_training.models.temporal import SubspaceConfig

SMALL: dict[str, Any] = {"channels": 4, "pools": 1}
FEW_STEPS = ProximalConfig(iterations=3, initial_iterations=4)


class LargerGraphs(NetworkTests):
    """Of networks whose graphs take long to export."""

    @pytest.mark.slow
    def test_exports(self) -> None:
        super().test_exports()


class TestUnet(NetworkTests):
    def config(self) -> NetworkConfig:
        return UnetConfig(**SMALL)


class TestUnetOfMagnitudes(NetworkTests):
    def config(self) -> NetworkConfig:
        return UnetConfig(**SMALL, image_channels=1)


class TestUnetThatTellsItsUncertainty(NetworkTests):
    def config(self) -> NetworkConfig:
        return UnetConfig(**SMALL, uncertainty=True)


class TestUnetBesideAnotherContrast(NetworkTests):
    def config(self) -> NetworkConfig:
        return UnetConfig(channels=4, pools=2, contrasts=("t1", "flair"))

    def batch(self, network: Network) -> Batch:
        batch = small_batch(network)
        beside = batch["target"].square().sum(1, keepdim=True).sqrt()
        return batch | {"contrast:t1": beside, "contrast:flair": beside.square()}


class TestEncoderDecoder(NetworkTests):
    def config(self) -> NetworkConfig:
        return EncoderDecoderConfig(channels=4)

    def test_its_defaults_are_those_of_the_literature(self) -> None:
        assert sum(p.numel() for p in EncoderDecoderConfig().build().parameters()) == 365_761


class TestConditionedUnet(NetworkTests):
    def config(self) -> NetworkConfig:
        return ConditionedUnetConfig(**SMALL, parameters=("acceleration", "te", "field_strength"))


class TestConditionedUnetOfMagnitudes(NetworkTests):
    def config(self) -> NetworkConfig:
        return ConditionedUnetConfig(**SMALL, image_channels=1, parameters=("flip_angle",), hidden=4)


class TestUnrolled(NetworkTests):
    def config(self) -> NetworkConfig:
        return UnrolledConfig(**SMALL, n_cascades=2, memory=2, consistency=FEW_STEPS)


class TestUnrolledByGradients(LargerGraphs):
    def config(self) -> NetworkConfig:
        return UnrolledConfig(**SMALL, n_cascades=2, share_weights=True, consistency=GradientConfig())


class TestExact(LargerGraphs):
    def config(self) -> NetworkConfig:
        return ExactConfig(**SMALL, n_cascades=2)


class TestKiki(LargerGraphs):
    def config(self) -> NetworkConfig:
        return KikiConfig(channels=4, depth=3)


class TestAutomap(NetworkTests):
    def config(self) -> NetworkConfig:
        return AutomapConfig(size=(24, 16), channels=4)


class TestAutomapWithDenseLayers(NetworkTests):
    def config(self) -> NetworkConfig:
        return AutomapConfig(size=(8, 12), separable=False, channels=4)


class TestDualUnet(LargerGraphs):
    def config(self) -> NetworkConfig:
        return DualUnetConfig(**SMALL, n_frames=3, fusion_channels=4, dropout=0)


class TestDualUnetCascades(LargerGraphs):
    def config(self) -> NetworkConfig:
        return DualUnetConfig(
            **SMALL, n_frames=3, fusion_channels=4, dropout=0, n_cascades=2, consistency=HardConfig()
        )


class TestTemporal(LargerGraphs):
    def config(self) -> NetworkConfig:
        return TemporalConfig(**SMALL, n_frames=4, n_cascades=2, low_rank=(6,), subspace=SubspaceConfig())


class TestTemporalThatIsGivenItsStart(LargerGraphs):
    def config(self) -> NetworkConfig:
        return TemporalConfig(**SMALL, n_frames=4, n_cascades=1, start="low_rank_sparse")


class FaultyConfig(NetworkConfig):
    """A network with a fault of one's choice."""

    kind: Literal["unet"] = "unet"
    fault: str
    multiple_of: ClassVar[int] = 2  # type: ignore[assignment]

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        return (24, 32) if self.fault == "fixed size, not told" else None

    def build(self) -> Faulty:
        return Faulty(self)


class Faulty(Network):
    task = "image"
    config: FaultyConfig

    def __init__(self, config: FaultyConfig) -> None:
        super().__init__(config)
        self.body = torch.nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.unused = torch.nn.Parameter(torch.ones(1), requires_grad=config.fault == "unused weight")

    def offered(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name="image", axes=("batch", 2, "k1", "k0")),)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.body(image)
        if self.config.fault == "fixed size":
            return output + torch.zeros(*image.shape[:2], 24, 32)
        if self.config.fault == "norm":
            return output / output.abs().max()
        return output.half() if self.config.fault == "type" else output


@pytest.mark.parametrize(
    ("fault", "test", "said"),
    [
        ("none", "test_exports", ""),
        ("none", "test_takes_an_empty_scan", ""),
        ("unused weight", "test_gradient", "no gradient.*unused"),
        ("norm", "test_takes_an_empty_scan", "not finite"),
        ("type", "test_says_what_it_takes", "float16"),
        ("fixed size", "test_exports", "must match"),
        ("fixed size", "test_takes_images_in_larger_engines", "must match"),
        ("fixed size, not told", "test_refuses_other_sizes", "its own being 24×32: it made an image"),
    ],
)
def test_faults_are_found(fault: str, test: str, said: str) -> None:
    class TestFaulty(NetworkTests):
        def config(self) -> NetworkConfig:
            return FaultyConfig(fault=fault)

    run = getattr(TestFaulty(), test)
    if fault == "none":
        run()
        return
    with pytest.raises((AssertionError, RuntimeError), match=said):
        run()


def test_a_test_says_what_it_tests() -> None:
    with pytest.raises(NotImplementedError, match=r"must say in config\(\)"):
        NetworkTests().test_gradient()
