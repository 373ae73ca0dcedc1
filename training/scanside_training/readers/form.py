"""The form of a reader study: who reads, what is asked, and what is to be shown, fixed beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from scanside.errors import ConfigError
from scanside_training.config import read_settings, read_yaml
from scanside_training.data.settings import Settings

__all__ = [
    "LONGEST_TEXT",
    "REFERENCE",
    "AnyQuestion",
    "Choice",
    "Form",
    "FreeText",
    "Likert",
    "Noninferiority",
    "PowerConfig",
    "Preference",
    "Scored",
    "Value",
    "YesNo",
    "check_methods",
    "load_form",
]

Value = int | str
"""An answer: the step of a Likert scale from 1, else a word or a text."""

REFERENCE = "reference"
"""Name of the reference where it is rated like a method."""

LONGEST_TEXT = 4000
"""Most characters of an answer in free text."""

_MOST_OPTIONS = 9  # as many as there are digits on a keyboard


class PowerConfig(Settings):
    """What is assumed, before the study, of one reader's differences between two methods on one case."""

    sd: float = Field(gt=0)
    """Standard deviation of what neither case nor reader explains, in steps of the scale."""
    sd_cases: float = Field(default=0.0, ge=0)
    """The same between cases, whoever reads them."""
    sd_readers: float = Field(default=0.0, ge=0)
    """The same between readers, whatever they read."""
    effect: float = 0.0
    """The true difference; above 0 the method is better than the control."""


class Noninferiority(Settings):
    """A method is to be shown to be no worse than a control, by less than a margin."""

    control: str
    """Name of the method that the others are held against."""
    margin: float
    """How much worse is not worse yet, in steps of the scale (of a yes/no question, as a share of answers)."""
    power: PowerConfig | None = None
    """Estimate before the study how likely it is to show this."""

    @field_validator("margin")
    @classmethod
    def _above_zero(cls, margin: float) -> float:
        if margin <= 0:
            raise ValueError(
                "the margin is how much worse a method may be, whichever end of the scale is better: give it above 0"
            )
        return margin


