"""A little scan whose every line is told apart by its samples, and a way to run a stage on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside import Context, Item, Readouts, Scan, ScanEnd, Stage
from scanside.items import Calibration
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.header import Limit

_LIMIT_NAMES = {
    "kspace_encode_step_1": "kspace_encoding_step_1",
    "kspace_encode_step_2": "kspace_encoding_step_2",
}


def header_xml(
    matrix: tuple[int, int, int] = (16, 12, 1),
    recon: tuple[int, int, int] | None = None,
    *,
    limits: Mapping[str, Limit] | None = None,
    acceleration: tuple[int, int] = (1, 1),
    calibration: str | None = None,
    trajectory: str = "cartesian",
    measurement: str = "",
    system: str = "",
    n_encodings: int = 1,
) -> str:
    """A scan's header with voxels of 1 mm; the reconstructed matrix defaults to the encoded one."""

    def space(name: str, size: tuple[int, int, int]) -> str:
        x, y, z = size
        return (
            f"<{name}><matrixSize><x>{x}</x><y>{y}</y><z>{z}</z></matrixSize>"
            f"<fieldOfView_mm><x>{x}</x><y>{y}</y><z>{z}</z></fieldOfView_mm></{name}>"
        )

    told = "".join(
        f"<{_LIMIT_NAMES.get(name, name)}><minimum>{limit.minimum}</minimum><maximum>{limit.maximum}</maximum>"
        f"<center>{limit.center}</center></{_LIMIT_NAMES.get(name, name)}>"
        for name, limit in (limits or {}).items()
    )
    parallel = ""
    if acceleration != (1, 1) or calibration:
        mode = f"<calibrationMode>{calibration}</calibrationMode>" if calibration else ""
        parallel = (
            "<parallelImaging><accelerationFactor>"
            f"<kspace_encoding_step_1>{acceleration[0]}</kspace_encoding_step_1>"
            f"<kspace_encoding_step_2>{acceleration[1]}</kspace_encoding_step_2>"
            f"</accelerationFactor>{mode}</parallelImaging>"
        )
    encoding = (
        f"<encoding>{space('encodedSpace', matrix)}{space('reconSpace', recon or matrix)}"
        f"<encodingLimits>{told}</encodingLimits><trajectory>{trajectory}</trajectory>{parallel}</encoding>"
    )
    return (
        '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"<measurementInformation>{measurement}</measurementInformation>"
        f"<acquisitionSystemInformation>{system}</acquisitionSystemInformation>"
        f"{encoding * n_encodings}</ismrmrdHeader>"
    )


@dataclass
class Lines:
    """Makes readouts; scan counters go on from one call to the next, and every sample is another number."""

    n_coils: int = 2
    n_samples: int = 16
    _counter: int = 0

    def __call__(
        self,
        k1: Iterable[int],
        *,
        k2: int | Iterable[int] = 0,
        flags: int = 0,
        last: int = 0,
        first: int = 0,
        center: int | None = None,
        **fields: Any,
    ) -> Readouts:
        """A block of lines.

        Args:
            k1: their counters.
            k2: partition counters.
            flags: of all of them.
            last: further flags of the last one.
            first: further flags of the first one.
            center: index of the sample at the echo.
            fields: of the header or, by their names, counters.
        """
        k1 = list(k1)
        headers = Readouts.empty_headers(len(k1))
        headers["idx"]["kspace_encode_step_1"] = k1
        headers["idx"]["kspace_encode_step_2"] = k2
        headers["flags"] = int(flags)
        headers["flags"][-1] |= np.uint64(int(last))
        headers["flags"][0] |= np.uint64(int(first))
        headers["scan_counter"] = self._counter + np.arange(len(k1))
        headers["acquisition_time_stamp"] = 100 + headers["scan_counter"]
        self._counter += len(k1)
        headers["center_sample"] = self.n_samples // 2 if center is None else center
        headers["number_of_samples"] = self.n_samples
        headers["active_channels"] = self.n_coils
        headers["sample_time_us"] = 5.0
        for axis, name in enumerate(("read_dir", "phase_dir", "slice_dir")):
            headers[name] = np.eye(3)[axis]
        for name, value in fields.items():
            (headers["idx"] if name in headers["idx"].dtype.names else headers)[name] = value
        shape = (len(k1), self.n_coils, self.n_samples)
        generator = np.random.default_rng(int(headers["scan_counter"][0]))
        samples = generator.standard_normal((*shape, 2)).astype(np.float32).view(np.complex64)[..., 0]
        return Readouts(headers, samples)

    def lose(self, n: int = 1) -> None:
        """Readouts get lost: their scan counters are used up."""
        self._counter += n


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def make_lines() -> type[Lines]:
    return Lines


@pytest.fixture
def make_header() -> Callable[..., str]:
    return header_xml


