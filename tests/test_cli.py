"""The commands as a user types them."""

import json

import numpy as np
import pytest
from PIL import Image

from mutualnet.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A digits run of a few steps with its table."""
    out = tmp_path_factory.mktemp("runs") / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "8"]
    words += ["--epochs", "2", "--seed", "1", "--set"]
    words += ["model.kwargs={depth: 10, width_factor: 1}", "space.resolutions=[12, 8]"]
    words += ["space.width_step=0.25", "precision.precision=fp32"]
    words += ["precision.memory_format=contiguous", "table.num_calibration_samples=64"]
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
        (["--budget", "1K"], "no sub-network has macs <= 1,000; the cheapest is 0.25x8"),
    ],
)
def test_a_bad_budget_gets_one_line(run, photo, capsys, words, message):
    assert message in _line(capsys, ["predict", str(run), str(photo), *words])


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
        (["train", "digits_demo", "--epochs", "0"], "--epochs"),
        (["train", "digits_demo", "--epochs", "many"], "--epochs"),
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


def test_a_table_comes_before_a_prediction(tmp_path, photo, capsys):
    out = tmp_path / "run"
    words = ["train", "digits_demo", "--out", str(out), "--limit-steps", "1", "--set"]
    words += ["space.resolutions=[12]", "precision.precision=fp32"]
    assert main([*words, "precision.memory_format=contiguous"]) == 0
    assert "has no query table yet. Make it: mutualnet table" in _line(
        capsys, ["predict", str(out), str(photo)]
    )


def test_a_diverged_training_ends_with_status_one(tmp_path, capsys):
    words = ["train", "digits_demo", "--out", str(tmp_path / "run"), "--limit-steps", "20", "--set"]
    words += ["optimizer.lr=1e30", "optimizer.warmup_epochs=0", "precision.precision=fp32"]
    line = _line(capsys, [*words, "precision.memory_format=contiguous"], status=1)
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


def test_help_and_version_are_there(capsys):
    for words in (["--help"], ["train", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
    assert "mutualnet predict RUN IMAGE" in capsys.readouterr().out
