# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Whole evaluations with real vLLM: killed and resumed, repeated, of other sets, of other temperatures.

The model is untrained, and the reward counts digits: what is tested is that responses, verdicts and numbers belong
together and come back.
"""

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from erpo.evaluation.estimators import pass_at_k
from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.tasks.arithmetic.task import make_pools
from recipe.erpo.tables import main as tables

# No Ray in it, but it starts vLLM three times: about 45 s, too long for `make test-fast`.
pytestmark = pytest.mark.ray

REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    digits = [c for c in solution_str if c.isdigit()]
    right = len(digits) % 2 == int(ground_truth) % 2
    return {"score": 1.0 if right else -1.0, "acc": right, "pred": digits[-1] if digits else "[INVALID]"}
"""
# In one process, for vLLM is imported once: the resumed evaluation, and the same sets anew in another order and with
# other chunks before them.
DRIVER = """
import json, sys
from hydra import compose, initialize_config_dir
from erpo.evaluation import sampler
from recipe.erpo.main_erpo import CONFIG_FOLDER
from recipe.erpo import main_eval, residual_share

# The model has 17 tokens.
sampler.TOP = 5

if __name__ == "__main__":
    for name, overrides in json.loads(sys.argv[1]):
        with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
            config = compose(name, overrides=overrides)
        try:
            {"eval": main_eval.evaluate, "residual_share": residual_share.measure}[name](config)
        except ValueError as error:
            print(f"refused: {error}")
"""
N = 4
LENGTH = 24


