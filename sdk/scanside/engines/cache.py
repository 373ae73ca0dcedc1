"""Engines that were built on this machine, kept with the report of their acceptance.

An entry is found by all that it depends on: weights, graph, shape, precision, backend, versions and hardware. What
was built for anything else has another name and is built again. Entries are code: a cache that others could write
to is refused, and files whose hash has changed are not loaded.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from scanside.engines.hashing import file_record, files_below, write_atomically
from scanside.engines.manifest import AcceptanceReport, FileRecord, Precision, canonical_json, validated
from scanside.engines.permissions import who_else_can_write
from scanside.errors import BundleError, CacheUnusable
from scanside.storage import storage_problem, user_cache

__all__ = ["CacheEntry", "Draft", "EngineCache", "EngineKey", "engine_cache_folder", "scratch_cache"]

logger = logging.getLogger(__name__)

_ENTRY_FILE = "entry.json"
_ENGINE_FOLDER = "engine"
_LOCKS = ".locks"
_LOOK_AGAIN_S = 0.1


class EngineKey(BaseModel):
    """All that an engine depends on.

    Attributes:
        weights_sha256: see `Manifest.weights_sha256`.
        graph_sha256: of the exported graph's file.
        shape: ``(k1, k0)``.
        n_coils: of its input; None where no coils go in.
        precision: of the network parts.
        backend: that built it.
        versions: of the backend's packages, and of torch.
        hardware: see `scanside.engines.hardware`.
        calibration: SHA-256 of the cases that it was calibrated with; None where it was not.
        plan: SHA-256 of the record of the installed plan that it was made from; None where it was built here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights_sha256: Annotated[str, Field(min_length=1)]
    graph_sha256: Annotated[str, Field(min_length=1)]
    shape: tuple[PositiveInt, PositiveInt]
    n_coils: PositiveInt | None = None
    precision: Precision
    backend: Annotated[str, Field(min_length=1)]
    versions: dict[str, str]
    hardware: Annotated[str, Field(min_length=1)]
    calibration: Annotated[str, Field(min_length=1)] | None = None
    plan: Annotated[str, Field(min_length=1)] | None = None

    @property
    def digest(self) -> str:
        """Names the engine: 32 hexadecimal digits."""
        # Engines that were built before there were plans or int8 keep their names, in caches and in signed bundles.
        left_out = {name for name in ("calibration", "plan") if getattr(self, name) is None}
        return hashlib.sha256(canonical_json(self.model_dump(mode="json", exclude=left_out))).hexdigest()[:32]


