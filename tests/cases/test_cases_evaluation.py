# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What went wrong in evaluations and data preparation, one row a case."""

import json
import os
import signal
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from erpo.datasets.errors import DataError
from erpo.datasets.prepare import prepare
from erpo.datasets.rewards import Score, check_rewards
from erpo.evaluation import collect as collecting
from erpo.evaluation.checkpoint import MERGED_FOLDER, STAMP_FILE, ModelSource, _stamp, find_model, merge
from erpo.evaluation.collect import Part, collect
from erpo.evaluation.config import (
    AccuracySettings,
    EvalConfig,
    EvaluationError,
    ResidualConfig,
    SamplingConfig,
    fill_from_run,
    read_settings,
)
from erpo.evaluation.data import Problem, find_sets, load_problems
from erpo.evaluation.residual import group_table
from erpo.evaluation.sampler import Response, Sampler
from erpo.evaluation.scorer import Scorer
from erpo.evaluation.summary import write_summary
from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.tracker import Outcome, is_correct
from erpo.trainer.config import AccuracyConfig
from recipe.erpo.main_erpo import CONFIG_FOLDER

ROW = {
    "data_source": "math_dapo",
    "prompt": [{"role": "user", "content": "1+1="}],
    "reward_model": {"style": "rule", "ground_truth": "2"},
    "extra_info": {"index": 0},
}
OTHER = {**ROW, "prompt": [{"role": "user", "content": "2+2="}]}
TENTHS = sum([0.1] * 10)  # 0.9999999999999999


def parquet(path, *rows):
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


# One meaning of correct.


@pytest.mark.parametrize(
    ("accuracy", "threshold", "correct"),
    [
        pytest.param(TENTHS, 1.0, True, id="sum-of-floats-at-the-threshold"),
        pytest.param(0.6, 1.0, False, id="partial-credit-below-the-run-s-threshold"),
        pytest.param(0.5, 0.5, True, id="exactly-at-the-threshold"),
        pytest.param(0.499, 0.5, False, id="below-by-more-than-rounding"),
    ],
)
def test_correct_means_one_thing(tmp_path, accuracy, threshold, correct):
    file = tmp_path / "reward.py"
    file.write_text(f"def compute_score(**row):\n    return {{'score': -1.0, 'acc': {accuracy!r}}}\n")
    judged_as = AccuracySettings(threshold=threshold)
    scorer = Scorer(SamplingConfig(reward_function=str(file), accuracy=judged_as))
    assert scorer.judge(Problem("k", "s", [], "1", {}), "x").correct == correct == is_correct(accuracy, threshold)
    scorer.close()
    samples = pd.DataFrame({"key": ["k"] * 4, "accuracy": accuracy, "correct": correct, "truncated": False})
    [outcome] = group_table(samples, AccuracyConfig(threshold=threshold))["outcome"]
    assert (outcome == Outcome.ALL_CORRECT) == correct
    assert Score("p", "a", 0.0, accuracy).accepted == is_correct(accuracy)


RUN = {
    "actor_rollout_ref": {
        "rollout": {"n": 16, "top_p": 1.0, "top_k": 7, "val_kwargs": {"temperature": 0.6, "top_p": 1.0, "top_k": 20}}
    },
    "data": {"max_response_length": 64, "max_prompt_length": 12, "filter_overlong_prompts": True},
    "erpo": {"accuracy": {"metric": "strict", "threshold": 1.0, "tolerance": 1e-6}},
}
GREEDY = OmegaConf.merge(RUN, {"actor_rollout_ref": {"rollout": {"val_kwargs": {"temperature": 0}}}})
UNFILTERED = OmegaConf.merge(RUN, {"data": {"filter_overlong_prompts": False}})


