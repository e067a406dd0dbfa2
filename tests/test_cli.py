"""The commands as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet import commands, prediction
from mutualnet.cli import main
from mutualnet.config import RecipeChanges
from mutualnet.config.serialization import override, read_recipe, write_recipe
from mutualnet.messages import ReportedElsewhereError
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run
from tests.fixtures import write_folders
from tests.small_runs import StoppedError, stop_after


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A digits run of a few steps with its table."""
    out = tmp_path_factory.mktemp("runs") / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "8"]
    words += ["--epochs", "2", "--seed", "1", "--set"]
    words += ["model.kwargs={depth: 10, width_factor: 1}", "space.resolutions=[12, 8]"]
    words += ["space.width_step=0.25", "compute.precision=fp32"]
    words += ["compute.memory_format=contiguous", "table.num_calibration_samples=64"]
    assert main([*words, "table.latency_runs=2"]) == 0
    assert main(["table", str(out)]) == 0
    return out


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _line(capsys, words: list[str], status: int = 2) -> str:
    """What a command that fails says: one line, no traceback."""
    capsys.readouterr()
    assert main(words) == status
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("mutualnet: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0]


def test_the_table_holds_the_grid_and_the_files_are_there(run):
    content = json.loads((run / "table.json").read_text())
    assert len(content["rows"]) == 4 * 2
    for name in ("table.csv", "bn_bank.safetensors", "frontier.png"):
        assert (run / name).stat().st_size > 0
    assert not list(run.glob("*.partial"))


def test_predict_names_the_subnetwork_and_the_classes(run, photo, capsys):
    content = json.loads((run / "table.json").read_text())
    dearest = max(row["macs"] for row in content["rows"])
    for words in ([], ["--budget", f"{dearest / 1e6 + 1}M"], ["--budget", "10s"]):
        capsys.readouterr()
        assert main(["predict", str(run), str(photo), str(photo), *words]) == 0
        out = capsys.readouterr().out
        assert "sub-network" in out
        assert out.count("%") == 6


def test_predictions_are_computed_in_the_format_of_the_table(run, photo, tmp_path, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    content = json.loads((copy / "table.json").read_text())
    used = []
    (copy / "SHA256SUMS").unlink()  # the table is edited below
    inner = prediction.autocast_to
    monkeypatch.setattr(prediction, "autocast_to", lambda *a: used.append(a[0]) or inner(*a))
    for form in ("fp32 channels_last", "bf16 contiguous", None):
        content["meta"]["format"] = form
        if form is None:  # as older tables are
            del content["meta"]["format"]
        (copy / "table.json").write_text(json.dumps(content))
        assert main(["predict", str(copy), str(photo)]) == 0
    assert used == [None, torch.bfloat16, None]


def test_the_full_table_finishes_every_row_in_fp32(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert main(["table", str(copy), "--full"]) == 0
    table = load_run(copy).table
    assert len(table.finished) == len(table.rows) == 4 * 2
    assert table.meta["format"] == "fp32 contiguous"
    assert "race" not in table.meta


def test_a_budget_is_kept(run, photo, capsys):
    rows = json.loads((run / "table.json").read_text())["rows"]
    macs = sorted(row["macs"] for row in rows)[2]
    assert main(["predict", str(run), str(photo), "--budget", f"{macs / 1e6 + 1e-6}M"]) == 0
    chosen = capsys.readouterr().out.split("sub-network ")[1].split(",")[0]
    width, side = chosen.split("x")
    (row,) = [
        r
        for r in rows
        if f"{r['subnet']['width_mult']:.4g}" == width and str(r["subnet"]["resolution"]) == side
    ]
    assert row["macs"] <= macs + 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "1"], "a budget needs a unit"),
        (["--budget", "8parsecs"], "the unit of a budget must be"),
        (["--budget", "-5M"], "a budget must be > 0 and finite, got '-5M'"),
        (["--budget=-5M"], "a budget must be > 0 and finite, got '-5M'"),
        (["--budget"], "--budget needs one value. See `mutualnet predict --help`"),
        (["--budget", "1K"], "no sub-network has macs <= 1,000; the cheapest is 0.25x8"),
    ],
)
def test_a_bad_budget_gets_one_line(run, photo, capsys, words, message):
    assert message in _line(capsys, ["predict", str(run), str(photo), *words])


