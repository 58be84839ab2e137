# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Runs written by hand, whose numbers are known: eight prompts, four visits each, an epoch is two steps."""

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from erpo.runs import GroupLog, MetricsLog
from erpo.runs.sample_log import SampleLog
from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array
from erpo.tracker.storage import save_state

C, M, W = "all_correct", "mixed", "all_wrong"
# (temperature, kind, revived); prompts 0 to 3 are visited in steps 1, 3, 5 and 7, prompts 4 to 7 in 2, 4, 6 and 8.
VISITS = [
    [(1.0, C, False), (1.2, C, False), (1.4, C, False), (1.6, C, False)],
    [(1.0, C, False), (1.2, M, True), (1.2, C, False), (1.4, M, True)],
    [(1.0, M, False), (1.0, C, False), (1.2, M, True), (1.2, M, False)],
    [(1.0, W, False), (1.0, W, False), (1.0, W, False), (1.0, W, False)],
    [(1.0, M, False), (1.0, M, False), (1.0, M, False), (1.0, M, False)],
    [(1.0, C, False), (1.2, C, False), (1.4, M, True), (1.4, C, False)],
    [(1.0, W, False), (1.0, M, False), (1.0, M, False), (1.0, C, False)],
    [(1.0, M, False), (1.0, M, False), (1.0, M, False), (1.0, M, False)],
]
CORRECT = {C: 4, M: 2, W: 0}
SCHEDULE = {"name": "linear", "linear": {"t_base": 1.0, "dt": 0.2, "t_max": 1.6}}
RESPONSE = "so 2 + 2 < 5 <script>document.title = 'broken'</script> & the answer is 4"


def key(prompt: int) -> str:
    return f"{prompt:032x}"


def groups_of(step: int) -> list[dict]:
    """The group log's rows of a step; a response of prompt p has 10 + p tokens."""
    rows = []
    for prompt in range(4) if step % 2 else range(4, 8):
        temperature, kind, revived = VISITS[prompt][(step - 1) // 2]
        rows.append(
            {
                "step": step,
                "key": key(prompt),
                "temperature": temperature,
                "n": 4,
                "correct": CORRECT[kind],
                "accuracy": CORRECT[kind] / 4,
                "lengths": [10 + prompt] * 4,
                "truncated": 1 if temperature > 1.0 and kind == M else 0,
                "outcome": kind,
                "revived": revived,
                "dropped": kind == W,
            }
        )
    return rows


def tokens_up_to(step: int) -> int:
    return sum(sum(row["lengths"]) for s in range(1, step + 1) for row in groups_of(s))


def metrics_of(step: int) -> dict[str, float]:
    mixed = sum(row["outcome"] == M for row in groups_of(step))
    trained = sum(not row["dropped"] for row in groups_of(step))
    metrics = {
        "training/epoch": (step - 1) // 2,
        "actor/entropy": 0.5 + 0.01 * step,
        "erpo/generated/tokens": tokens_up_to(step),
        "erpo/signal/frac_responses_with_gradient": 1.0,
        "erpo/signal/frac_responses_with_gradient_mixed": mixed / trained,
        "erpo/signal/frac_responses_with_gradient_ra": 1 - mixed / trained,
        "erpo/base/probs_diff_mean": 1e-8,
        "erpo/base/probs_diff_max": step * 1e-7,
    }
    return metrics | ({"val-core/x/acc/mean@4": 0.25 + step / 16} if step % 4 == 0 else {})


def write_settings(folder: Path, method: str = "erpo") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "erpo": {"method": method, "schedule": SCHEDULE if method == "erpo" else {"name": "none"}},
        "actor_rollout_ref": {"rollout": {"temperature": 1.0}},
    }
    OmegaConf.save(OmegaConf.create(settings), folder / "config.yaml")


def write_run(folder: Path, method: str = "erpo", steps: int = 8, samples: bool = True) -> Path:
    """Write a run of `steps` steps; one without the method "erpo" has no raised temperature."""
    write_settings(folder, method)
    groups, metrics, log = GroupLog(folder), MetricsLog(folder), SampleLog(folder)
    metrics.append(0, {"val-core/x/acc/mean@4": 0.25})
    tracker = PromptTracker(TrackerConfig.from_dict(SCHEDULE if method == "erpo" else {"name": "none"}))
    for step in range(1, steps + 1):
        rows = groups_of(step)
        if method != "erpo":
            rows = [row | {"temperature": 1.0} for row in rows]
        groups.write(step, rows)
        metrics.append(step, metrics_of(step))
        if samples:
            log.write(step, [sample(row) for row in rows if row["temperature"] > 1.0])
        tracker.observe(outcomes_of(rows))
        if step in (steps // 2, steps):
            save_state(tracker, folder / f"global_step_{step}" / "erpo")
    return folder


def sample(row: dict) -> dict:
    prompt = int(row["key"], 16)
    return {
        "step": row["step"],
        "key": row["key"],
        "prompt": f"prompt number {prompt}: what is 2 + 2?",
        "temperature": row["temperature"],
        "response": RESPONSE,
        "correct": row["outcome"] == C,
        "truncated": False,
        "length": 10 + prompt,
        "outcome": row["outcome"],
    }


def outcomes_of(rows: list[dict]) -> GroupOutcomes:
    return GroupOutcomes(
        keys=keys_array([bytes.fromhex(row["key"]) for row in rows]),
        outcomes=np.array([Outcome[row["outcome"].upper()] for row in rows], dtype=np.int8),
        accuracies=np.array([row["accuracy"] for row in rows]),
        sizes=np.full(len(rows), 4, dtype=np.int32),
        temperatures=np.array([row["temperature"] for row in rows]),
        steps=np.array([row["step"] for row in rows], dtype=np.int64),
    )
