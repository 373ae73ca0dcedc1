"""Signatures of bundles and the keys that are trusted."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from scanside.engines.bundle import Bundle, sign_bundle
from scanside.engines.signing import check_signature, generate_key, load_private_key, sign, trusted_keys
from scanside.engines.trust import TrustPolicy, trusted_keys_folder
from scanside.errors import BundleError, SignatureError


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A private key whose public one is trusted."""
    private, public, _ = generate_key(tmp_path / "keys", "site")
    (tmp_path / "trusted").mkdir(mode=0o700)
    shutil.copy(public, tmp_path / "trusted")
    return private


@pytest.fixture
def policy(tmp_path: Path) -> TrustPolicy:
    return TrustPolicy(require_signature=True, keys=tmp_path / "trusted")


def test_signed_bundle_is_opened_under_policy(
    bundle_folder: Path, private: Path, policy: TrustPolicy
) -> None:
    key_id = sign_bundle(bundle_folder, private)
    signer = Bundle.open(bundle_folder, policy).signer
    assert signer is not None
    assert (signer.name, signer.key_id, signer.trusted) == ("site", key_id, True)


def test_unsigned_bundle_is_refused_under_policy_only(bundle_folder: Path, policy: TrustPolicy) -> None:
    with pytest.raises(SignatureError, match="is not signed, and signatures are required here"):
        Bundle.open(bundle_folder, policy)
    assert Bundle.open(bundle_folder).signer is None


@pytest.mark.parametrize("require", [True, False])
def test_bundle_changed_after_signing_is_refused_under_every_policy(
    bundle_folder: Path, private: Path, policy: TrustPolicy, require: bool
) -> None:
    sign_bundle(bundle_folder, private)
    path = bundle_folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"one number", b"two number"))
    with pytest.raises(
        SignatureError, match="does not belong to this manifest: it was changed after it was signed"
    ):
        Bundle.open(bundle_folder, TrustPolicy(require_signature=require, keys=policy.keys))


def test_changed_file_is_found_in_a_signed_bundle(
    bundle_folder: Path, private: Path, policy: TrustPolicy
) -> None:
    sign_bundle(bundle_folder, private)
    data = (bundle_folder / "weights.safetensors").read_bytes()
    (bundle_folder / "weights.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match="was changed"):
        Bundle.open(bundle_folder, policy)


def test_strange_key_is_refused_under_policy_only(
    bundle_folder: Path, tmp_path: Path, policy: TrustPolicy
) -> None:
    private, _, key_id = generate_key(tmp_path / "others", "stranger")
    sign_bundle(bundle_folder, private)
    with pytest.raises(
        SignatureError, match=f"signed by key {key_id}, which is not among the 0 trusted keys"
    ):
        Bundle.open(bundle_folder, policy)
    signer = Bundle.open(bundle_folder, TrustPolicy(keys=policy.keys)).signer
    assert signer is not None
    assert not signer.trusted


def test_name_of_a_trusted_key_does_not_help_a_stranger(
    bundle_folder: Path, tmp_path: Path, private: Path, policy: TrustPolicy
) -> None:
    trusted_id = sign_bundle(bundle_folder, private)
    stranger, _, _ = generate_key(tmp_path / "others", "stranger")
    sign_bundle(bundle_folder, stranger)
    path = bundle_folder / "signature.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "key_id": trusted_id}))
    with pytest.raises(SignatureError, match="does not belong to this manifest"):
        Bundle.open(bundle_folder, policy)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"scheme": "none", "key_id": "", "signature": ""}', b"\xff"]
)
def test_signatures_that_cannot_be_read_are_refused(bundle_folder: Path, data: bytes) -> None:
    (bundle_folder / "signature.json").write_bytes(data)
    with pytest.raises(SignatureError, match="its signature cannot be read"):
        Bundle.open(bundle_folder)


def test_signature_that_is_no_base64_is_refused(tmp_path: Path) -> None:
    data = json.dumps({"scheme": "ed25519", "key_id": "0" * 32, "signature": "*"}).encode()
    with pytest.raises(SignatureError, match="cannot be read"):
        check_signature(b"", data, TrustPolicy(keys=tmp_path), "bundle")


