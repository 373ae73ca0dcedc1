"""The network as PyTorch runs it, at hand for images of any size.

Engines are accepted by comparison with the network as PyTorch runs it in fp32. That network itself needs no
comparison in every size: its graph is the same for all of them. It is tried once, on a real case of its bundle, and
then serves whatever size a scan has, within a second and without anything that would have to be built.
"""

from __future__ import annotations

from datetime import datetime, timezone

from scanside.engines.backends.base import Runner
from scanside.engines.backends.eager import Eager, EagerRunner
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache
from scanside.engines.check import relative_error
from scanside.engines.choice import Choice, Verdict
from scanside.engines.engine import Engine
from scanside.engines.gate import describe
from scanside.engines.graph import BoundGraph, bind
from scanside.engines.manifest import AcceptanceReport, Check, FormName
from scanside.engines.probes import read_cases, real_probe
from scanside.engines.shapes import own_size
from scanside.errors import EngineRejected

__all__ = ["AtHand"]

_NOTHING = 1.0
"""Relative distance to the truth of an image of zeros, which any network must beat."""


class AtHand:
    """Engines of a bundle that run the network itself, in fp32.

    Args:
        bundle: the network.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._networks: dict[FormName, tuple[BoundGraph, tuple[Check, ...], datetime]] = {}
        self._engines: dict[tuple[tuple[int, int], int | None], Engine] = {}

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Those that were asked for."""
        return tuple(self._engines.values())

    def engine(self, shape: tuple[int, int], n_coils: int | None, why: str) -> Engine:
        """The engine of a shape ``(k1, k0)``, a multiple of what the network needs.

        Args:
            shape: of the engine.
            n_coils: of its input; not asked for where no coils go in.
            why: it is used, for reports.

        Raises:
            EngineRejected: the network makes nothing of its own bundle's case, or the gate refused it in this shape.
            ShapeError: the bundle does not take that many coils.
            BundleError: the bundle's files are not what they should be.
        """
        source = BundleSource(self._bundle, shape, n_coils)
        key = (shape, source.n_coils)
        if key not in self._engines:
            self._engines[key] = self._made(source, why)
        return self._engines[key]

    def _made(self, source: BundleSource, why: str) -> Engine:
        (known,) = Workshop(source, EngineCache()).candidates((Eager.name,), "fp32", build=False)
        if known.entry is not None and not known.accepted:
            told = " ".join(describe(known.entry.report).split())
            raise EngineRejected(f"the network was refused on this machine: {told}")
        network, checks, tried = self._network(source)
        report = AcceptanceReport(
            backend=Eager.name,
            precision="fp32",
            shape=source.shape,
            n_coils=source.n_coils,
            hardware=Eager().hardware(),
            versions=Eager().versions(),
            checks=checks,
            created=tried,
        )
        choice = Choice((Verdict(Eager.name, "fp32", "chosen", why),))
        return Engine(source, EagerRunner(source.inputs, network), choice, report)

    def _network(self, source: BundleSource) -> tuple[BoundGraph, tuple[Check, ...], datetime]:
        """The network of a form, tried."""
        if source.form not in self._networks:
            network = bind(source)
            checks = _tried(network, source)
            self._networks[source.form] = network, checks, datetime.now(timezone.utc)
        return self._networks[source.form]


def _tried(network: BoundGraph, like: BundleSource) -> tuple[Check, ...]:
    """What the network makes of the bundle's first real case, in the size of that.

    Raises:
        EngineRejected: it is no image, or further from the truth than nothing.
    """
    bundle, manifest = like.bundle, like.bundle.manifest
    cases = read_cases(manifest.task, bundle.vectors(), manifest.lowering)
    k1, k0 = next(iter(cases.values()))["truth"].shape[-2:]
    shapes = manifest.shapes
    size = shapes.buckets[0] if shapes.fixed else own_size(manifest.lowering, shapes, k1, k0)
    source = BundleSource(bundle, size, like.n_coils, like.form)
    probe = real_probe(source.network, cases)
    runner: Runner = EagerRunner(source.inputs, network)
    image = runner(*probe.inputs)[0]
    assert probe.truth is not None
    assert probe.inside is not None
    name, finite = f"error-to-truth/{probe.name}", bool(image.isfinite().all())
    if not finite:
        raise EngineRejected(f"the network of '{bundle.name}' makes NaN or infinity of its own bundle's case")
    error = relative_error(probe.inside.crop(image), probe.truth)
    if error >= _NOTHING:
        raise EngineRejected(
            f"the network of '{bundle.name}' is further from the truth of its own bundle's case than nothing would "
            f"be (relative error {error:.2g}): take the bundle again from where it came from"
        )
    return (Check(name=name, value=error, limit=_NOTHING, passed=True),)
