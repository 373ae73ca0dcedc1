"""Bundles: folders that hold an exported graph, its weights, and a manifest that vouches for every byte.

::

    manifest.json           what it is, and the hash of every other file
    weights.safetensors     parameters, inputs of the graph
    graph.pt2               torch.export archive without weights, fp32
    graph-bf16.pt2          the same with network parts in bf16, where there is one
    columns.pt2 …           the same of the exact form for masks along k1, where there is one
    vectors.safetensors     reference inputs and outputs
    calibration.safetensors other inputs, from which ranges of int8 are taken, where there are any
    engines/<digest>/       engines built beforehand, taken only when a trusted key signed
    signature.json          Ed25519 over the manifest, where it is signed
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from scanside.engines.archive import check_archive, load_graph
from scanside.engines.hashing import file_record, files_below, write_atomically
from scanside.engines.manifest import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    VECTORS_FILE,
    WEIGHTS_FILE,
    FileRecord,
    FormName,
    Manifest,
    Precision,
)
from scanside.engines.sealed import check_files, plain_files, read_small
from scanside.engines.signing import check_signature, load_private_key, sign
from scanside.engines.trust import Signer, TrustPolicy
from scanside.errors import BundleError, MissingExtra, SignatureError

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from scanside.engines.plain import PlainGraph

__all__ = ["ENGINES_FOLDER", "Bundle", "BundleWriter", "manifest_of", "replace_manifest", "sign_bundle"]

logger = logging.getLogger(__name__)

ENGINES_FOLDER = "engines"

LARGEST_SHIPPED = 6 * 10**6
"""Bytes that a bundle which comes with Scanside may have in all."""

_LARGEST_MANIFEST = 2**20
_LARGEST_SIGNATURE = 2**12
_LARGEST_BUNDLE = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every file was checked when it was opened.

    Files are read through it, which compares their hash again: what was checked is what is used.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        signer: who signed it; None where no one did.
        sha256: of its manifest, and so of the whole bundle: pipelines are pinned to it.
        policy: what was asked of it, and is asked of plans that are installed for it.
    """

    folder: Path
    manifest: Manifest
    signer: Signer | None = None
    sha256: str = ""
    policy: TrustPolicy = field(default_factory=TrustPolicy)

    @classmethod
    def open(cls, folder: Path, policy: TrustPolicy | None = None) -> Bundle:
        """Check a bundle: manifest, signature, and that exactly the files it lists are there, unchanged.

        Args:
            folder: the bundle.
            policy: what is asked of it; by default no signature.

        Raises:
            BundleError: something is missing, changed, too much or not a plain file; says which.
            SignatureError: the signature is wrong or missing where the policy or native code asks for it.
            MissingExtra: a signature is to be checked and ``cryptography`` is not installed.
        """
        manifest, text = _whole(folder)
        path = folder / SIGNATURE_FILE
        signature = read_small(path, _LARGEST_SIGNATURE) if path.exists() else None
        policy = policy or TrustPolicy()
        signer = check_signature(text, signature, policy, str(folder))
        _check_native_code(folder, manifest, signer)
        return cls(folder, manifest, signer, hashlib.sha256(text).hexdigest(), policy)

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.manifest.name

    def read(self, path: str) -> bytes:
        """One of the bundle's files.

        Raises:
            BundleError: it is not listed, or was changed since the bundle was opened.
        """
        if path not in self.manifest.files:
            raise BundleError(f"{self.folder}: the manifest lists no file '{path}'")
        record = self.manifest.files[path]
        try:
            data = (self.folder / path).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.folder / path} can no longer be read: {error}") from error
        if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
            raise BundleError(f"{self.folder / path} was changed since the bundle was opened: open it again")
        return data

    def graph_sha256(self, precision: Precision = "fp32", form: FormName = "principal") -> str:
        """Names the exported graph of a precision.

        Raises:
            BundleError: there is no graph of this precision.
        """
        return self.manifest.files[self._graph_file(precision, form)].sha256

    def graph(self, precision: Precision = "fp32", form: FormName = "principal") -> ExportedProgram:
        """The exported graph of a precision; weights are its inputs.

        Raises:
            BundleError: there is no graph of this precision, or torch cannot read it.
            UnsafeArchive: its archive asks for more than reading a graph.
        """
        path = self._graph_file(precision, form)
        return load_graph(self.read(path), str(self.folder / path))

    def plain(self, precision: Precision = "fp32", form: FormName = "principal") -> PlainGraph:
        """The same as it is run, read much sooner.

        Raises:
            BundleError: there is no graph of this precision, or this version cannot read it.
            UnsafeArchive: its archive asks for more than reading a graph.
        """
        from scanside.engines.plain import read_plain

        path = self._graph_file(precision, form)
        return read_plain(self.read(path), str(self.folder / path))

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights by name.

        Raises:
            BundleError: the file is no safetensors file.
            MissingExtra: ``safetensors`` is not installed.
        """
        return self._tensors(WEIGHTS_FILE)

    def vectors(self) -> dict[str, torch.Tensor]:
        """Reference inputs and outputs by name.

        Raises:
            BundleError: the file is no safetensors file.
            MissingExtra: ``safetensors`` is not installed.
        """
        return self._tensors(VECTORS_FILE)

    def calibration(self) -> dict[str, torch.Tensor]:
        """The tensors that int8 is calibrated with by name; none where the bundle brings none.

        Raises:
            BundleError: the file is no safetensors file.
            MissingExtra: ``safetensors`` is not installed.
        """
        path = self.manifest.calibration
        return {} if path is None else self._tensors(path)

    def calibration_sha256(self, precision: Precision) -> str | None:
        """Names what an engine of a precision was calibrated with, where it is."""
        path = self.manifest.calibration
        return self.manifest.files[path].sha256 if precision == "int8" and path is not None else None

    def built_engine(self, digest: str) -> Path | None:
        """Folder of an engine that came with the bundle, by the digest of its key; None where there is none.

        There are none in bundles that no trusted key signed: those are not opened.
        """
        folder = f"{ENGINES_FOLDER}/{digest}/"
        return self.folder / folder if any(path.startswith(folder) for path in self.manifest.files) else None

    def _graph_file(self, precision: Precision, form: FormName) -> str:
        graphs = self.manifest.form(form).graphs
        if precision not in graphs:
            raise BundleError(
                f"bundle '{self.name}' has no graph in {precision}, only in {', '.join(graphs)}"
            )
        return graphs[precision]

    def _tensors(self, path: str) -> dict[str, torch.Tensor]:
        data = self.read(path)
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load
        except ImportError as error:
            raise MissingExtra("safetensors", "engines", "weights of engines") from error
        try:
            return load(data)
        except SafetensorError as error:
            raise BundleError(f"{self.folder / path} is no safetensors file: {error}") from None


def manifest_of(folder: Path) -> Manifest:
    """What a bundle says of itself. Its other files are not looked at: to use them, open it.

    Raises:
        BundleError: there is no manifest, or it is wrong.
    """
    return _described(folder)[0]


def _whole(folder: Path) -> tuple[Manifest, bytes]:
    """The manifest of a bundle whose files are all as it says, and the bytes that a signature is over."""
    manifest, text, found = _described(folder)
    _check_files(folder, manifest, found)
    return manifest, text


def _described(folder: Path) -> tuple[Manifest, bytes, dict[str, Path]]:
    """The manifest of a bundle, its bytes, and the files beside it and its signature."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is no bundle: a bundle is a folder with a {MANIFEST_FILE}")
    found = plain_files(folder, "bundle")
    if MANIFEST_FILE not in found:
        raise BundleError(f"{folder} is no bundle: it has no {MANIFEST_FILE}")
    text = read_small(found.pop(MANIFEST_FILE), _LARGEST_MANIFEST)
    found.pop(SIGNATURE_FILE, None)
    return Manifest.from_bytes(text, str(folder / MANIFEST_FILE)), text, found


