# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Sets, scorers and settings: what is read, and what is refused."""

import pandas as pd
import pytest
from omegaconf import OmegaConf

from erpo.evaluation.config import (
    EvalConfig,
    EvaluationError,
    ResidualConfig,
    SamplingConfig,
    fill_from_run,
    read_settings,
)
from erpo.evaluation.data import Problem, draw, find_set, fingerprint, load_problems
from erpo.evaluation.scorer import Scorer
from erpo.runs.settings import LEFT_OUT, without_secrets


def row(text="1+1=", answer="2", source="math_dapo", **extra_info):
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": text}],
        "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {"index": 0, **extra_info},
    }


def write(path, *rows):
    pd.DataFrame(list(rows)).to_parquet(path)
    return path


def test_repeated_rows_are_one_prompt(tmp_path):
    file = write(tmp_path / "a.parquet", row(), row("2+2=", "4"), row(), row())
    problems = load_problems(file)
    assert [problem.ground_truth for problem in problems] == ["2", "4"]
    assert problems[0].messages == [{"role": "user", "content": "1+1="}]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(answer="2"), row(answer="3")], "answers '2' and '3'"),
        ([row("a", prompt_id="x"), row("b", prompt_id="x")], "already names a prompt"),
        ([{"prompt": "a"}], "no column data_source"),
    ],
)
def test_sets_that_contradict_themselves_are_refused(tmp_path, rows, words):
    with pytest.raises(EvaluationError, match=words):
        load_problems(write(tmp_path / "a.parquet", *rows))


def test_files_that_are_none(tmp_path):
    with pytest.raises(EvaluationError, match=r"prepare_data aime24 --out .*data"):
        find_set("aime24", tmp_path / "data")
    (tmp_path / "b.parquet").write_text("no Parquet")
    with pytest.raises(EvaluationError, match="cannot be read as Parquet"):
        load_problems(find_set(str(tmp_path / "b.parquet"), "data")[1])
    write(tmp_path / "c.parquet", row())
    assert find_set("c", tmp_path) == find_set(str(tmp_path / "c.parquet"), "x") == ("c", tmp_path / "c.parquet")


def test_a_draw_is_a_subset_in_order_and_repeats(tmp_path):
    problems = load_problems(write(tmp_path / "a.parquet", *(row(f"{i}") for i in range(50))))
    drawn = draw(problems, 10, seed=1)
    assert drawn == draw(problems, 10, seed=1) != draw(problems, 10, seed=2)
    assert len(drawn) == 10 and drawn == [problem for problem in problems if problem in drawn]
    assert draw(problems, None, 0) == draw(problems, 99, 0) == problems
    assert fingerprint(drawn) != fingerprint(drawn[::-1])


def problem(source, answer, **extra_info):
    return Problem("0" * 32, source, [], answer, extra_info)


@pytest.mark.parametrize(
    ("source", "response", "answer", "correct", "extracted"),
    [
        ("aime24", "so\nAnswer: 42", "42", True, "42"),
        ("aime24", "so\nAnswer: 41", "42", False, "41"),
        ("aime24", "no idea", "42", False, None),
        ("HuggingFaceH4/MATH-500", r"so \boxed{\dfrac{1}{2}}", r"\frac{1}{2}", True, r"\frac{1}{2}"),
        ("HuggingFaceH4/MATH-500", r"so \boxed{3}, no: \boxed{ 4 }", "5", False, "4"),
        ("HuggingFaceH4/MATH-500", "so it is 5", "5", False, None),
        ("HuggingFaceH4/MATH-500", "#### 3. Solve for x\nso \\boxed{4}, done", "5", False, "4"),
        ("openai/gsm8k", "so \\boxed{7} boxes\n#### $1,234", "1235", False, "1234"),
        ("openai/gsm8k", "#### 7", "7", True, "7"),
        ("openai/gsm8k", "#### 7. Solve for", "8", False, None),
    ],
)
def test_verl_s_scorers_judge_and_the_answer_is_found(source, response, answer, correct, extracted):
    verdict = Scorer(SamplingConfig()).judge(problem(source, answer), response)
    assert (verdict.correct, verdict.answer) == (correct, extracted)
    # math_dapo's reward of a wrong answer is -1, its accuracy 0.
    assert verdict.accuracy == float(correct)


@pytest.mark.parametrize("form", ["def", "async def"])
def test_a_reward_function_of_one_s_own(tmp_path, form):
    file = tmp_path / "reward.py"
    file.write_text(
        f"{form} half(data_source, solution_str, ground_truth, extra_info=None, bonus=0.0, **kwargs):\n"
        "    return {'score': -1.0, 'acc': extra_info['acc'] + bonus, 'pred': solution_str}\n"
    )
    settings = SamplingConfig(reward_function=str(file), reward_function_name="half", reward_kwargs={"bonus": 0.25})
    scorer = Scorer(settings)
    assert scorer.judge(problem("x", "", acc=0.25), "a").correct  # 0.5 is the threshold
    wrong = scorer.judge(problem("x", "", acc=0.0), "a")
    assert (wrong.correct, wrong.score, wrong.accuracy, wrong.answer) == (False, -1.0, 0.25, "a")
    failed = scorer.judge(problem("x", ""), "a")
    assert (failed.correct, failed.score, failed.error) == (False, None, "KeyError: 'acc'")
    with pytest.raises(EvaluationError, match=r"fails on prompt 0000.*KeyError"):
        scorer.check([problem("x", "")])
    with pytest.raises(EvaluationError, match="cannot be loaded"):
        Scorer(SamplingConfig(reward_function=str(file), reward_function_name="whole"))


