"""Inputs on which engines are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from scanside.engines import probes as probes_module
from scanside.engines.backends.base import InputShape
from scanside.engines.backends.eager import Eager
from scanside.engines.check import CHECK_FILE, read_check, write_check
from scanside.engines.columns import column_weight
from scanside.engines.gate import Reference
from scanside.engines.graph import GraphSource
from scanside.engines.manifest import ColumnsForm, Lowering
from scanside.engines.probes import Network, each_probe, make_probes, read_cases, vectors_of
from scanside.engines.shapes import columns_specs, film_specs, unrolled_specs
from scanside.errors import BundleError
from scanside.recon.fourier import to_kspace

GENERATOR = torch.Generator().manual_seed(0)
TRUTH = torch.randn(2, 40, 36, generator=GENERATOR)
MAPS = torch.randn(6, 2, 40, 36, generator=GENERATOR)
MASK = (torch.arange(40) % 4 == 0).float()[:, None]
_NOISE = {"noiseless": 0.0, "noisy": 5.0}
UNROLLED_CASE = {"truth": TRUTH, "maps": MAPS, "mask": MASK}


def unrolled(lowering: str, size: tuple[int, int], n_coils: int, sampling: InputShape) -> Network:
    image = InputShape("image", (1, 2, *size))
    return Network("unrolled", lowering, (image, InputShape("maps", (1, n_coils, 2, *size)), sampling))


def test_vectors_are_small_and_hold_what_is_needed() -> None:
    vectors = vectors_of("unrolled", [UNROLLED_CASE, UNROLLED_CASE], size=32, n_coils=4)
    assert {name: tuple(tensor.shape) for name, tensor in vectors.items() if name.startswith("real-1")} == {
        "real-1.truth": (2, 32, 32),
        "real-1.maps": (4, 2, 32, 32),
        "real-1.mask": (32, 1),
    }
    power = vectors["real-0.maps"].square().sum((0, 1))
    torch.testing.assert_close(power, torch.ones_like(power))
    assert torch.equal(vectors["real-0.truth"][:, 16, 16], TRUTH[:, 20, 18]), "the centre moved"


@pytest.mark.parametrize(("size", "n_coils"), [((32, 32), 4), ((24, 48), 3), ((64, 40), 10)])
def test_unrolled_inputs_are_consistent_with_the_truth(size: tuple[int, int], n_coils: int) -> None:
    """With all samples and normalised maps, ``Aᴴ A`` is the identity: the probe's image is its truth."""
    cases = read_cases("unrolled", vectors_of("unrolled", [UNROLLED_CASE], size=32, n_coils=4))
    network = unrolled("fft", size, n_coils, InputShape("mask", (1, size[0], 1)))
    probes = {probe.name: probe for probe in make_probes(network, cases)}
    for probe in probes.values():
        assert [tuple(one.shape) for one in probe.inputs] == [spec.shape for spec in network.inputs]
        assert all(one.is_contiguous() and one.dtype == torch.float32 for one in probe.inputs)
    real, full = probes["real-0"], probes["mask-full"]
    assert real.truth is not None
    torch.testing.assert_close(full.inputs[0][0], real.truth, atol=1e-5, rtol=0)
    assert not torch.allclose(real.inputs[0][0], real.truth, atol=0.1), "nothing was undersampled"
    assert not bool(probes["coil-dead"].inputs[1][0, 0].any())
    assert not bool(probes["zeros"].inputs[0].any())


FORM = ColumnsForm(inputs=columns_specs(), graphs={"fp32": "x"}, weight=40, smallest=2e-3, largest=1)