@pytest.mark.parametrize(
    ("run", "own", "expected"),
    [
        pytest.param(RUN, {}, {"temperature": 0.6, "top_p": 1.0, "top_k": 20, "n": 32}, id="as-the-run-validated"),
        pytest.param(RUN, {"top_p": 0.8, "n": 4}, {"temperature": 0.6, "top_p": 0.8, "n": 4}, id="own-settings-win"),
        pytest.param(GREEDY, {}, {"temperature": 0, "n": 1}, id="a-run-that-validated-greedily"),
        pytest.param(None, {}, {"temperature": 1.0, "top_p": 0.9, "top_k": -1, "n": 32}, id="a-plain-model"),
        pytest.param(RUN, {}, {"accuracy": AccuracySettings("strict", 1.0, 1e-6)}, id="the-run-s-accuracy"),
        pytest.param(None, {}, {"accuracy": AccuracySettings(None, 0.5, 1e-6)}, id="accuracy-of-a-plain-model"),
        pytest.param(
            RUN,
            {"accuracy": AccuracySettings(metric="acc")},
            {"accuracy": AccuracySettings("acc", 1.0, 1e-6)},
            id="own-metric-the-run-s-threshold",
        ),
        pytest.param(RUN, {}, {"max_prompt_length": 12}, id="prompts-filtered-as-in-training"),
        pytest.param(UNFILTERED, {}, {"max_prompt_length": None}, id="prompts-not-filtered-as-in-training"),
    ],
)
def test_a_run_is_evaluated_as_it_was_trained(tmp_path, run, own, expected):
    if run is not None:
        OmegaConf.save(OmegaConf.create(run), tmp_path / "config.yaml")
    filled = fill_from_run(EvalConfig(model="m", sets=["s"], **own), tmp_path if run is not None else None)
    assert {name: getattr(filled, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "kind", "data"), [("eval", EvalConfig, "sets"), ("residual_share", ResidualConfig, "data")]
)
def test_the_command_line_s_settings_are_read(name, kind, data):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        config = compose(name, overrides=["model=m", f"{data}=x", "accuracy.threshold=1", "reward_timeout=5"])
    settings = read_settings(kind, config)
    assert settings.accuracy == AccuracySettings(None, 1.0, None) and settings.reward_timeout == 5.0


def test_residual_share_samples_as_the_run_trained(tmp_path):
    OmegaConf.save(OmegaConf.create(RUN), tmp_path / "config.yaml")
    filled = fill_from_run(ResidualConfig(model="m", data="d"), tmp_path)
    assert (filled.n, filled.top_p, filled.top_k) == (16, 1.0, 7)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("a: [", "cannot be read", id="broken"),
        pytest.param("- a", "no settings of a run", id="a-list"),
        pytest.param("erpo: {accuracy: {threshold: .nan}}", r"^accuracy.threshold is nan", id="no-threshold"),
        pytest.param(
            "actor_rollout_ref: {rollout: {val_kwargs: {top_p: 0}}}", "top_p is 0", id="validation-without-tokens"
        ),
    ],
)
def test_settings_of_a_run_that_cannot_be_used(tmp_path, content, words):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(EvaluationError, match=words) as caught:
        fill_from_run(EvalConfig(model="m", sets=["s"]), tmp_path)
    assert "\n" not in str(caught.value)


# A bad response costs itself.

