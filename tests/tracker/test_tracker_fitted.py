# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The schedule with a model of all past groups: against the mode of its posterior, and on simulated prompts."""

import numpy as np
import pytest
from scipy.optimize import minimize
from tracker_helpers import MIXED, RIGHT, WRONG, batch, key_array, tracker

from erpo.tracker import GroupOutcomes, PromptTracker
from erpo.tracker.outcome import classify
from erpo.tracker.schedules import fitted
from erpo.tracker.schedules.base import on_grid

SLOPE, SPREAD = 8.0, 1.5
PROMPTS, BATCH, STEPS, N = 64, 16, 48, 8
ALL = key_array(*range(PROMPTS))


def chance(log_odds):
    return 1 / (1 + np.exp(-log_odds))


def slope(subject):
    return subject.metrics()["erpo/schedule/slope"]


def level(subject):
    return subject.metrics()["erpo/schedule/level"]


def sampled(source, prompts, temperatures, at_one, step):
    """Groups of N responses at such temperatures; log-odds at T = 1, (P,) each."""
    heat = on_grid(temperatures)
    right = chance(at_one - SLOPE * (heat - 1))
    correct = source.binomial(N, right)
    return right, GroupOutcomes(
        keys=ALL[prompts],
        outcomes=np.array([classify([1.0] * count + [0.0] * (N - count), N) for count in correct]),
        accuracies=correct / N,
        sizes=np.full(len(prompts), N),
        temperatures=heat,
        steps=np.full(len(prompts), step),
    )


