"""Whose engines are trusted here: the folder of public keys, and what a site asks of bundles and plans."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Signer", "TrustPolicy", "trusted_keys_folder"]


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a bundle or a plan.

    Attributes:
        key_id: first half of the SHA-256 of the public key, 32 hexadecimal digits.
        name: of the trusted key's file, empty where the key is not trusted here.
    """

    key_id: str
    name: str = ""

    @property
    def trusted(self) -> bool:
        """Whether the key is trusted here, and the signature was checked with it."""
        return bool(self.name)

    def __str__(self) -> str:
        return f"{self.name} ({self.key_id[:16]})" if self.trusted else f"unknown key {self.key_id[:16]}"


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """What a site asks of a bundle, and of the plans that are installed for it.

    What has a wrong signature is refused under every policy, and native code inside a bundle is taken under none
    unless a trusted key signed it.

    Attributes:
        require_signature: refuse bundles and plans that no trusted key signed.
        keys: folder of trusted public keys (``*.pem``); None for `trusted_keys_folder`.
    """

    require_signature: bool = False
    keys: Path | None = None

    @property
    def keys_folder(self) -> Path:
        """Where the trusted keys are."""
        return self.keys if self.keys is not None else trusted_keys_folder()


def trusted_keys_folder() -> Path:
    """``SCANSIDE_TRUSTED_KEYS``, else ``~/.config/scanside/trusted-keys`` (or below ``XDG_CONFIG_HOME``)."""
    if named := os.environ.get("SCANSIDE_TRUSTED_KEYS"):
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "scanside" / "trusted-keys"