def test_bare_signature_over_the_manifest_is_none(private: Path, policy: TrustPolicy) -> None:
    """The context keeps apart what was signed as a bundle from what was signed as anything else."""
    key = load_private_key(private)
    bare = sign(b"manifest", key).model_copy(
        update={"signature": base64.b64encode(key.sign(b"manifest")).decode()}
    )
    with pytest.raises(SignatureError, match="does not belong"):
        check_signature(b"manifest", bare.to_bytes(), policy, "bundle")
    assert check_signature(b"manifest", sign(b"manifest", key).to_bytes(), policy, "bundle") is not None


def test_vector_of_rfc_8032() -> None:
    """Test 1 of RFC 8032, 7.1: the scheme is Ed25519 as others know it."""
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    key = Ed25519PrivateKey.from_private_bytes(secret)
    assert key.public_key().public_bytes_raw() == public
    expected = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )
    assert key.sign(b"").hex() == expected
    signed = sign(b"x", key)
    raw = base64.b64decode(signed.signature)
    Ed25519PublicKey.from_public_bytes(public).verify(raw, b"Scanside engine bundle, manifest, version 1\nx")


class TestKeys:
    """Files of keys."""

    def test_private_key_is_for_its_owner(self, tmp_path: Path) -> None:
        private, public, _ = generate_key(tmp_path, "site")
        assert private.stat().st_mode & 0o777 == 0o600
        assert public.stat().st_mode & 0o777 == 0o644
        private.chmod(0o640)
        with pytest.raises(SignatureError, match="others can read or change this private key"):
            load_private_key(private)

    def test_key_is_never_replaced(self, tmp_path: Path) -> None:
        private, _, _ = generate_key(tmp_path, "site")
        before = private.read_bytes()
        with pytest.raises(FileExistsError, match="a key is never replaced"):
            generate_key(tmp_path, "site")
        assert private.read_bytes() == before

    def test_passphrase(self, tmp_path: Path) -> None:
        private, _, _ = generate_key(tmp_path, "site", "open sesame")
        load_private_key(private, "open sesame")
        for wrong in (None, "close sesame"):
            with pytest.raises(SignatureError, match="cannot be read"):
                load_private_key(private, wrong)

    def test_other_files_are_no_keys(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pem"
        path.write_text("x")
        path.chmod(0o600)
        with pytest.raises(SignatureError, match="no public key in PEM form"):
            trusted_keys(tmp_path)
        with pytest.raises(SignatureError, match="cannot be read"):
            load_private_key(path)

    def test_keys_of_other_kinds_are_refused(self, tmp_path: Path) -> None:
        key = X25519PrivateKey.generate().public_key()
        pem, spki = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        (tmp_path / "x.pem").write_bytes(key.public_bytes(pem, spki))
        with pytest.raises(SignatureError, match="expected an Ed25519 key"):
            trusted_keys(tmp_path)

    @pytest.mark.parametrize("what", ["folder", "file"])
    def test_keys_that_others_could_put_there_are_refused(
        self, tmp_path: Path, private: Path, what: str
    ) -> None:
        folder = tmp_path / "trusted"
        (folder if what == "folder" else folder / "site.pub.pem").chmod(0o777)
        with pytest.raises(SignatureError, match="cannot be trusted: its mode 0777 lets others write"):
            trusted_keys(folder)

    def test_folder_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SCANSIDE_TRUSTED_KEYS", raising=False)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        assert trusted_keys_folder() == tmp_path / "scanside" / "trusted-keys"
        monkeypatch.setenv("SCANSIDE_TRUSTED_KEYS", str(tmp_path / "other"))
        assert TrustPolicy().keys_folder == tmp_path / "other"
        assert trusted_keys(tmp_path / "other") == {}


def test_signature_of_a_plan_is_none_of_a_bundle(private: Path, policy: TrustPolicy) -> None:
    key = load_private_key(private)
    for signed, other in (("plan", "bundle"), ("bundle", "plan")):
        signature = sign(b"{}", key, signed).to_bytes()  # type: ignore[arg-type]
        assert check_signature(b"{}", signature, policy, "here", signed)  # type: ignore[arg-type]
        with pytest.raises(SignatureError, match="does not belong to this"):
            check_signature(b"{}", signature, policy, "here", other)  # type: ignore[arg-type]