FAILING = """
import os, signal, subprocess, sys, time
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    {body}
    return 1.0
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(
            "if 'BAD' in solution_str: raise TimeoutError('timed out')", "TimeoutError: timed out", id="raises"
        ),
        pytest.param("if 'BAD' in solution_str: time.sleep(999)", "took more than 1 s", id="hangs"),
        pytest.param("while 'BAD' in solution_str: pass", "took more than 1 s", id="hangs-busy"),
        pytest.param(
            "if 'BAD' in solution_str:\n        subprocess.run(['sleep', '997'])", "more than 1 s", id="child-hangs"
        ),
        pytest.param("if 'BAD' in solution_str: os._exit(3)", "with code 3", id="ends-its-process"),
        pytest.param("if 'BAD' in solution_str: os.kill(os.getpid(), 9)", "with signal 9", id="killed-for-memory"),
        pytest.param("if 'BAD' in solution_str: sys.exit(1)", "SystemExit", id="calls-exit"),
        pytest.param("if 'BAD' in solution_str: return None", "TypeError", id="returns-none"),
        pytest.param("if 'BAD' in solution_str: return float('nan')", "the reward nan", id="returns-nan"),
        pytest.param("if 'BAD' in solution_str: return {'score': 1, 'acc': None}", "None as 'acc'", id="acc-is-none"),
        pytest.param("if 'BAD' in solution_str: return {'acc': 1.0}", "KeyError: 'score'", id="no-score"),
        pytest.param("if 'BAD' in solution_str: raise ValueError('')", "ValueError: no message", id="says-nothing"),
    ],
)
def test_a_response_that_cannot_be_judged_costs_itself(tmp_path, body, reason):
    (tmp_path / "reward.py").write_text(FAILING.format(body=body))
    scorer = Scorer(SamplingConfig(reward_function=str(tmp_path / "reward.py"), reward_timeout=1.0))
    problem = Problem("k", "s", [], "1", {})
    scorer.check([problem])
    verdicts = [scorer.judge(problem, text) for text in ("good", "BAD", "good", "BAD", "good")]
    scorer.close()
    assert [verdict.correct for verdict in verdicts] == [True, False, True, False, True]
    assert [verdict.error is None for verdict in verdicts] == [True, False, True, False, True]
    assert reason in verdicts[1].error and verdicts[1].score is None


def test_an_alarm_that_a_response_left_behind_does_not_hit_the_next(tmp_path):
    (tmp_path / "reward.py").write_text(FAILING.format(body="signal.setitimer(signal.ITIMER_REAL, 0.05)"))
    scorer = Scorer(SamplingConfig(reward_function=str(tmp_path / "reward.py")))
    problem = Problem("k", "s", [], "1", {})
    assert scorer.judge(problem, "a").correct
    time.sleep(0.2)
    assert scorer.judge(problem, "b").correct
    scorer.close()


def test_nothing_is_left_running(tmp_path):
    note = tmp_path / "pid"
    (tmp_path / "reward.py").write_text(
        FAILING.format(body=f"open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(999)")
    )
    scorer = Scorer(SamplingConfig(reward_function=str(tmp_path / "reward.py"), reward_timeout=0.5))
    assert scorer.judge(Problem("k", "s", [], "1", {}), "a").error
    scorer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_an_interruption_does_not_wait_for_a_response_that_hangs(tmp_path):
    (tmp_path / "reward.py").write_text(FAILING.format(body="if 'BAD' in solution_str: time.sleep(999)"))
    scorer = Scorer(SamplingConfig(reward_function=str(tmp_path / "reward.py")))

    def interrupt(*arguments):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            scorer.judge(Problem("k", "s", [], "1", {}), "BAD")
    finally:
        signal.signal(signal.SIGALRM, before)
    start = time.monotonic()
    scorer.close()
    assert time.monotonic() - start < 20


def test_a_keeper_that_was_killed_ends_the_evaluation_and_no_verdict_is_made_up(tmp_path):
    (tmp_path / "reward.py").write_text(FAILING.format(body="pass"))
    scorer = Scorer(SamplingConfig(reward_function=str(tmp_path / "reward.py")))
    os.kill(scorer._process._pid, signal.SIGKILL)
    with pytest.raises(EvaluationError, match="was killed"):
        scorer.judge(Problem("k", "s", [], "1", {}), "a")
    scorer.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("import nothing_of_this_name", "No module named", id="import-fails"),
        pytest.param("x = 1", "compute_score", id="no-such-function"),
        pytest.param("def compute_score(", "SyntaxError", id="syntax"),
        pytest.param("import sys; sys.exit(1)", "SystemExit", id="exits"),
        pytest.param(None, "there is no file", id="no-file"),
        pytest.param("def compute_score(**row): raise ValueError('never')", "ValueError: never", id="always-raises"),
        pytest.param("def compute_score(**row): return {'score': 1.0}", "no 'strict'", id="metric-not-returned"),
    ],
)
def test_a_reward_function_that_never_works_is_refused_before_sampling(tmp_path, content, words):
    file = tmp_path / "reward.py"
    if content is not None:
        file.write_text(content)
    settings = SamplingConfig(
        reward_function=str(file), accuracy=AccuracySettings("strict" if "strict" in words else None)
    )
    with pytest.raises(EvaluationError, match=words) as caught:
        Scorer(settings).check([Problem("k", "s", [], "1", {})])
    assert "\n" not in str(caught.value)


def test_an_empty_response_may_fail_where_the_gold_answer_does_not(tmp_path):
    (tmp_path / "reward.py").write_text("def compute_score(solution_str, **row): return float(solution_str[0] == '1')")
    scorer = Scorer(SamplingConfig(reward_function=str(tmp_path / "reward.py")))
    scorer.check([Problem("k", "s", [], "1", {})])
    assert scorer.judge(Problem("k", "s", [], "1", {}), "").error.startswith("IndexError")
    scorer.close()


@pytest.mark.parametrize(
    ("accuracies", "outcome"),
    [
        pytest.param([1.0, 1.0, np.nan], Outcome.MIXED, id="all-others-correct"),
        pytest.param([0.0, np.nan, 0.0], Outcome.ALL_WRONG, id="all-others-wrong"),
        pytest.param([-1.0, np.nan, -1.0], Outcome.ALL_WRONG, id="all-others-wrong-at-minus-one"),
        pytest.param([np.nan, np.nan, np.nan], Outcome.ALL_WRONG, id="none-judged"),
    ],
)
def test_residual_share_counts_them_as_wrong(accuracies, outcome):
    samples = pd.DataFrame({"key": "k", "accuracy": accuracies, "correct": False, "truncated": False})
    assert group_table(samples, AccuracyConfig())["outcome"].tolist() == [outcome]


# Responses are sampled once, whatever becomes of their verdicts.


class Recorded:
    """Stands for vLLM alone: responses that are a function of the request, and a count of what was sampled."""

    sampled = 0
    limit = "recorded"

    def __init__(self, *arguments):
        pass

    def encode(self, problems):
        return [[] if problem.extra_info.get("long") else [number] for number, problem in enumerate(problems)]

    def images(self, problem):
        return []

    def decode(self, tokens):
        return str(tokens)

    def sample(self, requests, bar):
        type(self).sampled += len(requests)
        return [Response(f"{request.seed}", 3, False) for request in requests]


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluates the prompts with a reward function of this body; returns samples and how many were sampled anew."""
    monkeypatch.setattr(collecting, "Sampler", Recorded)
    monkeypatch.setattr(collecting, "merge", lambda source: None)
    monkeypatch.setattr(collecting, "identity", lambda source: "weights")
    (tmp_path / "helper.py").write_text("VALUE = 0.0")

    def run(body="return 0.0", answer="1", **settings):
        (tmp_path / "reward.py").write_text(
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport helper\n"
            f"def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0.0):\n    {body}\n"
        )
        before = Recorded.sampled
        filled = fill_from_run(
            EvalConfig(model="m", sets=["x"], n=4, reward_function=str(tmp_path / "reward.py"), **settings), None
        )
        problems = [Problem(f"{i:032x}", "s", [], answer, {"long": i == 2}) for i in range(3)]
        source = ModelSource("m", "m")
        samples = collect(source, filled, [Part("x", problems, 4, 1.0)], tmp_path / "out")
        write_summary(samples, source, tmp_path / "out")
        return samples, Recorded.sampled - before

    run.folder = tmp_path
    return run


