"""Which files a run is about, and what their results are called."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from scanside.datasets.opening import SCAN_FILE_SUFFIXES, companion_of
from scanside.errors import ConfigError

__all__ = ["Found", "find_recordings", "read_list", "result_names"]

_RECORDINGS = frozenset({".h5", ".hdf5", ".mrd", ".ismrmrd", ".bin", ".dat"})
_OF_DATA_SETS = frozenset(SCAN_FILE_SUFFIXES) - _RECORDINGS
SUFFIXES = _RECORDINGS | _OF_DATA_SETS
"""What names of recordings and of files of data sets end in, where a folder is searched for them; files that are
named may end as they like."""

_PACKED = frozenset({".xz", ".gz"})


@dataclass(frozen=True)
class Found:
    """A recording.

    Attributes:
        path: absolute.
        place: where its result belongs below the folder of results, without an ending.
    """

    path: Path
    place: str


def find_recordings(named: Sequence[Path], output: Path) -> list[Found]:
    """The recordings of a run, each once.

    Folders are searched with all folders in them, for files whose names end as those of recordings do (`SUFFIXES`,
    also with .xz or .gz); their results lie in folders of the same names. Hidden files, the folder of results, and
    what accompanies k-space of data sets, such as masks and maps, are left out. A file that is named and is not there
    counts: it will be one of the failures.

    Args:
        named: files and folders.
        output: folder of the results.

    Raises:
        ConfigError: there is none, or the results would lie among the recordings.
    """
    found: dict[Path, Found] = {}
    for path in named:
        if path.is_dir():
            for one in _below(path.resolve(), output.resolve()):
                found.setdefault(one.path, one)
        else:
            whole = path.resolve()
            found.setdefault(whole, Found(whole, _stem(path.name)))
    if not found:
        where = ", ".join(map(str, named)) or "the list"
        raise ConfigError(
            f"no recordings in {where}: looked for names that end in {', '.join(sorted(SUFFIXES))}, "
            "also with .xz or .gz"
        )
    return list(found.values())


def read_list(path: Path) -> list[Path]:
    """The paths in a text file, one a line; ``-`` is standard input. Empty lines and comments (``#``) are left out.

    Raises:
        ConfigError: it is no text.
        OSError: it cannot be read.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the list {path} is no UTF-8 text ({error}): give one path a line") from None
    lines = (line.strip() for line in text.splitlines())
    return [Path(line) for line in lines if line and not line.startswith("#")]


def result_names(found: Iterable[Found], known: Mapping[str, str], output: Path) -> dict[Path, str]:
    """Names of the results below their folder; no two alike, also where capitals do not count.

    The first of several recordings of one name has the plain name, the others one with a few digits of their path's
    hash. Names that were given in an earlier run stay.

    Args:
        found: recordings.
        known: names by recording, from an earlier run.
        output: folder of the results.

    Raises:
        ConfigError: a file of such a name is there that no earlier run has made.
    """
    taken = {name.casefold() for name in known.values()}
    names = {}
    for one in found:
        name = known.get(str(one.path))
        if name is None:
            name = f"{one.place}.h5"
            if name.casefold() in taken:
                name = f"{one.place}-{sha256(str(one.path).encode()).hexdigest()[:8]}.h5"
            if (output / name).exists():
                raise ConfigError(
                    f"{output / name} is there, and no earlier run of this folder made it: name another folder, or "
                    "remove the file"
                )
            taken.add(name.casefold())
        names[one.path] = name
    return names


def _below(folder: Path, output: Path) -> Iterable[Found]:
    if folder == output:
        raise ConfigError(f"the images would lie among the recordings in {folder}: name another folder")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or output in path.parents or not _is_named_so(path) or not path.is_file():
            continue
        if path.suffix in _OF_DATA_SETS and companion_of(path) is not None:
            continue
        yield Found(path.resolve(), inside.with_name(_stem(path.name)).as_posix())


def _is_named_so(path: Path) -> bool:
    suffixes = [one.lower() for one in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def _stem(name: str) -> str:
    """A name without the endings that a recording may have."""
    path = Path(name)
    if path.suffix.lower() in _PACKED:
        path = path.with_suffix("")
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
