"""Chains for Gadgetron 4.7 with Scanside's node in one of five places.

The chain format is the one with ``<version>2</version>``, which alone knows ``<external>`` nodes. What each gadget
takes and gives decides where the node can be; the chains in ``deploy/chains`` are what this module writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Literal, TypeAlias, get_args
from xml.sax.saxutils import escape, quoteattr

from scanside.errors import ConfigError, PipelineError
from scanside.pipeline import Pipeline, pipeline_names

__all__ = ["HOWS", "NODE_PORT", "PLACES", "How", "Place", "chain"]

Place: TypeAlias = Literal["acquisitions", "buckets", "recon_data", "image_array", "images"]
How: TypeAlias = Literal["execute", "connect"]

PLACES: tuple[Place, ...] = get_args(Place)
HOWS: tuple[How, ...] = get_args(How)

NODE_PORT = 18000
"""Where chains look for the server: Gadgetron itself listens on 9002."""


@dataclass(frozen=True)
class _Gadget:
    """A gadget of Gadgetron's own, with the properties that differ from its defaults."""

    name: str
    properties: Mapping[str, str] | None = None


@dataclass(frozen=True)
class _Around:
    """What stands around the node at a place."""

    what: str
    before: Sequence[_Gadget] = ()
    after: Sequence[_Gadget] = ()


_WHITENED = (
    _Gadget("NoiseAdjustGadget"),
    _Gadget("AsymmetricEchoAdjustROGadget"),
    _Gadget("RemoveROOversamplingGadget"),
)
_COLLECTED = (*_WHITENED, _Gadget("AcquisitionAccumulateTriggerGadget", {"trigger_dimension": "repetition"}))
_SORTED = (
    *_COLLECTED,
    _Gadget(
        "BucketToBufferGadget",
        {
            "N_dimension": "contrast",
            "S_dimension": "average",
            "split_slices": "true",
            "ignore_segment": "true",
        },
    ),
    _Gadget(
        "GenericReconCartesianReferencePrepGadget",
        {"average_all_ref_N": "true", "average_all_ref_S": "true", "prepare_ref_always": "true"},
    ),
)
_RECONSTRUCTED = (*_SORTED, _Gadget("GenericReconCartesianGrappaGadget", {"coil_map_algorithm": "Inati"}))
_SCALE = _Gadget(
    "GenericReconImageArrayScalingGadget", {"use_constant_scalingFactor": "true", "scalingFactor": "10.0"}
)
_SPLIT = _Gadget("ImageArraySplitGadget")
_TO_INTEGERS = (
    _Gadget("ComplexToFloatGadget"),
    _Gadget("FloatToUShortGadget", {"max_intensity": "32767", "min_intensity": "0", "intensity_offset": "0"}),
)

_AROUND: dict[Place, _Around] = {
    "acquisitions": _Around(
        "Scanside takes the readouts as they come off the scanner and gives finished images: the whole "
        "reconstruction."
    ),
    "buckets": _Around(
        "Gadgetron whitens the readouts, removes their oversampling and collects a repetition at a time; Scanside "
        "makes the images.",
        _COLLECTED,
    ),
    "recon_data": _Around(
        "Gadgetron sorts the readouts into k-space and sets the calibration lines apart; Scanside reconstructs "
        "each slice and makes the images.",
        _SORTED,
    ),
    "image_array": _Around(
        "Gadgetron reconstructs; Scanside works on its complex image arrays and gives arrays back, with the "
        "waveforms and acquisition headers that they came with. What a pipeline has to do with readouts and k-space "
        "is left out here; its stages for images work.",
        _RECONSTRUCTED,
        (_SCALE, _SPLIT, *_TO_INTEGERS),
    ),
    "images": _Around(
        "Gadgetron reconstructs; Scanside works on single complex images on their way out. What a pipeline has to "
        "do with readouts and k-space is left out here; its stages for images work.",
        (*_RECONSTRUCTED, _SCALE, _SPLIT),
        _TO_INTEGERS,
    ),
}

_NEEDED: dict[Place, dict[str, tuple[str, str]]] = {
    "buckets": {"noise.enabled": ("false", "NoiseAdjustGadget has whitened the readouts.")},
    "image_array": {"finish.kind": ("complex", "The gadgets that follow take complex images.")},
    "images": {"finish.kind": ("complex", "The gadgets that follow take complex images.")},
}
"""Settings that a place asks for, where the pipeline has their stage, and why."""