@pytest.mark.parametrize(
    ("change", "mean"),
    [
        pytest.param({}, 0.0, id="nothing-changed"),
        pytest.param({"body": "return 1.0"}, 1.0, id="reward-file"),
        pytest.param({"answer": "2"}, 1.0, id="gold-answer"),
        pytest.param({"reward_kwargs": {"bonus": 1.0}}, 1.0, id="reward-kwargs"),
        pytest.param({"accuracy": AccuracySettings(threshold=-1.0)}, 1.0, id="threshold"),
        pytest.param({"helper": "VALUE = 1.0"}, 1.0, id="module-beside-the-reward-file"),
    ],
)
def test_a_changed_scorer_judges_anew_and_samples_nothing(evaluate, capsys, change, mean):
    body = {"body": "return helper.VALUE + bonus + (ground_truth == '2')"}
    first, sampled = evaluate(**body)
    assert sampled == 8 and first["correct"].mean() == 0.0
    if "helper" in change:
        (evaluate.folder / "helper.py").write_text(change.pop("helper") + "  # another size")
    capsys.readouterr()
    again, sampled = evaluate(**{**body, **change})
    assert sampled == 0 and again["correct"].mean() == mean
    assert again["response"].tolist() == first["response"].tolist()
    assert ("judged again" in capsys.readouterr().out) == (mean > 0)


