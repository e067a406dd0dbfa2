"""Artifacts of clips: a video in, an action out, without PyTorch and as PyTorch has it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mutualnet import ElasticSpace, Subnet, Supernet, calibrate
from mutualnet.clip_steps import ClipSampling, view_crops, views_of_crops
from mutualnet.data import photo_transform, video_views
from mutualnet.export import ArtifactInfo, write_artifact
from mutualnet.export.quantization import QuantizationData
from mutualnet.runtime import (
    AdaptiveRunner,
    Artifact,
    ArtifactError,
    Manifest,
    read_labelled,
    score_images,
)
from mutualnet.runtime import runner as runner_module
from mutualnet.tasks import ActionRecognition
from tests.small_artifact import small_table
from tests.videos import write_video

NAMES = ("jump", "run", "sit")
SPACE = ElasticSpace(width_range=(0.5, 1.0), width_step=0.5, resolutions=(32, 24), frames=(6, 4))
SAMPLING = ClipSampling(num_frames=6, stride=2, num_clips=2, num_crops=3)


class Small(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(3, 16, (3, 5, 5), (1, 2, 2), 1, bias=False),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.Conv3d(16, 16, 3, 1, 1, groups=16),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(16, len(NAMES)),
        )


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = Supernet(Small(), SPACE).eval()
    batch = torch.randn(4, 3, 6, 32, 32), torch.zeros(4, dtype=torch.long)
    calibrate(net, [batch], SPACE.grid(), task=ActionRecognition(), data_id="n", num_samples=4)
    return net


@pytest.fixture(scope="module")
def artifact(net, tmp_path_factory):
    place = tmp_path_factory.mktemp("clips") / "clips.mutualnet"
    table = small_table(net, SPACE.grid())
    info = ArtifactInfo(
        task="action_recognition",
        class_names=NAMES,
        preprocessing=photo_transform("video_folder", 32),
        clips=SAMPLING,
        provenance={},
    )
    clips = torch.randn(2, 3, 6, 32, 32, generator=torch.Generator().manual_seed(1))
    write_artifact(place, net, table, table.rows, info, clips)
    return place


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (20, 6, 8, 3), dtype=np.uint8)
    return write_video(path, list(coarse.repeat(8, 1).repeat(8, 2)))


@pytest.mark.parametrize("subnet", SPACE.grid(), ids=str)
def test_a_video_gives_what_pytorch_gives(net, artifact, video, subnet):
    found = AdaptiveRunner(artifact).run(video, subnet)[0].probabilities
    preprocessing = photo_transform("video_folder", 32)
    views = video_views(video, preprocessing, num_frames=6, stride=2, num_clips=2, num_crops=3)
    task, module = ActionRecognition(), net.extract(subnet)
    batch = task.scale((views[None], torch.zeros(1, dtype=torch.long)), subnet)
    with torch.inference_mode():
        expected = task.probabilities(task.run(module, batch))[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_inputs_equal_those_of_pytorch(artifact, video):
    runner = AdaptiveRunner(artifact)
    expected = video_views(
        video,
        photo_transform("video_folder", 32),
        num_frames=6,
        stride=2,
        num_clips=2,
        num_crops=3,
    )
    np.testing.assert_allclose(runner.inputs(video), expected.numpy(), atol=1e-5)


def test_the_manifest_tells_the_clips_and_older_readers_are_told_apart(artifact):
    manifest = Artifact.open(artifact).manifest
    assert manifest.clips == SAMPLING
    assert manifest.input_shape == (3, 6, 32, 32)
    assert manifest.kind == "video"
    values = json.loads(manifest.to_json())
    assert values["format_version"] == 2
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": {"num_frames": 0}}, "num_frames must be a whole number >= 1, got 0"),
        ({"clips": {"frames": 2}}, "is not whole"),
        ({"clips": None}, "clips in manifest.json must be an object, got None"),
        ({"task": "classification"}, "task in manifest.json must fit the format version"),
    ],
)
def test_clips_that_make_no_sense_are_refused(artifact, changes, message):
    from mutualnet.runtime.manifest import _digest

    values = json.loads(Artifact.open(artifact).manifest.to_json()) | changes
    del values["sha256"]
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_json(json.dumps({**values, "sha256": _digest(values)}))


def test_what_is_no_video_is_named(artifact, tmp_path):
    runner = AdaptiveRunner(artifact)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4 must be a video that can be read"):
        runner.run(text)
    with pytest.raises(ValueError, match="there is no video file"):
        runner.run(tmp_path / "nowhere.mp4")
    with pytest.raises(TypeError, match="a video must be given by its file, got ndarray"):
        runner.run(np.zeros((4, 4, 3), np.uint8))


def test_views_run_in_batches_of_the_runner_and_change_nothing(artifact, video, monkeypatch):
    sizes, inner = [], runner_module.run_session

    def counting(artifact, configuration, session, batch):
        sizes.append(len(batch))
        return inner(artifact, configuration, session, batch)

    monkeypatch.setattr(runner_module, "run_session", counting)
    expected = AdaptiveRunner(artifact).run([video, video])
    assert sizes == [6, 6]
    sizes.clear()
    found = AdaptiveRunner(artifact, batch_size=4).run([video, video])
    assert sizes == [4, 2, 4, 2]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
    none = AdaptiveRunner(artifact)
    assert none.logits(none.inputs(video)[None][:0], SPACE.largest).shape == (0, len(NAMES))


def test_videos_are_held_by_the_bytes_of_their_views(artifact, video, tmp_path, monkeypatch):
    for name in NAMES:
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "a.mp4").write_bytes(video.read_bytes())
    runner = AdaptiveRunner(artifact, threads=1)
    one_video = 4 * 6 * np.prod(runner.artifact.manifest.input_shape)
    monkeypatch.setattr("mutualnet.runtime.scoring._MAX_BYTES", int(2.5 * one_video))
    counted = []
    data = read_labelled(tmp_path, runner.artifact.manifest)
    score_images(runner, data, [SPACE.smallest], advance=counted.append)
    assert counted == [2, 1]


def test_the_commands_of_a_device_run_it(artifact, video, tmp_path):
    for name in NAMES:
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / f"{name}.mp4").write_bytes(video.read_bytes())

    def call(*words: object) -> str:
        command = [sys.executable, "-m", "mutualnet", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout

    smallest = SPACE.smallest
    out = call("run", artifact, tmp_path / "val", "--budget", "1G", "--json")
    assert len(json.loads(out)["predictions"]) == 3
    out = call("evaluate", artifact, tmp_path, "--configs", str(smallest))
    assert "3 videos" in out
    out = call("measure", artifact, "--runs", "5")
    assert "1 clip at a time" in out
    assert "2 x 3 views" in call("info", artifact)


def test_one_view_without_crops_is_the_centre():
    grey = np.full((8, 12, 3), 100, np.uint8)
    steps = photo_transform("video_folder", 8)
    sampling = ClipSampling(num_frames=2, num_clips=1)
    views = views_of_crops([view_crops(steps, sampling)(grey)] * 2, sampling)
    assert views.shape == (1, 3, 2, 8, 8)


def test_subnets_have_frames_in_the_table(artifact):
    names = {str(c.subnet) for c in Artifact.open(artifact).manifest.configurations}
    assert str(Subnet(width_mult=0.5, resolution=24, num_frames=4)) in names


def test_int8_scores_videos_over_their_views(net, tmp_path):
    task = ActionRecognition()
    views = torch.randn(2, 2, 3, 6, 32, 32, generator=torch.Generator().manual_seed(2))
    batch = views, torch.tensor([0, 1])
    data = QuantizationData(
        calibration=views.flatten(0, 1).numpy(), splits={"select": lambda: [batch]}, task=task
    )
    table = small_table(net, [SPACE.largest])
    info = ArtifactInfo(
        task="action_recognition",
        class_names=NAMES,
        preprocessing=photo_transform("video_folder", 32),
        clips=ClipSampling(num_frames=6, num_clips=2),
        provenance={},
    )
    place = tmp_path / "int8.mutualnet"
    write_artifact(place, net, table, table.rows, info, views[:, 0], int8=data)
    rows = {str(row.subnet): row for row in Artifact.open(place).table.rows}
    assert rows[f"{SPACE.largest} int8"].num_samples == 2
