# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The reward function, alone and as verl loads and calls it."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

import erpo.tasks.arithmetic.reward as reward
from erpo.tasks.arithmetic.model import build_tokenizer
from erpo.tasks.arithmetic.task import MAX_RESPONSE_CHARACTERS, Problem


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("-9=54*8=32+3=35", 1.0),
        ("=35", 1.0),
        ("-9=11*8=88+3=35", 1.0),  # Steps are not checked.
        ("-9=54*8=32+3=36", 0.0),
        ("-9=54*8=32+3=3", 0.0),  # Cut within the answer.
        ("-9=54*8=32+3=", 0.0),
        ("-9=54*8=32+3", 0.0),
        ("-9=54*8=35+3=32", 0.0),  # The answer before the last `=` does not count.
        ("+3==35", 1.0),
        ("+3=35=", 0.0),
        ("+3=035", 0.0),
        ("+3=35+", 0.0),
        ("+3=35\n", 0.0),
        ("35", 0.0),
        ("", 0.0),
        ("hello = 35", 0.0),
        ("+3=35" * 6, 1.0),  # 30 characters, the longest right response.
        ("2+3=35" + "+3=35" * 5, 0.0),  # 31 characters without an end: cut at the limit.
    ],
)
def test_scores(response: str, score: float) -> None:
    result = reward.compute_score("arithmetic", response, "35", extra_info={"index": 0})
    assert result == {"score": score, "acc": score}
    assert type(result["acc"]) is float


def test_length_limit_is_the_task_s() -> None:
    assert reward.MAX_RESPONSE_CHARACTERS == MAX_RESPONSE_CHARACTERS


def verl_config() -> Any:
    omegaconf = pytest.importorskip("omegaconf")
    return omegaconf.OmegaConf.create(
        {
            "reward": {
                "custom_reward_function": {"path": reward.__file__, "name": "compute_score"},
                "reward_manager": {"source": "register", "name": "naive"},
            }
        }
    )


def test_verl_loads_it_by_file_path() -> None:
    loader = pytest.importorskip("verl.trainer.ppo.reward")
    loaded = loader.get_custom_reward_fn(verl_config())
    assert loaded(data_source="arithmetic", solution_str="+3=35", ground_truth="35", extra_info={})["score"] == 1.0
    assert loaded(data_source="arithmetic", solution_str="+3=34", ground_truth="35", extra_info={})["score"] == 0.0


@pytest.mark.parametrize(("response", "score"), [("-9=54*8=32+3=35", 1.0), ("-9=54*8=32+3=25", 0.0)])
def test_verl_s_reward_manager_scores_a_trajectory(response: str, score: float) -> None:
    verl = pytest.importorskip("verl")
    loader = pytest.importorskip("verl.trainer.ppo.reward")
    tokenizer = build_tokenizer()
    problem = Problem(63, (("-", 9), ("*", 8), ("+", 3)))
    prompt_ids = tokenizer(problem.prompt, padding="max_length", max_length=16, return_tensors="pt")
    response_ids = tokenizer(
        response + tokenizer.eos_token, padding="max_length", max_length=32, padding_side="right", return_tensors="pt"
    )
    item = verl.DataProto.from_dict(
        tensors={
            "responses": response_ids["input_ids"],
            "attention_mask": torch.cat([prompt_ids["attention_mask"], response_ids["attention_mask"]], dim=1),
        },
        non_tensors={
            "data_source": np.array(["arithmetic"], dtype=object),
            "reward_model": np.array([{"style": "rule", "ground_truth": problem.answer}], dtype=object),
            "extra_info": np.array([{"index": 0}], dtype=object),
        },
    )

    async def score_it() -> dict[str, Any]:
        manager = loader.load_reward_manager(verl_config(), tokenizer)
        return await manager.run_single(item)

    assert asyncio.run(score_it())["reward_score"] == score