class _Question(Settings):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Short, for tables."""
    text: str = Field(min_length=1)
    """What the reader is asked."""
    of: Literal["image", "pair"] = "image"
    """Asked of each image, or once of the two that are shown."""

    @property
    def options(self) -> list[tuple[Value, str]]:
        """The answers that there are, and how they read; none of free text."""
        raise NotImplementedError

    def check(self, value: object) -> Value:
        """The answer, if it is one.

        Raises:
            ValueError: it is none.
        """
        for one, _ in self.options:
            if type(value) is type(one) and value == one:
                return one
        known = ", ".join(str(one) for one, _ in self.options)
        raise ValueError(f"'{self.name}' is answered by one of {known}")


class Scored(_Question):
    """A question whose answers are numbers."""

    better: Literal["high", "low"] = "high"
    """Which end is the better one: of a yes/no question, ``high`` is yes."""
    noninferiority: Noninferiority | None = None

    @model_validator(mode="after")
    def _of_images(self) -> Scored:
        if self.noninferiority and self.of == "pair":
            raise ValueError(
                "noninferiority compares answers on images, and this is asked of pairs: set of: image"
            )
        return self

    def number(self, value: Value) -> float:
        """The answer as a number."""
        raise NotImplementedError


class Likert(Scored):
    """An ordered scale from 1 on (Likert, *A technique for the measurement of attitudes*, Arch Psychol 140, 1932)."""

    kind: Literal["likert"] = "likert"
    labels: tuple[str, ...]
    """What each step means, from 1 on."""

    @field_validator("labels")
    @classmethod
    def _some_steps(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return _options(labels, "a scale", "steps")

    @property
    def options(self) -> list[tuple[Value, str]]:
        """Steps and their labels."""
        return list(enumerate(self.labels, 1))

    def number(self, value: Value) -> float:
        """The step."""
        return float(value)


class YesNo(Scored):
    """Yes or no; as a number 1 or 0, so that means are shares."""

    kind: Literal["yes-no"] = "yes-no"

    @property
    def options(self) -> list[tuple[Value, str]]:
        """Yes and no."""
        return [("yes", "Yes"), ("no", "No")]

    def number(self, value: Value) -> float:
        """1 for yes."""
        return float(value == "yes")


class Choice(_Question):
    """One of several answers without an order."""

    kind: Literal["choice"] = "choice"
    choices: tuple[str, ...]

    @field_validator("choices")
    @classmethod
    def _some(cls, choices: tuple[str, ...]) -> tuple[str, ...]:
        return _options(choices, "a choice", "answers")

    @property
    def options(self) -> list[tuple[Value, str]]:
        """The choices."""
        return [(one, one) for one in self.choices]


class Preference(_Question):
    """Which of the two images is the better one."""

    kind: Literal["preference"] = "preference"
    of: Literal["image", "pair"] = "pair"
    ties: bool = True
    """Whether the reader may prefer none."""

    @model_validator(mode="after")
    def _of_pairs(self) -> Preference:
        if self.of != "pair":
            raise ValueError("a preference is one between two images: leave 'of' out")
        return self

    @property
    def options(self) -> list[tuple[Value, str]]:
        """Left, right, and neither where that is allowed."""
        sides: list[tuple[Value, str]] = [("left", "Left"), ("right", "Right")]
        return [sides[0], ("same", "Neither"), sides[1]] if self.ties else sides


class FreeText(_Question):
    """A remark; it may be left empty."""

    kind: Literal["text"] = "text"

    @property
    def options(self) -> list[tuple[Value, str]]:
        """None."""
        return []

    def check(self, value: object) -> Value:
        """Any text that is not too long.

        Raises:
            ValueError: no text, or too long.
        """
        if not isinstance(value, str):
            raise ValueError(f"'{self.name}' is answered by a text")
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"'{self.name}' has {len(value)} characters; at most {LONGEST_TEXT} are kept")
        return value


AnyQuestion = Annotated[Likert | YesNo | Choice | Preference | FreeText, Field(discriminator="kind")]


class Form(Settings):
    """``scanside evaluate --readers`` reads it from a YAML file."""

    title: str = Field(min_length=1)
    """Shown to the readers: it must not tell the methods."""
    instructions: str = ""
    """Shown to the readers throughout."""
    readers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")], ...] = Field(min_length=1)
    """Their names."""
    mode: Literal["single", "side-by-side"] = "single"
    """One image at a time, or two of the same case."""
    pairs_with: str | None = None
    """Side by side, show only pairs with this method; by default all pairs."""
    reference: Literal["none", "shown", "rated"] = "none"
    """The fully sampled image: not shown, shown beside and named, or rated like a method and not named."""
    cases: int | None = Field(default=None, ge=1)
    """How many cases are read, spread evenly over the data; by default all."""
    repeats: float = Field(default=0.0, ge=0, le=1)
    """Share of the cases that each reader is shown twice."""
    seed: int = Field(default=0, ge=0)
    """Of all that is drawn by lot."""
    questions: tuple[AnyQuestion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Form:
        for what, names in (("readers", self.readers), ("questions", [one.name for one in self.questions])):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what} of the same name: {', '.join(twice)}")
        if self.mode == "single":
            if pairs := [one.name for one in self.questions if one.of == "pair"]:
                raise ValueError(
                    f"{', '.join(pairs)}: asked of pairs, and images are shown one at a time: set mode: side-by-side"
                )
            if self.pairs_with is not None:
                raise ValueError("pairs_with chooses pairs, and images are shown one at a time: leave it out")
        return self

    def question(self, name: str) -> AnyQuestion | None:
        """The question of a name."""
        return next((one for one in self.questions if one.name == name), None)


def load_form(path: Path, settings: Mapping[str, Any] | None = None) -> Form:
    """Read a form.

    Args:
        path: a YAML file.
        settings: nested settings that replace those of the file.

    Raises:
        ConfigError: no such file, not YAML, or a setting is unknown, missing or wrong.
    """
    document = read_yaml(path, settings, "form of a reader study")
    return read_settings(Form, document, str(path), "the form of a reader study")


def check_methods(form: Form, methods: Sequence[str]) -> None:
    """Hold a form against the methods that are compared.

    Args:
        form: the form.
        methods: names of all that is rated.

    Raises:
        ConfigError: there are too few methods, one is not there, or the form tells one to its readers.
    """
    known = ", ".join(methods)
    if form.mode == "side-by-side" and len(methods) < 2:
        raise ConfigError(
            f"images are shown side by side, which needs two methods, and there is {known or 'none'}: add "
            "candidates, or set reference: rated"
        )
    named = {"pairs_with": form.pairs_with}
    for one in form.questions:
        if isinstance(one, Scored) and one.noninferiority:
            named[f"noninferiority.control of '{one.name}'"] = one.noninferiority.control
    for where, name in named.items():
        if name is not None and name not in methods:
            raise ConfigError(f"{where} is '{name}', and the methods are {known}")
    for text in _texts(form):
        for name in methods:
            if name != REFERENCE and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE):
                raise ConfigError(
                    f"readers must not know the methods, and the form tells them of '{name}': {text!r}. Write it "
                    "without that name, or give the candidate another one"
                )


def _texts(form: Form) -> Iterator[str]:
    """All that the readers see of the form."""
    yield form.title
    yield form.instructions
    for one in form.questions:
        yield one.text
        yield from (label for _, label in one.options)


def _options(texts: tuple[str, ...], what: str, of: str) -> tuple[str, ...]:
    if not 2 <= len(texts) <= _MOST_OPTIONS:
        raise ValueError(f"{what} has 2 to {_MOST_OPTIONS} {of}, not {len(texts)}")
    if len(set(texts)) < len(texts):
        raise ValueError(f"two {of} read the same")
    return texts
