"""Where comparisons are kept: one JSON line each, the latest pairs of images, and a picture for each scan."""

from __future__ import annotations

import importlib
import logging
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.append_log import AppendLog
from scanside.scratch import remove_abandoned, replacing

__all__ = ["ComparisonStore", "default_folder"]

logger = logging.getLogger(__name__)


def default_folder() -> Path:
    """``SCANSIDE_SHADOW``, else ``~/.local/state/scanside/shadow`` (or below ``XDG_STATE_HOME``)."""
    if named := os.environ.get("SCANSIDE_SHADOW"):
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "scanside" / "shadow"


class ComparisonStore:
    """A folder with ``comparisons.jsonl`` and, for the latest of its lines, ``NAME.npz``.

    Each ``.npz`` holds the magnitudes ``shown`` and ``beside``, ``(channel, z, y, x)`` float32. Some have a picture
    ``NAME.png``.

    Args:
        folder: made if need be.
        n_pairs: how many pairs of images are kept.
    """

    def __init__(self, folder: Path, n_pairs: int) -> None:
        self.folder = folder
        self._n_pairs = n_pairs
        self._draws = n_pairs > 0 and all(find_spec(name) is not None for name in ("matplotlib", "jinja2"))
        self._log = AppendLog(folder / "comparisons.jsonl")

    def prepare(self) -> None:
        """Make the folder, remove what a process left in it that died, and import what draws, before any scan: an
        import in the middle of one, or of the process's end, does harm.
        """
        with suppress(OSError):  # told when something is to be kept there
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            remove_abandoned(self.folder, ".*.part")
        if self._draws:
            importlib.import_module("scanside.report.figures")

    def records(self) -> list[dict[str, Any]]:
        """All lines, the oldest first."""
        return self._log.records()

    def add(self, record: dict[str, Any]) -> None:
        """A line without images.

        Raises:
            OSError: it could not be written.
        """
        self._log.append(record)

    def add_pair(
        self,
        name: str,
        record: dict[str, Any],
        shown: npt.NDArray[np.float32],
        beside: npt.NDArray[np.float32],
    ) -> None:
        """A line, and the images that it speaks of.

        Args:
            name: of the files; later names sort behind earlier ones.
            record: the line.
            shown: ``(channel, z, y, x)``.
            beside: the same shape.

        Raises:
            OSError: it could not be written.
        """
        self.add({**record, "images": f"{name}.npz" if self._n_pairs else None})
        if not self._n_pairs:
            return
        with replacing(self.folder / f"{name}.npz") as draft, draft.open("wb") as file:
            np.savez_compressed(file, shown=shown, beside=beside)
        for old in sorted(self.folder.glob("*.npz"))[: -self._n_pairs]:
            old.unlink(missing_ok=True)
            old.with_suffix(".png").unlink(missing_ok=True)

    def draw(self, name: str, shown: npt.NDArray[np.float32], beside: npt.NDArray[np.float32]) -> None:
        """Draw the middle slices of a pair and where they differ, if the extra ``report`` is installed.

        Args:
            name: of the pair.
            shown: ``(channel, z, y, x)``.
            beside: the same shape.
        """
        if self._draws:
            with replacing(self.folder / f"{name}.png") as draft:
                _draw(draft, shown, beside)


def _draw(path: Path, shown: npt.NDArray[np.float32], beside: npt.NDArray[np.float32]) -> None:
    from scanside.metrics import fitted
    from scanside.report.figures import comparison_figure, save
    from scanside.report.views import View

    middle = shown.shape[1] // 2
    other, reference = fitted(beside[0, middle], shown[0, middle])
    images = [View(reference, "shown"), View(other, "beside, scaled to fit")]
    error = View(100 * np.abs(other - reference) / (float(reference.max()) or 1.0), "difference")
    unit = "difference, % of the shown image's maximum"
    save(comparison_figure([("", images)], [[error]], error_unit=unit), path)
