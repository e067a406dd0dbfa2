"""The race: a few stand in for all, nobody leaves in doubt, and doubt is taken image by image."""

from __future__ import annotations

import numpy as np
import pytest

from mutualnet.tabulation.race import Round, covered_by, race
from mutualnet.tabulation.race_table import race_rounds

ROUNDS = tuple(Round(stop=stop, num_errors=2.5) for stop in (250, 500, 1000))


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


def _run(answers, costs, rounds=ROUNDS):
    """Who is left, how all came out, and what was asked for."""
    asked = []

    def measure(candidates, start, stop):
        asked.append((tuple(candidates), start, stop))
        return answers[list(candidates), start:stop]

    standings = race(measure, costs, rounds, num_images=answers.shape[1])
    left = [i for i, one in enumerate(standings) if one.covered_by is None]
    return left, standings, asked


def _grid(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """16 widths by 4 resolutions: chances that rise with both, and two costs of each."""
    rng = np.random.default_rng(seed)
    width, side = (a.ravel() for a in np.meshgrid(np.linspace(0.25, 1, 16), [20, 24, 28, 32]))
    chances = 0.75 - 0.10 / width + rng.uniform(0.02, 0.05) * (side - 32) / 4
    macs = width**2 * side**2
    return chances, np.stack([macs, macs ** rng.uniform(0.5, 1)], 1)


def _error(score: float, num_images: int) -> float:
    return float(np.sqrt(score * (100 - score) / num_images))


def test_the_best_within_any_budget_has_a_stand_in_within_a_standard_error_nearly_always():
    worst, mean, share = [], [], []
    for seed in range(20):
        chances, costs = _grid(seed)
        answers = _answers(chances, 5000, seed)
        scores, kept, passes = answers.mean(1), np.arange(64), 0
        for rounds in race_rounds(5000):  # as a table does: it starts anew after calibration
            left, _, asked = _run(answers[kept], costs[kept], rounds)
            passes += sum(len(some) * (stop - start) for some, start, stop in asked)
            kept = kept[left]
        lost = []
        for axis in range(2):
            for budget in costs[:, axis]:
                best = scores[costs[:, axis] <= budget].max()
                stand_in = scores[kept[costs[kept, axis] <= budget]].max()
                lost.append((best - stand_in) / _error(best, 5000))
        worst.append(max(lost))
        mean.append(np.mean(lost))
        share.append(passes / answers.size)
    assert np.mean(np.array(worst) <= 1) >= 0.9
    assert max(worst) < 1.5
    assert np.mean(mean) < 0.05
    assert np.mean(share) < 0.75


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
        left = _run(answers, costs, (Round(stop=1000, num_errors=0.0),))[0]
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
    assert _run(answers, costs)[0] == [0, 1, 2, 3, 4]
    assert _run(answers, costs, (Round(stop=1000, num_errors=0.0),))[0] == [4]


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
    sure = {"stop": 1000, "num_errors": 0.0}
    assert _run(answers, costs, (Round(**sure),))[0] == [0, 1, 2]
    # One standard error of a score on 1000 images is 1.58 points.
    assert _run(answers, costs, (Round(**sure, tolerance=1.0),))[0] == [0, 2]
    assert _run(answers, costs, (Round(**sure, tolerance=2.0),))[0] == [0]


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
    def stops(num_images):
        return [[number.stop for number in part] for part in race_rounds(num_images)]

    assert stops(5000) == [[150, 300, 600, 1000], [2500, 5000]]
    assert stops(800) == [[100, 160], [400, 800]]
    assert stops(60) == [[60], [60]]
    assert stops(128_000) == [[300, 600, 1200, 2000], [5000, 10_000]]
    for part in (race_rounds(800)[0], race_rounds(60)[0]):  # no image, no more trust in it
        assert part[0].num_errors == race_rounds(5000)[0][0].num_errors
    assert race_rounds(60)[1][-1].num_errors == 0


@pytest.mark.parametrize(
    ("costs", "stops", "message"),
    [
        (np.zeros((0, 1)), (5,), "at least 1 x 1"),
        (np.ones(3), (5,), "at least 1 x 1"),
        (np.ones((3, 1)), (), "rounds must have ascending stops"),
        (np.ones((3, 1)), (5, 5), "rounds must have ascending stops"),
    ],
)
def test_a_race_needs_candidates_and_rounds_that_grow(costs, stops, message):
    rounds = [Round(stop=stop, num_errors=1.0) for stop in stops]
    with pytest.raises(ValueError, match=message):
        race(lambda *_: np.zeros((3, 5)), costs, rounds, num_images=5)
