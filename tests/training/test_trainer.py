"""Whole trainings, small ones: what they write, how they go on, and on several processes."""

from __future__ import annotations

import csv
import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from scanside.errors import ConfigError, FormatError, NonFiniteError, RunError
from scanside_training.checkpoint import load_model
from scanside_training.config import load_config, read_config
from scanside_training.reconstruction import Reconstruction
from scanside_training.trainer import TrainingRecord, train

Run = Callable[..., TrainingRecord]

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")


@pytest.fixture
def run(tiny: dict[str, Any], tmp_path: Path) -> Run:
    """Trains with the tiny settings, changed, in a folder of the test's."""

    def make(folder: str = "run", *, resume: bool = False, **settings: Any) -> TrainingRecord:
        return train(read_config({**tiny, **settings}, "tiny"), tmp_path / folder, resume=resume)

    return make


def figures(folder: Path, *names: str) -> list[tuple[str, ...]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [tuple(row[name] for name in ("step", *names)) for row in rows if all(row[name] for name in names)]


def weights(folder: Path, name: str = "model.safetensors") -> torch.Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(folder / name).items())])


def test_run_folder(run: Run, tmp_path: Path) -> None:
    record = run(max_steps=7, ema_decay=0.9)
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "model.safetensors", "best.safetensors", "last.ckpt", "metrics.csv", "images",
        "tensorboard", "log", "training.json",
    }  # fmt: skip
    assert [path.name for path in sorted((folder / "images").iterdir())] == [
        f"step-{step:07d}.png" for step in (3, 6, 7)
    ]
    assert [int(step) for step, _ in figures(folder, "train/loss")] == list(range(1, 8))
    validated = figures(folder, "validation/psnr")
    assert [int(step) for step, _ in validated] == [3, 6, 7]
    assert float(validated[-1][1]) == pytest.approx(record.validation["psnr"])
    assert record.best_psnr == pytest.approx(max(float(psnr) for _, psnr in validated))
    assert (record.steps, record.complete, record.seed) == (7, True, 0)
    assert TrainingRecord.model_validate(json.loads((folder / "training.json").read_text())) == record
    model, config = load_model(folder)
    assert config == load_config(folder / "config.yaml")
    assert record.n_parameters == sum(p.numel() for p in model.parameters())
    log = (folder / "log").read_text("utf-8")
    assert "step 6, " in log
    assert "finished after 7 steps" in log


def test_measures_are_those_of_the_weights_written(run: Run, tiny: dict[str, Any], tmp_path: Path) -> None:
    from torch.utils.data import default_collate

    from scanside_training.data import ReconstructionData, SampleKeys
    from scanside_training.measures import ReconstructionMeasures

    # It ends in a later epoch: what is validated must be the samples of the first one all the same.
    record = run(ema_decay=0.9, schedule={"kind": "constant"}, data={**tiny["data"], "samples_per_epoch": 4})
    model, config = load_model(tmp_path / "run")
    samples = ReconstructionData(config.data).samples("validation")
    measures = ReconstructionMeasures()
    for key in SampleKeys(4, 2):
        batch = default_collate([samples[key]])
        with torch.no_grad():
            measures.update(model(*model.inputs(batch)), batch)
    assert record.validation["psnr"] == pytest.approx(float(measures.compute()["psnr"]), abs=1e-4)
    trained = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["current_model_state"]
    current = torch.cat([trained[f"model.{name}"].flatten() for name in sorted(model.state_dict())])
    assert (current - weights(tmp_path / "run")).abs().max() > 1e-3, (
        "the weights written are the averaged ones"
    )


def test_training_reduces_the_loss(run: Run, tmp_path: Path) -> None:
    run(max_steps=60, validation={"every_steps": 60}, optimiser={"lr": 0.02})
    losses = [float(loss) for _, loss in figures(tmp_path / "run", "train/loss")]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


INTERRUPTIBLE: dict[str, Any] = {
    "max_steps": 8,
    "accumulate": 2,
    "ema_decay": 0.9,
    "schedule": {"warmup_steps": 3},
    "validation": {"every_steps": 4},
}


