"""The features' difference is there, teaches the student, leaves the teacher alone, and works under Lightning."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.data import DataLoader

from scanside.errors import ConfigError
from scanside_training import distillation as module
from scanside_training.distillation import Distillation, DistillationConfig
from scanside_training.features import standardised
from scanside_training.losses import LossConfig, build_loss
from scanside_training.models import UnetConfig, UnrolledConfig
from scanside_training.models.base import Batch

LAYERS = ("body.encoder.0", "body.bottleneck", "body.decoder.1")
LOSS = build_loss(LossConfig.model_validate({"terms": [{"kind": "l2"}]}))


def config(*layers: Any, **settings: Any) -> DistillationConfig:
    return DistillationConfig.model_validate({"layers": layers or LAYERS, **settings})


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


@pytest.fixture
def teacher() -> nn.Module:
    return UnetConfig(image_channels=1, channels=6, pools=2, dropout=0.3).build()


@pytest.fixture
def student() -> nn.Module:
    return UnetConfig(image_channels=1, channels=2, pools=2).build()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(6)
    image, target = torch.randn(2, 3, 1, 16, 24, generator=generator)
    return {"image": image, "target": target}


@pytest.mark.parametrize("project", ["student", "teacher"])
def test_gradient_reaches_student_and_projections_only(
    project: str, teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    # Without reconstruction, all gradients are those of the features.
    distil = Distillation(teacher, student, config(alpha=0.0, project=project), batch)
    output, losses = distil(student, batch, LOSS)
    assert torch.equal(output, student(batch["image"]))
    assert float(losses["distillation"]) > 0.1
    assert losses["total"].item() == float(losses["distillation"])
    losses["total"].backward()
    for name, parameter in student.named_parameters():
        behind = name.startswith("body.last")  # all layers that are compared lie before it
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()) is not behind, name
    for parameter in distil.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_images_are_compared_too(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    settings = DistillationConfig(output=True, alpha=0.0)
    distil = Distillation(teacher, student, settings, batch)
    _, losses = distil(student, batch, LOSS)
    images = [model.eval()(batch["image"]).detach().numpy() for model in (teacher, student)]
    assert float(losses["distillation"]) == pytest.approx(
        float(np.abs(images[0] - images[1]).mean()), rel=1e-5
    )
    losses["total"].backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    both = Distillation(teacher, student, config("body.bottleneck", output=True), batch)
    features = Distillation(teacher, student, config("body.bottleneck"), batch)
    features.load_state_dict(both.state_dict())
    found = [float(one(student, batch, LOSS)[1]["distillation"]) for one in (both, features)]
    assert found[0] == pytest.approx(found[1] + float(losses["distillation"]), rel=1e-5)


def test_something_must_be_compared() -> None:
    with pytest.raises(ValidationError, match="name layers, or set output"):
        DistillationConfig()


@pytest.mark.parametrize("project", ["student", "teacher"])
def test_as_numpy_has_it(project: str, teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    distil = Distillation(teacher, student, config("body.bottleneck", project=project), batch)
    _, losses = distil(student, batch, LOSS)

    def features(model: Any) -> Any:
        body, x = model.body, batch["image"]
        for block in body.encoder:
            x = nn.functional.avg_pool2d(block(x), 2)
        return body.bottleneck(x).detach().numpy().astype(np.float64)

    def normal(x: Any) -> Any:
        return (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)

    theirs, ours = features(teacher), features(student)
    weight = distil.projections[0].weight.detach().numpy()[:, :, 0, 0]
    assert weight.shape == ((24, 8) if project == "student" else (8, 24))
    if project == "student":
        ours = np.einsum("oi,biyx->boyx", weight, ours)
    else:
        theirs = np.einsum("oi,biyx->boyx", weight, theirs)
    expected = ((normal(ours) - normal(theirs)) ** 2).mean()
    assert float(losses["distillation"]) == pytest.approx(expected, rel=1e-5)


def test_layers_add_up(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    together = Distillation(teacher, student, config(), batch)
    single = 0.0
    for projection, layer in zip(together.projections, LAYERS, strict=True):
        alone = Distillation(teacher, student, config(layer), batch)
        alone.projections[0] = projection
        single += float(alone(student, batch, LOSS)[1]["distillation"])
    assert float(together(student, batch, LOSS)[1]["distillation"]) == pytest.approx(single)


def test_total_is_weighted_by_alpha(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    _, losses = Distillation(teacher, student, config(), batch)(student, batch, LOSS)
    reconstruction = LOSS(student(batch["image"]), batch)["total"].item()
    assert float(losses["reconstruction"]) == pytest.approx(reconstruction)
    expected = 0.75 * reconstruction + 0.25 * float(losses["distillation"])
    assert losses["total"].item() == pytest.approx(expected)
    assert set(losses) == {"l2", "reconstruction", "distillation", "total"}


def test_features_that_got_lost_are_an_error(
    teacher: nn.Module, student: nn.Module, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clearing them before they are compared must not pass for a difference of zero."""
    distil = Distillation(teacher, student, config(), batch)
    captured = module.captured

    @contextmanager
    def forgetful(*args: Any) -> Iterator[dict[str, torch.Tensor]]:
        with captured(*args) as features:
            yield features
        features.clear()

    monkeypatch.setattr(module, "captured", forgetful)
    with pytest.raises(ConfigError, match=r"body\.encoder\.0.*gave nothing"):
        distil(student, batch, LOSS)


