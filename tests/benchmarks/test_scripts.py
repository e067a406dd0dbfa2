"""Every script starts as its first lines and the pages say, and answers a mistake in one line."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def run_script(monkeypatch):
    """Run a command line whose first word is a script, as `python benchmarks/SCRIPT` does.

    The scripts' folder is where Python looks for modules then, and not the repository.
    """
    root = FOLDER.parent
    known = {name: sys.modules.pop(name) for name in _loaded()}
    others = [path for path in sys.path if path and Path(path).resolve() != root]

    def run(words: str) -> None:
        script = FOLDER / words.split()[0]
        monkeypatch.setattr(sys, "path", [str(FOLDER), *others])
        monkeypatch.setattr(sys, "argv", [str(script), *words.split()[1:]])
        runpy.run_path(str(script), run_name="__main__")

    yield run
    for name in _loaded():
        del sys.modules[name]
    sys.modules.update(known)


def _loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("objects.py nowhere --data missing", "--data must be a folder, got missing"),
        ("videos.py --data missing", "--data must be a folder, got missing"),
        ("pretrained.py --data missing", "--data must be a folder, got missing"),
        ("pretrained.py --data . --seeds 7", "argument --seeds: invalid choice: 7"),
        ("ship.py resnet", "unknown network 'resnet', choose from mobilenetv1_100, "),
        ("search.py --evaluations 0", "--evaluations must be >= 1, got 0"),
        ("run.py steps", "unknown section 'steps', choose from step, "),
        ("denormals.py", "the following arguments are required: case, flush"),
        ("peer_steps.py DML", "argument what: invalid choice: 'DML'"),
        ("two_processes.py one", "argument threads: invalid int value: 'one'"),
    ],
)
def test_a_mistake_is_answered_in_one_line(run_script, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        run_script(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_seeds_whose_learning_rate_was_not_chosen_are_refused(tmp_path, monkeypatch, capsys):
    from benchmarks import pretrained
    from benchmarks.study_store import Store

    monkeypatch.setattr(pretrained, "store_of", lambda *_: Store(tmp_path / "none", "few"))
    monkeypatch.setattr(sys, "argv", ["pretrained.py", "--data", str(tmp_path), "--seeds", "1"])
    with pytest.raises(SystemExit):
        pretrained.main()
    assert "seed 0 chooses the learning rates: give --seeds 0 1" in capsys.readouterr().err
