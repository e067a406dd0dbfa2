"""Scores on the way, means of epochs, and where both are written."""

from __future__ import annotations

import copy
import json
import logging
import random
import re

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_flatten

from mutualnet import commands
from mutualnet.cli import main
from mutualnet.config.serialization import override, write_recipe
from mutualnet.config.transforms import with_method
from mutualnet.run_directory import load_run
from mutualnet.training.module import TrainingModule
from mutualnet.training.setup import set_up_training
from mutualnet.training.train import train
from mutualnet.training.watch import watch
from tests.small_runs import (
    DCM,
    SHORT,
    SUPERNETS,
    WATCHED,
    StoppedError,
    assert_same_weights,
    digits,
    pair,
    read_events,
    read_log,
    stop_after,
)

OWN_NORMS = "space={widths: [1.0, 0.5], width_range: [0.5, 1.0], resolutions: [12, 8]}"


def _ended_epoch(recipe):
    """A module that has taken two steps, at the end of its epoch."""
    setup = set_up_training(recipe, limit_steps=2)
    module = TrainingModule(setup)
    for step, batch in enumerate(setup.loader()):
        module.take_step(batch, step)
    module.end_epoch()
    return module


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("optimizer.ema_decay=0.9", "model.kwargs={depth: 10, width_factor: 1, dropout: 0.3}"),
        ("method.name=s_net", OWN_NORMS),
    ],
    ids=["plain", "averaged", "own norms"],
)
def test_watching_changes_nothing_but_the_history(settings):
    module = _ended_epoch(digits(WATCHED, *settings))
    (own,) = module.training_setup.networks
    own.supernet.bank.put("kept", "statistics")
    before = copy.deepcopy(module.state())
    modes = [part.training for part in module.networks.modules()]
    versions = own.supernet.weights_version
    random_states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    watch(module)
    after = module.state()
    assert after.pop("history") != before.pop("history")
    assert [part.training for part in module.networks.modules()] == modes
    assert dict(own.supernet.bank) == {"kept": "statistics"}
    assert own.supernet.weights_version == versions
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert random.getstate() == random_states[1]
    assert np.random.get_state()[1].tolist() == random_states[2]
    values, structure = tree_flatten(before)
    now, same = tree_flatten(after)
    assert same == structure
    for one, other in zip(values, now, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    validation = module.history.validation
    assert [score.role for score in validation.scores] == ["largest", "smallest"]
    assert (validation.epoch, validation.split, validation.num_images) == (1, "select", 100)
    assert validation.num_calibration_samples == 64


def test_runs_end_with_the_same_bits_watched_or_not_and_resumed(tmp_path, monkeypatch):
    recipe = digits(SHORT, "optimizer.epochs=3", "checkpoint_minutes=0")
    never = train(override(recipe, ["watch.every_epochs=0"]), tmp_path / "never")
    watched = train(override(recipe, [WATCHED]), tmp_path / "watched")
    assert_same_weights(never, watched)
    assert "scores" not in load_run(never).info
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StoppedError):
            train(recipe, tmp_path / "run")
    resumed = train(override(recipe, [WATCHED]), tmp_path / "run", resume=True)
    assert_same_weights(never, resumed)


def test_scores_are_those_of_the_table(tmp_path):
    """With all select images, and as many training images behind the statistics."""
    recipe = digits(
        "watch.num_calibration_samples=128",
        "table.num_calibration_samples=128",
        "table.latency_runs=0",
        "space={width_range: [0.5, 1.0], resolutions: [12, 8], width_step: 0.5}",
        "optimizer.ema_decay=0.8",
    )
    out = train(recipe, tmp_path / "run", limit_steps=12)
    scores = load_run(out).info["scores"]
    commands.make_table(out, is_full=True)
    rows = {str(row.subnet): row for row in load_run(out).table.rows}
    for role, name in (("largest", "1x12"), ("smallest", "0.5x8")):
        assert scores[role]["subnet"] == name
        assert scores[role]["value"] == pytest.approx(rows[name].score)
        assert scores[role]["standard_error"] == pytest.approx(rows[name].standard_error)
    assert scores["num_images"] == scores["num_available"] == rows["1x12"].num_samples


def test_scores_come_every_few_epochs_and_at_the_end(tmp_path, caplog):
    recipe = digits(WATCHED, SHORT, "watch.every_epochs=2", "optimizer.epochs=5")
    with caplog.at_level(logging.INFO):
        out = train(recipe, tmp_path / "run")
    rows, events = read_log(out), read_events(out)
    assert [bool(row["select_largest"]) for row in rows] == [False, True, False, True, True]
    assert [step for step, _ in events["select_smallest"]] == [4, 8, 10]
    lines = [line for line in caplog.messages if line.startswith("scores after epoch")]
    assert len(lines) == 3
    assert re.fullmatch(
        r"scores after epoch 5: select top-1 accuracy \(%\) largest 1x12 \d+\.\d\d ± \d\.\d\d, "
        r"smallest 0\.25x8 \d+\.\d\d ± \d\.\d\d \(100 of 269 images, BN statistics of 64 train "
        r"images; every 2 epochs, \d[\d.]* % of the training time\)",
        lines[-1],
    )
    (epoch,) = [line for line in caplog.messages if line.startswith("epoch 4 of 5 in ")]
    shown = ", ".join(
        f"{name} {float(rows[3][name]):.3f}"
        for name in ("ce_largest", "kl_random1", "kl_random2", "kl_smallest")
    )
    assert f" s: {shown}; lr {float(rows[3]['lr']):.4g}; " in epoch
    assert epoch.endswith(" images/s")


