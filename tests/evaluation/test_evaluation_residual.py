# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Residual share: shares, the residual prompts followed over the temperatures, and the suggestion."""

import json

import pandas as pd
import pytest

from erpo.evaluation.checkpoint import ModelSource
from erpo.evaluation.residual import part_name, residual_rows, suggest
from erpo.evaluation.residual_report import write_report

N = 4


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


def test_suggestion_takes_the_highest_usable_temperature():
    base, again = [4] * 40, [4] * 38 + [3] * 2
    rows = measured(base, again, T1_2=[4] * 30 + [3] * 10, T1_4=[3] * 30 + [4] * 10, T1_6=[1] * 40)
    suggestion = suggest(rows, 40)
    assert (suggestion.t_max, suggestion.dt) == (1.4, 0.1)
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
    short = write_report(table, rows, suggest(rows, 3), ModelSource("m", "m"), tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert report.startswith(short) and "None. At T = 1, 2 of 3 prompts are all-correct" in short
    assert report.index("### Prompt 1") < report.index("    prompt 1") < report.index("### Prompt 2")
    assert "**T = 1.5: 3 of 4 correct**" in report
    # The first response without its middle, and the first wrong one.
    assert "[... 600 characters ...]" in report and f"    response 3 of 1 at {part_name(1.5)}" in report
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["temperatures"][2]["revived"]["value"] == 0.5 and summary["suggestion"]["t_max"] is None
    assert (tmp_path / "residual_share.png").read_bytes()[:4] == b"\x89PNG"
