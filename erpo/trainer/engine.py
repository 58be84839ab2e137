# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""FSDP engine whose log-probs, entropies and losses use the temperature of each response.

verl imports this module in every worker when ``actor_rollout_ref.model.external_lib`` names it; the class is then
found before verl's own, because verl looks for an engine of the vendor before one of the device.
"""

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from erpo.trainer import ROLLOUT_TEMPERATURE, TRAIN_TEMPERATURE


def response_temperatures(micro_batch: TensorDict) -> torch.Tensor | float | None:
    """Temperature of every response of a micro-batch.

    Args:
        micro_batch: verl's micro-batch of ``bsz`` responses.

    Returns:
        A float32 tensor (bsz,); a float where all are equal, so that verl's shorter path for one temperature serves
        them; None where the batch carries no column, as in plain verl.
    """
    column = micro_batch.get(TRAIN_TEMPERATURE, None)
    if column is None:
        column = micro_batch.get(ROLLOUT_TEMPERATURE, None)
    if column is None:
        return None
    temperatures = column.reshape(-1).to(torch.float32)
    first = temperatures[0]
    return float(first) if bool((temperatures == first).all()) else temperatures


@EngineRegistry.register(
    model_type="language_model", backend=["fsdp", "fsdp2"], device="cuda", vendor=["nvidia", "amd"]
)
class PerResponseTemperatureEngine(FSDPEngineWithLMHead):
    """verl's FSDP engine with logits divided by each response's own temperature: log pi(y|x) = log_softmax(z / T)."""

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict, dict]:
        temperatures = response_temperatures(micro_batch)
        if isinstance(temperatures, torch.Tensor):
            micro_batch["temperature"] = temperatures
        elif temperatures is not None:
            tu.assign_non_tensor_data(micro_batch, "temperature", temperatures)
        return super().prepare_model_inputs(micro_batch)
