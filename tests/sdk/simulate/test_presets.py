"""Shipped scans."""

from __future__ import annotations

import ismrmrd.xsd
import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.mrd.readouts import Readouts
from scanside.simulate import PRESETS, ScanConfig, preset, simulate
from scanside.simulate.phantoms.cardiac import LONG_AXIS

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_start_and_survive_json(name: str) -> None:
    config = preset(name)
    assert ScanConfig.model_validate_json(config.model_dump_json()) == config
    scan = simulate(config)
    header = ismrmrd.xsd.CreateFromDocument(scan.header_xml)
    first = next(iter(scan.items(1)))
    assert isinstance(first, Readouts)
    assert first.samples.shape[1] == config.coils.n_coils
    assert header.encoding[0].encodedSpace.matrixSize.x == 2 * config.geometry.matrix[0]
    assert max(config.dynamics.te_ms) < config.timing.tr_ms


def test_cine_looks_along_the_long_axis_of_the_heart() -> None:
    direction = simulate(preset("cine")).grid.directions.slice
    assert np.abs(direction @ LONG_AXIS) > 0.999


def test_unknown_presets_name_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="there are bench, brain-3d"):
        preset("brian")
