"""Networks that are told numbers of the scan by the stage; where it cannot, the classical image goes out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from scanside import Context, Image, KSpace, Scan
from scanside.engines.manifest import Range, TakenParameter
from scanside.mrd.header import MrdHeader
from scanside.stages._refused import Refused
from scanside.stages._rehearsal import rehearsal
from scanside.stages._sequence import SequenceNumbers, contrast_counters
from scanside.stages.engine import RunEngine
from scanside.stages.sense import Sense
from scanside.testing import small_kspace, small_scan

R = 24 / 16


def with_sequence(elements: str) -> Scan:
    xml = small_scan().header.xml.decode()
    end = "</ismrmrdHeader>"
    return Scan.from_xml(
        xml.replace(end, f"<sequenceParameters>{elements}</sequenceParameters>{end}"), "small"
    )


def of_contrast(item: KSpace, contrast: int) -> KSpace:
    headers = item.headers.copy()
    headers["idx"]["contrast"][item.mask.numpy()] = contrast
    return item.replace(headers=headers)


@pytest.fixture(scope="module")
def stage(told_bundle: Path) -> Iterator[RunEngine]:
    stage = RunEngine(bundle=str(told_bundle), backend="eager", residual=None)
    stage.prepare(Context(device="cpu"))
    yield stage
    stage.close()


def image_of(stage: RunEngine, scan: Scan, item: KSpace) -> Image:
    stage.open(scan)
    (image,) = stage.process(item)
    stage.close()
    return image


def sense_image(item: KSpace) -> torch.Tensor:
    sense = Sense(l2_noise=10)
    sense.open(small_scan())
    (image,) = sense.process(item)
    return image.data


@pytest.mark.parametrize(
    ("elements", "contrast", "te"),
    [
        ("<TE>80</TE>", 0, 80),
        ("<TE>80</TE>", 3, 80),
        ("<TE>30</TE><TE>90</TE>", 0, 30),
        ("<TE>30</TE><TE>90</TE>", 1, 90),
    ],
)
def test_the_header_and_the_mask_are_told(stage: RunEngine, elements: str, contrast: int, te: float) -> None:
    """As the network's formula says, on the image of the stage ``sense``."""
    scan, item = with_sequence(elements), of_contrast(small_kspace(coil_maps=True), contrast)
    image = image_of(stage, scan, item)
    factor = R / 4 + 2 * math.log(te / 50)
    torch.testing.assert_close(image.data, factor * sense_image(item), rtol=1e-4, atol=1e-6)
    assert scan.warnings == []
    assert "ScansideFallback" not in image.meta


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ("<TR>500</TR>", "sequenceParameters.TE is missing"),
        ("<TE>0</TE>", "sequenceParameters.TE is 0, expected a positive number"),
    ],
)
def test_what_the_header_lacks_is_told_when_the_scan_begins(
    stage: RunEngine, elements: str, said: str
) -> None:
    scan, item = with_sequence(elements), small_kspace(coil_maps=True)
    stage.open(scan)
    (told,) = scan.warnings
    assert said in told
    assert "'told'" in told
    (image,) = stage.process(item)
    stage.close()
    assert image.meta["ScansideFallback"][:2] == ["sense", "unfit"]
    assert said in image.meta["ScansideFallback"][2]
    torch.testing.assert_close(image.data, sense_image(item))


def test_a_contrast_without_an_echo_time_has_a_classical_image(stage: RunEngine) -> None:
    scan, item = with_sequence("<TE>30</TE><TE>90</TE>"), of_contrast(small_kspace(coil_maps=True), 2)
    image = image_of(stage, scan, item)
    assert image.meta["ScansideFallback"][:2] == ["sense", "unfit"]
    assert (
        "TE has 2 values, one for each contrast, and 0 of them for this image"
        in image.meta["ScansideFallback"][2]
    )


def test_a_scan_unlike_those_of_the_training_is_told(stage: RunEngine) -> None:
    scan = with_sequence("<TE>200</TE>")
    image = image_of(stage, scan, small_kspace(coil_maps=True))
    assert image.meta["ScansideFitness"] == ["sequenceParameters.TE 200, trained for 20–100"]
    assert "ScansideFallback" not in image.meta


def test_the_rehearsal_says_all_numbers(stage: RunEngine) -> None:
    scan, _ = rehearsal(stage._networks[0].manifest, (32, 32), 4, torch.device("cpu"))
    everything = [
        TakenParameter(name=name, trained=Range(low=0, high=1e4))
        for name in ("acceleration", "field_strength", "te", "tr", "ti", "flip_angle")
    ]
    found = SequenceNumbers.of(scan.header, everything)
    assert found.lacking == ()
    assert found.at((0,)) == {"field_strength": 1.5, "te": 50, "tr": 1000, "ti": 1000, "flip_angle": 90}


def test_several_values_of_what_no_counter_tells_apart() -> None:
    taken = [TakenParameter(name=name, trained=Range(low=1, high=2)) for name in ("tr", "flip_angle")]
    same = MrdHeader.parse(
        with_sequence("<TR>500</TR><TR>500</TR><flipAngle_deg>5</flipAngle_deg>").header.xml
    )
    assert SequenceNumbers.of(same, taken).at((0, 1)) == {"tr": 500, "flip_angle": 5}
    header = MrdHeader.parse(with_sequence("<TR>500</TR><TR>600</TR>").header.xml)
    assert SequenceNumbers.of(header, taken).lacking == (
        "sequenceParameters.TR has 2 values, and nothing says which of them an image has",
        "sequenceParameters.flipAngle_deg is missing",
    )


def test_an_image_of_two_contrasts_has_no_echo_time() -> None:
    numbers = SequenceNumbers({"te": (30.0, 90.0)})
    with pytest.raises(Refused, match="2 of them for this image, whose contrast is 0, 1"):
        numbers.at((0, 1))


def test_contrasts_are_those_of_acquired_lines() -> None:
    item = of_contrast(small_kspace(), 2)
    assert contrast_counters(item) == (2,)
    assert np.unique(item.headers["idx"]["contrast"]).tolist() == [0, 2]