@dataclass
class Ran:
    """What a stage gave, and the scan that it ran for; calibration items, as they never leave a pipeline, apart."""

    items: list[Any]
    scan: Scan
    calibrations: list[Calibration]

    @property
    def one(self) -> Any:
        (item,) = self.items
        return item


@pytest.fixture
def run_stage() -> Callable[..., Ran]:
    """Run one stage over the items of a scan."""

    def run(
        stage: Stage[Any, Any],
        xml: str,
        items: Iterable[Item],
        *,
        end: ScanEnd | None = None,
        context: Context | None = None,
    ) -> Ran:
        scan = Scan.from_xml(xml)
        stage.prepare(context or Context(device="cpu"))
        stage.open(scan)
        out: list[Any] = []
        try:
            for item in items:
                out += stage.process(item)
            out += stage.finish(end or ScanEnd())
        finally:
            stage.close()
        apart = [item for item in out if isinstance(item, Calibration)]
        return Ran([item for item in out if not isinstance(item, Calibration)], scan, apart)

    return run


@pytest.fixture
def flag() -> type[AcquisitionFlag]:
    return AcquisitionFlag


@pytest.fixture
def accumulated() -> Callable[..., tuple[Any, list[Any], Scan]]:
    """The k-spaces of a small simulated scan without noise, oversampling removed: scan, items, and the `Scan`."""
    from scanside import Pipeline
    from scanside.execution import execute
    from scanside.simulate import CoilConfig, GeometryConfig, NoiseConfig, ScanConfig, simulate

    def make(matrix: tuple[int, int, int] = (40, 36, 1), *, settings: Any = None, **parts: Any) -> Any:
        fov = (240.0, 216.0, 6.0 if matrix[2] == 1 else 12.0 * matrix[2])
        geometry = GeometryConfig(matrix=matrix, fov_mm=fov, offset_mm=(0.0, 0.0, 16.0))
        defaults = {
            "geometry": geometry,
            "coils": CoilConfig(n_coils=6),
            "noise": NoiseConfig(std=0.0, scan="none"),
        }
        simulated = simulate(ScanConfig(**{**defaults, **parts}))
        document = {"name": "test", "stages": ["oversampling", {"accumulate": settings or {}}]}
        pipeline, scan = Pipeline.from_config(document), Scan.from_xml(simulated.header_xml)
        pipeline.prepare(Context(device="cpu"))
        items: list[Any] = []
        with pipeline.open(scan) as run:
            execute(run, simulated.items(), items.append)
        return simulated, items, scan

    return make


STEPS = 8
"""Gradient steps of the unrolled test network."""


@pytest.fixture(scope="session")
def learned_bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bundles of two networks whose results can be told otherwise, and a cache for their engines.

    ``gradient``: unrolled, `STEPS` steps of ``u ← u − (Aᴴ A u − Aᴴ y)`` from ``Aᴴ y``, times one weight of 1.
    ``smooth``: adds to a CG-SENSE image a quarter of its second difference along the readout.
    """
    import torch
    from safetensors.torch import save_file

    from scanside.engines.archive import save_graph
    from scanside.engines.bundle import BundleWriter
    from scanside.engines.graph import dynamic_axes, export_graph
    from scanside.engines.probes import vectors_of

    class Gradient(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, image: torch.Tensor, maps: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            start = u = torch.complex(image[:, 0], image[:, 1])
            coils = torch.complex(maps[:, :, 0], maps[:, :, 1])
            matrix = torch.complex(p[:, 0], p[:, 1])[:, None]
            for _ in range(STEPS):
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
    root = tmp_path_factory.mktemp("bundles")
    for name, parts in made.items():
        shapes = dynamic_axes(list(parts["inputs"].values()), 2)
        program, weights = export_graph(parts["module"].eval(), parts["example"], shapes)
        with BundleWriter(root / name) as writer:
            save_graph(program, writer.path("graph.pt2"))
            save_file(weights, writer.path("weights.safetensors"))
            save_file(vectors_of(parts["task"], [parts["case"]]), writer.path("vectors.safetensors"))
            writer.finish(
                name=name,
                version="1.0.0",
                created=datetime(2026, 1, 2, tzinfo=timezone.utc),
                made_with={"torch": torch.__version__},
                description="For tests.",
                task=parts["task"],
                inputs=[{"name": key, "axes": axes} for key, axes in parts["inputs"].items()],
                outputs=[{"name": "image", "axes": image}],
                lowering=parts["lowering"],
                shapes={"multiple_of": 2, "buckets": [[24, 24], [64, 64]], "coils": parts["coils"]},
                input_image=parts["input_image"],
                graphs={"fp32": "graph.pt2"},
                trained_on=[{"name": "nothing", "licence": "CC0", "what": "made up"}],
                sampling=trained,
                n_parameters=1,
            )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path_factory.mktemp("engines")))
        patch.setenv("SCANSIDE_ENGINES", str(root))
        yield root
