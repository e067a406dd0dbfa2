"""Which images choose the table's winners, and that every place says so."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mutualnet import QueryTable
from mutualnet.cli import main
from mutualnet.commands import make_table, predict
from mutualnet.config.data import DataConfig
from mutualnet.data import load_data
from mutualnet.selection import Selection
from mutualnet.training.setup import load_splits
from mutualnet.training.train import train
from tests.fixtures import WRITERS
from tests.small_runs import digits


@pytest.mark.parametrize("name", ["digits", *WRITERS])
def test_all_train_images_can_be_used(tmp_path, name):
    path = tmp_path if name in WRITERS else None
    if path is not None:
        WRITERS[name](path)
    held_out = load_data(name, path, resolution=8, select_share=0.34)
    whole = load_data(name, path, resolution=8, select_share=0)
    assert held_out.selection == Selection(kind="held_out", share=0.34)
    assert whole.selection == Selection(kind="trained", share=0.1)
    assert len(whole.train) == len(held_out.train) + len(held_out.select)
    assert len(whole.test) == len(held_out.test)
    labels, tenth = whole.train.labels, len(whole.train) / 10
    assert tenth - len(whole.class_names) <= len(whole.select) <= tenth + len(whole.class_names)
    assert np.array_equal(whole.select.labels, labels[whole.select.positions])
    assert whole.data_id != held_out.data_id


def test_what_chooses_was_trained_on_in_a_part_of_train_too():
    part = load_data("digits", resolution=8, select_share=0, train_share=0.2)
    trained = set(part.train.images.positions[part.train.positions].tolist())
    chosen = part.select.images.images.positions[part.select.images.positions]
    chosen = set(chosen[part.select.positions].tolist())
    assert chosen < trained
    assert len(chosen) < 0.2 * len(trained)


def test_test_chooses_only_when_it_is_forced(photos):
    forced = load_data("imagefolder", photos, resolution=8, select_share=0, select_from="test")
    assert forced.select is forced.test
    assert forced.selection == Selection(kind="test")
    assert len(forced.train) == 30
    for make in (
        lambda: load_data("digits", resolution=8, select_from="test"),
        lambda: DataConfig(name="digits", select_from="test"),
    ):
        with pytest.raises(ValueError, match=r"select_share=0\.1 of train unused. Set .*share=0"):
            make()
    with pytest.raises(ValueError, match="select_from must be train or test, got 'val'"):
        load_data("digits", resolution=8, select_share=0, select_from="val")


def test_a_folder_for_it_chooses_whatever_the_share(photos):
    (photos / "val").rename(photos / "test")
    WRITERS["imagefolder"](photos / "more")
    for name in ("cat", "dog"):
        (photos / "val" / name).mkdir(parents=True)
        (photos / "more" / "val" / "n00000000" / f"{int(name == 'dog')}.jpg").rename(
            photos / "val" / name / "1.jpg"
        )
    splits = load_data("imagefolder", photos, resolution=8, select_share=0)
    assert splits.selection == Selection(kind="folder")
    assert (len(splits.train), len(splits.select), len(splits.test)) == (30, 2, 7)


@pytest.mark.parametrize(
    ("setting", "kind", "says"),
    [
        ("data.select_from=train", "trained", "10 % of train, which the network was trained on"),
        ("data.select_from=test", "test", "the test split, which then tells nothing about new"),
    ],
)
def test_run_and_table_say_what_chose(tmp_path, capsys, caplog, setting, kind, says):
    quick = ("space={width_range: [1.0, 1.0], resolutions: [8]}", "table.latency_runs=0")
    recipe = digits("data.select_share=0", setting, "table.num_calibration_samples=64", *quick)
    caplog.set_level("INFO")
    run = train(recipe, tmp_path / "run", limit_steps=2)
    assert says in caplog.text
    assert json.loads((run / "run.json").read_text())["select"]["kind"] == kind
    table = make_table(run)
    told = capsys.readouterr().out
    assert f"sub-networks on {says}" in told
    assert f"Chosen on {says}" in told
    assert f"{Selection(kind=kind).suffix} " in told  # the heading may be wrapped
    assert QueryTable.load(run / "table.json").meta["select"]["kind"] == kind
    image = tmp_path / "image.png"
    Image.new("L", (8, 8)).save(image)
    predict(run, [image], budget=None)
    assert re.search(rf"(score|,) \d+\.\d{Selection(kind=kind).suffix}\n", capsys.readouterr().out)
    (row,) = table.rows
    assert (row.test_score is None) == (kind == "test")
    assert row.num_samples == {"trained": 136, "test": 450}[kind]


def test_a_selection_is_read_back_and_checked():
    for kind in ("held_out", "folder", "trained", "test"):
        one = Selection(kind=kind, share=0.25 if kind != "test" else None)
        assert Selection.of({"select": one.to_dict()}) == one
    assert Selection.of({}) == Selection()
    with pytest.raises(ValueError, match="kind must be one of"):
        Selection(kind="luck")
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        Selection(share=2)
    for broken in ({"of": 1}, 3):
        with pytest.raises(ValueError, match="select must tell kind and share"):
            Selection.of({"select": broken})


# --------------------------------------------------------------------------- shares and messages


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"select_share": 0.9999}, r"select_share=0\.9999 leaves nothing to train on: .* Lower it"),
        ({"train_share": 0.0001}, r"train_share=0\.0001 leaves nothing to train on: .* Raise it"),
        ({"train_share": 0.0}, r"train_share must lie in \(0, 1\]"),
    ],
)
def test_shares_that_leave_nothing_to_train_on_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load_data("digits", resolution=8, **settings)


def test_the_share_of_damaged_photos_is_a_setting(photos):
    recipe = digits()
    data = replace(recipe.data, name="imagefolder", path=str(photos), max_damaged_share=0.25)
    splits = load_splits(replace(recipe, data=data))
    assert splits.train.max_damaged_share == 0.25
    for index in range(8):
        splits.train.path(index).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"or raise data\.max_damaged_share"):
        list(splits.train)
    with pytest.raises(ValueError, match="digits has no option 'max_damaged_share'"):
        load_splits(digits("data.max_damaged_share=0.5"))
    with pytest.raises(ValueError, match=r"max_damaged_share must lie in \[0, 1\)"):
        DataConfig(name="digits", max_damaged_share=1)


def test_a_missing_path_is_told_in_whole_sentences(tmp_path, capfd):
    words = ["train", "imagefolder_mobilenet_v1", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "got None. The path is given by --data." in capfd.readouterr().err