def test_skipped_prompts_and_unjudged_responses_are_counted(evaluate, capsys):
    samples, sampled = evaluate("if solution_str and int(solution_str) % 2: raise ValueError('odd')\n    return 1.0")
    odd = samples["error"].notna()
    assert sampled == len(samples) == 8 and 0 < odd.sum() < 8
    assert (samples["correct"] == ~odd).all()
    printed = capsys.readouterr().out
    assert printed.count("warning:") == 1 and f"{odd.sum()} of 8 responses could not be judged" in printed
    assert "1 of 3 prompts are skipped" in printed
    numbers = json.loads((evaluate.folder / "out" / "summary.json").read_text())["sets"]["x"]
    assert (numbers["skipped"], numbers["unjudged"]) == (1, odd.sum())
    assert numbers["mean"]["value"] == pytest.approx(1 - odd.mean())
    text = (evaluate.folder / "out" / "summary.md").read_text()
    assert "1 prompts were too long" in text and f"{odd.sum()} responses could not be judged" in text


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def asked(*lengths):
    """Prompts of so many characters, each a token."""
    return [Problem("k", "s", [{"role": "user", "content": "1" * length}], "1", {}) for length in lengths]


@pytest.mark.parametrize(
    ("settings", "lengths", "kept"),
    [
        pytest.param({}, (4, 5000, 9), [True, False, True], id="one-prompt-longer-than-the-model"),
        pytest.param({"max_prompt_length": 60}, (4, 100), [True, False], id="as-training-filters"),
        pytest.param({}, (4, 9), [True, True], id="none-too-long"),
    ],
)
def test_an_overlong_prompt_costs_itself(model, settings, lengths, kept):
    filled = fill_from_run(EvalConfig(model=str(model), sets=["x"], max_response_length=32, **settings), None)
    assert [bool(tokens) for tokens in Sampler(str(model), filled).encode(asked(*lengths))] == kept


@pytest.mark.parametrize(
    ("settings", "lengths", "words"),
    [
        pytest.param({"max_response_length": 9000}, (4, 9), "set max_response_length=", id="response-too-long"),
        pytest.param({"max_response_length": 8}, (5000, 6000), "a longer window", id="all-longer-than-the-model"),
        pytest.param(
            {"max_prompt_length": 1, "max_response_length": 8}, (4,), "set max_prompt_length=", id="limit-too-low"
        ),
    ],
)
def test_where_all_prompts_are_overlong_the_advice_helps(model, settings, lengths, words):
    filled = fill_from_run(EvalConfig(model=str(model), sets=["x"], **settings), None)
    with pytest.raises(EvaluationError, match=words):
        Sampler(str(model), filled).encode(asked(*lengths))


def test_a_checkpoint_that_was_written_anew_is_merged_anew(tmp_path):
    step = tmp_path / "run" / "global_step_75"
    shards, merged = step / "actor", step / MERGED_FOLDER
    for folder in (shards, merged):
        folder.mkdir(parents=True)
    (shards / "fsdp_config.json").write_text("{}")
    (shards / "model_world_size_1_rank_0.pt").write_bytes(b"first")
    (merged / "model.safetensors").write_bytes(b"merged of the first")
    (merged / STAMP_FILE).write_text(_stamp(shards))
    merge(find_model(str(step)))  # up to date: nothing is done
    (shards / "model_world_size_1_rank_0.pt").write_bytes(b"other")
    os.utime(shards / "model_world_size_1_rank_0.pt", (1, 1))
    # That no merger can merge these is the sign that it was called; the old merge is not lost by it.
    with pytest.raises(EvaluationError, match="cannot merge"):
        merge(find_model(str(step)))
    assert (merged / "model.safetensors").read_bytes() == b"merged of the first"


