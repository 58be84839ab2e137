# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Each schedule against examples computed by hand."""

import dataclasses
import math

import numpy as np
import pytest
from tracker_helpers import MIXED, RIGHT, WRONG, batch, key_array, tracker, visit

from erpo.tracker import PromptTracker, TrackerConfig
from erpo.tracker.schedules import SCHEDULES

ONE = key_array(1)


def column(tracker: PromptTracker, name: str) -> float:
    return float(tracker.frame()[name][0])


def test_every_schedule_has_its_settings_field() -> None:
    assert {"name", "path", "own", *SCHEDULES} == {entry.name for entry in dataclasses.fields(TrackerConfig)}


def test_constant_ignores_history() -> None:
    subject = tracker("constant", temperature=1.6)
    assert [visit(subject, outcome) for outcome in (RIGHT, WRONG, MIXED, RIGHT)] == [1.6] * 4
    assert subject.temperatures_for(key_array(1, 2)).tolist() == [1.6, 1.6]
    assert subject.metrics()["erpo/temperature/prompts_frac_raised"] == 1.0
    # Every visit is at the cap.
    assert subject.capped_visits_for(ONE).tolist() == [2]


def test_rising_follows_the_steps_and_ignores_outcomes() -> None:
    subject = tracker("rising", t_first=1.2, t_max=1.8, steps=4)
    assert subject.temperatures_for(ONE).tolist() == [1.2]
    risen = [visit(subject, outcome, step=step) for step, outcome in enumerate((RIGHT, WRONG, MIXED, RIGHT, WRONG), 1)]
    assert risen == pytest.approx([1.35, 1.5, 1.65, 1.8, 1.8])
    # Prompts without history too, and a group from an earlier step takes nothing back.
    visit(subject, RIGHT, step=1)
    assert subject.temperatures_for(key_array(1, 2)).tolist() == [1.8, 1.8]


def test_rising_goes_on_where_it_was_saved() -> None:
    saved, loaded = tracker("rising", t_max=2.0, steps=10), tracker("rising", t_max=2.0, steps=10)
    visit(saved, RIGHT, step=5)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.temperatures_for(ONE).tolist() == [1.5]


def test_linear_climbs_to_the_cap_and_stays() -> None:
    subject = tracker("linear")
    climbed = [visit(subject, RIGHT) for _ in range(6)]
    assert climbed == pytest.approx([1.05, 1.10, 1.15, 1.20, 1.20, 1.20])
    assert column(subject, "level") == 4
    assert column(subject, "capped_visits") == 2
    assert visit(subject, MIXED) == pytest.approx(1.20)
    assert visit(subject, WRONG) == 1.0
    assert visit(subject, RIGHT) == pytest.approx(1.05)


def test_linear_resets_on_mixed_if_told() -> None:
    subject = tracker("linear", on_mixed="reset")
    assert [visit(subject, outcome) for outcome in (RIGHT, RIGHT, MIXED)] == pytest.approx([1.05, 1.10, 1.0])


def test_linear_cap_between_two_levels() -> None:
    subject = tracker("linear", dt=0.15)
    assert [visit(subject, RIGHT) for _ in range(3)] == pytest.approx([1.15, 1.2, 1.2])
    assert column(subject, "level") == 2


def test_linear_without_room_never_moves() -> None:
    subject = tracker("linear", t_max=1.0)
    assert [visit(subject, RIGHT) for _ in range(2)] == [1.0, 1.0]
    assert column(subject, "level") == 0


def test_band_doubles_holds_and_lowers() -> None:
    subject = tracker("band", t_max=2.0)
    # Raises of 1, 2, 4, 8 and again 8 steps of 0.05 (the last one is cut by the cap).
    assert [visit(subject, RIGHT) for _ in range(5)] == pytest.approx([1.05, 1.15, 1.35, 1.75, 2.0])
    assert visit(subject, MIXED, 0.9) == 2.0
    assert visit(subject, MIXED, 0.5) == 2.0
    assert visit(subject, MIXED, 0.375) == pytest.approx(1.95)
    # The streak of raises begins anew.
    assert visit(subject, MIXED, 0.95) == pytest.approx(2.0)
    assert visit(subject, WRONG) == pytest.approx(1.95)


def test_band_streak_ends_inside_the_band() -> None:
    subject = tracker("band", t_max=2.0)
    visits = [(RIGHT, 1.0), (RIGHT, 1.0), (MIXED, 0.7), (RIGHT, 1.0)]
    assert [visit(subject, *one) for one in visits] == pytest.approx([1.05, 1.15, 1.15, 1.20])


def test_band_max_factor_one_never_doubles() -> None:
    subject = tracker("band", max_factor=1)
    assert [visit(subject, RIGHT) for _ in range(3)] == pytest.approx([1.05, 1.10, 1.15])


def test_band_floor_is_for_all_wrong_groups() -> None:
    subject = tracker("band", floor=0.9)
    assert visit(subject, MIXED, 0.25) == 1.0
    assert [visit(subject, WRONG) for _ in range(3)] == pytest.approx([0.95, 0.90, 0.90])
    # A mixed group under the band neither cools it further nor warms it.
    assert visit(subject, MIXED, 0.25) == pytest.approx(0.90)
    assert visit(subject, RIGHT) == pytest.approx(0.95)
    without_floor = tracker("band")
    assert visit(without_floor, WRONG) == 1.0


