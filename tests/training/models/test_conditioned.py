"""A network that is told numbers of the scan."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from scanside import Context, Scan
from scanside.engines.roles import inputs_of
from scanside.stages.engine import RunEngine
from scanside.testing import small_kspace, small_scan
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.inputs import known_of_image
from scanside_training.models import ConditionedUnet, ConditionedUnetConfig, UnetConfig, known_in


def network(*parameters: str) -> ConditionedUnet:
    torch.manual_seed(0)
    config = ConditionedUnetConfig.model_validate({"parameters": parameters, "channels": 4, "pools": 2})
    return config.build().eval()


def test_the_stage_tells_what_the_trainer_told(told_bundle: Path) -> None:
    """Of the same mask and the same echo time."""
    xml = small_scan().header.xml.decode()
    times = "<sequenceParameters><TE>80</TE></sequenceParameters></ismrmrdHeader>"
    scan, item = Scan.from_xml(xml.replace("</ismrmrdHeader>", times)), small_kspace(coil_maps=True)
    stage = RunEngine(bundle=str(told_bundle), backend="eager")
    stage.prepare(Context(device="cpu"))
    stage.open(scan)
    (learned,) = stage._networks
    (engine,) = learned.engines
    image, maps = torch.ones(24, 24, dtype=torch.complex64), item.coil_maps[:, 0]
    _, of_stage = learned.inputs(engine, image, maps, item.mask[0], torch.tensor(0.1))
    batch = {
        "image": torch.ones(1, 2, 24, 24),
        "mask": item.mask[0][None, :, None].float(),
        "te": torch.tensor([80.0]),
    }
    _, of_trainer = network("acceleration", "te").inputs(batch)
    assert torch.equal(of_stage, of_trainer)
    case = Case("0", {}, *[image.abs().numpy()] * 3, sample={name: one[0] for name, one in batch.items()})
    known = known_of_image(case, batch["image"][0], ("acceleration", "te"))
    assert torch.equal(inputs_of(("parameters",), known)[0], of_trainer)


def test_each_image_of_a_batch_has_its_own_numbers() -> None:
    net = network("te", "tr")
    image, told = torch.randn(2, 2, 16, 16), torch.tensor([[0.5, 1.0], [-1.0, 0.3]])
    with torch.inference_mode():
        both = net(image, told)
        alone = [net(image[i : i + 1], told[i : i + 1])[0] for i in range(2)]
        changed = net(image, told.flip(0))
    torch.testing.assert_close(both, torch.stack(alone), rtol=1e-4, atol=1e-5)
    assert float((changed - both).norm() / (both - image).norm()) > 0.01


def test_it_learns_what_only_its_numbers_say() -> None:
    """To multiply an image with a factor that follows from what is told, and from nothing else."""
    net = network("te").train()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)

    def batch(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        image, told = (
            torch.randn(n, 2, 16, 16, generator=generator),
            2 * torch.rand(n, 1, generator=generator),
        )
        return image, told, image * told[..., None, None]

    for _ in range(100):
        image, told, target = batch(8)
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(net(image, told), target).backward()
        optimiser.step()
    image, told, target = batch(16)
    with torch.inference_mode():
        right, wrong = (float((net(image, one) - target).norm()) for one in (told, told.roll(1, 0)))
    assert right < 0.5 * wrong


def test_modulated_by_one_and_zero_it_is_the_plain_network() -> None:
    net = network("acceleration")
    plain = UnetConfig(channels=4, pools=2).build().eval()
    plain.load_state_dict({name: one for name, one in net.state_dict().items() if name.startswith("body")})
    for parameter in net.told.parameters():
        torch.nn.init.zeros_(parameter)
    image = torch.randn(1, 2, 24, 16)
    with torch.inference_mode():
        torch.testing.assert_close(net(image, torch.rand(1, 1)), plain(image))


def test_modulations_are_affine_maps_of_normed_features() -> None:
    """Of one block, by its layers one by one."""
    net = network("acceleration")
    block, x = net.body.bottleneck, torch.randn(1, 8, 8, 8)
    factor, offset = torch.rand(1, 16, 1, 1), torch.rand(1, 16, 1, 1)
    with torch.inference_mode():
        y, layers = x, [*block]
        for conv, norm, act in (layers[:3], layers[3:]):
            y = act(norm(conv(y)) * factor + offset)
        torch.testing.assert_close(block(x, (factor, offset)), y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "at least 1 item"),
        (["te", "te"], "each number is told once, got te, te"),
        (["echo"], "'acceleration'"),
    ],
)
def test_settings(parameters: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ConditionedUnetConfig.model_validate({"parameters": parameters})


def test_numbers_of_samples_are_no_images() -> None:
    known = known_in({"te": torch.ones(1), "image": torch.ones(1, 2, 4, 4)}, "none", ("te",))
    assert set(known.at_hand) == {"image"}
