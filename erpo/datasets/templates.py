# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
r"""Prompt templates, and the form in which each asks for the final answer.

The form decides which of verl's scorers can find the answer, so it travels with every row (`extra_info.answer_form`):

- ``answer``: a last line ``Answer: X`` (DAPO's template, and any text that asks for neither of the other two).
- ``boxed``: ``\boxed{X}``.
- ``hash``: ``#### X``, GSM8K's own.
"""

from dataclasses import dataclass

from erpo.datasets.errors import DataError

_DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem."
)
_DAPO_AFTER = 'Remember to put your answer on its own line after "Answer:".'

# `dapo` is the text of DAPO-Math-17k itself; the other two are the texts of verl's preprocessing examples.
TEMPLATES = {
    "dapo": f"{_DAPO_BEFORE}\n\n{{problem}}\n\n{_DAPO_AFTER}",
    "boxed": "{problem} Let's think step by step and output the final answer within \\boxed{}.",
    "gsm8k": '{problem} Let\'s think step by step and output the final answer after "####".',
}

# How a response in each form ends.
ENDINGS = {"answer": "Answer: {answer}", "boxed": "\\boxed{{{answer}}}", "hash": "#### {answer}"}


@dataclass(frozen=True)
class Prompt:
    """How a problem becomes the messages of a prompt.

    Attributes:
        template: Text of the user's message, with ``{problem}``.
        system: Text of a system message before it; None: there is none.
    """

    template: str
    system: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """What a manifest says of it."""
        return {"template": self.template, **({} if self.system is None else {"system": self.system})}

    @property
    def form(self) -> str:
        """Form in which it asks for the final answer: a key of `ENDINGS`."""
        return answer_form(f"{self.system or ''}\n{self.template}")

    def messages(self, problem: str) -> list[dict[str, str]]:
        """The messages for one problem."""
        user = {"role": "user", "content": fill(self.template, problem)}
        return [user] if self.system is None else [{"role": "system", "content": self.system}, user]


def template_text(template: str) -> str:
    """Text of a template.

    Args:
        template: A name in `TEMPLATES`, or a text with ``{problem}``.

    Raises:
        DataError: It is neither.
    """
    if template in TEMPLATES:
        return TEMPLATES[template]
    if template.count("{problem}") != 1:
        raise DataError(
            f"the template {template!r} is neither one of {', '.join(TEMPLATES)} nor a text with {{problem}} in it once"
        )
    return template


def fill(template: str, problem: str) -> str:
    """Put a problem into a template's text; not by `str.format`, because LaTeX is full of braces."""
    before, _, after = template.partition("{problem}")
    return f"{before}{problem}{after}"


def answer_form(template: str) -> str:
    """Form in which a template's text asks for the final answer: a key of `ENDINGS`."""
    if "\\boxed" in template:
        return "boxed"
    return "hash" if "####" in template else "answer"


def strip_dapo(prompt: str) -> str | None:
    """Problem inside DAPO's template, or None if the prompt is not in it."""
    prompt = prompt.strip()
    if prompt.startswith(_DAPO_BEFORE) and prompt.endswith(_DAPO_AFTER):
        return prompt.removeprefix(_DAPO_BEFORE).removesuffix(_DAPO_AFTER).strip()
    return None
