# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Prompts with images through the real trainer: at mixed temperatures, resumed by the same command, evaluated."""

from collections import Counter

import pandas as pd
import pytest
import scripted_reward
from e2e_runs import RAISED_FAST, replay, same_history, start
from vision_scripts import PROMPTS, TINY_RUN

from erpo.evaluation.data import load_problems
from erpo.runs import read_groups, read_metrics
from erpo.runs.sample_log import read_samples
from erpo.tracker import PromptTracker, TrackerConfig
from erpo.tracker.schedules.linear import LinearConfig
from erpo.tracker.storage import load_state

pytestmark = [pytest.mark.ray, pytest.mark.long]

BASE = 1.296875  # vLLM is sent temperatures on a grid
SCHEDULE = TrackerConfig(name="linear", linear=LinearConfig(t_base=1.3, dt=0.5, t_max=2.0))


@pytest.fixture(scope="module")
def trained(seeing, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vision")
    arguments = [
        *TINY_RUN,
        *RAISED_FAST,
        f"data.train_files={tiny}/train.parquet",
        f"data.val_files={tiny}/train.parquet",
        f"actor_rollout_ref.model.path={tiny}/model",
        f"reward.custom_reward_function.path={scripted_reward.__file__}",
        f"trainer.default_local_dir={folder}/run",
    ]
    for steps in (2, 3):
        run = start(
            folder / f"{steps}.log",
            "recipe.erpo.main_erpo",
            [*arguments, f"trainer.total_training_steps={steps}"],
            **seeing,
        )
        run.wait()
    evaluation = start(
        folder / "eval.log",
        "recipe.erpo.main_eval",
        # Greedy, so that prompts of one text have one response unless the model sees their images.
        [f"model={folder}/run", f"sets=[{tiny}/train.parquet]", "temperature=0"],
        VERL_PLATFORM="cpu",
        **seeing,
    )
    evaluation.wait()
    return folder / "run"


def test_rollout_and_training_agree_at_every_temperature(trained):
    metrics = read_metrics(trained)
    assert metrics.index.tolist() == [1, 2, 3]
    assert metrics["actor/grad_norm"].min() > 0
    assert metrics["training/rollout_probs_diff_max"].max() < 1e-5
    assert metrics.loc[2:, "erpo/raised/probs_diff_max"].max() < 1e-5
    assert read_groups(trained).query("step > 1")["temperature"].nunique() > 1


def test_every_prompt_has_the_history_of_its_text_and_images(trained, tiny):
    groups = read_groups(trained)
    keys = [problem.key for problem in load_problems(tiny / "train.parquet")]
    for _, step in groups.groupby("step"):
        # The first row is there twice.
        assert Counter(step["key"]) == Counter([*keys, keys[0]])
    second = groups[groups["step"] == 2].drop_duplicates("key").set_index("key")["temperature"]
    # One text under two pictures: the group of the first was all-correct, that of the second all-wrong.
    assert second[keys[0]] == BASE + 0.5 and second[keys[1]] == BASE
    # Two pictures in another order are another prompt.
    assert second[keys[4]] == BASE + 0.5 and second[keys[5]] == BASE


def test_the_resumed_tracker_is_what_the_log_says(trained):
    saved = PromptTracker(SCHEDULE)
    load_state(saved, trained / "global_step_3" / "erpo", accept_changed_data=True)
    same_history(saved, replay(trained, SCHEDULE))


def test_samples_can_be_read(trained):
    samples = read_samples(trained)
    assert set(samples["prompt"]) <= {*PROMPTS} and "<image>How many?" in set(samples["prompt"])


def test_the_evaluation_shows_the_images_to_the_model(trained, tiny):
    samples = pd.read_parquet(next(trained.glob("eval/**/samples.parquet")))
    problems = load_problems(tiny / "train.parquet")
    assert samples["key"].tolist() == [problem.key for problem in problems]
    assert [prompt.count("<|image_pad|>") for prompt in samples["prompt"]] == [1, 1, 1, 1, 2, 2, 0]
    assert samples["prompt"][:3].nunique() == 1 and samples["response"][:3].nunique() == 3
