"""Copies of items that outlive their buffers, and what is different between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from scanside.items import Image, Item, KSpace, Samples
from scanside.mrd.readouts import Readouts, Waveform

__all__ = ["altered", "copy_of", "difference", "joined"]


def copy_of(item: Item) -> Item:
    """The item in memory of its own."""
    if isinstance(item, Readouts):
        return item.copy()
    if isinstance(item, Waveform):
        return Waveform(item.header.copy(), item.data.copy())
    if isinstance(item, Image):
        return item.replace(data=item.data.clone(), header=item.header.copy(), meta=item.meta.copy())
    if isinstance(item, Samples):
        return item.replace(
            data=item.data.clone(),
            points=item.points.clone(),
            headers=item.headers.copy(),
            coil_maps=None if item.coil_maps is None else item.coil_maps.clone(),
            meta=item.meta.copy(),
        )
    tensors = ("data", "mask", "coil_maps", "second_maps", "trajectory", "density")
    copies: dict[str, Any] = {
        name: tensor.clone() for name in tensors if (tensor := getattr(item, name)) is not None
    }
    if item.reference is not None:
        copies["reference"] = copy_of(item.reference)
    return item.replace(
        **copies, headers=item.headers.copy(), counters=dict(item.counters), meta=item.meta.copy()
    )


def joined(items: Sequence[Item]) -> list[Item]:
    """The items with neighbouring blocks of readouts put together where their shapes agree."""
    result: list[Item] = []
    for item in items:
        before = result[-1] if result else None
        if isinstance(item, Readouts) and isinstance(before, Readouts) and _match(before, item):
            trajectory = None
            if before.trajectory is not None and item.trajectory is not None:
                trajectory = np.concatenate([before.trajectory, item.trajectory])
            result[-1] = Readouts(
                np.concatenate([before.headers, item.headers]),
                np.concatenate([before.samples, item.samples]),
                trajectory,
            )
        else:
            result.append(item)
    return result


def _match(a: Readouts, b: Readouts) -> bool:
    if a.trajectory is None or b.trajectory is None:
        return a.samples.shape[1:] == b.samples.shape[1:] and a.trajectory is b.trajectory
    return a.samples.shape[1:] == b.samples.shape[1:] and a.trajectory.shape[1:] == b.trajectory.shape[1:]


def difference(a: Any, b: Any, rtol: float = 0.0, where: str = "") -> str | None:
    """The first difference between two values, in words; None where there is none.

    Args:
        a: items, lists of items, or whatever they are made of.
        b: what they should be.
        rtol: how far numbers may be apart, relative to the largest of their array.
        where: what the values are, for the text.
    """
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        a, b = a.detach().cpu().resolve_conj().numpy(), b.detach().cpu().resolve_conj().numpy()
    if type(a) is not type(b):
        return f"{where} is {type(a).__name__}, expected {type(b).__name__}"
    if isinstance(a, np.ndarray | np.void):
        return _array_difference(a, b, rtol, where)
    if is_dataclass(a):
        pairs = [(field.name, getattr(a, field.name), getattr(b, field.name)) for field in fields(a)]
        kind = type(a).__name__
        found = (difference(one, other, rtol, f"{where} {kind}.{name}") for name, one, other in pairs)
        return next(filter(None, found), None)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return f"{where}: there are {len(a)}, expected {len(b)}"
        found = (difference(*pair, rtol, f"{where}[{i}]") for i, pair in enumerate(zip(a, b, strict=True)))
        return next(filter(None, found), None)
    if isinstance(a, Mapping):
        a, b = dict(a), dict(b)
    return None if a == b else f"{where} is {a!r}, expected {b!r}"


def _array_difference(a: Any, b: Any, rtol: float, where: str) -> str | None:
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{where} is {a.dtype} {a.shape}, expected {b.dtype} {b.shape}"
    if a.dtype.names is not None:
        return next(
            filter(None, (_array_difference(a[n], b[n], 0.0, f"{where}['{n}']") for n in a.dtype.names)), None
        )
    if np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
        return None
    if a.dtype.kind not in "fc":
        return f"{where} differs in {int((a != b).sum())} of {a.size} places"
    apart, largest = np.abs(a - b).max(), np.abs(b).max()
    if apart <= rtol * largest:  # false with NaN
        return None
    return f"{where} differs by up to {apart:.3g}, where the largest value is {largest:.3g}"


def altered(item: Item) -> Item:
    """Another item of the same shape: what an earlier scan might have held."""
    if isinstance(item, Readouts):
        return item.with_samples(2j * item.samples)
    if isinstance(item, Waveform):
        return Waveform(item.header.copy(), item.data + np.uint32(1))
    if isinstance(item, KSpace) and item.reference is not None:
        item = item.replace(reference=altered(item.reference))
    return replace(item, data=2 * item.data.flip(-1))
