"""A network for videos, as a user types it: trained, tabulated, asked what a clip shows."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from mutualnet.cli import main
from mutualnet.data import load_data
from mutualnet.run_directory import load_run, read_record
from mutualnet.tasks import ActionRecognition
from mutualnet.training.finish import describe_scores
from mutualnet.video_files import read_frames
from tests.videos import grey_frames, write_class_video, write_video, write_video_folder

QUICK = [
    "model.kwargs={depths: [1, 1], channels: [8, 16], dropout: 0.0}",
    "space.width_step=0.5",
    "table.num_calibration_samples=16",
    "table.latency_runs=2",
    "compute.precision=fp32",
    "data.batch_size=6",
    "optimizer.lr=0.1",
    "data.select_share=0.25",
    "watch={every_epochs: 1, num_calibration_samples: 16}",
    "clips.num_clips=2",
    "clips.stride=3",
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video_folder(folder, train=8)
    return folder


@pytest.fixture(scope="module")
def run(videos, tmp_path_factory):
    """A run of a few epochs with its table."""
    out = tmp_path_factory.mktemp("runs") / "run"
    words = ["train", "ucf6_x3d", "--data", str(videos), "--out", str(out), "--epochs", "12"]
    words += ["--resolutions", "32", "24", "--frames", "4", "2", "--set", *QUICK]
    assert main(words) == 0
    assert main(["table", str(out), "--full"]) == 0
    return out


@pytest.fixture
def clip(tmp_path):
    return write_class_video(tmp_path / "clip.mp4", 1, 999)


def test_the_table_has_every_width_resolution_and_number_of_frames(run):
    table = read_record(run).table
    found = {(r.subnet.width_mult, r.subnet.resolution, r.subnet.num_frames) for r in table.rows}
    assert found == {(w, s, f) for w in (0.5, 1.0) for s in (32, 24) for f in (4, 2)}
    cost = {row.subnet: row.macs for row in table.rows}
    for subnet, macs in cost.items():
        if subnet.num_frames == 4:
            assert macs > 1.5 * next(
                other
                for smaller, other in cost.items()
                if (smaller.width_mult, smaller.resolution, smaller.num_frames)
                == (subnet.width_mult, subnet.resolution, 2)
            )
    assert max(row.test_score or 0 for row in table.rows) >= 80
    assert (table.rows[0].latency_ms or 0) > 0


def test_scores_after_training_count_videos(run):
    assert re.fullmatch(
        r"select top-1 accuracy \(%\), (\d+) of \1 videos:", describe_scores(run)[0]
    )


def test_predict_names_the_action_within_a_budget(run, clip, capsys):
    dearest = max(row.macs for row in read_record(run).table.finished)
    capsys.readouterr()
    budget = f"{dearest / 2e9:.6f}G"
    assert main(["predict", str(run), str(clip), "--budget", budget, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["macs"] <= dearest / 2
    assert document["views"] == 2
    assert document["configuration"]["num_frames"] in (2, 4)
    (found,) = document["predictions"]
    assert found["class"] == "action1"
    assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert main(["predict", str(run), str(clip)]) == 0
    said = capsys.readouterr().out
    assert "for each of 2 views" in said.replace("\n", " ")
    assert f"{clip}: action1" in said.replace("\n", " ")


def test_predict_sees_what_evaluation_saw(run, videos):
    """The same views of a file, and the same outputs, as those of the test split."""
    loaded = load_run(run)
    data = load_data("video_folder", videos, resolution=32, **loaded.recipe.clip_options)
    task = ActionRecognition()
    for index in (0, 3):
        batch = task.read(data.test.path(index), loaded.preprocessing, loaded.recipe.clip_options)
        np.testing.assert_array_equal(batch[0][0], data.test[index][0])


def test_folders_of_videos_and_copies_with_the_action_on_them(run, clip, tmp_path, capsys):
    folder = tmp_path / "more"
    folder.mkdir()
    shutil.copy(clip, folder / "b.mp4")
    (folder / "photo.png").write_text("no video")
    write_video(folder / "a.avi", grey_frames(12, 64, 64), rate=10)
    out = tmp_path / "seen"
    assert main(["predict", str(run), str(folder), "-o", str(out), "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert sorted(path.name for path in out.iterdir()) == ["a.avi", "b.mp4"]
    before, after = (
        read_frames(place, lambda times: range(12)).frames
        for place in (folder / "a.avi", out / "a.avi")
    )
    for one, other in zip(before, after, strict=True):
        assert np.abs(one[40:].astype(int) - other[40:]).mean() < 12  # the lower part is the same
    assert max(frame[:12].max() for frame in after[:3]) > 150  # white letters on dark frames


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "must be a video that can be read, got .*Invalid data"),
        ("nothing", "no video file"),
        ("one frame", r"at least 2 frames, got 1: is it an image\?"),
    ],
)
def test_bad_input_gets_one_clear_line(run, tmp_path, capsys, kind, message):
    path = tmp_path / "bad.mp4"
    if kind == "text":
        path.write_text("not a video")
    elif kind == "one frame":
        write_video(path, grey_frames(1))
    capsys.readouterr()
    assert main(["predict", str(run), str(path)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert re.search(message, said.replace("\n", " "))


def test_a_video_that_is_cut_off_is_read_with_a_warning(run, tmp_path, caplog):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(40)]
    path = write_video(tmp_path / "a.avi", pixels)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main(["predict", str(run), str(path)]) == 0
    assert f"{path} is read as far as it goes: it ends after" in caplog.text


def test_an_image_recipe_has_no_clips(capsys):
    assert main(["train", "digits_demo", "--limit-steps", "1", "--frames", "4", "--dry-run"]) == 2
    assert "digits has no option 'num_clips'" in capsys.readouterr().err.replace("\n", " ")
