# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Residual share: shares, the residual prompts followed over the temperatures, and the suggestion."""

import json

import pandas as pd
import pytest

from erpo.evaluation.checkpoint import ModelSource
from erpo.evaluation.residual import part_name, residual_rows, suggest
from erpo.evaluation.residual_report import _suggestion, write_report
from erpo.evaluation.tolerance import suggest_for_all

N = 4
TAIL = {"T=1": 0.01, "T=1.5": 0.2}


def samples(parts):
    """Samples of `{part: [correct responses of each prompt]}`, or `(correct, truncated)` of each prompt."""
    frames = []
    for part, groups in parts.items():
        for number, group in enumerate(groups):
            correct, truncated = group if isinstance(group, tuple) else (group, 0)
            for index in range(N):
                right = index < correct
                frames.append(
                    {
                        "part": part,
                        "key": f"{number:032x}",
                        "prompt": f"prompt {number}",
                        "ground_truth": "7",
                        "sample": index,
                        "response": f"response {index} of {number} at {part}",
                        "length": 10,
                        "truncated": index >= N - truncated,
                        "accuracy": float(right),
                        "correct": right,
                        "error": None,
                        # Of the first response to two prompts, as long as their numbers say.
                        "tail_mass": TAIL[part] * (1 + number) if index == 0 and number < 2 and part in TAIL else None,
                    }
                )
    return pd.DataFrame(frames)


def measured(base, again, **hotter):
    parts = {
        "T=1": base,
        "T=1-again": again,
        **{name.replace("T", "T=").replace("_", "."): g for name, g in hotter.items()},
    }
    temperatures = [1.0, *(float(name[1:].replace("_", ".")) for name in hotter)]
    return residual_rows(samples(parts), temperatures, seed=0)


def test_shares_and_residual_prompts():
    rows = measured([4, 4, 4, 2, 0], [4, 4, 3, 4, 0], T1_5=[4, 2, 0, 4, 1])
    assert [(row.temperature, row.second) for row in rows] == [(1.0, False), (1.0, True), (1.5, False)]
    assert [row.all_correct.value for row in rows] == [0.6, 0.6, 0.4]
    assert [row.mixed.value for row in rows] == [0.2, 0.2, 0.4]
    assert [row.all_wrong.value for row in rows] == [0.2, 0.2, 0.2]
    assert rows[0].revived is None
    # Of the first three prompts alone, those that were all-correct at the first visit.
    assert rows[1].revived.value == pytest.approx(1 / 3) and rows[2].revived.value == pytest.approx(1 / 3)
    assert rows[1].residual_accuracy.value == pytest.approx(11 / 12)
    assert rows[2].residual_accuracy.value == pytest.approx(6 / 12)
    assert rows[2].accuracy.value == pytest.approx(11 / 20)
    assert [row.tail_mass for row in rows] == [pytest.approx(0.015), None, pytest.approx(0.3)]


def test_thirds_are_those_of_the_first_visit():
    rows = measured([1, 4, 2, 0, 3, 4], [2, 4, 1, 0, 4, 3], T1_5=[0, 1, 4, 0, 3, 4])
    assert rows[0].thirds is None and rows[0].hard_all_wrong is None
    # Easy: prompts 1 and 5, middle: 4 and 2, hard: 0 and 3.
    assert [third.value for third in rows[1].thirds] == pytest.approx([7 / 8, 5 / 8, 2 / 8])
    assert [third.value for third in rows[2].thirds] == pytest.approx([5 / 8, 7 / 8, 0])
    assert (rows[1].hard_all_wrong.value, rows[2].hard_all_wrong.value) == (0.5, 1.0)


def for_all(base, again, **hotter):
    return suggest_for_all(measured(base, again, **hotter), len(base))


# 60 prompts: accuracy 0.9, a third of the groups mixed.
EASY = [4] * 40 + [3] * 14 + [3] * 6


def test_one_temperature_for_all_has_the_most_mixed_groups_of_the_tolerated_ones():
    found = for_all(EASY, EASY, T1_2=[4] * 10 + [3] * 50, T1_4=[4] * 30 + [3] * 30, T1_6=[1] * 60)
    assert (found.t_base, found.rise_to) == (1.2, 1.4)
    assert "1.2 has the most mixed groups, 83% [" in found.reasons[0] and "33% at 1" in found.reasons[0]
    assert "at 1.6 the accuracy falls from 92% to 25%, to less than two thirds" in found.reasons[1]


@pytest.mark.parametrize(
    ("hotter", "t_base", "rise_to", "words"),
    [
        # Each limit by itself. That of the accuracy is 0.917 * 2 / 3 = 0.611: 0.6125 is tolerated, 0.604 is not.
        ({"T1_2": [4] * 40 + [3] * 20, "T1_4": [2] * 33 + [3] * 27}, 1.4, None, "nothing above 1.4 was measured"),
        ({"T1_2": [2] * 35 + [3] * 25, "T1_4": [2] * 60}, 1.0, None, "at 1.2 the accuracy falls from 92% to 60%"),
        (
            {"T1_2": [4] * 40 + [3] * 17 + [0] * 3, "T1_4": [4] * 56 + [0] * 4},
            1.0,
            1.2,
            "all-wrong groups rise from 0%",
        ),
        ({"T1_2": EASY, "T1_4": [(3, 1)] * 60}, 1.0, 1.2, "at 1.4 cut responses rise from 0% to 25%"),
        # What follows an intolerable temperature does not count, and a gain within the interval is none.
        ({"T1_2": [0] * 60, "T1_4": [3] * 60}, 1.0, None, "for 1 is the hottest tolerated temperature; at 1.2"),
        ({"T1_2": [4] * 38 + [3] * 22, "T1_4": EASY}, 1.0, 1.4, "has clearly more mixed groups than 1 "),
    ],
)
def test_rule_for_all_prompts(hotter, t_base, rise_to, words):
    found = for_all(EASY, EASY, **hotter)
    assert (found.t_base, found.rise_to) == (t_base, rise_to), found.reasons
    assert words in " ".join(found.reasons) and len(found.reasons) == 2


