# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Finished groups, read back from TransferQueue.

Everything is derived from the trajectories themselves, which carry the columns of their dataset row, so that groups
that an asynchronous run restored from a checkpoint are read like any other.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import transfer_queue as tq

from erpo.tracker import Outcome, classify, prompt_key
from erpo.trainer import ROLLOUT_TEMPERATURE
from erpo.trainer.config import AccuracyConfig

_FIELDS = ["raw_prompt", "data_source", "extra_info", "extra_fields", "rm_scores", ROLLOUT_TEMPERATURE]


@dataclass
class Group:
    """One finished group: the responses sampled for one prompt at one visit.

    Attributes:
        uid: verl's identity of the visit.
        key: The prompt's key, 16 bytes.
        step: Training step at which the group was observed.
        temperature: Sampling temperature of all its responses.
        expected: Responses asked for (n).
        accuracies: Accuracy of each response, (n,).
        correct: Responses whose accuracy reaches the threshold.
        rewards: Reward of each response, (n,): the sum of its token-level scores.
        lengths: Length of each response in tokens, (n,).
        truncated: Responses cut at the length limit.
        outcome: Kind of the group.
        previous: Outcome of the prompt's previous visit, -1 if there was none.
        revived: Whether the prompt's previous visit was all-correct and this one is mixed.
        capped_visits: All-correct visits of the prompt at the temperature cap, this one included.
        entropy: Mean entropy of its tokens in nats, at its temperature; None where it was not computed.
        probs_diff_mean: Mean difference of its tokens' probabilities in rollout and training; None likewise.
        probs_diff_max: Largest one.
    """

    uid: str
    key: bytes
    step: int
    temperature: float
    expected: int
    accuracies: list[float]
    correct: int
    rewards: list[float]
    lengths: list[int]
    truncated: int
    outcome: Outcome
    previous: int = -1
    revived: bool = False
    capped_visits: int = 0
    entropy: float | None = None
    probs_diff_mean: float | None = None
    probs_diff_max: float | None = None
    trajectory_keys: list[str] = field(default_factory=list, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The group as JSON values, for a checkpoint."""
        return {**vars(self), "key": self.key.hex(), "outcome": int(self.outcome)}

    def log_row(self, dropped: bool) -> dict[str, Any]:
        """The group as a row of the group log."""
        return {
            "step": self.step,
            "key": self.key.hex(),
            "temperature": self.temperature,
            "n": self.expected,
            "correct": self.correct,
            "accuracy": sum(self.accuracies) / max(len(self.accuracies), 1),
            "lengths": self.lengths,
            "truncated": self.truncated,
            "outcome": self.outcome.name.lower(),
            "revived": self.revived,
            "dropped": dropped,
            "entropy": self.entropy,
            "probs_diff_mean": self.probs_diff_mean,
            "probs_diff_max": self.probs_diff_max,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Group":
        """Inverse of :meth:`to_json`."""
        return cls(**{**values, "key": bytes.fromhex(values["key"]), "outcome": Outcome(values["outcome"])})


def uid_of(trajectory_key: str) -> str:
    """The group's uid in a trajectory key ``{uid}_{session}_{index}``."""
    return trajectory_key.split("_", 1)[0]


def prompt_key_of_row(row: dict[str, Any]) -> bytes:
    """Key of the prompt in a dataset row (or in a trajectory, which carries its row's columns)."""
    extra_info = row.get("extra_info") or {}
    return prompt_key(str(row.get("data_source", "")), row["raw_prompt"], extra_info.get("prompt_id"))


class GroupReader:
    """Reads finished groups of the partition ``train`` out of TransferQueue.

    Args:
        accuracy: Which metric decides whether a response is correct, and how.
        n: Responses per group.
        base_temperature: Temperature of trajectories without a temperature column.
        max_response_length: Length limit of a response in tokens.
        eos_token_id: A response that ends in it at the limit is not truncated.
    """

    def __init__(
        self, accuracy: AccuracyConfig, n: int, base_temperature: float, max_response_length: int, eos_token_id: int
    ) -> None:
        self.accuracy = accuracy
        self.n = n
        self.base_temperature = base_temperature
        self.max_response_length = max_response_length
        self.eos_token_id = eos_token_id

    def read(self, uids: Iterable[str], tags: dict[str, dict], step: int) -> list[Group]:
        """Read the groups ``uids``.

        Args:
            uids: Groups that finished without a failed session.
            tags: Trajectory key -> verl's tag of that trajectory, of the whole partition.
            step: Present training step.

        Returns:
            The groups, in the order of their uids.

        Raises:
            ValueError: A response has no accuracy, or one that is not a finite number.
        """
        sessions: dict[str, dict[str, tuple[int, str]]] = {uid: {} for uid in uids}
        for key in tags:
            uid, session, index = key.rsplit("_", 2)
            if uid in sessions:
                # Only the last output of a session is scored (verl's rule for agents with several outputs).
                best = sessions[uid].get(session)
                if best is None or int(index) > best[0]:
                    sessions[uid][session] = (int(index), key)
        keys = [key for uid in sessions for _, key in sorted(sessions[uid].values())]
        if not keys:
            return []
        rows = self._rows(keys)
        truncated = self._truncated(keys, tags)
        keys_of_group: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            keys_of_group[uid_of(key)].append(key)
        return [self._group(uid, keys_of_group[uid], rows, tags, truncated, step) for uid in sorted(keys_of_group)]

    def _rows(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=_FIELDS)
        columns = {name: [getattr(value, "data", value) for value in list(data[name])] for name in data.keys()}  # noqa: SIM118
        columns["rm_scores"] = [float(scores.sum()) for scores in data["rm_scores"].unbind()]
        return {key: {name: column[i] for name, column in columns.items()} for i, key in enumerate(keys)}

    def _truncated(self, keys: list[str], tags: dict[str, dict]) -> set[str]:
        at_limit = [key for key in keys if tags[key]["response_len"] >= self.max_response_length]
        if not at_limit:
            return set()
        data = tq.kv_batch_get(keys=at_limit, partition_id="train", select_fields=["responses"])
        responses = data["responses"].unbind()
        return {
            key for key, response in zip(at_limit, responses, strict=True) if int(response[-1]) != self.eos_token_id
        }

    def _group(
        self,
        uid: str,
        keys: Sequence[str],
        rows: dict[str, dict[str, Any]],
        tags: dict[str, dict],
        truncated: set[str],
        step: int,
    ) -> Group:
        first = rows[keys[0]]
        key = prompt_key_of_row(first)
        accuracies = [self._accuracy(rows[k], key) for k in keys]
        return Group(
            uid=uid,
            key=key,
            step=step,
            temperature=float(first.get(ROLLOUT_TEMPERATURE, self.base_temperature)),
            expected=self.n,
            accuracies=accuracies,
            correct=sum(accuracy >= self.accuracy.threshold for accuracy in accuracies),
            rewards=[rows[k]["rm_scores"] for k in keys],
            lengths=[int(tags[k]["response_len"]) for k in keys],
            truncated=sum(k in truncated for k in keys),
            outcome=classify(
                accuracies,
                self.n,
                threshold=self.accuracy.threshold,
                tolerance=self.accuracy.tolerance,
                prompt=key.hex(),
            ),
            trajectory_keys=list(keys),
        )

    def _accuracy(self, row: dict[str, Any], key: bytes) -> float:
        reported = (row.get("extra_fields") or {}).get("reward_extra_info") or {}
        metric = self.accuracy.metric or ("acc" if "acc" in reported else "reward")
        if metric == "reward":
            return row["rm_scores"]
        if metric not in reported:
            raise ValueError(
                f"The reward function returned no {metric!r} for prompt {key.hex()}: add it to the dictionary that it "
                f"returns, or set erpo.accuracy.metric to one of {[*sorted(reported), 'reward']}."
            )
        return float("nan") if reported[metric] is None else float(reported[metric])
