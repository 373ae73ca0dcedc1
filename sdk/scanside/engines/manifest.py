"""What a bundle says of itself: what goes in and out, what it was trained for and accepted at, and all its files.

A manifest is JSON, written in one form (sorted keys, two spaces) so that equal manifests are equal files. Every
other file of the bundle stands in it with its size and SHA-256; a signature over the manifest covers them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from scanside.engines.parameters import Parameter
from scanside.errors import BundleError

__all__ = [
    "CALIBRATION_FILE",
    "MANIFEST_FILE",
    "SCHEMA_VERSION",
    "SIGNATURE_FILE",
    "VECTORS_FILE",
    "WEIGHTS_FILE",
    "AcceptanceReport",
    "Ancestor",
    "Check",
    "CoilCounts",
    "ColumnsForm",
    "DataSource",
    "FileRecord",
    "Form",
    "FormName",
    "GateLimits",
    "Lowering",
    "Manifest",
    "MetricTable",
    "Normalisation",
    "Precision",
    "PrecisionChoice",
    "Range",
    "Sampling",
    "Shapes",
    "TakenParameter",
    "Task",
    "TensorSpec",
    "Training",
    "inherited_cautions",
]

SCHEMA_VERSION: Final = 4
"""The newest form of manifests that this Scanside reads, and the one it writes; 2 brought the form ``columns``, 3
``sampling.snr``, 4 ``shapes.fixed``, ``parameters`` and cautions."""

MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "signature.json"
WEIGHTS_FILE = "weights.safetensors"
VECTORS_FILE = "vectors.safetensors"
CALIBRATION_FILE = "calibration.safetensors"

Task: TypeAlias = Literal["image", "unrolled", "dynamic"]
"""``image``: coil-combined image in, image out; ``unrolled``: adjoint image, coil maps and sampling in, image out;
``dynamic``: a window of frames at once, in either of these ways."""

Lowering: TypeAlias = Literal["fft", "pmatrix", "dft_matmul", "columns", "none"]
"""How data consistency is written in the graph; ``none`` where there is none, ``columns`` where it is solved exactly,
outside (`ColumnsForm`)."""

FormName: TypeAlias = Literal["principal", "columns"]
"""Which of a bundle's exported graphs: the one that takes all scans, or the exact one for masks along k1."""

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
"""What the network parts compute in, the highest first; in ``int8`` only their convolutions. Data consistency and
corrections are fp32."""

PrecisionChoice: TypeAlias = Literal["auto", "fp32", "bf16", "int8"]
"""A precision that is asked for; ``auto`` for whichever is the fastest of those that were accepted."""

Name: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_PART_OF_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*[A-Za-z0-9_-]|[A-Za-z0-9_]")
_DEEPEST = 4
_LONGEST_PATH = 160


class _Record(BaseModel):
    """What all parts of a manifest have in common: unknown keys are errors, nothing changes."""

    # NaN and infinity are no JSON, and no limit or result that anyone could check.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_AnyRecord = TypeVar("_AnyRecord", bound=BaseModel)


class Range(_Record):
    """From ``low`` to ``high``, both included."""

    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"a range from {self.low:g} to {self.high:g} is empty; low must not exceed high")
        return self

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}–{self.high:g}"


CoilCounts: TypeAlias = Range | tuple[PositiveInt, ...]
"""Coil counts that a network takes: all in a range, or those of a list."""


