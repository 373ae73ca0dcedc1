"""A small bundle, for the tests of engines and of their commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

BUNDLE_FIELDS: dict[str, Any] = {
    "name": "tiny",
    "version": "1.2.3",
    "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    "made_with": {"scanside": "0.0", "torch": "2.13.0"},
    "description": "Multiplies by one number.",
    "task": "image",
    "inputs": [{"name": "image", "axes": ["batch", 2, "k1", "k0"]}],
    "outputs": [{"name": "image", "axes": ["batch", 2, "k1", "k0"]}],
    "lowering": "none",
    "shapes": {"multiple_of": 8, "buckets": [[64, 64], [128, 96]]},
    "input_image": "zero-filled",
    "graphs": {"fp32": "graph.pt2"},
    "trained_on": [{"name": "nothing", "licence": "CC0", "what": "a number that was made up"}],
    "sampling": {
        "acceleration": {"low": 3, "high": 5},
        "acs_lines": {"low": 16, "high": 32},
        "kinds": ["equispaced", "random"],
        "matrix": {"low": 64, "high": 128},
        "n_coils": {"low": 4, "high": 16},
        "anatomy": ["brain"],
    },
    "metrics": [
        {
            "dataset": "made up",
            "sampling": "R = 4",
            "rows": {"network": {"psnr_db": 30.5}, "zero-filled": {"psnr_db": 25.0, "ssim": 0.5}},
        }
    ],
    "n_parameters": 1,
}


@pytest.fixture(scope="session")
def _made_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from safetensors.torch import save_file

    from scanside.engines.archive import save_graph
    from scanside.engines.bundle import BundleWriter

    class Scale(torch.nn.Module):
        def forward(self, weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
            return image * weights["scale"]

    weights = {"scale": torch.tensor([2.0])}
    sizes = {2: torch.export.Dim("k1", min=2), 3: torch.export.Dim("k0", min=2)}
    image = torch.ones(1, 2, 8, 8)
    program = torch.export.export(Scale(), (weights, image), dynamic_shapes=({"scale": {}}, sizes))
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    with BundleWriter(folder) as writer:
        save_graph(program, writer.path("graph.pt2"))
        save_file(weights, writer.path("weights.safetensors"))
        case = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(1))
        vectors = {"real-0.image": case, "real-0.truth": 2 * case}
        save_file(vectors, writer.path("vectors.safetensors"))
        writer.finish(**BUNDLE_FIELDS)
    return folder


@pytest.fixture
def bundle_folder(_made_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(_made_bundle, tmp_path / "bundles" / "tiny"))


@pytest.fixture(scope="session")
def bundle_fields() -> Callable[..., dict[str, Any]]:
    """Fields of the bundle's manifest but its files, with changes."""
    return lambda **changes: {**BUNDLE_FIELDS, **changes}


@pytest.fixture
def plan_folder(bundle_folder: Path, tmp_path: Path) -> Path:
    """A plan that says that it was made of that bundle, and is none: what a library would read is ``times 2``."""
    return write_plan(tmp_path / "plans", bundle_folder)


@pytest.fixture(scope="session")
def planned() -> Callable[..., Path]:
    """Writes such a plan, with other fields or content."""
    return write_plan


def write_plan(folder: Path, bundle: Path, content: bytes = b"times 2", **changes: Any) -> Path:
    """A plan of a bundle in a folder, under its name; see the fixture ``plan_folder``."""
    from scanside.engines.bundle import Bundle
    from scanside.engines.hashing import file_record
    from scanside.engines.plans import PLAN_FILE, RECORD_FILE, PlanRecord, this_platform

    opened = Bundle.open(bundle)
    draft = folder / ".draft"
    draft.mkdir(parents=True)
    (draft / PLAN_FILE).write_bytes(content)
    shape = changes.get("shape", (64, 64))
    fields: dict[str, Any] = {
        "bundle": opened.name,
        "version": opened.manifest.version,
        "manifest_sha256": opened.sha256,
        "weights_sha256": opened.manifest.weights_sha256,
        "graph_sha256": opened.graph_sha256(),
        "shape": shape,
        "precision": "fp32",
        "inputs": [{"name": "image", "shape": (1, 2, *shape)}],
        "output": (1, 2, *shape),
        "targets": ("8.6", "8.9"),
        "platform": this_platform(),
        "versions": {"torch": "2.13.0", "tensorrt-rtx-cu13-bindings": "1.5.0.114"},
        "layers": 3,
        "build_seconds": 1.5,
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "files": {PLAN_FILE: file_record(draft / PLAN_FILE)},
    }
    record = PlanRecord(**(fields | changes))
    (draft / RECORD_FILE).write_bytes(record.to_bytes())
    return draft.replace(folder / record.name)