def test_bad_images_are_named_after_the_others_are_classified(run, photo, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    words = ["predict", str(run), str(photo), "none.png", str(broken), str(photo)]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out.count(f"{photo}: ") == 2
    assert captured.err.startswith("mutualnet: 2 of 4 images cannot be read: no image file none.p")
    assert f"{broken} must be an image" in captured.err


def test_missing_and_broken_files_get_one_line(run, photo, tmp_path, capsys):
    assert "no image file none.png" in _line(capsys, ["predict", str(run), "none.png"])
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    assert "must be an image that can be read" in _line(capsys, ["predict", str(run), str(broken)])
    assert "must be a run directory" in _line(capsys, ["predict", "nowhere", str(photo)])
    assert "must be a run directory" in _line(capsys, ["table", "nowhere"])
    assert "has no config.yaml" in _line(capsys, ["table", str(tmp_path)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digit_demo"], "Did you mean digits_demo"),
        (
            ["train", "digits_demo", "--epochs", "0"],
            "--epochs must be a whole number >= 1, got '0'",
        ),
        (["train", "digits_demo", "--epochs", "many"], "--epochs must be a whole number >= 1, got"),
        (["train", "digits_demo", "--seed", "x"], "--seed must be a whole number, got 'x'"),
        (["train", "digits_demo", "--width-range", "x", "1"], "--width-range must be a number"),
        (["train", "digits_demo", "--width-range", "-1", "1"], "0 < low <= high"),
        (["train", "digits_demo", "--width-range", "1"], "--width-range needs 2 values"),
        (["train", "digits_demo", "--set", "optimizer.lx=1"], "Did you mean optimizer.lr?"),
        (["train", "digits_demo", "--data", "somewhere"], "path must be None for digits"),
        (["train", "cifar10_wrn16_1"], "cifar10"),
        (["train", "cifar10_wrn16_1", "--data", "nowhere"], "nowhere"),
        (["info", "mobilenetv1_10"], "Did you mean mobilenetv1_100"),
        (["info", "mobilenetv1_100", "--width-range", "1", "0.5"], "0 < low <= high"),
        (["tabel"], "invalid choice"),
        ([], "command"),
    ],
)
def test_mistakes_get_one_line_that_names_the_way_out(
    words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in _line(capsys, words)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_table_finds_images_that_were_moved(tmp_path, capsys):
    before, after, out = tmp_path / "photos", tmp_path / "moved", str(tmp_path / "run")
    write_folders(before, train=12)
    words = ["train", "imagefolder_mobilenet_v1", "--data", str(before), "--out", out]
    words += ["--model", "wrn16_1", "--epochs", "1", "--limit-steps", "2", "--set"]
    words += ["space.resolutions=[16]", "space.width_step=0.75"]
    words += ["data.batch_size=4", "data.num_workers=0", "watch.every_epochs=0"]
    words += ["data.select_share=0.5", "compute.precision=fp32", "table.latency_runs=0"]
    assert main([*words, "compute.memory_format=contiguous"]) == 0
    before.rename(after)
    assert "The path is given by --data" in _line(capsys, ["table", out])
    assert main(["table", out, "--data", str(after)]) == 0
    assert load_run(Path(out)).table is not None


def test_a_table_comes_before_a_prediction(tmp_path, photo, capsys):
    out = tmp_path / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "1", "--set"]
    words += ["space.resolutions=[12]", "compute.precision=fp32"]
    assert main([*words, "compute.memory_format=contiguous"]) == 0
    assert "has no query table yet. Make it: mutualnet table" in _line(
        capsys, ["predict", str(out), str(photo)]
    )


def test_a_diverged_training_ends_with_status_one(tmp_path, capsys):
    words = ["train", "digits_demo", "--out", str(tmp_path / "run"), "--limit-steps", "20", "--set"]
    words += ["optimizer.lr=1e30", "optimizer.warmup_epochs=0", "compute.precision=fp32"]
    line = _line(capsys, [*words, "compute.memory_format=contiguous"], status=1)
    assert "Lower optimizer.lr" in line
    assert "What was written so far is in" in line


def test_recipes_and_info_print_what_they_promise(capsys):
    assert main(["recipes"]) == 0
    assert "imagefolder_mobilenet_v1" in capsys.readouterr().out
    assert main(["info", "mobilenetv2_100", "--width-range", "0.35", "1"]) == 0
    out = capsys.readouterr().out
    assert "300.77" in out
    assert "59.29" in out
    assert "frozen   classifier: its channels are the model's output" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["torchvision:r3d_18", "--resolutions", "32", "--frames", "4"], "VideoResNet: 12 elastic"),
        (["torchvision:lraspp_mobilenet_v3_large", "--resolutions", "64"], "LRASPP: 30 elastic"),
        (["timm:rexnet_100", "--resolutions", "64"], "rexnet_100: 46 elastic"),
    ],
    ids=["clips", "dictionary of maps", "sliced channels"],
)
def test_info_tells_what_is_elastic_in_any_kind_of_network(capsys, words, expected):
    assert main(["info", *words]) == 0
    out = capsys.readouterr().out
    assert expected in out
    assert "its channels are the model's output" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["resnet18", "--frames", "4"], "must run on clips of shape (3, 4, 224, 224)"),
        (["torchvision:r3d_19"], "no network is called 'torchvision:r3d_19'. Did you mean"),
        (["resnet18", "--frames", "0"], "--frames"),
    ],
)
def test_info_says_in_one_line_what_it_cannot_take(capsys, words, expected):
    try:
        status = main(["info", *words])
    except SystemExit as end:
        status = end.code
    err = capsys.readouterr().err
    assert status == 2
    assert expected in err
    assert "Traceback" not in err