class TensorSpec(_Record):
    """One tensor at the engine's boundary.

    Attributes:
        name: what it is: ``image``, ``kspace``, ``maps``, ``noise``, ``parameters`` (`scanside.engines.parameters`),
            ``mask``, ``p``, ``dft1``, ``dft0``; the film that a network begins with, ``low_rank_sparse``
            (`scanside.recon.film_start`); of the form ``columns`` ``image``, ``fitted``, ``kept``, ``support``; an
            image with another contrast, ``contrast:NAME``. See `scanside.engines.roles`.
        axes: in order; a number is a fixed length, a name stands for a length of the scan, ``time`` for that of the
            network's window.
        dtype: of the elements; boundaries are fp32 whatever the network computes in.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*(:[A-Za-z0-9_-]+)?$")]
    axes: tuple[Literal["batch", "coil", "time", "k1", "k0"] | PositiveInt, ...] = Field(min_length=1)
    dtype: Literal["float32"] = "float32"

    def shape(
        self, k1: int, k0: int, n_coils: int | None = None, batch: int = 1, n_frames: int | None = None
    ) -> tuple[int, ...]:
        """The tensor's shape for images of ``(k1, k0)``, that many coils, and that many frames.

        Raises:
            ValueError: the tensor has a coil or a time axis and its length is not given.
        """
        if n_coils is None and "coil" in self.axes:
            raise ValueError(f"'{self.name}' has a coil axis: say how many coils")
        if n_frames is None and "time" in self.axes:
            raise ValueError(f"'{self.name}' has a time axis: say how many frames")
        lengths = {"batch": batch, "coil": n_coils or 0, "time": n_frames or 0, "k1": k1, "k0": k0}
        return tuple(axis if isinstance(axis, int) else lengths[axis] for axis in self.axes)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.axes))})"


class Shapes(_Record):
    """Sizes that an engine takes.

    Attributes:
        multiple_of: both image sizes must be divisible by it inside the network; padding is done outside.
        buckets: ``(k1, k0)`` for which engines are built beforehand. Images of other sizes go to one of these, or to
            an engine of their own size (see `scanside.engines.shapes`).
        coils: coil counts; None where no coil axis goes in.
        frames: length of the window that the network takes, no other; None where no time axis goes in.
        fixed: whether the network takes images of the one bucket's size and no others, as dense layers do.
    """

    multiple_of: PositiveInt
    buckets: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(min_length=1)
    coils: CoilCounts | None = None
    frames: PositiveInt | None = None
    fixed: bool = False

    @model_validator(mode="after")
    def _fit(self) -> Shapes:
        for bucket in self.buckets:
            if any(size % self.multiple_of for size in bucket):
                raise ValueError(f"bucket {bucket[0]}×{bucket[1]} is not divisible by {self.multiple_of}")
        if len(set(self.buckets)) != len(self.buckets):
            raise ValueError("a bucket stands twice in the list")
        if self.fixed and len(self.buckets) > 1:
            raise ValueError(f"a network of a fixed size has one bucket, got {len(self.buckets)}")
        if self.coils == ():
            raise ValueError("the list of coil counts is empty; leave it out where no coils go in")
        return self

    def accepts_coils(self, n_coils: int) -> bool:
        """Whether data of that many coils may go in as they are."""
        return self.coils is not None and n_coils in self.coils

    def coils_for(self, n_coils: int) -> int | None:
        """How many coils go in where there are ``n_coils``; None where no coils do.

        More than there are, where fewer are not taken: what is left is empty, with maps of zero, which changes
        nothing. Else the most that are taken: there are to be compressed to these.
        """
        if isinstance(self.coils, Range):
            return int(min(max(n_coils, self.coils.low), self.coils.high))
        if self.coils is None:
            return None
        return min((count for count in self.coils if count >= n_coils), default=max(self.coils))


class Normalisation(_Record):
    """What inputs are divided by and outputs multiplied with: a quantile of the input image's magnitude."""

    method: Literal["quantile"] = "quantile"
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.99


class DataSource(_Record):
    """Data that the weights were trained on.

    Attributes:
        name: of the data set or the simulation.
        licence: under which it came.
        what: which subjects, slices or simulated cases.
        seen: hashes of the subjects and recordings, by which an evaluation tells that it asks for what was learned.
    """

    name: Annotated[str, Field(min_length=1)]
    licence: Annotated[str, Field(min_length=1)]
    what: Annotated[str, Field(min_length=1)]
    seen: tuple[str, ...] = ()


class Sampling(_Record):
    """The scans that a network was trained for; outside of it, results are nobody's word.

    Attributes:
        acceleration: encoded lines by acquired lines, calibration lines counted.
        acs_lines: width of the fully sampled centre.
        kinds: of masks, by their names in `scanside.sampling`: ``equispaced``, ``random``, ``variable-density`` and
            others; of windows also ``kt`` (equispaced lines that move from frame to frame) and ``golden``.
        undersampled_axes: 1 for masks along k1, 2 for masks over k1 and k0.
        matrix: of the image, both directions.
        n_coils: of the data that the coil maps belong to.
        snr: bright tissue (the 99 % quantile of the magnitude) over the standard deviation of the noise's real part,
            in a fully sampled image that the coils' maps combine; None in bundles that do not say.
        anatomy: what was imaged: ``brain``.
    """

    acceleration: Range
    acs_lines: Range
    kinds: tuple[Name, ...] = Field(min_length=1)
    undersampled_axes: Literal[1, 2] = 1
    matrix: Range
    n_coils: Range
    snr: Range | None = None
    anatomy: tuple[Name, ...] = Field(min_length=1)


