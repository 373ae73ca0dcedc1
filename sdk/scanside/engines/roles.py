"""What networks are given, by role: the same tensors from a training sample, from the stream, and for the gate.

Whoever calls a network says what is known of a scan (`Known`) and which roles the network takes; the tensors are made
here, so that what the trainer feeds is what the stage feeds.

=================== ========================================================================================
role                tensor, real float32, complex numbers as two planes
=================== ========================================================================================
``image``           ``(B, 1 or 2, *time, k1, k0)``, what the bundle says of its input image, scaled
``kspace``          ``(B, 2, *time, k1, k0)`` k-space of that image where it is complex, centre at ``n // 2``, scaled
                    as the image is; where the sampling is known, zero where nothing was acquired
``maps``            ``(B, coil, 2, k1, k0)`` coil sensitivities
``noise``           ``(B, 1, 1, 1)`` standard deviation of its real and imaginary part in a coil's voxels, scaled
``parameters``      ``(B, n)`` the numbers of the scan that it takes (`scanside.engines.parameters`), in its order
``mask``            ``(B, *time, k1, 1 or k0)``, with its centre at index 0 for the lowering ``fft``
``p``               ``(B, *time, 2, k1, k1)``, see `scanside.recon.consistency`
``dft1``, ``dft0``  ``(2, k1, k1)`` and ``(2, k0, k0)``, likewise
``toeplitz``        ``(B, 2, 2, k1, k0)``, `scanside.recon.noncartesian.toeplitz.split_kernel` of samples anywhere
``double1``, ``…0`` ``(2, 2, k1, k1)`` and ``(2, 2, k0, k0)``, the transforms to twice the grid (`doubled_dft`)
``low_rank_sparse`` the film that a network begins with, like ``image`` (`scanside.recon.film_start`)
``fitted``          ``(B, 2, k1, k0)``, see `scanside.engines.columns`, as the next two
``kept``            ``(B, 2, k0, k1, k1)``
``support``         ``(B, 1, k1, k0)``, 1 where any coil sees something
``contrast:NAME``   ``(B, 1, k1, k0)`` magnitude of the same slice with another contrast, on a scale of its own
=================== ========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from scanside.engines.manifest import Lowering
from scanside.engines.parameters import Parameter, SequenceParameter, acceleration_of, normalised
from scanside.errors import ConfigError
from scanside.recon.consistency import dft_matrix, film_sampling_inputs, sampling_inputs
from scanside.recon.film_start import STARTS, film_start
from scanside.recon.fourier import to_kspace
from scanside.recon.noncartesian.toeplitz import doubled_dft

__all__ = ["ROLES", "Known", "contrast_of", "contrast_role", "inputs_of", "is_role", "planes"]

_SAMPLING = {"fft": ("mask",), "pmatrix": ("p",), "dft_matmul": ("mask", "dft1", "dft0")}
_TRANSFORMS = {
    "dft1": (-2, dft_matrix),
    "dft0": (-1, dft_matrix),
    "double1": (-2, doubled_dft),
    "double0": (-1, doubled_dft),
}
_SOLVED = ("fitted", "kept", "support")

ROLES = frozenset(
    ("image", "kspace", "maps", "noise", "parameters", "toeplitz", *_TRANSFORMS, *STARTS, *_SOLVED)
).union(*_SAMPLING.values())
"""All that there are, but those of other contrasts."""

_CONTRAST = "contrast:"


def contrast_role(name: str) -> str:
    """The role of an image with another contrast."""
    return _CONTRAST + name


def contrast_of(role: str) -> str | None:
    """The name of the contrast that a role asks for; None of any other role."""
    return role.removeprefix(_CONTRAST) if role.startswith(_CONTRAST) else None


def is_role(name: str) -> bool:
    """Whether there is such a role."""
    return name in ROLES or bool(contrast_of(name))


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of scans where a network is called.

    Attributes:
        lowering: of the network's data consistency.
        image: ``(B, *time, k1, k0)`` complex, scaled.
        maps: ``(B, coil, k1, k0)`` complex.
        mask: ``(B, *time, k1, 1 or k0)``, centre of k-space at ``n // 2``.
        noise: ``(B,)``, on the scale of the image.
        parameters: the numbers that the network takes, in its order; the acceleration is that of the mask.
        sequence: ``(B,)`` each, what is known of the sequence, in the units of `scanside.engines.parameters`.
        exact: solves data consistency: gives ``fitted``, ``kept`` and ``support``.
        at_hand: tensors by role that need not be made.
    """

    lowering: Lowering
    image: torch.Tensor | None = None
    maps: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    parameters: tuple[Parameter, ...] = ()
    sequence: Mapping[SequenceParameter, torch.Tensor] = field(default_factory=dict)
    exact: Callable[[], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] | None = None
    at_hand: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def tensor(self, role: str) -> torch.Tensor:
        """What a network is given for a role.

        Raises:
            ConfigError: it cannot be made of what is known.
        """
        if role in self.at_hand:
            return self.at_hand[role]
        if role in _SOLVED:
            return self._solved[role]
        if role in STARTS:
            return self._started
        if role == "image" and self.image is not None:
            return planes(self.image)
        if role == "kspace" and self._has_phase:
            kspace = to_kspace(self._complex("image"))
            return planes(kspace if self.mask is None else kspace * self.mask)
        if role == "maps" and self.maps is not None:
            return torch.view_as_real(self.maps).movedim(-1, -3).contiguous()
        if role == "noise" and self.noise is not None:
            return self.noise.reshape(-1, 1, 1, 1).to(torch.float32)
        if role == "parameters" and self.parameters:
            return torch.stack([normalised(name, self.value(name)) for name in self.parameters], dim=1)
        if self.mask is not None and role in self._sampling:
            return self._sampling[role]
        if role in _TRANSFORMS and (self.image is not None or "image" in self.at_hand):
            image = self.at_hand.get("image", self.image)
            assert image is not None
            axis, matrix = _TRANSFORMS[role]
            return matrix(image.shape[axis], device=image.device)
        known = ", ".join(sorted(self._roles))
        raise ConfigError(
            f"a network with data consistency '{self.lowering}' is not given the role '{role}' here; it is given: "
            f"{known}"
        )

    def value(self, name: Parameter) -> torch.Tensor:
        """Of one of the scan's numbers ``(B,)``, in its unit.

        Raises:
            ConfigError: it is not known.
        """
        if name == "acceleration" and self.mask is not None:
            return acceleration_of(self.mask)
        if name != "acceleration" and name in self.sequence:
            return self.sequence[name]
        known = ["acceleration"] * (self.mask is not None) + sorted(self.sequence)
        raise ConfigError(
            f"the network takes the scan's '{name}', which is not known here; known are: "
            f"{', '.join(known) or 'none'}. Train on data that have it, or leave it out of the network's parameters"
        )

    @property
    def _roles(self) -> set[str]:
        """That can be made."""
        of_scan = {"image": self.image, "maps": self.maps, "noise": self.noise}
        found = {role for role, one in of_scan.items() if one is not None} | {*filter(is_role, self.at_hand)}
        found |= {*_TRANSFORMS} if "image" in found else set()
        found |= {"parameters"} if self.parameters else set()
        found |= {"kspace"} if self._has_phase else set()
        return found | (set() if self.mask is None else {*self._sampling})

    @property
    def _has_phase(self) -> bool:
        """Whether the image is known as complex numbers, as its k-space needs them."""
        return self.image is not None or ("image" in self.at_hand and self.at_hand["image"].shape[1] == 2)

    @cached_property
    def _sampling(self) -> dict[str, torch.Tensor]:
        assert self.mask is not None
        if self.lowering == "none" or self.lowering == "columns":
            return {}
        make = sampling_inputs if self.mask.ndim == 3 else film_sampling_inputs
        made = make(self.lowering, self.mask)
        return dict(zip(_SAMPLING[self.lowering], made, strict=False))

    @cached_property
    def _solved(self) -> dict[str, torch.Tensor]:
        assert self.exact is not None
        return dict(zip(_SOLVED, self.exact(), strict=True))

    @cached_property
    def _started(self) -> torch.Tensor:
        assert self.mask is not None
        image, maps = (self._complex(role) for role in ("image", "maps"))
        films = [film_start(*one) for one in zip(image, maps, self.mask[..., 0], strict=True)]
        return planes(torch.stack(films))

    def _complex(self, role: str) -> torch.Tensor:
        """Image or maps as complex numbers, where perhaps only their planes are known."""
        found = self.image if role == "image" else self.maps
        if found is not None:
            return found
        return torch.complex(*self.at_hand[role].unbind(1 if role == "image" else 2))


def inputs_of(roles: Iterable[str], known: Known) -> tuple[torch.Tensor, ...]:
    """What a network is called with.

    Args:
        roles: that it takes, in its order.
        known: of the scans.
    """
    return tuple(known.tensor(role) for role in roles)


def planes(image: torch.Tensor) -> torch.Tensor:
    """Complex ``(B, *time, k1, k0)`` as float32 ``(B, 2, *time, k1, k0)``."""
    return torch.view_as_real(image).movedim(-1, 1).contiguous()
