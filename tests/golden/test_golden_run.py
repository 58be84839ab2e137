# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The golden run through the real trainer, killed and resumed: what an undisturbed run recorded, and what it shows.

The same outcomes, temperatures, advantages, losses and gradients, before and after the kill; then, on steps that are
sampled anew, exact log-probs at mixed temperatures.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from e2e_runs import replay, same_history, wait_for
from golden_compare import differences, explain, numbers
from golden_run import (
    METRICS,
    RECORDED,
    ROLLOUTS,
    SCHEDULE,
    STEPS,
    committed,
    dumps_of,
    group_table,
    prepare,
    start_run,
    step_metrics,
    write_dumps,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from erpo.runs import read_groups, read_metrics
from erpo.runs.sample_log import read_samples
from erpo.tracker import PromptTracker
from erpo.tracker.storage import load_state

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory):
    """A run that was killed in its third or fourth step, with a checkpoint of the second, and started again."""
    folder = tmp_path_factory.mktemp("golden")
    weights = prepare(folder)
    if not np.allclose(weights, json.loads(METRICS.read_text())["weights"], rtol=1e-6):
        pytest.fail(
            "The untrained model has other weights than the recorded one, so that nothing after it can agree: torch or "
            "transformers initialises it differently, or erpo/tasks/arithmetic/model.py builds another one."
        )
    write_dumps(pd.read_parquet(ROLLOUTS), folder / "rollouts")
    first = start_run(folder, "first.log")
    wait_for(first, folder / "run" / "groups" / "step_000003.parquet")
    first.kill()
    assert (folder / "run" / "latest_checkpointed_iteration.txt").read_text() == "2"
    shutil.copytree(folder / "run", folder / "at_kill")
    output = start_run(folder, "second.log").wait()
    # Where verl finds no rollouts, it generates and writes new ones.
    assert len(dumps_of(folder)) == RECORDED, "verl looked for the rollouts in another folder: golden_run.DUMP_FOLDER"
    return folder, output


@pytest.fixture(scope="module")
def folder(killed_and_resumed):
    """What :func:`golden_run.prepare` wrote, ``run``, and ``at_kill``: the run's folder as the kill left it."""
    return killed_and_resumed[0]


def test_replay_gives_the_recorded_group_log_and_losses(folder):
    different = differences(committed(), numbers(group_table(folder), step_metrics(folder)))
    if len(different):
        pytest.fail(explain(different))


def test_resume_continues_from_the_checkpoint_and_repeats_no_step(folder):
    assert read_metrics(folder / "run").index.tolist() == list(range(1, STEPS + 1))
    before, after = read_groups(folder / "at_kill"), read_groups(folder / "run")
    assert after.groupby("step").size().tolist() == [8] * STEPS
    for step in (1, 2):
        pd.testing.assert_frame_equal(before[before["step"] == step], after[after["step"] == step])


def test_no_history_is_lost_or_counted_twice(folder):
    saved = PromptTracker(SCHEDULE)
    load_state(saved, folder / "run" / f"global_step_{STEPS}" / "erpo", accept_changed_data=True)
    same_history(saved, replay(folder / "run", SCHEDULE))
    assert saved.frame()["visits"].tolist() == [STEPS] * 8


def test_generated_tokens_are_counted_over_the_resume(folder):
    tokens = read_groups(folder / "run")["lengths"].map(sum).sum()
    assert read_metrics(folder / "run").loc[STEPS, "erpo/generated/tokens"] == tokens


def test_rollout_and_training_probabilities_agree_at_mixed_temperatures_while_the_weights_change(folder):
    metrics = read_metrics(folder / "run").loc[RECORDED + 1 :]
    sampled = read_groups(folder / "run").query(f"step > {RECORDED}")
    for _, temperatures in sampled.groupby("step")["temperature"]:
        assert temperatures.min() == 0.5 and temperatures.max() == 2.0 and temperatures.nunique() >= 3
    assert (metrics["actor/grad_norm"] > 0).all() and (metrics["actor/lr"] > 0).all()
    assert metrics["training/rollout_probs_diff_max"].max() < 1e-6
    assert sampled["probs_diff_max"].max() == pytest.approx(metrics["training/rollout_probs_diff_max"].max(), abs=1e-7)
    # The model is almost uniform, and heat makes it more so: the entropy is taken at the group's temperature.
    assert sampled.groupby("temperature")["entropy"].mean().is_monotonic_increasing
    for kind in ("raised", "base"):
        assert metrics[f"erpo/{kind}/probs_diff_max"].max() < 1e-6
        assert metrics[f"erpo/{kind}/rollout_train_kl"].abs().max() < 1e-5


def test_ra_gives_all_correct_groups_a_gradient_and_is_counted_apart(folder):
    metrics = read_metrics(folder / "run")
    prefix = "erpo/signal/frac_responses_with_gradient"
    assert (metrics[f"{prefix}_ra"] >= 3 / 8).all()
    assert (metrics[f"{prefix}_mixed"] + metrics[f"{prefix}_ra"] - metrics[prefix]).abs().max() < 1e-9
    # Before any prompt is at the cap, where RA decays.
    assert metrics["critic/advantages/max"].loc[:2].ge(1 / 5**0.5 - 1e-3).all()


def test_responses_of_the_hottest_groups_can_be_read(folder):
    samples, groups = read_samples(folder / "run"), read_groups(folder / "run")
    assert samples["step"].unique().tolist() == [2, 4, 6]
    for step, rows in samples.groupby("step"):
        hottest = groups[groups["step"] == step]["temperature"].nlargest(2)
        assert rows.groupby("key")["temperature"].first().sort_values().tolist() == hottest.sort_values().tolist()
        assert set(rows["key"]) <= set(groups["key"])
    assert samples["prompt"].str.endswith("=").all() and (samples["response"].str.len() <= samples["length"]).all()


def test_tensorboard_has_the_curves_the_histograms_and_the_samples(folder):
    events = EventAccumulator(str(folder / "run" / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    tags = events.Tags()
    assert {"erpo/groups/frac_all_correct", "erpo/temperature/mean"} <= set(tags["scalars"])
    assert tags["histograms"] == ["erpo/temperature/prompts", "erpo/level/prompts"]
    assert events.Histograms("erpo/temperature/prompts")[-1].histogram_value.num == 8
    assert tags["tensors"] == ["erpo/samples/text_summary"]


def test_console_shows_a_line_a_step_and_a_summary(killed_and_resumed):
    _, output = killed_and_resumed
    lines = [line for line in output.splitlines() if f"step {STEPS}/{STEPS} |" in line]
    assert len(lines) == 1 and "all-correct" in lines[0]
    assert "prompts revived" in output
    assert "'actor_rollout_ref': {" not in output  # verl's print of all its settings