@pytest.mark.parametrize(
    ("recipe", "columns"),
    [
        (lambda: pair("teaching.method=dml"), ["select_1_largest", "select_2_largest"]),
        (
            lambda: pair(DCM, *SUPERNETS),
            [f"select_{n}_{role}" for n in (1, 2) for role in ("largest", "smallest")],
        ),
        (lambda: with_method(digits(), "independent"), ["select_largest"]),
        (
            lambda: with_method(digits(), "independent", width_range=(0.5, 0.5)),
            ["select_largest"],
        ),
        (lambda: with_method(digits(), "s_net"), ["select_largest", "select_smallest"]),
        (lambda: with_method(digits(), "gradaug"), ["select_largest", "select_smallest"]),
    ],
    ids=["dml", "supernets", "independent", "narrow", "s_net", "gradaug"],
)
def test_every_method_has_scores(recipe, columns, tmp_path):
    chosen = override(recipe(), [WATCHED])
    out = train(chosen, tmp_path / "run", limit_steps=2)
    assert [name for name in read_log(out)[-1] if name.startswith("select")] == columns
    places = [out] if not chosen.peers else [out / "network1", out / "network2"]
    for place in places:
        scores = load_run(place).info["scores"]
        assert scores["largest"]["value"] >= 0
        assert ("smallest" in scores) == any("smallest" in name for name in columns)


def test_a_network_without_norms_hides_no_calibration_of_its_peers():
    plain = "peers=[{model: {name: tests.plain_net:plain_net}}]"
    module = _ended_epoch(pair(plain, *SUPERNETS, WATCHED, "teaching.method=dml"))
    watch(module)
    assert module.history.validation.num_calibration_samples == 64


def test_a_full_network_alone_is_scored_as_it_is_used(tmp_path):
    """By its running statistics, as on the test split."""
    module = _ended_epoch(pair("teaching.method=dml"))
    watch(module)
    validation = module.history.validation
    assert validation.num_calibration_samples == 0
    select = module.training_setup.data.select
    images = torch.stack([select[i][0] for i in range(len(select))])
    for own, score in zip(module.training_setup.networks, validation.scores, strict=True):
        with torch.no_grad():
            right = own.supernet.model.eval()(images).argmax(1).numpy() == select.labels
        assert score.value == pytest.approx(100 * right.mean())


@pytest.mark.parametrize(
    ("settings", "name"),
    [((), "train"), (("data.select_from=test",), "test")],
    ids=["train", "test"],
)
def test_scores_name_the_split_that_the_table_chooses_on(settings, name, tmp_path, caplog):
    recipe = digits(SHORT, WATCHED, "data.select_share=0", *settings)
    with caplog.at_level(logging.INFO):
        out = train(recipe, tmp_path / "run")
    assert f"{name}_smallest" in read_log(out)[0]
    assert load_run(out).info["scores"]["split"] == name
    assert f"scores after epoch 1: {name} top-1 accuracy (%) largest" in caplog.text


def test_lines_sum_many_losses_and_files_hold_them_all(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        out = train(pair(DCM, WATCHED), tmp_path / "run", limit_steps=2)
    (row,) = read_log(out)
    sums = {}
    for name, value in row.items():
        if name.startswith(("ce_", "kl_")):
            sums[name[:4]] = sums.get(name[:4], 0) + float(value)
    assert sum(name.startswith(("ce_", "kl_")) for name in row) == 24
    shown = ", ".join(f"{name} {value:.3f}" for name, value in sums.items())
    (line,) = [text for text in caplog.messages if text.startswith("epoch 1 of 1")]
    assert f": {shown} (sums of 24 terms); lr_1 " in line
    assert list(sums) == ["ce_1", "kl_1", "ce_2", "kl_2"]


def test_the_command_ends_with_scores_and_the_way_to_the_table(tmp_path, capsys):
    write_recipe(digits(WATCHED), tmp_path / "recipe.yaml")
    out = tmp_path / "run"
    words = ["train", str(tmp_path / "recipe.yaml"), "--out", str(out), "--limit-steps", "2"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    scores = json.loads((out / "run.json").read_text())["scores"]
    assert lines == [
        f"trained: {out}",
        "select top-1 accuracy (%), 100 of 269 images:",
        *(
            f"  {role:<8}  {scores[role]['subnet']:<9} {scores[role]['value']:.2f} ± "
            f"{scores[role]['standard_error']:.2f}"
            for role in ("largest", "smallest")
        ),
        f"next: mutualnet table {out}",
    ]


def test_a_failure_to_score_says_how_to_do_without(tmp_path, monkeypatch):
    recipe = digits("checkpoint_minutes=1000")

    def fail(*_, **__):
        raise ValueError("no image carries a label")

    with monkeypatch.context() as patch:
        patch.setattr("mutualnet.training.watch.evaluate", fail)
        with pytest.raises(ValueError, match="no image carries a label") as caught:
            train(recipe, tmp_path / "run", limit_steps=2)
        assert "watch.every_epochs=0 trains without" in caught.value.__notes__[0]
        # The steps are not lost with it.
        assert "continue with --resume" in caught.value.__notes__[1]
        without = override(recipe, ["watch.every_epochs=0"])
        train(without, tmp_path / "run", limit_steps=2, resume=True)
    assert load_run(tmp_path / "run").info["resumed_after_step"] == 2