@pytest.mark.parametrize(
    ("base", "hotter", "words"),
    [
        (EASY[1:], {"T1_2": EASY[1:], "T1_4": EASY[1:]}, "59 prompts were measured; measure 60 or more"),
        (EASY, {"T1_2": EASY}, "1 temperature above 1 was measured; measure 2 or more"),
        ([0] * 60, {"T1_2": EASY, "T1_4": EASY}, "no response at T = 1 is correct"),
    ],
)
def test_nothing_is_suggested_for_all_where_the_measurement_cannot_tell(base, hotter, words):
    found = for_all(base, base, **hotter)
    assert (found.t_base, found.rise_to) == (None, None) and words in found.reasons[0]


def test_suggestion_takes_the_highest_usable_temperature():
    base, again = [4] * 40, [4] * 38 + [3] * 2
    rows = measured(base, again, T1_2=[4] * 30 + [3] * 10, T1_4=[3] * 30 + [4] * 10, T1_6=[1] * 40)
    suggestion = suggest(rows, 40)
    assert (suggestion.t_max, suggestion.dt) == (1.4, 0.1)
    # The schedule starts from the rollout's temperature, which an experiment may set to another one.
    assert _suggestion(suggestion, 0.6).startswith(
        "`actor_rollout_ref.rollout.temperature=0.6 erpo.schedule.linear.t_max=1.4 erpo.schedule.linear.dt=0.1`\n"
    )
    assert "At T = 1, 40 of 40 prompts are all-correct" in suggestion.reason
    assert "at T = 1.6 only 25% of the responses to these prompts are correct" in suggestion.reason


def test_suggestion_says_that_higher_ones_were_not_measured():
    suggestion = suggest(measured([4] * 40, [4] * 40, T1_1=[3] * 40), 40)
    assert (suggestion.t_max, suggestion.dt) == (1.1, 0.025)
    assert "Nothing above 1.1 was measured" in suggestion.reason


@pytest.mark.parametrize(
    ("base", "again", "hotter", "words"),
    [
        ([4] * 19 + [2] * 40, [4] * 59, {"T1_2": [3] * 59}, "fewer than 20"),
        (
            [4] * 40,
            [4] * 40,
            {"T1_2": [2] * 40, "T1_3": [3] * 40},
            "do not support raising: already at T = 1.2 only 50%",
        ),
        ([4] * 40, [4] * 40, {"T1_2": [(3, 1)] * 40}, "25% of the responses to these prompts are cut"),
        ([4] * 40, [4] * 30 + [3] * 10, {"T1_2": [4] * 28 + [3] * 12}, "no clear gain over chance"),
    ],
)
def test_no_suggestion_where_the_data_do_not_support_one(base, again, hotter, words):
    suggestion = suggest(measured(base, again, **hotter), len(base))
    assert (suggestion.t_max, suggestion.dt) == (None, None)
    assert words in suggestion.reason


def test_report_shows_the_same_prompts_at_every_temperature(tmp_path):
    parts = {"T=1": [0, 4, 4], "T=1-again": [0, 4, 4], "T=1.5": [0, 3, 4]}
    table = samples(parts)
    long = "a" * 2000
    table.loc[(table["part"] == "T=1.5") & (table["key"] == f"{1:032x}") & (table["sample"] == 0), "response"] = long
    rows = residual_rows(table, [1.0, 1.5], seed=0)
    (tmp_path / "settings.json").write_text(
        json.dumps({"judging": {"T=1": {}}, "parts": {"T=1": {"skipped": 0}}, "settings": {"seed": 0}})
    )
    short = write_report(
        table, rows, suggest(rows, 3), suggest_for_all(rows, 3), ModelSource("m", "m"), tmp_path, "one turn."
    )
    report = (tmp_path / "report.md").read_text()
    assert report.startswith(short) and "None. At T = 1, 2 of 3 prompts are all-correct" in short
    assert report.index("### Prompt 1") < report.index("    prompt 1") < report.index("### Prompt 2")
    assert "**T = 1.5: 3 of 4 correct**" in report
    # The first response without its middle, and the first wrong one.
    assert "[... 600 characters ...]" in report and f"    response 3 of 1 at {part_name(1.5)}" in report
    assert "\nWarning: one turn.\n" in short
    assert "1.50%" in short and "30.00%" in short and "None. The measurement cannot tell: 3 prompts" in short
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["suggestion_for_all"]["t_base"] is None
    assert summary["temperatures"][2]["revived"]["value"] == 0.5 and summary["suggestion"]["t_max"] is None
    assert (tmp_path / "residual_share.png").read_bytes()[:4] == b"\x89PNG"
