"""What all tests share: the real data, programs written by others, and skips that say why."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import threading
from collections.abc import Generator, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import hypothesis
import pytest

REPO = Path(__file__).resolve().parents[1]
HAS_TORCH = importlib.util.find_spec("torch") is not None

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core. Set before torch and NumPy load; the processes that tests start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if importlib.util.find_spec("setuptools") is not None:
    # Compilers of engines use its distutils, which has to come before anyone imports Python's own.
    importlib.import_module("setuptools")

# pytest-timeout bounds a test; how long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("scanside", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("scanside")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without torch, leave out the modules and folders that hold no test for the torch-free environment.

    They may import torch at their top, so they must not be imported at all.
    """
    is_module = collection_path.match("test_*.py")
    if HAS_TORCH or not (is_module or collection_path.is_dir()):
        return None
    modules = [collection_path] if is_module else collection_path.rglob("test_*.py")
    return None if any("torch_free" in module.read_text("utf-8") for module in modules) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run."""
    for item in items:
        if not HAS_TORCH and item.get_closest_marker("torch_free") is None:
            item.add_marker(pytest.mark.skip(reason="needs torch: pip install 'scanside[torch]'"))
        elif item.get_closest_marker("cuda") and not _cuda_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logs may hold half characters, which a process that shares the tests cannot hand over."""
    from scanside.texts import encodable

    report = yield
    report.sections = [(name, encodable(text)) for name, text in report.sections]
    return report


def _cuda_available() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real scans, which are too large for the repository."""
    folder = Path(os.environ.get("SCANSIDE_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real scans are not at {folder}: set SCANSIDE_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def bart() -> str:
    """Path of BART's program."""
    return _program("bart", "bart")


@pytest.fixture(scope="session")
def ismrmrd_generate() -> str:
    """Path of the ISMRMRD tools' generator of a Cartesian Shepp-Logan scan."""
    return _program("ismrmrd_generate_cartesian_shepp_logan", "ismrmrd-tools")


def _program(name: str, debian_package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"'{name}' is not installed: apt-get install {debian_package}, or make ci-deps")
    return path


