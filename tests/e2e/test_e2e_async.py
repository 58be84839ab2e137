# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The asynchronous trainer on two data-parallel workers with two vLLM replicas and fused kernels.

Undisturbed, and, with the long tests, killed and resumed. Then the killed part trains at the base temperature, whatever
it samples at: the control. The resumed part trains as it samples. Its first step, the fourth, belongs to neither: some
of its groups were in flight and still have the training temperature that they were given, others are new, and which
depends on the machine.
"""

import pytest
from e2e_runs import RAISED_FAST, small_run, start, wait_for

from erpo.runs import read_groups, read_metrics
from erpo.tracker import PromptTracker, TrackerConfig
from erpo.tracker.schedules.linear import LinearConfig
from erpo.tracker.storage import load_state

pytestmark = pytest.mark.ray

STEPS = [1, 2, 3, 4, 5, 6, 7]
HAND_OVER_OFF = ["erpo.train_temperature=base", "algorithm.rollout_correction.rollout_is=token"]
SCHEDULE = TrackerConfig(name="linear", linear=LinearConfig(dt=0.5, t_max=2.0))


@pytest.fixture(scope="module", params=["undisturbed", pytest.param("resumed", marks=pytest.mark.long)])
def trained(request, untrained, tmp_path_factory):
    """Folder of the run."""
    folder = tmp_path_factory.mktemp("async")
    arguments = small_run(
        untrained,
        folder / "run",
        *RAISED_FAST,
        "trainer.v1.trainer_mode=colocate_async",
        "trainer.n_gpus_per_node=2",
        "ray_kwargs.ray_init.num_gpus=2",
        # Every response has 16 tokens, so that the budget of 6.8 steps is known to end with the seventh.
        "actor_rollout_ref.rollout.ignore_eos=true",
        "erpo.token_budget=3500",
        "trainer.total_training_steps=50",
        "trainer.save_freq=3",
        # With weights that stand still, a response that was generated over two steps has one policy, so that rollout
        # and training must agree here too.
        "actor_rollout_ref.actor.optim.lr=0",
        "actor_rollout_ref.actor.use_kl_loss=true",
        # Actor and reference by verl's fused kernels; every other run has the logits.
        "actor_rollout_ref.model.use_fused_kernels=true",
    )
    if request.param == "resumed":
        first = start(folder / "first.log", "recipe.erpo.main_erpo", [*arguments, *HAND_OVER_OFF])
        wait_for(first, folder / "run" / "groups" / "step_000004.parquet")
        first.kill()
        assert (folder / "run" / "latest_checkpointed_iteration.txt").read_text() == "3"
        # The killed part was another experiment: its differences are accepted by name.
        arguments.append("erpo.state.accept_changed=[erpo.train_temperature,algorithm.rollout_correction]")
    start(folder / "last.log", "recipe.erpo.main_erpo", arguments).wait()
    return folder / "run"


def test_two_workers_train_at_the_temperature_of_each_response(trained):
    assert read_metrics(trained).index.tolist() == STEPS
    metrics, groups = read_metrics(trained).loc[5:], read_groups(trained)
    assert groups[groups["step"] >= 5]["temperature"].max() == 2.0
    assert groups[groups["step"] >= 5]["temperature"].min() == 1.0
    for kind in ("raised", "base"):
        assert metrics[f"erpo/{kind}/probs_diff_max"].max() < 1e-6
    assert metrics["training/rollout_probs_diff_max"].max() < 1e-6


@pytest.mark.long
@pytest.mark.parametrize("trained", ["resumed"], indirect=True)
def test_wrong_temperature_in_training_is_seen(trained):
    metrics = read_metrics(trained).loc[:3]
    assert metrics["erpo/raised/probs_diff_max"].max() > 1e-3
    # At the base temperature there is nothing to get wrong.
    assert metrics["erpo/base/probs_diff_max"].max() < 1e-6


def test_reference_log_probs_are_taken_at_the_temperature_of_each_response(trained):
    # The reference is the model itself, for its weights stand still: any divergence would be one of temperature.
    divergence = read_metrics(trained)["actor/kl_loss"]
    assert len(divergence) == len(STEPS) and divergence.abs().max() < 1e-9


def test_groups_in_flight_are_counted_once(trained):
    saved = PromptTracker(SCHEDULE)
    extra = load_state(saved, trained / "global_step_7" / "erpo", accept_changed_data=True)
    groups = read_groups(trained)
    # Every observed group was trained on, or waits for the next step.
    assert saved.frame()["visits"].sum() == len(groups) + len(extra["waiting_groups"])
    assert extra["totals"]["groups"] == len(groups)


def test_the_run_ends_and_is_saved_at_the_step_nearest_to_its_token_budget(trained):
    # Checkpoints are due every third step; the seventh has one because it was known to be the last.
    assert read_metrics(trained)["erpo/generated/tokens"].tolist() == [step * 8 * 4 * 16 for step in STEPS]
    assert (trained / "latest_checkpointed_iteration.txt").read_text() == "7"
