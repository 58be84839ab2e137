# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Several turns in one response: verl's `tool_agent` with the calculator of the examples, and the agent loop there.

Both through the real trainer, with three temperatures in every batch. The recorder says what vLLM was asked for and
what the trainer made of every token, so that each turn is looked at by itself.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recorder
import spread_schedule
import tool_task
from e2e_runs import small_run, start
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from erpo.runs import read_groups, read_metrics
from erpo.runs.sample_log import read_samples
from erpo.tasks.arithmetic.base import BASE_FOLDER
from erpo.tasks.arithmetic.task import make_pools

pytestmark = [pytest.mark.ray, pytest.mark.long]

EXAMPLES = Path(__file__).parents[2] / "examples"
AGENT, TURNS = "actor_rollout_ref.rollout.agent", "actor_rollout_ref.rollout.multi_turn"
N = 8
# Largest difference of a token's log-probs in vLLM and in FSDP2, float32. Unlikely tokens are the worst.
BAR = 5e-5


@dataclass
class Trained:
    """A recorded run: its folder, length limit and tokenizer, and a row for each turn of each response."""

    folder: Path
    limit: int
    tokenizer: PreTrainedTokenizerBase
    responses: list[dict]
    requests: list[dict]

    def turns(self) -> pd.DataFrame:
        """What the model wrote in each turn of each trained response."""
        rows = []
        for response in self.responses:
            for number, span in enumerate(spans(response["response_mask"]), 1):
                rows.append(
                    {
                        "step": response["step"],
                        "turn": number,
                        "temperature": response["rollout_temperature"],
                        "prompt": tuple(response["prompts"] + response["responses"][: span.start]),
                        "tokens": tuple(response["responses"][span]),
                        "rollout": np.array(response["rollout_log_probs"][span]),
                        "trainer": np.array(response["old_log_probs"][span]),
                        "advantages": np.array(response["advantages"][span]),
                    }
                )
        return pd.DataFrame(rows)


def spans(mask: list[int]) -> list[slice]:
    """The turns of a response: its runs of tokens that the model wrote."""
    edges = np.flatnonzero(np.diff([0, *mask, 0]))
    return [slice(*pair) for pair in edges.reshape(-1, 2).tolist()]


def run(folder: Path, model: Path, limit: int, *settings: str) -> Trained:
    """Train in a folder that holds train.parquet and, as for a user, the examples."""
    (folder / "examples").symlink_to(EXAMPLES)
    arguments = small_run(
        folder,
        folder / "run",
        *spread_schedule.SETTINGS,
        f"actor_rollout_ref.model.path={model}",
        f"actor_rollout_ref.rollout.n={N}",
        f"data.max_response_length={limit}",
        "erpo.samples.every=1",
        "trainer.save_freq=-1",
        "trainer.total_training_steps=9",
        *settings,
    )
    records = folder / "records"
    start(folder / "log", "recipe.erpo.main_erpo", arguments, **recorder.environment(records)).wait()
    return Trained(
        folder / "run",
        limit,
        AutoTokenizer.from_pretrained(model),
        recorder.read(records, "responses"),
        recorder.read(records, "requests"),
    )


@pytest.fixture(scope="module")
def with_tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    tool_task.prepare(folder)
    return run(
        folder,
        folder / "model",
        tool_task.MAX_RESPONSE,
        f"data.max_prompt_length={tool_task.MAX_PROMPT}",
        f"{AGENT}.default_agent_loop=tool_agent",
        f"{TURNS}.tool_config_path=examples/tools.yaml",
        f"{TURNS}.format=hermes",
        f"{TURNS}.max_assistant_turns=4",
        f"reward.custom_reward_function.path={Path(tool_task.__file__).with_name('tool_reward.py')}",
        f"erpo.token_budget={BUDGET}",
    )


# Of tokens that the model wrote, for the run with tools: about four steps' worth, and three if all tokens counted.
BUDGET = 4_600