def test_student_can_learn_the_features(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    distil = Distillation(teacher, student, config(alpha=0.0), batch)
    frozen = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimiser = torch.optim.Adam([*student.parameters(), *distil.parameters()], lr=0.01)
    course = []
    for _ in range(25):
        optimiser.zero_grad()
        losses = distil(student, batch, LOSS)[1]
        losses["total"].backward()
        optimiser.step()
        course.append(float(losses["distillation"]))
    assert course[-1] < 0.7 * course[0]
    assert all(torch.equal(value, frozen[name]) for name, value in teacher.state_dict().items())


def test_equal_features_make_no_difference(teacher: nn.Module, batch: Batch) -> None:
    twin = copy.deepcopy(teacher).eval()
    distil = Distillation(teacher, twin, config("body.encoder.0"), batch)
    nn.init.dirac_(distil.projections[0].weight)
    assert float(distil(twin, batch, LOSS)[1]["distillation"]) == pytest.approx(0, abs=1e-9)


def test_scale_and_offset_do_not_matter() -> None:
    features = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(1))
    scale, offset = torch.tensor([2.0, 30.0, 0.5]).view(3, 1, 1), torch.tensor([5.0, 0.0, -1.0]).view(3, 1, 1)
    torch.testing.assert_close(
        standardised(scale * features + offset), standardised(features), atol=1e-4, rtol=0
    )
    assert not standardised(torch.full((1, 1, 4, 4), 7.0)).any()
    assert standardised(features.bfloat16()).dtype == torch.float32


