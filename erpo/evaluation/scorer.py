# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Judges responses with verl's scorers, or a reward function in verl's form, loaded as verl loads it."""

import asyncio
import hashlib
import importlib.util
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from erpo.datasets.any_answer import PATH as ANY_ANSWER
from erpo.evaluation.config import EvaluationError, SamplingConfig
from erpo.evaluation.data import Problem
from erpo.evaluation.judge import Failure, JudgeProcess
from erpo.trainer.config import AccuracyConfig

# What verl's math_dapo gives as the answer where it finds none.
_NO_ANSWER = "[INVALID]"
# A whole line: models write headings such as "#### 3. Solve for x".
_HASHES = re.compile(r"^#### *\$?(-?\d[\d,]*(?:\.\d+)?)\.?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What the scorer says of one response.

    Attributes:
        score: The reward; None without one.
        accuracy: The metric that ``accuracy.metric`` names; None without one.
        correct: Whether the accuracy reaches the threshold; a response that could not be judged is wrong.
        answer: The extracted answer, None if there is none.
        error: Why the response could not be judged; None if it was.
    """

    score: float | None
    accuracy: float | None
    correct: bool
    answer: str | None
    error: str | None = None


class Scorer:
    """Judges responses, in a process of its own that is replaced when a response makes it hang or end.

    Args:
        settings: Names the reward function (None is verl's ``default_compute_score``), the time that it may take, and
            when a response is correct.

    Attributes:
        identity: Names the reward function's source, 32 hexadecimal digits, and everything else that a verdict of a
            given response depends on.

    Raises:
        EvaluationError: The reward function cannot be loaded.
    """

    def __init__(self, settings: SamplingConfig) -> None:
        # Here, so that it is imported once, for every judge.
        import verl.utils.import_utils
        import verl.utils.reward_score  # noqa: F401

        chosen = {name: value for name, value in asdict(settings.accuracy).items() if value is not None}
        accuracy = AccuracyConfig(**chosen)
        self._by_verl = settings.reward_function is None
        self._process = JudgeProcess(lambda: _load(settings, accuracy), settings.reward_timeout)
        if isinstance(self._process.description, Failure):
            reason = self._process.description.reason
            self.close()
            raise EvaluationError(
                f"reward_function={settings.reward_function} with reward_function_name={settings.reward_function_name} "
                f"cannot be loaded: {reason.removesuffix('.')}."
            )
        self.identity: dict[str, Any] = {
            "reward_function": settings.reward_function,
            "reward_function_name": settings.reward_function_name if settings.reward_function else None,
            "reward_kwargs": dict(settings.reward_kwargs),
            "reward_timeout": settings.reward_timeout,
            "accuracy": asdict(accuracy),
            "source": self._process.description,
        }

    def check(self, problems: Iterable[Problem]) -> None:
        """Judge an empty response of every data source, before hours are spent on responses that nobody can judge.

        A reward function may fail on an empty response alone; it must then judge the gold answer.

        Raises:
            EvaluationError: The scorer does not know a data source, fails at both, or cannot judge lists of answers.
        """
        problems = list(problems)
        listed = next((problem for problem in problems if isinstance(problem.ground_truth, list)), None)
        if listed is not None and self._by_verl:
            raise EvaluationError(
                f"prompt {listed.key} of {listed.data_source!r} has a list of gold answers, but verl's scorers compare "
                f"with one text; set reward_function={ANY_ANSWER}."
            )
        for problem in {problem.data_source: problem for problem in problems}.values():
            first = self.judge(problem, "").error
            if first and (second := self.judge(problem, str(problem.ground_truth)).error):
                raise EvaluationError(
                    second
                    if second.startswith("verl has no scorer")
                    else f"the reward function fails on prompt {problem.key} of {problem.data_source!r}: "
                    f"{first.removesuffix('.')}."
                )

    def judge(self, problem: Problem, response: str) -> Verdict:
        """Judge a decoded response (without prompt and special tokens, as verl decodes it)."""
        # Without the messages, which may hold images: the judge's process has no use for them.
        verdict = self._process((replace(problem, messages=[]), response))
        if isinstance(verdict, Failure):
            return Verdict(None, None, False, None, verdict.reason)
        assert isinstance(verdict, Verdict)
        return verdict

    def close(self) -> None:
        """End the process."""
        self._process.close()


def _load(settings: SamplingConfig, accuracy: AccuracyConfig) -> tuple[str, Callable[[Any], Verdict]]:
    """In the judge's process: the digest of the reward function's source, and the function that judges."""
    from verl.utils import reward_score
    from verl.utils.import_utils import load_extern_object

    # verl's scorers are part of most reward functions.
    scorers = set(Path(reward_score.__file__).parent.rglob("*.py"))
    files, own = set(scorers), None
    if settings.reward_function is None:
        function: Callable[..., Any] = reward_score.default_compute_score
        kwargs: dict[str, Any] = {}
    else:
        before = set(sys.modules)
        own = _source_file(settings.reward_function)
        try:
            function = load_extern_object(settings.reward_function, settings.reward_function_name)
        except RuntimeError as error:
            # verl wraps what the module raised.
            raise error.__cause__ or error from None
        kwargs = dict(settings.reward_kwargs)
        # The modules beside it that it imports are part of it.
        loaded = (getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before)
        files |= {own, *(Path(file) for file in loaded if file and own.parent in Path(file).resolve().parents)}
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(file for file in files if file == own or "site-packages" not in file.parts or file in scorers):
        digest.update(file.name.encode() + file.read_bytes())

    def judge(request: tuple[Problem, str]) -> Verdict:
        return _judge(function, kwargs, accuracy, *request)

    return digest.hexdigest(), judge


def _judge(
    function: Callable[..., Any], kwargs: Mapping[str, Any], accuracy: AccuracyConfig, problem: Problem, response: str
) -> Verdict:
    arguments = {
        "data_source": problem.data_source,
        "solution_str": response,
        "ground_truth": problem.ground_truth,
        "extra_info": dict(problem.extra_info),
    }
    try:
        result = function(**{**arguments, **kwargs})
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
    except NotImplementedError:
        reason = f"verl has no scorer for the data source {problem.data_source!r}; set reward_function=FILE.py."
        return Verdict(None, None, False, None, reason)
    score = float(result["score"] if isinstance(result, Mapping) else result)
    if not math.isfinite(score):
        return Verdict(None, None, False, None, f"the reward function returned the reward {score}")
    measured, problem_found = accuracy.measure(score, result if isinstance(result, Mapping) else None)
    if measured is None:
        return Verdict(None, None, False, None, problem_found)
    return Verdict(score, measured, accuracy.is_correct(measured), extract_answer(result, response))


def _source_file(reward_function: str) -> Path:
    if reward_function.startswith("pkg://"):
        spec = importlib.util.find_spec(reward_function.removeprefix("pkg://").replace("/", "."))
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"there is no module {reward_function.removeprefix('pkg://')}")
        return Path(spec.origin)
    path = Path(reward_function.removeprefix("file://")).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def fold(identity: Mapping[str, Any], answers: str) -> str:
    """Name what the verdicts of a part depend on, in 32 hexadecimal digits."""
    text = json.dumps([identity, answers], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def extract_answer(result: Any, response: str) -> str | None:
    r"""The answer that a response votes for.

    ``pred`` of the scorer's result where it has one, else the last of what stands in ``\boxed{}``, normalised by verl's
    own ``math_reward``, and of the numbers in lines ``#### X``, as GSM8K has them (whose scorers return no ``pred``).
    """
    from verl.utils.reward_score.math_reward import last_boxed_only_string, remove_boxed, strip_string

    if isinstance(result, Mapping) and "pred" in result:
        answer = result["pred"]
        return None if answer is None or answer in (_NO_ANSWER, "") else str(answer)
    boxed = last_boxed_only_string(response)
    *_, hashes = None, *_HASHES.finditer(response)
    if hashes is not None and hashes.start() > (-1 if boxed is None else response.rfind(boxed)):
        return hashes[1].replace(",", "")
    if boxed is None:
        return None
    try:
        return strip_string(remove_boxed(boxed)) or None
    except Exception:
        # verl's normalisation gives up on malformed LaTeX, and its scorer then counts the answer as wrong.
        return boxed


async def _awaited(result: Any) -> Any:
    return await result
