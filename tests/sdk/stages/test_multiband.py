"""Slices that were read out at once: apart again, in their places, and refused where the references do not serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside import Context, Image, KSpace, Pipeline, Readouts, Scan
from scanside.errors import ScansideError
from scanside.execution import execute
from scanside.recon import slice_grappa
from scanside.recon.fourier import to_kspace
from scanside.simulate import ScanConfig, SimulatedScan, simulate

N = 64
ACS = 32


def scan_of(
    factor: int, shift: int, *, n_coils: int = 16, n_excited: int = 1, **multiband: Any
) -> dict[str, Any]:
    """Slices all over the head, R = 2."""
    n = factor * n_excited
    return {
        "phantom": {"supersampling": (1, 1, 1)},
        "coils": {"n_coils": n_coils},
        "noise": {"std": 0.003, "readouts": 64},
        "geometry": {
            "matrix": (N, N, 1),
            "fov_mm": (230.0, 230.0, 4.0),
            "n_slices": n,
            "slice_gap_mm": 120.0 / n - 4.0,
            "offset_mm": (0.0, 0.0, 16.0),
            "rotation_deg": (10.0, 0.0, 0.0),
        },
        "sampling": {
            "acceleration": (2, 1),
            "acs": (ACS, 0),
            "acs_mode": "separate",
            "multiband": {"factor": factor, "shift": shift, **multiband},
        },
    }


def single_band(config: dict[str, Any]) -> dict[str, Any]:
    """The same slices one by one."""
    sampling = {name: value for name, value in config["sampling"].items() if name != "multiband"}
    return config | {"sampling": sampling}


@dataclass
class Reconstructed:
    simulated: SimulatedScan
    scan: Scan
    images: list[Image]

    def magnitude(self, slice_: int) -> npt.NDArray[np.float32]:
        (image,) = (one for one in self.images if one.header["slice"] == slice_)
        return np.abs(image.data[0, 0].cpu().numpy())


def reconstruct(
    config: dict[str, Any],
    pipeline: str = "multiband",
    *,
    change: Callable[[str], str] = str,
    blocks: Callable[[list[Any]], list[Any]] = list,
    settings: dict[str, Any] | None = None,
) -> Reconstructed:
    simulated = simulate(ScanConfig.model_validate(config))
    loaded, out = Pipeline.load(pipeline, settings), []
    loaded.prepare(Context(device="cpu"))
    scan = Scan.from_xml(change(simulated.header_xml.decode()))
    with loaded.open(scan) as run:
        execute(
            run, blocks([item.copy() for item in simulated.items() if isinstance(item, Readouts)]), out.append
        )
    return Reconstructed(simulated, scan, [item for item in out if isinstance(item, Image)])


def displacement(image: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """By how many voxels along y an image lies beside the truth."""
    cross = np.fft.fft2(image) * np.fft.fft2(np.abs(truth)).conj()
    cross /= np.abs(cross)  # of phases alone, which the coils' shading does not change
    k = np.fft.fftfreq(len(image))[:, None]
    shifts = np.arange(-N / 2, N / 2, 0.02)
    found = [(cross[:, : N // 4] * np.exp(2j * np.pi * k * shift)).sum().real for shift in shifts]
    return float(shifts[int(np.argmax(found))])


@pytest.fixture(scope="module", params=[(2, 2, False), (3, 3, True), (4, -4, False)], ids=str)
def separated(request: pytest.FixtureRequest) -> tuple[Reconstructed, Reconstructed]:
    """Multiband, and the same slices one by one."""
    factor, shift, reference_blips = request.param
    config = scan_of(factor, shift, reference_blips=reference_blips)
    return reconstruct(config), reconstruct(single_band(config), "grappa")


def test_slices_come_out_as_slices_in_their_places(separated: tuple[Reconstructed, Reconstructed]) -> None:
    multiband, alone = separated
    factor = len(multiband.images)
    assert [int(image.header["slice"]) for image in multiband.images] == list(range(factor))
    for image in multiband.images:
        slice_ = int(image.header["slice"])
        np.testing.assert_allclose(
            image.header["position"], multiband.simulated.grid.positions[slice_], atol=1e-4
        )
        found, reference = multiband.magnitude(slice_), alone.magnitude(slice_)
        assert abs(displacement(found, multiband.simulated.truth.image(slice_)[0])) < 0.1
        error = np.linalg.norm(found - reference) / np.linalg.norm(reference)
        assert error < {2: 0.03, 3: 0.06, 4: 0.1}[factor], slice_
        assert image.meta.first("ScansideMultiband") == str(factor)
        assert image.encoding is not None
        assert image.encoding.limit("slice").n == factor
        assert image.encoding.multiband is None


@pytest.mark.parametrize(
    ("factor", "shift", "n_coils"),
    [
        (2, 2, 16),
        pytest.param(3, 3, 24, marks=pytest.mark.slow),
        pytest.param(4, 2, 32, marks=pytest.mark.slow),
    ],
)
def test_leakage(factor: int, shift: int, n_coils: int) -> None:
    """Each slice alone through the kernels of the others, R = 2: what comes out."""
    n = N if factor == 2 else 128
    config = scan_of(factor, shift, n_coils=n_coils)
    config["geometry"] |= {"matrix": (n, n, 1)}
    config["sampling"] |= {"oversampling": 1, "acs": (n // 2 - 16 * (n > N), 0)}
    simulated = simulate(ScanConfig.model_validate(config))
    maps, truth = (
        torch.from_numpy(one) for one in (simulated.truth.maps, simulated.truth.images[0, 0, 0, 0])
    )
    turns = torch.exp(2j * torch.pi / shift / 2 * torch.outer(torch.arange(factor), torch.arange(n) - n // 2))
    slices = to_kspace(maps * truth[:, None], (-2, -1)) * turns[:, None, None, :, None]
    sampled = (torch.arange(n) % 2 == 0)[None]
    acs = config["sampling"]["acs"][0]
    noise = 0.003 * torch.randn(slices.shape, dtype=slices.dtype, generator=torch.Generator().manual_seed(0))
    block = (slices + noise)[..., (n - acs) // 2 : (n + acs) // 2, :].to(torch.complex64)
    weights = slice_grappa.calibrate(block, 2)
    for one, alone in enumerate(slices.to(torch.complex64)):
        lines = alone * sampled[..., None]
        for other, leaked in enumerate(slice_grappa.separate(weights, lines, sampled)):
            if other != one:
                assert leaked.norm() < 0.02 * lines.norm(), (one, other)


def test_interleaved_excitations_and_repetitions() -> None:
    """Slices are told by their positions; weights are learned once."""
    config = scan_of(2, 2, n_excited=2) | {"dynamics": {"repetitions": 2}}
    found = reconstruct(config)
    came = [(int(image.header["repetition"]), int(image.header["slice"])) for image in found.images]
    assert came == [(0, 0), (0, 2), (0, 1), (0, 3), (1, 0), (1, 2), (1, 1), (1, 3)]
    for slice_ in range(4):
        first, second = (image for image in found.images if image.header["slice"] == slice_)
        assert (
            abs(displacement(np.abs(second.data[0, 0].numpy()), found.simulated.truth.image(slice_)[0])) < 0.1
        )
        np.testing.assert_allclose(
            first.header["position"], found.simulated.grid.positions[slice_], atol=1e-4
        )


def test_echo_planar() -> None:
    config = scan_of(2, 2)
    config["sampling"] |= {"epi": {"odd_even_rad": (0.4, -0.6), "delay_us": 1.0}}
    found = reconstruct(config, "multiband-epi")
    alone = reconstruct(single_band(config), "epi")
    for slice_ in range(2):
        reference = alone.magnitude(slice_)
        assert np.linalg.norm(found.magnitude(slice_) - reference) < 0.06 * np.linalg.norm(reference)


def test_references_tell_the_shift_where_the_header_does_not() -> None:
    def without(xml: str) -> str:
        start, end = xml.index("<deltaKz>"), xml.index("</deltaKz>")
        return xml[:start] + xml[end + len("</deltaKz>") :]

    found = reconstruct(scan_of(2, 2), change=without)
    assert abs(displacement(found.magnitude(1), found.simulated.truth.image(1)[0])) < 0.1
    with_blips = scan_of(2, 2, reference_blips=True)
    with pytest.raises(
        ScansideError, match=r"carry their phase, and the header does not tell.*set multiband\.shift"
    ):
        reconstruct(with_blips, change=without)
    told = reconstruct(with_blips, change=without, settings={"multiband.shift": 0.5})
    assert abs(displacement(told.magnitude(1), told.simulated.truth.image(1)[0])) < 0.1


def of_encoding(blocks: list[Any], index: int) -> list[Any]:
    return [block for block in blocks if block.headers["encoding_space_ref"][0] == index]


def test_no_references() -> None:
    with pytest.raises(
        ScansideError, match=r"slice 0 holds 2 slices.*there are no references of single slices; acquire"
    ):
        reconstruct(scan_of(2, 2), blocks=lambda blocks: of_encoding(blocks, 0))


def test_references_of_fewer_slices() -> None:
    def first_only(blocks: list[Any]) -> list[Any]:
        kept = []
        for block in blocks:
            which = (block.headers["encoding_space_ref"] == 0) | (block.headers["idx"]["slice"] == 0)
            kept += [block.select(slice(int(i), int(i) + 1)) for i in np.flatnonzero(which)]
        return kept

    with pytest.raises(
        ScansideError, match=r"of the slices 0, 1 there are no references of 1; references came of 1 slices"
    ):
        reconstruct(scan_of(2, 2), blocks=first_only)


def test_references_of_another_matrix() -> None:
    def halved(xml: str) -> str:
        at = xml.index("<encodedSpace>", xml.index("</encoding>"))
        return xml[:at] + xml[at:].replace(f"<y>{N}</y>", f"<y>{2 * N}</y>", 1)

    with pytest.raises(
        ScansideError, match=r"reference of slice 0 has a matrix of 128 x 128 x 1.*the lines one of 128 x 64"
    ):
        reconstruct(scan_of(2, 2), change=halved)


def test_references_of_another_blip_pattern() -> None:
    """The lines shift by a third, the header says so, and the references carry half."""
    lines, references = scan_of(2, 3), scan_of(2, 2, reference_blips=True)
    others = [
        item.copy()
        for item in simulate(ScanConfig.model_validate(references)).items()
        if isinstance(item, Readouts)
    ]
    with pytest.raises(
        ScansideError, match=r"another blip pattern.*shifted by FOV/-6.*says FOV/3.*with the same blips"
    ):
        reconstruct(lines, blocks=lambda blocks: [*of_encoding(others, 1), *of_encoding(blocks, 0)])


def test_references_of_other_slices() -> None:
    other = scan_of(2, 2)
    other["geometry"] = other["geometry"] | {"offset_mm": (0.0, 0.0, -30.0)}
    others = [
        item.copy()
        for item in simulate(ScanConfig.model_validate(other)).items()
        if isinstance(item, Readouts)
    ]
    for block in of_encoding(others, 1):
        block.headers["position"] += np.float32([0.0, 0.0, 46.0])
    with pytest.raises(ScansideError, match=r"leave \d+ % of its lines' energy unexplained"):
        reconstruct(scan_of(2, 2), blocks=lambda blocks: [*of_encoding(others, 1), *of_encoding(blocks, 0)])


def test_lost_lines() -> None:
    """Images of what came, which say what is missing."""

    def without_one(blocks: list[Any]) -> list[Any]:
        kept = []
        for block in blocks:
            header = block.headers["encoding_space_ref"], block.headers["idx"]["kspace_encode_step_1"]
            lost = np.flatnonzero((header[0] == 0) & (header[1] == 20) & (block.headers["flags"] < 1 << 18))
            ends = [*lost.tolist(), len(block)]
            starts = [0, *(int(at) + 1 for at in lost)]
            kept += [block.select(slice(a, b)) for a, b in zip(starts, ends, strict=True) if b > a]
        return kept

    found = reconstruct(scan_of(2, 2), blocks=without_one)
    assert [int(image.header["slice"]) for image in found.images] == [0, 1]
    for image in found.images:
        assert image.incomplete is not None
        assert "kspace_encode_step_1 20" in image.incomplete


def test_single_slices_pass(accumulated: Any, run_stage: Any) -> None:
    from scanside.stages.multiband import SeparateSlices

    scan, (item,), _ = accumulated()
    assert isinstance(item, KSpace)
    assert run_stage(SeparateSlices(), scan.header_xml, [item]).one is item