def test_teacher_is_frozen_without_dropout_and_not_saved(
    teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    distil = Distillation(teacher.train(), student, config(), batch)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    distil.train()
    assert not teacher.training
    # Even where something else has put it into training mode, its dropout is off.
    teacher.train()
    runs = {float(distil(student, batch, LOSS)[1]["distillation"]) for _ in range(3)}
    assert len(runs) == 1
    assert set(distil.state_dict()) == {f"projections.{n}.weight" for n in range(3)}
    assert len(list(distil.parameters())) == 3


def test_student_keeps_its_mode_and_carries_no_hooks(
    teacher: nn.Module, student: nn.Module, batch: Batch
) -> None:
    student.train()
    distil = Distillation(teacher, student, config(), batch)
    assert student.training
    distil(student, batch, LOSS)
    for network in (student, teacher):
        assert not any(layer._forward_hooks for layer in network.modules())


def test_layers_by_pairs(teacher: nn.Module, batch: Batch) -> None:
    shallow = UnetConfig(image_channels=1, channels=2, pools=1).build()
    pair = {"teacher": "body.encoder.1", "student": "body.bottleneck"}
    distil = Distillation(teacher, shallow, config(pair), batch)
    assert float(distil(shallow, batch, LOSS)[1]["distillation"]) > 0.1


def test_unrolled_networks() -> None:
    settings = {"n_cascades": 2, "pools": 1, "consistency": {"kind": "hard"}}
    teacher, student = (
        UnrolledConfig.model_validate({**settings, "channels": channels}).build() for channels in (4, 2)
    )
    generator = torch.Generator().manual_seed(7)
    image, target = torch.randn(2, 1, 2, 8, 8, generator=generator)
    maps = torch.zeros(1, 1, 2, 8, 8)
    maps[:, :, 0] = 1
    mask = (torch.arange(8).view(1, 8, 1) % 2).float()
    batch = {"image": image, "maps": maps, "mask": mask, "noise": torch.tensor([0.01]), "target": target}
    layers = [f"networks.{n}.body.encoder.0" for n in range(2)]
    distil = Distillation(teacher, student, config(*layers), batch)
    losses = distil(student, batch, LOSS)[1]
    losses["total"].backward()
    weight = student.get_parameter("networks.0.body.encoder.0.0.weight")
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


def test_layers_that_cannot_be_compared(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    uneven = {"teacher": "body.encoder.0", "student": "body.encoder.1"}
    with pytest.raises(
        ConfigError, match=r"'body\.encoder\.1' of the student.*\(8, 12\) and \(16, 24\).*resolution"
    ):
        Distillation(teacher, student, config(uneven), batch)
    with pytest.raises(ConfigError, match=r"no layer 'body\.encodr\.0'.*body\.encoder\.0"):
        Distillation(teacher, student, config("body.encodr.0"), batch)
    with pytest.raises(ConfigError, match="gave nothing"):  # a list of modules does not itself run
        Distillation(teacher, student, config("body.encoder"), batch)


@pytest.mark.parametrize(
    "settings", [{"layers": []}, {"layers": ["a"], "alpha": 1.5}, {"layers": ["a"], "beta": 1}]
)
def test_configurations_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DistillationConfig.model_validate(settings)


class Module(lightning.LightningModule):
    """As a trainer would use it, with a moving average of the student."""

    def __init__(self, student: nn.Module, distil: Distillation) -> None:
        super().__init__()
        self.student = student
        self.distil = distil
        self.average = torch.optim.swa_utils.AveragedModel(student)
        self.course: list[float] = []

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        losses = self.distil(self.student, batch, LOSS)[1]
        self.course.append(float(losses["distillation"]))
        return losses["total"]

    def on_train_batch_end(self, *args: Any) -> None:
        self.average.update_parameters(self.student)
        self.average(torch.zeros(1, 1, 8, 8))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([*self.student.parameters(), *self.distil.parameters()], lr=0.05)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # within Lightning 2.6 with torch 2.13
def test_under_lightning(teacher: nn.Module, student: nn.Module, batch: Batch) -> None:
    before = copy.deepcopy(student.state_dict())
    network = Module(student, Distillation(teacher, student, config(), batch))
    samples = [{name: value[n] for name, value in batch.items()} for n in range(3)]
    trainer = lightning.Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, DataLoader(samples, batch_size=1))  # type: ignore[arg-type]
    assert min(network.course) > 0.1
    after = network.student.state_dict()
    assert not torch.equal(after["body.encoder.0.0.weight"], before["body.encoder.0.0.weight"])
    assert not teacher.training
    assert not any("teacher" in name for name in network.state_dict())
    twin = copy.deepcopy(network)
    assert twin.distil.teacher is not teacher
    first, second = (
        float(one.distil(one.student, batch, LOSS)[1]["total"].detach()) for one in (network, twin)
    )
    assert first == second
