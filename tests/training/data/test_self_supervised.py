"""Trainings without truth: which lines are held out, of simulated scans and of recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError, FormatError
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.recon.fourier import to_image, to_kspace
from scanside.replay import replay
from scanside.simulate import ScanConfig, simulate
from scanside_training.config import read_config
from scanside_training.data import (
    DataConfig,
    Drawn,
    ReconstructionData,
    SampleKey,
    SampleShape,
    SimulationConfig,
    simulate_sample,
)
from scanside_training.losses import LossConfig, build_loss
from scanside_training.trainer import train

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")

N = 48
SIMULATION: dict[str, Any] = {
    "task": {"kind": "self-supervised", "held_out": (0.3, 0.3)},
    "k1": (N, N),
    "k0": (N, N),
    "readout_crop": None,
    "coils": {"n_coils": (3, 3), "measured": 0},
    "masks": {"patterns": ("random",), "acceleration": (2, 2), "acs": (10, 10)},
    "espirit": {"probability": 0},
    "snr": (1e6, 1e6),
}
HELD_OUT = build_loss(LossConfig.model_validate({"terms": [{"kind": "held-out"}]}))


@pytest.fixture(scope="module")
def head() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 60), torch.linspace(-1, 1, 60), indexing="ij")
    return ((y / 0.8) ** 2 + (x / 0.6) ** 2 < 1).float() * (1 + 0.3 * torch.sin(9 * x))


def sample(
    head: torch.Tensor, seed: int = 0, *, judging: bool = False, **task: Any
) -> dict[str, torch.Tensor]:
    settings = SIMULATION | {"task": SIMULATION["task"] | task}
    config = SimulationConfig.model_validate(settings)
    return simulate_sample(
        head, Drawn(config, SampleShape(3, N, N), np.random.default_rng(seed), judging=judging)
    )


def test_lines_are_parted(head: torch.Tensor) -> None:
    for seed in range(5):
        found = sample(head, seed, central=6)
        kept, held_out = found["mask"][:, 0] > 0, found["held_out"][:, 0] > 0
        assert not bool((kept & held_out).any())
        assert int(held_out.sum()) == pytest.approx(0.3 * int((kept | held_out).sum()), abs=1)
        assert bool(kept[N // 2 - 3 : N // 2 + 3].all())
        assert not found["lines"][:, :, ~held_out].any()


def test_lines_that_are_kept_apart_judge_and_train_nothing(head: torch.Tensor) -> None:
    """The acquired lines hang on the seed, and those apart on them alone."""
    trained = [sample(head, 3, apart=0.2) for _ in range(2)]
    judged = sample(head, 3, judging=True, apart=0.2)
    apart, rest = judged["held_out"][:, 0] > 0, judged["mask"][:, 0] > 0
    acquired = apart | rest
    assert int(apart.sum()) == pytest.approx(0.2 * int(acquired.sum()), abs=1)
    for one in trained:
        kept, held_out = one["mask"][:, 0] > 0, one["held_out"][:, 0] > 0
        assert torch.equal(kept | held_out, rest)
        assert bool(held_out.any())
    plain = sample(head, 3)
    assert torch.equal((plain["mask"] + plain["held_out"])[:, 0] > 0, acquired)


def test_the_image_knows_nothing_of_what_is_held_out(head: torch.Tensor) -> None:
    found = sample(head)
    maps = torch.complex(*found["maps"].unbind(1))
    truth = torch.complex(*found["target"])
    seen = to_kspace(maps * truth, (-2,)) * found["mask"]
    expected = (maps.conj() * to_image(seen, (-2,))).sum(0)
    torch.testing.assert_close(torch.complex(*found["image"]), expected, rtol=1e-4, atol=1e-4)


def test_the_truth_has_no_loss_and_others_have_their_error(head: torch.Tensor) -> None:
    batch = {name: one[None] for name, one in sample(head).items()}
    assert float(HELD_OUT(batch["target"], batch)["total"]) < 1e-3
    of_zero = float(HELD_OUT(torch.zeros_like(batch["target"]), batch)["total"])
    lines = torch.complex(*batch["lines"][0].unbind(1))[:, batch["held_out"][0, :, 0] > 0]
    assert of_zero == pytest.approx(float(lines.abs().square().sum(0).sqrt().mean()), rel=1e-4)


def test_gradients_pass_lines_alone(head: torch.Tensor) -> None:
    batch = {name: one[None] for name, one in sample(head).items()}
    output = batch["image"].clone().requires_grad_()
    HELD_OUT(output, batch)["total"].backward()
    assert output.grad is not None
    assert bool(output.grad.isfinite().all())
    assert bool(output.grad.any())


def test_samples_without_lines_are_told(head: torch.Tensor) -> None:
    batch = {name: one[None] for name, one in sample(head).items() if name != "lines"}
    with pytest.raises(ConfigError, match=r"have no 'lines'.*'self-supervised'"):
        HELD_OUT(batch["target"], batch)


@pytest.mark.parametrize("held_out", [(0, 0.5), (0.5, 1), (0.2, 1.5)])
def test_shares_that_are_none(held_out: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="share between 0 and 1"):
        SimulationConfig.model_validate(
            SIMULATION | {"task": {"kind": "self-supervised", "held_out": held_out}}
        )


def written(config: ScanConfig, path: Path) -> None:
    scan = simulate(config)
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects, undersampled twice, as a scanner keeps them."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(3):
        config = ScanConfig.model_validate(
            {
                "geometry": {"matrix": (N, N, 1)},
                "coils": {"n_coils": 4},
                "sampling": {"acceleration": (2, 1), "acs": (12, 0)},
                "phantom": {"kind": "shepp-logan", "supersampling": (1, 1, 1)},
                "noise": {"std": 0.002 * (number + 1)},
            }
        )
        (folder / f"subject-{number}").mkdir()
        written(config, folder / f"subject-{number}" / "scan.h5")
    return folder


def of_recordings(folder: Path, **simulation: Any) -> dict[str, Any]:
    lists = {name: (f"subject-{i}",) for i, name in enumerate(("train", "validation", "test"))}
    return {
        "sources": [{"kind": "mrd-scans", "folder": str(folder), "split": lists}],
        "simulation": {"task": {"kind": "recorded-scans"}, "readout_crop": 32, "k0": (N, N), **simulation},
        "batch_size": 1,
        "validation_samples": 1,
        "samples_per_epoch": 4,
    }


def test_recordings_are_what_a_stage_gets(recordings: Path) -> None:
    data = ReconstructionData(DataConfig.model_validate(of_recordings(recordings, readout_crop=None)))
    found = data.samples("train")[SampleKey(0, 0, 0)]
    lines = (found["mask"] + found["held_out"])[:, 0] > 0
    sampled = torch.arange(N) % 2 == 0
    sampled[N // 2 - 6 : N // 2 + 6] = True
    assert torch.equal(lines, sampled)
    assert found["maps"].shape == (4, 2, N, N)
    assert 0 < float(found["noise"]) < 0.1
    # The image of all lines, as CG-SENSE makes it, explains what was held out; an empty one does not.
    (image,) = replay(
        recordings / "subject-0" / "scan.h5", "sense", device="cpu", settings={"finish.kind": "complex"}
    ).images
    batch = {name: one[None] for name, one in found.items()}
    scaled = torch.view_as_real(image.data[0, 0].to(torch.complex64)).movedim(-1, 0)[None] / found["scale"]
    assert float(HELD_OUT(scaled, batch)["total"]) < 0.2 * float(HELD_OUT(0 * scaled, batch)["total"])


def test_a_network_is_trained_from_recordings(recordings: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    settings = {
        "model": {
            "kind": "unrolled",
            "n_cascades": 1,
            "channels": 2,
            "pools": 1,
            "consistency": {"kind": "gradient"},
        },
        "loss": {"terms": [{"kind": "held-out"}]},
        "data": of_recordings(recordings),
    }
    record = train(read_config(tiny | settings, "tiny"), tmp_path / "run")
    assert record.complete
    assert record.data[0].kind == "mrd-scans"


def test_one_scan_may_train_and_judge_where_lines_are_kept_apart(recordings: Path) -> None:
    settings = of_recordings(recordings) | {
        "sources": [{"kind": "mrd-scans", "folder": str(recordings), "split": {"shared": ["subject-1"]}}]
    }
    with pytest.raises(ValueError, match=r"mrd-scans: the same slices .* 'recorded-scans' judges .*\.apart"):
        DataConfig.model_validate(settings)
    settings["simulation"]["task"]["apart"] = 0.2
    data = ReconstructionData(DataConfig.model_validate(settings))
    trained, judged = (data.samples(part)[SampleKey(0, 0, 0)] for part in ("train", "validation"))  # type: ignore[arg-type]
    assert not (judged["held_out"] * (trained["held_out"] + trained["mask"])).any()
    with pytest.raises(ConfigError, match=r"no source .* has a slice for test"):
        data.samples("test")


def test_shared_subjects_that_there_are_not(recordings: Path) -> None:
    settings = of_recordings(recordings) | {
        "sources": [{"kind": "mrd-scans", "folder": str(recordings), "split": {"shared": ["nobody"]}}]
    }
    settings["simulation"]["task"]["apart"] = 0.2
    with pytest.raises(ConfigError, match=r"split\.shared names the subjects nobody, which it does not have"):
        ReconstructionData(DataConfig.model_validate(settings)).samples("train")


def test_lines_that_nobody_acquired_make_a_matrix_that_networks_halve(recordings: Path) -> None:
    settings = of_recordings(recordings, multiple=32, k1=(64, 64), k0=(64, 64))
    found = ReconstructionData(DataConfig.model_validate(settings)).samples("train")[SampleKey(0, 0, 0)]
    lines = (found["mask"] + found["held_out"])[:, 0] > 0
    assert found["image"].shape == (2, 64, 32)
    assert not bool(lines[:8].any() | lines[56:].any())
    plain = ReconstructionData(DataConfig.model_validate(of_recordings(recordings))).samples("train")
    acquired = plain[SampleKey(0, 0, 0)]
    assert torch.equal(lines[8:56], (acquired["mask"] + acquired["held_out"])[:, 0] > 0)
    assert torch.linalg.vector_norm(found["maps"], dim=(0, 1)).max() == pytest.approx(1, abs=1e-4)


def test_samples_wider_than_a_recording(recordings: Path) -> None:
    settings = of_recordings(recordings, readout_crop=96, k0=(96, 96))
    with pytest.raises(ConfigError, match=r"a scan with 48 columns .* samples are to hold 96: lower"):
        ReconstructionData(DataConfig.model_validate(settings)).samples("train")[SampleKey(0, 0, 0)]


def test_batches_of_recordings(recordings: Path) -> None:
    data = ReconstructionData(DataConfig.model_validate(of_recordings(recordings) | {"batch_size": 2}))
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape[0] == batch["lines"].shape[0] == 2


def test_scans_are_not_slices(recordings: Path) -> None:
    settings = of_recordings(recordings) | {"simulation": SIMULATION}
    with pytest.raises(ValueError, match=r"made from slices, and mrd-scans gives scans"):
        DataConfig.model_validate(settings)


def test_a_recording_without_calibration_lines_is_named(tmp_path: Path) -> None:
    config = ScanConfig.model_validate(
        {"geometry": {"matrix": (N, N, 1)}, "coils": {"n_coils": 4}, "sampling": {"acceleration": (4, 1)}}
    )
    (tmp_path / "subject-0").mkdir()
    written(config, tmp_path / "subject-0" / "bare.h5")
    settings = of_recordings(tmp_path)
    with pytest.raises(FormatError, match=r"bare\.h5"):
        ReconstructionData(DataConfig.model_validate(settings)).samples("train")
