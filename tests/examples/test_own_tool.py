# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The tool and the agent loop of the examples: what verl makes of their files, and how they turn by turn go on.

The server that samples is played here; `tests/e2e/test_e2e_tools.py` trains with both through the real one.
"""

import asyncio
import shutil
from pathlib import Path

import pytest
import tool_task
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.tools.tool_registry import load_all_tools
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder
from verl.workers.rollout.replica import TokenOutput

from erpo.tasks.arithmetic.base import load_base
from erpo.trainer import PROMPT_KEY, ROLLOUT_TEMPERATURE
from erpo.trainer.agent_loop import ErpoAgentLoopWorker
from erpo.trainer.checks import check_settings
from erpo.trainer.config import AccuracyConfig
from erpo.trainer.identity import fingerprint
from recipe.erpo.main_erpo import CONFIG_FOLDER

TURNS, AGENT = "actor_rollout_ref.rollout.multi_turn", "actor_rollout_ref.rollout.agent"
PARAMETERS = {"temperature": 1.25, "top_p": 1.0, "logprobs": True}


@pytest.fixture(scope="module", autouse=True)
def root(examples):
    """The folder in which the commands are given, from which verl's workers import the examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(examples.parent))
        patch.chdir(examples.parent)
        yield examples.parent


@pytest.fixture(scope="module")
def config():
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        return compose(
            "erpo_trainer",
            overrides=[
                "experiment=cpu_arithmetic",
                "method=erpo",
                f"{TURNS}.tool_config_path=examples/tools.yaml",
                f"{AGENT}.agent_loop_config_path=examples/agents.yaml",
                f"{AGENT}.default_agent_loop=helped",
                f"data.max_prompt_length={tool_task.MAX_PROMPT}",
                f"data.max_response_length={tool_task.MAX_RESPONSE}",
            ],
        )


class Server:
    """Answers each turn with the next of the given texts, and remembers what it was asked for."""

    def __init__(self, tokenizer, *texts):
        self.answers = [tokenizer.encode(text) for text in texts]
        self.asked = []

    async def generate(self, request_id, *, prompt_ids, sampling_params, **_):
        self.asked.append((list(prompt_ids), sampling_params))
        tokens = self.answers[len(self.asked) - 1]
        return TokenOutput(token_ids=tokens, log_probs=[-0.5] * len(tokens), extra_fields={"max_global_steps": 3})


def run(loop, config, tokenizer, server, prompt, **settings):
    """One response of an agent loop, made as verl's worker makes it."""

    async def respond():
        made = loop(
            trainer_config=DictConfigWrap(config),
            server_manager=server,
            tokenizer=tokenizer,
            processor=None,
            dataset_cls=RLHFDataset,
            data_config=DictConfigWrap(config.data),
            hf_model_type="qwen2",
            **settings,
        )
        return await made.run(PARAMETERS, raw_prompt=[{"role": "user", "content": prompt}])

    return asyncio.run(respond())


def tag(config, tokenizer, output):
    """What our worker tells the trainer of a response."""
    worker = object.__new__(ErpoAgentLoopWorker)
    worker.config, worker.tokenizer, worker._accuracy = config, tokenizer, AccuracyConfig()
    scored = output.model_copy(update={"reward_score": 1.0, "extra_fields": {"reward_extra_info": {"acc": 1.0}}})
    return worker._describe([scored], {PROMPT_KEY: "00", ROLLOUT_TEMPERATURE: 1.25})


def call(expression):
    return f'<tool_call>{{"name": "calculator", "arguments": {{"expression": "{expression}"}}}}</tool_call><|im_end|>'


@pytest.fixture
def tools(config):
    return {"tools": ToolListWrap(load_all_tools(config.actor_rollout_ref.rollout.multi_turn.tool_config_path, None))}


@pytest.mark.parametrize(
    ("file", "setting", "content"),
    [
        ("tools.yaml", f"{TURNS}.tool_config_path", f"{TURNS}.tool_config_content"),
        ("own_tool.py", f"{TURNS}.tool_config_path", f"{TURNS}.tool_config_content"),
        ("agents.yaml", f"{AGENT}.agent_loop_config_path", f"{AGENT}.agent_loop_config_content"),
        ("own_agent.py", f"{AGENT}.agent_loop_config_path", f"{AGENT}.agent_loop_config_content"),
    ],
)
def test_the_files_and_the_classes_that_they_name_count_in_a_runs_identity(
    config, root, tmp_path, monkeypatch, file, setting, content
):
    check_settings(config)
    shutil.copytree(root / "examples", tmp_path / f"examples_{Path(file).stem}")
    folder = f"examples_{Path(file).stem}"
    monkeypatch.syspath_prepend(tmp_path)
    named = tmp_path / folder / Path(OmegaConf.select(config, setting)).name
    named.write_text(named.read_text().replace("examples.own", f"{folder}.own"))
    copy = config.copy()
    OmegaConf.update(copy, setting, str(named))
    before = fingerprint(copy)
    (tmp_path / folder / file).write_text((tmp_path / folder / file).read_text() + "\n")
    assert [name for name, value in fingerprint(copy).items() if before[name] != value] == [content]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"expression": "(12+7)*-2"}, "-38"),
        ({"expression": "7/2"}, "3.5"),
        ({"expression": "1234567+1"}, "1234568"),
        ({"expression": "123456789*987654321"}, "121932631112635269"),
        ({"expression": "2000001/2"}, "1000000.5"),
        ({"expression": "0.1+0.2"}, "0.3"),
        ({"expression": "1/0"}, "error: the expression cannot be calculated"),
        ({"expression": "2**99"}, "error: the expression may hold numbers, +"),
        ({"expression": "__import__('os').getcwd()"}, "error: the expression may hold numbers, +"),
        ({"expression": "1+" * 200 + "1"}, "error: the expression is longer than 200 characters"),
        ({"expression": "12+"}, "error: the expression cannot be calculated"),
        ({"expressions": "12"}, "error: the argument expression is missing"),
    ],
)
def test_the_calculator_answers_whatever_it_is_asked(tools, arguments, text):
    (calculator,) = tools["tools"].tools
    response, reward, metrics = asyncio.run(calculator.execute("id", arguments))
    assert response.text.startswith(text) and (reward, metrics) == (0.0, {})


