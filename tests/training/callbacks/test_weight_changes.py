"""How far layers move, as a table."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scanside_training.callbacks import WeightChanges

TRAINER: Any = SimpleNamespace(is_global_zero=True, global_step=3, loggers=[])


def a_module() -> Any:
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.zero_()
    return SimpleNamespace(model=layer)


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("resumed", [False, True])
def test_each_tensor_is_compared_with_what_it_began_as(tmp_path: Path, resumed: bool) -> None:
    module, changes = a_module(), WeightChanges(tmp_path / "weights.csv")
    changes.on_fit_start(TRAINER, module)
    with torch.no_grad():
        module.model.weight += 0.5
        module.model.bias += 2.0
    if resumed:
        state = changes.state_dict()
        changes = WeightChanges(tmp_path / "weights.csv")
        changes.load_state_dict(state)
        changes.on_fit_start(TRAINER, module)
    changes.on_train_end(TRAINER, module)
    found = rows_of(tmp_path / "weights.csv")
    assert set(found) == {"weight", "bias"}
    assert found["weight"]["n"] == "6"
    assert float(found["weight"]["norm_before"]) == pytest.approx(6**0.5, rel=1e-5)
    assert float(found["weight"]["relative_change"]) == pytest.approx(0.5)
    assert float(found["bias"]["norm_of_change"]) == pytest.approx(8**0.5, rel=1e-5)
    assert found["bias"]["relative_change"] == "", "what began as zero has no relative change"