@pytest.mark.parametrize("size", [(32, 32), (24, 48)])
def test_probes_of_the_exact_form_are_the_same_scans(size: tuple[int, int]) -> None:
    """``K z = z − (N + λ)⁻¹ N z``, and ``fitted`` solves the scan's normal equations."""
    case = {**UNROLLED_CASE, "noise": torch.tensor(0.05)}
    cases = read_cases("unrolled", vectors_of("unrolled", [case], size=32, n_coils=4))
    shapes = tuple(InputShape(spec.name, spec.shape(*size)) for spec in columns_specs())
    probes = {probe.name: probe for probe in make_probes(Network("unrolled", "columns", shapes, FORM), cases)}
    twins = unrolled("pmatrix", size, 4, InputShape("p", (1, 2, size[0], size[0])))
    for twin in make_probes(twins, cases):
        if twin.name in ("zeros", "weak", "strong", "noise"):
            continue
        image, fitted, kept, support = probes[twin.name].inputs
        assert [tuple(one.shape) for one in probes[twin.name].inputs] == [spec.shape for spec in shapes]
        maps, p = (torch.complex(*one[0].unbind(-3)) for one in twin.inputs[1:])
        assert torch.equal(support[0, 0] > 0, maps.abs().sum(0) > 0)
        noise = _NOISE.get(twin.name, 0.05)
        weight = column_weight(FORM, noise)
        x = torch.complex(*fitted[0])
        residual = (maps.conj() * (p @ (maps * x))).sum(0) + weight * x - torch.complex(*image[0])
        assert float(residual.norm() / image.norm()) < 1e-4, twin.name
        z = torch.randn(size, dtype=torch.complex64, generator=GENERATOR)
        k_z = (torch.complex(*kept[0]) @ z.mT.unsqueeze(-1))[..., 0].mT
        back = (maps.conj() * (p @ (maps * k_z))).sum(0) / weight + k_z
        assert float((back - z).norm() / z.norm()) < 1e-3, twin.name
    assert not bool(probes["zeros"].inputs[1].any())
    torch.testing.assert_close(probes["strong"].inputs[1], 1e5 * probes["real-0"].inputs[1])