def write_set(path, problems):
    rows = [
        {
            "data_source": "own",
            "prompt": [{"role": "user", "content": problem.prompt}],
            "reward_model": {"style": "rule", "ground_truth": problem.answer},
            "extra_info": {"index": number},
        }
        for number, problem in enumerate(problems)
    ]
    pd.DataFrame(rows).to_parquet(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All runs of the module; `killed` was killed after its first chunk and resumed."""
    folder = tmp_path_factory.mktemp("evaluation")
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed=0)
    # Half of the head's rows are no token, as some of Qwen2.5's are: the trainer's rollout never samples them.
    model.resize_token_embeddings(2 * len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    pools = make_pools(40, 10, 10)
    write_set(folder / "large.parquet", pools.train)
    write_set(folder / "small.parquet", pools.test)
    (folder / "reward.py").write_text(REWARD)
    common = [f"model={folder}/model", f"data_folder={folder}", f"reward_function={folder}/reward.py"]
    common += [f"max_response_length={LENGTH}", "chunk_responses=16"]
    first = [*common, "sets=[large,small]", f"n={N}", f"out={folder}/killed"]
    kill_after_a_chunk([sys.executable, "-m", "recipe.erpo.main_eval", *first], folder / "killed" / "chunks" / "large")
    (folder / "left.json").write_text(
        json.dumps(sorted(path.name for path in (folder / "killed").glob("chunks/*/*.parquet")))
    )
    calls = [
        ("eval", first),
        ("eval", [*common, "sets=[small,large]", f"n={N}", f"out={folder}/anew"]),
        ("eval", [*first, "seed=1"]),
        ("eval", [*common, "sets=small", "n=2", f"out={folder}/other", "seed=1"]),
        (
            "residual_share",
            [*common, "data=large", "temperatures=[2.0,0.5]", "n=2", "prompts=12", f"out={folder}/share"],
        ),
    ]
    (folder / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, folder / "driver.py", json.dumps(calls)], text=True, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    (folder / "output").write_text(done.stdout)
    return folder


def kill_after_a_chunk(command, chunks):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(chunks.glob("*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def read(folder):
    samples = pd.read_parquet(folder / "samples.parquet")
    return samples.sort_values(["part", "key", "sample"]).reset_index(drop=True)


def test_a_killed_evaluation_goes_on_and_gives_what_an_undisturbed_one_gives(folder):
    left = json.loads((folder / "left.json").read_text())
    assert 1 <= len(left) < 13, "it was to be killed in the middle"
    assert f"{16 * len(left)} of {4 * 50} responses are there already" in (folder / "output").read_text()
    resumed, anew = read(folder / "killed"), read(folder / "anew")
    assert len(resumed) == 4 * 50
    pd.testing.assert_frame_equal(resumed, anew)
    numbers = [json.loads((folder / name / "summary.json").read_text())["sets"] for name in ("killed", "anew")]
    assert numbers[0] == numbers[1]
    assert not (folder / "killed" / "chunks" / "large").exists()


def test_another_seed_gives_other_responses(folder):
    of_zero, of_one = (read(folder / name) for name in ("anew", "other"))
    of_zero = of_zero[(of_zero["part"] == "small") & (of_zero["sample"] < 2)]
    assert of_zero["key"].tolist() == of_one["key"].tolist()
    assert (of_zero["response"].to_numpy() != of_one["response"].to_numpy()).mean() > 0.9


def test_other_settings_in_the_same_folder_are_refused(folder):
    lines = [line for line in (folder / "output").read_text().splitlines() if line.startswith("refused: ")]
    assert len(lines) == 1 and "holds an evaluation of seed=0, not 1" in lines[0]


def test_samples_hold_what_was_sampled(folder):
    samples = read(folder / "anew")
    assert samples.groupby(["part", "key"]).size().eq(N).all()
    # Seeds of their own: an untrained model repeats nothing by itself.
    assert samples["seed"].is_unique and samples["response"].nunique() > 0.9 * len(samples)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    # One token per character, the end-of-sequence token is not decoded.
    lengths = samples["response"].map(lambda text: len(tokenizer(text)["input_ids"]))
    assert (samples["truncated"] == (samples["length"] == LENGTH)).mean() > 0.9
    assert 0 < samples["truncated"].mean() < 1
    assert (lengths <= samples["length"]).all() and samples["length"].max() == LENGTH
    # Rows of the head that are no token were not sampled: they would be in the length and not in the text.
    silent = samples["length"] - lengths - ~samples["truncated"]
    assert silent.sum() < 0.1 * samples["length"].sum()
    digits = samples["response"].map(lambda text: [c for c in text if c.isdigit()])
    assert (samples["correct"] == (digits.map(len) % 2 == samples["ground_truth"].astype(int) % 2)).all()
    assert (samples["score"] == samples["correct"].map({True: 1.0, False: -1.0})).all()
    assert (samples["answer"].dropna() == digits[samples["answer"].notna()].map(lambda found: found[-1])).all()
    assert (samples["answer"].isna() == (digits.map(len) == 0)).all()


def test_numbers_belong_to_the_samples(folder):
    samples = read(folder / "anew")
    summary = json.loads((folder / "anew" / "summary.json").read_text())
    for name, numbers in summary["sets"].items():
        part = samples[samples["part"] == name]
        correct = part.groupby("key")["correct"].sum().to_numpy()
        assert numbers["mean"]["value"] == pytest.approx(part["correct"].mean())
        for k in (1, 2, 4):
            assert numbers["pass"][str(k)]["value"] == pytest.approx(pass_at_k(correct, N, k).mean())
        assert numbers["maj"]["low"] <= numbers["maj"]["value"] <= numbers["maj"]["high"]
        assert numbers["truncated"] == pytest.approx(part["truncated"].mean())
    text = (folder / "anew" / "summary.md").read_text()
    assert (
        f"{100 * summary['sets']['large']['mean']['value']:.1f} [" in text and text in (folder / "output").read_text()
    )


def test_residual_share_samples_each_visit_by_itself(folder):
    samples = pd.read_parquet(folder / "share" / "samples.parquet")
    assert samples.groupby("part").size().to_dict() == {"T=0.5": 24, "T=0.5-again": 24, "T=2": 24}
    assert samples["key"].nunique() == 12 and samples["seed"].is_unique
    summary = json.loads((folder / "share" / "summary.json").read_text())
    rows = summary["temperatures"]
    assert [row["temperature"] for row in rows] == [0.5, 0.5, 2.0]
    for row in rows:
        assert row["all_correct"]["value"] + row["mixed"]["value"] + row["all_wrong"]["value"] == pytest.approx(1)
    report = (folder / "share" / "report.md").read_text()
    assert "## Suggestion\n\nNone. At T = 0.5," in report and report.count("**T = 2: ") == 3
    # Of the first response to each prompt, at its own temperature, as the model itself has it.
    measured = samples[samples["tail_mass"].notna()]
    assert measured.groupby("part").size().to_dict() == {"T=0.5": 12, "T=0.5-again": 12, "T=2": 12}
    assert (measured["sample"] == 0).all()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    compared = 0
    for row in measured.itertuples():
        ids = tokenizer(row.prompt + row.response)["input_ids"]
        start = len(ids) - len(tokenizer(row.response)["input_ids"])
        if len(ids) - start + (not row.truncated) != row.length:
            continue  # a special token that is not decoded
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, start - 1 : start - 1 + row.length, : len(tokenizer)]
        tail = torch.softmax(logits / row.temperature, -1).sort(-1).values[:, :-5].sum(-1).mean()
        assert row.tail_mass == pytest.approx(float(tail), abs=1e-5)
        compared += 1
    assert compared > 12
    # The temperatures reached vLLM: the untrained model repeats its last token, the hotter the less.
    repeated = samples.groupby("part")["response"].agg(repetition)
    assert repeated["T=0.5"] > 2 * repeated["T=2"]
    assert repeated["T=0.5-again"] > 2 * repeated["T=2"]


def repetition(texts):
    pairs = [pair for text in texts for pair in pairwise(text)]
    return sum(one == other for one, other in pairs) / len(pairs)


def test_an_evaluated_folder_is_a_row_of_the_table(folder, capsys):
    tables([str(folder / "anew")])
    header = capsys.readouterr().out.splitlines()[0]
    assert "large mean@4" in header and "small mean@4" in header
