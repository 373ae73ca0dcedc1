"""Samples obey the equations of the scan that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import sigpy
import sigpy.mri
import torch
from pydantic import ValidationError

from scanside.metrics import psnr
from scanside.recon.scaling import image_scale
from scanside_training.data import (
    AppearanceConfig,
    CoilsConfig,
    Drawn,
    EspiritConfig,
    PlacementConfig,
    SampleShape,
    SimulationConfig,
    draw_shape,
    middle_shape,
    simulate_sample,
)

FULL = {"patterns": ("equispaced",), "acceleration": (1, 1), "acs": (12, 12)}
THIRD = {"patterns": ("equispaced",), "acceleration": (3, 3), "acs": (16, 16)}


def plain(**changes: object) -> SimulationConfig:
    """A small scan with simulated coils and their true maps, of an object as it is, nearly without noise."""
    settings: dict[str, object] = {
        "k1": (96, 96),
        "k0": (112, 112),
        "readout_crop": None,
        "placement": PlacementConfig(transpose=0),
        "appearance": AppearanceConfig(contrast=0, bias=0),
        "coils": CoilsConfig(n_coils=(6, 6), measured=0),
        "snr": (1e7, 1e7),
        "espirit": EspiritConfig(probability=0),
    }
    return SimulationConfig.model_validate(settings | changes)


def sample_of(config: SimulationConfig, head: torch.Tensor, seed: int = 0) -> dict[str, torch.Tensor]:
    shape = draw_shape(config, np.random.default_rng(0))
    return simulate_sample(head, Drawn(config, shape, np.random.default_rng(seed)))


def cplx(pairs: torch.Tensor) -> np.ndarray:
    return np.asarray(torch.complex(pairs.select(-3, 0), pairs.select(-3, 1)))


def normal(image: np.ndarray, maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``Aᴴ A`` by sums of exponentials along k1: no FFT, no shift."""
    n = image.shape[0]
    index = np.arange(n) - n // 2
    dft = np.exp(-2j * np.pi * np.outer(index, index) / n) / np.sqrt(n)
    kspace = mask * (dft @ (maps * image))
    return (maps.conj() * (dft.conj().T @ kspace)).sum(0)