class MetricTable(_Record):
    """Measured quality.

    Attributes:
        dataset: what it was measured on, with the subjects.
        sampling: the mask: acceleration and ACS lines.
        rows: by method (``network``, ``zero-filled`` …) then by measure (``psnr_db``, ``ssim`` …), means.
    """

    dataset: Annotated[str, Field(min_length=1)]
    sampling: str
    rows: dict[str, dict[str, float]] = Field(min_length=1)


class GateLimits(_Record):
    """Within which an engine must agree with the eager fp32 network it was made from.

    Attributes:
        fp32_relative_error: ‖engine − eager‖ / ‖eager‖ of engines that compute in fp32.
        reduced_relative_error: the same of engines in bf16 or int8.
        psnr_loss_db: how much PSNR against the truth an engine in bf16 or int8 may lose.
        ssim_loss: how much SSIM against the truth it may lose.
    """

    fp32_relative_error: PositiveFloat = 1e-5
    reduced_relative_error: PositiveFloat = 2e-2
    psnr_loss_db: PositiveFloat = 0.05
    ssim_loss: PositiveFloat = 0.001


class Check(_Record):
    """One measurement of an acceptance.

    Attributes:
        name: what was measured, on which input: ``relative-error/zeros``.
        value: measured; None where it was not finite, or where there is nothing to measure.
        limit: that the value must not exceed; None where the check is no number.
        passed: the verdict.
        note: why it failed, or what was seen.
    """

    name: Annotated[str, Field(min_length=1)]
    value: float | None = None
    limit: float | None = None
    passed: bool
    note: str = ""


class AcceptanceReport(_Record):
    """How one engine compared with the network it was made from.

    Attributes:
        backend: that ran it: ``openvino``.
        precision: of the network parts.
        shape: ``(k1, k0)`` of the engine.
        n_coils: of its input; None where no coils go in.
        hardware: fingerprint of the machine (see ``scanside.engines.hardware``).
        versions: of the packages that took part, by name.
        checks: all measurements.
        created: when.
        median_ms: time of one call meanwhile, whatever else the machine was doing.
    """

    backend: Annotated[str, Field(min_length=1)]
    precision: Precision
    shape: tuple[PositiveInt, PositiveInt]
    n_coils: PositiveInt | None = None
    hardware: str
    versions: dict[str, str]
    checks: tuple[Check, ...] = Field(min_length=1)
    created: AwareDatetime
    median_ms: PositiveFloat | None = None

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


class Ancestor(_Record):
    """A network that the weights go back to.

    Attributes:
        name: of its training run.
        weights_sha256: of its weights, where they were seen.
        trained_on: its own data, those of its ancestors left out; none where they are not known.
        cautions: what people must be told of networks that were trained like this.
        initial: name of the ancestor whose weights it began with.
        teacher: name of the ancestor that taught it.
        config: file of the bundle with its whole configuration, where that is known.
    """

    name: Annotated[str, Field(min_length=1)]
    weights_sha256: Sha256 | None = None
    trained_on: tuple[DataSource, ...] = ()
    cautions: tuple[str, ...] = ()
    initial: str | None = None
    teacher: str | None = None
    config: str | None = None


