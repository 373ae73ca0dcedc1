"""Plans that were installed on this machine: checked like bundles, kept with the care of the engine cache.

::

    ENGINE CACHE/.plans/5d41402abc4b2a76/plan.json
                                         engine.plan
                                         signature.json      where it is signed

An installed plan is no engine yet. It becomes one when the gate has accepted it on the GPU that runs it, at its first
load, and the cache then holds it like any other. It must lie here as long as it is used.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scanside.engines.backends.base import Backend
from scanside.engines.cache import EngineCache, EngineKey
from scanside.engines.hashing import write_atomically
from scanside.engines.manifest import SIGNATURE_FILE, canonical_json
from scanside.engines.permissions import who_else_can_write
from scanside.engines.plan_record import RECORD_FILE, PlanRecord
from scanside.engines.sealed import check_files, plain_files, read_small
from scanside.engines.signing import check_signature, load_private_key, sign
from scanside.engines.trust import Signer, TrustPolicy
from scanside.errors import BundleError

__all__ = ["Plan", "PlanStore", "StoredPlan", "is_plan", "plan_folders", "sign_plan"]

_LARGEST_RECORD = 2**20
_LARGEST_SIGNATURE = 2**12
_LARGEST_PLAN = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan whose record, signature and file were checked when it was opened.

    Attributes:
        folder: where it lies.
        record: what it was made from and for.
        signer: who signed it; None where no one did.
        sha256: of its record, and so of the whole plan.
    """

    folder: Path
    record: PlanRecord
    signer: Signer | None
    sha256: str

    @classmethod
    def open(cls, folder: Path, policy: TrustPolicy | None = None) -> Plan:
        """Check a plan: its record, its signature, and that its file is there, unchanged, and nothing else.

        Args:
            folder: the plan.
            policy: what is asked of it; by default no signature.

        Raises:
            BundleError: something is missing, changed, too much or not a plain file; says which.
            SignatureError: the signature is wrong, or missing where the policy asks for it.
            MissingExtra: a signature is to be checked and ``cryptography`` is not installed.
        """
        record, text, found = _read(folder)
        signature = found.pop(SIGNATURE_FILE, None)
        signed = None if signature is None else read_small(signature, _LARGEST_SIGNATURE)
        signer = check_signature(text, signed, policy or TrustPolicy(), str(folder), "plan")
        _check(folder, record, found)
        return cls(folder, record, signer, hashlib.sha256(text).hexdigest())


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """An installed plan, as it says of itself; nothing but its record has been read.

    Attributes:
        folder: where it lies.
        record: what it was made from and for; None where it cannot be read.
        sha256: of its record, and so of the whole plan.
        problem: why it cannot be read.
    """

    folder: Path
    record: PlanRecord | None
    sha256: str = ""
    problem: str = ""