def test_predictive_against_hand_computation() -> None:
    subject = tracker("predictive", t_max=2.0)
    # m = 0, g = 0, T = 1: p = 1/2. k = 8 of n = 8: k - np = 4, w = 8/4 = 2, v = 2.5: 1 + vw = 6.
    # m = 2.5 * 4 / 6 = 5/3, v = 2.5 / 6 = 5/12, g = 0.3 * 4 / (2 + 0.5) = 0.48.
    first = visit(subject, RIGHT, step=10)
    assert column(subject, "ability_mean") == pytest.approx(5 / 3)
    assert column(subject, "ability_variance") == pytest.approx(5 / 12)
    assert subject.metrics()["erpo/schedule/global_offset"] == pytest.approx(0.48)
    # T = 1 + (5/3 + 0.48 - 0) / 2.5 = 1.858666...
    assert first == pytest.approx(1.8586667)
    # A prompt without history profits from g alone: 1 + 0.48 / 2.5.
    assert subject.temperatures_for(key_array(2))[0] == pytest.approx(1.192)

    # Ten steps later at that T the prediction is p = 1/2 again. k = 6: k - np = 2, w = 2;
    # v' = 5/12 + 0.03 * 10 = 43/60, 1 + v'w = 73/30, m = 5/3 + (43/60) * 2 / (73/30) = 5/3 + 43/73,
    # v = (43/60) / (73/30) = 43/146, g = 0.48 + 0.3 * 2 / 2.5 = 0.72.
    subject.observe(batch((1, MIXED, first, 20, 0.75)))
    assert column(subject, "ability_mean") == pytest.approx(5 / 3 + 43 / 73)
    assert column(subject, "ability_variance") == pytest.approx(43 / 146)
    assert subject.metrics()["erpo/schedule/global_offset"] == pytest.approx(0.72)
    assert subject.temperatures_for(ONE)[0] == 2.0


def test_predictive_reads_the_temperature_of_sampling() -> None:
    # Sampled at T = 1.8 with b = 2.5: logit = -2, p = 1 / (1 + e**2) = 0.1192029, k - np = 4 * 0.8807971 = 3.5231883,
    # w = 4 p (1 - p) = 0.4199743, 1 + 2.5 w = 2.0499359, m = 2.5 * 3.5231883 / 2.0499359 = 4.2966...
    subject = tracker("predictive", global_rate=0)
    subject.observe(batch((1, RIGHT, 1.8, 0), size=4))
    assert column(subject, "ability_mean") == pytest.approx(2.5 * 3.5231883 / 2.0499359, rel=1e-6)
    assert subject.metrics()["erpo/schedule/global_offset"] == 0.0


def test_predictive_target_sets_the_expected_accuracy() -> None:
    subject = tracker("predictive", target=0.8, t_base=0.5, t_max=3.0, global_rate=0)
    subject.observe(batch((1, RIGHT, 0.5, 0)))
    # At the temperature chosen the model expects p*.
    logit = column(subject, "ability_mean") - 2.5 * (subject.temperatures_for(ONE)[0] - 0.5)
    assert 1 / (1 + math.exp(-logit)) == pytest.approx(0.8)


def test_predictive_variance_stops_at_its_initial_value() -> None:
    early, late = tracker("predictive"), tracker("predictive")
    for subject, step in ((early, 1000), (late, 1_000_000)):
        subject.observe(batch((1, RIGHT, 1.0, 0)))
        subject.observe(batch((1, MIXED, 1.0, step)))
    assert column(early, "ability_mean") == column(late, "ability_mean")


def test_predictive_offset_is_shared_by_the_batch() -> None:
    # At p = 1/2 an all-correct group of 8 has k - np = 4, an all-wrong one -4, and w = 2.
    subject = tracker("predictive")
    subject.observe(batch((1, RIGHT, 1.0, 0), (2, WRONG, 1.0, 0)))
    assert subject.metrics()["erpo/schedule/global_offset"] == 0.0
    subject = tracker("predictive")
    subject.observe(batch((1, RIGHT, 1.0, 0), (2, WRONG, 1.0, 0), (3, RIGHT, 1.0, 0)))
    assert subject.metrics()["erpo/schedule/global_offset"] == pytest.approx(0.3 * 4 / 7.5)
    # Twins: both surprises against the g before the batch, the second against the first one's ability.
    twins = tracker("predictive", t_max=2.0)
    twins.observe(batch((1, RIGHT, 1.0, 0), (1, RIGHT, 1.0, 0)))
    p = 1 / (1 + math.exp(-5 / 3))
    w = 8 * p * (1 - p)
    expected = 5 / 3 + 5 / 12 * (8 - 8 * p) / (1 + 5 / 12 * w)
    assert column(twins, "ability_mean") == pytest.approx(expected)
    assert twins.metrics()["erpo/schedule/global_offset"] == pytest.approx(0.3 * (4 + 8 - 8 * p) / (2.5 + w + 0.5))


@pytest.mark.parametrize("name", SCHEDULES)
def test_asking_registers_nothing(name: str) -> None:
    subject = tracker(name)
    assert np.isfinite(subject.temperatures_for(key_array(1, 2, 2))).all()
    assert len(subject) == 0
    assert subject.temperatures_for(key_array()).shape == (0,)
