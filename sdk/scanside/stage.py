"""The stage: one step of a reconstruction.

A working stage is short::

    class Negate(Stage[Image, Image]):
        \"\"\"Turns black into white.\"\"\"

        class Config(StageConfig):
            offset: float = 0.0

        config: Config

        def process(self, item: Image) -> Iterator[Image]:
            yield item.replace(data=self.config.offset - item.data)

Its life: `prepare` once per worker, then for every scan `open`, `process` for each item, `finish`, and always
`close`. Items of types that a stage does not take pass it by, in order. A stage never touches a socket or a
file of the scan: transports bring its items and take them away.
"""

from __future__ import annotations

import inspect
import re
import types
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, Generic, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, ValidationError

from scanside.context import Context
from scanside.errors import StageConfigError
from scanside.items import Calibration, Samples, item_types
from scanside.mrd.header import Encoding, MrdHeader
from scanside.outline import Outline
from scanside.scan import Scan, ScanEnd
from scanside.texts import printable, shortened, shown

__all__ = ["Expected", "Stage", "StageConfig"]

_MOST_PROBLEMS = 5

In = TypeVar("In")
Out = TypeVar("Out")


def describe_settings(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Put what the docstrings' "Attributes" sections say of the settings into the JSON Schema."""
    schema["description"] = (inspect.getdoc(model) or "").partition("\nAttributes:\n")[0].strip()
    for base in model.__mro__:  # a setting may be inherited, with its description
        section = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")[2]
        # An entry begins with its name, indented by four; its further lines are indented deeper.
        for name, text in re.findall(r"^ {4}(\w+):((?:.|\n {5,})*)", section, flags=re.MULTILINE):
            field = model.model_fields.get(name)
            key = name if field is None else field.alias or name
            if key in schema.get("properties", {}):
                schema["properties"][key].setdefault("description", " ".join(text.split()))


class StageConfig(BaseModel):
    """Settings of a stage; unknown keys are errors.

    What the "Attributes" section of a subclass's docstring says of each setting becomes its description in the
    JSON Schema (``Config.model_json_schema()``), unless its ``Field`` has one.

    Attributes:
        RESERVED: settings that name files or archives, or guard them; those of type `Path` are so in any case. A
            pipeline's file and the configuration of a Gadgetron chain may set them; a host on the network may not.
        BUNDLES: settings that name bundles. A host may set them to the names of installed ones, and to no folder.
    """

    RESERVED: ClassVar[frozenset[str]] = frozenset()
    BUNDLES: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def reserved(cls) -> frozenset[str]:
        """All settings that a host on the network may not set."""
        paths = {name for name, setting in cls.model_fields.items() if _holds_path(setting.annotation)}
        return cls.RESERVED | paths

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=describe_settings)


@dataclass(frozen=True, slots=True)
class Expected:
    """K-space of a scan as far as its header tells, on its way through the stages.

    Attributes:
        encoding: its encoding space.
        size: ``(k1, k0)``.
        n_coils: receiver channels; None where the header does not say.
    """

    encoding: Encoding
    size: tuple[int, int]
    n_coils: int | None

    @classmethod
    def of(cls, header: MrdHeader) -> list[Expected]:
        """What the encoding spaces of a header announce, before any stage."""
        return [
            cls(one, (one.encoded.matrix[1], one.encoded.matrix[0]), header.n_coils)
            for one in header.encodings
        ]


