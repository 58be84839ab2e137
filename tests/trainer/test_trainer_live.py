# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What is shown live: which responses are chosen, and what Weights & Biases gets (TensorBoard: tests/e2e)."""

import numpy as np
import pytest
import wandb

from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array, prompt_key
from erpo.trainer.groups import Group
from erpo.trainer.live import choose_responses, log_live

ROW = {
    "step": 4,
    "key": "00",
    "prompt": "1+1=",
    "temperature": 1.2,
    "response": "a|b\nc",
    "correct": True,
    "truncated": False,
    "length": 3,
    "outcome": "mixed",
}


def group(name: str, temperature: float, accuracies: list[float]) -> Group:
    correct = sum(accuracy > 0.5 for accuracy in accuracies)
    return Group(
        uid=name,
        key=name.encode().ljust(16),
        step=1,
        temperature=temperature,
        expected=len(accuracies),
        accuracies=accuracies,
        correct=correct,
        lengths=[3] * len(accuracies),
        truncated=0,
        outcome=Outcome.MIXED if 0 < correct < len(accuracies) else Outcome.ALL_CORRECT,
    )


def test_the_hottest_groups_are_chosen_mixed_ones_first_with_a_right_and_a_wrong_response():
    groups = [group("cool", 1.0, [1, 0]), group("hot", 1.4, [1, 1, 1]), group("hot-mixed", 1.4, [0, 1, 1])]
    chosen = [(member.uid, position) for member, position in choose_responses(groups, 2)]
    assert chosen == [("hot-mixed", 1), ("hot-mixed", 0), ("hot", 0)]
    assert choose_responses([], 2) == []


@pytest.fixture
def tracker():
    tracker = PromptTracker(TrackerConfig(name="linear"))
    tracker.observe(
        GroupOutcomes(
            keys=keys_array([prompt_key("set", "1+1="), prompt_key("set", "1+2=")]),
            outcomes=np.array([Outcome.ALL_CORRECT, Outcome.MIXED]),
            accuracies=np.array([1.0, 0.5]),
            sizes=np.array([2, 2]),
            temperatures=np.array([1.0, 1.0]),
            steps=np.array([1, 1]),
        )
    )
    return tracker


def test_wandb_gets_histograms_over_the_prompts_and_a_table(tracker, tmp_path):
    run = wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True))
    try:
        log_live({"wandb": wandb}, tracker, [ROW], step=4)
        wandb.log({"next": 1}, step=5)  # a step is entered into the summary when the next begins
        summary = dict(run.summary)
    finally:
        run.finish()
    histogram = summary["erpo/temperature/prompts"]
    assert sum(histogram["values"]) == 2 and histogram["bins"][-1] == pytest.approx(1.2)
    assert sum(summary["erpo/level/prompts"]["values"]) == 2
    assert summary["erpo/samples"]["_type"] == "table-file" and summary["erpo/samples"]["nrows"] == 1


def test_loggers_that_show_neither_get_nothing(tracker):
    log_live({"console": object()}, tracker, [ROW], step=4)
