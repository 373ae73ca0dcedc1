"""Images for OpenRecon: what the scanner reads of them, and the folder that they are built from.

An OpenRecon application is a container image with one label, whose value is a JSON object in base64: what the
application is called (``general``), what it needs (``reconstruction``), and what the scanner's user may set
(``parameters``). The scanner starts a container for each scan, connects to its port as an MRD client, and sends the
parameters as TEXT before the data; `scanside.serving.parameters` makes settings of them.

The form of the label, version 1.1.0, is modelled here as it is published with Siemens' JSON Schema for it. Builds of
such images in public add rules, which `scanside_deploy.package` checks in the finished image, and the label here: the
first parameter is a choice of the configuration whose default is what the image's server runs by itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scanside._version import __version__
from scanside.errors import ConfigError
from scanside.pipeline import Pipeline, pipeline_path
from scanside.serving.parameters import parameter_name, parameter_names
from scanside.stage import StageConfig, describe_validation

__all__ = [
    "LABEL",
    "General",
    "Injector",
    "Label",
    "Parameter",
    "Reconstruction",
    "Shown",
    "label_of",
    "parameter_of",
    "shown_by_default",
    "write_context",
]

LABEL = "com.siemens-healthineers.magneticresonance.openrecon.metadata:1.1.0"
"""The image's label."""

PORT = 9002

CHOICE, CONFIGURATION = "config", "openrecon"
"""What hosts choose a configuration by, and how they ask for the server's own, see `scanside.serving.parameters`."""

START = "opt/fire/start-scanside.sh"
"""What FIRE starts in its chroot, from the root there."""

_NEWEST_CUDA = (11, 8)

_LARGEST = 4095
"""Scanners show images of 12 bits."""

_NUMBERED = re.compile(r"^\d+\.\d+\.\d+")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class English(_Part):
    """A text that people see."""

    en: Annotated[str, Field(min_length=1)]


class Unit(_Part):
    """A unit, in three letters at most."""

    en: Annotated[str, Field(min_length=1, max_length=3)]


Id: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
Injector: TypeAlias = Literal["image", "compleximage"]
Tenths: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Long: TypeAlias = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class _Parameter(_Part):
    id: Id
    label: English
    information: English | None = None


class BooleanParameter(_Parameter):
    """A box to tick."""

    type: Literal["boolean"] = "boolean"
    default: bool


class StringParameter(_Parameter):
    """A line of text."""

    type: Literal["string"] = "string"
    default: str = ""


class ChoiceValue(_Part):
    """One of the values of a choice."""

    id: Id
    name: English


class ChoiceParameter(_Parameter):
    """One of several values."""

    type: Literal["choice"] = "choice"
    values: Annotated[tuple[ChoiceValue, ...], Field(min_length=1)]
    default: str

    @model_validator(mode="after")
    def _default_is_one(self) -> ChoiceParameter:
        if self.default not in [value.id for value in self.values]:
            raise ValueError(f"the default '{self.default}' is none of the values")
        return self


class IntParameter(_Parameter):
    """A whole number between two others."""

    type: Literal["int"] = "int"
    minimum: Long
    maximum: Long
    default: Long
    unit: Unit | None = None

    @model_validator(mode="after")
    def _ordered(self) -> IntParameter:
        _check_order(self.minimum, self.default, self.maximum)
        return self


class DoubleParameter(_Parameter):
    """A number between two others, in tenths: the scanner's page counts in them."""

    type: Literal["double"] = "double"
    minimum: Tenths
    maximum: Tenths
    default: Tenths
    unit: Unit | None = None

    @model_validator(mode="after")
    def _ordered(self) -> DoubleParameter:
        _check_order(self.minimum, self.default, self.maximum)
        for value in (self.minimum, self.default, self.maximum):
            if abs(10 * value - round(10 * value)) > 1e-9:
                raise ValueError(f"{value:g} is no multiple of 0.1, in which the scanner's page counts")
        return self


Parameter: TypeAlias = BooleanParameter | StringParameter | ChoiceParameter | IntParameter | DoubleParameter


def _check_order(minimum: float, default: float, maximum: float) -> None:
    if not minimum <= default <= maximum:
        raise ValueError(f"the default {default:g} does not lie between {minimum:g} and {maximum:g}")


