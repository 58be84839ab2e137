# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The commands in the docstring of the reward function of one's own, as they stand there."""

import asyncio
import importlib.util
import json
import re
import shlex

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from e2e_runs import start
from hydra import compose, initialize_config_dir
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from erpo.runs import read_groups, read_metrics
from erpo.tasks.arithmetic.base import BASE_FOLDER
from erpo.tasks.arithmetic.model import build_tokenizer
from erpo.trainer.checks import check_data_files, check_settings
from recipe.erpo import check_rewards, prepare_data
from recipe.erpo.main_erpo import CONFIG_FOLDER

REWARD = "reward.custom_reward_function.path=examples/own_reward.py"


@pytest.fixture(scope="module")
def own_reward(examples):
    spec = importlib.util.spec_from_file_location("own_reward", examples / "own_reward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def commands(own_reward):
    """Arguments of each command, by the name of its module."""
    found = (shlex.split(line) for line in re.findall(r"python -m .*", own_reward.__doc__))
    return {module.removeprefix("recipe.erpo."): arguments for _, _, module, *arguments in found}


@pytest.fixture
def prepared(commands, examples, tmp_path, monkeypatch):
    """A folder with the examples, in which the first command was run."""
    (tmp_path / "examples").symlink_to(examples)
    monkeypatch.chdir(tmp_path)
    prepare_data.main(commands["prepare_data"])
    return tmp_path


def test_the_data_are_prepared_with_ids_answers_and_held_out_problems(prepared):
    train, test = (pq.read_table(prepared / "data" / f"own_{split}.parquet").to_pylist() for split in ("train", "test"))
    assert (len(train), len(test)) == (32, 8)
    source = {
        row["id"]: row for row in map(json.loads, (prepared / "examples/own_data.jsonl").read_text().splitlines())
    }
    assert len(source) == 40
    for row in train + test:
        original = source[row["extra_info"]["prompt_id"].removeprefix("own:")]
        assert row["prompt"] == [{"role": "user", "content": original["question"]}]
        assert row["reward_model"]["ground_truth"] == original["result"]["value"]
        assert row["data_source"] == "own_arithmetic"


def test_the_check_accepts_every_gold_answer_and_no_wrong_one(prepared, commands, capsys):
    check_rewards.main(commands["check_rewards"])
    lines = [line for line in capsys.readouterr().out.splitlines() if ".parquet" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")][2:] for line in lines]
    assert cells == [["32", "32", "0", "0", "1", "0"], ["8", "8", "0", "0", "1", "0"]]
    with pytest.raises(SystemExit, match="no scorer for the data source 'own_arithmetic'"):
        check_rewards.main(["data/own_train.parquet"])


def test_steps_are_paid_for_and_do_not_change_the_accuracy(own_reward):
    def score(response):
        return own_reward.compute_score("own_arithmetic", response, "07", extra_info={})

    assert score("+3=15-8=07") == {"score": 1.1, "acc": 1.0}
    assert score("=7") == {"score": 1.0, "acc": 1.0}
    assert score("+3=15-8=08") == score("") == {"score": 0.0, "acc": 0.0}


@pytest.mark.slow
def test_the_settings_of_the_run_compose_and_pass_the_checks(prepared, commands):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        config = compose("erpo_trainer", overrides=commands["main_erpo"])
    erpo = check_settings(config)
    check_data_files(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert erpo.accuracy.measure(1.1, {"acc": 1.0}) == (1.0, None)
    # verl loads the function by this path, and hands it what it hands to any.
    ids = torch.tensor([build_tokenizer().encode("+3=15-8=07")])
    data = DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={
            "data_source": np.array(["own_arithmetic"], dtype=object),
            "reward_model": np.array([{"ground_truth": "07"}], dtype=object),
            "extra_info": np.array([{}], dtype=object),
        },
    )

    async def judge():
        return await load_reward_manager(config, build_tokenizer()).run_single(data)

    result = asyncio.run(judge())
    assert float(result["reward_score"]) == pytest.approx(1.1) and result["reward_extra_info"]["acc"] == 1.0


@pytest.mark.ray
@pytest.mark.long
def test_two_steps_with_the_reward_the_data_and_the_schedule_of_ones_own(prepared, commands):
    arguments = [
        *commands["main_erpo"],
        "~arithmetic",
        f"actor_rollout_ref.model.path={BASE_FOLDER}",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.val_kwargs.n=1",
        "data.train_batch_size=8",
        "erpo.schedule.path=examples/own_schedule.py",
        "erpo.schedule.name=AverageSchedule",
        "+erpo.schedule.own.t_max=2.0",
        f"trainer.default_local_dir={prepared}/run",
        "trainer.total_training_steps=2",
        "trainer.test_freq=2",
        "trainer.save_freq=2",
        "ray_kwargs.ray_init.log_to_driver=true",
    ]
    start(prepared / "log", "recipe.erpo.main_erpo", arguments).wait()
    groups = read_groups(prepared / "run")
    assert set(groups["step"]) == {1, 2} and groups["key"].nunique() >= 16
    assert (groups["temperature"] >= 1).all()
    assert "val-core/own_arithmetic/acc/mean@1" in read_metrics(prepared / "run")
    state = json.loads((prepared / "run" / "global_step_2" / "erpo" / "tracker.json").read_text())
    assert state["settings"]["name"] == "AverageSchedule" and state["settings"]["own"] == {"t_base": 1.0, "t_max": 2.0}