def assert_same_run(one: Path, other: Path) -> None:
    assert torch.equal(weights(one), weights(other))
    assert torch.equal(weights(one, "best.safetensors"), weights(other, "best.safetensors"))
    names = ("train/loss", "train/gradient_norm")
    assert figures(one, *names) == figures(other, *names)
    assert figures(one, "validation/psnr") == figures(other, "validation/psnr")
    states = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (one, other)]
    for part in ("current_model_state", "state_dict"):
        for name, tensor in states[0][part].items():
            assert torch.equal(tensor, states[1][part][name]), f"{part}: {name}"
    moments = [state["optimizer_states"][0]["state"] for state in states]
    assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[0])
    assert states[0]["lr_schedulers"] == states[1]["lr_schedulers"]
    assert states[0]["batches"] == states[1]["batches"] == 16


class PulledPlug(Exception):
    pass


@pytest.fixture
def broken_off(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a run that ended after six of its eight steps; its checkpoint is that of the fourth."""

    def pull_the_plug(module: Reconstruction, batch: Any, batch_idx: int) -> None:
        if module.global_step == 6:
            raise PulledPlug

    with monkeypatch.context() as patch:
        patch.setattr(Reconstruction, "on_train_batch_end", lambda m, _o, b, i: pull_the_plug(m, b, i))
        with pytest.raises(PulledPlug):
            run("parts", **INTERRUPTIBLE)
    return tmp_path / "parts"


def test_resumed_run_is_the_uninterrupted_one(run: Run, tmp_path: Path, broken_off: Path) -> None:
    run("whole", **INTERRUPTIBLE)
    assert "stopped: PulledPlug" in (broken_off / "log").read_text("utf-8")
    resumed = run("parts", resume=True, **INTERRUPTIBLE)
    assert resumed.steps == 8
    assert_same_run(tmp_path / "whole", broken_off)


def test_run_of_an_earlier_version_is_resumed(run: Run, tmp_path: Path, broken_off: Path) -> None:
    """Its networks doubled sizes by transposed convolutions, whose weights had another order."""

    def transposed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.reshape(-1, 2, 2, tensor.shape[1]).permute(3, 0, 1, 2).contiguous()

    run("whole", **INTERRUPTIBLE)
    path = broken_off / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    changed = [name for name in checkpoint["state_dict"] if name.endswith(".up.0.weight")]
    assert len(changed) == 2
    for part in ("state_dict", "current_model_state"):
        for name in changed:
            checkpoint[part][name] = transposed(checkpoint[part][name])
    moments = checkpoint["optimizer_states"][0]["state"]
    for index, name in enumerate(checkpoint["state_dict"]):
        if name in changed:
            for moment in ("exp_avg", "exp_avg_sq"):
                moments[index][moment] = transposed(moments[index][moment])
    torch.save(checkpoint, path)
    run("parts", resume=True, **INTERRUPTIBLE)
    assert_same_run(tmp_path / "whole", broken_off)


def test_run_stopped_by_hand_says_where_it_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(module: Reconstruction, *_: Any) -> None:
        if module.global_step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Reconstruction, "on_train_batch_end", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):
            run()
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning lets nobody interrupt its end
    log = (tmp_path / "run" / "log").read_text("utf-8")
    assert "interrupted at step 5; --resume goes on from step 3, of the last validation" in log


def test_run_that_ended_goes_on_with_more_steps(run: Run, tmp_path: Path) -> None:
    constant = {**INTERRUPTIBLE, "schedule": {"kind": "constant"}, "validation": {"every_steps": 8}}
    run("whole", **constant)
    run("parts", **{**constant, "max_steps": 3})
    first = figures(tmp_path / "parts", "validation/psnr")
    assert [step for step, _ in first] == ["3"]
    with pytest.raises(ConfigError, match="all 3 steps are made: give more"):
        run("parts", resume=True, **{**constant, "max_steps": 3})
    run("parts", resume=True, **constant)
    assert figures(tmp_path / "parts", "validation/psnr")[0] == first[0], "the first part's figures are kept"
    names = ("train/loss", "train/gradient_norm")
    assert figures(tmp_path / "whole", *names) == figures(tmp_path / "parts", *names)
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_resume_refuses_other_settings(run: Run, tmp_path: Path) -> None:
    run(max_steps=2)
    with pytest.raises(
        ConfigError, match=r"other settings of optimiser, seed .*may only change .*'initial:'"
    ):
        run(max_steps=4, seed=1, optimiser={"lr": 0.5}, resume=True)


def test_resume_of_a_truncated_checkpoint(run: Run, tmp_path: Path) -> None:
    run(max_steps=2)
    path = tmp_path / "run" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FormatError, match=r"last\.ckpt is truncated or no checkpoint"):
        run(max_steps=4, resume=True)


def test_run_is_not_overwritten(run: Run) -> None:
    run(max_steps=1)
    with pytest.raises(ConfigError, match="holds a run already: go on with it by --resume"):
        run(max_steps=1)


def test_time_limit_ends_the_run_with_weights(run: Run, tmp_path: Path) -> None:
    record = run(max_steps=100_000, max_minutes=0.5 / 60, validation={"every_steps": 100_000})
    assert 0 < record.steps < 100_000
    assert not record.complete
    assert record.validation["psnr"] > 0
    assert weights(tmp_path / "run").isfinite().all()
    further = run(max_steps=record.steps + 2, max_minutes=5, resume=True, validation={"every_steps": 100_000})
    assert further.steps == record.steps + 2
    assert further.seconds > record.seconds >= 0.4, "the time of both parts"


def test_patience_ends_the_run_with_its_best_weights(run: Run, tmp_path: Path) -> None:
    run(max_steps=30, validation={"every_steps": 30})
    wild = {"optimiser": {"lr": 0.3}, "initial": str(tmp_path / "run"), "max_steps": 100}
    record = run(folder="tuned", **wild, validation={"every_steps": 2, "images": 0, "patience": 3})
    losses = {int(step): float(loss) for step, loss in figures(tmp_path / "tuned", "validation/loss")}
    best = min(losses, key=losses.__getitem__)
    assert 0 in losses, "the weights that it begins with are judged too"
    assert record.complete
    assert record.steps == max(losses) < 100
    assert all(losses[step] >= losses[best] for step in list(losses)[-3:])
    assert record.validation["loss"] == pytest.approx(losses[best], rel=1e-6)
    assert torch.equal(weights(tmp_path / "tuned"), weights(tmp_path / "tuned", "best.safetensors"))
    assert torch.equal(weights(tmp_path / "tuned"), weights(tmp_path / "run")) == (best == 0)


def test_patience_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    settings = {
        "validation": {"every_steps": 2, "images": 0, "patience": 50},
        "schedule": {"kind": "constant"},
    }
    whole = run(folder="whole", max_steps=8, **settings)
    run(folder="parts", max_steps=4, **settings)
    resumed = run(folder="parts", max_steps=8, resume=True, **settings)
    assert resumed.validation == whole.validation


def test_epochs(run: Run) -> None:
    assert run(max_steps=None, max_epochs=2, accumulate=2).steps == 3  # 6 batches of 2 samples, 2 at a step


def test_warm_start(run: Run, tmp_path: Path) -> None:
    run("first", max_steps=2)
    run("second", max_steps=1, seed=5, optimiser={"lr": 1e-12}, initial=str(tmp_path / "first"))
    torch.testing.assert_close(weights(tmp_path / "second"), weights(tmp_path / "first"), rtol=0, atol=1e-6)
    with pytest.raises(FormatError, match="weights of another network"):
        run("third", model={"kind": "unet", "channels": 6, "pools": 2}, initial=str(tmp_path / "first"))


def test_distillation(run: Run, tmp_path: Path) -> None:
    run("teacher", max_steps=2, model={"kind": "unet", "channels": 8, "pools": 2})
    before = weights(tmp_path / "teacher")
    run(
        "student",
        ema_decay=0.9,
        distillation={"teacher": str(tmp_path / "teacher"), "layers": ["body.bottleneck"], "alpha": 0.5},
    )
    shown = figures(tmp_path / "student", "train/distillation", "train/reconstruction", "train/loss")
    for _, distillation, reconstruction, total in shown:
        assert float(distillation) > 0.01
        assert float(total) == pytest.approx(
            0.5 * float(reconstruction) + 0.5 * float(distillation), rel=1e-5
        )
    model, _ = load_model(tmp_path / "student")  # neither teacher nor projections are in it
    assert set(load_file(tmp_path / "student" / "model.safetensors")) == set(model.state_dict())
    assert torch.equal(weights(tmp_path / "teacher"), before)
    checkpoint = torch.load(tmp_path / "student" / "last.ckpt", weights_only=True)
    assert any(name.startswith("distillation.projections") for name in checkpoint["current_model_state"])
    assert len(checkpoint["current_model_state"]) == len(model.state_dict()) + 1


def test_bf16(run: Run, tmp_path: Path) -> None:
    run("wide", max_steps=2)
    record = run("narrow", max_steps=2, precision="bf16-mixed")
    assert record.complete
    assert all(
        tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "narrow/model.safetensors").values()
    )
    difference = (weights(tmp_path / "narrow") - weights(tmp_path / "wide")).abs().max()
    assert 0 < difference < 0.1


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_cuda(run: Run, tmp_path: Path, precision: str) -> None:
    run("teacher", max_steps=2, model={"kind": "unet", "channels": 8, "pools": 2})
    distillation = {"teacher": str(tmp_path / "teacher"), "layers": ["body.bottleneck"]}
    settings = {"accelerator": "cuda", "precision": precision, "ema_decay": 0.9, "distillation": distillation}
    record = run("cuda", **settings)
    assert record.machine["gpu"] == torch.cuda.get_device_name()
    further = run("cuda", **settings, max_steps=9, resume=True)
    assert further.steps == 9
    model, _ = load_model(tmp_path / "cuda")
    assert all(p.device.type == "cpu" and p.isfinite().all() for p in model.parameters())


def test_worker_processes_change_nothing(run: Run, tiny: dict[str, Any], tmp_path: Path) -> None:
    run("without", max_steps=2)
    run("with", max_steps=2, data={**tiny["data"], "num_workers": 1})
    assert torch.equal(weights(tmp_path / "with"), weights(tmp_path / "without"))


def test_non_finite_loss_ends_the_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"nonfinite-step\d+-rank0\.safetensors"):
        run(optimiser={"lr": 1e30}, max_steps=50)
    assert list((tmp_path / "run").glob("nonfinite-*.safetensors"))
    assert "stopped: NonFiniteError" in (tmp_path / "run" / "log").read_text("utf-8")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"precision": "16-mixed"}, "'16-mixed' needs CUDA: on the CPU use 'bf16-mixed'"),
        ({"devices": 3}, r"data\.validation_samples = 4 makes 2 batches for 3 processes"),
    ],
)
def test_refused_before_anything_is_written(
    run: Run, tmp_path: Path, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        run(**settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda(run: Run) -> None:
    with pytest.raises(ConfigError, match="torch sees no CUDA device: use 'auto' or 'cpu'"):
        run(accelerator="cuda")


def test_run_that_failed_early_can_be_started_again(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"nowhere/model\.safetensors does not exist"):
        run(initial=str(tmp_path / "nowhere"))
    assert run().complete


@pytest.mark.slow
def test_two_processes_take_the_mean_over_different_data(
    run: Run, tiny: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**tiny, "max_steps": 2, "devices": 2, "validation": {"every_steps": 2}}
    settings["model"] = {**tiny["model"], "dropout": 0.0}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(settings))
    command = ["scanside", "train", str(tmp_path / "two.yaml"), "-o", str(tmp_path / "two"), "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *command], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    alone = {**settings, "devices": 1}
    run("both", **alone, accumulate=2)  # one process that looks at the batches of both
    run("half", **alone)
    norms = {
        name: float(figures(tmp_path / name, "train/gradient_norm")[0][1]) for name in ("two", "both", "half")
    }
    assert norms["two"] == pytest.approx(norms["both"], rel=1e-4)
    assert norms["half"] != pytest.approx(norms["both"], rel=1e-2), "the second batch matters"
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "both"), rtol=0, atol=2e-3)
    assert (weights(tmp_path / "half") - weights(tmp_path / "both")).abs().max() > 1e-2
    # Each process validates its share, and the figures are those of all samples.
    assert float(figures(tmp_path / "two", "validation/psnr")[0][1]) == pytest.approx(
        float(figures(tmp_path / "both", "validation/psnr")[0][1]), abs=0.05
    )
    assert json.loads((tmp_path / "two" / "training.json").read_text())["machine"]["processes"] == 2


def test_a_full_disk_is_told_with_the_run_and_its_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("scanside_training.callbacks.run_folder.save_weights", full)
    expected = rf"the training 'tiny' stopped .*: {tmp_path}/run, on the disk at /.* No space left on device"
    with pytest.raises(RunError, match=expected):
        run(max_steps=3)


def test_a_run_in_two_stretches_is_the_run_in_one(tiny: dict[str, Any], tmp_path: Path) -> None:
    config = read_config({**tiny, **INTERRUPTIBLE}, "tiny")
    train(config, tmp_path / "one")
    first = train(config, tmp_path / "two", until=4)
    assert (first.steps, first.complete) == (4, False)
    with pytest.raises(ConfigError, match="all 4 steps are made"):
        train(config, tmp_path / "two", resume=True, until=4)
    assert train(config, tmp_path / "two", resume=True).complete
    assert_same_run(tmp_path / "one", tmp_path / "two")