class Regulatory(_Part):
    """What is said of the product; all of it must be there, and may be empty."""

    device_trade_name: str
    production_identifier: str
    manufacturer_address: str = ""
    made_in: str = ""
    manufacture_date: str
    material_number: str
    gtin: str = ""
    udi: str = ""
    safety_advices: str = ""
    special_operating_instructions: str = "Research use only; not a medical device."
    additional_relevant_information: str = ""


class Name(_Part):
    """A name that files bear, too."""

    en: Id


class General(_Part):
    """What the application is."""

    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    vendor: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
    information: English
    id: Id
    regulatory_information: Regulatory


class Protocol(_Part):
    """How the scanner and the application talk."""

    protocol: Literal["ISMRMRD"] = "ISMRMRD"
    version: Literal["1.4.1"] = "1.4.1"


class Reconstruction(_Part):
    """What the application gets, gives and needs.

    Attributes:
        emitter: what it gets: readouts (``raw``) or images.
        injector: what it gives: finished images, or complex ones that the scanner goes on with.
        min_required_memory: in MB, and so is that of the GPU.
    """

    transfer_protocol: Protocol = Protocol()
    port: int = PORT
    emitter: Literal["raw", "image"] = "raw"
    injector: Injector = "image"
    can_process_adjustment_data: bool = False
    can_use_gpu: bool = False
    min_count_required_gpus: Annotated[int, Field(ge=0)] = 0
    min_required_gpu_memory: Annotated[int, Field(ge=0)] = 0
    min_required_memory: Annotated[int, Field(ge=0)] = 8192
    min_count_required_cpu_cores: Annotated[int, Field(ge=1)] = 2
    content_qualification_type: Literal["RESEARCH"] = "RESEARCH"


class Label(_Part):
    """The label's value."""

    general: General
    reconstruction: Reconstruction
    parameters: Annotated[tuple[Annotated[Parameter, Field(discriminator="type")], ...], Field(max_length=14)]

    @model_validator(mode="after")
    def _configuration_first(self) -> Label:
        first = next((one for one in self.parameters if isinstance(one, ChoiceParameter)), None)
        if first is None or first.id != CHOICE or first.default != CONFIGURATION:
            raise ValueError(
                f"the first choice must be '{CHOICE}', with the id of the default configuration, '{CONFIGURATION}', "
                "as its default"
            )
        return self

    @model_validator(mode="after")
    def _unique(self) -> Label:
        ids = [one.id for one in self.parameters]
        for one in ids:
            if ids.count(one) > 1:
                raise ValueError(f"two parameters are named '{one}'")
        return self

    def to_json(self) -> str:
        """The label as JSON."""
        return self.model_dump_json(indent=2, exclude_none=True)

    def to_base64(self) -> str:
        """The label as the image holds it."""
        return base64.b64encode(self.to_json().encode()).decode()

    @property
    def package(self) -> str:
        """The name that manual and package must have."""
        return f"OpenRecon_{self.general.vendor}_{self.general.name.en}_V{self.general.version}"

    @property
    def image(self) -> str:
        """The name that the image must have."""
        general = self.general
        return f"openrecon_{general.vendor}_{general.name.en}:v{general.version}".lower()


class Shown(_Part):
    """A setting that the scanner's user may change.

    Attributes:
        setting: ``stage.setting``.
        minimum: of a number; None takes the setting's own bound.
        maximum: likewise.
        default: None takes the pipeline's own value.
        unit: of a number, three letters at most.
    """

    setting: str
    minimum: float | None = None
    maximum: float | None = None
    default: float | None = None
    unit: str | None = None

    @classmethod
    def parse(cls, text: str) -> Shown:
        """Read ``engine.fitness`` or ``engine.deadline_ms=50:5000:500`` (least, most, default; the last may be left
        out), a unit behind it in brackets: ``engine.deadline_ms=50:5000:500[ms]``.

        Raises:
            ConfigError: it cannot be read.
        """
        number = r"[-+]?\d+(?:\.\d+)?"
        pattern = rf"([^=\[\]]+\.[^=\[\]]+)(?:=({number}):({number})(?::({number}))?(?:\[(.+)\])?)?"
        found = re.fullmatch(pattern, text.strip())
        if found is None:
            raise ConfigError(
                f"parameter {text!r}: expected stage.setting, or with a range stage.setting=LEAST:MOST:DEFAULT[unit]"
            )
        setting, minimum, maximum, default, unit = found.groups()
        numbers = [None if one is None else float(one) for one in (minimum, maximum, default)]
        return cls(
            setting=setting.strip(), minimum=numbers[0], maximum=numbers[1], default=numbers[2], unit=unit
        )


