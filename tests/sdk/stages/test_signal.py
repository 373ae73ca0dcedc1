"""What of a scan's signal decides how well it can be reconstructed."""

from __future__ import annotations

from typing import Any

import pytest

from scanside.recon.fourier import to_image
from scanside.recon.scaling import image_scale
from scanside.simulate import CoilConfig, NoiseConfig, SamplingConfig
from scanside.stages._signal import acquired_band, energy_beyond, noise_of, snr_of

EMBEDDED = SamplingConfig(acceleration=(3, 1), acs=(20, 0))
RANDOM = SamplingConfig(pattern="random", acceleration=(3, 1), acs=(16, 0))
REGULAR = SamplingConfig(acceleration=(3, 1))


@pytest.mark.parametrize("sampling", [SamplingConfig(), EMBEDDED, RANDOM, REGULAR])
@pytest.mark.parametrize("std", [0.01, 0.05, 0.2])
def test_snr_is_that_of_the_simulation(accumulated: Any, sampling: SamplingConfig, std: float) -> None:
    """Bright tissue of the image without noise over the noise that was added, within the factor that is claimed."""
    noise = NoiseConfig(std=std, neighbour_correlation=0.0, spread=0.0, scan="none")
    coils = CoilConfig(n_coils=8)
    _, (clean,), _ = accumulated((96, 90, 1), coils=coils)
    _, (item,), _ = accumulated((96, 90, 1), coils=coils, sampling=sampling, noise=noise)
    level = float(noise_of(item.data, item.mask, None))
    wanted = float(image_scale(to_image(clean.data[:, 0], (-2, -1)).norm(dim=0))) / level
    found = snr_of(item, level)
    assert found is not None
    assert wanted / 2 < found < wanted * 2


def test_energy_beyond_the_band(accumulated: Any) -> None:
    """Of a scan that had acquired all, what lies beyond is known: the estimate is of that size."""
    _, (item,), _ = accumulated((96, 90, 1), coils=CoilConfig(n_coils=8))
    for reach in (15, 25, 35):
        band = (45 - reach, 45 + reach)
        mask = item.mask.clone()
        mask[:, : band[0]] = mask[:, band[1] + 1 :] = False
        inner = item.replace(mask=mask, data=item.data * mask[..., None])
        beyond = float((item.data - inner.data).norm() ** 2 / item.data.norm() ** 2)
        found = energy_beyond(inner, band, 0.0)
        assert beyond / 2 < found < 4 * beyond, reach
    assert acquired_band(item) == acquired_band(inner) == (0, 89), "of the header's limits"
