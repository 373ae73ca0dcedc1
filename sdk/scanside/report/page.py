"""One self-contained HTML page out of sections."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from scanside._version import __version__
from scanside.report.figures import png_of

__all__ = ["Bars", "Facts", "Messages", "Movie", "Page", "Part", "Picture", "Rows", "Section", "Text"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    rows: Sequence[tuple[str, str]]
    part = "facts"


@dataclass(frozen=True, slots=True)
class Rows:
    """A table; the columns in ``numeric`` stand to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[str] = frozenset()
    part = "rows"


@dataclass(frozen=True, slots=True)
class Bars:
    """A table whose rows end in a bar as long as their share of the largest.

    Attributes:
        columns: titles of the columns before the bar.
        rows: cells, and the length of the bar.
        unit: what the bars' length means.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], float]]
    unit: str
    part = "bars"

    @property
    def largest(self) -> float:
        """Length of the longest bar."""
        return max((length for _, length in self.rows), default=0.0) or 1.0


@dataclass(frozen=True, slots=True)
class Messages:
    """Errors, warnings and notes, as (level, text)."""

    messages: Sequence[tuple[str, str]]
    part = "messages"


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    part = "text"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A figure with a caption; ``alt`` says in words what it shows."""

    figure: Figure
    caption: str
    alt: str
    part = "picture"

    @property
    def source(self) -> str:
        """The picture as a data URL."""
        return "data:image/png;base64," + base64.b64encode(png_of(self.figure)).decode("ascii")

    @property
    def width_px(self) -> int:
        """Width at which it is shown on a wide screen."""
        return round(self.figure.get_figwidth() * 100)


@dataclass(frozen=True, slots=True, eq=False)
class Movie:
    """A GIF with a caption; ``alt`` says in words what it shows."""

    gif: bytes
    caption: str
    alt: str
    width_px: int = 360
    part = "picture"

    @property
    def source(self) -> str:
        """The film as a data URL."""
        return "data:image/gif;base64," + base64.b64encode(self.gif).decode("ascii")


Part: TypeAlias = Facts | Rows | Bars | Messages | Text | Picture | Movie


@dataclass(slots=True)
class Section:
    """A part of the page under a title."""

    title: str
    parts: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Page:
    """A report.

    Attributes:
        title: of the page.
        lead: what it is about, in a sentence.
        highlights: a few figures to see first, by what they are.
        sections: in order; those without parts are left out.
    """

    title: str
    lead: str = ""
    highlights: Mapping[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)

    def html(self) -> str:
        """The page; pictures and style are inside, nothing is loaded from elsewhere."""
        environment = Environment(
            loader=PackageLoader("scanside.report"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("report.html").render(
            page=self,
            sections=[section for section in self.sections if section.parts],
            version=__version__,
            made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        )

    def write(self, path: Path) -> None:
        """Write the page, making its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.html(), encoding="utf-8")