# Rows and files.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            {"images": [{"bytes": b"x", "path": None}]}, "images holds 1, its prompt has <image> 0 times", id="images"
        ),
        pytest.param({"videos": [b"x"]}, "holds videos", id="videos"),
        pytest.param(
            {"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "more than text", id="image-in-the-prompt"
        ),
        pytest.param({"extra_info": '{"index": 0}'}, "extra_info is text", id="extra-info-as-json-text"),
        pytest.param({"reward_model": '{"ground_truth": "1"}'}, "reward_model is text", id="reward-model-as-json-text"),
        pytest.param({"reward_model": None}, "no ground_truth", id="reward-model-null"),
        pytest.param({"reward_model": {"style": "rule"}}, "no ground_truth", id="no-ground-truth"),
        pytest.param({"reward_model": {"ground_truth": None}}, "no ground_truth", id="ground-truth-null"),
        pytest.param({"data_source": None}, "data_source is None", id="data-source-null"),
        pytest.param({"prompt": None}, "prompt is null", id="prompt-null"),
        pytest.param({"prompt": []}, "prompt is empty", id="prompt-without-messages"),
        pytest.param({"prompt": [{"role": "user", "content": None}]}, "content .* is None", id="message-null"),
        pytest.param({"prompt": [{"text": "1"}]}, "no role", id="message-without-role"),
        pytest.param({"prompt": json.dumps(ROW["prompt"])}, "as JSON text", id="prompt-as-json-text"),
        pytest.param({"extra_info": {"prompt_id": 1.5}}, "is of type float", id="prompt-id-a-fraction"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, change, words):
    file = parquet(tmp_path / "a.parquet", {**ROW, **change})
    with pytest.raises(EvaluationError, match=rf"row 0.*{words}") as caught:
        load_problems(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"extra_info": None}, id="extra-info-null"),
        pytest.param({"images": []}, id="no-images-in-the-column"),
        pytest.param({"prompt": "[1, 2] + [3] is?"}, id="text-that-looks-like-json"),
        pytest.param({"reward_model": {"ground_truth": ["1", "2"]}}, id="several-gold-answers"),
    ],
)
def test_a_row_that_can_be_used(tmp_path, change):
    assert len(load_problems(parquet(tmp_path / "a.parquet", {**ROW, **change}))) == 1


def test_two_files_of_one_name_are_two_sets(tmp_path):
    for name in ("gsm8k", "math"):
        (tmp_path / name).mkdir()
        parquet(tmp_path / name / "test.parquet", ROW)
    files = [str(tmp_path / name / "test.parquet") for name in ("gsm8k", "math")]
    assert list(find_sets(files, "data")) == ["gsm8k_test", "math_test"]
    assert list(find_sets(files[:1], "data")) == ["test"]
    with pytest.raises(EvaluationError, match="names one set twice"):
        find_sets([files[0], files[0]], "data")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda path: path.with_suffix(".parquet").write_bytes(b""), "cannot be read", id="empty"),
        pytest.param(lambda path: path.with_suffix(".parquet").write_bytes(b"\xff\xfe"), "cannot be read", id="bytes"),
        pytest.param(lambda path: path.with_suffix(".parquet").mkdir(), "is not a Parquet file", id="a-folder"),
        pytest.param(lambda path: None, "does not exist", id="nothing"),
    ],
)
def test_files_that_are_no_sets(tmp_path, make, words):
    make(tmp_path / "a")
    with pytest.raises(EvaluationError, match=words):
        [file] = find_sets([str(tmp_path / "a.parquet")], "data").values()
        load_problems(file)