class Training(_Record):
    """How to train the weights again; the names are files of the bundle.

    Attributes:
        config: the whole configuration.
        seed: of all random numbers.
        log: what the trainer wrote.
        datasheet: prose for people: data, limits, how to reproduce.
        picture: that the data sheet shows; None where it shows none.
        cautions: what people must be told of a network that was trained like this.
        initial: name of the ancestor whose weights these began with.
        teacher: name of the ancestor that taught them.
        ancestors: all networks that the weights go back to, each after its own.
    """

    config: str
    seed: NonNegativeInt
    log: str | None = None
    datasheet: str | None = None
    picture: str | None = None
    cautions: tuple[str, ...] = ()
    initial: str | None = None
    teacher: str | None = None
    ancestors: tuple[Ancestor, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Training:
        known: set[str | None] = {None}
        for one in self.ancestors:
            if one.name in known or {one.initial, one.teacher} - known:
                raise ValueError(f"ancestor '{one.name}' stands twice, or before what it goes back to")
            known.add(one.name)
        if {self.initial, self.teacher} - known:
            raise ValueError("initial and teacher name ancestors, and one of them is not in the list")
        return self


class Form(_Record):
    """One way in which a network was exported; the weights are the same for all of them.

    Attributes:
        lowering: of data consistency.
        inputs: positional inputs of the graphs that are not parameters.
        graphs: the exported graph of each precision; fp32 is the reference and always there.
    """

    lowering: Lowering
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    graphs: dict[Precision, str]

    @property
    def takes_coils(self) -> bool:
        """Whether an engine is for some number of coils."""
        return any("coil" in spec.axes for spec in self.inputs)

    @model_validator(mode="after")
    def _has_reference(self) -> Form:
        if "fp32" not in self.graphs:
            raise ValueError("graphs lacks 'fp32', the reference for all others")
        if "int8" in self.graphs:
            raise ValueError("graphs has 'int8', which no graph is in: its engines are made from 'fp32'")
        return self


class ColumnsForm(Form):
    """The form whose data consistency is solved exactly, column by column, for masks along k1.

    Its engines take what the solution needs ready made (see `scanside.engines.columns`), so that they serve any
    number of coils.

    Attributes:
        weight: λ / noise² of ``argmin ‖A x − y‖² + λ ‖x − z‖²``.
        smallest: λ is at least this.
        largest: λ is at most this.
        below: engines of a k1 from here on are of the principal form: what is ready made grows with its square. Up to
            640 rows this form takes half the time of the other, or less.
    """

    lowering: Literal["columns"] = "columns"
    weight: PositiveFloat
    smallest: PositiveFloat
    largest: PositiveFloat
    below: PositiveInt = 641


class Uncertainty(_Record):
    """What a network's own word on its errors was worth on scans of subjects that trained nothing.

    Attributes:
        factor: by which its mean is brought to that of the errors; what goes out was multiplied with it.
        correlation: Pearson's, between it and the error, of the voxels of an object; mean over images.
        n_images: these were.
    """

    factor: Annotated[float, Field(gt=0)]
    correlation: Annotated[float, Field(ge=-1, le=1)]
    n_images: PositiveInt


class TakenParameter(_Record):
    """A number of the scan that a network is told.

    Attributes:
        name: which, see `scanside.engines.parameters`.
        trained: from the smallest to the largest that it met in training, in the unit of the number.
    """

    name: Parameter
    trained: Range


class FileRecord(_Record):
    """What a file of the bundle must be."""

    sha256: Sha256
    size: NonNegativeInt


class Manifest(_Record):
    """What a bundle says of itself.

    Attributes:
        schema_version: of this form.
        name: of the bundle; also its folder's name where it is shipped.
        version: of the bundle, changed with its weights.
        created: when it was built.
        made_with: versions of ``scanside``, ``torch`` and others that built it.
        description: one sentence for people.
        task: what the network does.
        inputs: positional inputs of the graph that are not parameters.
        outputs: what it gives: one tensor, whose channels are those of these, one after the other. The first is the
            image; ``uncertainty`` is the error to be expected of each of its voxels, on the same scale.
        uncertainty: how far the network's own word on that was right; given exactly if it gives one.
        parameters: the numbers of its input ``parameters``, in their order; given exactly if it has one.
        lowering: of data consistency.
        shapes: sizes that go in.
        normalisation: as in training.
        input_image: what the image at the input is: ``zero-filled``, ``adjoint``, or a classical method such as
            ``cg-sense``.
        graphs: the exported graph of each precision; fp32 is the reference and always there.
        columns: the exact form of the network, for masks along k1, where it has one; with the lowering ``columns``
            it is the only one.
        trained_on: data behind the weights, those of all ancestors included.
        sampling: scans that they were trained for.
        metrics: measured quality.
        limits: of the gate.
        acceptance: engines that were accepted or refused where the bundle was built.
        n_parameters: of the network.
        calibration: file with the cases that ranges of int8 are taken from, none of them a reference vector; None
            where there are none, and so no engines in int8.
        training: how to train it again.
        files: all files of the bundle but the manifest and its signature, by their path.
    """

    schema_version: Literal[1, 2, 3, 4] = SCHEMA_VERSION
    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    created: AwareDatetime
    made_with: dict[str, str]
    description: str
    task: Task
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    uncertainty: Uncertainty | None = None
    parameters: tuple[TakenParameter, ...] = ()
    lowering: Lowering
    shapes: Shapes
    normalisation: Normalisation = Normalisation()
    input_image: Name
    graphs: dict[Precision, str]
    columns: ColumnsForm | None = None
    trained_on: tuple[DataSource, ...] = Field(min_length=1)
    sampling: Sampling
    metrics: tuple[MetricTable, ...] = ()
    limits: GateLimits = GateLimits()
    acceptance: tuple[AcceptanceReport, ...] = ()
    n_parameters: PositiveInt
    calibration: str | None = None
    training: Training | None = None
    files: dict[str, FileRecord]

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for path in files:
            check_path(path)
        folded = [path.casefold() for path in files]
        if len(set(folded)) != len(folded):
            raise ValueError(
                "two files differ by upper and lower case only: one of them would replace the other"
            )
        return files

    @model_validator(mode="after")
    def _complete(self) -> Manifest:
        if self.task != "dynamic" and (self.task == "unrolled") == (self.lowering == "none"):
            raise ValueError(
                f"task '{self.task}' with lowering '{self.lowering}': an unrolled network has data consistency "
                "in one of the lowerings fft, pmatrix, dft_matmul, columns; an image network has none"
            )
        if self.lowering == "columns":
            self._check_columns_alone()
        if self.columns is not None and self.task != "unrolled":
            raise ValueError(f"task '{self.task}' has no form 'columns': only unrolled networks do")
        if self.form("principal").takes_coils != (self.shapes.coils is not None):
            raise ValueError(
                "shapes.coils says which coil counts go in: given exactly if an input has a coil axis"
            )
        if len({self.task == "dynamic", self.shapes.frames is not None, self._has_time}) > 1:
            raise ValueError(
                "shapes.frames says how long the window is: given exactly if the task is 'dynamic', whose images "
                "have a time axis"
            )
        if not self.shapes.fixed and any(spec.name == "kspace" for spec in self.inputs):
            raise ValueError(
                "k-space cannot be padded as images are: a network with the input 'kspace' has shapes.fixed"
            )
        names = [spec.name for spec in self.outputs]
        if names not in (["image"], ["image", "uncertainty"]):
            raise ValueError(f"outputs are 'image', or 'image' and 'uncertainty', got {names}")
        if (len(names) > 1) != (self.uncertainty is not None):
            raise ValueError("'uncertainty' says what that output is worth: given exactly if there is one")
        taken = [spec.axes for spec in self.inputs if spec.name == "parameters"]
        if taken != ([("batch", len(self.parameters))] if self.parameters else []):
            raise ValueError(
                "'parameters' says what the input of that name holds: given exactly if there is one, whose axes are "
                "'batch' and their count"
            )
        for path in self.named_files():
            if path not in self.files:
                raise ValueError(f"'{path}' is named but does not stand in files")
        return self

    def _check_columns_alone(self) -> None:
        alone = self.columns
        if alone is None or (alone.inputs, alone.graphs) != (self.inputs, self.graphs):
            raise ValueError(
                "lowering 'columns': inputs and graphs are those of the form 'columns', the only one"
            )
        if too_large := [k1 for k1, _ in self.shapes.buckets if k1 >= alone.below]:
            raise ValueError(
                f"lowering 'columns' takes images of fewer than {alone.below} rows (k1), not {too_large[0]}"
            )

    @property
    def _has_time(self) -> bool:
        return any("time" in spec.axes for spec in self.inputs)

    def form(self, name: FormName) -> Form:
        """One of the forms.

        Raises:
            ValueError: there is none of this name.
        """
        if name == "principal" and self.lowering != "columns":
            return Form(lowering=self.lowering, inputs=self.inputs, graphs=self.graphs)
        if self.columns is None:
            raise ValueError(f"bundle '{self.name}' has no form '{name}'")
        return self.columns

    def form_for(self, shape: tuple[int, int]) -> FormName:
        """The form of the engines of a shape ``(k1, k0)``: the exact one wherever it is not too large."""
        return "columns" if self.columns is not None and shape[0] < self.columns.below else "principal"

    def graph_files(self) -> tuple[str, ...]:
        """The files of all exported graphs."""
        forms = (self.form("principal"), *filter(None, (self.columns,)))
        return tuple(dict.fromkeys(file for form in forms for file in form.graphs.values()))

    def named_files(self) -> Iterator[str]:
        """The files that the manifest says what for; all others are parts of built engines."""
        yield WEIGHTS_FILE
        yield VECTORS_FILE
        yield from self.graph_files()
        if self.calibration is not None:
            yield self.calibration
        if self.training is not None:
            of_ancestors = (one.config for one in self.training.ancestors)
            named = (
                self.training.config,
                self.training.log,
                self.training.datasheet,
                self.training.picture,
                *of_ancestors,
            )
            yield from (path for path in named if path is not None)

    @property
    def licence(self) -> str:
        """The strictest of all data behind the weights: ``research`` where one is, or an ancestor's are not known."""
        ancestors = () if self.training is None else self.training.ancestors
        found = [one.licence for one in self.trained_on]
        found += [one.licence for ancestor in ancestors for one in ancestor.trained_on]
        if "research" in found or any(not one.trained_on for one in ancestors):
            return "research"
        return ", ".join(dict.fromkeys(found))

    @property
    def cautions(self) -> tuple[str, ...]:
        """What people must be told of how the weights were trained, and those that they go back to."""
        if self.training is None:
            return ()
        return (*self.training.cautions, *inherited_cautions(self.training.ancestors))

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that there is a graph for."""
        return tuple(self.graphs)

    @property
    def weights_sha256(self) -> str:
        """Names the weights: it goes into every image's meta and every engine's key."""
        return self.files[WEIGHTS_FILE].sha256

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest and its signature."""
        return sum(record.size for record in self.files.values())

    def to_bytes(self) -> bytes:
        """The manifest as it stands in its file; equal manifests give equal bytes."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = MANIFEST_FILE) -> Manifest:
        """Read a manifest.

        Args:
            data: the file's content.
            where: named in errors.

        Raises:
            BundleError: not JSON, of a newer form, or something in it cannot be right.
        """
        fields = read_json_object(data, where)
        schema = fields.get("schema_version")
        if isinstance(schema, int) and schema > SCHEMA_VERSION:
            raise BundleError(
                f"{where}: made by a newer Scanside (manifest schema {schema}; this one reads up to "
                f"{SCHEMA_VERSION}): update Scanside, or build the bundle with this version"
            )
        return validated(cls, data, where)


def inherited_cautions(ancestors: Iterable[Ancestor]) -> tuple[str, ...]:
    """What people must be told of ancestors, with their names."""
    return tuple(f"goes back to {one.name}, {caution}" for one in ancestors for caution in one.cautions)


def check_path(path: str) -> None:
    """Refuse names of files that do not stay in a bundle's folder on every file system.

    Raises:
        ValueError: absolute, upwards, too deep, with characters other than letters, digits, ``_ . -``, or the name
            of a file that is not listed.
    """
    parts = path.split("/")
    if len(path) > _LONGEST_PATH or len(parts) > _DEEPEST or not all(map(_PART_OF_PATH.fullmatch, parts)):
        raise ValueError(
            f"'{path[:_LONGEST_PATH]}' is no path inside a bundle: expected at most {_DEEPEST} names of ASCII "
            "letters, digits, '_', '.' and '-', joined by '/', none of which begins or ends with a '.'; rename the "
            "file if the bundle is your own, and do not use one from elsewhere that asks for this"
        )
    if path.casefold() in (MANIFEST_FILE, SIGNATURE_FILE):
        raise ValueError(f"'{path}' cannot stand in its own list")


def canonical_json(value: Any) -> bytes:
    """JSON in the one form that Scanside writes: sorted keys, two spaces, UTF-8, a line end at the end."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def read_json_object(data: bytes, where: str) -> dict[str, Any]:
    """One JSON object without repeated keys, of which readers might take different ones.

    Raises:
        BundleError: it is something else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise ValueError("a key stands twice in one object")
        return fields

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def validated(model: type[_AnyRecord], data: bytes, where: str) -> _AnyRecord:
    """Read JSON into a record.

    Raises:
        BundleError: it does not fit; names every place.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        places = [
            f"{'.'.join(map(str, one['loc'])) or 'as a whole'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_url=False)
        ]
        raise BundleError(f"{where}: " + "; ".join(places)) from None
