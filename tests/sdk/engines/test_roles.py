"""What networks are given, by role."""

from __future__ import annotations

import math

import pytest
import torch

from scanside.engines.manifest import Lowering
from scanside.engines.roles import Known, inputs_of, planes
from scanside.engines.shapes import film_specs, unrolled_specs
from scanside.errors import ConfigError
from scanside.recon.consistency import film_sampling_inputs, sampling_inputs
from scanside.recon.film_start import film_start
from scanside.recon.fourier import to_image, to_kspace

B, COILS, TIME, K1, K0 = 2, 3, 4, 8, 6


def complex_noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def masks(*shape: int) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(1)) > 0.5).float()


@pytest.mark.parametrize("lowering", ["fft", "pmatrix", "dft_matmul"])
def test_a_scan_becomes_what_unrolled_networks_take(lowering: Lowering) -> None:
    image, maps, mask = complex_noise(B, K1, K0), complex_noise(B, COILS, K1, K0), masks(B, K1, 1)
    specs = unrolled_specs(lowering)
    known = Known(lowering, image=image, maps=maps, mask=mask, noise=torch.tensor([0.1, 0.2]))
    found = inputs_of((spec.name for spec in specs), known)
    for spec, one in zip(specs, found, strict=True):
        assert one.shape == spec.shape(K1, K0, COILS, batch=B), spec
        assert one.dtype == torch.float32
        assert one.is_contiguous()
    assert torch.equal(torch.complex(found[0][:, 0], found[0][:, 1]), image)
    assert torch.equal(torch.complex(found[1][:, :, 0], found[1][:, :, 1]), maps)
    assert found[2].flatten().tolist() == pytest.approx([0.1, 0.2])
    for one, expected in zip(found[3:], sampling_inputs(lowering, mask), strict=True):
        assert torch.equal(one, expected)


def test_a_mask_over_two_axes_has_a_transform_for_each() -> None:
    mask = masks(1, K1, K0)
    found = inputs_of(("mask", "dft1", "dft0"), Known("dft_matmul", mask=mask))
    assert [tuple(one.shape) for one in found] == [(1, K1, K0), (2, K1, K1), (2, K0, K0)]


def test_a_film_and_what_it_begins_with() -> None:
    image, maps, mask = complex_noise(1, TIME, K1, K0), complex_noise(1, COILS, K1, K0), masks(1, TIME, K1, 1)
    specs = film_specs("fft", "low_rank_sparse")
    known = Known("fft", image=image, maps=maps, mask=mask, noise=torch.tensor([0.1]))
    found = dict(zip((spec.name for spec in specs), inputs_of((s.name for s in specs), known), strict=True))
    for spec in specs:
        assert found[spec.name].shape == spec.shape(K1, K0, COILS, n_frames=TIME), spec
    begun = film_start(image[0], maps[0], mask[0, :, :, 0])
    torch.testing.assert_close(torch.complex(*found["low_rank_sparse"][0]), begun)
    assert torch.equal(found["mask"], film_sampling_inputs("fft", mask)[0])


def test_the_film_is_the_same_from_planes() -> None:
    """As training samples hold it."""
    image, maps, mask = complex_noise(1, TIME, K1, K0), complex_noise(1, COILS, K1, K0), masks(1, TIME, K1, 1)
    known = Known("fft", image=image, maps=maps, mask=mask)
    given = {role: known.tensor(role) for role in ("image", "maps")}
    again = Known("fft", mask=mask, at_hand=given)
    assert torch.equal(known.tensor("low_rank_sparse"), again.tensor("low_rank_sparse"))


def test_what_is_at_hand_is_not_made_and_what_is_solved_is_solved_once() -> None:
    calls = []

    def exact() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        calls.append(1)
        return torch.ones(1), torch.ones(2), torch.ones(3)

    known = Known("columns", exact=exact, at_hand={"image": torch.zeros(5)})
    found = inputs_of(("image", "fitted", "kept", "support"), known)
    assert [len(one) for one in found] == [5, 1, 2, 3]
    assert calls == [1]


def test_numbers_of_the_scan_are_told_in_the_order_of_the_network() -> None:
    mask = torch.zeros(B, K1, 1)
    mask[0, ::2] = 1
    mask[1, ::4] = 1
    sequence = {"te": torch.tensor([50.0, 100.0]), "tr": torch.tensor([1000.0, 500.0])}
    known = Known("none", mask=mask, parameters=("te", "acceleration"), sequence=sequence)  # type: ignore[arg-type]
    (found,) = inputs_of(("parameters",), known)
    torch.testing.assert_close(found, torch.tensor([[0, 0.5], [math.log(2), 1]]))


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            Known("none", parameters=("ti",), sequence={"te": torch.ones(1)}),
            "'ti', which is not known.*are: te",
        ),
        (
            Known("none", parameters=("acceleration",)),
            "'acceleration', which is not known here; known are: none",
        ),
        (Known("none", mask=torch.ones(1, 4, 1)), "not given the role 'parameters'"),
    ],
)
def test_numbers_that_are_not_known_are_not_made_up(known: Known, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        known.tensor("parameters")


@pytest.mark.parametrize("time", [(), (TIME,)])
def test_kspace_of_one_coil_is_what_was_acquired(time: tuple[int, ...]) -> None:
    mask = masks(B, *time, K1, 1)
    acquired = complex_noise(B, *time, K1, K0) * mask
    known = Known("none", image=to_image(acquired), mask=mask > 0)
    found = known.tensor("kspace")
    assert found.shape == (B, 2, *time, K1, K0)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(torch.complex(*found.unbind(1)), acquired)
    assert not bool((found * (mask == 0).unsqueeze(1)).any()), "something where nothing was acquired"
    # What a trainer knows: planes of the image, and the mask as numbers.
    trained = Known("none", mask=mask, at_hand={"image": planes(known.image)})  # type: ignore[arg-type]
    assert torch.equal(trained.tensor("kspace"), found)


def test_kspace_of_combined_coils_is_that_of_their_image_where_it_was_sampled() -> None:
    image, mask = complex_noise(B, K1, K0), masks(B, K1, 1)
    whole = to_kspace(image)
    for sampled, expected in ((None, whole), (mask, whole * mask)):
        found = Known("none", image=image, mask=sampled).tensor("kspace")
        torch.testing.assert_close(torch.complex(*found.unbind(1)), expected)


def test_magnitudes_have_no_kspace() -> None:
    known = Known(
        "none", mask=masks(1, K1, 1), at_hand={"image": torch.ones(1, 1, K1, K0), "roi": torch.ones(1)}
    )
    with pytest.raises(
        ConfigError, match=r"not given the role 'kspace'.*it is given: dft0, dft1, double0, double1, image$"
    ):
        known.tensor("kspace")
