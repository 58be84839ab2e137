# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a user sees of a step: metrics for verl's loggers and one line for the console."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from erpo.runs.metrics_log import held_out_names
from erpo.tracker import Outcome, is_raised
from erpo.trainer.config import AccuracyConfig
from erpo.trainer.groups import Group
from erpo.trainer.replay_buffer import FILTERED, STALE, SURPLUS


@dataclass
class Totals:
    """Generated so far, groups that were dropped included.

    Attributes:
        groups: Finished groups.
        responses: Their responses.
        tokens: Their response tokens.
    """

    groups: int = 0
    responses: int = 0
    tokens: int = 0

    def add(self, groups: Iterable[Group]) -> None:
        """Count the groups of one step."""
        for group in groups:
            self.groups += 1
            self.responses += len(group.lengths)
            self.tokens += sum(group.lengths)

    def metrics(self) -> dict[str, float]:
        """The totals under ``erpo/generated``."""
        return {f"erpo/generated/{name}": value for name, value in vars(self).items()}


def group_metrics(settled: Sequence[tuple[Group, str | None]], base_temperature: float) -> dict[str, float]:
    """Shares, revivals, temperatures, lengths of the groups that one step generated, dropped ones included.

    Args:
        settled: The groups that left the replay buffer in this step, and why they were dropped, None if not.
        base_temperature: Temperature of a prompt that is not raised.

    Returns:
        Metrics by name; a mean over nothing (no raised groups, say) is left out rather than invented.
    """
    metrics = {"erpo/groups/count": float(len(settled))}
    for reason in (FILTERED, SURPLUS, STALE):
        metrics[f"erpo/groups/{reason}"] = float(sum(found == reason for _, found in settled))
    metrics["erpo/groups/unscored"] = float(sum(group.problem is not None for group, _ in settled))
    complete = [group for group, _ in settled if group.outcome != Outcome.INCOMPLETE]
    if not complete:
        return metrics
    outcomes = np.array([group.outcome for group in complete])
    temperatures = np.array([group.temperature for group in complete])
    raised = is_raised(temperatures, base_temperature)
    after_all_correct = np.array([group.previous == Outcome.ALL_CORRECT for group in complete])
    revived = np.array([group.revived for group in complete])
    metrics |= {
        "erpo/groups/frac_all_correct": float((outcomes == Outcome.ALL_CORRECT).mean()),
        "erpo/groups/frac_all_wrong": float((outcomes == Outcome.ALL_WRONG).mean()),
        "erpo/groups/frac_mixed": float((outcomes == Outcome.MIXED).mean()),
        "erpo/revived/count": float(revived.sum()),
        "erpo/temperature/mean": float(temperatures.mean()),
        "erpo/temperature/max": float(temperatures.max()),
        "erpo/temperature/frac_raised": float(raised.mean()),
    }
    if after_all_correct.any():
        metrics["erpo/revived/frac"] = float(revived[after_all_correct].mean())
    for name, selected in (("raised", raised), ("base", ~raised)):
        members = [group for group, is_member in zip(complete, selected, strict=True) if is_member]
        responses = sum(len(group.lengths) for group in members)
        if responses:
            metrics[f"erpo/{name}/accuracy"] = sum(group.correct for group in members) / responses
            metrics[f"erpo/{name}/frac_truncated"] = sum(group.truncated for group in members) / responses
            metrics[f"erpo/{name}/response_length_mean"] = sum(sum(group.lengths) for group in members) / responses
    return metrics


def signal_metrics(advantages: torch.Tensor, outcomes: Sequence[Outcome], by_ra: NDArray[np.bool_]) -> dict[str, float]:
    """Share of the trained responses that have a gradient, and where it comes from.

    Args:
        advantages: (responses, tokens).
        outcomes: Outcome of the group of each response, (responses,).
        by_ra: Whether a response's advantage is RA's, (responses,).

    Returns:
        The share; of it the parts from mixed groups, from RA, and from other differences of the rewards inside
        residual groups, which length or format penalties make.
    """
    has_gradient = (advantages != 0).any(dim=-1).numpy()
    mixed = np.array(outcomes) == Outcome.MIXED
    prefix = "erpo/signal/frac_responses_with_gradient"
    return {
        prefix: float(has_gradient.mean()),
        f"{prefix}_mixed": float((has_gradient & mixed).mean()),
        f"{prefix}_ra": float((has_gradient & by_ra).mean()),
        f"{prefix}_shaped": float((has_gradient & ~mixed & ~by_ra).mean()),
    }


def log_prob_metrics(data: TensorDict, groups: Sequence[Group], base_temperature: float) -> dict[str, float]:
    """Agreement of the rollout's log-probs with the trainer's, for raised and for base responses apart.

    Args:
        data: ``old_log_probs``, ``rollout_log_probs`` and ``response_mask``, (responses, tokens), nested or padded.
        groups: Group of each response, (responses,).
        base_temperature: Temperature of a prompt that is not raised.

    Returns:
        Per kind the largest and the mean difference of token probabilities, and the mean of
        log p_rollout - log p_train, an estimate of KL(rollout || train) in nats per token; none of a kind without a
        token of the model's.
    """
    raised = is_raised(np.array([group.temperature for group in groups]), base_temperature)
    columns = [_by_response(data, name) for name in ("old_log_probs", "rollout_log_probs")]
    metrics: dict[str, float] = {}
    for name, selected in (("raised", raised), ("base", ~raised)):
        rows = [row for row in np.flatnonzero(selected) if len(columns[0][row])]
        if not rows:
            continue
        old, rollout = (torch.cat([column[row] for row in rows]) for column in columns)
        difference = (old.exp() - rollout.exp()).abs()
        metrics[f"erpo/{name}/probs_diff_max"] = float(difference.max())
        metrics[f"erpo/{name}/probs_diff_mean"] = float(difference.mean())
        metrics[f"erpo/{name}/rollout_train_kl"] = float((rollout - old).mean())
    return metrics