def chain(
    place: Place,
    how: How,
    pipeline: str | Path = "grappa",
    settings: Mapping[str, str] | None = None,
    *,
    address: str = "localhost",
    port: int = NODE_PORT,
) -> str:
    """Write a chain.

    Args:
        place: what the node gets: ``acquisitions``, ``buckets``, ``recon_data``, ``image_array`` or ``images``.
        how: ``execute``: Gadgetron starts a process for every scan; ``connect``: a running server is connected to.
        pipeline: its name, or the file of one. A server takes names only: for ``connect`` a file is asked for by
            its name without the ending, and must lie in the server's folder of pipelines.
        settings: changed settings of the pipeline, as ``"stage.setting": value``.
        address: of the server, for ``connect``.
        port: of the server, for ``connect``.

    Returns:
        The chain's XML, to be put into ``share/gadgetron/config`` or sent along with a scan.

    Raises:
        ConfigError: the place, the way or the port is none that there is.
        PipelineError: there is no such pipeline, or it cannot be loaded.
        StageConfigError: a setting is unknown or wrong.
        MissingExtra: the pipeline cannot be loaded without torch.
    """
    if place not in PLACES:
        raise ConfigError(f"there is no place '{place}' in a chain: there are {', '.join(PLACES)}")
    if how not in HOWS:
        raise ConfigError(f"a node is reached by {' or '.join(HOWS)}, not by '{how}'")
    if not 1 <= port <= 65535:
        raise ConfigError(f"{port} is no port: take one of 1 to 65535")
    given = dict(settings or {})
    labels = Pipeline.load(pipeline, given).labels
    properties = [
        (name, value, why)
        for name, (value, why) in _NEEDED.get(place, {}).items()
        if name.partition(".")[0] in labels and name not in given
    ]
    properties += [(name, value, "") for name, value in given.items()]
    configuration = [f"<pipeline>{escape(_asked_for(pipeline, how))}</pipeline>"]
    for name, value, why in properties:
        configuration += [f"<!-- {why} -->"] if why else []
        configuration.append(f"<property name={quoteattr(name)} value={quoteattr(value)}/>")
    if place == "image_array":
        configuration.append("<output>image_array</output>")
    if how == "connect":
        action = f'<connect address={quoteattr(address)} port="{port}"/>'
        note = "A server must be listening there already: scanside serve"
    else:
        action = '<execute name="scanside_gadgetron" target="reconstruct" type="python"/>'
        note = "Gadgetron starts a process for each scan."
    around = _AROUND[place]
    external = ["<external>", *_indented([action, *_element("configuration", configuration)]), "</external>"]
    stream = [line for gadget in around.before for line in _gadget(gadget)]
    stream += external
    stream += [line for gadget in around.after for line in _gadget(gadget)]
    readers = _classes("reader", "gadgetron_core_readers", "AcquisitionReader", "WaveformReader")
    body = [
        "<version>2</version>",
        "",
        *_element("readers", readers),
        "",
        *_element("writers", _classes("writer", "gadgetron_core_writers", "ImageWriter")),
        "",
        *_element("stream", stream),
    ]
    comment = ["<!--", *_indented([*wrap(around.what, 112), note]), "-->"]
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', *comment, *_element("configuration", body)]
    return "\n".join(lines) + "\n"


def _asked_for(pipeline: str | Path, how: How) -> str:
    """The pipeline as the node's configuration names it."""
    if str(pipeline) in pipeline_names():
        return str(pipeline)
    path = Path(pipeline)
    if how == "execute":
        return str(path.resolve())
    if path.suffix != ".yaml":
        raise PipelineError(f"a server finds pipelines in files named NAME.yaml: rename {path}")
    return path.stem


def _gadget(gadget: _Gadget) -> list[str]:
    parts = ["<dll>gadgetron_mricore</dll>", f"<classname>{gadget.name}</classname>"]
    parts += [f'<property name="{key}" value="{value}"/>' for key, value in (gadget.properties or {}).items()]
    return _element("gadget", parts)


def _classes(kind: str, dll: str, *names: str) -> list[str]:
    return [
        line
        for name in names
        for line in _element(kind, [f"<dll>{dll}</dll>", f"<classname>{name}</classname>"])
    ]


def _element(name: str, lines: Sequence[str]) -> list[str]:
    return [f"<{name}>", *_indented(lines), f"</{name}>"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]
