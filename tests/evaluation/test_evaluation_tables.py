# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Summary of a set, and the comparison of evaluated runs."""

import json

import pandas as pd
import pytest
from omegaconf import OmegaConf

from erpo.evaluation.checkpoint import ModelSource
from erpo.evaluation.config import EvaluationError
from erpo.evaluation.data import judge_warning, one_turn_warning
from erpo.evaluation.summary import summarize_set, write_summary
from erpo.evaluation.tables import comparison, read_entry
from recipe.erpo.tables import main


def samples(part, correct, answers=None, n=4):
    """Samples of a set: correct responses of each prompt, answers of each prompt."""
    return pd.DataFrame(
        [
            {
                "part": part,
                "key": f"{number:032x}",
                "sample": index,
                "temperature": 1.0,
                "length": 10 + index,
                "truncated": index == 3,
                "correct": index < right,
                "answer": answers[number][index] if answers else None,
                "error": None,
            }
            for number, right in enumerate(correct)
            for index in range(n)
        ]
    )


def evaluate(folder, *sets, method="erpo", base="models/Qwen2.5-3B", step=175, top_p=0.9, prompts="f"):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"erpo: {{method: {method}}}\nactor_rollout_ref: {{model: {{path: {base}}}}}\n")
    (folder / "eval").mkdir()
    settings = {"seed": 0, "top_p": top_p, "top_k": -1, "max_response_length": 8}
    parts = {name: {"prompts_fingerprint": prompts, "skipped": 0} for one in sets for name in one["part"].unique()}
    held = {"settings": settings, "judging": {}, "parts": parts}
    (folder / "eval" / "settings.json").write_text(json.dumps(held))
    source = ModelSource("x", f"{folder.name}-step{step}", folder, step)
    return write_summary(pd.concat(sets), source, folder / "eval")


def test_summary_of_a_set():
    answers = [["7"] * 4, ["7", "8", "8", None], ["7", "8", None, None]]
    numbers = summarize_set(samples("s", [4, 1, 1], answers), seed=0)
    assert (numbers["prompts"], numbers["n"]) == (3, 4)
    assert numbers["mean"]["value"] == pytest.approx(0.5) and numbers["mean"] == numbers["pass"]["1"]
    assert numbers["mean"]["low"] < 0.5 < numbers["mean"]["high"]
    # One correct of four: a pair holds it with probability 1/2.
    assert {k: round(v["value"], 6) for k, v in numbers["pass"].items()} == {"1": 0.5, "2": 0.666667, "4": 1.0}
    assert numbers["maj"]["value"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert numbers["length"] == {"mean": 11.5, "median": 11.5, "max": 13} and numbers["truncated"] == 0.25


def test_without_answers_there_is_no_majority_and_n_may_differ_between_sets(tmp_path):
    text = evaluate(tmp_path / "run", samples("a", [1, 2]), samples("b", [1, 2], n=2))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert rows[0][:7] == ["set", "prompts", "n", "mean@n", "pass@2", "pass@4", "maj@n"]
    assert [row[0] for row in rows[2:]] == ["a", "b"] and [row[2] for row in rows[2:]] == ["4", "2"]
    assert rows[2][6] == rows[3][6] == rows[3][5] == "–"  # noqa: RUF001


@pytest.mark.parametrize(
    ("rollout", "names", "words"),
    [
        pytest.param({}, [], "", id="a-plain-run"),
        pytest.param({}, ["single_turn_agent", None], "", id="rows-of-one-turn"),
        pytest.param({"agent": {"default_agent_loop": "helped"}}, [], "the agent loop helped, but", id="own-loop"),
        pytest.param({"multi_turn": {"tool_config_path": "a.yaml"}}, [], "tools, but", id="tools"),
        pytest.param(
            {"multi_turn": {"function_tool_path": "a.py"}},
            ["tool_agent"],
            "the agent loop tool_agent and tools, but every response here is one turn",
            id="rows-and-tools",
        ),
    ],
)
def test_one_turn_in_the_place_of_several_is_said(tmp_path, rollout, names, words):
    rows = [{"prompt": "p", "agent_name": name} for name in names]
    pd.DataFrame(rows or [{"prompt": "p"}]).to_parquet(tmp_path / "a.parquet")
    OmegaConf.save(OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}}), tmp_path / "config.yaml")
    warning = one_turn_warning(tmp_path, [tmp_path / "a.parquet"])
    assert words in warning and bool(words) == bool(warning) and "\n" not in warning
    (tmp_path / "eval").mkdir()
    held = {"settings": {"seed": 0, "top_p": 1, "top_k": -1, "max_response_length": 8}, "judging": {}}
    held["parts"] = {"s": {"prompts_fingerprint": "f", "skipped": 0}}
    (tmp_path / "eval" / "settings.json").write_text(json.dumps(held))
    text = write_summary(samples("s", [1]), ModelSource("x", "x"), tmp_path / "eval", warning)
    assert (f"\nWarning: {warning}\n" in text) == bool(warning)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ({"reward_manager": {"source": "importlib"}}, "training uses a reward manager of its own, but here verl's"),
        ({"reward_model": {"enable": True}}, "training uses a reward model, but here verl's scorer"),
        ({"reward_manager": {"source": "register", "name": "dapo"}, "reward_model": {"enable": False}}, ""),
    ],
)
def test_another_judge_than_in_training_is_said(tmp_path, reward, words):
    OmegaConf.save(OmegaConf.create({"reward": reward}), tmp_path / "config.yaml")
    warning = judge_warning(tmp_path, None)
    assert words in warning and bool(words) == bool(warning)
    # A function that is named judges as the user wants it.
    assert judge_warning(tmp_path, "pkg://mine") == judge_warning(None, None) == ""


