"""The literature's systems: each is a configuration, and learns on generated data in less than a minute."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.data.fastmri_files import write_knees
from torch.utils.data import default_collate

from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle
from scanside.engines.graph import bind
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.simulate import ScanConfig, simulate
from scanside_deploy.build import BuildOptions, build_bundle
from scanside_training.checkpoint import load_model
from scanside_training.config import TrainConfig, load_config, merged, read_yaml
from scanside_training.data import SampleKey, SimulatedSamples
from scanside_training.measures import measure
from scanside_training.study.config import load_study
from scanside_training.study.curves import course
from scanside_training.study.run import plan
from scanside_training.trainer import train

pytestmark = [pytest.mark.usefixtures("slice_cache", "one_thread"), pytest.mark.slow]

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
SMALL: dict[str, Any] = {
    "data": {
        "sources": [{"kind": "synthetic", "n_subjects": 24, "slices_per_subject": 1, "size": 64}],
        "simulation": {"k1": [64, 64], "k0": [48, 48], "readout_crop": None, "coils": {"n_coils": [3, 3]}},
        "batch_size": 2,
        "num_workers": 0,
        "samples_per_epoch": 100,
        "validation_samples": 4,
    },
    "optimiser": {"lr": 3.0e-3},
    "schedule": {"over": "steps", "warmup_steps": 0},
    "max_minutes": None,
    "ema_decay": None,
    "accelerator": "cpu",
    "validation": {"every_steps": 1000, "images": 0},
}
SYSTEMS: dict[str, tuple[dict[str, Any], int]] = {
    "annotations": ({"channels": 8, "pools": 2}, 200),
    "artefacts": ({"channels": 16, "pools": 3}, 300),
    "automap": ({}, 300),
    "kiki": ({"channels": 12, "depth": 3}, 80),
    "denoising": ({"channels": 8, "pools": 2}, 100),
    "multi-contrast": ({"channels": 12, "pools": 3}, 300),
    "self-supervised": ({"channels": 12, "depth": 4, "n_cascades": 2}, 150),
    "super-resolution": ({"channels": 12, "depth": 4}, 100),
    "uncertainty": ({"channels": 8, "pools": 2}, 800),
}
"""Settings of a smaller network, and steps."""

GAINS = {"kiki": 0.5, "denoising": 2.0, "self-supervised": 0.8, "super-resolution": 0.3}
"""How many dB it must gain over the image that goes in."""


def complex_of(planes: torch.Tensor) -> Any:
    return (torch.complex(*planes) if len(planes) == 2 else planes[0]).numpy()


def mean_psnr_of_inputs(config: TrainConfig) -> float:
    samples = SimulatedSamples(config.data, "validation")
    found = []
    for number in range(config.data.validation_samples):
        sample = samples[SampleKey(0, number // config.data.batch_size, number)]
        image, target = (complex_of(sample[name]) for name in ("image", "target"))
        found.append(measure(image, target).psnr)
    return statistics.mean(found)


def share_within_marks(config: TrainConfig, run: Path) -> float:
    """Of the squared error of images in training, what lies where somebody marked something."""
    model, _ = load_model(run)
    samples = SimulatedSamples(config.data, "train")
    within = everywhere = 0.0
    for number in range(40):
        batch = default_collate([samples[SampleKey(99, number, number)]])
        with torch.no_grad():
            error = (model(*model.inputs(batch)) - batch["target"]).square()
        within += float((error * batch["marked"]).sum())
        everywhere += float(error.sum())
    return within / everywhere


def small(name: str, **settings: Any) -> TrainConfig:
    """A configuration made small, further settings replaced."""
    network, steps = SYSTEMS[name]
    path = CONFIGS / f"{name}.yaml"
    made = merged(SMALL, {"model": network, "max_steps": steps})
    if "validation_simulation" in read_yaml(path, None, "configuration")["data"]:
        made = merged(made, {"data": {"validation_simulation": SMALL["data"]["simulation"]}})
    return load_config(path, merged(made, settings))


@pytest.mark.parametrize("name", GAINS)
def test_it_learns(name: str, tmp_path: Path) -> None:
    config = small(name)
    record = train(config, tmp_path / "run")
    before = mean_psnr_of_inputs(config)
    assert record.validation["psnr"] > before + GAINS[name], f"{before:.2f} dB go in"


def test_it_learns_to_take_ghosts_back(tmp_path: Path) -> None:
    task = {"motion": {"probability": 0}, "ghost": {"probability": 1, "phase": [0.4, 0.8]}}
    config = small("artefacts", data={"simulation": {"task": task}})
    after = train(config, tmp_path / "run").validation["psnr"]
    assert after > mean_psnr_of_inputs(config) + 0.15


def test_it_learns_where_it_errs_and_engines_tell_it(tmp_path: Path) -> None:
    config = small("uncertainty")
    record = train(config, tmp_path / "run")
    assert record.validation["uncertainty_correlation"] > 0.2
    options = BuildOptions(name="doubting", buckets=((64, 48),))
    told = build_bundle(tmp_path / "run", tmp_path / "bundle", options).uncertainty
    assert told is not None
    assert told.correlation > 0.2
    assert 0.3 < told.factor < 3
    sheet = (tmp_path / "bundle" / "datasheet.md").read_text("utf-8")
    assert "| uncertainty_correlation |" in sheet
    assert "nan" not in sheet


def test_it_learns_from_another_contrast(tmp_path: Path) -> None:
    data = {
        "sources": [{"kind": "contrast-heads", "n_subjects": 24, "slices_per_subject": 1, "size": 64}],
        "simulation": {"masks": {"acceleration": [4, 4], "acs": [12, 12]}},
    }
    beside = small("multi-contrast", data=data)
    alone = small("multi-contrast", data=data, model={"contrasts": []})
    gained = train(beside, tmp_path / "beside").validation["psnr"]
    assert gained > train(alone, tmp_path / "alone").validation["psnr"] + 0.3


def test_it_learns_with_weights_in_boxes_that_radiologists_drew(tmp_path: Path) -> None:
    """The same steps with a weight of ten in them leave less of the error there."""
    table = write_knees(tmp_path / "files", 20, 64)
    sources = [{"kind": "fastmri", "folder": tmp_path / "files", "annotations": table}]
    data = {"sources": sources, "simulation": {"masks": {"acceleration": [3, 3], "acs": [12, 12]}}}
    shares = {}
    for factor in (1, 10):
        weights = {"source": "boxes", "factor": factor, "otherwise": None}
        config = small("annotations", data=data, loss={"terms": [{"kind": "weighted_l2", "map": weights}]})
        record = train(config, tmp_path / str(factor))
        assert record.validation["psnr"] > mean_psnr_of_inputs(config) + 0.3
        shares[factor] = share_within_marks(config, tmp_path / str(factor))
    assert shares[10] < shares[1]


def test_against_a_discriminator_it_trains_as_stably_as_without(tmp_path: Path) -> None:
    judged = {"kind": "adversarial", "weight": 0.05, "patch": 16, "channels": 8, "after_steps": 30}
    psnr = {}
    for name, terms in (("without", [{"kind": "l1"}]), ("with", [{"kind": "l1"}, judged])):
        config = small("denoising", loss={"terms": terms}, log_every_steps=1)
        psnr[name] = train(config, tmp_path / name).validation["psnr"]
    assert psnr["with"] > psnr["without"] - 1.0
    steps, losses = course(tmp_path / "with" / "metrics.csv", "train/adversarial_discriminator", 1000)
    assert steps.tolist() == list(range(31, 101))
    assert losses.max() < 1.5, "as at its first step, when it knows nothing"
    # A quarter is a draw; near zero it would tell every patch, and the network would have nothing to go by.
    assert 0.1 < losses[-20:].mean() < 0.4


def test_it_learns_a_transform_from_random_weights(tmp_path: Path) -> None:
    settings = {"size": [32, 32], "start": "random", "channels": 8}
    sizes = {"k1": [32, 32], "k0": [32, 32], "coils": {"n_coils": [1, 1]}, "masks": {"acceleration": [2, 2]}}
    config = small(
        "automap", model=settings, data={"simulation": sizes, "batch_size": 8}, weight_changes=True
    )
    record = train(config, tmp_path / "run")
    samples = SimulatedSamples(config.data, "validation")
    targets = [samples[SampleKey(0, 0, number)]["target"] for number in range(4)]
    # What a network can do that knows nothing of the scan.
    mean = torch.stack(targets).mean(0)
    known = statistics.mean(
        measure(torch.complex(*mean).numpy(), torch.complex(*target).numpy()).psnr for target in targets
    )
    assert record.validation["psnr"] > known + 1.5
    moved = (tmp_path / "run/weights.csv").read_text("utf-8")
    ratio = next(row.split(",")[-1] for row in moved.splitlines() if row.startswith("dense1.along_k1"))
    assert float(ratio) > 0.2, "a transform was learned by layers that hardly moved"


def test_without_truth_it_learns_nearly_what_it_learns_with_truth(tmp_path: Path) -> None:
    without = train(small("self-supervised"), tmp_path / "without")
    supervised = small("self-supervised", loss={"terms": [{"kind": "l1"}]})
    assert without.validation["psnr"] > train(supervised, tmp_path / "with").validation["psnr"] - 0.5


def test_a_network_is_tuned_to_one_scan_by_its_own_lines(tmp_path: Path) -> None:
    """It predicts lines better that neither its input nor its loss ever had."""
    scan = simulate(
        ScanConfig.model_validate(
            {
                "geometry": {"matrix": (64, 64, 1)},
                "coils": {"n_coils": 4},
                "sampling": {"pattern": "random", "acceleration": (3, 1), "acs": (12, 0)},
                "noise": {"std": 0.005},
            }
        )
    )
    (tmp_path / "scan" / "somebody").mkdir(parents=True)
    with Hdf5Writer(tmp_path / "scan" / "somebody" / "scan.h5", scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    settings = {
        "initial": None,
        "model": {"n_cascades": 2, "channels": 8, "pools": 2, "memory": 0},
        "data": {"sources": [{"kind": "mrd-scans", "folder": tmp_path / "scan", "split": {"shared": "all"}}]},
        "optimiser": {"lr": 3.0e-3},
        "max_steps": 120,
        "accelerator": "cpu",
    }
    for part in ("simulation", "validation_simulation"):
        settings["data"][part] = {"k0": [64, 64], "readout_crop": None}
    config = load_config(CONFIGS / "zero-shot.yaml", settings)
    record = train(config, tmp_path / "run")
    steps, losses = course(tmp_path / "run" / "metrics.csv", "validation/loss", 1000)
    assert steps[0] == 0
    assert record.validation["loss"] == pytest.approx(losses.min(), rel=1e-5)
    assert losses.min() < 0.8 * losses[0]


def test_a_bundle_says_what_its_network_is_told(tmp_path: Path) -> None:
    settings = {
        "model": {"channels": 4},
        "data": {
            "sources": [{"kind": "synthetic-tissues", "n_subjects": 24, "slices_per_subject": 1, "size": 64}],
            "simulation": {"coils": {"n_coils": [3, 3]}},
            "validation_samples": 4,
        },
        "max_steps": 10,
    }
    study, base, _ = load_study(CONFIGS / "study-conditioning.yaml", {"settings": settings})
    (config,) = (one.config for one in plan(study, base, tmp_path) if one.variation.name == "told")
    assert config is not None
    train(config, tmp_path / "run")
    manifest = build_bundle(
        tmp_path / "run", tmp_path / "bundle", BuildOptions(name="told", buckets=((64, 64),))
    )
    ranges = {one.name: one.trained for one in manifest.parameters}
    assert [*ranges] == ["acceleration", "te", "tr"]
    assert (ranges["te"].low, ranges["te"].high) == (12, 100)
    assert 1.5 < ranges["acceleration"].low < ranges["acceleration"].high < 9
    network, _ = load_model(tmp_path / "run")
    batch = default_collate([SimulatedSamples(config.data, "validation")[SampleKey(0, 0, 0)]])
    inputs = network.inputs(batch)
    graph = bind(BundleSource(Bundle.open(tmp_path / "bundle"), (64, 64)))
    with torch.inference_mode():
        torch.testing.assert_close(graph(*inputs), network(*inputs), rtol=1e-4, atol=1e-5)
