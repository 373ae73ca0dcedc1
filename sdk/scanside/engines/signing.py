"""Signatures of bundles and plans: Ed25519 (RFC 8032) over the bytes of the manifest, or of the plan's record.

Both hold the hash of every other file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from scanside.engines.hashing import write_atomically
from scanside.engines.manifest import SIGNATURE_FILE, canonical_json, read_json_object, validated
from scanside.engines.permissions import who_else_can_write
from scanside.engines.trust import Signer, TrustPolicy
from scanside.errors import BundleError, MissingExtra, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "Kind",
    "Signature",
    "check_signature",
    "generate_key",
    "key_id",
    "load_private_key",
    "sign",
    "trusted_keys",
]

Kind: TypeAlias = Literal["bundle", "plan"]

_CONTEXTS: dict[Kind, bytes] = {
    "bundle": b"Scanside engine bundle, manifest, version 1\n",
    "plan": b"Scanside engine plan, record, version 1\n",
}
"""Stands before what is signed: a signature over other things cannot be passed off as one of a bundle."""
_SIGNED_TEXT: dict[Kind, str] = {"bundle": "manifest", "plan": "record"}


class Signature(BaseModel):
    """What stands in a signature file.

    Attributes:
        scheme: of the signature.
        key_id: which key to check it with.
        signature: in base64.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheme: Literal["ed25519"] = "ed25519"
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    signature: Annotated[str, Field(max_length=128)]

    def to_bytes(self) -> bytes:
        """As it stands in the file."""
        return canonical_json(self.model_dump(mode="json"))


def sign(text: bytes, key: Ed25519PrivateKey, kind: Kind = "bundle") -> Signature:
    """Sign the bytes of a bundle's manifest, or of a plan's record."""
    signed = base64.b64encode(key.sign(_CONTEXTS[kind] + text)).decode()
    return Signature(key_id=key_id(key.public_key()), signature=signed)


def check_signature(
    text: bytes, signature: bytes | None, policy: TrustPolicy, where: str, kind: Kind = "bundle"
) -> Signer | None:
    """Check a bundle's or a plan's signature by a site's policy.

    Args:
        text: bytes of the manifest, or of the plan's record.
        signature: bytes of the signature file; None where there is none.
        policy: what the site asks.
        where: the bundle or plan, named in errors.
        kind: which of both.

    Returns:
        Who signed; None where no one did.

    Raises:
        SignatureError: the signature is wrong, or there is none by a trusted key and the policy asks for one.
        MissingExtra: ``cryptography`` is not installed and there are keys to check with.
    """
    if signature is None:
        if policy.require_signature:
            raise SignatureError(
                f"{where} is not signed, and signatures are required here: have it signed by a key in "
                f"{policy.keys_folder} (scanside engines sign)"
            )
        return None
    try:
        read_json_object(signature, f"{where}/{SIGNATURE_FILE}")
        parsed = validated(Signature, signature, f"{where}/{SIGNATURE_FILE}")
        raw = base64.b64decode(parsed.signature, validate=True)
    except (BundleError, binascii.Error) as error:
        raise SignatureError(f"{where}: its signature cannot be read: {error}") from None
    keys = trusted_keys(policy.keys_folder)
    if parsed.key_id not in keys:
        if policy.require_signature:
            raise SignatureError(
                f"{where} is signed by key {parsed.key_id}, which is not among the {len(keys)} trusted keys in "
                f"{policy.keys_folder}: put its public key there if you trust it"
            )
        return Signer(parsed.key_id)
    from cryptography.exceptions import InvalidSignature

    name, key = keys[parsed.key_id]
    try:
        key.verify(raw, _CONTEXTS[kind] + text)
    except InvalidSignature:
        raise SignatureError(
            f"{where}: the signature by '{name}' does not belong to this {_SIGNED_TEXT[kind]}: it was changed after "
            f"it was signed; fetch the {kind} again, or sign it again if you changed it yourself"
        ) from None
    return Signer(parsed.key_id, name)


def trusted_keys(folder: Path) -> dict[str, tuple[str, Ed25519PublicKey]]:
    """Public keys in a folder, with the names of their files, by key ID; none where there is no folder.

    Raises:
        SignatureError: a file is no Ed25519 public key, or another account could change it or the folder.
        MissingExtra: there are keys and ``cryptography`` is not installed.
    """
    files = sorted(folder.glob("*.pem")) if folder.is_dir() else []
    if not files:
        return {}
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys = {}
    for path in (folder.resolve(), *files):
        if found := who_else_can_write(path):
            raise SignatureError(
                f"{path} cannot be trusted: {found}; only its owner may write to it (chmod go-w)"
            )
    for path in files:
        try:
            key = load_pem_public_key(path.read_bytes())
        except ValueError as error:
            raise SignatureError(f"{path} is no public key in PEM form: {error}") from None
        if not isinstance(key, Ed25519PublicKey):
            raise SignatureError(f"{path}: expected an Ed25519 key, found {type(key).__name__}")
        keys[key_id(key)] = (path.name.removesuffix(".pem").removesuffix(".pub"), key)
    return keys


def key_id(key: Ed25519PublicKey) -> str:
    """First half of the SHA-256 of the raw public key, in hexadecimal digits."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def generate_key(folder: Path, name: str, passphrase: str | None = None) -> tuple[Path, Path, str]:
    """Make a key pair: ``<name>.key.pem``, for its owner's eyes, and ``<name>.pub.pem`` to give away.

    Args:
        folder: made if it is not there.
        name: of the two files.
        passphrase: encrypts the private key.

    Returns:
        Private file, public file, key ID.

    Raises:
        FileExistsError: there is a key of that name; it is never replaced.
        MissingExtra: ``cryptography`` is not installed.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / f"{name}.key.pem", folder / f"{name}.pub.pem"
    for path in (private, public):
        if path.exists():
            raise FileExistsError(f"{path} exists: a key is never replaced; choose another name")
    key = Ed25519PrivateKey.generate()
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode())
        if passphrase
        else serialization.NoEncryption()
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_atomically(private, key.private_bytes(pem, pkcs8, encryption), 0o600)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    write_atomically(public, key.public_key().public_bytes(pem, spki))
    return private, public, key_id(key.public_key())


def load_private_key(path: Path, passphrase: str | None = None) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        SignatureError: not an Ed25519 key in PEM form, a wrong passphrase, or others can read it.
        OSError: the file cannot be read.
        MissingExtra: ``cryptography`` is not installed.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = path.read_bytes()
    if who_else_can_write(path) or path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise SignatureError(f"{path}: others can read or change this private key: chmod 600, and own it")
    try:
        key = load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{path}: the private key cannot be read: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path}: expected an Ed25519 key, found {type(key).__name__}")
    return key


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401 — only whether it is there
    except ImportError as error:
        raise MissingExtra("cryptography", "engines", "signatures of bundles and plans") from error