@pytest.mark.parametrize("problem", tool_task.problems(), ids=lambda problem: problem.prompt)
def test_verl_builds_the_conversation_that_the_model_was_warmed_up_on(problem):
    tokenizer = tool_task.tokenizer_with_tools()
    messages = problem.messages()
    whole = tokenizer.apply_chat_template(messages, tools=tool_task.TOOLS, tokenize=True, return_dict=False)
    tokens, written = tool_task.conversation(tokenizer, messages)
    assert tokens == whole
    builder = create_continuous_token_builder(tokenizer, hf_model_type="qwen2")
    built = builder.build_initial_tokens(messages[:1], tools=tool_task.TOOLS)
    mask = [0] * len(built)
    for i in range(1, len(messages), 2):
        # The newline after the end of a turn is not the model's.
        turn = tool_task.conversation(tokenizer, messages[: i + 1])[0][len(built) : -1]
        merged = builder.merge_assistant_tokens(built, turn)
        built, (mask, _) = merged.token_ids, builder.align_response_metadata(merged, mask)
        if i + 1 < len(messages):
            merged = builder.merge_context_tokens(messages[: i + 1], messages[: i + 2], built, tools=tool_task.TOOLS)
            built, (mask, _) = merged.token_ids, builder.align_response_metadata(merged, mask)
    assert built == whole[:-1] and mask == [int(one) for one in written[:-1]]


def test_every_turn_of_the_tool_agent_gets_the_temperature_and_its_tools_count_nowhere(config, tools):
    tokenizer = tool_task.tokenizer_with_tools()
    server = Server(tokenizer, call("12+7"), call("19-3"), "16<|im_end|>")
    output = run(ToolAgentLoop, config, tokenizer, server, "12+7-3=", **tools)
    assert [parameters for _, parameters in server.asked] == [PARAMETERS] * 3
    assert tokenizer.decode(server.asked[0][0]) == "<tools>calculator</tools>\n12+7-3=\n"
    assert tokenizer.decode(output.response_ids) == (
        f"{call('12+7')}\n<tool_response>19</tool_response>\n{call('19-3')}\n<tool_response>16</tool_response>\n16"
        "<|im_end|>"
    )
    written = [token for answer in server.answers for token in answer]
    assert [t for t, mask in zip(output.response_ids, output.response_mask, strict=True) if mask] == written
    found = tag(config, tokenizer, output)
    assert (found["generated"], found["temperature"], found["truncated"]) == (len(written), 1.25, False)
    assert len(output.response_ids) > len(written) + 8


def test_a_response_that_is_cut_in_a_later_turn_is_truncated(config, tools):
    tokenizer = tool_task.tokenizer_with_tools()
    server = Server(tokenizer, call("12+7"), "1" * tool_task.MAX_RESPONSE)
    output = run(ToolAgentLoop, config, tokenizer, server, "12+7-3=", **tools)
    found = tag(config, tokenizer, output)
    assert len(output.response_ids) == tool_task.MAX_RESPONSE and found["truncated"]
    assert found["generated"] == sum(output.response_mask) < tool_task.MAX_RESPONSE


def test_the_own_loop_fills_in_the_first_step_and_passes_everything_on(config):
    (entry,) = OmegaConf.load(config.actor_rollout_ref.rollout.agent.agent_loop_config_path)
    _, tokenizer = load_base()
    server = Server(tokenizer, "+3=", "-8=07<|im_end|>")
    output = run(lambda **arguments: instantiate(entry, **arguments), config, tokenizer, server, "12+3-8=")
    assert tokenizer.decode(output.response_ids) == "+3=15-8=07<|im_end|>"
    assert output.response_mask == [1] * 3 + [0] * 2 + [1] * 6
    assert output.response_logprobs == [-0.5] * 3 + [0.0] * 2 + [-0.5] * 6
    stop = tokenizer.convert_tokens_to_ids("=")
    assert [parameters for _, parameters in server.asked] == [
        {**PARAMETERS, "stop_token_ids": [stop]},
        {**PARAMETERS, "stop_token_ids": []},
    ]
    assert tokenizer.decode(server.asked[1][0]) == "12+3-8=+3=15"
    assert tag(config, tokenizer, output)["generated"] == 9


@pytest.mark.parametrize("text", ["15<|im_end|>", "++=", "+33=", "=", "1" * 48])
def test_the_own_loop_ends_where_the_model_asks_for_no_help(config, text):
    (entry,) = OmegaConf.load(config.actor_rollout_ref.rollout.agent.agent_loop_config_path)
    _, tokenizer = load_base()
    server = Server(tokenizer, text)
    output = run(lambda **arguments: instantiate(entry, **arguments), config, tokenizer, server, "12+3-8=")
    assert tokenizer.decode(output.response_ids) == text and all(output.response_mask)
