"""Whole scans through whole pipelines, without a transport."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside import Context, Image, Item, KSpace, Pipeline, Scan
from scanside.execution import execute


@dataclass(frozen=True)
class Reconstruction:
    """What came out of a pipeline, and what the operator was told."""

    items: list[Item]
    scan: Scan

    @property
    def images(self) -> list[Image]:
        return [item for item in self.items if isinstance(item, Image)]

    @property
    def kspaces(self) -> list[KSpace]:
        return [item for item in self.items if isinstance(item, KSpace)]

    def voxels(self, i: int = 0) -> npt.NDArray[Any]:
        """Image i without its channel axis, ``(z, y, x)``."""
        array: npt.NDArray[Any] = self.images[i].data[0].cpu().numpy()
        return array


Reconstruct = Callable[..., Reconstruction]
Command = Callable[..., str]


@pytest.fixture(scope="session")
def scanside() -> Command:
    """Runs a command, which must succeed, and gives what it printed."""
    from typer.testing import CliRunner

    from scanside.cli.app import app

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, f"{result.stdout}\n{result.stderr}"
        return result.stdout

    return run


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of networks that commands train and build; bundles are found in ``bundles``."""
    import torch

    root = tmp_path_factory.mktemp("workshop")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        patch.setenv("SCANSIDE_CACHE", str(root / "slices"))
        patch.setenv("SCANSIDE_ENGINE_CACHE", str(root / "engines"))
        patch.setenv("SCANSIDE_ENGINES", str(root / "bundles"))
        yield root
    torch.set_num_threads(threads)


@pytest.fixture
def reconstruct() -> Reconstruct:
    """Run a scan, given as header and items, through a pipeline: a shipped one by name, or a list of stages."""

    def run(
        pipeline: str | list[Any],
        header_xml: bytes | str,
        items: Iterable[Item],
        settings: Mapping[str, Any] | None = None,
        context: Context | None = None,
    ) -> Reconstruction:
        document = {"name": "test", "stages": pipeline}
        loaded = (
            Pipeline.load(pipeline, settings)
            if isinstance(pipeline, str)
            else Pipeline.from_config(document, settings)
        )
        loaded.prepare(context or Context(device="cpu"))
        scan = Scan.from_xml(header_xml)
        out: list[Item] = []
        with loaded.open(scan) as opened:
            execute(opened, items, out.append)
        return Reconstruction(out, scan)

    return run


@pytest.fixture(scope="session")
def nrmse() -> Callable[..., float]:
    """Root mean square difference relative to the reference, after the best scalar fit (real or complex)."""

    def measure(image: npt.ArrayLike, reference: npt.ArrayLike, *, fit: bool = True) -> float:
        a, b = np.asarray(image).ravel(), np.asarray(reference).ravel()
        a, b = (x.astype(np.complex128 if np.iscomplexobj(x) else np.float64) for x in (a, b))
        scale = np.vdot(a, b) / np.vdot(a, a).real if fit else 1.0
        return float(np.linalg.norm(scale * a - b) / np.linalg.norm(b))

    return measure
