"""What a header says that no reconstruction here takes into account."""

from __future__ import annotations

from collections.abc import Iterator

from scanside.agreement.finding import Finding
from scanside.mrd.header import Encoding

__all__ = ["header_findings"]

_ROUNDING = 1.02  # fields of view are written with few digits


def header_findings(encoding: Encoding) -> Iterator[tuple[str, Finding]]:
    """What is wrong with an encoding space whatever its readouts hold, each with a name."""
    if encoding.multiband is not None:
        yield (
            "multiband",
            Finding(
                "error",
                f"multiband factor {encoding.multiband.factor}: the header says that each readout holds "
                f"{encoding.multiband.factor} slices at once. Without the stage 'multiband' they lie on top of each "
                "other in what would pass for an image of one; take the pipeline 'multiband' or 'multiband-epi', or "
                "put that stage behind 'accumulate'",
                corrected_by="multiband",
            ),
        )
    for axis, name in enumerate("xyz"):
        encoded, recon = (space.field_of_view_mm[axis] for space in (encoding.encoded, encoding.recon))
        # Of single slices the encoded thickness is often a nominal one.
        if recon > encoded * _ROUNDING and encoding.encoded.matrix[axis] > 1:
            yield (
                f"field of view {name}",
                Finding(
                    "warning",
                    f"images are to cover {recon:g} mm along {name}, but only {encoded:g} mm were encoded: what lies "
                    "beyond is filled with zeros; check encodedSpace and reconSpace in the header",
                ),
            )
