# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One line of the environment check."""

from dataclasses import asdict, dataclass
from enum import Enum


class Level(str, Enum):
    """How bad a finding is; SKIPPED: what could not be looked at."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What was found in one respect.

    Attributes:
        check: The respect, such as "GPUs".
        level: How bad it is.
        found: What is there.
        fix: What fixes it, in one line; empty where nothing is wrong.
    """

    check: str
    level: Level
    found: str
    fix: str = ""

    @classmethod
    def judged(cls, check: str, fine: bool, found: str, fix: str, otherwise: Level = Level.ERROR) -> "Finding":
        """A finding that is ok, or else at another level and with what fixes it."""
        return cls(check, Level.OK, found) if fine else cls(check, otherwise, found, fix)

    def sentence(self) -> str:
        """The finding as an error message."""
        return f"{self.check}: {self.found}; {self.fix}."

    def to_json(self) -> dict[str, str]:
        """The finding as JSON values."""
        return {**asdict(self), "level": self.level.value}
