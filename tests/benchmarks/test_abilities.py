# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The model of all visits that chooses temperatures in the research loop."""

import numpy as np
import pytest
import torch

from benchmarks.research import abilities
from benchmarks.research.abilities import Abilities

SLOPE, SPREAD, BY_LENGTH = 8.0, 1.5, -0.5
PROMPTS, BATCH, STEPS = 64, 16, 48


def chance(log_odds):
    return 1 / (1 + np.exp(-log_odds))


def simulated(seed, aim=0.5):
    """A pool that is visited twelve times at temperatures of the model's own choice, while it rises by two log-odds.

    Returns:
        The model, log-odds at T = 1 of all prompts at the end, and chances at which the last half was sampled.
    """
    source = np.random.default_rng(seed)
    lengths = source.choice([7, 9, 11, 13, 15], PROMPTS)
    own = BY_LENGTH * (lengths - lengths.mean()) / lengths.std() + source.normal(0, SPREAD, PROMPTS)
    model = Abilities(lengths, aim, (0.5, 2.5))
    chances = []
    for step in range(1, STEPS + 1):
        if step % (PROMPTS // BATCH) == 1:
            order = source.permutation(PROMPTS)
        batch, order = order[:BATCH], order[BATCH:]
        at_one = 0.5 + 2 * step / STEPS + own
        heat = model.temperatures(batch)
        right = chance(at_one[batch] - SLOPE * (heat - 1))
        for prompt, temperature, count in zip(batch, heat, source.binomial(8, right), strict=True):
            model.observe(prompt, temperature, count, 8, step)
        model.fit(step)
        chances.append(right)
    return model, at_one, np.array(chances[STEPS // 2 :])


@pytest.mark.parametrize("seed", range(3))
def test_slope_and_abilities_are_found_at_the_temperatures_that_they_choose(seed):
    model, at_one, chances = simulated(seed)
    assert model.slope == pytest.approx(SLOPE, abs=1.8)
    # 96 responses to a prompt are good for an error of 0.2 at the temperature where they were sampled.
    assert np.sqrt(np.mean((model.abilities - at_one) ** 2)) < 0.6
    assert np.corrcoef(model.abilities, at_one)[0, 1] > 0.97
    assert np.sqrt(model._variances[0]) == pytest.approx(SPREAD, rel=0.25)
    assert chances.mean() == pytest.approx(0.5, abs=0.04) and chances.std() < 0.1


def test_the_aim_is_met():
    _, _, chances = simulated(seed=3, aim=0.7)
    assert chances.mean() == pytest.approx(0.7, abs=0.04)


def test_a_new_prompt_starts_like_those_of_its_length():
    lengths = np.repeat([5, 15], 20)
    model = Abilities(lengths, 0.5, (0.7, 1.8))
    assert model.temperatures(np.arange(40)).tolist() == [1.0] * 40
    for step, prompts in enumerate((range(5, 10), range(25, 30), range(10, 15), range(30, 35)), 1):
        for prompt in prompts:
            model.observe(prompt, 1.0, 7 if prompt < 20 else 2, 8, step)
        model.fit(step)
    of_new = model.temperatures(np.array([0, 39]))
    assert of_new[0] > 1.1 and of_new[1] < 1 and model._variances[0] < 0.5


def test_temperatures_stay_within_their_bounds():
    model = Abilities(np.array([5, 5, 5]), 0.5, (0.8, 1.5))
    for step in range(1, 7):
        for prompt, correct in enumerate((8, 4, 0)):
            model.observe(prompt, float(model.temperatures(np.array([prompt]))[0]), correct, 8, step)
        model.fit(step)
    heat = model.temperatures(np.arange(3))
    assert heat[0] == 1.5 and 0.8 < heat[1] < 1.5 and heat[2] == 0.8


def test_a_surprise_does_not_make_the_fit_jump():
    """Newton's method, with a prediction near 1, would leap far past the mode and back."""
    model = Abilities(np.array([5, 7]), 0.5, (0.7, 1.8))
    for step in range(1, 9):
        model.observe(0, 1.0, 8, 8, step)
        model.fit(step)
    sure = model.abilities[0]
    model.observe(0, 1.0, 0, 8, 9)
    found = []
    for _ in range(4):
        model.fit(9)
        found.append(model.abilities[0])
    assert sure > 2.5 and all(-3 < ability < sure for ability in found)


def test_two_groups_of_a_prompt_in_a_step_count_as_one():
    lengths = np.array([5, 7, 9])
    source = np.random.default_rng(0)
    whole, split = (Abilities(lengths, 0.5, (0.7, 1.8)) for _ in range(2))
    for step in range(1, 9):
        for prompt in range(3):
            heat = float(source.uniform(0.8, 1.5))
            first, second = source.binomial(8, chance(prompt - 5 * (heat - 1)), 2)
            whole.observe(prompt, heat, first + second, 16, step)
            split.observe(prompt, heat, first, 8, step)
            split.observe(prompt, heat, second, 8, step)
        whole.fit(step)
        split.fit(step)
    assert split._variances == pytest.approx(whole._variances, rel=1e-6)
    assert split.abilities == pytest.approx(whole.abilities, rel=1e-6)


def test_the_fit_is_the_mode_of_the_posterior(monkeypatch):
    """By gradient steps on the joint density written out, walks as sums of squared steps."""
    monkeypatch.setattr(Abilities, "_update_variances", lambda *_: None)
    source = np.random.default_rng(0)
    lengths = np.array([5, 7, 9, 11, 5])
    model = Abilities(lengths, 0.5, (0.7, 1.8))
    visits = []
    for step, prompts in enumerate(((0, 1, 2), (2, 3), (0, 1, 3, 0), (0, 2)), 1):
        for prompt in prompts:
            heat = float(source.uniform(0.8, 1.5))
            visits.append((prompt, heat, int(source.binomial(8, chance(prompt - 5 * (heat - 1)))), 8, step))
            model.observe(*visits[-1])
    for _ in range(100):
        model.fit(4)

    # Twice in a step it is the same ability.
    last = sorted({(visit[0], visit[4]) for visit in visits})
    at = [last.index((visit[0], visit[4])) for visit in visits]
    prompts, heat, correct, sizes, steps = (torch.from_numpy(np.array(column)) for column in zip(*visits, strict=True))
    x = torch.tensor((lengths - lengths.mean()) / lengths.std())

    def energy(parameters):
        slope, by_length, levels, own = *parameters[:2], parameters[2:6], parameters[6:]
        total = (slope - 5) ** 2 / 25 + by_length**2 + levels[0] ** 2 / 25
        total = total + (levels.diff() ** 2).sum() / abilities._LEVEL_WALK
        for row, (prompt, step) in enumerate(last):
            if row and last[row - 1][0] == prompt:
                variance = abilities._ABILITY_WALK * (step - last[row - 1][1])
                total = total + (own[row] - own[row - 1]) ** 2 / variance
            else:
                total = total + own[row] ** 2 / abilities._ABILITY
        log_odds = levels[steps - 1] + by_length * x[prompts] + own[at] - slope * (heat - 1)
        return total - 2 * (correct * log_odds - sizes * torch.nn.functional.softplus(log_odds)).sum()

    mode = torch.zeros(6 + len(last), dtype=torch.float64)
    for _ in range(10):
        gradient = torch.autograd.functional.jacobian(energy, mode)
        mode = mode - torch.linalg.solve(torch.autograd.functional.hessian(energy, mode), gradient)
    assert gradient.abs().max() < 1e-9
    assert model._shared == pytest.approx(mode[:6].numpy(), abs=1e-4)
    expected = (mode[5] + mode[1] * x).numpy()
    for row, (prompt, _) in enumerate(last):
        if (prompt, 5) < [*last, (5, 5)][row + 1]:
            expected[prompt] += mode[6 + row].item()
    assert model.abilities == pytest.approx(expected, abs=1e-4)
    wanted = np.clip(1 + expected / mode[0].item(), 0.7, 1.8)
    assert model.temperatures(np.arange(5)) == pytest.approx(wanted, abs=1e-4) and len(set(wanted)) > 3
