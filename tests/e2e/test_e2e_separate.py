# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Trainer and rollout on devices of their own: weights go from one to the other by gloo; killed and resumed.

The killed part generates ahead of the weights, and shares them every second update. In the resumed part the weights of
the checkpoint stand still: once the responses of the killed part are trained on, rollout and training must agree, by
weights that only the broadcast can have brought to the rollout.
"""

import pytest
from e2e_runs import RAISED_FAST, small_run, start, wait_for

from erpo.runs import read_groups, read_metrics
from erpo.tracker import PromptTracker, TrackerConfig
from erpo.tracker.schedules.linear import LinearConfig
from erpo.tracker.storage import load_state

pytestmark = [pytest.mark.ray, pytest.mark.long]

SCHEDULE = TrackerConfig(name="linear", linear=LinearConfig(dt=0.5, t_max=2.0))
AHEAD = ["trainer.v1.separate_async.num_warmup_batches=1", "trainer.v1.separate_async.parameter_sync_step=2"]
STANDING_STILL = [
    "trainer.v1.separate_async.num_warmup_batches=0",
    "trainer.v1.separate_async.parameter_sync_step=1",
    "actor_rollout_ref.actor.optim.lr=0",
    # Without the optimizer, whose state has the old learning rate.
    "actor_rollout_ref.actor.checkpoint.load_contents=[model]",
]
STEPS = [1, 2, 3, 4, 5, 6, 7]


@pytest.fixture(scope="module")
def resumed(untrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("separate")
    arguments = small_run(
        untrained,
        folder / "run",
        *RAISED_FAST,
        "trainer.v1.trainer_mode=separate_async",
        "actor_rollout_ref.rollout.nnodes=1",
        "actor_rollout_ref.rollout.n_gpus_per_node=1",
        "actor_rollout_ref.rollout.checkpoint_engine.backend=gloo",
        "ray_kwargs.ray_init.num_gpus=2",
        "actor_rollout_ref.rollout.ignore_eos=true",
        "actor_rollout_ref.actor.optim.lr=1.0e-3",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
        "trainer.total_training_steps=7",
    )
    first = start(
        folder / "first.log",
        "recipe.erpo.main_erpo",
        [*arguments, *AHEAD, "actor_rollout_ref.actor.ppo_mini_batch_size=4"],
    )
    wait_for(first, folder / "run" / "groups" / "step_000003.parquet")
    first.kill()
    assert (folder / "run" / "latest_checkpointed_iteration.txt").read_text() == "2"
    accepted = "erpo.state.accept_changed=[actor_rollout_ref.actor,trainer.v1]"
    second = start(folder / "second.log", "recipe.erpo.main_erpo", [*arguments, *STANDING_STILL, accepted])
    second.wait()
    return folder / "run"


def test_rollout_and_training_agree_on_weights_that_were_broadcast(resumed):
    metrics, groups = read_metrics(resumed), read_groups(resumed)
    assert metrics.index.tolist() == STEPS
    last = groups[groups["step"] >= 6]
    assert last["temperature"].max() > last["temperature"].min() == 1.0
    assert last["probs_diff_max"].max() < 1e-6
    # What other weights look like: groups that were sampled before an update.
    assert groups[groups["step"] <= 3]["probs_diff_max"].max() > 1e-3


def test_every_group_is_counted_once_over_the_resume(resumed):
    saved = PromptTracker(SCHEDULE)
    extra = load_state(saved, resumed / "global_step_7" / "erpo", accept_changed_data=True)
    groups = read_groups(resumed)
    assert groups["temperature"].max() == 2.0
    assert saved.frame()["visits"].sum() == len(groups) + len(extra["waiting_groups"])
    assert extra["totals"]["groups"] == len(groups)
