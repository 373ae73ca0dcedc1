"""What a learned image says of its making."""

from __future__ import annotations

from scanside.engines.engine import Engine
from scanside.mrd.meta import Meta

__all__ = ["describe_engine"]


def describe_engine(meta: Meta, engine: Engine, pipeline: str) -> None:
    """Write into an image's attributes which network made it, on what.

    ``ScansideWeights`` holds the SHA-256 of the weights twice: its first 12 digits, for people, and all of it.
    ``ScansideEngineChoice`` says why it was this engine of all that were accepted; ``ScansideCaution`` what people
    must be told of how its weights were trained, if there is anything.

    Args:
        meta: is added to.
        engine: that ran.
        pipeline: that it was part of.
    """
    told = engine.provenance
    weights = told["weights_sha256"]
    meta["ScansideEngine"] = [told["bundle"], told["bundle_version"]]
    meta["ScansideWeights"] = [weights[:12], weights]
    meta["ScansideBackend"] = [told["backend"], told["precision"], told["shape"]]
    if (chosen := engine.choice.chosen) is not None:
        meta["ScansideEngineChoice"] = [f"{chosen.backend} {chosen.precision}", chosen.why]
    meta["ScansideEngineAccepted"] = [told["accepted"], told["hardware"], told["versions"]]
    meta["ScansideEngineSigned"] = told["signed_by"]
    if cautions := engine.bundle.manifest.cautions:
        meta["ScansideCaution"] = list(cautions)
    meta["ScansidePipeline"] = pipeline
    meta["ScansideResearchUse"] = "learned reconstruction, for research use only"