def label_of(
    pipeline: Pipeline,
    shown: Sequence[Shown],
    *,
    name: str,
    vendor: str = "Scanside",
    injector: Injector = "image",
    gpu: bool = False,
) -> Label:
    """The label of an application that runs a pipeline.

    Args:
        pipeline: that runs.
        shown: the settings that the scanner's user may change.
        name: of the application.
        vendor: who builds it, letters and digits.
        injector: see `Reconstruction`.
        gpu: whether it may use a GPU; it runs without one, too.

    Raises:
        ConfigError: a setting is unknown, cannot be shown, or lacks its range; a name is none that OpenRecon takes.
    """
    version = _NUMBERED.match(__version__)
    assert version is not None
    identifier = "".join(part[0].upper() + part[1:] for part in re.findall(r"[A-Za-z0-9]+", name))
    try:
        return Label(
            general=General(
                name=Name(en=identifier),
                version=version[0],
                vendor=vendor,
                information=English(en=pipeline.description or name),
                id=identifier,
                regulatory_information=Regulatory(
                    device_trade_name=identifier,
                    production_identifier=version[0],
                    manufacture_date=f"{date.today():%Y/%m/%d}",
                    material_number=f"{identifier}_{version[0]}",
                ),
            ),
            reconstruction=Reconstruction(
                injector=injector, can_use_gpu=gpu, min_required_gpu_memory=4096 if gpu else 0
            ),
            parameters=(_configuration(pipeline), *(parameter_of(pipeline, one) for one in shown)),
        )
    except ValidationError as error:
        raise ConfigError(describe_validation("the OpenRecon label", Label, error)) from error


def _configuration(pipeline: Pipeline) -> ChoiceParameter:
    """The choice that builds ask for; there is one configuration, which the image was made for."""
    return ChoiceParameter(
        id=CHOICE,
        label=English(en="Pipeline"),
        information=English(en=pipeline.description or pipeline.name),
        values=(ChoiceValue(id=CONFIGURATION, name=English(en=pipeline.name)),),
        default=CONFIGURATION,
    )


def parameter_of(pipeline: Pipeline, shown: Shown) -> Parameter:
    """A setting as the scanner shows it.

    Raises:
        ConfigError: see `label_of`.
    """
    names = {setting: name for name, setting in parameter_names(pipeline).items()}
    if shown.setting not in names:
        raise ConfigError(
            f"pipeline '{pipeline.name}' has no setting '{shown.setting}': it has {', '.join(names)}"
        )
    label, _, setting = shown.setting.rpartition(".")
    config: StageConfig = dict(zip(pipeline.labels, pipeline.stages, strict=True))[label].config
    schema = type(config).model_json_schema()["properties"][setting]
    value = getattr(config, setting)
    common: dict[str, Any] = {"id": parameter_name(shown.setting), "label": English(en=f"{label}: {setting}")}
    if "description" in schema:
        common["information"] = English(en=schema["description"].replace("``", "'"))
    kinds = _kinds(type(config).model_fields[setting].annotation)
    try:
        if kinds == {bool}:
            return BooleanParameter(**common, default=bool(value))
        if kinds and all(isinstance(kind, str) for kind in kinds):
            possible = [one for one in sorted(kinds) if _can_be(config, setting, one)]
            choices = tuple(ChoiceValue(id=one, name=English(en=one)) for one in possible)
            return ChoiceParameter(**common, values=choices, default=value)
        if kinds in ({int}, {float}):
            return _number(common, shown, int in kinds, schema, value)
        if kinds == {str}:
            return StringParameter(**common, default=value or "")
    except ValidationError as error:
        raise ConfigError(describe_validation(shown.setting, Label, error)) from error
    raise ConfigError(f"'{shown.setting}' cannot be shown: a scanner shows numbers, boxes, choices and texts")


