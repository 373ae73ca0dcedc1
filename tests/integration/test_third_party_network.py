"""Someone else's network, loss and source: a package of its own, trained, exported, and used in the stream.

No file of Scanside is changed for it.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FILES = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "disc-network"
        version = "0.1"

        [project.entry-points."scanside.networks"]
        residual = "disc_network:ResidualConfig"

        [project.entry-points."scanside.losses"]
        charbonnier-root = "disc_network:RootConfig"

        [project.entry-points."scanside.sources"]
        discs = "disc_network:Discs"
    """,
    "disc_network.py": '''
        from typing import Literal

        import numpy as np
        import torch
        from scanside.engines.manifest import TensorSpec
        from scanside_training.data.sources import GeneratedSource
        from scanside_training.losses import Term, TermConfig, magnitude
        from scanside_training.models import Body, Network, NetworkConfig


        class ResidualConfig(NetworkConfig):
            """A few convolutions.

            Attributes:
                channels: features.
            """

            kind: Literal["residual"] = "residual"
            channels: int = 8

            @property
            def multiple_of(self):
                return 2

            def build(self):
                return Residual(self)


        class Convolutions(Body):
            def __init__(self, channels):
                super().__init__()
                self.first = torch.nn.Conv2d(2, channels, 3, padding=1, bias=False)
                self.last = torch.nn.Conv2d(channels, 2, 3, padding=1, bias=False)

            def forward(self, x):
                return self.last(torch.relu(self.first(x.to(self.first.weight.dtype)))).float()


        class Residual(Network):
            task = "image"

            def __init__(self, config):
                super().__init__(config)
                self.body = Convolutions(config.channels)

            def offered(self):
                return (TensorSpec(name="image", axes=("batch", 2, "k1", "k0")),)

            def forward(self, image):
                return image + self.body(image)


        class RootConfig(TermConfig):
            """Root of the squared error and a little more (Charbonnier et al., ICIP 1994).

            Attributes:
                epsilon: the little more.
            """

            kind: Literal["charbonnier-root"] = "charbonnier-root"
            epsilon: float = 1e-3

            def build(self, network_of):
                return Root(self)


        class Root(Term):
            def __init__(self, config):
                super().__init__()
                self.epsilon = config.epsilon

            def forward(self, output, target, batch):
                return (magnitude(output - target) ** 2 + self.epsilon**2).sqrt()


        class Discs(GeneratedSource):
            """Discs."""

            kind: Literal["discs"] = "discs"
            size: int = 64
            """Edge of the slices in pixels."""

            def draw(self, rng):
                y, x = np.mgrid[-1 : 1 : self.size * 1j, -1 : 1 : self.size * 1j]
                slices = []
                for _ in range(2):
                    radius, a, b = rng.uniform(0.2, 0.5), *rng.uniform(-0.3, 0.3, 2)
                    disc = ((y - a) ** 2 + (x - b) ** 2 < radius**2) + 0.5 * (y**2 + x**2 < 0.6)
                    slices.append(disc.astype(np.float32))
                return slices
    ''',
    "train.yaml": """
        name: discs
        model: {kind: residual, channels: 6}
        loss: {terms: [{kind: charbonnier-root, epsilon: 0.01}]}
        data:
          sources: [{kind: discs, n_subjects: 20}]
          simulation:
            task: {kind: image, channels: complex}
            k1: [48, 64]
            k0: [48, 64]
            readout_crop: null
            coils: {n_coils: [4, 4], measured: 0}
            masks: {acceleration: [2, 3], acs: [11, 12]}
            espirit: {probability: 0}
          samples_per_epoch: 40
          validation_samples: 3
        max_steps: 30
        accelerator: cpu
    """,
    "test_residual.py": """
        from scanside.testing import NetworkTests
        from disc_network import ResidualConfig

        class TestResidual(NetworkTests):
            def config(self):
                return ResidualConfig(channels=3)
    """,
    "pipeline.yaml": """
        name: discs
        stages:
          - noise
          - oversampling
          - accumulate
          - coil-maps
          - engine: {bundle: bundles/discs, backend: eager, precision: fp32}
          - finish
    """,
}
SCAN = [
    "geometry.matrix=[60, 58, 1]", "coils.n_coils=4", "sampling.acceleration=[2, 1]", "sampling.acs=[12, 0]",
    "phantom.kind=shepp-logan", "phantom.supersampling=[1, 1, 1]", "noise.std=0.002",
]  # fmt: skip
RUN = """
from scanside.replay import replay
(image,) = replay("scan.h5", "pipeline.yaml", device="cpu").images
print(image.data.shape, float(abs(image.data).max()) > 0, *image.meta["ScansideBackend"][:2], *sorted(image.meta))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's folder, with the package installed in its subfolder ``site``."""
    installed = {one.name for one in importlib.metadata.distributions()}
    if not {"pip", "hatchling"} <= installed:
        pytest.skip("installing a package from its source needs pip and hatchling")
    folder = tmp_path_factory.mktemp("disc-network")
    for name, text in FILES.items():
        lines = text.strip("\n").splitlines()
        (folder / name).write_text("\n".join(line[8:] for line in lines) + "\n", encoding="utf-8")
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    python(folder, *pip, "--no-index", "--no-deps", "--no-build-isolation", "--target", "site", ".")
    (folder / "disc_network.py").unlink()  # what is imported below is the installed one
    return folder


def python(project: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(project / "site"), os.environ.get("PYTHONPATH")))),
        "SCANSIDE_CACHE": str(project / "slices"),
        "SCANSIDE_ENGINE_CACHE": str(project / "engines"),
    }
    run = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_it_can_be_certified(project: Path) -> None:
    assert "passed" in python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_residual.py")


def test_it_is_trained_and_makes_images_of_the_stream(project: Path) -> None:
    python(project, "-m", "scanside", "train", "train.yaml", "-o", "run", "--threads", "1")
    python(
        project, "-m", "scanside", "engines", "build", "run", "-o", "bundles/discs", "--anatomy", "phantom",
        "--bucket", "64x64", "--backend", "eager",
    )  # fmt: skip
    settings = [part for one in SCAN for part in ("--set", one)]
    python(project, "-m", "scanside", "simulate", "-o", "scan.h5", *settings)
    made = python(project, "-c", RUN)
    assert made.startswith("torch.Size([1, 1, 58, 60]) True eager fp32"), made
    assert "ScansideFallback" not in made