def test_what_a_sample_holds(head: torch.Tensor) -> None:
    sample = sample_of(plain(masks=THIRD, readout_crop=48), head)
    shapes = {name: tuple(tensor.shape) for name, tensor in sample.items()}
    assert shapes == {
        "image": (2, 96, 48),
        "target": (2, 96, 48),
        "maps": (6, 2, 96, 48),
        "mask": (96, 1),
        "roi": (1, 96, 48),
        "scale": (),
        "noise": (),
    }
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in sample.values())
    assert set(sample["mask"].unique().tolist()) == set(sample["roi"].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("espirit", [0, 1])
def test_everything_sampled_without_noise_is_the_target(head: torch.Tensor, espirit: int) -> None:
    sample = sample_of(plain(masks=FULL, espirit={"probability": espirit}), head)
    torch.testing.assert_close(sample["image"], sample["target"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("crop", [None, 48])
@pytest.mark.parametrize("seed", range(3))
def test_input_is_the_normal_operator_on_the_target(head: torch.Tensor, crop: int | None, seed: int) -> None:
    sample = sample_of(plain(masks=THIRD, readout_crop=crop), head, seed)
    image, target, maps = (cplx(sample[name]) for name in ("image", "target", "maps"))
    expected = normal(target, maps, sample["mask"].numpy())
    np.testing.assert_allclose(image, expected, atol=2e-5)
    assert np.abs(image - target).max() > 0.1


def test_sense_of_others_finds_the_target(head: torch.Tensor) -> None:
    sample = sample_of(plain(masks=THIRD), head)
    target, maps = cplx(sample["target"]), cplx(sample["maps"])
    mask = np.broadcast_to(sample["mask"].numpy(), target.shape)
    # As k-space was not kept, it is made anew by sigpy: what counts is that Aᴴ of it is the sample's image.
    kspace = sigpy.fft(maps * target, axes=(-2, -1)) * mask
    operator = sigpy.mri.linop.Sense(maps, weights=mask)
    np.testing.assert_allclose(operator.H * kspace, cplx(sample["image"]), atol=2e-5)
    found = sigpy.mri.app.SenseRecon(kspace, maps, weights=mask, max_iter=200, show_pbar=False).run()
    assert psnr(found, target) > 50


def test_maps_from_calibration_lines_unfold_the_coil_images(head: torch.Tensor) -> None:
    """With estimated maps the equation holds as well as the maps are right."""
    sample = sample_of(plain(masks=THIRD | {"acs": (24, 24)}, espirit={"probability": 1}), head)
    image, target, maps = (cplx(sample[name]) for name in ("image", "target", "maps"))
    difference = image - normal(target, maps, sample["mask"].numpy())
    assert np.linalg.norm(difference) < 0.05 * np.linalg.norm(image)


def test_noise_has_the_level_that_is_told(head: torch.Tensor) -> None:
    config = plain(masks=FULL, snr=(20, 20))
    sample = sample_of(config, head)
    noise = cplx(sample["image"]) - cplx(sample["target"])
    told = float(sample["noise"])
    assert np.std(noise.real) == pytest.approx(told, rel=0.03)
    assert np.std(noise.imag) == pytest.approx(told, rel=0.03)
    bright = float(image_scale(torch.from_numpy(cplx(sample["target"]))))
    assert bright / told == pytest.approx(20, rel=0.05)


def test_signal_to_noise_fills_its_range_evenly_in_logarithms(head: torch.Tensor) -> None:
    config = plain(masks=FULL, snr=(10, 1000), k1=(32, 32), k0=(32, 32))
    drawn = [-np.log10(float(sample_of(config, head, seed)["noise"])) for seed in range(80)]
    assert min(drawn) == pytest.approx(1, abs=0.15)
    assert max(drawn) == pytest.approx(3, abs=0.15)
    assert np.mean(drawn) == pytest.approx(2, abs=0.25)


def test_columns_are_cut_from_the_same_scan(head: torch.Tensor) -> None:
    whole = sample_of(plain(masks=THIRD), head)
    part = sample_of(plain(masks=THIRD, readout_crop=48), head)
    first = [
        first
        for first in range(112 - 48 + 1)
        if torch.equal(whole["target"][..., first : first + 48], part["target"])
    ]
    assert len(first) == 1
    torch.testing.assert_close(whole["image"][..., first[0] : first[0] + 48], part["image"])
    torch.testing.assert_close(whole["scale"], part["scale"])
    assert part["roi"].mean() > 0.2


def test_input_is_scaled_as_at_the_scanner(head: torch.Tensor) -> None:
    sample = sample_of(plain(masks=THIRD), head)
    assert float(image_scale(torch.from_numpy(cplx(sample["image"])))) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("channels", ["magnitude", "complex"])
def test_image_task_with_one_coil(head: torch.Tensor, channels: str) -> None:
    task = {"kind": "image", "channels": channels}
    config = plain(task=task, masks=THIRD, coils={"n_coils": (1, 1)})
    sample = sample_of(config, head)
    assert "maps" not in sample
    assert sample["image"].shape == (1 if channels == "magnitude" else 2, 96, 112)
    unrolled = sample_of(plain(masks=THIRD, coils={"n_coils": (1, 1)}), head)
    for name in ("image", "target"):
        expected = np.abs(cplx(unrolled[name]))[None] if channels == "magnitude" else unrolled[name]
        np.testing.assert_allclose(sample[name], expected, atol=1e-6)


def test_classical_image_as_input_is_nearer_to_the_target(head: torch.Tensor) -> None:
    figures = {}
    for kind in ("zero-filled", "cg-sense"):
        sample = sample_of(plain(task={"kind": "image", "input": kind}, masks=THIRD, snr=(300, 300)), head)
        figures[kind] = psnr(sample["image"][0], sample["target"][0])
    assert figures["cg-sense"] > figures["zero-filled"] + 5


def test_real_slices_and_empty_ones(head: torch.Tensor) -> None:
    empty = sample_of(plain(masks=THIRD, snr=(20, 20), readout_crop=48), torch.zeros(40, 50))
    assert all(tensor.isfinite().all() for tensor in empty.values())
    assert not empty["target"].any()
    assert torch.is_floating_point(head)


def test_shapes_fill_their_ranges_in_steps() -> None:
    config = plain(k1=(90, 130), k0=(112, 128), coils={"n_coils": (2, 5), "measured": 0})
    rng = np.random.default_rng(0)
    shapes = {draw_shape(config, rng) for _ in range(200)}
    assert {shape.k1 for shape in shapes} == {96, 112, 128}
    assert {shape.k0 for shape in shapes} == {112, 128}
    assert {shape.n_coils for shape in shapes} == {2, 3, 4, 5}
    assert middle_shape(config) == SampleShape(3, 112, 128)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"k1": (97, 100)}, "no multiple of 16"),
        ({"readout_crop": 50}, "multiple of 16"),
        ({"readout_crop": 128}, "not larger than k0"),
        ({"masks": {"acs": (8, 24)}, "espirit": {"probability": 0.5}}, "needs 11 lines"),
        ({"masks": {"pairs": ((0.08, 4), (0.04, 8))}, "espirit": {"probability": 0.5}}, "needs 11 lines"),
        ({"snr": (0, 10)}, "positive"),
        ({"snrr": (5, 10)}, "snrr"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        plain(**settings)