def _can_be(config: StageConfig, setting: str, value: str) -> bool:
    """Whether a setting may have a value while the others stay as they are."""
    try:
        type(config).model_validate({**config.model_dump(by_alias=True), setting: value})
    except ValidationError:
        return False
    return True


def _number(
    common: dict[str, Any], shown: Shown, whole: bool, schema: Mapping[str, Any], value: float | None
) -> IntParameter | DoubleParameter:
    # The bounds of a setting that may also be none stand with its number.
    bounds = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    minimum = bounds.get("minimum") if shown.minimum is None else shown.minimum
    maximum = bounds.get("maximum") if shown.maximum is None else shown.maximum
    default = value if shown.default is None else shown.default
    missing = [
        what for what, one in (("least", minimum), ("most", maximum), ("default", default)) if one is None
    ]
    if missing:
        raise ConfigError(
            f"'{shown.setting}' needs a range to be shown, its {' and '.join(missing)} is not known: write "
            f"{shown.setting}=LEAST:MOST:DEFAULT"
        )
    numbers = {"minimum": minimum, "maximum": maximum, "default": default}
    unit = Unit(en=shown.unit) if shown.unit else None
    return (IntParameter if whole else DoubleParameter)(**common, **numbers, unit=unit)


def _kinds(annotation: Any) -> set[Any]:
    """The plain types, and the values of literals, that a setting may have; without None."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if arguments := get_args(annotation):
        return {kind for one in arguments if one is not type(None) for kind in _kinds(one)}
    return {annotation}


def write_context(
    folder: Path,
    pipeline: str | Path,
    shown: Sequence[Shown] = (),
    settings: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    vendor: str = "Scanside",
    image: str = "scanside:cpu",
    injector: Injector = "image",
    gpu: bool = False,
) -> Label:
    """Write the folder that an OpenRecon image is built from.

    It holds the label as JSON, the Dockerfile with it, the pipeline with all settings that hold when nobody changes
    any, the server's settings, and the script that builds image and package.

    Args:
        folder: is made; what is there of an earlier one is replaced.
        pipeline: its name, or the file of one.
        shown: the settings that the scanner's user may change.
        settings: settings that are changed for good, as ``"stage.setting": value``.
        name: of the application; None for the pipeline's.
        vendor: who builds it, letters and digits.
        image: that it is built upon, see ``deploy/containers``.
        injector: ``image``: finished images of 12 bits; ``compleximage``: complex images that the scanner goes on
            with.
        gpu: whether it may use a GPU.

    Raises:
        ConfigError: see `label_of`.
        PipelineError: there is no such pipeline, or it cannot be loaded.
        StageConfigError: a setting is unknown or wrong.
        OSError: the folder cannot be written.
    """
    _check_base(image)
    plain = Pipeline.load(pipeline)
    changed = {**_for_hosts(plain, injector), **(settings or {})}
    changed |= {one.setting: f"{one.default:g}" for one in shown if one.default is not None}
    ready = Pipeline.load(pipeline, changed)
    label = label_of(
        ready, shown, name=name or f"Scanside {plain.name}", vendor=vendor, injector=injector, gpu=gpu
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "OpenReconLabel.json": label.to_json() + "\n",
        "Dockerfile": _dockerfile(label, image),
        "pipeline.yaml": _pipeline_file(pipeline, ready),
        "server.yaml": _SERVER,
        "start-fire.sh": _START_FIRE,
        "fire.json": _fire_parameters(label),
        "package.sh": _PACKAGE.format(image=label.image, package=label.package),
    }
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    for file in ("start-fire.sh", "package.sh"):
        (folder / file).chmod(0o755)
    return label


def _check_base(image: str) -> None:
    """See by an image's name what can be seen by it; the image itself is looked at when it is packed.

    Raises:
        ConfigError: it has a CUDA that hosts do not take.
    """
    found = re.search(r"cuda[^0-9]?(\d+)?(?:\.(\d+))?", image, re.IGNORECASE)
    if found is not None and (int(found[1] or 99), int(found[2] or 0)) > _NEWEST_CUDA:
        raise ConfigError(
            f"image '{image}': OpenRecon's hosts take CUDA {'.'.join(map(str, _NEWEST_CUDA))} at most, or none, and "
            "Scanside's engines for GPUs need a later one: build upon scanside:cpu"
        )


def _fire_parameters(label: Label) -> str:
    """What FIRE sends in place of a scanner's page: its defaults."""
    defaults = {one.id: str(one.default) for one in label.parameters}
    return json.dumps({"version": "1.1.0", "parameters": defaults}, indent=2) + "\n"