@pytest.fixture
def made_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads that factorised columns, one name for each time."""
    from scanside.recon import column_cache
    from scanside.recon.columns import factorise

    threads: list[str] = []

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return factorise(*arguments)

    monkeypatch.setattr(column_cache, "factorise", noted)
    return threads


@pytest.fixture(scope="session")
def learned_bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bundles of networks whose results can be told otherwise, and a cache for their engines.

    ``gradient``: unrolled, 8 steps of ``u ← u − (Aᴴ A u − Aᴴ y)`` from ``Aᴴ y``, times one weight of 1.
    ``smooth``: adds to a CG-SENSE image a quarter of its second difference along the readout.
    ``exact``: unrolled; its form for masks along k1 is ``argmin ‖A x − y‖² + λ ‖x − Aᴴ y‖²`` with λ = 4 noise² within
    0.01 and 1, its principal form the network of ``gradient``.
    """
    import torch

    class Exact(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(
            self, image: torch.Tensor, fitted: torch.Tensor, kept: torch.Tensor, support: torch.Tensor
        ) -> torch.Tensor:
            z = torch.complex(image[:, 0], image[:, 1]).mT[..., None]
            x = torch.complex(fitted[:, 0], fitted[:, 1])
            x = x + (torch.complex(kept[:, 0], kept[:, 1]) @ z)[..., 0].mT
            return torch.stack((x.real, x.imag), 1) * self.weight * support

    class Gradient(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, image: torch.Tensor, maps: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            start = u = torch.complex(image[:, 0], image[:, 1])
            coils = torch.complex(maps[:, :, 0], maps[:, :, 1])
            matrix = torch.complex(p[:, 0], p[:, 1])[:, None]
            for _ in range(8):
                u = u - ((coils.conj() * (matrix @ (coils * u[:, None]))).sum(1) - start)
            return torch.stack((u.real, u.imag), 1) * self.weight

    class Smooth(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([0.25]))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image + self.weight * (image.roll(1, -1) + image.roll(-1, -1) - 2 * image)

    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(2, 32, 32, generator=generator)
    maps = torch.randn(4, 2, 32, 32, generator=generator)
    maps = maps / maps.square().sum((0, 1)).sqrt()
    mask = (torch.arange(32) % 2 == 0).float()[:, None]
    image, coil = ["batch", 2, "k1", "k0"], ["batch", "coil", 2, "k1", "k0"]
    trained = {
        "acceleration": {"low": 1.2, "high": 4},
        "acs_lines": {"low": 6, "high": 30},
        "kinds": ["equispaced"],
        "matrix": {"low": 20, "high": 64},
        "n_coils": {"low": 4, "high": 8},
        "snr": {"low": 5, "high": 1000},
        "anatomy": ["phantom"],
    }
    made: dict[str, dict[str, Any]] = {
        "gradient": {
            "task": "unrolled",
            "module": Gradient(),
            "case": {"truth": truth, "maps": maps, "mask": mask},
            "example": (torch.ones(1, 2, 32, 32), torch.ones(1, 5, 2, 32, 32), torch.ones(1, 2, 32, 32)),
            "inputs": {"image": image, "maps": coil, "p": ["batch", 2, "k1", "k1"]},
            "lowering": "pmatrix",
            "input_image": "adjoint",
            "coils": {"low": 2, "high": 8},
        },
        "smooth": {
            "task": "image",
            "module": Smooth(),
            "case": {"image": 0.9 * truth, "truth": truth},
            "example": (torch.ones(1, 2, 32, 32),),
            "inputs": {"image": image},
            "lowering": "none",
            "input_image": "cg-sense",
            "coils": None,
        },
    }
    exact = {
        "module": Exact(),
        "example": (
            torch.ones(1, 2, 32, 24),
            torch.ones(1, 2, 32, 24),
            torch.ones(1, 2, 24, 32, 32),
            torch.ones(1, 1, 32, 24),
        ),
        "weight": 4.0,
        "smallest": 0.01,
        "largest": 1.0,
    }
    case = {**made["gradient"]["case"], "noise": torch.tensor(0.1)}
    made["exact"] = {**made["gradient"], "case": case, "columns": exact}
    root = tmp_path_factory.mktemp("bundles")
    for name, parts in made.items():
        _write_bundle(root / name, parts, trained)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path_factory.mktemp("engines")))
        patch.setenv("SCANSIDE_ENGINES", str(root))
        yield root


def _trained_alike(folder: Path, parts: dict[str, Any], learned_bundles: Path) -> Path:
    """Write a bundle that is trained for the same scans as the others."""
    sampling = json.loads((learned_bundles / "smooth" / "manifest.json").read_text())["sampling"]
    _write_bundle(folder, parts, sampling)
    return folder


@pytest.fixture(scope="session")
def doubting_bundle(tmp_path_factory: pytest.TempPathFactory, learned_bundles: Path) -> Path:
    """Bundle of a network that gives a CG-SENSE image as it is, and expects errors of a tenth of its magnitude.

    On other scans errors were twice what it expected.
    """
    import torch

    class Doubting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([0.1]))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat((image, self.weight * image.square().sum(1, keepdim=True).sqrt()), 1)

    truth = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    parts = {
        "task": "image",
        "module": Doubting(),
        "case": {"image": 0.9 * truth, "truth": truth},
        "example": (torch.ones(1, 2, 32, 32),),
        "inputs": {"image": ["batch", 2, "k1", "k0"]},
        "others": ({"name": "uncertainty", "axes": ["batch", 1, "k1", "k0"]},),
        "uncertainty": {"factor": 2.0, "correlation": 0.6, "n_images": 8},
        "lowering": "none",
        "input_image": "cg-sense",
        "coils": None,
    }
    return _trained_alike(tmp_path_factory.mktemp("others") / "doubting", parts, learned_bundles)


