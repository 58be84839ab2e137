# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Judges responses with verl's scorers, or a reward function in verl's form, loaded as verl loads it."""

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from erpo.evaluation.config import EvaluationError, SamplingConfig
from erpo.evaluation.data import Problem
from erpo.trainer.config import AccuracyConfig

# What verl's math_dapo gives as the answer where it finds none.
_NO_ANSWER = "[INVALID]"


@dataclass(frozen=True)
class Verdict:
    """What the scorer says of one response.

    Attributes:
        score: The reward.
        accuracy: ``acc`` of the scorer's result, or the score where it has none.
        correct: Whether the accuracy reaches the threshold (0.5, as in training by default).
        answer: The extracted answer, None if there is none.
    """

    score: float
    accuracy: float
    correct: bool
    answer: str | None


class Scorer:
    """Judges responses.

    Args:
        settings: Names the reward function; None is verl's ``default_compute_score``.

    Raises:
        EvaluationError: The reward function cannot be loaded.
    """

    def __init__(self, settings: SamplingConfig) -> None:
        from verl.trainer.ppo.reward import get_custom_reward_fn
        from verl.utils.reward_score import default_compute_score

        function = {
            "path": settings.reward_function,
            "name": settings.reward_function_name,
            "reward_kwargs": settings.reward_kwargs,
        }
        try:
            custom = get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": function}}))
        except (OSError, ImportError, AttributeError, RuntimeError) as error:
            raise EvaluationError(
                f"reward_function={settings.reward_function} with reward_function_name={settings.reward_function_name} "
                f"cannot be loaded: {str(error.__cause__ or error).splitlines()[0]}"
            ) from error
        self._compute_score = custom or default_compute_score
        self._accuracy = AccuracyConfig()

    def check(self, problems: Iterable[Problem]) -> None:
        """Judge an empty response of every data source, before hours are spent on responses that nobody can judge.

        Raises:
            EvaluationError: The scorer does not know a data source, or fails.
        """
        for problem in {problem.data_source: problem for problem in problems}.values():
            self.judge(problem, "")

    def judge(self, problem: Problem, response: str) -> Verdict:
        """Judge a decoded response (without prompt and special tokens, as verl decodes it).

        Raises:
            EvaluationError: The scorer fails.
        """
        try:
            result = self._compute_score(
                data_source=problem.data_source,
                solution_str=response,
                ground_truth=problem.ground_truth,
                extra_info=dict(problem.extra_info),
            )
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
            score = float(result["score"]) if isinstance(result, Mapping) else float(result)
            accuracy = float(result.get("acc", score)) if isinstance(result, Mapping) else score
        except NotImplementedError as error:
            raise EvaluationError(
                f"verl has no scorer for the data source {problem.data_source!r}; set reward_function=FILE.py."
            ) from error
        except Exception as error:
            raise EvaluationError(
                f"the reward function fails on prompt {problem.key} of {problem.data_source!r}: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            ) from error
        correct = accuracy >= self._accuracy.threshold - self._accuracy.tolerance
        return Verdict(score, accuracy, correct, extract_answer(result, response))


def extract_answer(result: Any, response: str) -> str | None:
    r"""The answer that a response votes for.

    ``pred`` of the scorer's result where it has one, else what stands in the last ``\boxed{}``, normalised by verl's
    own ``math_reward`` (whose scorer returns no ``pred``).
    """
    from verl.utils.reward_score.math_reward import last_boxed_only_string, remove_boxed, strip_string

    if isinstance(result, Mapping) and "pred" in result:
        answer = result["pred"]
        return None if answer is None or answer in (_NO_ANSWER, "") else str(answer)
    boxed = last_boxed_only_string(response)
    if boxed is None:
        return None
    try:
        return strip_string(remove_boxed(boxed)) or None
    except Exception:
        # verl's normalisation gives up on malformed LaTeX, and its scorer then counts the answer as wrong.
        return boxed


async def _awaited(result: Any) -> Any:
    return await result
