"""The page of what is elastic, and the check behind it on a few networks of different kinds."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import zoo

FEW = (
    "resnet10t",
    "test_nfnet",
    "fasternet_t0",
    "edgenext_xx_small",
    "test_vit",
    "eca_resnext26ts",
)


@pytest.mark.parametrize("name", FEW)
def test_a_network_nobody_adapted_is_elastic_and_right(name):
    record = zoo.examine(name)
    assert zoo.missed(record) == ""
    assert record["ratio"] < 0.4
    assert record["seconds"] > 0
    assert 0 < record["sorted_distance"] < 1e-9


def test_a_wrong_order_of_channels_is_seen(monkeypatch):
    def sort_weights_alone(model, plan, criterion):
        groups = [group for group in plan.groups if not group.is_ordered]
        weight = model.get_parameter(f"{groups[0].name}.weight")
        weight.copy_(weight.flip(0))

    monkeypatch.setattr(zoo, "sort_channels", sort_weights_alone)
    record = zoo.examine("resnet10t")
    assert record["problems"] == ["another order of its channels changes the full network"]


def test_what_is_no_number_is_seen():
    good, bad = [torch.ones(2)], [torch.tensor([1.0, float("nan")])]
    assert zoo.distance(good, good) == 0
    assert zoo.distance(bad, bad) == zoo.distance(good, bad) == float("inf")


def test_a_name_that_is_not_listed_is_not_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoo, "RESULTS", tmp_path / "zoo.json")
    monkeypatch.setattr(zoo, "supervised", lambda name: {"failed": f"no {name}"})
    monkeypatch.setattr("sys.argv", ["zoo.py", "resnet10t", "resnet10"])
    threads = torch.get_num_threads()
    zoo.main()
    torch.set_num_threads(threads)
    assert "no resnet10\n" in capsys.readouterr().out
    assert list(json.loads(zoo.RESULTS.read_text())) == ["resnet10t"]


def test_what_misses_the_target_is_said():
    good = {"problems": [], "conv_share": 0.9, "conv_ratio": 0.3, "inelastic": []}
    assert zoo.missed(good) == ""
    assert zoo.missed({**good, "problems": ["wrong"]}) == "wrong"
    assert zoo.missed({**good, "conv_ratio": 0.5}) == f"0.50 of its convolutions; {zoo.ROUNDING}"
    assert zoo.missed({"failed": "no answer"}) == zoo.wrong({"failed": "no answer"}) == "no answer"
    assert zoo.missed({"refused": "nothing is elastic"}) == "nothing is elastic"


def test_what_is_inelastic_for_a_reason_is_not_wrong():
    good = {"problems": [], "conv_share": 0.9, "conv_ratio": 0.5, "inelastic": []}
    assert zoo.wrong(good) == zoo.wrong({"refused": "nothing is elastic"}) == ""
    assert zoo.wrong({**good, "problems": ["one", "two"]}) == "one; two"


def test_the_stored_page_is_current():
    results = json.loads(zoo.RESULTS.read_text())
    assert set(results) <= set(zoo.NAMES.read_text().split())
    assert zoo.PAGE.read_text() == zoo.page(results), "run python benchmarks/zoo.py --page"
