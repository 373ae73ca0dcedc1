"""Transform and combination, and the headers that images get."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError
from scanside.mrd.flags import AcquisitionFlag as Flag
from scanside.mrd.header import Limit
from scanside.recon.resize import crop_or_pad
from scanside.stages.accumulate import Accumulate
from scanside.stages.finish import Finish
from scanside.stages.fourier import Fourier

AXES = (-3, -2, -1)


def coil_images(data: torch.Tensor) -> Any:
    shifted = np.fft.ifftshift(data.numpy(), axes=AXES)
    return np.fft.fftshift(np.fft.ifftn(shifted, axes=AXES, norm="ortho"), axes=AXES)


@pytest.mark.parametrize("matrix", [(16, 12, 1), (15, 11, 1), (16, 12, 5)])
def test_root_sum_of_squares(make_header: Any, make_lines: Any, run_stage: Any, matrix: Any) -> None:
    lines = make_lines(n_samples=matrix[0])
    blocks = [lines(range(matrix[1]), k2=k2) for k2 in range(matrix[2])]
    xml = make_header(matrix, limits={"kspace_encode_step_2": Limit(0, matrix[2] - 1, matrix[2] // 2)})
    kspace = run_stage(Accumulate(), xml, blocks).one
    image = run_stage(Fourier(), xml, [kspace]).one
    expected = np.linalg.norm(coil_images(kspace.data), axis=0)
    np.testing.assert_allclose(image.data[0].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert image.header["matrix_size"].tolist() == list(matrix)
    assert image.header["channels"] == 1


def test_maps_are_a_matched_filter(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header()
    kspace = run_stage(Accumulate(), xml, [lines(range(12))]).one
    maps = torch.randn(2, 1, 12, 16, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    maps = maps / maps.norm(dim=0)
    image = run_stage(Fourier(combine="maps"), xml, [kspace.replace(coil_maps=maps)]).one
    expected = (maps.numpy().conj() * coil_images(kspace.data)).sum(axis=0)
    np.testing.assert_allclose(image.data[0].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_maps_must_be_there(make_header: Any, lines: Any, run_stage: Any) -> None:
    kspace = run_stage(Accumulate(), make_header(), [lines(range(12))]).one
    with pytest.raises(ConfigError, match="add 'coil-maps'"):
        run_stage(Fourier(combine="maps"), make_header(), [kspace])


def test_oversampling_is_cut_between_the_transforms(
    make_header: Any, make_lines: Any, run_stage: Any
) -> None:
    xml = make_header((32, 12, 1), (16, 12, 1))
    kspace = run_stage(Accumulate(), xml, [make_lines(n_samples=32)(range(12))]).one
    maps = torch.ones(2, 1, 12, 32, dtype=torch.complex64)
    image = run_stage(Fourier(combine="maps"), xml, [kspace.replace(coil_maps=maps)]).one
    expected = coil_images(kspace.data).mean(axis=0)[..., 8:24]
    np.testing.assert_allclose(image.data[0].numpy(), expected, rtol=1e-4, atol=1e-4)
    assert image.header["field_of_view"].tolist() == [16, 12, 1]


@pytest.mark.parametrize("recon", [(30, 22, 1), (30, 11, 1), (9, 11, 1)])
def test_other_voxels(make_header: Any, make_lines: Any, run_stage: Any, recon: tuple[int, int, int]) -> None:
    """Coil images are interpolated, as by k-space that is filled with zeros or cut, and not their magnitude."""
    encoded = (15, 11, 1)
    xml = make_header(encoded)
    x, y, _ = recon
    other = xml.replace(
        "<reconSpace><matrixSize><x>15</x><y>11</y>", f"<reconSpace><matrixSize><x>{x}</x><y>{y}</y>"
    )
    kspace = run_stage(Accumulate(), other, [make_lines(n_samples=15)(range(11))]).one
    image = run_stage(Fourier(), other, [kspace]).one
    padded = crop_or_pad(kspace.data, (y, x)) * np.sqrt(x * y / (15 * 11))
    expected = np.linalg.norm(coil_images(padded), axis=0)
    np.testing.assert_allclose(image.data[0].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert image.header["field_of_view"].tolist() == [15, 11, 1]
    finished = run_stage(Finish(), other, [image]).one
    assert torch.equal(finished.data, image.data)
    assert finished.header["matrix_size"].tolist() == list(recon)


def test_header_is_that_of_the_central_line(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Counter 3 is the centre; position moves and time goes on during the scan."""
    block = lines(range(8), slice=2, repetition=1, measurement_uid=77)
    block.headers["position"] = np.arange(8)[:, None] * [1, 2, 3]
    block.headers["user_float"][:, 4] = np.arange(8)
    block.headers["physiology_time_stamp"][:, 1] = 1000 + np.arange(8)
    block = block.select(np.random.default_rng(0).permutation(8).argsort() >= 0)
    limits = {
        "kspace_encode_step_1": Limit(0, 7, 3),
        "slice": Limit(0, 2, 0),
        "repetition": Limit(0, 1, 0),
    }
    xml = make_header(limits=limits)
    image = run_stage(Fourier(), xml, run_stage(Accumulate(), xml, [block]).items).one
    header = image.header
    assert header["position"].tolist() == [3, 6, 9]
    assert header["acquisition_time_stamp"] == 103
    assert header["physiology_time_stamp"].tolist() == [0, 1003, 0]
    assert header["user_float"][4] == 3
    assert header["measurement_uid"] == 77
    assert (header["slice"], header["repetition"], header["contrast"]) == (2, 1, 0)
    for axis, name in enumerate(("read_dir", "phase_dir", "slice_dir")):
        assert header[name].tolist() == np.eye(3)[axis].tolist()


def test_nearest_line_where_the_central_one_is_missing(make_header: Any, lines: Any, run_stage: Any) -> None:
    block = lines([0, 2, 4, 8, 10])
    image = run_stage(Fourier(), make_header(), run_stage(Accumulate(), make_header(), [block]).items).one
    assert image.header["acquisition_time_stamp"] in (102, 103)


def test_one_image_for_each_frame(make_header: Any, lines: Any, run_stage: Any) -> None:
    xml = make_header(limits={"phase": Limit(0, 2, 0), "slice": Limit(0, 1, 0)})
    blocks = [lines(range(12), phase=p, slice=s, last=Flag.LAST_IN_SLICE) for s in range(2) for p in range(3)]
    for i, block in enumerate(blocks):
        block.headers["position"] = i
    kspace = run_stage(Accumulate(together=("phase", "slice")), xml, blocks).one
    kspace.meta["Told"] = "yes"
    images = run_stage(Fourier(), xml, [kspace.replace(incomplete="why")]).items
    found = [(int(i.header["phase"]), int(i.header["slice"]), float(i.header["position"][0])) for i in images]
    assert found == [(p, s, 3 * s + p) for p in range(3) for s in range(2)]
    assert all(image.incomplete == "why" and image.meta["Told"] == ["yes"] for image in images)
    images[0].meta["Told"] = "no"
    assert images[1].meta["Told"] == ["yes"], "images share no attributes"