def simulated(seed, **settings):
    """A pool that is visited twelve times at temperatures of the schedule's own choice, while it rises by two log-odds.

    Returns:
        The tracker, log-odds at T = 1 of all prompts at the end, and the chances of the last half of the groups.
    """
    source = np.random.default_rng(seed)
    own = source.normal(0, SPREAD, PROMPTS)
    subject = tracker("fitted", t_base=0.5, t_max=2.5, **settings)
    chances = []
    for step in range(STEPS):
        if step % (PROMPTS // BATCH) == 0:
            order = source.permutation(PROMPTS)
        prompts, order = order[:BATCH], order[BATCH:]
        at_one = 0.5 + 2 * step / STEPS + own
        right, groups = sampled(source, prompts, subject.temperatures_for(ALL[prompts]), at_one[prompts], step)
        subject.observe(groups)
        chances.append(right)
    return subject, at_one, np.array(chances[STEPS // 2 :])


@pytest.mark.parametrize("seed", range(3))
def test_slope_and_abilities_are_found_at_the_temperatures_that_they_choose(seed):
    subject, at_one, chances = simulated(seed)
    assert slope(subject) == pytest.approx(SLOPE, abs=2)
    frame = subject.frame().set_index("key")["ability_mean"]
    found = level(subject) + frame.to_numpy()[np.argsort(frame.index)]
    of_keys = at_one[np.argsort([key.tobytes().hex() for key in ALL])]
    assert np.corrcoef(found, of_keys)[0, 1] > 0.95
    assert chances.mean() == pytest.approx(0.4, abs=0.05) and chances.std() < 0.13


def test_the_target_is_met():
    _, _, chances = simulated(seed=3, target=0.7)
    assert chances.mean() == pytest.approx(0.7, abs=0.05)


def test_the_first_groups_update_to_the_mode_of_the_posterior(monkeypatch):
    monkeypatch.setattr(fitted, "_ITERATIONS", 200)
    subject = tracker("fitted")
    assert subject.temperatures_for(key_array(1, 2)) == pytest.approx([1 + np.log(0.6 / 0.4) / 5] * 2)
    heat, accuracy = np.array([1.0, 1.25, 1.5, 1.0]), np.array([1.0, 0.75, 0.25, 0.0])
    groups = zip((1, 2, 3, 4), (RIGHT, MIXED, MIXED, WRONG), heat, [7] * 4, accuracy, strict=True)
    subject.observe(batch(*groups))

    def energy(parameters):
        log_odds = parameters[1] + parameters[2:] - parameters[0] * (heat - 1)
        likelihood = N * (accuracy * log_odds - np.logaddexp(0, log_odds)).sum()
        return ((parameters[0] - 5) ** 2 + parameters[1] ** 2) / 50 + (parameters[2:] ** 2).sum() / 4 - likelihood

    mode = minimize(energy, np.zeros(6), tol=1e-12).x
    found = [slope(subject), level(subject), *subject.frame()["ability_mean"]]
    assert found == pytest.approx(list(mode), abs=1e-4)


def test_later_groups_start_from_what_is_known_and_how_old_it_is(monkeypatch):
    """The second batch, by the mode of a posterior whose prior is what the first one left."""
    monkeypatch.setattr(fitted, "_ITERATIONS", 200)
    subject = tracker("fitted")
    subject.observe(batch((1, RIGHT, 1.0, 3), (2, MIXED, 1.25, 3, 0.5)))
    before = subject.metrics()
    known = subject.frame().set_index("key")
    subject.observe(batch((1, MIXED, 1.5, 8, 0.25), (3, MIXED, 1.25, 8, 0.5)))

    shared = np.array([before["erpo/schedule/slope"], before["erpo/schedule/level"]])
    together = before["erpo/schedule/slope_level_covariance"]
    own = [before[f"erpo/schedule/{name}_variance"] for name in ("slope", "level")]
    covariance = np.array([[own[0], together], [together, own[1] + 5 * fitted._LEVEL_WALK]])
    precision = np.linalg.inv(covariance)
    first = known.loc["01000000000000000100000000000000"]
    means = np.array([first["ability_mean"], 0.0])
    variances = np.array([first["ability_variance"] + 5 * fitted._ABILITY_WALK, fitted._ABILITY])
    heat, accuracy = np.array([1.5, 1.25]), np.array([0.25, 0.5])

    def energy(parameters):
        log_odds = parameters[1] + parameters[2:] - parameters[0] * (heat - 1)
        likelihood = N * (accuracy * log_odds - np.logaddexp(0, log_odds)).sum()
        moved = parameters[:2] - shared
        return moved @ precision @ moved / 2 + ((parameters[2:] - means) ** 2 / variances).sum() / 2 - likelihood

    mode = minimize(energy, np.array([*shared, *means]), tol=1e-12).x
    after = subject.frame().set_index("key")["ability_mean"]
    found = [slope(subject), level(subject), *after.iloc[[0, 2]]]
    assert found == pytest.approx(list(mode), abs=1e-4)
    # What was not visited keeps its own, and moves with the level.
    assert after.iloc[1] == known["ability_mean"].iloc[1]


def test_variances_are_those_of_a_normal_distribution_of_all_quantities_together():
    """With the bound's weights at the end, every observation is a normal one: the inverse of their joint precision."""
    subject = tracker("fitted")
    heat, accuracy = np.array([1.0, 1.25, 1.5, 1.0]), np.array([0.75, 0.5, 0.25, 0.5])
    subject.observe(batch(*zip((1, 2, 3, 4), [MIXED] * 4, heat, [7] * 4, accuracy, strict=True)))
    abilities = subject.frame()["ability_mean"].to_numpy()
    log_odds = level(subject) + abilities - slope(subject) * (heat - 1)
    weights = N * np.tanh(log_odds / 2) / (2 * log_odds)
    of_observations = np.concatenate([1 - heat[:, None], np.ones((4, 1)), np.eye(4)], axis=1)
    prior = np.diag([1 / 25, 1 / 25, *[1 / fitted._ABILITY] * 4])
    covariance = np.linalg.inv(prior + of_observations.T @ (weights[:, None] * of_observations))
    names = ("slope_variance", "level_variance", "slope_level_covariance")
    found = [subject.metrics()[f"erpo/schedule/{name}"] for name in names]
    assert found == pytest.approx([covariance[0, 0], covariance[1, 1], covariance[0, 1]], rel=1e-3)
    assert subject.frame()["ability_variance"].to_numpy() == pytest.approx(np.diag(covariance)[2:], rel=1e-3)


def test_the_level_walks_with_the_newest_step_and_never_back():
    def after(*steps):
        subject = tracker("fitted")
        subject.observe(batch((1, MIXED, 1.25, 2, 0.5)))
        subject.observe(batch(*((prompt, MIXED, 1.25, step, 0.5) for prompt, step in enumerate(steps, 2))))
        subject.observe(batch((9, MIXED, 1.25, 8, 0.5)))
        return subject.metrics()

    # New prompts, so that only the level knows of time. Groups of step 1 come late.
    assert after(5, 5) == after(2, 5) == after(1, 5) != after(2, 2) == after(1, 1)


def test_a_group_from_before_the_last_visit_takes_nothing_back():
    late, on_time = tracker("fitted"), tracker("fitted")
    for subject, step in ((late, 4), (on_time, 10)):
        subject.observe(batch((1, MIXED, 1.25, 10, 0.5)))
        subject.observe(batch((1, MIXED, 1.5, step, 0.25)))
    assert late.metrics() == on_time.metrics()
    columns = ["ability_mean", "ability_variance"]
    assert late.frame()[columns].equals(on_time.frame()[columns])


def test_a_prompt_that_was_seen_long_ago_is_not_less_known_than_a_new_one():
    variances = []
    for seen in (1, 2):
        subject = tracker("fitted")
        subject.observe(batch((1, MIXED, 1.25, 0, 0.5)))
        subject.observe(batch((seen, MIXED, 1.25, 10_000, 0.5)))
        variances.append(subject.frame()["ability_variance"].iloc[seen - 1])
    assert variances[0] == pytest.approx(variances[1], rel=1e-6)


def test_few_iterations_are_enough(monkeypatch):
    few = simulated(0)[0]
    monkeypatch.setattr(fitted, "_ITERATIONS", 50)
    many = simulated(0)[0]
    assert [slope(few), level(few)] == pytest.approx([slope(many), level(many)], abs=0.01)


def test_what_is_known_of_a_prompt_separates_it_from_others():
    subject = tracker("fitted", t_base=0.5)
    for step in range(3):
        heat = subject.temperatures_for(key_array(1, 2))
        subject.observe(batch((1, RIGHT, heat[0], step), (2, WRONG, heat[1], step)))
    able, unable, new = subject.temperatures_for(key_array(1, 2, 3))
    assert 1.5 >= able > new + 0.05 > unable + 0.1 >= 0.6


def test_a_harmless_heat_goes_to_the_cap_and_nothing_overflows():
    """All groups right for ever, and then all wrong for ever."""
    subject = tracker("fitted")
    for step in range(500):
        heat = subject.temperatures_for(key_array(1, 2))
        subject.observe(batch((1, RIGHT, heat[0], step), (2, RIGHT, heat[1], step)))
    assert subject.temperatures_for(key_array(1, 2, 3)).tolist() == [1.5] * 3
    for step in range(500, 1000):
        heat = subject.temperatures_for(key_array(1, 2))
        subject.observe(batch((1, WRONG, heat[0], step), (2, WRONG, heat[1], step)))
    assert subject.temperatures_for(key_array(1, 2, 3)).tolist() == [1.0] * 3
    assert np.isfinite(list(subject.metrics().values())).all()


def test_parts_of_a_step_say_the_same_as_the_whole():
    """Refills come in parts: the level must not walk between them, and little may depend on the cut."""
    whole, parts = tracker("fitted"), tracker("fitted")
    source = np.random.default_rng(0)
    own = source.normal(0, SPREAD, PROMPTS)
    for step in range(8):
        prompts = source.choice(PROMPTS, BATCH, replace=False)
        _, groups = sampled(source, prompts, source.uniform(1, 1.5, BATCH), own[prompts], step)
        whole.observe(groups)
        parts.observe(groups.take(np.arange(5)), more_to_come=True)
        parts.observe(groups.take(np.arange(5, BATCH)), more_to_come=True)
        parts.finish_batch()
    spread = np.abs(parts.temperatures_for(ALL) - whole.temperatures_for(ALL))
    assert spread.max() < 0.03
    for name in ("erpo/schedule/slope_variance", "erpo/schedule/level_variance"):
        assert parts.metrics()[name] == pytest.approx(whole.metrics()[name], rel=0.1)


def test_it_goes_on_from_a_saved_state_to_the_last_bit():
    source = np.random.default_rng(1)
    subject = simulated(0)[0]
    loaded = PromptTracker(subject.config)
    loaded.load_state_dict(subject.state_dict())
    for step in range(STEPS, STEPS + 4):
        heat = subject.temperatures_for(ALL)
        assert loaded.temperatures_for(ALL).tolist() == heat.tolist()
        _, groups = sampled(source, np.arange(PROMPTS), heat, np.zeros(PROMPTS), step)
        subject.observe(groups)
        loaded.observe(groups)
    assert loaded.metrics() == subject.metrics()