@pytest.fixture(scope="session")
def told_bundle(tmp_path_factory: pytest.TempPathFactory, learned_bundles: Path) -> Path:
    """Bundle of a network that multiplies a CG-SENSE image with ``R / 4 + 2 ln(TE / 50 ms)``."""
    import torch

    class Told(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

        def forward(self, image: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
            return image * (self.weight * parameters).sum(1)[:, None, None, None]

    truth = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    ranges = {"acceleration": [1.2, 4], "te": [20, 100]}
    parts = {
        "task": "image",
        "module": Told(),
        "case": {"image": 0.9 * truth, "truth": truth, "parameters": torch.tensor([0.5, 0.25])},
        "example": (torch.ones(1, 2, 32, 32), torch.ones(1, 2)),
        "inputs": {"image": ["batch", 2, "k1", "k0"], "parameters": ["batch", 2]},
        "parameters": [
            {"name": name, "trained": {"low": low, "high": high}} for name, (low, high) in ranges.items()
        ],
        "lowering": "none",
        "input_image": "cg-sense",
        "coils": None,
    }
    return _trained_alike(tmp_path_factory.mktemp("others") / "told", parts, learned_bundles)


@pytest.fixture(scope="session")
def film_bundles(tmp_path_factory: pytest.TempPathFactory, learned_bundles: Path) -> Path:
    """Folder with bundles of two networks for windows of 4 frames, whose results can be told otherwise.

    ``film``: 8 steps of ``u ← u − (Aᴴ A u − Aᴴ y)`` for each frame from the mean of all frames' ``Aᴴ y``, times one
    weight of 1.
    ``film-begun``: the low rank plus sparse film that it is given.
    ``film-smooth``: adds to the images ``Aᴴ y`` a quarter of their second difference in time, around a circle.
    """
    import torch

    class Film(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(
            self, image: torch.Tensor, maps: torch.Tensor, noise: torch.Tensor, p: torch.Tensor
        ) -> torch.Tensor:
            start = torch.complex(image[:, 0], image[:, 1])
            coils = torch.complex(maps[:, :, 0], maps[:, :, 1])[:, None]
            matrix = torch.complex(p[:, :, 0], p[:, :, 1])[:, :, None]
            u = start.mean(1, keepdim=True).expand_as(start)
            for _ in range(8):
                u = u - ((coils.conj() * (matrix @ (coils * u[:, :, None]))).sum(2) - start)
            return torch.stack((u.real, u.imag), 1) * self.weight + 0 * noise[..., None]

    class Begun(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(
            self, image: torch.Tensor, maps: torch.Tensor, low_rank_sparse: torch.Tensor
        ) -> torch.Tensor:
            return low_rank_sparse * self.weight + 0 * (image + maps.sum((1, 2))[:, None, None])

    class Smooth(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([0.25]))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image + self.weight * (image.roll(1, 2) + image.roll(-1, 2) - 2 * image)

    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(2, 4, 32, 32, generator=generator)
    maps = torch.randn(4, 2, 32, 32, generator=generator)
    maps = maps / maps.square().sum((0, 1)).sqrt()
    mask = ((torch.arange(32) + torch.arange(4)[:, None]) % 2 == 0).float()[..., None]
    image = ["batch", 2, "time", "k1", "k0"]
    trained = {
        "acceleration": {"low": 1.2, "high": 4},
        "acs_lines": {"low": 6, "high": 30},
        "kinds": ["kt", "variable-density"],
        "matrix": {"low": 20, "high": 64},
        "n_coils": {"low": 4, "high": 8},
        "snr": {"low": 5, "high": 1000},
        "anatomy": ["phantom"],
    }
    example = torch.ones(1, 2, 4, 32, 32)
    film = {
        "task": "dynamic",
        "module": Film(),
        "case": {"truth": truth, "maps": maps, "mask": mask, "noise": torch.tensor(0.01)},
        "example": (
            example,
            torch.ones(1, 5, 2, 32, 32),
            torch.ones(1, 1, 1, 1),
            torch.ones(1, 4, 2, 32, 32),
        ),
        "inputs": {
            "image": image,
            "maps": ["batch", "coil", 2, "k1", "k0"],
            "noise": ["batch", 1, 1, 1],
            "p": ["batch", "time", 2, "k1", "k1"],
        },
        "lowering": "pmatrix",
        "input_image": "adjoint",
        "coils": {"low": 2, "high": 8},
        "frames": 4,
    }
    smooth = {
        "task": "dynamic",
        "module": Smooth(),
        "case": {"image": 0.9 * truth, "truth": truth},
        "example": (example,),
        "inputs": {"image": image},
        "lowering": "none",
        "input_image": "zero-filled",
        "coils": None,
        "frames": 4,
    }
    begun = film | {
        "module": Begun(),
        "example": (example, torch.ones(1, 5, 2, 32, 32), example),
        "inputs": {
            "image": image,
            "maps": ["batch", "coil", 2, "k1", "k0"],
            "low_rank_sparse": image,
        },
    }
    root = tmp_path_factory.mktemp("films")
    _write_bundle(root / "film", film, trained)
    _write_bundle(root / "film-begun", begun, trained)
    _write_bundle(root / "film-smooth", smooth, trained)
    return root


def _write_bundle(folder: Path, parts: dict[str, Any], trained: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import save_file

    from scanside.engines.archive import save_graph
    from scanside.engines.bundle import BundleWriter
    from scanside.engines.graph import dynamic_axes, export_graph
    from scanside.engines.manifest import ColumnsForm
    from scanside.engines.probes import vectors_of
    from scanside.engines.shapes import columns_specs

    dynamic = dynamic_axes(list(parts["inputs"].values()), 2)
    program, weights = export_graph(parts["module"].eval(), parts["example"], dynamic)
    vectors = vectors_of(parts["task"], [parts["case"]], lowering=parts["lowering"])
    shapes = {"multiple_of": 2, "buckets": [[24, 24], [64, 64]], "coils": parts["coils"]}
    columns = None
    with BundleWriter(folder) as writer:
        save_graph(program, writer.path("graph.pt2"))
        if "columns" in parts:
            exact = dict(parts["columns"])
            axes = dynamic_axes([spec.axes for spec in columns_specs()], 2)
            program, _ = export_graph(exact.pop("module").eval(), exact.pop("example"), axes)
            save_graph(program, writer.path("columns.pt2"))
            columns = ColumnsForm(inputs=columns_specs(), graphs={"fp32": "columns.pt2"}, **exact)
        save_file(weights, writer.path("weights.safetensors"))
        save_file(vectors, writer.path("vectors.safetensors"))
        writer.finish(
            name=folder.name,
            version="1.0.0",
            created=datetime(2026, 1, 2, tzinfo=timezone.utc),
            made_with={"torch": torch.__version__},
            description="For tests.",
            task=parts["task"],
            inputs=[{"name": key, "axes": axes} for key, axes in parts["inputs"].items()],
            outputs=[{"name": "image", "axes": parts["inputs"]["image"]}, *parts.get("others", ())],
            uncertainty=parts.get("uncertainty"),
            parameters=parts.get("parameters", ()),
            lowering=parts["lowering"],
            shapes=shapes | {"frames": parts.get("frames")},
            input_image=parts["input_image"],
            graphs={"fp32": "graph.pt2"},
            columns=columns,
            trained_on=[{"name": "nothing", "licence": "CC0", "what": "made up"}],
            sampling=trained,
            n_parameters=1,
        )
