# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Rows with several gold answers: what verl's scorers make of them, and the reward function that honours them."""

import asyncio

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils.reward_score import default_compute_score

from erpo.datasets.any_answer import PATH, compute_score, takes_lists
from erpo.datasets.errors import DataError
from erpo.datasets.rewards import SCORERS, check_rewards, load_reward_function, wrong_answer
from erpo.evaluation.config import EvalConfig, EvaluationError, fill_from_run
from erpo.evaluation.data import load_problems
from erpo.evaluation.scorer import Scorer
from erpo.tasks.arithmetic.model import build_tokenizer
from erpo.trainer.config import ConfigError
from erpo.trainer.rows import check_rows
from recipe.erpo.check_rewards import main

ENDINGS = {"math_dapo": "Answer: {}", "math_reward": "\\boxed{{{}}}", "prime_math": "Answer: {}", "gsm8k": "#### {}"}


@pytest.fixture
def file(tmp_path):
    """Writes a file in verl's row schema with these gold answers."""

    def make(*golds, data_source="math_dapo"):
        rows = [
            {
                "data_source": data_source,
                "prompt": [{"role": "user", "content": f"Problem {number}"}],
                "reward_model": {"style": "rule", "ground_truth": gold},
                "extra_info": {"index": number},
            }
            for number, gold in enumerate(golds)
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
        return tmp_path / "rows.parquet"

    return make


def reward(result):
    return float(result["score"] if isinstance(result, dict) else result)


@pytest.mark.parametrize(("scorer", "data_source"), SCORERS.items())
def test_any_of_the_answers_is_right_and_no_other(scorer, data_source):
    right, wrong = (reward(default_compute_score(data_source, ENDINGS[scorer].format(x), "27")) for x in ("27", "28"))
    assert right > wrong
    for answer, expected in (("27", right), ("31", right), ("28", wrong), ("2731", wrong)):
        assert reward(compute_score(data_source, ENDINGS[scorer].format(answer), ["27", "31"])) == expected
        assert reward(compute_score(data_source, ENDINGS[scorer].format(answer), np.array(["27", "31"]))) == expected
    # One text is what it is without this function.
    for answer in ("27", "2"):
        response = ENDINGS[scorer].format(answer)
        assert compute_score(data_source, response, "27") == default_compute_score(data_source, response, "27")


def test_verls_scorers_alone_do_not_take_lists():
    """The reason for refusing them: one fails, and the others call every answer wrong."""
    with pytest.raises(AttributeError):
        default_compute_score("math_dapo", "Answer: 27", ["27", "31"])
    for scorer in ("math_reward", "gsm8k", "prime_math"):
        assert reward(default_compute_score(SCORERS[scorer], ENDINGS[scorer].format("27"), ["27", "31"])) == 0


def test_what_no_list_can_be_asked_of():
    with pytest.raises(ValueError, match="empty list of gold answers"):
        compute_score("math_dapo", "Answer: 1", [])
    with pytest.raises(NotImplementedError):
        compute_score("nothing", "Answer: 1", ["1"])
    for data_source, ground_truth in (("math_dapo", {"target": ["Paris"]}), ("searchR1_nq", {"target": ["Paris"]})):
        with pytest.raises(ValueError, match="is neither an answer nor a list of answers"):
            compute_score(data_source, "Answer: target", ground_truth)
    assert takes_lists("math_dapo") and takes_lists("a set of mine")
    assert not takes_lists("codecontests") and not takes_lists("searchR1_nq")


@pytest.mark.parametrize("manager", ["naive", "dapo"])
def test_through_verls_reward_manager_as_the_settings_name_it(manager):
    tokenizer: PreTrainedTokenizerFast = build_tokenizer()
    config = OmegaConf.create(
        {
            "reward": {
                "custom_reward_function": {"path": PATH, "name": "compute_score"},
                "reward_manager": {"source": "register", "name": manager},
                "reward_kwargs": {},
            }
        }
    )

    async def score(response):
        ids = torch.tensor([tokenizer.encode(response)])
        data = DataProto.from_dict(
            tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
            non_tensors={
                # Of the scorers that read what the 17 characters of this tokenizer can write, the one of numina.
                "data_source": np.array(["numina_cn_k12"], dtype=object),
                "reward_model": np.array([{"ground_truth": ["35", "7"]}], dtype=object),
                "extra_info": np.array([{}], dtype=object),
            },
        )
        return await load_reward_manager(config, tokenizer).run_single(data)

    results = [asyncio.run(score(response)) for response in ("=35", "=7", "=36")]
    assert [float(result["reward_score"]) for result in results] == [1.0, 1.0, 0.0]


def test_the_check_scores_every_answer_of_a_list(file, capsys):
    path = file(["1/2", "0.5"], ["7"])
    report = check_rewards(path, reward_function=load_reward_function(PATH, "compute_score"))
    assert report.passed and (report.rows, report.answers) == (2, 3)
    main([str(path), "--reward-function", PATH])
    [line] = [line for line in capsys.readouterr().out.splitlines() if "rows.parquet" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")][2:] == ["2", "3", "0", "0", "1", "-1"]
    # Of a list, one answer can be out of reach: the scorer cuts what stands before the last "=".
    report = check_rewards(file(["7", "8 dollars", "a\nb"]), reward_function=compute_score)
    assert [one.answer for one in report.rejected] == ["a\nb"]


def test_a_wrong_answer_is_none_of_the_list():
    assert wrong_answer("35", "36", "37") == "38"
    assert wrong_answer("\\frac12", "1234567") == "1234568"


def test_lists_without_the_function_are_refused_everywhere(file):
    path = file(["1", "2"])
    with pytest.raises(DataError, match=rf"row 0 of .*: its ground_truth is a list, .*--reward-function {PATH}"):
        check_rewards(path)
    with pytest.raises(SystemExit, match="its ground_truth is a list"):
        main([str(path), "--compare"])
    rows = [{"raw_prompt": row["prompt"], **row} for row in pq.read_table(path).to_pylist()]
    check_rows(rows)
    with pytest.raises(ConfigError, match=rf"row 0: ground_truth is a list, .*custom_reward_function\.path={PATH}"):
        check_rows(rows, one_answer=True)
    problems = load_problems(path)
    for function, refused in ((None, True), (PATH, False)):
        scorer = Scorer(fill_from_run(EvalConfig(model="m", sets=["x"], reward_function=function), None))
        try:
            if refused:
                with pytest.raises(EvaluationError, match=rf"a list of gold answers, .*set reward_function={PATH}"):
                    scorer.check(problems)
            else:
                scorer.check(problems)
                assert scorer.judge(problems[0], "Answer: 2").correct
        finally:
            scorer.close()


REWARD = """
async def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": 0.5 + float(solution_str.endswith(ground_truth)), "acc": solution_str.endswith(ground_truth)}

def fails(data_source, solution_str, ground_truth, extra_info=None):
    raise KeyError("no such key")

constant = 3
"""


def test_a_reward_function_of_ones_own(file, tmp_path, capsys):
    (tmp_path / "reward.py").write_text(REWARD)
    path, function = file("5", "6", data_source="mine"), ["--reward-function", str(tmp_path / "reward.py")]
    main([str(path), *function])
    [line] = [line for line in capsys.readouterr().out.splitlines() if "rows.parquet" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")][2:] == ["2", "2", "0", "0", "1.5", "0.5"]
    for more, message in (
        ([], "verl has no scorer for the data source 'mine'; prepare the set again, or name a reward function"),
        ([*function, "--reward-function-name", "fails"], "the reward function fails on row 0 .*no such key"),
        ([*function, "--reward-function-name", "absent"], "absent of .*reward.py cannot be loaded"),
        ([*function, "--reward-function-name", "constant"], "constant of .*reward.py is of type int; name a function"),
        (["--reward-function", "nowhere.py"], "compute_score of nowhere.py cannot be loaded"),
        (["--reward-function-name", "f"], "--reward-function-name needs --reward-function"),
        ([*function, "--compare"], "leave out one of --compare and --reward-function"),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
            main([str(path), *more])
        assert "\n" not in str(caught.value.code)