def _check_files(folder: Path, manifest: Manifest, found: dict[str, Path]) -> None:
    if manifest.size > _LARGEST_BUNDLE:
        raise BundleError(f"{folder}: {manifest.size} bytes in all; bundles have at most {_LARGEST_BUNDLE}")
    check_files(folder, found, manifest.files, "bundle", "manifest")
    known = set(manifest.named_files())
    for name in found:
        if name not in known and not name.startswith(f"{ENGINES_FOLDER}/"):
            raise BundleError(
                f"{folder}: file '{name}' has no part in the bundle: the manifest does not say what for"
            )
    for name in manifest.graph_files():
        check_archive(found[name])


def _check_native_code(folder: Path, manifest: Manifest, signer: Signer | None) -> None:
    engines = [name for name in manifest.files if name.startswith(f"{ENGINES_FOLDER}/")]
    if engines and (signer is None or not signer.trusted):
        who = "no one signed it" if signer is None else f"it is signed by {signer}"
        raise SignatureError(
            f"{folder} holds native code ('{engines[0]}'), which is taken only from keys trusted here, and {who}: "
            "trust the key, or take a bundle without built engines (they are then built here)"
        )


class BundleWriter:
    """Writes a bundle beside its place and moves it there when it is whole.

    ::

        with BundleWriter(folder) as writer:
            save_graph(program, writer.path("graph.pt2"))
            save_file(weights, writer.path("weights.safetensors"))
            ...
            manifest = writer.finish(name="brain-student", version="1.0.0", ...)

    Args:
        folder: the bundle to be.
        replace: put it in the place of a bundle that is there.
        size_limit: most bytes in all; None for no limit, with a warning above what may be shipped.
    """

    def __init__(self, folder: Path, *, replace: bool = False, size_limit: int | None = None) -> None:
        self._folder = folder
        self._replace = replace
        self._size_limit = size_limit
        self._draft: Path | None = None

    def __enter__(self) -> BundleWriter:
        if self._folder.exists():
            if not self._replace:
                raise FileExistsError(f"{self._folder} exists: choose another folder, or ask to replace it")
            if not (self._folder / MANIFEST_FILE).is_file():
                raise FileExistsError(f"{self._folder} is no bundle: it is not replaced by one")
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._draft = Path(tempfile.mkdtemp(dir=self._folder.parent, prefix=f".{self._folder.name}."))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draft is not None:
            shutil.rmtree(self._draft)
            self._draft = None

    def path(self, name: str) -> Path:
        """Where to write a file of the bundle; folders are made."""
        if self._draft is None:
            raise RuntimeError("use BundleWriter in a with statement, and path() before finish()")
        path = self._draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self, **fields: Any) -> Manifest:
        """Write the manifest, check the bundle as `Bundle.open` does, and move it to its place.

        Args:
            fields: of `Manifest`, all but ``files``.

        Raises:
            BundleError: a field is wrong, a file is missing or has no part in it, or it is larger than allowed.
        """
        draft = self.path("").resolve()
        records = {path.relative_to(draft).as_posix(): file_record(path) for path in files_below(draft)}
        manifest = _made(fields, records)
        if manifest.size > (self._size_limit or LARGEST_SHIPPED):
            text = f"bundle '{manifest.name}' has {manifest.size / 1e6:.1f} MB"
            if self._size_limit is not None:
                raise BundleError(f"{text}; at most {self._size_limit / 1e6:.1f} MB are allowed here")
            logger.warning("%s; bundles that are shipped have at most %.0f MB", text, LARGEST_SHIPPED / 1e6)
        write_atomically(draft / MANIFEST_FILE, manifest.to_bytes())
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        _check_files(draft, manifest, {name: draft / name for name in records})
        _move(draft, self._folder)
        self._draft = None
        return manifest


