"""What a plan of TensorRT-RTX says of itself: what it was made from, and for which GPUs."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    model_validator,
)

from scanside.engines.manifest import (
    FileRecord,
    Name,
    Precision,
    Sha256,
    canonical_json,
    read_json_object,
    validated,
)
from scanside.errors import BundleError, ConfigError

__all__ = [
    "DEFAULT_TARGETS",
    "PLAN_FILE",
    "PLAN_SCHEMA_VERSION",
    "RECORD_FILE",
    "ComputeCapability",
    "Form",
    "PlanRecord",
    "PlanTensor",
    "check_targets",
    "plan_name",
    "this_platform",
]

PLAN_FILE = "engine.plan"
RECORD_FILE = "plan.json"
PLAN_SCHEMA_VERSION: Final = 1
"""The newest form of records that this Scanside reads, and the one it writes."""

_CAPABILITY = re.compile(r"[1-9]\d?\.\d")

ComputeCapability: TypeAlias = Annotated[str, Field(pattern=f"^{_CAPABILITY.pattern}$")]
"""Generation of a GPU, such as ``8.6``."""

DEFAULT_TARGETS = ("8.0", "8.6", "8.9", "12.0")
"""Ampere (servers, workstations), Ada, Blackwell."""

Form: TypeAlias = Literal["columns"]
"""Of a bundle's networks: the exact one; the principal one has no name."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PlanTensor(_Record):
    """An input of a plan: float32 of exactly this shape."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    shape: tuple[PositiveInt, ...] = Field(min_length=1)


class PlanRecord(_Record):
    """What a plan was made from and for.

    Attributes:
        schema_version: of this form.
        backend: that runs it.
        bundle: name of the bundle.
        version: of the bundle.
        manifest_sha256: of the bundle's manifest, and so of the whole bundle.
        weights_sha256: of its weights.
        graph_sha256: of the graph that the plan was made from.
        form: of the network; None for the principal one.
        shape: ``(k1, k0)``.
        n_coils: of its input; None where no coils go in.
        precision: of the network parts.
        inputs: in the order of the call, named as in the plan.
        output: shape of the result.
        targets: compute capabilities of the GPUs that it is for.
        platform: where it runs: the one that it was built on.
        versions: of the packages that made it, by distribution; it runs with the same release of the library.
        layers: of the network that TensorRT-RTX built it from.
        build_seconds: that building took.
        created: when.
        files: the plan, by the name of its file.
    """

    schema_version: Literal[1] = PLAN_SCHEMA_VERSION
    backend: Literal["tensorrt_rtx"] = "tensorrt_rtx"
    bundle: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    manifest_sha256: Sha256
    weights_sha256: Sha256
    graph_sha256: Sha256
    form: Form | None = None
    shape: tuple[PositiveInt, PositiveInt]
    n_coils: PositiveInt | None = None
    precision: Precision
    inputs: tuple[PlanTensor, ...] = Field(min_length=1)
    output: tuple[PositiveInt, ...] = Field(min_length=1)
    targets: tuple[ComputeCapability, ...] = Field(min_length=1)
    platform: Annotated[str, Field(min_length=1)]
    versions: dict[str, str] = Field(min_length=1)
    layers: PositiveInt
    build_seconds: NonNegativeFloat
    created: AwareDatetime
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _whole(self) -> PlanRecord:
        if set(self.files) != {PLAN_FILE}:
            raise ValueError(f"files must list '{PLAN_FILE}' and nothing else")
        for what, names in (("an input", [one.name for one in self.inputs]), ("a target", self.targets)):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} stands twice")
        return self

    @property
    def name(self) -> str:
        """Of the plan's folder: ``multicoil-unrolled-1.1.0-256x256-8coils-columns-fp32``."""
        return plan_name(self.bundle, self.version, self.shape, self.n_coils, self.form, self.precision)

    @property
    def command(self) -> str:
        """The command that has the gate try it where it is installed, and that builds another with ``--gpus``."""
        coils = "" if self.n_coils is None else f" --coils {self.n_coils}"
        size = f"{self.shape[0]}x{self.shape[1]}"
        return f"scanside engines build {self.bundle} --backend {self.backend} --bucket {size}{coils}"

    @property
    def size(self) -> int:
        """Bytes of the plan."""
        return self.files[PLAN_FILE].size

    def to_bytes(self) -> bytes:
        """The record as it stands in its file; equal records give equal bytes."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = RECORD_FILE) -> PlanRecord:
        """Read a record.

        Args:
            data: the file's content.
            where: named in errors.

        Raises:
            BundleError: not JSON, of a newer form, or something in it cannot be right.
        """
        schema = read_json_object(data, where).get("schema_version")
        if isinstance(schema, int) and schema > PLAN_SCHEMA_VERSION:
            raise BundleError(
                f"{where}: made by a newer Scanside (schema {schema} of plans; this one reads up to "
                f"{PLAN_SCHEMA_VERSION}): update Scanside, or build the plan with this version"
            )
        return validated(cls, data, where)


def plan_name(
    bundle: str,
    version: str,
    shape: tuple[int, int],
    n_coils: int | None,
    form: str | None,
    precision: Precision,
) -> str:
    """Name of a plan's folder."""
    coils = None if n_coils is None else f"{n_coils}coils"
    parts = (bundle, version, f"{shape[0]}x{shape[1]}", coils, form, precision)
    return "-".join(part for part in parts if part is not None)


def this_platform() -> str:
    """Operating system and kind of processor: ``linux-x86_64``; a plan runs where it was built.

    TensorRT-RTX can be asked for a plan for Windows instead, which then runs on Windows only.
    """
    return f"{platform.system()}-{platform.machine()}".lower()


def check_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """Compute capabilities in the form that records have, each once.

    Raises:
        ConfigError: there is none, or one is no compute capability.
    """
    found = tuple(dict.fromkeys(targets))
    wrong = [one for one in found if not _CAPABILITY.fullmatch(one)]
    if wrong or not found:
        raise ConfigError(
            f"expected compute capabilities of GPUs such as 8.6,8.9,12.0, got {', '.join(wrong) or 'none'}: "
            "'nvidia-smi --query-gpu=name,compute_cap --format=csv' prints that of a GPU"
        )
    return found
