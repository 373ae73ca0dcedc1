"""Coil compression as a stage: the same image from fewer coils."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import CalibrationError
from scanside.items import Calibration
from scanside.simulate import CoilConfig, DynamicsConfig, NoiseConfig, PhantomConfig, SamplingConfig
from scanside.stages.coil_compression import CompressCoils
from scanside.stages.coil_maps import CoilMaps
from scanside.stages.fourier import Fourier
from scanside.stages.sense import Sense

METHODS = ["pca", "geometric"]
SAMPLINGS = [
    SamplingConfig(),
    SamplingConfig(acceleration=(2, 1), acs=(20, 0)),
    SamplingConfig(acceleration=(2, 1), acs=(20, 0), acs_mode="separate"),
]


def many(n: int) -> CoilConfig:
    return CoilConfig(n_coils=n)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("sampling", "n"),
    [(SAMPLINGS[0], 12), (SAMPLINGS[1], 64), (SAMPLINGS[2], 32)],
    ids=["full", "embedded", "separate"],
)
def test_image_stays_the_same(accumulated: Any, run_stage: Any, method: str, sampling: Any, n: int) -> None:
    scan, (item,), _ = accumulated(coils=many(n), sampling=sampling)
    ran = run_stage(CompressCoils(n_coils=10, method=method), scan.header_xml, [item])
    virtual = ran.one
    assert virtual.data.shape == (10, 1, 36, 40)
    assert (item.reference is None) == (virtual.reference is None)
    if virtual.reference is not None:
        assert virtual.reference.n_coils == 10
    assert set(virtual.headers["active_channels"].ravel().tolist()) <= {0, 10}
    told = virtual.meta["ScansideCoilCompression"]
    assert told[:2] == [method, f"{n} coils to 10"]
    kept = float(told[2].split()[0])
    assert 0.99 < kept <= 1
    assert bool(ran.scan.warnings) == (kept < 0.999)
    assert kept >= 0.999 or method == "pca"

    before = run_stage(Fourier(), scan.header_xml, [item]).one.data
    after = run_stage(Fourier(), scan.header_xml, [virtual]).one.data
    assert float((after - before).norm() / before.norm()) < 0.03
    assert not bool(virtual.data[:, ~virtual.mask].any())


def test_sense_of_virtual_coils(accumulated: Any, run_stage: Any) -> None:
    """Maps and image are made from virtual coils as from real ones."""
    sampling = SamplingConfig(acceleration=(2, 1), acs=(20, 0))
    scan, (item,), _ = accumulated((64, 60, 1), coils=many(20), sampling=sampling)

    def image(kspace: Any) -> Any:
        mapped = run_stage(CoilMaps(method="espirit"), scan.header_xml, [kspace]).one
        return run_stage(Sense(), scan.header_xml, [mapped]).one.data.abs()

    reference = image(item)
    for method in METHODS:
        virtual = run_stage(CompressCoils(n_coils=10, method=method), scan.header_xml, [item]).one
        assert float((image(virtual) - reference).norm() / reference.norm()) < 0.02
        few = run_stage(CompressCoils(n_coils=1, method=method), scan.header_xml, [item]).one
        assert float((image(few) - reference).norm() / reference.norm()) > 0.02


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_compressed_with_their_coils(accumulated: Any, run_stage: Any, method: str) -> None:
    """They are those of the virtual coils: the same image, without estimating anything anew."""
    sampling = SamplingConfig(acceleration=(2, 1), acs=(20, 0))
    scan, (item,), _ = accumulated((64, 60, 1), coils=many(20), sampling=sampling)
    mapped = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item]).one
    reference = run_stage(Sense(), scan.header_xml, [mapped]).one.data
    virtual = run_stage(CompressCoils(n_coils=10, method=method), scan.header_xml, [mapped]).one
    assert virtual.coil_maps.shape == (10, 1, 60, 64)
    image = run_stage(Sense(), scan.header_xml, [virtual]).one.data
    assert float((image - reference).norm() / reference.norm()) < 0.02
    wrong = virtual.replace(coil_maps=mapped.coil_maps[:10])
    assert float((run_stage(Sense(), scan.header_xml, [wrong]).one.data - reference).norm()) > 0.1 * float(
        reference.norm()
    )


NOISY = NoiseConfig(std=0.02, neighbour_correlation=0.0, spread=0.0, scan="none")


@pytest.mark.parametrize("noise", [NoiseConfig(std=0.0, scan="none"), NOISY], ids=["quiet", "noisy"])
def test_number_follows_from_the_energy(accumulated: Any, run_stage: Any, noise: NoiseConfig) -> None:
    """What noise adds to each coil is no signal that had to be kept: the number is much the same without it."""
    scan, (item,), _ = accumulated((64, 60, 1), coils=many(32), noise=noise)
    found = {}
    for method in METHODS:
        for energy in (0.99, 0.999):
            ran = run_stage(CompressCoils(method=method, energy=energy), scan.header_xml, [item])
            assert ran.scan.warnings == []
            kept = 1 - float(ran.one.meta.first("ScansideCoilCompressionLoss"))
            assert kept >= energy
            found[method, energy] = ran.one.n_coils
            fewer = run_stage(
                CompressCoils(method=method, energy=energy, n_coils=ran.one.n_coils - 1),
                scan.header_xml,
                [item],
            )
            assert "of the energy of 32 coils" in fewer.scan.warnings[0]
    assert found["geometric", 0.99] < found["geometric", 0.999] < found["pca", 0.999] < 32


def test_noise_stays_white(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(coils=many(16))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(item.data.shape, dtype=torch.complex64, generator=generator)
    reference = item.replace(reference=item.replace())
    for method in METHODS:
        stage = CompressCoils(n_coils=6, method=method)
        quiet, loud = (
            run_stage(stage, scan.header_xml, [reference.replace(data=data)]).one.data
            for data in (item.data, item.data + noise)
        )
        by_coil = (loud - quiet).flatten(1)
        covariance = (by_coil @ by_coil.mH / by_coil.shape[1]).numpy()
        assert np.abs(covariance - np.eye(6)).max() < 0.1


def test_few_coils_pass(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated()
    assert run_stage(CompressCoils(n_coils=6), scan.header_xml, [item]).one is item


def test_too_few_virtual_coils_are_told(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(coils=many(12))
    ran = run_stage(CompressCoils(n_coils=1), scan.header_xml, [item])
    assert "1 virtual coils keep 0." in ran.scan.warnings[0]
    assert "leave coil-compression.n_coils out or raise it" in ran.scan.warnings[0]


def test_asymmetric_echo(accumulated: Any, run_stage: Any) -> None:
    """Without all samples of a readout no position along it is known: one matrix must do."""
    sampling = SamplingConfig(acceleration=(2, 1), acs=(20, 0), partial_echo=0.7)
    scan, (item,), _ = accumulated(coils=many(16), sampling=sampling)
    ran = run_stage(CompressCoils(n_coils=6, method="geometric"), scan.header_xml, [item])
    assert ran.one.meta["ScansideCoilCompression"][0] == "pca"
    assert "asymmetric echo" in ran.scan.warnings[0]
    by_default = run_stage(CompressCoils(n_coils=6), scan.header_xml, [item])
    assert torch.equal(by_default.one.data, ran.one.data)
    assert not any("asymmetric echo" in told for told in by_default.scan.warnings)
    unsampled = (item.data == 0).all(0).all(-2)
    assert not bool(ran.one.data[..., unsampled[0]].any())


def test_calibration_lines_come_first(accumulated: Any, run_stage: Any) -> None:
    """What was made of lines that came early serves the k-space: the same object for the same lines."""
    scan, (item,), _ = accumulated(coils=many(16), sampling=SAMPLINGS[1])
    early = Calibration(item.replace(data=torch.zeros(1, dtype=torch.complex64).expand(item.data.shape)))
    ran = run_stage(CompressCoils(n_coils=6), scan.header_xml, [early, item])
    (calibration,) = ran.calibrations
    assert calibration.kspace.data.shape == ran.one.data.shape
    assert calibration.kspace.reference is ran.one.reference
    alone = run_stage(CompressCoils(n_coils=6), scan.header_xml, [item]).one
    assert torch.equal(alone.data, ran.one.data)


def test_once_for_all_repetitions(accumulated: Any, run_stage: Any) -> None:
    dynamics, cardiac = DynamicsConfig(phases=3), PhantomConfig(kind="cardiac")
    scan, items, _ = accumulated(coils=many(16), sampling=SAMPLINGS[2], dynamics=dynamics, phantom=cardiac)
    out = run_stage(CompressCoils(n_coils=6), scan.header_xml, items).items
    assert len(out) == 3
    assert len({id(item.reference) for item in out}) == 1


def test_refusals(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(
        sampling=SamplingConfig(acceleration=(3, 1)), noise=NoiseConfig(std=0.0, scan="none")
    )
    with pytest.raises(CalibrationError, match="coil compression needs calibration"):
        run_stage(CompressCoils(n_coils=2), scan.header_xml, [item])


def test_images_of_few_virtual_coils(accumulated: Any, run_stage: Any) -> None:
    """Against the image of full data: along the readout few coils do what principal components need many for."""
    array = CoilConfig(n_coils=32, radius_mm=125.0)
    clean, (whole,), _ = accumulated((96, 96, 1), coils=array)
    wanted = run_stage(Fourier(), clean.header_xml, [whole]).one.data.abs()
    sampling = SamplingConfig(acceleration=(4, 1), acs=(24, 0))
    noise = NoiseConfig(std=0.002, neighbour_correlation=0.0, spread=0.0, scan="none")
    scan, (item,), _ = accumulated((96, 96, 1), coils=array, sampling=sampling, noise=noise)

    def decibels(stage: CompressCoils | None) -> float:
        kspace = item if stage is None else run_stage(stage, scan.header_xml, [item]).one
        mapped = run_stage(CoilMaps(method="espirit"), scan.header_xml, [kspace]).one
        image = run_stage(Sense(), scan.header_xml, [mapped]).one.data.abs()
        fitted = image * (image * wanted).sum() / image.square().sum()
        return float(20 * torch.log10(wanted.norm() / (fitted - wanted).norm()))

    of_all = decibels(None)
    assert decibels(CompressCoils(n_coils=5)) > of_all - 0.2
    assert decibels(CompressCoils()) > of_all - 0.2
    assert decibels(CompressCoils(n_coils=5, method="pca")) < of_all - 1
