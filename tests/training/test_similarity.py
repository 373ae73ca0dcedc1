"""Linear CKA against its closed forms in NumPy, its invariances, and networks."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import ortho_group

from scanside.errors import ConfigError, ShapeError
from scanside_training.models import UnetConfig
from scanside_training.similarity import LinearCka, Similarity, layer_similarity, similarity_figure

Array = npt.NDArray[np.float64]


def cka(x: Array, y: Array, batch: int | None = None) -> float:
    """Ours, for two matrices ``(example, feature)``, in batches."""
    total = LinearCka()
    size = batch or len(x)
    for start in range(0, len(x), size):
        total.add(
            [torch.from_numpy(x[start : start + size])],
            [torch.from_numpy(y[start : start + size])],
        )
    return float(total.values()[0, 0])


def hsic_by_all_quadruples(k: Array, l: Array) -> float:  # noqa: E741
    """The U-statistic behind the unbiased estimate (Song et al., 2012, theorem 3), term by term."""
    h = []
    for quadruple in permutations(range(len(k)), 4):
        i, j, q, r = quadruple
        h.append(k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]))
    return float(np.mean(h))


def cka_by_all_quadruples(x: Array, y: Array) -> float:
    k, l = x @ x.T, y @ y.T  # noqa: E741
    own = hsic_by_all_quadruples(k, k) * hsic_by_all_quadruples(l, l)
    return float(hsic_by_all_quadruples(k, l) / np.sqrt(own))


def cka_of_kornblith(x: Array, y: Array) -> float:
    """The biased closed form, from the covariances of the features."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


@pytest.fixture
def pair() -> tuple[Array, Array]:
    """Features of 600 examples that share a part."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(600, 6)) * np.arange(1, 7) + 3
    return x, x[:, :4] @ rng.normal(size=(4, 5)) + 2 * rng.normal(size=(600, 5))


def test_as_the_definition_has_it() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(size=(7, 3)) + 2
    y = x @ rng.normal(size=(3, 4)) + rng.normal(size=(7, 4))
    assert cka(x, y) == pytest.approx(cka_by_all_quadruples(x, y), abs=1e-10)


def test_near_the_biased_closed_form_for_many_examples(pair: tuple[Array, Array]) -> None:
    expected = cka_of_kornblith(*pair)
    assert 0.2 < expected < 0.9
    assert cka(*pair) == pytest.approx(expected, abs=0.02)
    # The spread of small batches averages out, which a biased estimate's excess would not.
    assert cka(*pair, batch=10) == pytest.approx(expected, abs=0.04)


def test_features_that_have_nothing_in_common() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(2, 400, 50))
    assert abs(cka(x, y, batch=8)) < 0.05
    assert cka_of_kornblith(x[:8], y[:8]) > 0.5, "what being unbiased is good for"


def test_invariances(pair: tuple[Array, Array]) -> None:
    x, y = pair
    value = cka(x, y, batch=20)
    turned = x @ ortho_group.rvs(6, random_state=1)
    assert cka(turned, y, batch=20) == pytest.approx(value, abs=1e-10)
    assert cka(17 * x - 4, 0.01 * y, batch=20) == pytest.approx(value, abs=1e-10)
    assert cka(x, -3 * turned, batch=20) == pytest.approx(1, abs=1e-10)
    assert cka(x * [1, 1, 1, 1, 1, 50], y, batch=20) != pytest.approx(value, abs=0.05)


def test_batches_that_are_too_small() -> None:
    with pytest.raises(ShapeError, match=r"\[3\].*at least 4"):
        LinearCka().add([torch.ones(3, 2)], [torch.ones(3, 2)])
    with pytest.raises(ShapeError, match=r"\[4, 5\]"):
        LinearCka().add([torch.ones(4, 2)], [torch.ones(5, 2)])
    with pytest.raises(ConfigError, match="no batch"):
        LinearCka().values()


def networks() -> list[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return [UnetConfig(image_channels=1, channels=c, pools=2, dropout=0.5).build() for c in (6, 2)]


def test_layers_of_networks() -> None:
    teacher, student = networks()
    images = torch.randn(3, 6, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    batches = [{"image": image} for image in images]
    rows = ("body.encoder.0", "body.bottleneck", "body.decoder.1")
    columns = ("body.encoder.0", "body.bottleneck")
    found = layer_similarity(teacher, student, batches, rows, columns)
    assert found.values.shape == (3, 2)
    assert (found.teacher_layers, found.student_layers) == (rows, columns)
    assert teacher.training

    teacher.eval()
    student.eval()
    with torch.no_grad():
        theirs = [teacher.body.encoder[0](image).flatten(1) for image in images]
        ours = [student.body.encoder[0](image).flatten(1) for image in images]
    x, y = (torch.cat(one).double().numpy() for one in (theirs, ours))
    assert found.values[0, 0] == pytest.approx(cka(x, y, batch=6), abs=1e-6)
    itself = layer_similarity(teacher, teacher, batches, rows, rows).values
    np.testing.assert_allclose(np.diag(itself), 1, atol=1e-9)
    np.testing.assert_allclose(itself, itself.T, atol=1e-9)


def test_picture() -> None:
    values = np.array([[1.0, 0.25, np.nan], [0.5, 0.75, -0.02]])
    figure = similarity_figure(Similarity(values, ("enc", "dec"), ("a", "b", "c")))
    axes, bar = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["enc", "dec"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert {text.get_text() for text in axes.texts} == {"1.00", "0.25", "nan", "0.50", "0.75", "-0.02"}
    assert axes.texts[1].get_position() == (1, 0)
    assert bar.get_ylabel() == "linear CKA"
    figure.canvas.draw()