def _for_hosts(pipeline: Pipeline, injector: str) -> dict[str, str]:
    """Settings that the host asks for, of the stages that there are."""
    wanted = {"finish.kind": "complex"} if injector == "compleximage" else {}
    if injector == "image":
        wanted |= {"finish.scaling": "scan", "finish.largest": str(_LARGEST)}
    # A container lives for one scan: there is nobody who would find what it had built.
    wanted["engine.backend"] = "eager"
    return {name: value for name, value in wanted.items() if name.partition(".")[0] in pipeline.labels}


def _pipeline_file(source: str | Path, ready: Pipeline) -> str:
    import yaml

    document = yaml.safe_load(pipeline_path(source).read_text(encoding="utf-8"))
    document["stages"] = [
        {_stage_name(label): _differing(stage.config)} if _differing(stage.config) else _stage_name(label)
        for label, stage in zip(ready.labels, ready.stages, strict=True)
    ]
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text


def _stage_name(label: str) -> str:
    return label.partition("#")[0]


def _differing(config: StageConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_defaults=True)


def _dockerfile(label: Label, image: str) -> str:
    return dedent(
        f"""\
        FROM {image}
        LABEL "{LABEL}"="{label.to_base64()}"
        # Hosts start nothing but root; the server's own image has a user for itself.
        USER root
        COPY server.yaml pipeline.yaml /etc/scanside/
        COPY start-fire.sh /{START}
        EXPOSE {PORT}
        # There is no live page that could be asked, and commands given to the image must run as they are.
        HEALTHCHECK NONE
        ENTRYPOINT []
        CMD ["scanside", "serve", "--config", "/etc/scanside/server.yaml"]
        """
    )


_SERVER = dedent(
    f"""\
    # The scanner starts one container for each scan and connects to it through its own private network.
    host: 0.0.0.0
    port: {PORT}
    allow: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]
    handover: "off"
    pipeline: /etc/scanside/pipeline.yaml
    workers: 1
    """
)

_START_FIRE = dedent(
    """\
    #!/bin/sh
    # FIRE starts this in the chroot that was made of the image, perhaps with the name of a log file.
    export PATH=/opt/scanside/bin:$PATH
    export SCANSIDE_ENGINE_CACHE=/var/lib/scanside/engines
    export SCANSIDE_ENGINES=/var/lib/scanside/bundles
    # The folder that the host shares is larger than the chroot.
    if [ -d /tmp/share ]; then export TMPDIR=/tmp/share; fi
    scanside serve --config /etc/scanside/server.yaml >"${1:-/dev/null}" 2>&1 &
    """
)

_PACKAGE = dedent(
    """\
    #!/bin/sh
    # Builds the image and packs it: needs Docker before version 25, as hosts refuse the OCI layout that later ones
    # write, mke2fs, and the manual as manual.pdf beside this file. {package}.zip is for OpenRecon's folder for
    # incoming files, {package}_FIRE.zip holds the same for FIRE.
    set -eu
    cd "$(dirname "$0")"
    test -f manual.pdf || {{ echo "OpenRecon wants a manual: put it here as manual.pdf" >&2; exit 1; }}
    docker build --platform linux/amd64 -t {image} .
    docker save -o image.tar {image}
    container=$(docker create --platform linux/amd64 {image})
    docker export -o chroot.tar "$container"
    docker rm "$container"
    scanside deploy pack .
    """
)


def shown_by_default(pipeline: Pipeline) -> tuple[Shown, ...]:
    """The settings that a scanner's user is most likely to want, of the stages that a pipeline has."""
    wanted: Iterable[Shown] = (
        Shown(setting="finish.kind"),
        Shown(setting="engine.fitness"),
        Shown(setting="engine.deadline_ms", minimum=10, maximum=60000, default=10000, unit="ms"),
    )
    return tuple(one for one in wanted if one.setting.partition(".")[0] in pipeline.labels)
