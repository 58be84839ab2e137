# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The sets: where they are, how their rows look, and which of verl's scorers reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from erpo.datasets.errors import DataError
from erpo.datasets.layouts import GSM8K, MATH, PROBLEM_ANSWER, QUESTION_ANSWER, VERL, Layout
from erpo.tracker.settings import did_you_mean


@dataclass(frozen=True)
class MathSet:
    """One public set.

    Attributes:
        name: Name here; the first part of its prompt ids.
        hub: Repository on the Hugging Face hub.
        revision: Commit of it; None where we know none.
        splits: Split here -> split on the hub.
        layouts: Layouts that its sources have, the preferred one first.
        data_sources: Form of the final answer -> verl's `data_source`, which chooses the scorer. `docs/rewards.md`
            has the measurements behind the choice.
        configs: Names of the hub's configuration, the preferred one first.
        integer_answers: Whether answers are integers that some sources write with leading zeros ("025"): verl's
            scorers compare texts, and a model answers 25.
    """

    name: str
    hub: str
    revision: str | None
    splits: Mapping[str, str]
    layouts: tuple[Layout, ...]
    data_sources: Mapping[str, str]
    configs: tuple[str, ...] = field(default=("default",))
    integer_answers: bool = False

    def data_source(self, form: str) -> str:
        """verl's `data_source` for a form of the final answer.

        Raises:
            DataError: None of verl's scorers reads this set's answers in that form.
        """
        if form not in self.data_sources:
            raise DataError(
                f"verl reads only plain numbers after '####', so only gsm8k takes such a template; "
                f"choose another one for {self.name}"
            )
        return self.data_sources[form]


_TRAIN, _TEST, _BOTH = {"train": "train"}, {"test": "test"}, {"train": "train", "test": "test"}

# Revisions: the commits of the hub's main branches that public evaluation code pins; none is known for AIME-2024.
_SETS = (
    MathSet(
        name="dapo_math_17k",
        hub="BytedTsinghua-SIA/DAPO-Math-17k",
        revision="65877096c24ffa7abc4e4fa5edb95cf3413a5674",
        splits=_TRAIN,
        # `all` is the configuration of open-r1's de-duplicated copy, which can be given as a local folder.
        configs=("default", "all"),
        layouts=(VERL, PROBLEM_ANSWER),
        data_sources={"answer": "math_dapo", "boxed": "math_dapo"},
    ),
    MathSet(
        name="aime24",
        hub="BytedTsinghua-SIA/AIME-2024",
        revision=None,
        splits={"test": "train"},
        layouts=(VERL, PROBLEM_ANSWER),
        data_sources={"answer": "aime24", "boxed": "aime24"},
        integer_answers=True,
    ),
    MathSet(
        name="aime25",
        hub="math-ai/aime25",
        revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
        splits=_TEST,
        layouts=(PROBLEM_ANSWER,),
        data_sources={"answer": "aime25", "boxed": "aime25"},
        integer_answers=True,
    ),
    MathSet(
        name="amc23",
        hub="math-ai/amc23",
        revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
        splits=_TEST,
        layouts=(QUESTION_ANSWER, PROBLEM_ANSWER),
        data_sources={"answer": "math_dapo", "boxed": "math_dapo"},
    ),
    MathSet(
        name="math500",
        hub="HuggingFaceH4/MATH-500",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        splits=_TEST,
        layouts=(PROBLEM_ANSWER,),
        data_sources={"answer": "math", "boxed": "HuggingFaceH4/MATH-500"},
    ),
    MathSet(
        name="gsm8k",
        hub="openai/gsm8k",
        revision="740312add88f781978c0658806c59bc2815b9866",
        configs=("main",),
        splits=_BOTH,
        layouts=(GSM8K,),
        data_sources={"answer": "math_dapo", "boxed": "math_dapo", "hash": "openai/gsm8k"},
    ),
    MathSet(
        name="math",
        hub="DigitalLearningGmbH/MATH-lighteval",
        revision="0530c78699ea5e8eb5530600900e1f328b48acad",
        splits=_BOTH,
        layouts=(MATH, PROBLEM_ANSWER),
        data_sources={"answer": "math", "boxed": "DigitalLearningGmbH/MATH-lighteval"},
    ),
)
SETS: Mapping[str, MathSet] = {math_set.name: math_set for math_set in _SETS}


def find_set(name: str) -> MathSet:
    """The set of this name.

    Raises:
        DataError: There is none.
    """
    if name not in SETS:
        own = "or give --problem, --answer and --data-source of a set of your own"
        hint = did_you_mean(name, SETS, f"choose from {', '.join(SETS)}, {own}")
        raise DataError(f"{name!r} is not a set; {hint}")
    return SETS[name]
