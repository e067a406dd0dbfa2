"""An artifact: one network with its configurations, its table and its weights, as one file."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mutualnet.budget import Budget
from mutualnet.image_paths import as_typed
from mutualnet.runtime.archive import Archive, write_archive
from mutualnet.runtime.manifest import MANIFEST, TABLE, ArtifactError, Configuration, Manifest
from mutualnet.runtime.signature import SIGNATURE, check_signature, sign, signed_content
from mutualnet.space import Subnet
from mutualnet.table import QueryTable, Row

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "MUTUALNET_CACHE"
"""Environment variable that names the folder where artifacts are unpacked."""


class _TemporaryFolder:
    """A folder that goes with the object, where that was made: forks of the process have it too."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="mutualnet-"))
        weakref.finalize(self, _remove_from, os.getpid(), self.path)


def _remove_from(process: int, folder: Path) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An artifact that was found whole. Make it with `open`."""

    path: Path
    """The file, or a folder with its content. Absolute, as `folder` is."""
    manifest: Manifest
    table: QueryTable
    """What its configurations score and cost; latencies are those of `mutualnet measure`."""
    folder: Path
    """Where its graphs and weights lie as files."""
    signature: bytes | None = None
    """Of all but the latencies; None if nobody signed it."""
    _temporary: _TemporaryFolder | None = None
    """Keeps a folder that is not in the cache for as long as the artifact lives."""

    @classmethod
    def open(
        cls, path: Path | str, *, cache: Path | None = None, public_key: Path | None = None
    ) -> Artifact:
        """Check an artifact and make it ready to run. Nothing in it is executed.

        A file's graphs and weights are unpacked into the cache, once for each content; a folder
        stays as it is.

        Args:
            path: What `mutualnet export` wrote, or a folder that it was unpacked into.
            cache: Folder to unpack into; by default that of `MUTUALNET_CACHE`, or `mutualnet` in
                the user's cache.
            public_key: File with the key of whoever must have signed it; None to take any.

        Raises:
            ArtifactError: If anything in it is damaged, missing or does not fit the rest, or was
                signed by another.
            ValueError: If the file holds no public key.
        """
        path = Path(path)
        try:
            with Archive(path) as archive:
                place = path.absolute()  # the process may go to another folder
                manifest = Manifest.from_json(_text(archive, MANIFEST))
                table = _read_table(archive, manifest)
                signature = archive.read(SIGNATURE) if archive.holds(SIGNATURE) else None
                if public_key is not None:
                    check_signature(signed_content(manifest, table), signature, public_key)
                names = [name for name in manifest.files if name != TABLE]
                if archive.is_folder:
                    for name in names:
                        _check_content(archive.path / name, name, manifest)
                    return cls(
                        path=place,
                        manifest=manifest,
                        table=table,
                        folder=place,
                        signature=signature,
                    )
                folder, temporary = _unpacked(archive, manifest, names, cache)
        except ArtifactError as error:
            raise ArtifactError(
                f"{path} must be an artifact of `mutualnet export`: {error}. Copy it again, or "
                "export it again."
            ) from None
        return cls(
            path=place,
            manifest=manifest,
            table=table,
            folder=folder,
            signature=signature,
            _temporary=temporary,
        )

    @property
    def name(self) -> str:
        """Its path for people: relative where it lies below the folder that the process is in."""
        with suppress(ValueError, OSError):
            return str(self.path.relative_to(Path.cwd()))
        return str(self.path)

    def configuration(self, subnet: Subnet) -> Configuration:
        """The configuration of a sub-network.

        Raises:
            ValueError: If the artifact has none.
        """
        for configuration in self.manifest.configurations:
            if configuration.subnet == subnet:
                return configuration
        have = ", ".join(str(c.subnet) for c in self.manifest.configurations)
        raise ValueError(f"the artifact must hold {subnet}, got {have}")

    def require_signature(self, public_key: Path) -> None:
        """Check that the owner of a key signed the artifact as it was opened.

        Raises:
            ArtifactError: If another or nobody did.
            ValueError: If the file holds no public key.
        """
        try:
            check_signature(signed_content(self.manifest, self.table), self.signature, public_key)
        except ArtifactError as error:
            raise ArtifactError(f"{self.name} must be signed by its maker: {error}") from None

    def choose(self, budget: Budget) -> Row:
        """The best configuration within a budget, of equals the cheapest; without one the best.

        Raises:
            ValueError: If nothing meets the budget, or it asks for a latency that was not measured.
        """
        if budget == Budget():
            return self.table.top
        if budget.latency_ms is not None and any(r.latency_ms is None for r in self.table.rows):
            raise ValueError(
                f"a budget of {budget} needs measured latencies, which {self.name} has none of. "
                f"Measure them on this device: mutualnet measure {as_typed(self.name)}"
            )
        return self.table.best(macs=budget.macs, latency_ms=budget.latency_ms)

    def with_table(self, table: QueryTable) -> Artifact:
        """Write another table of the same configurations into the artifact.

        Raises:
            ValueError: If it has other configurations.
            OSError: If the artifact cannot be written.
        """
        return self._rewritten(self.manifest, table)

    def without(self, subnets: Collection[Subnet]) -> Artifact:
        """Write the artifact without some of its configurations, their graphs and their rows.

        Raises:
            ValueError: If none is left.
            OSError: If the artifact cannot be written.
        """
        kept = tuple(c for c in self.manifest.configurations if c.subnet not in subnets)
        if not kept:
            raise ValueError("an artifact must hold at least one configuration, got none left")
        graphs = {c.graph for c in self.manifest.configurations} - {c.graph for c in kept}
        files = {n: digest for n, digest in self.manifest.files.items() if n not in graphs}
        rows = [row for row in self.table.rows if row.subnet not in subnets]
        manifest = replace(self.manifest, configurations=kept, files=files)
        changed = self._rewritten(manifest, QueryTable.from_rows(rows, self.table.meta))
        if self.path.is_dir():
            for name in graphs:
                (self.path / name).unlink(missing_ok=True)
        return changed

    def _rewritten(self, manifest: Manifest, table: QueryTable) -> Artifact:
        """Write manifest and table; all other files stay as they are."""
        content = table.to_json().encode()
        files = {**manifest.files, TABLE: hashlib.sha256(content).hexdigest()}
        manifest = replace(manifest, files=files)
        _check_rows(table, manifest)
        same = signed_content(manifest, table) == signed_content(self.manifest, self.table)
        return self._written(manifest, table, content, self.signature if same else None)

    def signed(self, private_key: Path) -> Artifact:
        """Write a signature into the artifact, which holds whatever latencies are measured.

        Args:
            private_key: File with an Ed25519 key, see `sign`.

        Raises:
            ValueError: If the file holds no such key.
            OSError: If the artifact cannot be written.
        """
        signature = sign(signed_content(self.manifest, self.table), private_key)
        content = self.table.to_json().encode()
        return self._written(self.manifest, self.table, content, signature)

    def _written(
        self, manifest: Manifest, table: QueryTable, content: bytes, signature: bytes | None
    ) -> Artifact:
        small = {TABLE: content, MANIFEST: manifest.to_json().encode()}
        small |= {} if signature is None else {SIGNATURE: signature}
        if self.path.is_dir():
            # The old table stays whole until the new one is; in between the two do not fit, which
            # a reader is told.
            for name, new in small.items():
                partial = self.path / f".{name}.{os.getpid()}.partial"
                partial.write_bytes(new)
                partial.replace(self.path / name)
            if signature is None:
                (self.path / SIGNATURE).unlink(missing_ok=True)
        else:
            rest = {name: self.folder / name for name in manifest.files if name != TABLE}
            write_archive(self.path, {**small, **rest})
        return replace(self, manifest=manifest, table=table, signature=signature)


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(archive: Archive, name: str) -> str:
    try:
        return archive.read(name).decode("utf-8")
    except UnicodeDecodeError:
        raise ArtifactError(f"{name} is not UTF-8 text") from None


def _read_table(archive: Archive, manifest: Manifest) -> QueryTable:
    content = archive.read(TABLE)
    if hashlib.sha256(content).hexdigest() != manifest.files[TABLE]:
        raise ArtifactError(f"{TABLE} is damaged: its SHA-256 is not the manifest's")
    try:
        table = QueryTable.from_json(content.decode("utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{TABLE}: {error}") from None
    _check_rows(table, manifest)
    return table


def _check_rows(table: QueryTable, manifest: Manifest) -> None:
    rows = {row.subnet for row in table.rows}
    graphs = {c.subnet for c in manifest.configurations}
    if rows != graphs or len(table.finished) < len(table.rows):
        raise ArtifactError(f"{TABLE} must have one finished row for each configuration")


def _check_content(path: Path, name: str, manifest: Manifest) -> None:
    if not path.is_file():
        raise ArtifactError(f"{name} is missing")
    if digest_of(path) != manifest.files[name]:
        raise ArtifactError(f"{name} is damaged: its SHA-256 is not the manifest's")


def _cache_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()  # no shell does where a service or container sets it
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mutualnet"


def _unpacked(
    archive: Archive, manifest: Manifest, names: Iterable[str], cache: Path | None
) -> tuple[Path, _TemporaryFolder | None]:
    """Where the files lie as files, and what keeps them there if that is not the cache."""
    names = sorted(names)
    key = hashlib.sha256("".join(f"{n}\0{manifest.files[n]}\n" for n in names).encode())
    try:
        parent = (cache or _cache_folder()).absolute()
        folder = parent / key.hexdigest()
        if _is_whole(folder, names, manifest):
            return folder, None
        if not _is_ours(folder):
            return _unpacked_elsewhere(archive, manifest, names, f"{folder} is another user's")
        parent.mkdir(parents=True, exist_ok=True)
        # The umask gives its mode: others may share the cache.
        partial = parent / f".{key.hexdigest()[:16]}-{secrets.token_hex(8)}"
        partial.mkdir()
    except (OSError, RuntimeError) as error:  # no home, or one that cannot be written
        return _unpacked_elsewhere(archive, manifest, names, str(error))
    broken = partial.with_name(f"{partial.name}-broken")
    try:
        _unpack(archive, manifest, names, partial)
        is_broken = folder.exists() and not _is_whole(folder, names, manifest)
        if is_broken and _is_ours(folder):
            # Moved before it is removed, so that nothing is removed that another process has just
            # put there.
            with suppress(OSError):
                folder.rename(broken)
        # Another process may have been faster; its content is the same.
        with suppress(OSError):
            partial.rename(folder)
    finally:
        for path in (partial, broken):
            shutil.rmtree(path, ignore_errors=True)
    if not _is_whole(folder, names, manifest):
        return _unpacked_elsewhere(archive, manifest, names, f"{folder} is damaged")
    return folder, None


def _unpacked_elsewhere(
    archive: Archive, manifest: Manifest, names: Iterable[str], reason: str
) -> tuple[Path, _TemporaryFolder]:
    temporary = _TemporaryFolder()
    logger.info(
        "unpacking to a temporary folder: the cache cannot be used (%s); %s names another",
        reason,
        CACHE_VARIABLE,
    )
    _unpack(archive, manifest, names, temporary.path)
    return temporary.path, temporary


def _is_whole(folder: Path, names: Iterable[str], manifest: Manifest) -> bool:
    try:
        return all(digest_of(folder / name) == manifest.files[name] for name in names)
    except OSError:
        return False


def _is_ours(folder: Path) -> bool:
    """Whether a folder of the cache may be replaced, or is not there."""
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        return True
    if hasattr(os, "geteuid") and owner != os.geteuid():
        return False
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def _unpack(archive: Archive, manifest: Manifest, names: Iterable[str], folder: Path) -> None:
    for name in names:
        path = folder / name
        with path.open("wb") as out:
            archive.copy(name, out)
        _check_content(path, name, manifest)
