"""A manifest is read back as it was written, or refused."""

from __future__ import annotations

import json

import pytest

from mutualnet.runtime import ArtifactError, Manifest
from mutualnet.runtime.manifest import _digest


def test_what_is_written_is_read(artifact):
    text = artifact.manifest.to_json()
    assert Manifest.from_json(text) == artifact.manifest
    assert Manifest.from_json(text).to_json() == text


def _signed(values):
    values = {name: value for name, value in values.items() if name != "sha256"}
    return json.dumps({**values, "sha256": _digest(values)})


def _changed(text, path, value):
    """The manifest with another value somewhere and a checksum that fits."""
    values = json.loads(text)
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return _signed(values)


CHANGES = [
    (("task",), "detection", "task in manifest.json must be one of"),
    (("class_names",), [], "class_names in manifest.json must be a list of names"),
    (("class_names",), ["a", 3], "class_names in manifest.json must be a list of names"),
    (("input", "channels"), 0, "input.channels in manifest.json must be a whole number"),
    (("input", "resolution"), True, "input.resolution in manifest.json must be a whole number"),
    (("preprocessing",), [], "preprocessing must be a list of steps"),
    (("preprocessing", 0, "step"), "run", "a step of preprocessing must be"),
    (("preprocessing", -1), {"step": "task_scaling", "task": "a:b"}, "preprocessing in manifest"),
    (("configurations",), [], "configurations in manifest.json must be at least one"),
    (("configurations", 0, "graph"), "../x.onnx", "the graph of a configuration"),
    (("configurations", 0, "num_bytes"), -1, "num_bytes in manifest.json must be"),
    (("configurations", 0, "batch_size"), 0, "batch_size in manifest.json must be"),
    (("configurations", 0, "max_difference"), "no", "max_difference in manifest.json must be"),
    (("configurations", 0, "max_difference"), 10**400, "is not whole"),
    (("configurations", 0, "subnet", "resolution"), 10**400, r"resolution must lie below 2\*\*53"),
    (("input", "resolution"), 10**400, "input.resolution in manifest.json must be a whole number"),
    (("configurations", 0, "subnet"), {"width": 1}, "a Subnet has no field 'width'"),
    (("configurations", 0), 3, "a configuration in manifest.json must be an object"),
    (("files",), {"../x": "0" * 64}, "files in manifest.json must have plain names"),
    (("files",), {"x": "0"}, "the checksum of x in manifest.json must be a SHA-256"),
    (("files",), {}, "files in manifest.json must hold table.json and weights.bin"),
    (("provenance",), [], "provenance in manifest.json must be an object"),
    (("format_version",), 3, "this version reads 1 and 2: update mutualnet, or export again"),
    (("format",), "other", "must be of format 'mutualnet.artifact'"),
]


@pytest.mark.parametrize(("path", "value", "message"), CHANGES, ids=lambda v: str(v)[:40])
def test_what_does_not_hold_is_named(artifact, path, value, message):
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_json(_changed(artifact.manifest.to_json(), path, value))


def test_two_equal_configurations_are_refused(artifact):
    values = json.loads(artifact.manifest.to_json())
    values["configurations"].append(values["configurations"][0])
    with pytest.raises(ArtifactError, match=r"configurations in manifest\.json must differ"):
        Manifest.from_json(_signed(values))


@pytest.mark.parametrize("key", ["task", "class_names", "input", "configurations", "files"])
def test_what_is_missing_is_named(artifact, key):
    values = json.loads(artifact.manifest.to_json())
    del values[key]
    with pytest.raises(ArtifactError, match=f"manifest.json is not whole .*{key}"):
        Manifest.from_json(_signed(values))


def test_an_edit_without_its_checksum_is_refused(artifact):
    text = artifact.manifest.to_json()
    edited = text.replace('"a",\n  "b"', '"b",\n  "a"')
    assert edited != text
    with pytest.raises(ArtifactError, match=r"manifest\.json was changed"):
        Manifest.from_json(edited)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "null", '{"format": 3}', "\ud800"])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        Manifest.from_json(text)