def _made(fields: dict[str, Any], records: dict[str, FileRecord]) -> Manifest:
    try:
        return Manifest(files=records, **fields)
    except ValidationError as error:
        raise BundleError(f"the manifest cannot be written: {error}") from None


def _move(draft: Path, folder: Path) -> None:
    """Put a folder in its place; one that is there goes only when the new one is whole."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
        folder.replace(old / "bundle")
        draft.replace(folder)
        shutil.rmtree(old)
    else:
        draft.replace(folder)


def replace_manifest(folder: Path, **changes: Any) -> Manifest:
    """Change what a bundle says of itself, such as its metrics; its signature no longer holds and is removed.

    Args:
        folder: the bundle.
        changes: fields of `Manifest`, but not ``files``.

    Raises:
        BundleError: the bundle is not whole, or a field is wrong.
    """
    manifest, _ = _whole(folder)
    fields = {**dict(manifest), **changes}
    changed = _made({name: value for name, value in fields.items() if name != "files"}, manifest.files)
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    write_atomically(folder / MANIFEST_FILE, changed.to_bytes())
    return changed


def sign_bundle(folder: Path, key: Path, passphrase: str | None = None) -> str:
    """Sign a bundle, after checking that it is whole; an earlier signature is replaced.

    Args:
        folder: the bundle.
        key: file of the private key.
        passphrase: of the key.

    Returns:
        The key's ID.

    Raises:
        BundleError: the bundle is not whole.
        SignatureError: the key cannot be used.
        MissingExtra: ``cryptography`` is not installed.
    """
    _, text = _whole(folder)
    signature = sign(text, load_private_key(key, passphrase))
    write_atomically(folder / SIGNATURE_FILE, signature.to_bytes())
    return signature.key_id
