# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A calculator that the model calls while it answers; `tools.yaml` beside this file names it.

Train a model that knows tools (Qwen2.5-Instruct and Qwen3 do) on data whose prompts ask for calculations:

    python -m recipe.erpo.main_erpo experiment=qwen2_5_3b method=erpo \
        actor_rollout_ref.model.path=Qwen/Qwen2.5-3B-Instruct \
        actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent \
        actor_rollout_ref.rollout.multi_turn.tool_config_path=examples/tools.yaml \
        actor_rollout_ref.rollout.multi_turn.format=hermes \
        actor_rollout_ref.rollout.multi_turn.max_assistant_turns=4

verl's workers import the class by its name in `tools.yaml`, from the folder in which the command is given.
"""

import ast
import operator
from collections.abc import Callable
from typing import Any

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import ToolResponse

MAX_CHARACTERS = 200
OPERATORS: dict[type[ast.operator] | type[ast.unaryop], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def calculate(expression: str) -> float:
    """Value of an expression of numbers, +, -, *, / and parentheses; no other Python is run.

    Raises:
        ValueError: It is none.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"the expression is longer than {MAX_CHARACTERS} characters")
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ArithmeticError) as error:
        raise ValueError(f"the expression cannot be calculated: {error}") from None


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.operand))
    raise ValueError("the expression may hold numbers, +, -, *, / and parentheses")


class Calculator(BaseTool):
    """Answers a call with the value of its expression, or with what is wrong with it.

    The model's arguments are text that it made up: whatever they are, the tool answers, and the model can go on.
    """

    async def execute(self, instance_id: str, parameters: dict[str, Any], **_: Any) -> tuple[ToolResponse, float, dict]:
        """The tool's text, a reward for this call (none), and metrics (none)."""
        try:
            value = calculate(str(parameters["expression"]))
            text = str(value) if isinstance(value, int) else f"{value:.12g}"
        except KeyError:
            text = "error: the argument expression is missing"
        except ValueError as error:
            text = f"error: {error}"
        return ToolResponse(text=text), 0.0, {}
