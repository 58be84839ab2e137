# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""FSDP engine whose log-probs, entropies and losses use the temperature of each response.

verl imports this module in every worker when ``actor_rollout_ref.model.external_lib`` names it, which only methods do
that attach temperatures. From then on verl finds the classes made here wherever it would have found its own.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch.distributed.tensor import DTensor
from verl.utils import tensordict_utils as tu
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.rollout.utils import get_vision_placeholder_token_ids

from erpo.trainer import ROLLOUT_TEMPERATURE, TRAIN_TEMPERATURE
from erpo.trainer.log_probs import token_log_probs

BACKENDS = ("fsdp", "fsdp2")
# What verl computes from a copy of the logits that was divided by T, which is never made here.
_NEEDS_SCALED_LOGITS = ("calculate_sum_pi_squared", "distillation_use_topk")


def response_temperatures(micro_batch: TensorDict) -> torch.Tensor:
    """Temperature of every response of a micro-batch.

    Args:
        micro_batch: verl's micro-batch of ``bsz`` responses.

    Returns:
        A float32 tensor (bsz,).

    Raises:
        RuntimeError: The batch has no column of temperatures, or one that no response can have been sampled at.
    """
    column = micro_batch.get(TRAIN_TEMPERATURE, None)
    if column is None:
        column = micro_batch.get(ROLLOUT_TEMPERATURE, None)
    if column is None:
        raise RuntimeError(
            f"A micro-batch has no column {ROLLOUT_TEMPERATURE!r}, so the temperatures of its responses are unknown; "
            "every row of the training batch must carry it from dispatch to the engine."
        )
    temperatures = column.reshape(-1).to(torch.float32)
    if not bool((temperatures.isfinite() & (temperatures > 0)).all()):
        raise RuntimeError(
            f"The column {ROLLOUT_TEMPERATURE!r} of a micro-batch holds {temperatures.tolist()}; temperatures must be "
            "finite and above 0."
        )
    return temperatures


class PerResponseTemperatureEngine(FSDPEngineWithLMHead):
    """verl's FSDP engine with logits divided by each response's own temperature: log pi(y|x) = log_softmax(z / T).

    Tokens that verl's rollout never samples (rows of the head beyond the tokenizer, placeholders of images) have no
    share of the probability here either: their share would grow with T.
    """

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict, dict]:
        micro_batch["temperature"] = response_temperatures(micro_batch)
        return super().prepare_model_inputs(micro_batch)

    def prepare_model_outputs(
        self, output: Any, output_args: dict, micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict:
        for name in _NEEDS_SCALED_LOGITS:
            if tu.get_non_tensor_data(micro_batch, name, default=False):
                raise RuntimeError(f"{name} does not work with a temperature per response; turn it off.")
        logits = output.logits.full_tensor() if isinstance(output.logits, DTensor) else output.logits
        labels, temperatures = _labels_and_temperatures(output_args, micro_batch["input_ids"], logits.shape[:2])
        log_probs, entropy = token_log_probs(
            logits,
            labels,
            temperatures,
            vocabulary=len(self.model_config.tokenizer),
            banned=tuple(get_vision_placeholder_token_ids(self.model_config.processor)),
            entropy=tu.get_non_tensor_data(micro_batch, "calculate_entropy", default=False),
        )
        # verl's way for log-probs that were computed already: it only brings them into the batch's shape.
        computed = micro_batch.copy()
        tu.assign_non_tensor_data(computed, "use_fused_kernels", True)
        fused = SimpleNamespace(log_probs=log_probs, entropy=entropy)
        return super().prepare_model_outputs(fused, output_args, computed, logits_processor_func)


class RunningEngine(NamedTuple):
    """Engine of a worker.

    Attributes:
        role: ``actor`` or ``ref``.
        name: Name of its class.
        per_response: Whether it uses the temperature of each response.
    """

    role: str
    name: str
    per_response: bool


def running_engines(worker: Any) -> list[RunningEngine]:
    """Engines that a worker process runs; to be sent to it by ``execute_with_func_generator``.

    Args:
        worker: verl's worker, or the one that stands for all workers of a process.
    """
    found = []
    for member in getattr(worker, "worker_dict", {"": worker}).values():
        for role in ("actor", "ref"):
            training = getattr(member, role, None)
            if training is not None:
                engine = training.engine
                found.append(
                    RunningEngine(role, type(engine).__name__, isinstance(engine, PerResponseTemperatureEngine))
                )
    return found


def _labels_and_temperatures(output_args: dict, input_ids: Any, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Next token and temperature at every place of the logits, both of ``shape``.

    That is (1, tokens) for packed responses and (bsz, longest) for padded ones, where verl keeps labels without the
    padding.
    """
    labels = output_args["input_ids_rmpad_rolled"]
    if "temperature_rmpad" in output_args:
        return labels.unsqueeze(0), output_args["temperature_rmpad"].unsqueeze(0)
    lengths = input_ids.offsets().diff()
    padded = labels.new_zeros(shape)
    padded[torch.arange(shape[1], device=labels.device) < lengths.unsqueeze(1)] = labels
    return padded, output_args["temperature"].unsqueeze(1).expand(shape)


def _serve_all_devices() -> None:
    """Put a class of ours in the place of every FSDP engine for language models that verl's registry holds.

    verl looks for (device, vendor), then for the device, then for (cuda, nvidia), and refuses to register a key twice:
    replacing the entries themselves is the one way to be found for every vendor, those of plug-ins included.
    """
    for backend in BACKENDS:
        engines = EngineRegistry._engines["language_model"][backend]
        for key, engine in engines.items():
            if not issubclass(engine, PerResponseTemperatureEngine):
                engines[key] = _with_temperatures(engine)


def _with_temperatures(engine: type[FSDPEngineWithLMHead]) -> type[PerResponseTemperatureEngine]:
    if engine is FSDPEngineWithLMHead:
        return PerResponseTemperatureEngine
    return type(f"PerResponseTemperature{engine.__name__}", (PerResponseTemperatureEngine, engine), {})


_serve_all_devices()