class Stage(ABC, Generic[In, Out]):
    """One step of a reconstruction, from items of type ``In`` to items of type ``Out``; both may be unions.

    Args:
        config: the settings; without it they are made from the keyword arguments.
        **settings: fields of `Config`.

    Raises:
        StageConfigError: a setting is unknown or has a wrong value.
    """

    Config: ClassVar[type[StageConfig]] = StageConfig
    config: Any

    def __init__(self, config: StageConfig | None = None, **settings: Any) -> None:
        if config is None:
            try:
                config = self.Config(**settings)
            except ValidationError as error:
                raise StageConfigError(
                    describe_validation(type(self).__name__, self.Config, error)
                ) from error
        self.config = config

    def prepare(self, context: Context) -> None:
        """Get ready once per worker, before any scan: load engines, choose the device, warm up."""

    def expect(self, expected: Expected) -> Expected:
        """Get ready for a scan of which only the header is known, however long it takes; gives what leaves the stage.

        Between `prepare` and `open`, and only where nobody waits: for recordings that are played on a command line.
        """
        return expected

    def foresee(self, outline: Outline) -> Outline:
        """What leaves the stage of a scan of which all but the samples is known, so that users can choose a pipeline.

        Note with `Outline.refused` what the stage would end with an error for, and with `Outline.doubted` what makes
        its images worse than those of other stages might be, each in one sentence: what was found, and what it takes.
        Let the functions decide that decide in `process`. By default nothing speaks against any scan, and it leaves
        as it came. Needs no `prepare`; must be cheap.
        """
        return outline

    def outdated(self) -> list[str]:
        """What has changed since `prepare`, so that another stage is to take this one's place before the next scan.

        Asked between scans; must be cheap. A running scan keeps what it has.
        """
        return []

    def open(self, scan: Scan) -> None:
        """A scan begins; its header is known. Must be cheap."""

    @abstractmethod
    def process(self, item: In) -> Iterable[Out]:
        """Take one item, give none, one or several."""

    def finish(self, end: ScanEnd) -> Iterable[Out]:
        """The scan has ended, completely or early (`ScanEnd` says): give what is still held back."""
        return ()

    def close(self) -> None:
        """Forget the scan. Called always, after an error too; the stage can then open the next scan."""

    @classmethod
    def takes(cls) -> tuple[type, ...]:
        """The item types that the stage takes."""
        return _item_types_of(cls)[0]

    @classmethod
    def gives(cls) -> tuple[type, ...]:
        """The item types that the stage gives; empty for one that only looks."""
        return _item_types_of(cls)[1]


def describe_validation(name: str, model: type[BaseModel], error: ValidationError) -> str:
    """One sentence for each wrong setting, with the settings that exist where one is unknown; of many the first."""
    lines = []
    problems = error.errors(include_url=False, include_context=False)
    for problem in problems[:_MOST_PROBLEMS]:
        where = printable(shortened(".".join(str(part) for part in problem["loc"]), 80))
        if problem["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields) or "none"
            lines.append(f"{name} has no setting '{where}'; it has: {known}")
        elif problem["type"] == "missing":
            lines.append(f"{name}.{where} is missing")
        elif _is_secret(model, problem["loc"]):
            lines.append(f"{name}.{where} (which is not shown): {shortened(problem['msg'], 300)}")
        else:
            lines.append(f"{name}.{where} = {shown(problem['input'])}: {shortened(problem['msg'], 300)}")
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f"and {len(problems) - _MOST_PROBLEMS} more")
    return "; ".join(lines)


def _is_secret(model: type[BaseModel], place: Sequence[int | str]) -> bool:
    """Whether a setting, or what a part of it belongs to, must not be read by others."""
    fields = model.model_fields
    for part in place:
        if part not in fields:
            continue
        members = _members(fields[str(part)].annotation)
        if any(issubclass(one, SecretStr | SecretBytes) for one in members if isinstance(one, type)):
            return True
        inner = [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
        fields = {name: field for one in inner for name, field in one.model_fields.items()}
    return False


def _holds_path(annotation: Any) -> bool:
    """Whether a setting of a type may hold a path."""
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_path(setting.annotation) for setting in annotation.model_fields.values())
    return any(_holds_path(part) for part in get_args(annotation))


def _members(annotation: Any) -> tuple[type, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for part in get_args(annotation) for member in _members(part))
    if annotation in (None, type(None)):
        return ()
    return (cast(type, annotation),)


def _item_types_of(cls: type[Stage[Any, Any]]) -> tuple[tuple[type, ...], tuple[type, ...]]:
    for base in cls.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            if get_origin(generic) is not Stage:
                continue
            taken, given = (_members(argument) for argument in get_args(generic))
            known = (*item_types().values(), Calibration, Samples)
            for member in (*taken, *given):
                if member not in known:
                    raise TypeError(
                        f"{cls.__name__} is declared with {member!r}, which is no item: write "
                        "Stage[In, Out] with Readouts, Waveform, KSpace or Image (or unions of them)"
                    )
            return taken, given
    raise TypeError(f"{cls.__name__} must say what it takes and gives: class {cls.__name__}(Stage[In, Out])")
