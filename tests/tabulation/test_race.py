"""The race: the front survives it, the hopeless leave early, and doubt is taken image by image."""

from __future__ import annotations

import numpy as np
import pytest

from mutualnet.tabulation.race import beaten_by, race

ENDS = (250, 500, 1000, 1500)


def _answers(chances: np.ndarray, num_images: int, seed: int) -> np.ndarray:
    """Right (100) or wrong (0), an image being about as hard for all candidates."""
    hardness = np.random.default_rng(seed).random(num_images)
    own = np.random.default_rng(seed + 1).random((len(chances), num_images))
    return 100.0 * (0.8 * hardness + 0.2 * own < chances[:, None])


def _front(scores: np.ndarray, costs: np.ndarray) -> set[int]:
    """The best for any budget on any one axis."""
    no_dearer = costs[None, :, :] <= costs[:, None, :]
    better = (scores[None, :] > scores[:, None])[:, :, None]
    return set(np.flatnonzero(~(better & no_dearer).any(1).all(1)))


def _run(answers, costs, ends=ENDS, **settings):
    asked = []

    def measure(candidates, start, stop):
        asked.append((tuple(candidates), start, stop))
        return answers[list(candidates), start:stop]

    return race(measure, costs, ends, **settings), asked


def _grid(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """16 widths by 4 resolutions: chances that rise with both, and two costs of each."""
    rng = np.random.default_rng(seed)
    width, side = (a.ravel() for a in np.meshgrid(np.linspace(0.25, 1, 16), [20, 24, 28, 32]))
    chances = 0.75 - 0.10 / width + rng.uniform(0.02, 0.05) * (side - 32) / 4
    macs = width**2 * side**2
    return chances, np.stack([macs, macs ** rng.uniform(0.5, 1)], 1)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_within_any_budget_is_kept_within_a_standard_error(seed):
    chances, costs = _grid(seed)
    answers = _answers(chances, 5000, seed)
    found, asked = _run(answers, costs)
    scores = answers.mean(1)
    survivors = np.array(found.survivors)
    for axis in range(2):
        for budget in costs[:, axis]:
            fitting = np.flatnonzero(costs[:, axis] <= budget)
            kept = survivors[costs[survivors, axis] <= budget]
            best = scores[fitting].max()
            assert scores[kept].max() >= best - np.sqrt(best * (100 - best) / 5000)
    passes = sum(len(candidates) * (stop - start) for candidates, start, stop in asked)
    assert passes < 0.3 * answers.size
    assert len(survivors) <= len(_front(scores, costs)) + 16


def test_the_true_front_survives_nearly_always():
    chances, costs = _grid(0)
    front, runs = _front(chances, costs), 60
    lost = [
        len(front - set(_run(_answers(chances, 1000, s), costs)[0].survivors))
        for s in range(0, 2 * runs, 2)
    ]
    assert np.mean(lost) / len(front) < 0.05


def test_no_one_leaves_for_a_dearer_one_and_the_front_of_what_was_seen_stays():
    for seed in range(20):
        chances, costs = _grid(seed)
        answers = _answers(chances, 1000, seed)
        found, _ = _run(answers, costs)
        assert set(found.exits) | set(found.survivors) == set(range(64))
        assert not set(found.exits) & set(found.survivors)
        for out, left in found.exits.items():
            assert costs[left.beaten_by, 0] <= costs[out, 0]
            seen = answers[:, : left.num_images].mean(1)
            assert seen[left.beaten_by] > seen[out]
            assert left.score == pytest.approx(seen[out])
        cheapest = np.lexsort((-chances, costs[:, 0]))[0]
        assert cheapest in found.survivors


def test_one_candidate_runs_alone():
    found, asked = _run(_answers(np.array([0.5]), 1000, 0), np.array([[3.0]]))
    assert (found.survivors, found.exits) == ((0,), {})
    assert [(start, stop) for _, start, stop in asked] == [
        (0, 250),
        (250, 500),
        (500, 1000),
        (1000, 1500),
    ]


def test_candidates_that_answer_alike_all_stay():
    answers = np.tile(_answers(np.array([0.5]), 1000, 0), (5, 1))
    found, _ = _run(answers, np.arange(1.0, 6)[:, None])
    assert found.survivors == (0, 1, 2, 3, 4)


def test_of_equal_costs_the_better_stays_and_of_equal_scores_both():
    answers = _answers(np.array([0.3, 0.6, 0.6]), 1000, 0)
    answers[2] = answers[1]
    found, asked = _run(answers, np.ones((3, 2)))
    assert found.survivors == (1, 2)
    assert found.exits[0].num_images == 250
    assert asked[1][0] == (1, 2)


def test_who_drops_out_is_beaten_on_every_axis_if_not_by_the_same_one():
    answers = _answers(np.array([0.3, 0.9, 0.8]), 1000, 0)
    found = _run(answers, np.array([[5.0, 5.0], [4.0, 9.0], [9.0, 4.0]]))[0]
    assert found.survivors == (1, 2)
    assert found.exits[0].beaten_by == 1
    assert _run(answers, np.array([[5.0, 3.0], [4.0, 9.0], [9.0, 4.0]]))[0].survivors == (0, 1, 2)


def test_a_better_one_drops_only_what_costs_as_much_on_every_axis():
    answers = _answers(np.array([0.3, 0.9]), 1000, 0)
    assert _run(answers, np.array([[5.0, 1.0], [4.0, 2.0]]))[0].survivors == (0, 1)
    assert _run(answers, np.array([[5.0, 2.0], [4.0, 2.0]]))[0].survivors == (1,)


def test_the_doubt_is_that_of_the_difference_on_the_same_images():
    rng = np.random.default_rng(0)
    hard = 100.0 * (rng.random(400) < 0.5)  # an error of 2.5 for each alone
    better = hard.copy()
    better[np.flatnonzero(hard == 0)[:12]] = 100.0  # 3 points ahead, by images of its own
    costs = np.array([[2.0], [1.0]])
    assert beaten_by(np.stack([hard, better]), costs, num_errors=2.5) == {0: 1}
    apart = np.stack([hard, rng.permutation(better)])  # as good, but on other images
    assert beaten_by(apart, costs, num_errors=2.5) == {}


@pytest.mark.parametrize(
    ("costs", "ends", "message"),
    [
        (np.zeros((0, 1)), (5,), "at least 1 x 1"),
        (np.ones(3), (5,), "at least 1 x 1"),
        (np.ones((3, 1)), (), "ends must be ascending"),
        (np.ones((3, 1)), (5, 5), "ends must be ascending"),
    ],
)
def test_a_race_needs_candidates_and_rounds_that_grow(costs, ends, message):
    with pytest.raises(ValueError, match=message):
        race(lambda *_: np.zeros((3, 5)), costs, ends)