def test_an_unknown_data_source_is_refused_before_anything_starts():
    with pytest.raises(EvaluationError, match=r"no scorer for the data source 'poems'; set reward_function"):
        Scorer(SamplingConfig()).check([problem("aime24", "1"), problem("poems", "1")])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sets": ["a"]}, "model is not set"),
        ({"model": "m"}, "sets is not set"),
        ({"model": "m", "sets": []}, "sets is empty"),
        ({"model": "m", "sets": ["a"], "n": 0}, "n is 0"),
        ({"model": "m", "sets": ["a"], "n": "many"}, "'many'"),
        ({"model": "m", "sets": ["a"], "top_p": 0}, "top_p is 0"),
        ({"model": "m", "sets": ["a"], "temperature": 0.0, "n": 4}, "set n=1"),
        ({"model": "m", "sets": ["a"], "temprature": 1.0}, "temprature"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(values, words):
    with pytest.raises(EvaluationError, match=words) as caught:
        read_settings(EvalConfig, OmegaConf.create(values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("temperatures", [[1.0], [1.0, 1.0], [0.0, 1.0]])
def test_residual_share_needs_two_temperatures(temperatures):
    with pytest.raises(EvaluationError, match="temperatures are"):
        read_settings(ResidualConfig, OmegaConf.create({"model": "m", "data": "d", "temperatures": temperatures}))


def test_one_name_is_a_list_of_one():
    assert read_settings(EvalConfig, OmegaConf.create({"model": "m", "sets": "math500"})).sets == ["math500"]


def test_the_yaml_mirrors_the_dataclasses():
    from recipe.erpo.main_erpo import CONFIG_FOLDER

    for name, settings_class in (("eval", EvalConfig), ("residual_share", ResidualConfig)):
        shown = OmegaConf.load(CONFIG_FOLDER / f"{name}.yaml")
        for key in ("defaults", "hydra"):
            shown.pop(key)
        assert OmegaConf.to_container(shown) == OmegaConf.to_container(OmegaConf.structured(settings_class))


def test_a_run_fills_what_is_left_open(tmp_path):
    run = {
        "data": {"max_response_length": 77, "apply_chat_template_kwargs": {"enable_thinking": False}},
        "reward": {"custom_reward_function": {"path": "pkg://x", "name": "f", "reward_kwargs": {"a": 1}}},
    }
    OmegaConf.save(OmegaConf.create(run), tmp_path / "config.yaml")
    filled = fill_from_run(SamplingConfig(), tmp_path)
    assert (filled.max_response_length, filled.apply_chat_template_kwargs) == (77, {"enable_thinking": False})
    assert (filled.reward_function, filled.reward_function_name, filled.reward_kwargs) == ("pkg://x", "f", {"a": 1})
    own = fill_from_run(SamplingConfig(max_response_length=5, reward_function="mine.py"), tmp_path)
    assert (own.max_response_length, own.reward_function, own.reward_kwargs) == (5, "mine.py", {})
    alone = fill_from_run(SamplingConfig(), None)
    assert (alone.max_response_length, alone.apply_chat_template_kwargs, alone.reward_function) == (8192, {}, None)


@pytest.mark.parametrize(
    ("run", "own", "words"),
    [
        pytest.param({"end_token": "</a>"}, {"end_token": "</a>"}, r"add \+reward_kwargs\.end_token=", id="a-name"),
        pytest.param(
            {"judge": {"api_key": "x", "n": 2}},
            {"judge": {"api_key": "y"}},
            r"\+reward_kwargs\.judge\.api_key=",
            id="deep",
        ),
        pytest.param({"of": [{"api_key": "x"}]}, {"of": [{"api_key": "y"}]}, r"\+reward_kwargs\.of=", id="in-a-list"),
        pytest.param({"url": "http://a:b@c"}, {"url": "http://a:b@c"}, r"\+reward_kwargs\.url=", id="a-login"),
    ],
)
def test_what_a_run_s_settings_leave_out_has_to_be_given(tmp_path, run, own, words):
    function = {"path": "pkg://x", "name": "f", "reward_kwargs": {"a": 1, **run}}
    settings = {"reward": {"custom_reward_function": function}}
    OmegaConf.save(OmegaConf.create(without_secrets(settings)), tmp_path / "config.yaml")
    with pytest.raises(EvaluationError, match=words):
        fill_from_run(SamplingConfig(), tmp_path)
    filled = fill_from_run(SamplingConfig(reward_kwargs=own), tmp_path)
    assert (filled.reward_function, filled.reward_function_name) == ("pkg://x", "f")
    assert filled.reward_kwargs == OmegaConf.merge({"a": 1}, run, own)
    assert fill_from_run(SamplingConfig(reward_function="mine.py"), tmp_path).reward_kwargs == {}


def test_the_other_settings_of_a_run_that_are_left_out_have_to_be_given_whole(tmp_path):
    OmegaConf.save(
        OmegaConf.create({"data": {"apply_chat_template_kwargs": {"a_token": LEFT_OUT}}}), tmp_path / "config.yaml"
    )
    with pytest.raises(EvaluationError, match=r"add apply_chat_template_kwargs=\.\.\. to the command, whole"):
        fill_from_run(SamplingConfig(), tmp_path)
    own = {"a_token": "x"}
    assert fill_from_run(SamplingConfig(apply_chat_template_kwargs=own), tmp_path).apply_chat_template_kwargs == own
