"""The part of a bundle's data sheet on small structures, from the file that an evaluation wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanside.errors import ConfigError, FormatError
from scanside.report.figures import save
from scanside_training.evaluation.perturbation.curves import curves_figure
from scanside_training.evaluation.perturbation.summary import Row

__all__ = ["COLUMNS", "Sheet", "figure_cells", "read_sheet"]

COLUMNS = (
    "contrast kept",
    "displacement",
    "blurring",
    "elsewhere",
    "folded",
    "d′",
    "AUC",
)
"""Of what is told of responses."""
_FORMATS = {
    "kept": "{:.2f}",
    "displacement": "{:.2f}",
    "blurring": "{:+.2f}",
    "elsewhere": "{:.2f}",
    "replicas": "{:.2f}",
    "detectability": "{:.1f}",
    "auc": "{:.2f}",
}


def figure_cells(row: Mapping[str, Any]) -> list[str]:
    """Cells of `COLUMNS`: mean ± standard deviation over places and cases.

    Args:
        row: of a table, as JSON has it.
    """
    cells = []
    for name, form in _FORMATS.items():
        if name not in row["means"]:
            cells.append("–")
        else:
            spread = f" ± {form.format(row['deviations'][name]).lstrip('+')}" if row["n"] > 1 else ""
            cells.append(form.format(row["means"][name]) + spread)
    return cells


@dataclass(frozen=True)
class Sheet:
    """What a data sheet tells of small structures.

    Attributes:
        document: of the file.
        candidate: the name of the bundle's network in it.
    """

    document: Mapping[str, Any]
    candidate: str

    def markdown(self, picture: str) -> str:
        """A section.

        Args:
            picture: what `draw` draws, beside the data sheet.
        """
        structures = self.document["config"]["structures"]
        unit, n = structures["unit"], len(self.document["cases"])
        lines = [
            "| " + " | ".join(("", f"diameter, {unit}", "contrast", *COLUMNS)) + " |",
            "| --- " * (3 + len(COLUMNS)) + "|",
        ]
        for row in self.document["structures"]:
            name = f"**{row['candidate']}**" if row["candidate"] == self.candidate else row["candidate"]
            cells = (name, f"{row['diameter']:g}", f"{row['contrast']:+g}", *figure_cells(row))
            lines.append("| " + " | ".join(cells) + " |")
        about = (
            f"Discs added to {n} {'scans' if n > 1 else 'scan'} ({self.document['data']}) at "
            f"{self.document['structures'][0]['n']} places, with the same noise: how much contrast is kept, "
            "displacement and blurring in pixels, energy of the response elsewhere, and where regular lines fold it "
            "to, over that of the disc; and detectability by a matched filter (d′, area under the ROC curve) over "
            f"{structures['realisations']} realisations of noise. **{self.candidate}** is this network."
        )
        image = f"![Contrast kept, blurring, response elsewhere and d′ over the diameter]({picture})"
        return "\n".join(["## Small structures", "", about, "", *lines, "", image, ""])

    def draw(self, path: Path) -> None:
        """Draw the same over the diameter, as PNG."""
        rows = [Row(**row) for row in self.document["structures"]]
        save(curves_figure(rows, self.document["config"]["structures"]["unit"]), path)


def read_sheet(path: Path, names: tuple[str, ...]) -> Sheet:
    """Read ``perturbation.json`` of an evaluation.

    Args:
        path: the file.
        names: that the network may have among its candidates.

    Raises:
        ConfigError: there is no such file, it tells nothing of structures, or nothing of this network.
        FormatError: it is no such file.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        candidates = list(dict.fromkeys(row["candidate"] for row in document["structures"]))
        tells = bool(candidates and document["config"]["structures"])
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: 'scanside evaluate' writes perturbation.json where its configuration has a "
            "block 'perturbation'"
        ) from None
    except (ValueError, LookupError, TypeError) as error:
        raise FormatError(
            f"{path} is no perturbation.json of 'scanside evaluate' ({type(error).__name__}: {error})"
        ) from error
    if not tells:
        raise ConfigError(
            f"{path} tells nothing of structures: its evaluation had no 'perturbation.structures'"
        )
    found = next((name for name in names if name in candidates), None)
    if found is None:
        raise ConfigError(
            f"{path} tells of {', '.join(candidates)}, and of none named {' or '.join(dict.fromkeys(names))}: name "
            "the candidate so in the evaluation"
        )
    return Sheet(document, found)