def describe_groups(data: TensorDict, groups: Sequence[Group]) -> None:
    """Note in every group with tokens their entropy and how rollout and training agree on their probabilities.

    Args:
        data: As for :func:`log_prob_metrics`, and ``entropy`` where the trainer computed it.
        groups: Group of each response, (responses,).
    """
    rows_of: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows_of.setdefault(group.uid, []).append(row)
    names = [name for name in ("old_log_probs", "rollout_log_probs", "entropy") if name in data]
    columns = {name: _by_response(data, name) for name in names}
    for rows in rows_of.values():
        group = groups[rows[0]]
        tokens = {name: torch.cat([column[row] for row in rows]) for name, column in columns.items()}
        difference = (tokens["old_log_probs"].exp() - tokens["rollout_log_probs"].exp()).abs()
        if not len(difference):
            continue
        group.probs_diff_mean, group.probs_diff_max = float(difference.mean()), float(difference.max())
        if "entropy" in tokens:
            group.entropy = float(tokens["entropy"].mean())


def tail_metrics(measured: torch.Tensor) -> dict[str, float]:
    """Mean probability outside the top 20 tokens, at each response's T and 0.2 above it.

    Args:
        measured: The column :data:`erpo.trainer.heat.HEAT`, (responses, 4).

    Returns:
        Metrics by name; none where no token was measured.
    """
    tokens, mass, hotter = measured[:, :3].double().sum(0).tolist()
    return {"erpo/heat/tail_mass": mass / tokens, "erpo/heat/tail_mass_hotter": hotter / tokens} if tokens else {}


def broken_metrics(
    keys: Sequence[str],
    groups: Sequence[Group],
    lowest: NDArray[np.float64],
    accuracy: AccuracyConfig,
    rare: float,
) -> dict[str, float]:
    """Share of broken responses among the wrong and among the right ones of mixed groups.

    A response is broken that was cut at the length limit, that the reward function found no answer in, or that has a
    token of a smaller probability at T = 1 than ``rare``.

    Args:
        keys: Trajectory key of each row.
        groups: Group of each row.
        lowest: Lowest log-prob at T = 1 of each row's tokens; NaN where it is unknown.
        accuracy: When a response is correct.
        rare: The probability.

    Returns:
        Metrics by name; none without a mixed group, or where a log-prob of one is unknown.
    """
    # All outputs of a session are one response.
    lowest_of: dict[str, float] = {}
    for key, value in zip(keys, lowest, strict=True):
        session = _session(key)
        lowest_of[session] = float(np.minimum(lowest_of.get(session, 0.0), value))
    broken: dict[bool, list[bool]] = {False: [], True: []}
    for group in {group.uid: group for group in groups if group.outcome == Outcome.MIXED}.values():
        ended = group.broken or [False] * len(group.accuracies)
        for key, value, badly in zip(group.trajectory_keys, group.accuracies, ended, strict=True):
            log_prob = lowest_of.get(_session(key), np.nan)
            if np.isnan(log_prob):
                return {}
            assert value is not None  # A group with a response without a score is not mixed.
            broken[accuracy.is_correct(value)].append(badly or log_prob < np.log(rare))
    names = {False: "erpo/heat/broken_wrong", True: "erpo/heat/broken_right"}
    return {names[right]: float(np.mean(shares)) for right, shares in broken.items() if shares}


def lowest_log_probs(data: TensorDict) -> NDArray[np.float64]:
    """Lowest of ``old_log_probs`` among each response's tokens, (responses,); 0 for a response without any."""
    return np.array([float(values.min()) if len(values) else 0.0 for values in _by_response(data, "old_log_probs")])


def _session(key: str) -> str:
    """The session in a trajectory key ``{uid}_{session}_{index}``."""
    return key.rsplit("_", 1)[0]


def _by_response(data: TensorDict, name: str) -> list[torch.Tensor]:
    """The values of a column at each response's tokens, float64.

    To be called once for a batch: taking a nested tensor apart takes time in proportion to the batch.
    """
    pairs = zip(data[name].unbind(), data["response_mask"].unbind(), strict=True)
    return [values[mask.bool()].double() for values, mask in pairs]


def step_line(metrics: Mapping[str, Any], step: int, total_steps: int) -> str:
    """One readable line for the console."""
    get = metrics.get
    parts = [f"step {step}/{total_steps}"]
    accuracy = [metrics[name] for name in held_out_names(metrics)]
    if accuracy:
        parts.append(f"held-out accuracy {np.mean(accuracy):.3f}")
    if "erpo/groups/frac_mixed" in metrics:
        parts += [
            f"all-correct {get('erpo/groups/frac_all_correct'):.0%}",
            f"mixed {get('erpo/groups/frac_mixed'):.0%}",
            f"all-wrong {get('erpo/groups/frac_all_wrong'):.0%}",
            f"T {get('erpo/temperature/mean'):.2f} (max {get('erpo/temperature/max'):.2f})",
            f"raised {get('erpo/temperature/frac_raised'):.0%}",
            f"revived {get('erpo/revived/count'):.0f}",
        ]
    if "erpo/signal/frac_responses_with_gradient" in metrics:
        parts.append(f"gradient {get('erpo/signal/frac_responses_with_gradient'):.0%}")
    if "timing_s/step" in metrics:
        parts.append(f"{get('timing_s/step'):.1f} s")
    return " | ".join(parts)
