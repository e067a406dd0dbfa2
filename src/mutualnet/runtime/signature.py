"""Who made an artifact: an Ed25519 signature of all that it holds but measured latencies."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mutualnet.runtime.manifest import TABLE, ArtifactError, Manifest
from mutualnet.table import QueryTable

SIGNATURE = "manifest.sig"
"""Name of the file that holds it."""
_MEASURED = ("latency_ms", "dominated")
"""Of a row: what a device writes, and what follows from the rest."""


def signed_content(manifest: Manifest, table: QueryTable) -> bytes:
    """What is signed: the manifest with the checksums of all files, and the table's scores.

    Latencies are left out, so that a device may measure its own.
    """
    values = json.loads(manifest.to_json())
    del values["sha256"], values["files"][TABLE]
    rows = [
        {name: value for name, value in row.to_dict().items() if name not in _MEASURED}
        for row in table.rows
    ]
    meta = {name: value for name, value in table.meta.items() if name != "latency"}
    content = {"manifest": values, "rows": rows, "meta": meta}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sign(content: bytes, private_key: Path) -> bytes:
    """Sign content.

    Args:
        content: Of `signed_content`.
        private_key: File with an Ed25519 key without a passphrase, as `ssh-keygen -t ed25519` or
            OpenSSL (PEM) writes it.

    Raises:
        ValueError: If the file holds no such key.
    """
    from cryptography.hazmat.primitives import serialization as formats
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    def read(load: Callable[..., Any]) -> Callable[[bytes], Any]:
        return lambda text: load(text, password=None)

    loaders = (read(formats.load_pem_private_key), read(formats.load_ssh_private_key))
    key = _key(private_key, loaders, Ed25519PrivateKey, "a private Ed25519 key, no passphrase")
    return base64.b64encode(key.sign(content)) + b"\n"


def check_signature(content: bytes, signature: bytes | None, public_key: Path) -> None:
    """Refuse what was not signed by the owner of a key.

    Args:
        content: Of `signed_content`.
        signature: As `sign` gives it; None if there is none.
        public_key: File with the Ed25519 key, as `ssh-keygen` (`.pub`) or OpenSSL (PEM) writes it.

    Raises:
        ArtifactError: If there is no signature, or it is another one's.
        ValueError: If the file holds no such key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization as formats
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    loaders = (formats.load_pem_public_key, formats.load_ssh_public_key)
    key = _key(public_key, loaders, Ed25519PublicKey, "a public Ed25519 key")
    if signature is None:
        raise ArtifactError("it must be signed, and is not")
    try:
        key.verify(base64.b64decode(signature.strip(), validate=True), content)
    except (InvalidSignature, binascii.Error, ValueError):
        raise ArtifactError(
            f"its signature is not that of {public_key}, or it was changed after it was signed"
        ) from None


def _key(file: Path, loaders: tuple[Callable[[bytes], Any], ...], kind: type, what: str) -> Any:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} must hold {what}, got {error.strerror or error}") from None
    for load in loaders:
        try:
            key = load(text)
        except Exception:  # the library raises anything on what is no key
            continue
        if isinstance(key, kind):
            return key
    raise ValueError(f"{file} must hold {what}: `ssh-keygen -t ed25519 -N '' -f KEY` makes a pair")
