"""A study's verdicts, its runs by their settings, going on after a stop, and its page."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pretrained, pretrained_runs, study, study_times
from benchmarks.pretrained_page import write_tables
from benchmarks.study_claims import all_claims, choose, work
from benchmarks.study_cost import hours_of
from benchmarks.study_page import GROUPS, store_of, write_page
from benchmarks.study_scales import SCALES
from benchmarks.study_single import elastic, full_alone
from benchmarks.study_store import Store
from benchmarks.study_train import perform, place_of
from benchmarks.study_values import Claim, Entry, StudyRun
from benchmarks.study_verdict import best_within, differences, judge
from mutualnet.cli import main
from mutualnet.commands import train as train_command
from mutualnet.cost import CostModel
from mutualnet.models import create_model
from mutualnet.space import Subnet
from mutualnet.supernet import Supernet
from tests.small_runs import StoppedError, assert_same_weights, stop_after

SETTINGS = (
    "model={name: mutualnet.models.cifar:WideResNet, kwargs: {depth: 10, width_factor: 1}}",
    "data.train_share=0.2",
    "data.batch_size=64",
    "optimizer.warmup_epochs=0",
    "compute.precision=fp32",
    "compute.memory_format=contiguous",
    "checkpoint_minutes=0",
)
CONFIGS = ((1.0, 12), (0.5, 8))
FEW = next(iter(SCALES.values()))


def tiny_run(*settings: str, **words) -> StudyRun:
    """A network of ten layers on digits, for a few steps."""
    values = {"recipe": "digits_demo", "data": "digits", "epochs": 1, "resolutions": (12, 8)}
    return StudyRun(**{**values, "configs": CONFIGS, "settings": (*SETTINGS, *settings), **words})


def alone(width: float, side: int) -> StudyRun:
    return tiny_run(width_range=(width, width), resolutions=(side,), configs=((width, side),))


def macs_of(run: StudyRun, config) -> int:
    width, side = config
    return costs_of(run).macs(Subnet(width_mult=round(width, 2), resolution=side))


@cache
def costs_of(run: StudyRun) -> CostModel:
    recipe = run.recipe_of(0)
    model = create_model(recipe.model.name, num_classes=10, **recipe.model.kwargs)
    return CostModel(Supernet(model, recipe.space))


def tiny_claim(**words) -> Claim:
    values = {
        "name": "tiny",
        "group": "frontier",
        "source": "a paper",
        "says": "more",
        "ours": Entry(title="MutualNet", runs=(tiny_run(method="mutualnet"),)),
        "theirs": Entry(title="alone", runs=(alone(1.0, 12), alone(0.5, 8))),
        "budgets": CONFIGS,
    }
    return Claim(**{**values, **words})


def row(select: float, test: float, *, network: int = 0, width: float = 1.0, macs: int = 10):
    return {
        "network": network,
        "width": width,
        "side": 32,
        "macs": macs,
        "select": select,
        "test": test,
    }


# ------------------------------------------------------------------------------------------ verdict


def test_the_interval_is_students_and_decides():
    # Of 1, 2 and 3: mean 2, deviation 1, and t with two degrees of freedom 4.3027.
    found = judge([1.0, 2.0, 3.0], needed=3)
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.word == "not decided"


@pytest.mark.parametrize(
    ("values", "margin", "word"),
    [
        ([1.9, 2.0, 2.1], 0.0, "holds"),
        ([-1.9, -2.0, -2.1], 0.0, "does not"),
        ([-0.4, -0.5, -0.6], -1.0, "holds"),
        ([-0.4, -0.5, -0.6], 0.0, "does not"),
        ([2.0, 2.0], 0.0, "unfinished"),
        ([], 0.0, "unfinished"),
    ],
)
def test_verdicts(values, margin, word):
    found = judge(values, needed=3, margin=margin)
    assert (found.word, found.num_seeds) == (word, len(values))


def test_seeds_are_paired_and_others_left_out():
    claim = tiny_claim(budgets=((1.0, 32),))
    ours = {seed: [row(0, 50.0 + 10 * seed)] for seed in (0, 1, 2)}
    theirs = {seed: [row(0, 49.0 + 10 * seed)] for seed in (1, 2, 3)}
    paired = differences(claim, ours, theirs)
    assert paired == {1: [(60.0, 59.0)], 2: [(70.0, 69.0)]}
    # The seeds themselves lie ten points apart; pairs do not.
    assert judge([a - b for ((a, b),) in paired.values()], needed=2).half == 0


def test_select_picks_within_the_budget_and_networks_are_averaged():
    rows = [
        row(70, 61.0, macs=9),
        row(71, 60.0, width=0.5, macs=4),
        row(90, 99.0, macs=11),
        row(10, 40.0, network=1, macs=9),
    ]
    entry = Entry(title="one", runs=())
    assert best_within(rows, 10, entry) == 50.0
    assert best_within(rows, 10, replace(entry, configs=((1.0, 32),))) == 50.5
    assert best_within(rows, 3, entry) is None


# --------------------------------------------------------------------------------------------- runs


def test_runs_are_known_by_their_complete_settings():
    run = tiny_run()
    swapped = replace(run, settings=run.settings[::-1])
    assert run.key() == swapped.key()
    others = [tiny_run("optimizer.lr=0.05"), tiny_run(epochs=2), tiny_run(method="us_net")]
    others += [tiny_run(init=run), tiny_run(init=others[0]), tiny_run(teacher=run)]
    assert len({run.key(), *(other.key() for other in others)}) == 7


def test_a_command_line_trains_what_the_study_trains(monkeypatch):
    found = []
    monkeypatch.setattr(train_command, "train", lambda recipe, out, **_: found.append(recipe))
    monkeypatch.setattr(train_command, "networks_of", lambda out: [])
    run = tiny_run(
        "data.cutout=4", method="us_net", width_range=(0.5, 1.0), teaching="dks", epochs=3
    )
    init = Path("some/run")
    text = run.words(4, init=init, teacher=init, common=SETTINGS[1])
    words = shlex.split(text.replace("$SET", SETTINGS[1]))
    assert main([*words[1:], "--out", "nowhere"]) == 0
    assert found[0] == run.recipe_of(4, init=init, teacher=init)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_claims_are_whole(scale):
    claims = all_claims(scale)
    assert len({claim.name for claim in claims}) == len(claims)
    assert {claim.group for claim in claims} == set(GROUPS)
    configs: dict[StudyRun, tuple] = {}
    for claim in claims:
        assert len(claim.seeds) >= 3
        for run in claim.runs():
            teacher = None if run.teacher is None else Path("teacher")
            assert run.recipe_of(0, teacher=teacher).graph.edges
            assert configs.setdefault(run, run.configs) == run.configs
    assert len({run.key() for run in configs}) == len(configs)


def test_unknown_claims_are_refused():
    claims = all_claims(FEW)
    assert [claim.name for claim in choose(claims, ["alone"])] == ["alone"]
    assert len(choose(claims, ["boost"])) == 9
    with pytest.raises(ValueError, match="no claim or group is called 'us-net'"):
        choose(claims, ["us-net"])


def test_costs_go_with_epochs():
    run = tiny_run()
    assert hours_of(replace(run, epochs=3), FEW) == pytest.approx(3 * hours_of(run, FEW))


# -------------------------------------------------------------------------------------------- study


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", "tiny")


def fake(store: Store, run: StudyRun, seed: int, test: float) -> None:
    rows = [
        {"network": 0, "width": w, "side": s, "macs": int(1e6 * w * s), "select": 1.0, "test": test}
        for w, s in run.configs
    ]
    found = {"commit": "0123456789ab", "rows": rows, "last_losses": {"ce_largest": 0.5, "kl": 9.0}}
    store.put(run, seed, found)


def test_first_seeds_come_first_and_more_where_nothing_is_decided(store):
    first, second = tiny_claim(), tiny_claim(name="other", ours=tiny_claim().theirs)
    assert [seed for _, seed in work([first, second], store)] == [0] * 3 + [1] * 3 + [2] * 3
    mutual, *singles = first.runs()
    for seed, gain in enumerate((1.0, -1.0, 1.0)):
        fake(store, mutual, seed, 50 + gain)
        for run in singles:
            fake(store, run, seed, 50)
    assert sorted({seed for _, seed in work([first], store)}) == [3, 4]
    for seed in (3, 4):  # exactly all five decide then
        assert store.verdict(first).word == "unfinished"
        fake(store, mutual, seed, 51)
        for run in singles:
            fake(store, run, seed, 50)
    assert (store.verdict(first).word, store.verdict(first).num_seeds) == ("not decided", 5)
    # Where the first three decide, seeds of other claims do not count.
    fake(store, mutual, 1, 51)
    fake(store, mutual, 4, 10)
    found = store.verdict(first)
    assert (found.word, found.num_seeds, found.mean) == ("holds", 3, 1.0)
    assert work([first], store) == []


def test_two_looks_decide_the_share_of_claims_that_the_page_says():
    """Of claims without any difference: 9 % are decided, half of them in favour."""
    rng = np.random.default_rng(0)
    words = Counter()
    for values in rng.standard_normal((4000, 5)).tolist():
        found = judge(values[:3], needed=3)
        words[found.word if found.word != "not decided" else judge(values, needed=5).word] += 1
    assert words["holds"] / 4000 == pytest.approx(0.043, abs=0.01)
    assert words["does not"] / 4000 == pytest.approx(0.043, abs=0.01)


def test_claims_that_others_have_run_are_written(tmp_path, store):
    claim = tiny_claim()
    for run in claim.runs():
        for seed in claim.seeds:
            fake(store, run, seed, 50 + 2 * (run.method == "mutualnet"))
    study.run_all([claim], store, folder=tmp_path / "runs", data=tmp_path)
    assert json.loads((store.folder / "tiny.json").read_text())["verdict"] == "holds"


def test_networks_alone_see_what_sub_networks_see_and_configurations_fit(subtests):
    for scale in SCALES.values():
        claims = {claim.name: claim for claim in all_claims(scale)}
        mutual = claims["alone"].ours.runs[0].recipe_of(0)
        for name in ("alone", "scaling"):
            for run in claims[name].theirs.runs:
                assert run.recipe_of(0).load_resolution == mutual.load_resolution
        for name, claim in claims.items():
            if name.startswith("regime_mutualnet"):
                sides = {run.recipe_of(0).load_resolution for run in claim.runs()}
                assert sides == {scale.pair_side}
        with subtests.test(scale=scale.name):
            ours, theirs = (
                entry.runs[0] for entry in (claims["scaling"].ours, claims["scaling"].theirs)
            )
            budget = macs_of(theirs, theirs.configs[0])
            costs = {config: macs_of(ours, config) for config in ours.configs}
            assert all(cost <= budget for cost in costs.values())
            for width, side in ours.configs:
                assert width == 2.0 or macs_of(ours, (width + 0.05, side)) > budget


def test_results_of_two_scales_are_not_mixed(store):
    run = tiny_run()
    fake(store, run, 0, 50)
    with pytest.raises(ValueError, match="must hold runs of scale other, got tiny"):
        Store(store.folder, "other").seeds_of(run)


def test_a_study_that_is_stopped_goes_on_to_the_same_bits(tmp_path, store, monkeypatch):
    theirs = Entry(title="alone", runs=(alone(1.0, 12),))
    claim = tiny_claim(theirs=theirs, budgets=CONFIGS[:1], seeds=(0, 1), more_seeds=())
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            study.run_all([claim], store, folder=tmp_path / "runs", data=tmp_path)
    assert not store.folder.exists()
    study.run_all([claim], store, folder=tmp_path / "runs", data=tmp_path)
    content = json.loads((store.folder / "tiny.json").read_text())
    assert content["scale"] == "tiny"
    assert sorted(content["scores"]) == ["0", "1"]
    assert len(content["runs"]) == len(list((store.folder / "runs").iterdir())) == 2
    assert all(len(commit) >= 12 for commit in content["commits"])
    mutual = claim.ours.runs[0]
    whole = tmp_path / "whole"
    again = perform(mutual, 0, folder=whole, data=tmp_path)
    assert_same_weights(place_of(mutual, 0, tmp_path / "runs"), place_of(mutual, 0, whole))
    assert again["rows"] == store.seeds_of(mutual)[0]["rows"]


def test_a_study_that_is_stopped_by_hand_says_how_it_goes_on(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run_all", stop)
    for place, name in (
        (study.logging, "basicConfig"),
        (study, "flush_denormals"),
        (study, "tune_allocator"),
        (study.torch, "set_num_threads"),
    ):
        monkeypatch.setattr(place, name, lambda *_, **__: None)  # they last for a whole process
    monkeypatch.setattr(sys, "argv", ["study.py", "alone", "--data", str(tmp_path)])
    with pytest.raises(SystemExit, match="stopped: the same command goes on where it was"):
        study.main()


def test_a_run_that_fails_leaves_the_others_alone(tmp_path, store, caplog):
    one = Entry(title="alone", runs=(alone(1.0, 12),))
    bad = Entry(title="bad", runs=(tiny_run("data.policy=autoaugment"),))
    words = {"theirs": one, "budgets": CONFIGS[:1], "seeds": (0, 1), "more_seeds": ()}
    claims = [tiny_claim(name="bad", ours=bad, **words), tiny_claim(name="fine", ours=one, **words)]
    study.run_all(claims, store, folder=tmp_path / "runs", data=tmp_path)
    assert "this run failed and is left out" in caplog.text
    assert [store.verdict(claim).num_seeds for claim in claims] == [0, 2]


# -------------------------------------------------------------------------------------------- times


def test_every_run_is_timed_those_too_that_need_another_one(tmp_path, store, monkeypatch):
    monkeypatch.setattr(study_times, "STEPS", 3)
    teacher = alone(1.0, 12)
    runs = [tiny_run(), tiny_run(init=teacher), tiny_run(teaching="kd", teacher=teacher)]
    assert study_times.read_times(store)["seconds_per_step"] == {}
    study_times.measure_times([teacher], store, data=tmp_path)
    study_times.measure_times(runs, store, data=tmp_path)
    times = study_times.read_times(store)
    assert times["seconds_per_step"].keys() == {run.key() for run in runs}  # of one sitting
    assert all(seconds > 0 for seconds in times["seconds_per_step"].values())
    assert (times["scale"], times["steps"]) == ("tiny", 2)
    assert times["machine"]


# --------------------------------------------------------------------------------------------- page


def test_the_page_is_a_function_of_the_files(tmp_path):
    root = Path(__file__).resolve().parents[2]
    folder = tmp_path / "benchmarks" / "study"
    folder.mkdir(parents=True)
    for name in ("small-networks", "photos.md"):
        (folder / name).symlink_to(root / "benchmarks" / "study" / name)
    store = Store(folder, FEW.name)
    claims = all_claims(FEW)
    for claim in choose(claims, ["us_net", "alone", "regime_dml_wrn16_2_003"]):
        for run in claim.runs():
            for seed in (0, 1, 2)[: 1 if claim.group == "regime" else 3]:
                fake(store, run, seed, 60 + seed + 2 * (run.method == "mutualnet"))
    mutual, us_net = (elastic(FEW, method).key() for method in ("mutualnet", "us_net"))
    seconds = {mutual: 0.111, us_net: 0.222}
    about = {"machine": "some CPU", "threads": 1, "torch": "2.15.0", "steps": 40}
    (folder / "times.json").write_text(json.dumps(about | {"seconds_per_step": seconds}))
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_page(tmp_path, tmp_path / name)
        pages.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert pages[0] == pages[1]
    text = pages[0]["results.md"].decode()
    command, gain = "`python benchmarks/study.py", "+2.0 ± 0.0"
    assert f"| +2.0 ± 0.0 | holds, 3 of 3 seeds | {command} alone` |" in text
    assert f"unfinished (1 of 3 seeds) | {command} regime_dml_wrn16_2_003` |" in text
    assert f"unfinished (0 of 3 seeds) | {command} dcm` |" in text
    assert "on 1 thread(s) of some CPU" in text
    [line] = [line for line in text.splitlines() if line.startswith("| US-Net |")]
    assert line.endswith("| 3 | 0.50 | 0.22 |")
    lines = [line for line in text.splitlines() if line.startswith("| trained alone |")]
    assert len(lines) == 2  # beside MutualNet, and beside MutualNet with labels
    assert all(line.endswith("| 3 | 0.50 |  |") for line in lines)  # not all runs are timed
    assert f"| `alone` | {gain} | {gain} | {gain} |  | {gain} |" in text
    assert "--method us_net --width-range 0.25 1 --resolutions 32 28 24 20 --set $SET" in text
    assert {"study-few-images.png", "study-few-images-frontier.png"} <= pages[0].keys()


def test_the_stored_page_is_current(tmp_path):
    root = Path(__file__).resolve().parents[2]
    write_page(root, tmp_path)
    assert (tmp_path / "results.md").read_text() == (root / "docs" / "results.md").read_text(), (
        "run python benchmarks/study.py --page"
    )


# ------------------------------------------------------------------------------ pretrained networks


def test_steps_are_limited_and_keys_without_a_limit_stay():
    run = tiny_run()
    assert replace(run, limit_steps=3).key() != run.key()
    assert elastic(FEW, "mutualnet").key() == "5e8ec18299d2"  # a file of this name is kept
    assert full_alone(FEW).key() == "9af78130c129"


def test_a_network_as_it_begins_is_scored(tmp_path, store):
    first = alone(1.0, 12)
    network = "model.kwargs={depth: 10, width_factor: 1}"  # a whole `model=` would drop `init`
    begun = replace(
        tiny_run(method="mutualnet", init=first, limit_steps=0, configs=CONFIGS),
        settings=(network, *SETTINGS[1:], "model.sort_channels=l1"),
    )
    results = {}
    for run in (first, begun):
        results[run] = perform(run, 0, folder=tmp_path, data=tmp_path)
        store.put(run, 0, results[run])
    found = results[begun]
    assert found["steps"] == 0
    assert [(row["width"], row["side"]) for row in found["rows"]] == list(CONFIGS)
    shutil.rmtree(place_of(first, 0, tmp_path))  # trained again, to the same bits
    assert perform(begun, 0, folder=tmp_path, data=tmp_path)["rows"] == found["rows"]
    # Calibrated alike, the full network scores as before it was sorted.
    assert found["rows"][0]["test"] == pytest.approx(results[first]["rows"][0]["test"], abs=0.3)
    assert found["rows"][0]["test"] > 15  # chance has 10
    text = (store.folder / "runs" / f"{begun.key()}.json").read_text()
    assert json.loads(text)["settings"]["limit_steps"] == 0


def test_the_select_split_chooses_the_learning_rate(store):
    for steps in (14, 41):
        for rate, score in zip(pretrained_runs.RATES, (50.0, 60.0, 55.0), strict=True):
            run = pretrained_runs.elastic_run("l1", steps, rate)
            rows = [row(score + steps, 10.0)]
            store.put(run, 0, {"commit": "0", "rows": rows})
    assert pretrained_runs.rate_of(store, "taylor", 14) == pretrained_runs.RATES[1]
    assert pretrained_runs.rate_of(store, "none", 14) is None


def test_runs_of_pretrained_networks_are_asked_for_once_and_unsorted_rates_are_their_own(store):
    asked, unsorted = [], pretrained_runs.elastic_run("none", 14, pretrained_runs.RATES[0])
    for run, seed in pretrained.wanted(store, (0, 1)):
        if seed in store.seeds_of(run):
            continue
        asked.append((run, seed))
        score = 99.0 if run == unsorted else run.recipe_of(0, init=Path("x")).optimizer.lr
        store.put(run, seed, {"commit": "0", "rows": [row(score, 1)]})
    # Alone, from scratch, begun by 4 criteria, at 3 lengths l1 and none at 3 rates, 2 others at one
    assert len([run for run, seed in asked if seed == 0]) == 2 + 4 + 3 * (3 + 3 + 2)
    others = [run for run, seed in asked if seed == 1]
    assert len(others) == 2 + 4 + 3 * 4
    assert unsorted in others
    assert pretrained_runs.elastic_run("l2", 14, pretrained_runs.RATES[2]) in others


def test_the_stored_tables_of_pretrained_networks_are_current(tmp_path):
    root = Path(__file__).resolve().parents[2]
    page = tmp_path / "pretrained.md"
    page.write_text((root / "docs" / "pretrained.md").read_text())
    write_tables(store_of(FEW, root / "benchmarks" / "study"), page)
    assert page.read_text() == (root / "docs" / "pretrained.md").read_text(), (
        "run python benchmarks/pretrained.py --page"
    )