@pytest.mark.parametrize(
    ("answers", "truncated", "value"),
    [
        pytest.param(["8", None, None, None], [False] * 4, None, id="most-wrong-ones-have-no-answer"),
        pytest.param(["8", "9", None, None], [False] * 4, 1.0, id="half-of-them-have-one"),
        pytest.param(["8", None, None, None], [False, True, True, True], 1.0, id="the-others-were-cut"),
    ],
)
def test_a_majority_needs_wrong_responses_that_can_vote(answers, truncated, value):
    one = samples("s", [2], [[None, None, *answers]], n=6)
    maj = summarize_set(one.assign(truncated=[False, False, *truncated]), seed=0)["maj"]
    assert (maj and maj["value"]) == value


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]


def test_comparison_is_grouped_by_base_model_in_the_paper_s_order(tmp_path, capsys):
    evaluate(tmp_path / "one", samples("math500", [2, 2]), samples("aime24", [1, 1], n=2))
    evaluate(tmp_path / "two", samples("aime25", [4, 4]), method="dapo", base="Qwen/Qwen2.5-3B")
    evaluate(tmp_path / "three", samples("an-own-set", [2, 4]), base="models/other")
    out = tmp_path / "new" / "table.md"
    main([*(str(tmp_path / name) for name in ("one", "two", "three")), "--out", str(out)])
    printed = capsys.readouterr().out
    assert out.read_text() == printed
    header, _, *rows = cells(printed)
    assert header == [
        "base model",
        "method",
        "AIME 2025 mean@4",
        "AIME 2024 mean@2",
        "MATH500 mean@4",
        "an-own-set mean@4",
        "from",
    ]
    dash = "–"  # noqa: RUF001
    assert rows == [
        ["Qwen2.5-3B", "dapo", dash, dash, "50.4", dash, "public (arXiv 2511.04800)"],
        ["Qwen2.5-3B", "erpo", dash, "50.0 [50.0, 50.0]", "50.0 [50.0, 50.0]", dash, "one, step 175"],
        ["Qwen2.5-3B", "dapo", "100.0 [100.0, 100.0]", dash, dash, dash, "two, step 175"],
        ["other", "erpo", dash, dash, dash, "75.0 [50.0, 100.0]", "three, step 175"],
        ["Qwen2.5-7B", "dapo", dash, dash, "60.3", dash, "public (arXiv 2511.04800)"],
    ]


def test_the_same_set_with_another_n_is_another_column(tmp_path):
    evaluate(tmp_path / "one", samples("math500", [2], n=2))
    assert cells(comparison([read_entry(tmp_path / "one")]))[0][2:4] == ["MATH500 mean@2", "MATH500 mean@4"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        pytest.param({}, None, id="alike"),
        pytest.param({"prompts": "g"}, "test: not the same prompts in all rows.", id="two-files-called-test"),
        pytest.param(
            {"top_p": 1.0}, "test: sampled differently in different rows (T = 1, top_p 0.9", id="another-top-p"
        ),
    ],
)
def test_numbers_that_cannot_be_compared_are_named(tmp_path, other, words):
    evaluate(tmp_path / "one", samples("test", [2]))
    evaluate(tmp_path / "two", samples("test", [2]), **other)
    text = comparison([read_entry(tmp_path / "one"), read_entry(tmp_path / "two")])
    assert words in text if words else "all rows" not in text


def test_an_evaluation_of_a_base_model_is_a_row(tmp_path):
    evaluate(tmp_path / "run", samples("math500", [2]))
    folder = tmp_path / "eval"
    (tmp_path / "run" / "eval").rename(folder)
    write_summary(samples("math500", [2]), ModelSource("Qwen/Qwen2.5-3B", "Qwen2.5-3B"), folder)
    entry = read_entry(folder)
    assert (entry.base_model, entry.method) == ("Qwen2.5-3B", "base model")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "was not evaluated"),
        ("{", "cannot be read"),
        ("{}", "is not a summary"),
        ('{"model": "m", "run": null, "sets": ["a"]}', "not written by this version"),
        ('{"model": "m", "run": null, "settings": {}, "sets": {"a": {"n": 4}}}', "not written by this version"),
    ],
)
def test_runs_that_were_not_evaluated(tmp_path, content, words, capsys):
    if content is not None:
        (tmp_path / "eval").mkdir()
        (tmp_path / "eval" / "summary.json").write_text(content)
    with pytest.raises(EvaluationError, match=words):
        read_entry(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path)])
    assert stopped.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
