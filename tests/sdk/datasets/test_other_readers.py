"""Readers of other projects give the same numbers of the same files.

deepinv and MRpro are no dependencies: both bring much (torchvision, MRpro also cufinufft and pypulseq),
so that these tests run where someone has installed them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.sdk.datasets.conftest import coils_of

from scanside.datasets import ScanFile, open_scan_file
from scanside.datasets.fastmri import write_fastmri
from scanside.datasets.m4raw import write_m4raw
from scanside.datasets.skm_tea import write_skm_tea

pytestmark = pytest.mark.filterwarnings("ignore")  # what others import and call is not ours

KNEE = coils_of(3, 4, 36, 64)


@pytest.fixture
def knee(tmp_path: Path) -> Path:
    path = tmp_path / "knees" / "file1000001.h5"
    path.parent.mkdir()
    write_fastmri(path, KNEE, patient="somebody", image_size=(32, 32), padding=(2, 2))
    return path


def numbers(values: Any) -> npt.NDArray[np.complex64]:
    """Real and imaginary part along the first axis, as complex numbers."""
    found = np.asarray(values)
    return np.asarray(found[0] + 1j * found[1])


def assert_same(theirs: Any, ours: Any) -> None:
    assert np.shape(theirs) == np.shape(ours)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6 * np.abs(ours).max())


def lines_of(file: ScanFile) -> npt.NDArray[np.complex64]:
    """``(slice, coil, line, k0)`` of the lines that were acquired."""
    measured = [file.measured(place) for place in file.places]
    return np.stack([one.kspace[:, one.acquired[:, 0]] for one in measured])


def test_fastmri_by_deepinv(knee: Path) -> None:
    datasets = pytest.importorskip("deepinv.datasets", reason="deepinv is not installed")
    theirs = datasets.FastMRISliceDataset(knee.parent, use_dict_output=True)
    with open_scan_file(knee) as ours:
        assert len(theirs) == len(ours.places) == 3
        for place in ours.places:
            sample = theirs[place.slice]
            # They have (coil, row, column), columns of padding with what is in them: 0.
            assert_same(numbers(sample["y"]).swapaxes(-1, -2), ours.measured(place).kspace)
            reference = ours.reference(place)
            assert reference is not None
            assert_same(np.asarray(sample["x"])[0].T, reference)


def test_skm_tea_by_deepinv(tmp_path: Path) -> None:
    datasets = pytest.importorskip("deepinv.datasets", reason="deepinv is not installed")
    coils = coils_of(3, 4, 32, 24) + 1e-3
    rss = np.sqrt((np.abs(coils) ** 2).sum(1))
    mask = np.random.default_rng(0).random((26, 12)) < 0.3
    path = tmp_path / "MTR_005.h5"
    echoes = np.stack([rss, 0.4 * rss], 1)
    write_skm_tea(path, echoes, coils / rss[:, None], acquired_size=(26, 12), masks={6.0: mask})
    for echo in range(2):
        theirs = datasets.SKMTEASliceDataset(tmp_path, echo=echo, acc=6, use_dict_output=True)
        with open_scan_file(path) as ours:
            for place in (one for one in ours.places if one.contrast == echo):
                sample = theirs[place.slice]
                kept = ours.masks()[6.0]  # type: ignore[attr-defined]
                assert_same(np.asarray(sample["params"]["mask"])[0], kept)
                assert_same(np.asarray(sample["params"]["coil_maps"]), ours.maps(place))
                assert_same(numbers(sample["y"]), ours.measured(place).kspace * kept)
                assert_same(np.abs(numbers(sample["x"])), ours.reference(place))


def test_fastmri_by_mrpro(knee: Path) -> None:
    fastmri = pytest.importorskip(
        "mrpro.phantoms.fastmri", reason="MRpro is not installed", exc_type=ImportError
    )
    theirs = fastmri.FastMRIKDataDataset(knee.parent, single_slice=False)[0]
    with open_scan_file(knee) as ours:
        assert_same(theirs.data.numpy()[:, :, 0], lines_of(ours))
        recon = theirs.header.recon_matrix
        assert (recon.y, recon.x) == ours.image_size


def test_m4raw_by_mrpro(tmp_path: Path) -> None:
    m4raw = pytest.importorskip("mrpro.phantoms.m4raw", reason="MRpro is not installed", exc_type=ImportError)
    path = tmp_path / "2022061003_T101.h5"
    write_m4raw(path, coils_of(2, 4, 256, 256), patient="somebody", columns=(30, 224))
    theirs = m4raw.M4RawDataset([path])[0].data.numpy()
    with open_scan_file(path) as ours:
        assert_same(theirs.reshape(2, *theirs.shape[-4:])[:, :, 0], lines_of(ours))
