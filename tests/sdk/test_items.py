"""What flows."""

from __future__ import annotations

import torch

from scanside.items import Image, KSpace, Readouts, Waveform, item_types
from scanside.testing import small_image, small_kspace


def test_kinds_by_name() -> None:
    assert item_types() == {"readouts": Readouts, "waveform": Waveform, "kspace": KSpace, "image": Image}


def test_replace_shares_what_it_does_not_change() -> None:
    kspace = small_kspace()
    changed = kspace.replace(incomplete="half")
    assert changed.data is kspace.data
    assert (changed.incomplete, kspace.incomplete) == ("half", None)
    image = small_image()
    brighter = image.replace(data=2 * image.data)
    assert brighter.header is image.header
    assert torch.equal(brighter.data, 2 * image.data)


def test_sizes() -> None:
    kspace = small_kspace()
    assert kspace.n_coils == 4
    assert kspace.extent_mm == (240.0, 240.0, 5.0)
    # Without an extent of its own it spans what was encoded, oversampling included.
    assert kspace.replace(field_of_view_mm=None).extent_mm == (480.0, 240.0, 5.0)
    assert kspace.replace(data=torch.zeros(3, 2, 7, 1, 5, 6)).n_coils == 7


def test_items_are_themselves() -> None:
    """Comparing tensors has no yes or no: two items are equal if they are the same one."""
    kspace, image = small_kspace(), small_image()
    assert kspace == kspace
    assert kspace != kspace.replace()
    assert len({image, image, image.replace()}) == 2