@pytest.fixture(scope="module")
def with_own_loop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own_loop")
    rows = [
        {
            "data_source": "arithmetic",
            "prompt": [{"role": "user", "content": problem.prompt}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": problem.answer},
            "extra_info": {"index": i, "prompt_id": problem.prompt},
        }
        for i, problem in enumerate(make_pools(8, 8, 8).train)
    ]
    pd.DataFrame(rows).to_parquet(folder / "train.parquet")
    return run(
        folder,
        BASE_FOLDER,
        32,
        f"{AGENT}.agent_loop_config_path=examples/agents.yaml",
        f"{AGENT}.default_agent_loop=helped",
        "reward.custom_reward_function.path=pkg://erpo.tasks.arithmetic.reward",
        "trainer.total_training_steps=3",
    )


@pytest.fixture(params=["with_tools", "with_own_loop"])
def trained(request):
    return request.getfixturevalue(request.param)


def test_vllm_samples_every_turn_at_the_temperature_of_the_prompt(trained):
    found = {}
    for request in trained.requests:
        key = (tuple(request["prompt"]), tuple(request["tokens"]))
        found.setdefault(key, []).append((request["temperature"], np.array(request["log_probs"], dtype="f4")))
    turns = trained.turns()
    for turn in turns.itertuples():
        # The last turn can be longer than what the length limit leaves of it.
        sampled = [
            temperature
            for (prompt, tokens), requests in found.items()
            if prompt == turn.prompt and tokens[: len(turn.tokens)] == turn.tokens
            for temperature, log_probs in requests
            if np.array_equal(log_probs[: len(turn.tokens)], turn.rollout.astype("f4"))
        ]
        assert sampled and set(sampled) == {turn.temperature}
    several = turns[turns["turn"] > 1].groupby("step")["temperature"]
    assert (several.nunique() == len(spread_schedule.TEMPERATURES)).all()
    # What the group log says of the groups is what their responses were sampled at.
    logged = read_groups(trained.folder).groupby(["step", "temperature"])["n"].sum()
    trained_on = pd.DataFrame(trained.responses).groupby(["step", "rollout_temperature"]).size()
    assert logged.to_dict() == trained_on.to_dict()


def test_rollout_and_training_agree_in_every_turn_at_every_temperature(trained):
    turns = trained.turns()
    turns["difference"] = [float(abs(a - b).max()) for a, b in zip(turns["rollout"], turns["trainer"], strict=True)]
    turns["count"] = turns["tokens"].map(len)
    table = turns.groupby(["turn", "temperature"]).agg(difference=("difference", "max"), tokens=("count", "sum"))
    print(f"\n{table}")
    for turn in (1, 2):
        assert (table.loc[turn, "tokens"] > 100).all() and len(table.loc[turn]) == len(spread_schedule.TEMPERATURES)
    assert table["difference"].max() < BAR
    # What another temperature would look like.
    hot = turns[(turns["temperature"] == 1.5) & (turns["turn"] == 2)]
    assert abs(np.concatenate(hot["rollout"].to_list())).mean() > 100 * BAR
    metrics = read_metrics(trained.folder)
    assert metrics["erpo/raised/probs_diff_max"].max() < 1e-5


def test_what_the_model_did_not_write_counts_nowhere(trained):
    written = []
    others = 0
    for response in trained.responses:
        mask = np.array(response["response_mask"], dtype=bool)
        advantages = np.array(response["advantages"])
        assert (advantages[~mask] == 0).all() and len(set(advantages[mask])) == 1
        assert (np.array(response["rollout_log_probs"])[~mask] == 0).all()
        written.append((response["step"], int(mask.sum())))
        others += int((~mask).sum())
    assert others > 200
    groups, metrics = read_groups(trained.folder), read_metrics(trained.folder)
    logged = [(row.step, length) for row in groups.itertuples() for length in row.lengths]
    assert sorted(logged) == sorted(written)
    totals = pd.DataFrame(written, columns=["step", "tokens"]).groupby("step")["tokens"].sum().cumsum()
    assert metrics["erpo/generated/tokens"].to_dict() == totals.to_dict()
    at_limit = [
        len(response["responses"]) == trained.limit and response["responses"][-1] != trained.tokenizer.eos_token_id
        for response in trained.responses
    ]
    assert groups["truncated"].sum() == sum(at_limit)


def test_the_token_budget_counts_what_the_model_wrote(with_tools):
    written, all_tokens = (
        pd.DataFrame([(r["step"], count(r)) for r in with_tools.responses]).groupby(0)[1].sum()
        for count in (lambda r: sum(r["response_mask"]), lambda r: len(r["responses"]))
    )
    assert len(written) < 9 and abs(written.sum() - BUDGET) < 0.75 * written.mean()
    assert all_tokens.sum() - BUDGET > 0.75 * all_tokens.mean()


def test_the_model_calls_the_tool_and_reads_what_comes_back(with_tools):
    texts = [with_tools.tokenizer.decode(response["responses"]) for response in with_tools.responses]
    called = [text for text in texts if "<tool_response>" in text]
    assert len(called) > len(texts) / 2
    assert any(text.count("<tool_response>") == 2 for text in texts)
    assert with_tools.turns()["turn"].max() >= 3
    # The calculator's own answer, of the call before it.
    assert any('"48+9"}}</tool_call><|im_end|>\n<tool_response>57</tool_response>\n57<|im_end|>' in t for t in texts)
    groups = read_groups(with_tools.folder)
    assert set(groups["outcome"]) == {"all_correct", "mixed", "all_wrong"}
    samples = read_samples(with_tools.folder)
    assert samples["response"].str.contains("<tool_response>").any() and samples["correct"].any()
    # The length of a sample, too, is what the model wrote of its text.
    shown = [len(with_tools.tokenizer.encode(text)) for text in samples["response"]]
    assert (samples["length"] < np.array(shown) + 3).all()


def test_the_own_loop_writes_the_value_of_the_first_step(with_own_loop):
    helped = [response for response in with_own_loop.responses if len(spans(response["response_mask"])) == 2]
    assert len(helped) > len(with_own_loop.responses) / 2
    stop = with_own_loop.tokenizer.convert_tokens_to_ids("=")
    assert {tuple(request["stop_token_ids"]) for request in with_own_loop.requests} == {(stop,), ()}
    for response in helped:
        first, second = spans(response["response_mask"])
        prompt = with_own_loop.tokenizer.decode(response["prompts"])
        tokens = response["responses"]
        step = with_own_loop.tokenizer.decode(tokens[first])
        given = with_own_loop.tokenizer.decode(tokens[first.stop : second.start])
        assert int(given) == eval(f"({int(prompt[:2])}{step[-3:-1]}) % 100")