def test_help_and_version_are_there(capsys):
    for words in (["--help"], ["train", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
    assert "mutualnet predict RUN IMAGE" in capsys.readouterr().out


SMALL = ["compute.precision=fp32", "compute.memory_format=contiguous"]


def test_methods_widths_and_distillation_are_switches(tmp_path):
    out = tmp_path / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "1"]
    words += ["--method", "us_net", "--width-range", "0.5", "1", "--resolutions", "12", "8"]
    assert main([*words, "--distill", "off", "--set", *SMALL]) == 0
    recipe = load_run(out).recipe
    assert (recipe.method.name, recipe.method.distill) == ("us_net", False)
    assert (recipe.space.width_range, recipe.space.resolutions) == ((0.5, 1.0), (12, 8))


def test_a_run_can_start_from_and_learn_from_another(tmp_path):
    words = ["train", "digits_demo", "--limit-steps", "1", "--out"]
    assert main([*words, str(tmp_path / "a"), "--set", *SMALL]) == 0
    more = ["--init", str(tmp_path / "a"), "--teacher", str(tmp_path / "a")]
    assert main([*words, str(tmp_path / "b"), *more, "--set", *SMALL]) == 0
    recipe = load_run(tmp_path / "b").recipe
    assert recipe.model.init == recipe.teacher.name == str(tmp_path / "a")


def test_a_finished_run_is_not_trained_again_and_an_absent_one_begins(tmp_path, caplog):
    words = ["train", "digits_demo", "--limit-steps", "1", "--resume", "--out", str(tmp_path / "a")]
    assert main([*words, "--set", *SMALL]) == 0
    before = (tmp_path / "a" / "run.json").read_text()
    assert main([*words, "--set", *SMALL]) == 0
    assert (tmp_path / "a" / "run.json").read_text() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume"], "--resume needs the --out"),
        (["--method", "magic"], "method must be one of mutualnet, us_net"),
        (["--method", ""], "method must be one of mutualnet, us_net"),
        (["--distill", "maybe"], "--distill"),
        (["--width-range", "0.9", "0.5"], "width_range must satisfy 0 < low <= high"),
        (["--init", "nowhere.pth"], "must come from timm:NAME, a run directory or a file"),
        (["--init", "timm:resnet0"], "timm has no network 'resnet0'"),
        (["--teaching", "dml"], "method dml needs at least two networks"),
        (["--out", "file/run"], "--out must be a directory that can be made, got file/run"),
        (["--init", "file"], "file cannot be read as weights: it must be a safetensors file"),
        (["--teacher", "file"], "file must be a run directory that `mutualnet train` made, got a"),
        (["--set", "model.kwargs={}", "model.name=math:sqrt"], "math:sqrt must take num_classes="),
        (
            ["--set", "model.kwargs={}", "model.name=tests.plain_net:only_evaluates"],
            "the network must run in train mode, but fails on images (2, 1, 16, 16) (KeyError",
        ),
        (["--teacher", "nowhere"], "nowhere must be a run directory"),
        (["--set", "task=guessing"], "task must be classification, multilabel, or"),
        (["--set", "method.name=s_net"], "s_net trains a fixed list of widths"),
    ],
)
def test_options_that_cannot_be_met_are_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("hi")
    assert message in _line(capsys, ["train", "digits_demo", *words])
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("method", "expected"),
    [("dks", ("mutualnet", "dks")), ("independent", ("independent", "independent"))],
)
def test_a_way_of_teaching_may_still_be_named_by_method(method, expected, caplog):
    recipe = override(load_recipe("digits_demo"), ["teaching.method=deep_supervision"])

    def changed(**values):
        made = RecipeChanges(**values).apply(recipe)
        return made.method.name, made.teaching.method

    assert changed() == ("mutualnet", "deep_supervision")
    assert changed(method="us_net") == ("us_net", "deep_supervision")
    assert changed(method="independent", teaching="dks") == ("independent", "dks")
    assert not caplog.records
    assert changed(method=method) == expected
    assert f"is now chosen by --teaching {method}" in caplog.text


