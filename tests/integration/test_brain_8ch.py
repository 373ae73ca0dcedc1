"""A measured brain, undersampled and sent as a scan: CG-SENSE and ESPIRiT maps as BART has them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside import KSpace, Pipeline, Readouts, Scan
from scanside.execution import execute

Array = npt.NDArray[Any]

N1, N0, N_COILS, N_ACS = 180, 230, 8, 18
REGULARISATION = 0.002
HEADER = f"""<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <encoding>
    <encodedSpace><matrixSize><x>{N0}</x><y>{N1}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>230</x><y>180</y><z>5</z></fieldOfView_mm></encodedSpace>
    <reconSpace><matrixSize><x>{N0}</x><y>{N1}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>230</x><y>180</y><z>5</z></fieldOfView_mm></reconSpace>
    <encodingLimits><kspace_encoding_step_1>
      <minimum>0</minimum><maximum>{N1 - 1}</maximum><center>{N1 // 2}</center>
    </kspace_encoding_step_1></encodingLimits>
    <parallelImaging><accelerationFactor><kspace_encoding_step_1>3</kspace_encoding_step_1>
      <kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor></parallelImaging>
  </encoding>
</ismrmrdHeader>"""


def read_cfl(path: Path) -> Array:
    """A BART array in C order, its axes reversed and those of length one behind the fourth left out."""
    shape = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    while len(shape) > 4:
        assert shape.pop() == 1
    array: Array = np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape[::-1])
    return array


def write_cfl(path: Path, array: Array) -> None:
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(str(n) for n in array.shape[::-1])}\n")
    array.astype(np.complex64).tofile(path.with_suffix(".cfl"))


class Brain:
    """The scan: its fully sampled k-space ``(coil, k1, k0)``, the lines of the mask, and BART beside."""

    def __init__(self, data: Path, program: str, folder: Path) -> None:
        kspace = read_cfl(data / "brain-8ch" / "full").squeeze(-1)
        self.full = kspace / np.abs(np.fft.ifft2(kspace, norm="ortho")).max()
        self.lines = np.flatnonzero(np.load(data / "brain-8ch" / "mask_r33.npy"))
        self._program, self._folder = program, folder

    def readouts(self) -> list[Readouts]:
        headers = Readouts.empty_headers(len(self.lines))
        headers["idx"]["kspace_encode_step_1"] = self.lines
        headers["number_of_samples"], headers["center_sample"] = N0, N0 // 2
        headers["active_channels"] = headers["available_channels"] = N_COILS
        headers["scan_counter"] = np.arange(len(self.lines))
        headers["sample_time_us"] = 5.0
        samples = np.ascontiguousarray(self.full[:, self.lines].swapaxes(0, 1))
        block = Readouts(headers, samples)
        return [block.select(slice(i, i + 17)) for i in range(0, len(block), 17)]

    def bart(self, *words: str | Array) -> Array:
        """BART on arrays ``(coil, 1, k1, k0)``; its axes are x, y, z, coil in Fortran order."""
        arguments = []
        for i, word in enumerate(words):
            if isinstance(word, str):
                arguments.append(word)
                continue
            arguments.append(f"in{i}")
            write_cfl(self._folder / f"in{i}", word)
        subprocess.run(
            [self._program, *arguments, "out"], cwd=self._folder, check=True, capture_output=True, timeout=300
        )
        return read_cfl(self._folder / "out")


@pytest.fixture(scope="module")
def brain(shared_data: Path, bart: str, tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return Brain(shared_data, bart, tmp_path_factory.mktemp("bart"))


def kspace_of(brain: Brain, reconstruct: Any, **settings: Any) -> KSpace:
    stages = ["noise", "oversampling", "accumulate", {"coil-maps": {"method": "espirit", **settings}}]
    result = reconstruct(stages, HEADER, brain.readouts())
    (kspace,) = result.kspaces
    assert not [text for text in result.scan.warnings if "prewhitened" not in text]
    assert kspace.incomplete is None, "irregular sampling is no loss"
    return kspace


def test_lines_lie_where_they_belong(brain: Brain, reconstruct: Any) -> None:
    kspace = kspace_of(brain, reconstruct)
    expected = np.zeros_like(brain.full)
    expected[:, brain.lines] = brain.full[:, brain.lines]
    np.testing.assert_array_equal(kspace.data[:, 0].numpy(), expected)
    np.testing.assert_array_equal(np.flatnonzero(kspace.mask[0].numpy()), brain.lines)


def test_maps_are_barts(brain: Brain, reconstruct: Any) -> None:
    """Those of ``ecalib`` with the same kernel and calibration lines, where both see the object."""
    kspace = kspace_of(brain, reconstruct, kernel=5, calibration=N_ACS)
    assert kspace.coil_maps is not None
    ours = kspace.coil_maps.numpy()
    options = ("-m1", "-k5", f"-r{N_ACS}", "-c0.8", "-t0.001")
    theirs = brain.bart("ecalib", *options, kspace.data.numpy())
    inside = (np.abs(ours).sum(axis=0) > 0) & (np.abs(theirs).sum(axis=0) > 0)
    assert inside.mean() > 0.3
    # The phase of a voxel's maps is free: what counts is that the vectors over the coils are parallel.
    differs = 1 - np.abs((ours.conj() * theirs).sum(axis=0))[inside]
    shifted = 1 - np.abs((ours.conj() * np.roll(theirs, 3, axis=-1)).sum(axis=0))[inside]
    assert np.quantile(differs, 0.95) < 2e-3
    assert np.median(differs) < 0.05 * np.median(shifted)


def test_converged_sense_is_barts_pics(brain: Brain, reconstruct: Any, nrmse: Any) -> None:
    """Without any fit: the same maps, sampling, scaling and regularisation."""
    kspace = kspace_of(brain, reconstruct)
    assert kspace.coil_maps is not None
    options = ("pics", "-S", "-l2", f"-r{REGULARISATION}", "-i150")
    theirs = brain.bart(*options, kspace.data.numpy(), kspace.coil_maps.numpy())[0]

    def error(**settings: float) -> float:
        stages = {"l2": REGULARISATION, "tolerance": 1e-6, "max_iterations": 300, **settings}
        document = {"name": "test", "input": ["kspace"], "stages": [{"sense": stages}]}
        pipeline, scan, out = Pipeline.from_config(document), Scan.from_xml(HEADER), []
        with pipeline.open(scan) as run:
            execute(run, iter([kspace]), out.append)
        (image,) = out
        assert isinstance(image.data, torch.Tensor)
        # BART's images have the opposite sign where half of a matrix size is odd, as 230 / 2 is.
        return float(nrmse(-image.data[0].numpy(), theirs, fit=False))

    assert error() <= 1e-3
    assert error(l2=1.5 * REGULARISATION) > 1e-3
    assert error(max_iterations=8) > 1e-3


def test_pipeline_beats_zero_filling(brain: Brain, reconstruct: Any, nrmse: Any) -> None:
    axes = (-2, -1)
    full = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(brain.full, axes=axes), norm="ortho"), axes=axes)
    reference = np.linalg.norm(full, axis=0)
    zero_filled = reconstruct("fft", HEADER, brain.readouts()).voxels()[0]
    sense = reconstruct("sense", HEADER, brain.readouts()).voxels()[0]
    # ESPIRiT's maps end with the object; what lies outside counts for neither.
    inside = sense > 0.02 * sense.max()
    assert nrmse(sense[inside], reference[inside]) < 0.7 * nrmse(zero_filled[inside], reference[inside])
