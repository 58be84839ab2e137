# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny model that calls a calculator: its tokenizer, its problems, and its warm-up of a minute on one core.

A problem is a chain of one or two operations. The model calls the calculator once for each, in the format of verl's
parser "hermes", reads what comes back, and writes the last value:

    <tools>calculator</tools>⏎12+7-3=⏎
    <tool_call>{"name": "calculator", "arguments": {"expression": "12+7"}}</tool_call><|im_end|>⏎
    <tool_response>19</tool_response>⏎
    <tool_call>{"name": "calculator", "arguments": {"expression": "19-3"}}</tool_call><|im_end|>⏎
    <tool_response>16</tool_response>⏎16<|im_end|>

Every piece of the markup is one token. Some answers of the warm-up come without a call, so that the model makes both.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tokenizers import AddedToken
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from erpo.tasks.arithmetic.base import one_thread
from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.tasks.supervised import IGNORED, supervised_steps

DATA_SOURCE = "tool_arithmetic"
NAME = "calculator"
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
CALL = ("<tool_call>", '{"name": "', NAME, '", "arguments": {"expression": "', '"}}', "</tool_call>")
MARKUP = ("<tools>", "</tools>", "<tool_response>", "</tool_response>", *CALL)
# One template for the prompt, a call, its response and the next turn; verl's builder for qwen2 puts the newline after
# the end of a turn.
CHAT_TEMPLATE = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool['function']['name'] }}{% endfor %}</tools>{{ '\\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'tool' %}<tool_response>{{ message['content'] }}</tool_response>{{ '\\n' }}"
    "{% else %}{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "<tool_call>{\"name\": \"{{ call['function']['name'] }}\", "
    "\"arguments\": {{ call['function']['arguments'] | tojson }}}</tool_call>"
    "{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}"
    "{% endif %}{% endfor %}"
)
TOOLS = [{"type": "function", "function": {"name": NAME}}]
# Tokens of the longest prompt, and of the longest right response with both tool responses.
MAX_PROMPT, MAX_RESPONSE = 16, 48
STEPS, BATCH, LEARNING_RATE, DIRECT = 400, 32, 2e-3, 0.15


def tokenizer_with_tools() -> PreTrainedTokenizerFast:
    """The arithmetic tokenizer with a token for every piece of a call, and a template that knows tools."""
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in MARKUP])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@dataclass(frozen=True)
class Problem:
    """A chain of operations, applied from left to right; none has a negative value."""

    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        return f"{self.start}" + "".join(f"{operator}{operand}" for operator, operand in self.steps) + "="

    @property
    def values(self) -> list[int]:
        """The value after each operation."""
        values = [self.start]
        for operator, operand in self.steps:
            values.append(OPERATIONS[operator](values[-1], operand))
        return values[1:]

    def messages(self, *, direct: bool = False) -> list[dict]:
        """The conversation, with a call for each operation or with the answer alone."""
        found = [{"role": "user", "content": self.prompt}]
        value = self.start
        for (operator, operand), result in zip(self.steps, self.values, strict=True):
            if direct:
                break
            function = {"name": NAME, "arguments": {"expression": f"{value}{operator}{operand}"}}
            found.append({"role": "assistant", "content": "", "tool_calls": [{"function": function}]})
            found.append({"role": "tool", "content": str(result)})
            value = result
        return [*found, {"role": "assistant", "content": str(self.values[-1])}]


def draw(generator: random.Random, operations: int) -> Problem:
    """A random chain."""
    steps = tuple((generator.choice("+-*"), generator.randint(2, 9)) for _ in range(operations))
    return Problem(generator.randint(20, 60), steps)


def conversation(tokenizer: PreTrainedTokenizerFast, messages: list[dict]) -> tuple[list[int], list[bool]]:
    """Tokens of a conversation, and which of them the model writes."""
    tokens: list[int] = []
    written: list[bool] = []
    for i, message in enumerate(messages):
        piece = tokenizer.apply_chat_template([message], tools=None if i else TOOLS, tokenize=True, return_dict=False)
        assistant = message["role"] == "assistant"
        # The newline after the end of a turn is the template's.
        written += [assistant] * (len(piece) - assistant) + [False] * assistant
        tokens += piece
    return tokens, written


def warm_up(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen2ForCausalLM:
    """The model after supervised steps on conversations; the same on every machine of one kind."""
    # The arithmetic experiment's at half its width, which is warmed up four times as fast.
    model = build_model(tokenizer, seed, width=64)
    generator = random.Random(seed)

    def add_gradients() -> float:
        rows = []
        for _ in range(BATCH):
            problem = draw(generator, generator.choice((1, 2)))
            rows.append(conversation(tokenizer, problem.messages(direct=generator.random() < DIRECT)))
        loss = _loss(model, rows)
        loss.backward()
        return loss.item()

    with one_thread():
        for _ in supervised_steps(model, add_gradients, STEPS, ramp_steps=30, seconds=60, lr=LEARNING_RATE):
            pass
    return model.eval()


def _loss(model: Qwen2ForCausalLM, rows: Sequence[tuple[list[int], list[bool]]]) -> torch.Tensor:
    width = max(len(tokens) for tokens, _ in rows)
    ids = torch.full((len(rows), width), model.config.pad_token_id)
    labels = torch.full((len(rows), width), IGNORED)
    for row, (tokens, written) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(tokens)] = torch.where(torch.tensor(written), torch.tensor(tokens), IGNORED)
    # Padding is on the right, where a causal model needs no attention mask.
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def problems(seed: int = 1) -> list[Problem]:
    """Chains of one, of two and of three operations; the model has never seen one of three."""
    generator = random.Random(seed)
    return [draw(generator, operations) for operations in (1, 1, 1, 2, 2, 2, 3, 3)]


def prepare(folder: Path) -> None:
    """Write model and data, as the arithmetic experiment has them."""
    tokenizer = tokenizer_with_tools()
    warm_up(tokenizer).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [
        {
            "data_source": DATA_SOURCE,
            "prompt": [{"role": "user", "content": problem.prompt}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(problem.values[-1])},
            "extra_info": {"index": i, "prompt_id": problem.prompt},
        }
        for i, problem in enumerate(problems())
    ]
    pd.DataFrame(rows).to_parquet(folder / "train.parquet")
