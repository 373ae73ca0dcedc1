"""Which reconstruction made an image: told so that classical and learned series are never confused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from scanside._version import __version__
from scanside.dicom._pydicom import Dataset, Sequence
from scanside.dicom.texts import long_text, short
from scanside.mrd.meta import Meta

__all__ = ["Kind", "Method", "describe_method"]

Kind = Literal["magnitude", "phase", "real", "imag"]

_LETTERS: dict[Kind, str] = {"magnitude": "M", "phase": "P", "real": "R", "imag": "I"}
_NOTICE = "Research use only, not for diagnosis."
_UNITS = {"classical": 0, "fallback": 4, "learned": 10}


@dataclass(frozen=True, slots=True)
class Method:
    """How an image was reconstructed, as its meta attributes tell.

    Attributes:
        how: ``classical``; ``learned``; or ``fallback``, a classical image where a learned one was asked for. The
            three never share a series.
        pipeline: name of the pipeline.
        bundle: name, version and SHA-256 of the weights of the network.
        parameters: what else is known of the network's run.
        fallback: the classical method that took over, and why.
    """

    how: Literal["classical", "fallback", "learned"]
    pipeline: str
    bundle: tuple[str, str, str] = ("", "", "")
    parameters: tuple[tuple[str, str], ...] = ()
    fallback: str = ""

    @classmethod
    def of(cls, meta: Meta, pipeline: str) -> Method:
        """Read an image's attributes.

        Args:
            meta: the attributes.
            pipeline: of images that do not tell theirs.
        """
        pipeline = meta.first("ScansidePipeline") or pipeline
        if "ScansideFallback" in meta:
            name, _, why = (*meta["ScansideFallback"], "", "")[:3]
            return cls("fallback", pipeline, fallback=f"{name}: {why}" if why else name)
        if "ScansideEngine" not in meta:
            return cls("classical", pipeline)
        name, version = (*meta["ScansideEngine"], "", "")[:2]
        known = {
            "backend": "ScansideBackend",
            "accepted": "ScansideEngineAccepted",
            "data_consistency": "ScansideDataConsistency",
            "not_trained_for": "ScansideFitness",
            "self_check": "ScansideCheck",
        }
        parameters = tuple((key, ", ".join(meta[name])) for key, name in known.items() if name in meta)
        weights = (*meta.get("ScansideWeights", []), "", "")[1]
        return cls("learned", pipeline, (name, version, weights), parameters)

    @property
    def key(self) -> tuple[str, ...]:
        """What distinguishes its series."""
        return (self.how, self.pipeline, *self.bundle)

    @property
    def name(self) -> str:
        """For people, in front of a series' description."""
        name = self.pipeline or "reconstruction"
        if self.how == "learned":
            return f"LEARNED {name} ({self.bundle[0]} {self.bundle[1]})"
        return f"FALLBACK {name}" if self.how == "fallback" else name

    @property
    def description(self) -> str:
        """In a sentence or two."""
        by = f"by Scanside {__version__}, pipeline '{self.pipeline}'"
        if self.how == "learned":
            name, version, weights = self.bundle
            return f"Learned reconstruction from raw data {by}: network {name} {version}, weights SHA-256 {weights}"
        if self.how == "fallback":
            return f"Classical reconstruction from raw data {by}, in place of a learned one ({self.fallback})"
        return f"Classical reconstruction from raw data {by}"

    def series_number(self, measurement: int, series: int, kind: Kind) -> int:
        """Number of a series: ``mmsst``, as ``1020`` for the first series of the first measurement.

        The tens of learned series are odd, those of all others even; the last digit tells magnitude, phase, real
        and imaginary part (0 to 3, with fallback 4 to 7).

        Args:
            measurement: number of the scanner's series, from 1.
            series: MRD image series index.
            kind: of the images.
        """
        return 1000 * max(measurement, 1) + 20 * series + _UNITS[self.how] + list(_LETTERS).index(kind)


def describe_method(
    dataset: Dataset, method: Method, kind: Kind, meta: Meta, incomplete: str | None, protocol: str
) -> None:
    """Series description, image type, derivation, equipment and algorithm (PS3.3 C.7.6.1, C.7.5.1, 10.16).

    Args:
        dataset: is added to.
        method: that made the image.
        kind: which part of the complex image it shows.
        meta: attributes of the image.
        incomplete: what was missing of its data.
        protocol: name of the scan's protocol.
    """
    role = meta.first("DataRole")
    is_map = role not in ("", "Image")
    part = f" {role.lower()} map" if is_map else "" if kind == "magnitude" else f" {kind}"
    dataset.SeriesDescription = short(f"{method.name}{part}: {protocol}" if protocol else method.name + part)
    if protocol:
        dataset.ProtocolName = short(protocol)
    # The scanner's own images are the original ones; value 3 is a defined term of C.8.3.1.1.1.
    made = "LEARNED" if method.how == "learned" else "CLASSICAL"
    shows = "PHASE MAP" if kind == "phase" else "OTHER"
    dataset.ImageType = [
        "DERIVED",
        "PRIMARY",
        shows,
        _LETTERS[kind],
        made,
        *([role.upper()] if is_map else ()),
    ]
    dataset.DerivationDescription = long_text(f"{method.description}. {_NOTICE}")
    dataset.ImageComments = long_text("\n".join(_comments(method, meta, incomplete)), 10240)
    dataset.ContributingEquipmentSequence = Sequence([_equipment(method)])
    if method.how == "learned":
        dataset.ReconstructionAlgorithmSequence = Sequence([_algorithm(method)])


def _comments(method: Method, meta: Meta, incomplete: str | None) -> list[str]:
    comments = [_NOTICE]
    if method.how == "learned":
        comments.append("Learned reconstruction.")
    if method.how == "fallback":
        comments.append(f"Classical image in place of a learned one: {method.fallback}")
    if incomplete is not None:
        comments.append(f"INCOMPLETE DATA: {incomplete}")
    if "ScansideGeometry" in meta:
        comments.append(f"GEOMETRY NOT RELIABLE: {meta.first('ScansideGeometry')}")
    if method.how == "learned" and meta.first("ScansideCheck").startswith("worse"):
        comments.append(f"SELF-CHECK: {', '.join(meta['ScansideCheck'])}")
    if "ScansideFitness" in meta:
        comments.append(f"Network was not trained for such scans: {'; '.join(meta['ScansideFitness'])}")
    return comments


def _equipment(method: Method) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([_code("109102", "DCM", "Processing Equipment")])
    item.Manufacturer = "Scanside"
    item.ManufacturerModelName = short(method.pipeline or "Scanside")
    item.SoftwareVersions = __version__
    item.ContributionDescription = long_text(f"{method.description}. {_NOTICE}")
    return item


def _algorithm(method: Method) -> Dataset:
    name, version, weights = method.bundle
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = Sequence([_code("123110", "DCM", "Artificial Intelligence")])
    item.AlgorithmName = short(name) or "unknown"
    item.AlgorithmVersion = short(version) or "unknown"
    item.AlgorithmSource = "Scanside"
    parameters = {"weights_sha256": weights, "pipeline": method.pipeline, **dict(method.parameters)}
    item.AlgorithmParameters = long_text(json.dumps(parameters, ensure_ascii=False), 10240)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
