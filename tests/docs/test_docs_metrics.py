# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""docs/metrics.md has every key that the code can log, and no other."""

import ast
import fnmatch
import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from docs_pages import ROOT, described_metrics
from tensordict import TensorDict

from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array
from erpo.tracker.schedules import SCHEDULES
from erpo.trainer.config import AccuracyConfig, TripwireConfig
from erpo.trainer.groups import Group
from erpo.trainer.live import log_live
from erpo.trainer.metrics import Totals, group_metrics, log_prob_metrics, signal_metrics
from erpo.trainer.tripwire import Tripwire
from erpo.trainer.validation import validation_metrics


def a_group(temperature: float, previous: Outcome) -> Group:
    return Group(
        uid=f"{temperature}", key=b"k" * 16, step=1, temperature=temperature, expected=2, accuracies=[1.0, 0.0],
        correct=1, lengths=[2, 2], truncated=0, outcome=Outcome.MIXED, previous=previous, revived=True,
    )  # fmt: skip


def by_groups() -> Iterator[str]:
    groups = [a_group(1.0, Outcome.ALL_CORRECT), a_group(1.5, Outcome.MIXED)]
    yield from group_metrics([(group, None) for group in groups], 1.0)
    yield from Totals().metrics()
    yield from signal_metrics(torch.ones(2, 2), [Outcome.MIXED] * 2, np.array([False, True]))
    ragged = {
        name: torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)
        for name, rows in {
            "old_log_probs": [[-1.0, -2.0], [-0.5, -3.0]],
            "rollout_log_probs": [[-1.0, -2.0], [-0.5, -3.0]],
            "entropy": [[1.0, 1.0], [1.5, 1.5]],
            "response_mask": [[1, 1], [1, 1]],
        }.items()
    }
    tokens = TensorDict(ragged, batch_size=2)
    yield from log_prob_metrics(tokens, groups, 1.0)
    yield from Tripwire(TripwireConfig(), 1.0).observe(tokens, groups)


def by_tracker() -> Iterator[str]:
    for schedule in ("none", *SCHEDULES):
        tracker = PromptTracker(TrackerConfig(name=schedule))
        yield from tracker.metrics()
        one = np.ones(1)
        tracker.observe(GroupOutcomes(keys_array([b"k" * 16]), one, one, one, one, one))
        yield from tracker.metrics()
        loggers = RecordingLogger()
        log_live({"tensorboard": loggers}, tracker, [], 1)
        yield from loggers.names


class RecordingLogger:
    """Takes the place of verl's logger and of TensorBoard's writer, and notes what is written."""

    def __init__(self) -> None:
        self.writer, self.names = self, []

    def add_histogram(self, name, values, step):
        self.names.append(name)


def by_validation() -> Iterator[str]:
    results = {"reward": [1.0, 0.0], "acc": [1.0, 0.0]}
    for key in validation_metrics(["aime", "aime"], ["p", "p"], results, {("aime", "p"): 2}, AccuracyConfig()):
        yield key.replace("/aime/", "/SET/").replace("@2", "@K")


def written_in_the_code() -> tuple[set[str], set[str]]:
    """Keys that the code spells out, and those with gaps that it fills, as patterns."""
    whole, patterns = set(), set()
    for folder in ("trainer", "tracker"):
        for file in (ROOT / "erpo" / folder).rglob("*.py"):
            tree = ast.parse(file.read_text())
            strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
            parts = {id(part) for string in strings for part in ast.walk(string)}
            for string in strings:
                text = "".join(part.value if isinstance(part, ast.Constant) else "*" for part in string.values)
                patterns |= {text} if text.startswith("erpo/") else set()
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                    whole |= {node.value} if re.fullmatch(r"erpo/[\w/@]+", node.value) else set()
    return whole, patterns


@pytest.fixture(scope="module")
def emitted() -> set[str]:
    whole, _ = written_in_the_code()
    found = {*by_groups(), *by_tracker(), *by_validation()}
    # A prefix that others are made with is no key.
    return found | {key for key in whole if not any(other.startswith(f"{key}/") for other in found)}


def test_every_key_is_described_and_no_other(emitted):
    described = described_metrics()
    assert len(described) == len(set(described))
    assert sorted(emitted - set(described)) == [], "logged and not in docs/metrics.md"
    assert sorted(set(described) - emitted) == [], "in docs/metrics.md and never logged"


def test_every_key_with_gaps_was_made_above(emitted):
    _, patterns = written_in_the_code()
    assert patterns, "the code makes keys by f-strings"
    for pattern in patterns:
        assert fnmatch.filter(emitted, pattern), f"{pattern} is in the code: let one of the functions above make it"


def test_keys_of_a_recorded_run_are_described():
    steps = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text())["steps"]
    recorded = {key for step in steps.values() for key in step if key.startswith("erpo/")}
    assert len(recorded) > 30 and recorded <= set(described_metrics())


def test_every_metric_says_what_is_healthy_and_what_to_do():
    text = (ROOT / "docs" / "metrics.md").read_text()
    blocks = re.findall(r"^```\{metric\}.*?^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 30
    for block in blocks:
        assert ":Healthy: " in block and ":Otherwise: " in block, block.splitlines()[0]
