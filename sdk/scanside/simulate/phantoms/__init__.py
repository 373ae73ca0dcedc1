"""Objects to scan: functions of patient coordinates (LPS, mm), so any oblique grid may sample them."""

from __future__ import annotations

from scanside.simulate.config import PhantomConfig
from scanside.simulate.phantoms.brain import Brain, Property
from scanside.simulate.phantoms.cardiac import Cardiac
from scanside.simulate.phantoms.shapes import ObjectState, Phantom
from scanside.simulate.phantoms.shepp_logan import SheppLogan

__all__ = ["Brain", "Cardiac", "ObjectState", "Phantom", "Property", "SheppLogan", "make_phantom"]


def make_phantom(config: PhantomConfig) -> Phantom:
    """The phantom that a configuration names."""
    if config.kind == "brain":
        return Brain(config.weighting, config.seed)
    if config.kind == "cardiac":
        return Cardiac(config.seed)
    return SheppLogan()
