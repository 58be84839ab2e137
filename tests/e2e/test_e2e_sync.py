# Copyright 2026 The ERPO authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The synchronous trainer: exact log-probs at mixed temperatures, kill -9 and resume, the control."""

import shutil

import pandas as pd
import pytest
from e2e_runs import replay, same_history, small_run, start, wait_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from erpo.runs import read_groups, read_metrics
from erpo.runs.sample_log import read_samples
from erpo.tracker import PromptTracker, TrackerConfig
from erpo.tracker.schedules.band import BandConfig
from erpo.tracker.storage import load_state

pytestmark = pytest.mark.ray

# Right prompts go 1.0, 1.5, 2.0 and wrong ones to 0.5, so that one batch holds temperatures from 0.5 to 2.0.
BAND = ["method=erpo_band", "erpo.schedule.band.dt=0.5", "erpo.schedule.band.floor=0.5", "erpo.groups.drop=[]"]
BAND += ["algorithm.filter_groups.enable=false", "erpo.samples.every=2", "erpo.samples.groups=2"]
HAND_OVER_OFF = ["erpo.train_temperature=base", "algorithm.rollout_correction.rollout_is=token"]
SCHEDULE = TrackerConfig(name="band", band=BandConfig(dt=0.5, floor=0.5, t_max=2.0))


@pytest.fixture(scope="module")
def killed_and_resumed(untrained, tmp_path_factory):
    """A run that was killed in its third or fourth step, with a checkpoint of the second, and started again.

    The killed part trains at the base temperature, whatever it samples at; the resumed part trains as it samples.
    """
    folder = tmp_path_factory.mktemp("sync")
    arguments = small_run(untrained, folder / "run", *BAND, "trainer.total_training_steps=6")
    first = start(folder / "first.log", "recipe.erpo.main_erpo", [*arguments, *HAND_OVER_OFF])
    wait_for(first, folder / "run" / "groups" / "step_000003.parquet")
    first.kill()
    assert (folder / "run" / "latest_checkpointed_iteration.txt").read_text() == "2"
    shutil.copytree(folder / "run", folder / "at_kill")
    second = start(folder / "second.log", "recipe.erpo.main_erpo", arguments)
    return folder, second.wait()


def test_one_batch_holds_temperatures_from_half_to_two(killed_and_resumed):
    groups = read_groups(killed_and_resumed[0] / "run")
    late = groups[groups["step"] >= 3].groupby("step")["temperature"]
    assert (late.min() == 0.5).all() and (late.max() == 2.0).all()
    assert late.nunique().min() >= 3


def test_rollout_and_training_probabilities_agree_while_the_weights_change(killed_and_resumed):
    metrics = read_metrics(killed_and_resumed[0] / "run").loc[3:]
    assert len(metrics) == 4
    assert (metrics["actor/grad_norm"] > 0).all() and (metrics["actor/lr"] > 0).all()
    assert metrics["training/rollout_probs_diff_max"].max() < 1e-6
    trained = read_groups(killed_and_resumed[0] / "run").query("step >= 3")
    assert trained["probs_diff_max"].max() == pytest.approx(metrics["training/rollout_probs_diff_max"].max(), abs=1e-7)
    # An untrained model is almost uniform, and heat makes it more so: the entropy is taken at the group's temperature.
    assert trained.groupby("temperature")["entropy"].mean().is_monotonic_increasing
    for kind in ("raised", "base"):
        assert metrics[f"erpo/{kind}/probs_diff_max"].max() < 1e-6
        assert metrics[f"erpo/{kind}/rollout_train_kl"].abs().max() < 1e-5


def test_resume_continues_from_the_checkpoint_and_repeats_no_step(killed_and_resumed):
    folder, _ = killed_and_resumed
    assert read_metrics(folder / "run").index.tolist() == [1, 2, 3, 4, 5, 6]
    groups = read_groups(folder / "run")
    assert groups.groupby("step").size().tolist() == [8] * 6
    before, after = read_groups(folder / "at_kill"), groups
    for step in (1, 2):
        pd.testing.assert_frame_equal(before[before["step"] == step], after[after["step"] == step])


def test_no_history_is_lost_or_counted_twice(killed_and_resumed):
    folder, _ = killed_and_resumed
    saved = PromptTracker(SCHEDULE)
    load_state(saved, folder / "run" / "global_step_6" / "erpo", accept_changed_data=True)
    same_history(saved, replay(folder / "run", SCHEDULE))
    assert saved.frame()["visits"].tolist() == [6] * 8


def test_ra_gives_all_correct_groups_a_gradient_and_is_counted_apart(killed_and_resumed):
    metrics = read_metrics(killed_and_resumed[0] / "run")
    prefix = "erpo/signal/frac_responses_with_gradient"
    assert (metrics[f"{prefix}_ra"] >= 3 / 8).all()
    assert (metrics[f"{prefix}_mixed"] + metrics[f"{prefix}_ra"] - metrics[prefix]).abs().max() < 1e-9
    assert metrics["critic/advantages/max"].ge(1 / 5**0.5 - 1e-3).all()


def test_generated_tokens_are_counted_over_the_resume(killed_and_resumed):
    folder, _ = killed_and_resumed
    tokens = read_groups(folder / "run")["lengths"].map(sum).sum()
    assert read_metrics(folder / "run").loc[6, "erpo/generated/tokens"] == tokens


def test_responses_of_the_hottest_groups_can_be_read(killed_and_resumed):
    folder = killed_and_resumed[0] / "run"
    samples, groups = read_samples(folder), read_groups(folder)
    assert samples["step"].unique().tolist() == [2, 4, 6]
    for step, rows in samples.groupby("step"):
        hottest = groups[groups["step"] == step]["temperature"].nlargest(2)
        assert rows.groupby("key")["temperature"].first().sort_values().tolist() == hottest.sort_values().tolist()
        assert set(rows["key"]) <= set(groups["key"])
    assert samples["prompt"].str.endswith("=").all() and (samples["response"].str.len() <= samples["length"]).all()


def test_tensorboard_has_the_curves_the_histograms_and_the_samples(killed_and_resumed):
    events = EventAccumulator(str(killed_and_resumed[0] / "run" / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    tags = events.Tags()
    assert {"erpo/groups/frac_all_correct", "erpo/temperature/mean"} <= set(tags["scalars"])
    assert tags["histograms"] == ["erpo/temperature/prompts", "erpo/level/prompts"]
    assert events.Histograms("erpo/temperature/prompts")[-1].histogram_value.num == 8
    assert tags["tensors"] == ["erpo/samples/text_summary"]


def test_console_shows_a_line_a_step_and_a_summary(killed_and_resumed):
    _, output = killed_and_resumed
    lines = [line for line in output.splitlines() if "step 6/6 |" in line]
    assert len(lines) == 1 and "all-correct" in lines[0]
    assert "prompts revived" in output
    assert "'actor_rollout_ref': {" not in output  # verl's print of all its settings


def test_wrong_temperature_in_training_is_seen(killed_and_resumed):
    """The control: before it was killed, the run had the hand-over to the engine switched off."""
    metrics = read_metrics(killed_and_resumed[0] / "at_kill").loc[2:]
    assert metrics["training/rollout_probs_diff_max"].min() > 1e-3
    assert metrics["erpo/raised/probs_diff_max"].min() > 1e-3
    # At the base temperature there is nothing to get wrong.
    assert read_metrics(killed_and_resumed[0] / "at_kill").loc[1, "erpo/base/probs_diff_max"] < 1e-6
