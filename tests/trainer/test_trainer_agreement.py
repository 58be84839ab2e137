# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the trainer makes of both log-probs, inside verl's own pass: when the tripwire looks at them."""

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo.v1 import trainer_base

from erpo.tracker import Outcome, PromptTracker, TrackerConfig, on_grid
from erpo.tracker.schedules.constant import ConstantConfig
from erpo.trainer.config import ConfigError, ErpoConfig, HeatConfig
from erpo.trainer.groups import Group
from erpo.trainer.trainer import ErpoTrainerSync

ROWS, TOKENS = 32, 64


def trainer_of(schedule, base, sampled):
    self = object.__new__(ErpoTrainerSync)
    self.erpo = ErpoConfig(schedule=schedule, heat=HeatConfig(tokens=0))
    self.tracker = PromptTracker(schedule)
    self.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"temperature": base}}})
    self.batch_groups = {
        f"g{row}": Group(
            uid=f"g{row}", key=b"k" * 16, step=1, temperature=sampled, expected=1, accuracies=[1.0], correct=1,
            lengths=[TOKENS], truncated=0, outcome=Outcome.ALL_CORRECT,
        )
        for row in range(ROWS)
    }  # fmt: skip
    return self


def step(self, temperature, sharper, monkeypatch):
    """One pass over tokens that are sampled at a temperature and scored by weights that a step made sharper."""
    logits = 3 * torch.randn(ROWS * TOKENS, 100)
    rollout, train = (torch.log_softmax(logits * scale / temperature, -1) for scale in (1.0, 1.0 + sharper))
    tokens = torch.multinomial(rollout.exp(), 1)
    columns = {
        "old_log_probs": train.gather(1, tokens),
        "rollout_log_probs": rollout.gather(1, tokens),
        "entropy": -(train.exp() * train).sum(-1),
        "response_mask": torch.ones(ROWS * TOKENS, dtype=torch.long),
        "responses": tokens,
    }
    data = DataProto(batch=TensorDict({name: v.reshape(ROWS, TOKENS) for name, v in columns.items()}, ROWS))

    def computed(self, batch, metrics):
        metrics.update(trainer_base.calculate_debug_metrics(data))
        return batch

    monkeypatch.setattr(trainer_base.PPOTrainer, "_compute_old_log_prob", computed)
    metrics = {}
    keys = [f"g{row}_0_0" for row in range(ROWS)]
    self._compute_old_log_prob(KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id="train"), metrics)
    return metrics


def test_tripwire_looks_only_where_a_schedule_raises(monkeypatch):
    torch.manual_seed(0)
    # 1.1 does not lie on the grid: without a schedule prompts are sampled at it all the same.
    plain = trainer_of(TrackerConfig(name="none"), base=1.1, sampled=1.1)
    for _ in range(4):
        metrics = step(plain, 1.1, 0.002, monkeypatch)
        assert "erpo/base/probs_diff_mean" in metrics and "erpo/raised/not_followed" not in metrics
    hot = float(on_grid(1.3))
    raised = trainer_of(TrackerConfig(name="constant", constant=ConstantConfig(temperature=1.3)), base=1.0, sampled=hot)
    with pytest.raises(ConfigError, match="did not follow the temperatures"):
        for _ in range(4):
            step(raised, 1.0, 1 / hot - 1, monkeypatch)
