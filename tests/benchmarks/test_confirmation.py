# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The confirmation through the real trainer: its runs, and the scores of its checkpoints."""

import shutil

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir

from benchmarks.comparison import MODEL
from benchmarks.confirmation import ARMS, BASES, PROMPTS, SEEDS, Training, scores
from benchmarks.research.summary import summarize
from erpo.runs.group_log import GroupLog
from erpo.tasks.arithmetic.base import BASE_FOLDER, load_base
from erpo.tasks.arithmetic.sampling import sample_responses
from erpo.tasks.arithmetic.task import distinct_problems
from erpo.tasks.artefact import TRAIN_FILE
from erpo.trainer.checks import check_settings
from recipe.erpo.main_erpo import CONFIG_FOLDER

PROBLEMS = distinct_problems(3, 60)


@pytest.fixture(scope="module")
def base():
    return load_base()


def test_scores_are_those_of_the_worked_answer(base):
    model, tokenizer = base
    found = scores(model, tokenizer, PROBLEMS)
    # One at a time, so without padding, and token by token.
    rights = []
    for problem in PROBLEMS:
        ids = tokenizer(problem.prompt + problem.response + tokenizer.eos_token, return_tensors="pt")["input_ids"]
        probabilities = torch.softmax(model(input_ids=ids).logits[0], -1)
        right = 1.0
        for position in range(len(problem.prompt), ids.shape[1]):
            right *= probabilities[position - 1, ids[0, position]].item()
        rights.append(right)
    assert found["accuracy"] == pytest.approx(sum(rights) / len(rights), abs=1e-5)
    assert found["pass_at_8"] == pytest.approx(sum(1 - (1 - right) ** 8 for right in rights) / len(rights), abs=1e-5)
    greedy = sample_responses(model, tokenizer, [problem.prompt for problem in PROBLEMS], temperature=1e-4, seed=0)
    written = [text == problem.response for text, problem in zip(greedy, PROBLEMS, strict=True)]
    assert 0 < sum(written) < len(written)
    assert found["greedy"] == pytest.approx(sum(written) / len(written))


@pytest.mark.parametrize("arm", ARMS)
def test_settings_of_a_training_are_accepted(tmp_path, arm):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        config = compose("erpo_trainer", overrides=Training(arm, 1, tmp_path).command()[3:])
    assert check_settings(config).token_budget == 125_000
    assert config.data.seed == config.actor_rollout_ref.rollout.seed == 1
    assert config.trainer.save_freq == 4 and config.arithmetic.base_seed == BASES[1]


def test_seeds_have_prompts_of_their_own(tmp_path):
    questions = []
    for seed in SEEDS:
        training = Training("grpo", seed, tmp_path)
        training.write_prompts()
        rows = pd.read_parquet(training.prompts / TRAIN_FILE)
        assert len(rows) == PROMPTS
        questions += [messages[0]["content"] for messages in rows["prompt"]]
    assert len(set(questions)) == PROMPTS * len(SEEDS)


def test_rows_of_a_run_are_those_of_the_research_loop(tmp_path, monkeypatch, group):
    monkeypatch.setattr("benchmarks.confirmation.TOKEN_BUDGET", 4000)
    monkeypatch.setattr("benchmarks.confirmation.RESERVED_TEST_PROMPTS", 20)
    training = Training("erpo", 0, tmp_path)
    shutil.copytree(BASE_FOLDER, training.prepared / "model")
    log = GroupLog(training.folder)
    for step in range(1, 5):
        log.write(step, [group(step, "mixed", 1.0), group(step, "all_wrong", 1.4, dropped=True)])
        if step in (2, 4):
            shutil.copytree(BASE_FOLDER, training.folder / f"global_step_{step}" / MODEL)
    (training.folder / "latest_checkpointed_iteration.txt").write_text("4")
    rows = training.rows()
    assert rows["point"].tolist() == [0, 1, 2, 3, 4] and rows["tokens"].tolist() == [0, 1000, 2000, 3000, 4000]
    assert rows["steps"].tolist() == [0, 1, 2, 3, 4]
    # No checkpoint was trained: nothing changes, and only the last one is sampled.
    assert rows["accuracy"].nunique() == 1 and rows["mean_at_8"].notna().tolist() == [False] * 4 + [True]
    assert rows["mixed"].tolist()[1:] == [0.5] * 4 and rows["temperature"].tolist()[1:] == pytest.approx([1.2] * 4)
    row = summarize(rows, ["erpo"]).iloc[0]
    assert row["mixed per 1,000 tokens"] == "1.00" and "tail-free - erpo" not in row and "mean@8 - erpo" in row
