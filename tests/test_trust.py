"""Opening somebody else's run calls nothing that its maker names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mutualnet import models
from mutualnet.checksums import CHECKSUMS
from mutualnet.cli import main
from mutualnet.config.serialization import override, read_recipe
from mutualnet.models.registry import create_model
from mutualnet.pretrained import read_weights
from mutualnet.run_directory import load_run
from mutualnet.training.networks import make_teacher
from mutualnet.training.setup import load_splits
from mutualnet.training.train import train
from tests.small_runs import StoppedError, digits, stop_after

EVIL = """
from pathlib import Path
Path(__file__).with_name("was_here").touch()
from mutualnet.models.cifar import WideResNet as Net
from mutualnet.tasks import Classification as Rule
"""


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A run of one step, with a table of one row."""
    settings = ["space.resolutions=[12]", "space.width_range=[1.0, 1.0]", "table.latency_runs=0"]
    recipe = digits(*settings, "table.num_calibration_samples=64")
    out = train(recipe, tmp_path_factory.mktemp("runs") / "run", limit_steps=1)
    assert main(["table", str(out)]) == 0
    return out


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of work with a module in it that leaves a mark when it is imported."""
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text(
        f"import pathlib; pathlib.Path({str(tmp_path / 'was_here')!r}).touch()\n"
        "def net(**_): pass\n"
    )
    Image.new("L", (12, 12)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("evil", None)


def _forged(honest: Path, place: Path, **changes) -> Path:
    """The run as a stranger would change it, checksums and all."""
    out = place / "run"
    out.mkdir()
    for path in honest.iterdir():
        if path.is_file() and path.name != CHECKSUMS:
            (out / path.name).write_bytes(path.read_bytes())
    values = yaml.safe_load((out / "config.yaml").read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        part = values
        for name in path:
            part = part[name]
        part[last] = value
    (out / "config.yaml").write_text(json.dumps(values))  # which is YAML, without aliases
    return out


HUB = {"repo_or_dir": "hub", "source": "local", "model": "net"}
ATTACKS = {
    "hub": ({"model__name": "torch.hub:load", "model__kwargs": HUB}, "torch.hub:load"),
    "own module": ({"model__name": "evil:Net"}, "evil:Net"),
    "task": ({"task": "evil:Rule"}, "evil:Rule"),
    "heads": ({"model__heads": "evil:heads"}, "evil:heads"),
    "peer": ({"peers": [{"model": {"name": "evil:Net"}}]}, "evil:Net"),
    "loader of ours": (
        {"model__name": "mutualnet.models:create_model", "model__kwargs": {"spec": "evil:Net"}},
        "mutualnet.models:create_model",
    ),
    "helper of ours": (
        {"task": "mutualnet.user_functions:find_function"},
        "mutualnet.user_functions:find_function",
    ),
    "hub of a library": ({"model__name": "timm:hf-hub:evil/net"}, "timm:hf-hub:evil/net"),
    "no library": ({"model__name": ":evil"}, ":evil"),
    "module of a library": ({"model__name": "torchvision.models:get_model"}, "get_model"),
    "pickle": (
        {"model__name": "timm:resnet18", "model__kwargs": {"checkpoint_path": "net.pth"}},
        "timm:resnet18",
    ),
    "overlay": (
        {
            "model__name": "timm:resnet18",
            "model__kwargs": {"pretrained_cfg_overlay": {"file": "net.pth"}},
        },
        "timm:resnet18",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("command", ["predict", "table", "teacher"])
def test_a_run_that_names_functions_of_others_is_refused(attack, command, honest, place, capsys):
    changes, name = ATTACKS[attack]
    run = str(_forged(honest, place, **changes))
    words = {
        "predict": ["predict", run, "photo.png"],
        "table": ["table", run],
        "teacher": ["train", "digits_demo", "--teacher", run, "--limit-steps", "1"],
    }
    assert main(words[command]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("mutualnet: ")]
    assert name in line
    assert "--trust" in line
    assert not (place / "was_here").exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    "name",
    ["torchvision:os.system", "torchvision:models.os.system", "timm:os.system", "evil.Net", "hub"],
)
def test_names_of_libraries_lead_to_their_networks_alone(name, honest, place, capsys):
    run = _forged(honest, place, model__name=name, model__kwargs={})
    assert main(["predict", str(run), "photo.png", "--trust"]) == 2
    assert f"no network is called {name!r}" in capsys.readouterr().err
    assert not (place / "was_here").exists()


def test_values_of_a_recipe_are_never_imported(honest, place):
    spec = {"class_path": "evil.Net", "init_args": {}}
    run = _forged(honest, place, model__kwargs={"depth": [spec, {"deep": spec}], "x": spec} | spec)
    sys.path.append(str(place))
    kwargs = read_recipe(run / "config.yaml").model.kwargs
    assert kwargs["depth"] == [spec, {"deep": spec}]
    with pytest.raises(ValueError, match="must take"):
        load_run(run)
    assert not (place / "was_here").exists()


def test_trust_is_said_and_logged(honest, place, capsys, caplog):
    run = _forged(honest, place, model__name="evil:Net", task="evil:Rule")
    with pytest.raises(ValueError, match=r"config\.yaml names evil:Net as model\.name, which"):
        load_run(run)
    assert main(["predict", str(run), "photo.png", "--trust"]) == 0
    assert "names evil:Net as model.name" in caplog.text
    assert "names evil:Rule as task" in caplog.text
    assert (place / "was_here").exists()
    assert load_run(run, trust=True).recipe.task == "evil:Rule"
    recipe = override(read_recipe(honest / "config.yaml"), [f"teacher.name={run}"])
    with pytest.raises(ValueError, match="evil:Net"):
        make_teacher(recipe, load_splits(recipe), "cpu")
    assert make_teacher(recipe, load_splits(recipe), "cpu", trust=True) is not None


def test_what_stands_in_the_users_own_recipe_needs_no_trust(place):
    words = ["train", "digits_demo", "--limit-steps", "1", "--out", "mine", "--set"]
    words += ["compute.precision=fp32", "compute.memory_format=contiguous"]
    assert main([*words, "model.name=evil:Net", "space.resolutions=[12]"]) == 0
    assert main(["table", "mine"]) == 2


def test_starting_weights_and_resuming_call_nothing(honest, place, monkeypatch):
    run = _forged(honest, place, model__name="evil:Net", task="evil:Rule")
    assert read_weights(str(run))
    recipe = digits("checkpoint_minutes=0")
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after(patch, 1)
        train(recipe, place / "begun", limit_steps=2)
    config = place / ".begun.partial" / "config.yaml"
    config.write_text((run / "config.yaml").read_text())
    with pytest.raises(ValueError, match="must be resumed by the recipe it began with"):
        train(recipe, place / "begun", limit_steps=2, resume=True)
    with pytest.raises(ValueError, match="must be resumed by the recipe it began with"):
        train(recipe, run, limit_steps=2, resume=True)
    assert not (place / "was_here").exists()


def test_a_strangers_folder_is_no_place_to_import_from(honest, place, monkeypatch):
    run = _forged(honest, place)
    monkeypatch.chdir(run)
    assert main(["predict", ".", str(place / "photo.png")]) == 0
    assert str(run) not in sys.path


def test_our_own_networks_are_trusted_by_either_name(honest, place):
    assert load_run(honest).recipe.model.name == "mutualnet.models.cifar:WideResNet"
    run = _forged(honest, place, model__name="mutualnet.models:WideResNet")
    assert load_run(run).table is not None


def test_no_argument_of_a_network_is_taken_for_its_name():
    with pytest.raises(ValueError, match="must take"):
        models.create_model("wrn16_1", num_classes=2, spec="evil:Net")
    with pytest.raises(ValueError, match="must take the arguments model_name"):
        create_model("timm:resnet18", num_classes=2, model_name="hf-hub:evil/net")


def test_every_place_that_calls_functions_by_name_is_one_that_the_check_knows():
    """Whoever adds one adds its key to `mutualnet.trust`, and its file here."""
    root = Path(models.__file__).parents[1]
    words = ("find_function(", "call_function(", "import_module(")
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if any(word in path.read_text() for word in words)
    }
    network, heads, task = "models/registry.py", "training/networks.py", "tasks/known.py"
    typed, ours = "recipes/__init__.py", "__init__.py"
    assert found == {network, heads, task, typed, ours, "user_functions.py"}