def test_a_file_with_another_ending(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(EvaluationError, match=r"ends in \.parquet"):
        find_sets([str(tmp_path / "a.jsonl")], "data")


@pytest.mark.parametrize(
    ("lines", "answers"),
    [
        pytest.param(['"0.50"', "1"], ["0.50", "1"], id="text-beside-a-number"),
        pytest.param(["1", '"0.50"'], ["1", "0.50"], id="number-beside-a-text"),
        pytest.param(['"007"', "7"], ["007", "7"], id="leading-zeros"),
        pytest.param(["12345678901234567890123", "0.5"], ["12345678901234567890123", "0.5"], id="large-integer"),
        pytest.param(['"1e3"', "1"], ["1e3", "1"], id="exponent-as-text"),
        pytest.param(["1e3", "27.0"], ["1000", "27"], id="integers-written-as-fractions"),
        pytest.param(["0.50", "0.1234567890123456789"], ["0.50", "0.1234567890123456789"], id="fractions"),
        pytest.param(['"2024-01-01"', '"2024-01-02"'], ["2024-01-01", "2024-01-02"], id="looks-like-a-date"),
        pytest.param(['"true"', '"None"'], ["true", "None"], id="looks-like-a-constant"),
        pytest.param(['"a\u2028b"', "1"], ["a\u2028b", "1"], id="line-separator-in-a-text"),
    ],
)
@pytest.mark.parametrize("form", ["lines", "list", "repository"])
def test_answers_stay_what_they_are(tmp_path, lines, answers, form):
    rows = [f'{{"problem": "p{number}", "answer": {answer}}}' for number, answer in enumerate(lines)]
    folder = tmp_path / "source"
    folder.mkdir()
    file = folder / "test.jsonl"
    file.write_text(f"[{', '.join(rows)}]" if form == "list" else "\n".join(rows), encoding="utf-8")
    [prepared] = prepare("math500", tmp_path / "out", str(folder if form == "repository" else file))
    assert [row["ground_truth"] for row in pq.read_table(prepared.path)["reward_model"].to_pylist()] == answers


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "holds no rows", id="empty"),
        pytest.param(b'{"problem": "p", "answer": true}', "type bool", id="answer-a-boolean"),
        pytest.param(b'{"problem": "p", "answer": null}', "empty answer", id="answer-null"),
        pytest.param(b'{"problem": "p", "answer": NaN}', "empty answer", id="answer-nan"),
        pytest.param(b'{"problem": "p", "answer": "1"}\n\xff', "line 2 .* not UTF-8", id="not-utf8"),
        pytest.param(b'{"problem": "p", "answer": "1"}\n{', "line 2 .* not JSON", id="cut-off"),
        pytest.param(b'{"problem": "p", "answer": "1"}\n3', "line 2 .* not a row", id="a-number-in-a-line"),
        pytest.param(b'[{"problem": "p", "answer": "1"}, 3]', "row 2 .* not a row", id="a-number-in-the-list"),
        pytest.param(b'{"problem": "p"}', "needs 'problem' and 'answer'", id="no-answers"),
    ],
)
def test_json_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, content, words):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        prepare("math500", tmp_path / "out", str(tmp_path / "a.jsonl"))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "prompt", "gold", "rejected"),
    [
        pytest.param("openai/gsm8k", 'output the final answer after "####".', "72", 0, id="verl-s-gsm8k"),
        pytest.param(
            "DigitalLearningGmbH/MATH-lighteval", "within \\boxed{}.", "\\frac12", 0, id="verl-s-math-lighteval"
        ),
        pytest.param("math_dapo", "of the form Answer: $Answer", "34", 0, id="dapo-math-17k"),
        pytest.param("openai/gsm8k", 'the final answer after "####".', "seven", 1, id="answer-that-no-scorer-reads"),
    ],
)
@pytest.mark.parametrize("extra_info", [{"split": "train", "index": 0}, None])
def test_rewards_of_verl_s_own_files_are_checked(tmp_path, source, prompt, gold, rejected, extra_info):
    row = {
        "data_source": source,
        "prompt": [{"role": "user", "content": prompt}],
        "reward_model": {"style": "rule", "ground_truth": gold},
        "extra_info": extra_info,
    }
    report = check_rewards(parquet(tmp_path / "train.parquet", row, {**row, "ability": "math"}))
    assert (report.rows, len(report.rejected)) == (2, 2 * rejected)
    assert [score.prompt_id for score in report.rejected] == ["row 0", "row 1"][: 2 * rejected]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"reward_model": None}, "no struct reward_model", id="reward-model-null"),
        pytest.param({"reward_model": {"ground_truth": None}}, "ground_truth is None", id="ground-truth-null"),
        pytest.param({"reward_model": "{}"}, "no struct reward_model", id="reward-model-as-json-text"),
        pytest.param({"extra_info": "{}"}, "extra_info is of type str", id="extra-info-as-json-text"),
        pytest.param({"data_source": None}, "data_source is None", id="data-source-null"),
    ],
)
def test_rows_without_a_reward_to_check_are_named(tmp_path, change, words):
    with pytest.raises(DataError, match=rf"row 0 of .*{words}"):
        check_rewards(parquet(tmp_path / "a.parquet", {**ROW, **change}))