def test_every_set_counts_and_peers_may_come_after_their_method(tmp_path):
    out = tmp_path / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "1", "--teaching", "dml"]
    words += ["--set", "peers=[{model: {name: wrn16_1}}]", "--set", "data.batch_size=30"]
    assert main([*words, "--set", *SMALL]) == 0
    recipe = read_recipe(out / "config.yaml")
    assert (len(recipe.models), recipe.data.batch_size) == (2, 30)
    assert recipe.compute.precision == "fp32"


def test_a_limited_run_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    words = ["train", "digits_demo", "--out", str(tmp_path / "run"), "--limit-steps", "3"]
    words += ["--resume", "--set", "checkpoint_minutes=0", *SMALL]
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            main(words)
    assert main(words) == 0
    assert load_run(tmp_path / "run").info["resumed_after_step"] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "run.json is damaged"),
        ("[1, 2]", "run.json was not written by `mutualnet train`"),
        ('{"format": "mutualnet.peers", "format_version": 1}', "is damaged (no networks)"),
        (
            '{"format": "mutualnet.peers", "format_version": 1, "networks": 3}',
            "is damaged (no networks)",
        ),
        (
            '{"format": "mutualnet.run", "format_version": 1, "class_names": null}',
            "is damaged (no class_names)",
        ),
        (
            '{"format": "mutualnet.run", "format_version": 1, "class_names": ["a", "b"], '
            '"in_channels": true, "data_id": "x"}',
            "is damaged (no in_channels)",
        ),
    ],
)
def test_a_damaged_run_is_one_line(content, message, tmp_path, photo, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(load_recipe("digits_demo"), tmp_path / "config.yaml")
    (tmp_path / "run.json").write_text(content)
    place = str(tmp_path)
    assert message in _line(capsys, ["table", place])
    assert message in _line(capsys, ["predict", place, str(photo)])
    assert message in _line(capsys, ["train", "digits_demo", "--teacher", place])
    assert message in _line(capsys, ["train", "digits_demo", "--resume", "--out", place])


def test_plan_proposes_a_space_for_budgets(capsys):
    words = ["plan", "wrn16_1", "--num-classes", "10", "--resolutions", "16", "8"]
    assert main([*words, "--budgets", "10s,3M"]) == 0
    out = capsys.readouterr().out
    assert "proposed: --width-range" in out
    assert "3M multiply-adds" in out
    assert "no sub-network fits" in _line(capsys, [*words, "--budgets", "1K"])
    assert "a budget needs a unit" in _line(capsys, [*words, "--budgets", "5"])
    assert "--budgets must name at least one" in _line(capsys, [*words, "--budgets", ","])


def test_a_full_disk_is_one_line_and_status_one(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mutualnet.training.finish.save_run", refuse)
    words = ["train", "digits_demo", "--limit-steps", "1", "--out", str(tmp_path / "a"), "--set"]
    settings = [*SMALL, "checkpoint_minutes=0"]
    line = _line(capsys, [*words, *settings], status=1)
    assert "No space left on device" in line
    assert "continue with --resume" in line


def test_a_task_of_ones_own_is_found_in_the_folder_of_work(tmp_path, monkeypatch, capsys):
    """The page about it, followed word for word."""
    page = (Path(__file__).parents[1] / "docs" / "custom_task.md").read_text()
    (tmp_path / "rare.py").write_text(page.split("```python\n")[1].split("```")[0])
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits_demo", "--limit-steps", "2", "--out", "run", "--set", *SMALL]
    settings = ["task=rare:Rare", "space.resolutions=[12,8]", "space.width_step=0.75"]
    assert main([*words, *settings, "table.latency_runs=0"]) == 0
    assert main(["table", "run", "--trust"]) == 0
    assert "mean class accuracy (%)" in capsys.readouterr().out


def test_what_another_process_tells_is_not_said_again(monkeypatch, capsys):
    def fail(*_, **__):
        raise ReportedElsewhereError("out must be free")

    monkeypatch.setattr(commands, "start_training", fail)
    assert main(["train", "digits_demo"]) == 2
    assert capsys.readouterr().err == ""
