"""How many readouts a scan is going to have, for a progress bar."""

from __future__ import annotations

from math import ceil, prod

from scanside.mrd.header import Encoding, MrdHeader

__all__ = ["expected_readouts"]

# Segments share the lines of a scan among themselves; all other counters multiply it.
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set", "average")


def expected_readouts(header: MrdHeader) -> int | None:
    """What a header announces, give or take a few lines; None where it does not say enough.

    Calibration lines are counted as converters of Siemens' raw data note them, as the user parameters
    ``EmbeddedRefLinesE1`` and ``EmbeddedRefLinesE2``; an accelerated scan without these is not guessed at. Noise
    readouts are not counted.
    """
    n_lines = [_lines(header, encoding) for encoding in header.encodings]
    return None if None in n_lines else sum(filter(None, n_lines))


def _lines(header: MrdHeader, encoding: Encoding) -> int | None:
    n1, n2 = (encoding.limit(f"kspace_encode_step_{axis}").n for axis in (1, 2))
    a1, a2 = encoding.acceleration
    others = prod(encoding.limit(counter).n for counter in _COUNTERS)
    if a1 == a2 == 1:
        return n1 * n2 * others
    references = [header.user_parameters.get(f"EmbeddedRefLinesE{axis}") for axis in (1, 2)]
    r1, r2 = (int(lines) if isinstance(lines, int | float) else 0 for lines in references)
    if not r1 and not r2:
        return None
    # Along an axis that has no calibration lines of its own, they run over all of it.
    calibration = (r1 or n1) * (r2 or n2)
    if encoding.calibration_mode != "separate":
        calibration -= calibration // (a1 * a2)
    return (ceil(n1 / a1) * ceil(n2 / a2) + calibration) * others
