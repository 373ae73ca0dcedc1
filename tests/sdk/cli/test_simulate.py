"""`scanside simulate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import Result

from scanside.mrd.hdf5 import Hdf5Reader
from scanside.mrd.header import MrdHeader
from scanside.simulate import PRESETS, ScanConfig, Truth, preset, simulate

Scanside = Callable[..., Result]

QUICK = (
    "--set",
    "phantom.kind=shepp-logan",
    "--set",
    "geometry.matrix=[16, 16, 1]",
    "--set",
    "coils.n_coils=3",
)


def test_file_holds_the_scan(small_scan: Path) -> None:
    config = ScanConfig.model_validate(yaml.safe_load((small_scan.parent / "small.yaml").read_text()))
    scan = simulate(config)
    expected = list(scan.items())
    with Hdf5Reader(small_scan) as reader:
        assert reader.header_xml == scan.header_xml
        found = list(reader.blocks())
    np.testing.assert_array_equal(
        np.concatenate([block.headers for block in found]),
        np.concatenate([block.headers for block in expected]),
    )
    truth = Truth.load(small_scan.parent / "truth.npz")
    np.testing.assert_array_equal(truth.images, scan.truth.images)


def test_presets_are_listed(scanside: Scanside) -> None:
    text = scanside("simulate", "--list").stdout
    assert [name for name in PRESETS if name not in text] == []


def test_settings_replace_the_presets(scanside: Scanside, tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("coils: {n_coils: 5}\nname: from-file\n")
    shown = scanside(
        "simulate", "--preset", "cine", "--config", file, "--set", "coils.n_coils=7", "--show"
    ).stdout
    config = ScanConfig.model_validate(yaml.safe_load(shown))
    assert config.coils.n_coils == 7
    assert config.name == "from-file"
    assert config.dynamics == preset("cine").dynamics


def test_separate_noise_scan(scanside: Scanside, tmp_path: Path) -> None:
    arguments = ("simulate", *QUICK, "--set", "noise.scan=separate", "-o", tmp_path / "a" / "scan.h5")
    assert "--noise" in scanside(*arguments, status=1).stderr
    scanside(*arguments, "--noise", tmp_path / "b" / "noise.h5")
    with Hdf5Reader(tmp_path / "a" / "scan.h5") as scan, Hdf5Reader(tmp_path / "b" / "noise.h5") as noise:
        header, noise_header = MrdHeader.parse(scan.header_xml), MrdHeader.parse(noise.header_xml)
        assert noise.n_readouts == 16
    assert header.depends_on("Noise") == (noise_header.measurement_id,)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "--preset NAME"),
        (("--preset", "cine"), 2, "--output"),
        (("--set", "coils.coils=3", "-o", "x.h5"), 1, "coils.coils"),
        (("--set", "coils=3", "--set", "coils.n_coils=3", "-o", "x.h5"), 2, "coils has a value already"),
        (("--set", "coils.n_coils", "-o", "x.h5"), 2, "expected name=value"),
        (("--set", "name=a", "--set", "name=b", "-o", "x.h5"), 2, "given twice"),
        (("--set", "name=[", "-o", "x.h5"), 2, "not valid YAML"),
        (("--preset", "bench", "--noise", "n.h5", "-o", "x.h5"), 1, "noise.scan=separate"),
    ],
)
def test_wrong_use(
    scanside: Scanside,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in scanside("simulate", *arguments, status=status).stderr
    assert list(tmp_path.iterdir()) == []
