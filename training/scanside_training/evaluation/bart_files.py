"""BART's files: ``.hdr`` with the dimensions as text, ``.cfl`` with complex64 in column-major order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError, FormatError

__all__ = ["read_cfl", "write_cfl"]


def read_cfl(path: Path) -> npt.NDArray[np.complex64]:
    """Read an array.

    Args:
        path: name of both files without suffix, or of one of them.

    Returns:
        The array in BART's order of dimensions (k0, k1, k2, coil, …), without dimensions of 1 at the end.

    Raises:
        ConfigError: a file is not there.
        FormatError: the header has no dimensions, or the data are of another size.
    """
    header, data = (path.with_suffix(suffix) for suffix in (".hdr", ".cfl"))
    for file in (header, data):
        if not file.is_file():
            raise ConfigError(f"{file} does not exist: BART's format is a pair of files .hdr and .cfl")
    lines = header.read_text("utf-8").splitlines()
    try:
        shape = [int(n) for n in lines[lines.index("# Dimensions") + 1].split()]
    except (ValueError, IndexError):
        raise FormatError(f"{header}: expected '# Dimensions' and a line of whole numbers below it") from None
    while len(shape) > 4 and shape[-1] == 1:
        shape.pop()
    values = np.fromfile(data, "<c8")
    if values.size != np.prod(shape):
        raise FormatError(
            f"{data} holds {values.size} samples, and {header.name} announces "
            f"{' × '.join(map(str, shape))} = {np.prod(shape)}: one of them is truncated or of another scan"
        )
    return values.reshape(shape, order="F").astype(np.complex64, copy=False)


def write_cfl(path: Path, values: npt.ArrayLike) -> None:
    """Write an array, dimensions in BART's order, as ``path.hdr`` and ``path.cfl``."""
    array = np.asarray(values, "<c8")
    shape = " ".join(map(str, array.shape))
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{shape}\n", "utf-8")
    array.ravel(order="F").tofile(path.with_suffix(".cfl"))
