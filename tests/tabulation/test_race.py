"""The race: a few stand in for all, nobody leaves in doubt, and doubt is taken image by image."""

from __future__ import annotations

import numpy as np
import pytest

from mutualnet.tabulation.race import covered_by, race
from mutualnet.tabulation.race_table import round_stops

STOPS = (250, 500, 1000)


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


def _run(answers, costs, stops=STOPS, **settings):
    """Who is left, how all came out, and what was asked for."""
    asked = []

    def measure(candidates, start, stop):
        asked.append((tuple(candidates), start, stop))
        return answers[list(candidates), start:stop]

    standings = race(measure, costs, stops, **settings)
    left = [i for i, one in enumerate(standings) if one.covered_by is None]
    return left, standings, asked


def _grid(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """16 widths by 4 resolutions: chances that rise with both, and two costs of each."""
    rng = np.random.default_rng(seed)
    width, side = (a.ravel() for a in np.meshgrid(np.linspace(0.25, 1, 16), [20, 24, 28, 32]))
    chances = 0.75 - 0.10 / width + rng.uniform(0.02, 0.05) * (side - 32) / 4
    macs = width**2 * side**2
    return chances, np.stack([macs, macs ** rng.uniform(0.5, 1)], 1)


def _tied_grid(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with most widths within a point of each other, as in networks trained for long."""
    rng = np.random.default_rng(seed)
    width, side = (a.ravel() for a in np.meshgrid(np.linspace(0.25, 1, 16), [20, 24, 28, 32]))
    chances = 0.62 - 0.03 / width + rng.uniform(0.01, 0.02) * (side - 32) / 4
    macs = width**2 * side**2
    costs = np.stack([macs, macs ** rng.uniform(0.5, 1)], 1)
    return chances + rng.normal(0, 0.003, 64), costs


def _error(score: float, num_images: int) -> float:
    return float(np.sqrt(score * (100 - score) / num_images))


def _losses(scores: np.ndarray, costs: np.ndarray, left: list[int]) -> list[float]:
    """What is lost at every budget on every axis, in standard errors of the best score there."""
    lost = []
    for axis in range(costs.shape[1]):
        for budget in costs[:, axis]:
            best = scores[costs[:, axis] <= budget].max()
            kept = [number for number in left if costs[number, axis] <= budget]
            lost.append((best - scores[kept].max()) / _error(best, 5000))
    return lost


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("grid", "most_passes"), [(_grid, 0.85), (_tied_grid, 0.95)])
def test_the_best_within_any_budget_has_a_stand_in_within_a_standard_error(grid, most_passes, seed):
    chances, costs = grid(seed)
    answers = _answers(chances, 5000, seed)
    left, _, asked = _run(answers, costs, round_stops(5000))
    lost = _losses(answers.mean(1), costs, left)
    assert max(lost) <= 1
    assert np.mean(lost) < 0.2
    passes = sum(len(some) * (stop - start) for some, start, stop in asked)
    assert passes < most_passes * answers.size
    assert len(left) <= len(_front(answers.mean(1), costs)) + 16


def test_without_tolerance_the_front_survives_nearly_always():
    chances, costs = _grid(0)
    lost = []
    for seed in range(0, 120, 2):
        answers = _answers(chances, 1500, seed)
        front = _front(answers.mean(1), costs)
        left = _run(answers, costs, round_stops(1500), tolerance=0.0)[0]
        lost.append(len(front - set(left)) / len(front))
    assert np.mean(lost) < 0.05


def test_what_leaves_has_a_stand_in_on_every_axis():
    for seed in range(20):
        chances, costs = _grid(seed)
        answers = _answers(chances, 1000, seed)
        values, tolerance = answers[:, :400], 0.5
        leaving = covered_by(values, costs, num_errors=1.0, tolerance=tolerance)
        kept = [i for i in range(64) if i not in leaving]
        means = values.mean(1)
        for out, other in leaving.items():
            assert other in kept
            assert costs[other, 0] <= costs[out, 0]
            for axis in range(2):
                near = [i for i in kept if costs[i, axis] <= costs[out, axis]]
                assert means[near].max() >= means[out] - tolerance
        cheapest = np.lexsort((-chances, costs[:, 0]))[0]
        assert cheapest in kept


def test_with_everything_seen_and_no_tolerance_the_front_is_left():
    for seed in range(5):
        chances, costs = _grid(seed)
        answers = _answers(chances, 1000, seed)
        left = _run(answers, costs, (1000,), tolerance=0.0)[0]
        assert set(left) <= _front(answers.mean(1), costs)
        for axis in range(2):
            for budget in costs[:, axis]:
                fitting = costs[:, axis] <= budget
                best = answers.mean(1)[fitting].max()
                assert answers.mean(1)[[i for i in left if fitting[i]]].max() == best


def test_one_candidate_runs_alone():
    left, standings, asked = _run(_answers(np.array([0.5]), 1000, 0), np.array([[3.0]]))
    assert left == [0]
    assert standings[0].num_images == 1000
    assert asked == [((0,), 0, 250), ((0,), 250, 500), ((0,), 500, 1000)]


def test_what_answers_alike_stays_while_there_is_doubt_and_then_the_cheapest_does():
    answers = np.tile(_answers(np.array([0.5]), 1000, 0), (5, 1))
    costs = np.arange(5.0, 0, -1)[:, None]
    left, _, asked = _run(answers, costs, tolerance=0.0)
    assert left == [4]
    assert asked[-1] == ((0, 1, 2, 3, 4), 500, 1000)


def test_of_equal_costs_the_better_stays():
    answers = _answers(np.array([0.3, 0.6]), 1000, 0)
    left, standings, asked = _run(answers, np.ones((2, 2)))
    assert left == [1]
    assert standings[0].covered_by == 1
    assert standings[0].num_images == 250
    assert standings[0].score == pytest.approx(answers[0, :250].mean())
    assert standings[0].standard_error == pytest.approx(_error(standings[0].score, 250))
    assert asked[1] == ((1,), 250, 500)


def test_a_lead_within_the_tolerance_is_given_up_for_the_cheaper_one():
    answers = np.zeros((3, 1000))
    answers[0, :500] = answers[1, :508] = answers[2, :530] = 100.0  # leads of 0.8 and 2.2
    costs = np.array([[1.0], [2.0], [3.0]])
    assert _run(answers, costs, (1000,), tolerance=0.0)[0] == [0, 1, 2]
    # One standard error of a score on 1000 images is 1.58 points.
    assert _run(answers, costs, (1000,), tolerance=1.0)[0] == [0, 2]
    assert _run(answers, costs, (1000,), tolerance=2.0)[0] == [0]


def test_who_leaves_is_covered_on_every_axis_if_not_by_the_same_one():
    answers = _answers(np.array([0.3, 0.9, 0.8]), 1000, 0)
    left, standings, _ = _run(answers, np.array([[5.0, 5.0], [4.0, 9.0], [9.0, 4.0]]))
    assert left == [1, 2]
    assert standings[0].covered_by == 1
    assert _run(answers, np.array([[5.0, 3.0], [4.0, 9.0], [9.0, 4.0]]))[0] == [0, 1, 2]


def test_a_better_one_covers_only_what_costs_as_much_on_every_axis():
    answers = _answers(np.array([0.3, 0.9]), 1000, 0)
    assert _run(answers, np.array([[5.0, 1.0], [4.0, 2.0]]))[0] == [0, 1]
    assert _run(answers, np.array([[5.0, 2.0], [4.0, 2.0]]))[0] == [1]


def test_the_doubt_is_that_of_the_difference_on_the_same_images():
    rng = np.random.default_rng(0)
    hard = 100.0 * (rng.random(400) < 0.5)  # an error of 2.5 for each alone
    better = hard.copy()
    better[np.flatnonzero(hard == 0)[:12]] = 100.0  # 3 points ahead, by images of its own
    costs = np.array([[2.0], [1.0]])
    assert covered_by(np.stack([hard, better]), costs, num_errors=2.5) == {0: 1}
    apart = np.stack([hard, rng.permutation(better)])  # as good, but on other images
    assert covered_by(apart, costs, num_errors=2.5) == {}


def test_few_images_that_all_speak_for_one_are_not_beyond_doubt():
    behind = np.tile([0.0, 100.0], 75)
    ahead = behind.copy()
    ahead[[0, 2, 4, 6, 8, 10]] = 100.0  # 2.5 standard errors, if these six told them
    costs = np.array([[2.0], [1.0]])
    assert covered_by(np.stack([behind, ahead]), costs, num_errors=2.5) == {}
    ahead[[12, 14, 16, 18]] = 100.0
    assert covered_by(np.stack([behind, ahead]), costs, num_errors=2.5) == {0: 1}


def test_rounds_grow_and_end_with_the_images():
    assert round_stops(5000) == (500, 1000, 1750, 2500, 3500, 5000)
    assert round_stops(800) == (100, 160, 280, 400, 560, 800)
    assert round_stops(150) == (100, 105, 150)
    assert round_stops(60) == (60,)
    assert round_stops(128_000) == (1000, 2000, 3500, 5000, 7000, 10_000)


@pytest.mark.parametrize(
    ("costs", "stops", "message"),
    [
        (np.zeros((0, 1)), (5,), "at least 1 x 1"),
        (np.ones(3), (5,), "at least 1 x 1"),
        (np.ones((3, 1)), (), "stops must be ascending"),
        (np.ones((3, 1)), (5, 5), "stops must be ascending"),
        (np.ones((3, 1)), (0, 5), "stops must be ascending"),
    ],
)
def test_a_race_needs_candidates_and_rounds_that_grow(costs, stops, message):
    with pytest.raises(ValueError, match=message):
        race(lambda *_: np.zeros((3, 5)), costs, stops)
