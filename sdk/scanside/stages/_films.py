"""What stages ask of a window of frames."""

from __future__ import annotations

from scanside.errors import ConfigError
from scanside.items import KSpace
from scanside.losses import lattice_gaps
from scanside.outline import Outline

__all__ = ["check_film", "lacking_film", "without_gaps"]


def without_gaps(outline: Outline) -> bool:
    """Whether no k-space of a scan lacks a line, so that frames can add nothing to each other."""
    return outline.lines is not None and not any(lattice_gaps(lines, (1, 1)).any() for lines in outline.lines)


def check_film(item: KSpace, purpose: str) -> None:
    """Refuse k-space that is no film: data ``(time, coil, k2, k1, k0)``.

    Args:
        item: the k-space.
        purpose: what needs a film, for the text of the error.

    Raises:
        ConfigError: it has no leading axis of phases or repetitions, or further axes.
    """
    if len(item.other) != 1 or item.other[0] not in ("phase", "repetition"):
        found = f"the leading axes {', '.join(item.other)}" if item.other else "single frames"
        raise ConfigError(lacking_film(purpose, found))


def lacking_film(purpose: str, found: str) -> str:
    """What to say where something that needs a film finds none."""
    return (
        f"{purpose} needs frames along one axis, phase or repetition, got {found}: put 'window' before it, or name "
        "one of them in accumulate.together"
    )