class PlanStore:
    """The plans that are installed on this machine.

    Args:
        cache: of the engines; they lie in it. By default that of the user.
    """

    def __init__(self, cache: EngineCache | None = None) -> None:
        self._cache = cache or EngineCache()
        self.folder = self._cache.folder / ".plans"

    def install(self, source: Path, policy: TrustPolicy | None = None) -> Plan:
        """Copy a plan here; it takes the place of one for the same network, size, precision and library.

        Args:
            source: its folder.
            policy: what is asked of it.

        Raises:
            BundleError: it is not whole.
            SignatureError: it lacks the signature that the policy asks for.
            CacheUnusable: the cache cannot be written, or others can write to it.
        """
        plan = Plan.open(source, policy)
        place = self.folder / _place(plan.record)
        with self._cache.usable():
            for folder in (self._cache.folder, self.folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._check_folder()
            aside = Path(tempfile.mkdtemp(dir=self.folder, prefix=".installing."))  # mode 0700
            try:
                draft = aside / "plan"
                draft.mkdir(mode=0o700)
                for path in plain_files(source, "plan").values():
                    shutil.copyfile(path, draft / path.name)
                    (draft / path.name).chmod(0o600)
                if Plan.open(draft, policy).sha256 != plan.sha256:
                    raise BundleError(f"{source} was changed while it was copied: install it again")
                if place.exists():
                    place.replace(aside / "old")
                draft.replace(place)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return Plan(place, plan.record, plan.signer, plan.sha256)

    def stored(self) -> Iterator[StoredPlan]:
        """All that are here, those for other machines and versions and damaged ones included.

        Raises:
            CacheUnusable: it cannot be read, or others can write to it.
        """
        with self._cache.usable():
            if not self.folder.is_dir():
                return
            self._check_folder()
            folders = sorted(path for path in self.folder.glob("[!.]*") if path.is_dir())
        for folder in folders:
            try:
                record, text, _ = _read(folder)
            except (BundleError, OSError) as error:
                yield StoredPlan(folder, None, problem=str(error))
            else:
                yield StoredPlan(folder, record, hashlib.sha256(text).hexdigest())

    def open(self, folder: Path, policy: TrustPolicy | None = None) -> Plan:
        """Check an installed plan, and that no one else can change it.

        Raises:
            BundleError: it is not whole, or others can write to it.
            SignatureError: it lacks the signature that the policy asks for.
        """
        plan = Plan.open(folder, policy)
        for path in (folder, *plain_files(folder, "plan").values()):
            if found := who_else_can_write(path):
                raise BundleError(f"{path} cannot be trusted, as {found}: install the plan again")
        return plan

    def find(self, wanted: EngineKey, backend: Backend, policy: TrustPolicy) -> tuple[Plan | None, str]:
        """The plan from which an engine of this machine can be made.

        Args:
            wanted: what it has to be made from and for.
            backend: that runs it.
            policy: what is asked of it.

        Returns:
            The newest that can be used; or None, with the reasons why none of those that are here can: empty where
            there is none for this network.

        Raises:
            CacheUnusable: nothing here can be read, or others can write to it.
        """
        own = [(one.folder, one.record) for one in self.stored() if one.record is not None]
        own = [pair for pair in own if pair[1].weights_sha256 == wanted.weights_sha256]
        fitting = [pair for pair in own if _is_for(pair[1], wanted)]
        reasons = []
        for folder, record in sorted(fitting, key=lambda pair: pair[1].created, reverse=True):
            if reason := backend.misfit(record):
                reasons.append(f"the installed plan {reason}")
                continue
            try:
                return self.open(folder, policy), ""
            except (BundleError, OSError) as error:
                reasons.append(f"the installed plan is not used: {error}")
        if own and not fitting:
            reasons.append(
                f"the plans that are installed for it are others: {', '.join(record.name for _, record in own)}"
            )
        return None, "; ".join(dict.fromkeys(reasons))

    def _check_folder(self) -> None:
        self._cache.check_folder()
        self._cache.check_folder(self.folder)


def is_plan(folder: Path) -> bool:
    """Whether a folder says that it is a plan, by its record."""
    return (folder / RECORD_FILE).is_file()


def plan_folders(folder: Path) -> list[Path]:
    """The plan that a folder is, or the plans in it."""
    if is_plan(folder):
        return [folder]
    return sorted(path.parent for path in folder.glob(f"[!.]*/{RECORD_FILE}"))


def plan_key(plan: Plan, backend: Backend) -> EngineKey:
    """What the engine that comes of a plan on this machine is found by."""
    record = plan.record
    return EngineKey(
        weights_sha256=record.weights_sha256,
        graph_sha256=record.graph_sha256,
        shape=record.shape,
        n_coils=record.n_coils,
        precision=record.precision,
        backend=record.backend,
        versions=backend.versions(),
        hardware=backend.hardware(),
        plan=plan.sha256,
    )


def sign_plan(folder: Path, key: Path, passphrase: str | None = None) -> str:
    """Sign a plan, after checking that it is whole; an earlier signature is replaced.

    Args:
        folder: the plan.
        key: file of the private key.
        passphrase: of the key.

    Returns:
        The key's ID.

    Raises:
        BundleError: the plan is not whole.
        SignatureError: the key cannot be used.
        MissingExtra: ``cryptography`` is not installed.
    """
    record, text, found = _read(folder)
    found.pop(SIGNATURE_FILE, None)
    _check(folder, record, found)
    signature = sign(text, load_private_key(key, passphrase), "plan")
    write_atomically(folder / SIGNATURE_FILE, signature.to_bytes())
    return signature.key_id


def _read(folder: Path) -> tuple[PlanRecord, bytes, dict[str, Path]]:
    """The record of a plan, the bytes that a signature is over, and the other files."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is no plan: a plan is a folder with a {RECORD_FILE}")
    found = plain_files(folder, "plan")
    if RECORD_FILE not in found:
        raise BundleError(f"{folder} is no plan: it has no {RECORD_FILE}")
    text = read_small(found.pop(RECORD_FILE), _LARGEST_RECORD)
    return PlanRecord.from_bytes(text, str(folder / RECORD_FILE)), text, found


def _check(folder: Path, record: PlanRecord, found: dict[str, Path]) -> None:
    if record.size > _LARGEST_PLAN:
        raise BundleError(f"{folder}: the plan has {record.size} bytes; at most {_LARGEST_PLAN} are expected")
    check_files(folder, found, record.files, "plan", "record")


def _is_for(record: PlanRecord, wanted: EngineKey) -> bool:
    """Whether a plan was made from what an engine is wanted of, in its shapes."""
    fields = ("weights_sha256", "graph_sha256", "shape", "n_coils", "precision", "backend")
    return all(getattr(record, name) == getattr(wanted, name) for name in fields)


def _place(record: PlanRecord) -> str:
    """Names the folder of a plan: plans for other releases of the library lie beside it, later ones replace it."""
    fields = {"backend", "weights_sha256", "graph_sha256", "shape", "n_coils", "precision", "versions"}
    return hashlib.sha256(canonical_json(record.model_dump(mode="json", include=fields))).hexdigest()[:32]
