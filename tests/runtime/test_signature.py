"""Signed artifacts: the maker's are taken, with any latencies; others are refused."""

from __future__ import annotations

import dataclasses
import shutil
import zipfile

import pytest
from cryptography.hazmat.primitives import serialization as formats
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mutualnet.cli import main
from mutualnet.runtime import AdaptiveRunner, Artifact, ArtifactError, measure, with_latencies
from mutualnet.table import QueryTable
from tests.small_artifact import picture


def _pair(folder, name, private=formats.PrivateFormat.OpenSSH):
    """Files of a private and a public key, as `ssh-keygen` or OpenSSL writes them."""
    key, is_ssh = Ed25519PrivateKey.generate(), private is formats.PrivateFormat.OpenSSH
    mine, theirs = folder / name, folder / f"{name}.pub"
    mine.write_bytes(key.private_bytes(formats.Encoding.PEM, private, formats.NoEncryption()))
    theirs.write_bytes(
        key.public_key().public_bytes(
            formats.Encoding.OpenSSH if is_ssh else formats.Encoding.PEM,
            formats.PublicFormat.OpenSSH if is_ssh else formats.PublicFormat.SubjectPublicKeyInfo,
        )
    )
    return mine, theirs


@pytest.fixture
def path(artifact_file, tmp_path):
    return shutil.copy(artifact_file, tmp_path / "m.mutualnet")


@pytest.mark.parametrize("kind", [formats.PrivateFormat.OpenSSH, formats.PrivateFormat.PKCS8])
def test_what_the_maker_signed_runs(path, tmp_path, kind):
    mine, theirs = _pair(tmp_path, "maker", kind)
    before = AdaptiveRunner(path).run(picture())
    Artifact.open(path).signed(mine)
    assert AdaptiveRunner(path, public_key=theirs).run(picture()) == before
    assert AdaptiveRunner(path).run(picture()) == before  # nobody has to ask


def test_what_nobody_or_another_signed_is_refused(path, tmp_path):
    mine, _ = _pair(tmp_path, "another")
    _, theirs = _pair(tmp_path, "maker")
    with pytest.raises(ArtifactError, match="it must be signed, and is not"):
        Artifact.open(path, public_key=theirs)
    Artifact.open(path).signed(mine)
    with pytest.raises(ArtifactError, match=r"its signature is not that of .*maker\.pub"):
        Artifact.open(path, public_key=theirs)


def test_a_runner_checks_an_artifact_that_is_open_already(path, tmp_path):
    (private, public), (_, others) = _pair(tmp_path, "maker"), _pair(tmp_path, "other")
    with pytest.raises(ArtifactError, match="must be signed by its maker: it must be signed"):
        AdaptiveRunner(Artifact.open(path), public_key=public)
    signed = Artifact.open(path).signed(private)
    assert AdaptiveRunner(signed, public_key=str(public)).run(picture())
    with pytest.raises(ArtifactError, match="is not that of"):
        AdaptiveRunner(signed, public_key=others)


def test_measured_latencies_leave_it_valid_and_scores_do_not(path, tmp_path):
    mine, theirs = _pair(tmp_path, "maker")
    artifact = Artifact.open(path).signed(mine)
    found = measure(artifact, runs=5)
    artifact.with_table(with_latencies(artifact, found, threads=1, batch_size=1, runs=5))
    timed = Artifact.open(path, public_key=theirs)
    assert all(row.latency_ms for row in timed.table.rows)
    rows = [dataclasses.replace(row, score=99.0) for row in timed.table.rows]
    changed = timed.with_table(QueryTable.from_rows(rows, timed.table.meta))
    assert changed.signature is None  # it would not hold
    with pytest.raises(ArtifactError, match="it must be signed, and is not"):
        Artifact.open(path, public_key=theirs)


def test_a_forged_artifact_with_the_makers_signature_is_refused(path, tmp_path):
    """Whole by all checksums, with the signature of another content."""
    mine, theirs = _pair(tmp_path, "maker")
    signature = Artifact.open(path).signed(mine).signature
    artifact = Artifact.open(path)
    names = tuple(reversed(artifact.manifest.class_names))
    forged = artifact._written(
        dataclasses.replace(artifact.manifest, class_names=names),
        artifact.table,
        artifact.table.to_json().encode(),
        signature,
    )
    assert Artifact.open(path).manifest.class_names == names
    assert forged.signature == signature
    with pytest.raises(ArtifactError, match="its signature is not that of"):
        Artifact.open(path, public_key=theirs)


@pytest.mark.parametrize("signature", [b"", b"no base64 \xff", b"QUJD\n"])
def test_a_damaged_signature_is_refused(path, tmp_path, signature):
    mine, theirs = _pair(tmp_path, "maker")
    artifact = Artifact.open(path).signed(mine)
    artifact._written(
        artifact.manifest, artifact.table, artifact.table.to_json().encode(), signature
    )
    with pytest.raises(ArtifactError, match="its signature is not that of"):
        Artifact.open(path, public_key=theirs)


def test_a_folder_is_signed_too(path, tmp_path):
    mine, theirs = _pair(tmp_path, "maker")
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    Artifact.open(folder).signed(mine)
    assert Artifact.open(folder, public_key=theirs).signature is not None
    other = Artifact.open(folder).without([Artifact.open(folder).table.rows[0].subnet])
    assert other.signature is None
    assert not (folder / "manifest.sig").exists()


def test_what_is_no_key_is_named(path, tmp_path):
    other = X25519PrivateKey.generate().private_bytes(
        formats.Encoding.PEM, formats.PrivateFormat.PKCS8, formats.NoEncryption()
    )
    (tmp_path / "other").write_bytes(other)
    (tmp_path / "text").write_text("no key")
    for name in ("other", "text", "nothing"):
        with pytest.raises(ValueError, match=f"{name} must hold a private Ed25519 key"):
            Artifact.open(path).signed(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} must hold a public Ed25519 key"):
            Artifact.open(path, public_key=tmp_path / name)


def test_the_command_line_checks_it(path, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine, theirs = _pair(tmp_path, "maker")
    from PIL import Image

    Image.fromarray(picture()).save("a.png")
    assert main(["run", "m.mutualnet", "a.png", "--public-key", str(theirs)]) == 2
    assert "it must be signed, and is not" in capsys.readouterr().err
    Artifact.open(path).signed(mine)
    assert main(["run", "m.mutualnet", "a.png", "--public-key", str(theirs)]) == 0
    assert main(["info", "m.mutualnet"]) == 0
    assert "  signed: yes" in capsys.readouterr().out