def test_large_probes_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the exact form at 512 × 512 would take 12 GB; they are made again, the same ones."""
    case = {**UNROLLED_CASE, "noise": torch.tensor(0.05)}
    cases = read_cases("unrolled", vectors_of("unrolled", [case], size=32, n_coils=4))
    shapes = tuple(InputShape(spec.name, spec.shape(32, 32)) for spec in columns_specs())
    network = Network("unrolled", "columns", shapes, FORM)
    kept = each_probe(network, cases)
    assert isinstance(kept, list)
    monkeypatch.setattr(probes_module, "_MOST_KEPT_BYTES", 2**10)
    again = each_probe(network, cases)
    assert not isinstance(again, list)
    for _ in range(2):
        for one, other in zip(again, kept, strict=True):
            assert one.name == other.name
            assert one is not other
            assert all(map(torch.equal, one.inputs, other.inputs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Eager, "load", lambda *_: lambda *inputs: inputs[0])
        reference = Reference.compute(GraphSource(shapes, {}, {}), again)
    assert reference.first.name == "real-0"
    assert reference.stored[0].name == "one-column"
    assert len(reference.outputs) == len(kept)


def test_a_probe_of_the_exact_form_is_small_in_a_file(tmp_path: Path) -> None:
    case = {**UNROLLED_CASE, "noise": torch.tensor(0.05)}
    cases = read_cases("unrolled", vectors_of("unrolled", [case], size=32, n_coils=4))
    shapes = tuple(InputShape(spec.name, spec.shape(64, 64)) for spec in columns_specs())
    probes = make_probes(Network("unrolled", "columns", shapes, FORM), cases)
    (small,) = (probe for probe in probes if probe.repeats)
    expected = torch.randn(1, 2, 64, 64, generator=GENERATOR)
    write_check(tmp_path, [spec.name for spec in shapes], small.inputs, expected, small.repeats)
    stored = read_check(tmp_path)
    assert stored.shapes == shapes
    assert all(torch.equal(one, other) for one, other in zip(stored.inputs, small.inputs, strict=True))
    assert all(one.is_contiguous() for one in stored.inputs)
    assert (tmp_path / CHECK_FILE).stat().st_size < small.inputs[2].nbytes / 8


def test_pmatrix_probes_are_the_same_scan() -> None:
    """``P (S x)`` summed over the coils is the image that the Fourier transforms gave."""
    cases = read_cases("unrolled", vectors_of("unrolled", [UNROLLED_CASE], size=32, n_coils=4))
    network = unrolled("pmatrix", (32, 32), 4, InputShape("p", (1, 2, 32, 32)))
    probe = make_probes(network, cases)[0]
    image, maps, p = (torch.complex(*one[0].unbind(-3)) for one in probe.inputs)
    assert probe.truth is not None
    truth = torch.complex(*probe.truth.unbind(0))
    torch.testing.assert_close((maps.conj() * (p @ (maps * truth))).sum(0), image, atol=1e-5, rtol=0)


def test_networks_that_take_the_noise_are_given_it_and_the_scan_has_it() -> None:
    vectors = vectors_of("unrolled", [{**UNROLLED_CASE, "noise": torch.tensor(0.25)}], size=32)
    plain = unrolled("fft", (32, 32), 4, InputShape("mask", (1, 32, 1)))
    image, maps, mask = plain.inputs
    network = Network("unrolled", "fft", (image, maps, InputShape("noise", (1, 1, 1, 1)), mask))
    probes = {probe.name: probe for probe in make_probes(network, read_cases("unrolled", vectors))}
    assert all(
        [tuple(one.shape) for one in p.inputs] == [spec.shape for spec in network.inputs]
        for p in probes.values()
    )
    levels = {name: float(probes[name].inputs[2]) for name in ("real-0", "noiseless", "noisy", "coil-dead")}
    assert levels == {"real-0": 0.25, "noiseless": 0.0, "noisy": 25.0, "coil-dead": 0.25}
    full = probes["mask-full"]
    error = full.inputs[0][0] - torch.as_tensor(probes["real-0"].truth)
    # The adjoint of maps whose squares add up to 1 leaves white noise as it is.
    assert 0.23 < float(error.std()) < 0.27
    without = {name: tensor for name, tensor in vectors.items() if not name.endswith("noise")}
    with pytest.raises(BundleError, match="case 'real-0' of the vectors has no 'noise'"):
        make_probes(network, read_cases("unrolled", without))


def test_images_are_padded_as_at_run_time() -> None:
    vectors = vectors_of("image", [{"image": TRUTH + 1, "truth": TRUTH}], size=32)
    probes = make_probes(
        Network("image", "none", (InputShape("image", (1, 2, 48, 40)),)), read_cases("image", vectors)
    )
    real = probes[0]
    assert real.inside is not None
    assert real.truth is not None
    assert torch.equal(real.inside.crop(real.inputs[0][0]), real.truth + 1)
    assert {"zeros", "weak", "strong", "noise", "one-pixel", "constant"} <= {probe.name for probe in probes}


@pytest.mark.parametrize("task", ["image", "unrolled"])
def test_networks_are_told_the_numbers_of_each_case(task: Literal["image", "unrolled"]) -> None:
    told = InputShape("parameters", (1, 2))
    case = UNROLLED_CASE if task == "unrolled" else {"image": TRUTH + 1, "truth": TRUTH}
    network = (
        unrolled("fft", (48, 40), 4, InputShape("mask", (1, 48, 1)))
        if task == "unrolled"
        else Network("image", "none", (InputShape("image", (1, 2, 48, 40)),))
    )
    network = replace(network, inputs=(*network.inputs, told))
    vectors = vectors_of(task, [{**case, "parameters": torch.tensor([0.5, 2.0])}], size=32)
    probes = {probe.name: probe for probe in make_probes(network, read_cases(task, vectors))}
    for name, probe in probes.items():
        assert [tuple(one.shape) for one in probe.inputs] == [spec.shape for spec in network.inputs], name
        expected = [0, 0] if name == "parameters-zero" else [0.5, 2]
        assert probe.inputs[-1].flatten().tolist() == expected, name
    assert torch.equal(probes["parameters-zero"].inputs[0], probes["real-0"].inputs[0])
    del vectors["real-0.parameters"]
    with pytest.raises(BundleError, match="case 'real-0' of the vectors has no 'parameters'"):
        make_probes(network, read_cases(task, vectors))


FILM_TRUTH = torch.randn(2, 5, 40, 36, generator=GENERATOR)
FILM_MASK = ((torch.arange(40) + torch.arange(5)[:, None]) % 4 == 0).float()[..., None]
FILM_CASE = {"truth": FILM_TRUTH, "maps": MAPS, "mask": FILM_MASK, "noise": torch.tensor(0.02)}


def test_kspace_is_that_of_the_lines_that_were_acquired() -> None:
    mask = torch.zeros(40, 1)
    mask[::3] = 1
    case = {"image": TRUTH, "truth": TRUTH, "mask": mask}
    network = Network("image", "none", (InputShape("kspace", (1, 2, 40, 36)),))
    cases = read_cases("image", vectors_of("image", [case], size=40))
    probes = {probe.name: probe for probe in make_probes(network, cases)}
    (found,) = probes["real-0"].inputs
    expected = to_kspace(torch.complex(*TRUTH)) * mask
    torch.testing.assert_close(torch.complex(*found[0]), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(probes["weak"].inputs[0], 1e-5 * found)
    assert not bool(probes["zeros"].inputs[0].any())
    assert all(one.inputs[0].shape == found.shape for one in probes.values())


def film(lowering: Lowering, size: tuple[int, int], n_frames: int = 5) -> Network:
    shapes = [InputShape(spec.name, spec.shape(*size, 4, n_frames=n_frames)) for spec in film_specs(lowering)]
    return Network("dynamic", lowering, tuple(shapes))


@pytest.mark.parametrize("lowering", ["fft", "pmatrix", "dft_matmul"])
def test_frames_of_a_film_are_scans_of_their_own(lowering: Lowering) -> None:
    vectors = vectors_of("dynamic", [FILM_CASE], size=32, n_coils=4, lowering=lowering)
    assert {name: tuple(tensor.shape) for name, tensor in vectors.items()} == {
        "real-0.truth": (2, 5, 32, 32),
        "real-0.maps": (4, 2, 32, 32),
        "real-0.mask": (5, 32, 1),
        "real-0.noise": (),
    }
    cases = read_cases("dynamic", vectors, lowering)
    network = film(lowering, (28, 40))
    probes = {probe.name: probe for probe in make_probes(network, cases)}
    for probe in probes.values():
        assert [tuple(one.shape) for one in probe.inputs] == [spec.shape for spec in network.inputs]
        assert all(one.is_contiguous() and one.dtype == torch.float32 for one in probe.inputs)
    noiseless, full, empty = (probes[name] for name in ("noiseless", "mask-full", "frame-empty"))
    case = cases["real-0"]
    for t in range(5):
        alone = {
            "truth": case["truth"][:, t],
            "maps": case["maps"],
            "mask": case["mask"][t],
            "noise": case["noise"],
        }
        single = Network(
            "unrolled",
            lowering,
            tuple(InputShape(spec.name, spec.shape(28, 40, 4)) for spec in unrolled_specs(lowering)),
        )
        frame = {probe.name: probe for probe in make_probes(single, {"real-0": alone})}["noiseless"]
        torch.testing.assert_close(noiseless.inputs[0][:, :, t], frame.inputs[0])
        torch.testing.assert_close(noiseless.inputs[3][:, t], frame.inputs[3])
    truth = probes["real-0"].truth
    assert truth is not None
    assert 0.01 < float((full.inputs[0][0] - truth).std()) < 0.03, "all lines were acquired, with noise"
    assert not bool(empty.inputs[0][:, :, -1].any())
    assert bool(empty.inputs[0][:, :, :-1].any())


def test_films_without_data_consistency() -> None:
    case = {"image": FILM_TRUTH + 1, "truth": FILM_TRUTH}
    vectors = vectors_of("dynamic", [case], size=32)
    probes = {
        probe.name: probe for probe in make_probes(film("none", (48, 40)), read_cases("dynamic", vectors))
    }
    real = probes["real-0"]
    assert real.inside is not None
    assert real.truth is not None
    assert torch.equal(real.inside.crop(real.inputs[0][0]), real.truth + 1)
    assert not bool(probes["frame-empty"].inputs[0][:, :, -1].any())


def test_films_of_another_length_are_no_vectors() -> None:
    cases = read_cases("dynamic", vectors_of("dynamic", [FILM_CASE], lowering="fft"), "fft")
    with pytest.raises(BundleError, match=r"'real-0' .* \(2, 5, 40, 36\), .* takes windows of 6 frames"):
        make_probes(film("fft", (32, 32), n_frames=6), cases)


def test_incomplete_vectors_are_named() -> None:
    with pytest.raises(BundleError, match="has no 'mask'"):
        vectors_of("unrolled", [{"truth": TRUTH, "maps": MAPS}])
    with pytest.raises(BundleError, match=r"case 'real-0' .* no 'image'"):
        read_cases("image", {"real-0.truth": TRUTH})
    with pytest.raises(BundleError, match="no reference vectors"):
        read_cases("image", {})
