"""A little scan whose every line is told apart by its samples, and a way to run a stage on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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
