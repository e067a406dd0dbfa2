"""Archives of strangers: no file leaves the folder, none comes twice."""

from __future__ import annotations

import errno
import stat
import zipfile

import pytest

from mutualnet.runtime import Artifact, ArtifactError, replaced_when_whole, write_archive
from tests.small_artifact import content_of, write_zip

TRICKS = {
    "leaves the folder": [("../evil", b"x")],
    "absolute": [("/etc/evil", b"x")],
    "in a folder": [("a/b", b"x")],
    "backslash": [("a\\b", b"x")],
    "hidden": [(".evil", b"x")],
    "drive": [("C:evil", b"x")],
}


@pytest.mark.parametrize("name", TRICKS)
def test_names_that_leave_the_folder_are_refused(artifact_file, tmp_path, name):
    out = tmp_path / "m.mutualnet"
    write_zip(out, [*content_of(artifact_file).items(), *TRICKS[name]])
    with pytest.raises(ArtifactError, match="its files must have plain names"):
        Artifact.open(out)
    assert not (tmp_path / "evil").exists()


def test_names_that_come_twice_are_refused(artifact_file, tmp_path):
    out = tmp_path / "m.mutualnet"
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(out, [*content_of(artifact_file).items(), ("manifest.json", b"{}")])
    with pytest.raises(ArtifactError, match=r"it holds manifest\.json twice"):
        Artifact.open(out)


def test_links_are_refused(artifact_file, tmp_path):
    out = tmp_path / "m.mutualnet"
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    write_zip(out, [*content_of(artifact_file).items(), (link, "/etc/passwd")])
    with pytest.raises(ArtifactError, match="its files must be plain files, link is not"):
        Artifact.open(out)


def test_compressed_files_are_refused(artifact_file, tmp_path):
    """A few bytes may unpack to any number of them."""
    out = tmp_path / "m.mutualnet"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in content_of(artifact_file).items():
            archive.writestr(name, content)
    with pytest.raises(ArtifactError, match="must be stored as they are"):
        Artifact.open(out)


def test_other_files_are_refused(tmp_path):
    for name, content in (("a", b""), ("b", b"no zip"), ("c", b"PK\x05\x06" + bytes(18))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match="must be an artifact of `mutualnet export`"):
            Artifact.open(tmp_path / name)
    with pytest.raises(ArtifactError, match="there is no such file"):
        Artifact.open(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing"):
        Artifact.open(tmp_path)


def test_what_a_link_leads_to_is_replaced_and_keeps_its_mode(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.zip", tmp_path / "link.zip"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to(real)
    write_archive(link, {"a": b"new"})
    assert link.is_symlink()
    assert content_of(real) == {"a": b"new"}
    assert real.stat().st_mode & 0o777 == 0o600
    assert list(real.parent.iterdir()) == [real]


def test_a_file_that_is_no_folder_is_what_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        write_archive(tmp_path / "file" / "a.zip", {})


def test_where_room_is_needed_is_told_once(tmp_path):
    out = tmp_path / "a.txt"
    out.write_text("old")
    with pytest.raises(OSError, match="No space left") as caught:  # noqa: SIM117
        with replaced_when_whole(out) as outer, replaced_when_whole(outer):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.__notes__ == [f"It is {tmp_path.resolve()} that needs room."]
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
