"""The adversarial loss: what the discriminator sees and learns, and a training against it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file

from scanside.errors import ConfigError, NonFiniteError, ShapeError
from scanside_training.config import read_config
from scanside_training.losses import Loss, LossConfig, build_loss
from scanside_training.losses.adversarial import PatchDiscriminator, average_gradients
from scanside_training.reconstruction import Reconstruction
from scanside_training.trainer import train

CAUTION = "trained with an adversarial loss: may invent detail"
SMALL = {"kind": "adversarial", "weight": 0.05, "patch": 16, "channels": 8, "after_steps": 4}


def adversarial(**settings: Any) -> Loss:
    torch.manual_seed(5)
    term = {"kind": "adversarial", "weight": 1.0, "patch": 16, "channels": 4, "after_steps": 0, **settings}
    return build_loss(LossConfig.model_validate({"terms": [term]}))


def images(seed: int, channels: int = 2) -> torch.Tensor:
    return torch.randn(2, channels, 24, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("patch", [16, 34, 70])
def test_a_judgement_hangs_on_its_patch_alone(patch: int) -> None:
    torch.manual_seed(1)
    image = torch.rand(1, 1, 160, 160, requires_grad=True)
    judged = PatchDiscriminator(patch, 4).eval()(image)
    middle = judged.shape[-1] // 2
    judged[0, 0, middle, middle].backward()
    assert image.grad is not None
    rows, columns = torch.nonzero(image.grad[0, 0], as_tuple=True)
    for places in (rows, columns):
        assert int(places.max() - places.min()) + 1 == patch


def test_its_convolutions_have_spectral_norm_1() -> None:
    torch.manual_seed(1)
    discriminator = PatchDiscriminator(16, 8).train()
    for _ in range(60):
        discriminator(torch.rand(1, 1, 32, 32))
    for layer in discriminator.eval().layers[::2]:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert float(norm) == pytest.approx(1, rel=0.02)


def test_what_nobody_can_tell_apart_is_a_draw() -> None:
    loss, same = adversarial(lr=5e-3), images(1)
    for step in range(80):
        told = loss.learn(same, {"target": same}, step)
    assert float(told["adversarial_discriminator"]) == pytest.approx(0.25, abs=5e-3)
    assert float(loss(same, {"target": same})["adversarial"]) == pytest.approx(0.25, abs=0.05)


def test_it_tells_noise_from_what_is_smooth_and_says_where_to_go() -> None:
    loss = adversarial(lr=5e-3)
    target = torch.ones(2, 2, 24, 16)
    output = (target + 2 * images(2)).requires_grad_()
    for step in range(100):
        told = loss.learn(output, {"target": target}, step)
    assert output.grad is None, "the network does not learn from what the discriminator learns"
    assert float(told["adversarial_discriminator"]) < 0.15
    before = loss(output, {"target": target})["total"]
    assert float(before.detach()) > float(loss(target, {"target": target})["total"]) + 0.2
    before.backward()
    assert output.grad is not None
    better = output.detach() - 0.1 * output.grad / output.grad.abs().max()
    assert float(loss(better, {"target": target})["total"]) < float(before.detach())


def test_before_it_begins_it_is_zero() -> None:
    loss = adversarial(after_steps=3)
    output, batch = images(1).requires_grad_(), {"target": images(2)}
    assert loss.learn(output, batch, 2) == {}
    before = loss(output, batch)["total"]
    before.backward()
    assert float(before.detach()) == 0
    assert output.grad is not None, "so that it may stand alone"
    assert not output.grad.any()
    assert loss.learn(output, batch, 3)
    assert float(loss(output, batch)["total"].detach()) > 0.1


def test_judging_teaches_nothing() -> None:
    loss, batch = adversarial(), {"target": images(2)}
    loss.learn(images(1), batch, 0)
    before = loss.learned()["adversarial"]["discriminator"]
    kept = {name: tensor.clone() for name, tensor in before.items()}
    loss(images(1).requires_grad_(), batch)["total"].backward()
    after = loss.learned()["adversarial"]["discriminator"]
    assert all(torch.equal(tensor, after[name]) for name, tensor in kept.items())
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_what_it_learned_is_carried_over() -> None:
    one, other, batch = adversarial(), adversarial(), {"target": images(2)}
    file = io.BytesIO()
    for step in range(3):
        one.learn(images(1), batch, step)
    torch.save(one.learned(), file)
    file.seek(0)
    other.restore(torch.load(file, weights_only=True))
    for step in range(3, 5):
        told = [
            float(loss.learn(images(1), batch, step)["adversarial_discriminator"]) for loss in (one, other)
        ]
        assert told[0] == told[1]
    assert float(one(images(1), batch)["total"]) == float(other(images(1), batch)["total"])


def test_what_cannot_work() -> None:
    with pytest.raises(ShapeError, match=r"patches of 34 pixels, and images are \(24, 16\): choose smaller"):
        adversarial(patch=34).learn(images(1), {"target": images(2)}, 0)
    with pytest.raises(NonFiniteError, match="loss of the discriminator at step 7 is nan"):
        adversarial().learn(images(1) * torch.nan, {"target": images(2)}, 7)
    with pytest.raises(ValueError, match="no errors of pixels"):
        adversarial(within_roi=True)


def test_films_are_judged_frame_by_frame() -> None:
    loss = adversarial()
    film, target = (torch.stack([images(seed) for seed in seeds], 2) for seeds in ((1, 2), (3, 4)))
    loss.learn(film, {"target": target}, 0)
    frames = [float(loss(film[:, :, t], {"target": target[:, :, t]})["total"]) for t in range(2)]
    assert float(loss(film, {"target": target})["total"]) == pytest.approx(sum(frames) / 2)


def settings_of(tiny: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return tiny | {"loss": {"terms": [{"kind": "l1"}, SMALL]}, **settings}


def test_a_run_that_ends_before_it_begins_is_refused(tiny: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match="begins after 4 steps, and the run ends after 4: let it begin earlier"
    ):
        read_config(settings_of(tiny, max_steps=4), "tiny")


@pytest.mark.usefixtures("slice_cache", "one_thread")
class TestTraining:
    """Runs against it."""

    INTERRUPTIBLE: ClassVar[dict[str, Any]] = {
        "max_steps": 8, "accumulate": 2, "ema_decay": 0.9, "gradient_clip": 0.5, "validation": {"every_steps": 3},
    }  # fmt: skip

    def run(self, tiny: dict[str, Any], folder: Path, *, resume: bool = False, **settings: Any) -> Any:
        return train(read_config(settings_of(tiny, **settings), "tiny"), folder, resume=resume)

    def test_resumed_run_is_the_uninterrupted_one(
        self, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.run(tiny, tmp_path / "whole", **self.INTERRUPTIBLE)

        def pull_the_plug(module: Reconstruction, *_: Any) -> None:
            if module.global_step == 7:
                raise InterruptedError

        with monkeypatch.context() as patch:
            patch.setattr(Reconstruction, "on_train_batch_end", pull_the_plug)
            with pytest.raises(InterruptedError):
                self.run(tiny, tmp_path / "parts", **self.INTERRUPTIBLE)
        begun = torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)
        assert (begun["global_step"], begun["learned_by_loss"]["adversarial"]["steps"]) == (6, 4)
        self.run(tiny, tmp_path / "parts", resume=True, **self.INTERRUPTIBLE)
        one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
        ends = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "parts")]
        learned = [end["learned_by_loss"]["adversarial"] for end in ends]
        assert learned[0]["steps"] == learned[1]["steps"] == 8
        for name, tensor in learned[0]["discriminator"].items():
            assert torch.equal(tensor, learned[1]["discriminator"][name]), name
        moments = [one["optimiser"]["state"] for one in learned]
        assert all(torch.equal(moments[0][i]["exp_avg_sq"], moments[1][i]["exp_avg_sq"]) for i in moments[0])

    def test_until_it_begins_the_network_is_the_same(self, tiny: dict[str, Any], tmp_path: Path) -> None:
        """The last step is the first one that the discriminator has a say in."""
        losses = []
        for name, terms in (("with", [{"kind": "l1"}, SMALL]), ("without", [{"kind": "l1"}])):
            train(read_config(tiny | {"loss": {"terms": terms}}, "tiny"), tmp_path / name)
            with (tmp_path / name / "metrics.csv").open(newline="", encoding="utf-8") as file:
                losses.append([row["train/l1"] for row in csv.DictReader(file) if row["train/l1"]])
        assert losses[0][:5] == losses[1][:5]
        assert losses[0][5] != losses[1][5]

    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
    def test_the_record_says_so(self, tiny: dict[str, Any], tmp_path: Path, precision: str) -> None:
        record = self.run(tiny, tmp_path / "run", precision=precision)
        assert record.cautions == (CAUTION,)
        assert f"tiny: {CAUTION}" in (tmp_path / "run" / "log").read_text("utf-8")
        child = train(
            read_config(tiny | {"name": "child", "initial": str(tmp_path / "run"), "max_steps": 1}, "child"),
            tmp_path / "child",
        )
        assert child.cautions == ()
        assert child.lineage is not None
        assert child.lineage.cautions == (f"goes back to tiny, {CAUTION}",)


def test_processes_learn_from_the_mean_of_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside another process whose gradients are larger by 2."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda gradient: gradient.mul_(2).add_(2))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    one = torch.nn.Parameter(torch.zeros(3))
    one.grad = torch.tensor([1.0, -1.0, 0.5])
    average_gradients([one])
    assert one.grad.tolist() == [2.0, 0.0, 1.5]
