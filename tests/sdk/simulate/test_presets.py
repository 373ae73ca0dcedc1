"""Shipped scans."""

from __future__ import annotations

from itertools import islice

import ismrmrd.xsd
import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.mrd.readouts import Readouts
from scanside.simulate import PRESETS, NoiseConfig, ScanConfig, preset, simulate
from scanside.simulate.phantoms.cardiac import LONG_AXIS

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_start_and_survive_json(name: str) -> None:
    config = preset(name)
    assert ScanConfig.model_validate_json(config.model_dump_json()) == config
    if config.sampling.trajectory is not None:
        pytest.importorskip("finufft", reason="trajectories are simulated by finufft")
    scan = simulate(config)
    header = ismrmrd.xsd.CreateFromDocument(scan.header_xml)
    first = next(iter(scan.items(1)))
    assert isinstance(first, Readouts)
    assert first.samples.shape[1] == config.coils.n_coils
    assert header.encoding[0].encodedSpace.matrixSize.x == 2 * config.geometry.matrix[0]
    if config.sampling.epi is None:  # readouts of an echo train follow each other faster
        assert max(config.dynamics.te_ms) < config.timing.tr_ms


def test_cine_looks_along_the_long_axis_of_the_heart() -> None:
    direction = simulate(preset("cine")).grid.directions.slice
    assert np.abs(direction @ LONG_AXIS) > 0.999


def test_cine_has_other_lines_in_every_frame() -> None:
    config = preset("cine")
    counts = simulate(config.model_copy(update={"noise": NoiseConfig(scan="none")})).items(1)
    blocks = [item for item in islice(counts, 200) if isinstance(item, Readouts)]
    first, second = (
        {
            int(block.headers["idx"]["kspace_encode_step_1"][0])
            for block in blocks
            if block.headers["idx"]["repetition"][0] == repetition
        }
        for repetition in (0, 1)
    )
    assert len(first) == len(second) == round(192 / 5)
    assert first & second >= set(range(91, 102))
    assert first != second


def test_unknown_presets_name_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="there are bench, brain-3d"):
        preset("brian")
