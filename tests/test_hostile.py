"""What nobody should type or write ends in one line, soon."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from mutualnet.cli import main
from mutualnet.config.data import DataConfig
from mutualnet.config.measurement import TableConfig
from mutualnet.config.optimizer import OptimizerConfig
from mutualnet.config.plain_yaml import read_yaml
from mutualnet.config.serialization import override, read_recipe, write_recipe
from mutualnet.models import create_model
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run, networks_of
from mutualnet.space import ElasticSpace
from mutualnet.table import QueryTable

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolutions": (100_000,)}, "resolutions must be at most 4096 pixels, got 100000"),
        ({"width_step": 1e-12}, r"the grid must have at most 4096 sub-networks, got 7.5e\+11 wid"),
        (
            {"width_step": 1e-307, "width_range": (1, 64)},
            "the grid .* got inf widths at 4 resolutions",
        ),
        ({"width_step": float("nan")}, "width_step must be a finite number, got nan"),
        ({"width_range": (0.25, float("inf"))}, "width_range must be a finite number, got inf"),
        ({"widths": (1.0, float("nan"))}, "widths must be a finite number, got nan"),
        ({"model_width_mult": float("nan")}, "model_width_mult must be a finite number, got nan"),
        ({"model_width_mult": 1e9}, r"width multipliers must be at most 64, got 1e\+09"),
        ({"width_range": (0.25, 1e9)}, r"width multipliers must be at most 64, got 1e\+09"),
    ],
)
def test_a_space_has_bounds(values, message):
    with pytest.raises(ValueError, match=message):
        ElasticSpace(**values)


def test_a_space_may_be_as_large_as_its_bounds():
    space = ElasticSpace(width_step=0.75 / 1000, resolutions=(4096, 4, 3, 2))
    assert len(space.grid()) == 4004


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_no_number_of_a_recipe_may_be_infinite(value):
    recipe = load_recipe("digits_demo")
    keys = []
    for name, part in vars(recipe).items():
        fields = vars(part).items() if hasattr(part, "__dict__") else [("", part)]
        keys += [f"{name}.{key}".rstrip(".") for key, own in fields if isinstance(own, float)]
    assert {"data.mixup_alpha", "optimizer.lr", "teacher.tau", "checkpoint_minutes"} <= set(keys)
    for key in [*keys, "optimizer.clip_norm", "optimizer.ema_decay", "model.kwargs"]:
        text = f"{{a: [{value}]}}" if key == "model.kwargs" else value
        with pytest.raises(ValueError, match=f"{key.split('.')[-1]} must .*(inf|nan)"):
            override(recipe, [f"{key}={text}"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataConfig(name="digits", batch_size=10**400),
        lambda: OptimizerConfig(lr=1, epochs=2**53),
        lambda: TableConfig(latency_runs=2**60),
        lambda: replace(load_recipe("digits_demo"), seed=2**64),
    ],
)
def test_counts_are_those_that_a_machine_can_count(make):
    with pytest.raises(ValueError, match=r"must lie below 2\*\*53"):
        make()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.num_workers=100000000", "num_workers must be >= 0 and <= 1024"),
        ("method.num_random=1000000", "num_random must be >= 0 and <= 1024"),
        (
            "space.resolutions=null",
            "space.resolutions must be a list, each a whole number, got null",
        ),
        ("data.batch_size=null", "data.batch_size must be a whole number, got null"),
        ("optimizer.lr=1.0e+300", "optimizer.lr must be a finite number"),
        ("optimizer.weight_decay=1.0e+300", "optimizer.weight_decay must be a finite number"),
    ],
)
def test_numbers_that_no_machine_serves_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        override(load_recipe("digits_demo"), [setting])


def test_a_network_has_as_many_classes_as_can_be_counted():
    with pytest.raises(ValueError, match=r"num_classes must be below 2\*\*31, got 999"):
        create_model("wrn16_1", num_classes=10**400 - 1)


def test_info_needs_no_resolution_of_224(capsys):
    assert main(["info", "wrn16_1", "--num-classes", "10", "--resolutions", "16", "8"]) == 0
    assert "8 px" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DEEP, "more than 32 levels"),
        ("{a: " * 40 + "1" + "}" * 40, "more than 32 levels"),
        ("lr: 1\nseed: 2\nlr: 3", "the key lr stands twice"),
        ("a: {b: 1, 'b': 2}", "the key b stands twice"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("a: &x [*x]", "aliases are not allowed"),
        ("? [1]\n: 2", "unhashable"),
        ("a: 2020-13-45", "month must be"),
        ("a: " + "9" * 5000, "4300"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: \x00", "special characters"),
    ],
)
def test_yaml_of_two_meanings_or_no_bottom_is_refused(text, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(text)
    assert "\n" not in str(caught.value)
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"must hold YAML .*{message}"):
        read_recipe(path)
    with pytest.raises(ValueError, match=f"the value of model.kwargs must be YAML.*{message}"):
        override(load_recipe("digits_demo"), [f"model.kwargs={text}"])


def test_merged_mappings_and_every_recipe_are_plain():
    assert read_yaml("a: 1\nb: [2, {c: null}]") == {"a": 1, "b": [2, {"c": None}]}
    assert read_yaml("{a: {x: 1}, b: {x: 1}}") == {"a": {"x": 1}, "b": {"x": 1}}


def test_deep_json_is_refused(tmp_path):
    write_recipe(load_recipe("digits_demo"), tmp_path / "config.yaml")
    (tmp_path / "run.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"run.json is damaged \(maximum recursion"):
        load_run(tmp_path)
    (tmp_path / "table.json").write_text(DEEP)
    with pytest.raises(ValueError, match="not a whole query table: maximum recursion"):
        QueryTable.load(tmp_path / "table.json")


@pytest.mark.parametrize("name", [3, None, ["a"], {}])
def test_names_of_networks_are_text(name, tmp_path):
    write_recipe(load_recipe("digits_demo"), tmp_path / "config.yaml")
    content = {"format": "mutualnet.peers", "format_version": 1, "networks": ["network1", name]}
    (tmp_path / "run.json").write_text(json.dumps(content))
    for read in (networks_of, load_run):
        with pytest.raises(ValueError, match=r"run.json is damaged"):
            read(tmp_path)


def test_no_network_reads_a_pickle(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"a": print}))
    with pytest.raises(
        ValueError, match=r"never reads .* got checkpoint_path. In a recipe model.in"
    ):
        create_model("timm:resnet18", num_classes=3, checkpoint_path=str(path))
    with pytest.raises(
        ValueError, match="network wrn16_1 must take the arguments width_factor, got T"
    ):
        create_model("wrn16_1", num_classes=3, width_factor=[])


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a\nb", "x" * 101, "-rf", "a\\b"])
def test_the_name_of_a_recipe_is_one_of_a_directory(name):
    with pytest.raises(ValueError, match="name must begin with a letter or digit"):
        replace(load_recipe("digits_demo"), name=name)
    assert replace(load_recipe("digits_demo"), name="Ünïcode 1.5_x").name


def test_a_learning_rate_of_1e10_is_no_trained_run(tmp_path, capsys):
    words = ["train", "digits_demo", "--out", str(tmp_path / "run"), "--limit-steps", "2", "--set"]
    words += ["optimizer.lr=1e10", "optimizer.warmup_epochs=0", "compute.precision=fp32"]
    assert main([*words, "compute.memory_format=contiguous"]) == 1
    error = capsys.readouterr().err
    assert "of network 1 holds values that are not finite after step 2. Lower optimizer.lr" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried 3 GiB")])
def test_exhausted_memory_is_one_line(error, capsys, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mutualnet.commands.info", fail)
    assert main(["info", "wrn16_1"]) == 2
    assert capsys.readouterr().err.startswith("mutualnet: memory is exhausted (")
