"""What readers say without reading k-space is what they read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets import ScanFile, open_scan_file
from scanside.datasets.calgary_campinas import write_calgary_campinas
from scanside.datasets.cmrxrecon import write_cmrxrecon
from scanside.datasets.fastmri import write_fastmri
from scanside.datasets.m4raw import write_m4raw
from scanside.datasets.skm_tea import write_skm_tea


def test_shapes_and_acquired_samples(tmp_path: Path) -> None:
    coils = coils_of(3, 4, 36, 64) + 1e-3
    rss = np.sqrt((np.abs(coils) ** 2).sum(1))
    cine = tmp_path / "CMRxRecon2024/MultiCoil/Cine/TrainingSet/FullSample/P001/cine_sax.mat"
    flow = tmp_path / "CMRx4DFlow2026/Aorta/TrainSet/Center001/UIH_30T_uMR890/P007/kdata_full.mat"
    write_fastmri(tmp_path / "a.h5", coils, patient="a", image_size=(36, 32), padding=(4, 2))
    write_m4raw(tmp_path / "2022061003_T201.h5", coils, patient="b", columns=(3, 30))
    write_skm_tea(tmp_path / "c.h5", rss[:, None], coils / rss[:, None], acquired_size=(30, 40))
    write_calgary_campinas(tmp_path / "d.h5", coils)
    write_cmrxrecon(cine, coils[None])
    write_cmrxrecon(flow, coils.swapaxes(0, 1)[None])
    formats = set()
    for path in (*tmp_path.glob("*.h5"), *tmp_path.rglob("*.mat")):
        with open_scan_file(path) as file:
            formats.add(file.FORMAT)
            measured = file.measured(file.places[-1])
            assert file.shape == measured.kspace.shape == ScanFile.shape.fget(file)  # type: ignore[attr-defined]
            np.testing.assert_array_equal(file.acquired(file.places[-1]), measured.acquired)
    assert len(formats) == 5