class _Record(BaseModel):
    """What stands beside an engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: EngineKey
    report: AcceptanceReport
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """An engine that was built, accepted or not.

    Attributes:
        key: what it was built from and for.
        report: of its acceptance. One that failed is kept so that the engine is not built in vain again.
        folder: with the engine's files; empty where it was not accepted.
    """

    key: EngineKey
    report: AcceptanceReport
    folder: Path


@dataclass(slots=True)
class Draft:
    """An engine that is being built; call `keep` when its acceptance has been measured.

    Attributes:
        key: what it is built from and for.
        folder: empty; the backend builds in there.
    """

    key: EngineKey
    folder: Path
    _cache: EngineCache
    _entry: CacheEntry | None = None

    def keep(self, report: AcceptanceReport) -> CacheEntry:
        """Put the engine into the cache with its report; of one that failed, the report alone.

        Raises:
            CacheUnusable: the cache cannot be written.
        """
        if self._entry is None:
            self._entry = self._cache._keep(self, report)  # noqa: SLF001 — two halves of one thing
        return self._entry


class EngineCache:
    """Engines of this machine in a folder.

    Args:
        folder: by default `engine_cache_folder`. Made when first needed, for its owner alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or engine_cache_folder()

    def find(self, key: EngineKey) -> CacheEntry | None:
        """The engine of a key, or None; a damaged entry is removed, with a warning, to be built again.

        Raises:
            CacheUnusable: it cannot be read, or others can write to it.
        """
        place = self._place(key)
        with self.usable():
            if not place.exists():
                return None
            self.check_folder()
        if problem := _problem(place, key):
            logger.warning(
                "engine %s in %s is not used: %s; it is built again", key.digest, self.folder, problem
            )
            shutil.rmtree(
                place, ignore_errors=True
            )  # where nothing can be removed, it is found damaged again
            return None
        return _entry(place, _read(place))

    @contextmanager
    def building(self, key: EngineKey) -> Iterator[Draft]:
        """Where to build an engine: what is not kept in the end is removed.

        ::

            with cache.building(key) as draft:
                backend.build(source, precision, draft.folder)
                entry = draft.keep(gate.run(...))

        Raises:
            CacheUnusable: it cannot be written, or others can write to it.
        """
        with self.usable():
            self._make_folder()
            place = Path(tempfile.mkdtemp(dir=self.folder, prefix=".building."))  # mode 0700
        try:
            engine = place / _ENGINE_FOLDER
            with self.usable():
                engine.mkdir(mode=0o700)
            yield Draft(key, engine, self)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def entries(self) -> Iterator[CacheEntry]:
        """All entries that can be read, those for other machines and versions included.

        Raises:
            CacheUnusable: it cannot be read, or others can write to it.
        """
        with self.usable():
            if not self.folder.is_dir():
                return
            self.check_folder()
        for path in sorted(self.folder.glob(f"[!.]*/{_ENTRY_FILE}")):
            try:
                yield _entry(path.parent, _read(path.parent))
            except (BundleError, OSError) as error:
                logger.warning("%s", error)

    def note(self, kind: str, name: str) -> bytes | None:
        """What was kept beside the engines under a name, see `keep_note`; None where nothing was.

        Raises:
            CacheUnusable: it cannot be read, or others can write to it.
        """
        path = self._notes(kind) / f"{name}.json"
        with self.usable():
            if not path.exists():
                return None
            self.check_folder()
            return path.read_bytes()

    def notes(self, kind: str) -> dict[str, bytes]:
        """All notes of a kind by the path of their file.

        Raises:
            CacheUnusable: they cannot be read, or others can write to them.
        """
        with self.usable():
            if not (folder := self._notes(kind)).is_dir():
                return {}
            self.check_folder()
            return {str(path): path.read_bytes() for path in sorted(folder.glob("[!.]*.json"))}

    def keep_note(self, kind: str, name: str, text: bytes) -> None:
        """Keep something small that was found out about engines, as JSON; takes the place of an earlier one.

        Raises:
            CacheUnusable: it cannot be written, or others can write to it.
        """
        with self.usable():
            self._make_folder()
            self._notes(kind).mkdir(mode=0o700, exist_ok=True)
            write_atomically(self._notes(kind) / f"{name}.json", text, 0o600)

    @contextmanager
    def alone(self, what: str, patience_s: float) -> Iterator[bool]:
        """Do something that processes of this machine do one after the other.

        Args:
            what: names it.
            patience_s: how long it is waited for the others.

        Yields:
            Whether it is so: not where the others took longer. Where the cache cannot be written there is nothing to
            wait for, as every process has engines of its own.
        """
        with ExitStack() as stack:
            yield self._locked(what, patience_s, stack)

    def _locked(self, what: str, patience_s: float, stack: ExitStack) -> bool:
        try:
            with self.usable():
                self._make_folder()
                locks = self.folder / _LOCKS
                locks.mkdir(mode=0o700, exist_ok=True)
                lock = os.open(locks / what, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except CacheUnusable:  # told when something is to be kept there
            return True
        stack.callback(os.close, lock)  # which lets the others go on, as the end of this process does
        given_up = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if not isinstance(error, BlockingIOError) or time.monotonic() > given_up:
                    return False
                time.sleep(_LOOK_AGAIN_S)
            else:
                return True

    def _notes(self, kind: str) -> Path:
        return self.folder / f".{kind}"

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.check_folder()

    @contextmanager
    def usable(self) -> Iterator[None]:
        """What the system refuses is the cache's failure, and told with its folder and its disk.

        Raises:
            CacheUnusable: in the place of an `OSError`.
        """
        try:
            yield
        except OSError as error:
            raise CacheUnusable(
                f"the engine cache {storage_problem(error, self.folder)}: make room or give the right to write it, "
                "or name another folder in SCANSIDE_ENGINE_CACHE"
            ) from error

    def check_folder(self, folder: Path | None = None) -> None:
        """Make sure that no one else can write to the cache.

        Args:
            folder: in it, that is to be looked at in its place.

        Raises:
            CacheUnusable: others can; says who.
            OSError: there is no such folder.
        """
        folder = folder or self.folder
        if found := who_else_can_write(folder.resolve()):
            raise CacheUnusable(
                f"the engine cache {folder} cannot be trusted, as engines are code and {found}: "
                "chmod 700, or name another folder in SCANSIDE_ENGINE_CACHE"
            )

    def _place(self, key: EngineKey) -> Path:
        return self.folder / key.digest

    def _keep(self, draft: Draft, report: AcceptanceReport) -> CacheEntry:
        with self.usable():
            return self._put(draft, report)

    def _put(self, draft: Draft, report: AcceptanceReport) -> CacheEntry:
        place = draft.folder.parent
        if not report.passed:
            shutil.rmtree(draft.folder)
            draft.folder.mkdir(mode=0o700)
        files = files_below(draft.folder)
        for path in files:
            path.chmod(0o600)
        records = {path.relative_to(draft.folder).as_posix(): file_record(path) for path in files}
        record = _Record(key=draft.key, report=report, files=records)
        write_atomically(place / _ENTRY_FILE, canonical_json(record.model_dump(mode="json")), 0o600)
        target = self._place(draft.key)
        if target.exists():
            # A worker beside this one built the same meanwhile: its engine is as good, and may be in use.
            if _problem(target, draft.key) is None:
                return _entry(target, _read(target))
            shutil.rmtree(target)
        place.rename(target)
        return _entry(target, record)


def _read(place: Path) -> _Record:
    return validated(_Record, (place / _ENTRY_FILE).read_bytes(), str(place / _ENTRY_FILE))


def _entry(place: Path, record: _Record) -> CacheEntry:
    return CacheEntry(record.key, record.report, place / _ENGINE_FOLDER)


def _problem(place: Path, key: EngineKey) -> str | None:
    """Why an entry must not be used; None if it may."""
    engine = place / _ENGINE_FOLDER
    try:
        record = _read(place)
        if record.key != key:
            return "it was built for another machine, version or network"
        found = {path.relative_to(engine).as_posix(): path for path in files_below(engine)}
        for path in (place, place / _ENTRY_FILE, engine, *found.values()):
            if writer := who_else_can_write(path):
                return f"{path.name}: {writer}"
        if set(found) != set(record.files):
            return "files are missing, or there are more than there should be"
        for name, expected in record.files.items():
            if file_record(found[name]) != expected:
                return f"{name} was changed"
    except (BundleError, OSError) as error:
        return str(error)
    return None


@cache
def scratch_cache() -> EngineCache:
    """Engines of this process alone, below the temporary files: for where the machine's cache is of no use.

    Its folder is made when something is built, and removed when the process ends.

    Raises:
        CacheUnusable: there is no folder for temporary files either.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"scanside-engines-{secrets.token_hex(8)}"
    except OSError as error:
        raise CacheUnusable(f"no engine can be kept even for this process: {error}") from error
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a process that was forked
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return EngineCache(folder)


def engine_cache_folder() -> Path:
    """``SCANSIDE_ENGINE_CACHE``, else ``~/.cache/scanside/engines`` (or below ``XDG_CACHE_HOME``)."""
    if named := os.environ.get("SCANSIDE_ENGINE_CACHE"):
        return Path(named)
    return user_cache() / "engines"
