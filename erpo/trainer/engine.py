# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""verl's engines with log-probs, entropies and losses at the temperature of each response.

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

from erpo.trainer import ROLLOUT_TEMPERATURE, TRAIN_TEMPERATURE, fused, heat
from erpo.trainer.log_probs import MASKED, token_log_probs

# What verl computes from a copy of the logits that was divided by T, which is never made here.
_NEEDS_SCALED_LOGITS = ("calculate_sum_pi_squared", "distillation_use_topk")
# Entry of verl's arguments for the outputs: what was handed to the fused kernels.
_HANDED = "erpo_token_sampling"


def response_temperatures(batch: TensorDict) -> torch.Tensor:
    """Temperature of every response of a batch.

    Args:
        batch: verl's batch of ``bsz`` responses.

    Returns:
        A float32 tensor (bsz,).

    Raises:
        RuntimeError: The batch has no column of temperatures, or one that no response can have been sampled at.
    """
    column = batch.get(TRAIN_TEMPERATURE, None)
    if column is None:
        column = batch.get(ROLLOUT_TEMPERATURE, None)
    if column is None:
        raise RuntimeError(
            f"A batch has no column {ROLLOUT_TEMPERATURE!r}, so the temperatures of its responses are unknown; "
            "every row of the training batch must carry it from dispatch to the engine."
        )
    temperatures = column.reshape(-1).to(torch.float32)
    if not bool((temperatures.isfinite() & (temperatures > 0)).all()):
        raise RuntimeError(
            f"The column {ROLLOUT_TEMPERATURE!r} of a batch holds {temperatures.tolist()}; temperatures must be "
            "finite and above 0."
        )
    return temperatures


class PerResponseTemperature:
    """Hands the temperature of each response to an engine of verl; put before the engine among the base classes."""

    # verl's engine.
    model_config: Any

    def forward_backward_batch(self, data: TensorDict, loss_function: Any, forward_only: bool = False) -> Any:
        # verl's value, one for all. Micro-batches are made of the batch's rows, so that a column follows.
        data["temperature"] = response_temperatures(data)
        return super().forward_backward_batch(data, loss_function, forward_only)  # type: ignore[misc]

    def _vocabulary(self) -> int:
        """Rows of the head from this one on are no token; the rollout never samples them."""
        return len(self.model_config.tokenizer)

    def _banned(self) -> tuple[int, ...]:
        """Tokens that the rollout never samples: placeholders of images and videos."""
        return tuple(get_vision_placeholder_token_ids(self.model_config.processor))

    def _as_sampled(self, logits: torch.Tensor, first: int = 0) -> torch.Tensor:
        """A float32 copy in which what the rollout never samples has no probability, for engines that divide it by T.

        Divided in bf16, T would be rounded, and every quotient too.

        Args:
            logits: Shape (..., rows of the head).
            first: Number of the first row, where this process has a part of the head.
        """
        rows = torch.arange(first, first + logits.shape[-1], device=logits.device)
        never = (rows >= self._vocabulary()) | torch.isin(rows, rows.new_tensor(self._banned()))
        return logits.to(torch.float32, copy=True).masked_fill_(never, MASKED)


class PerResponseTemperatureEngine(PerResponseTemperature, FSDPEngineWithLMHead):
    """verl's FSDP engine with logits divided by each response's own temperature: log pi(y|x) = log_softmax(z / T).

    Tokens that verl's rollout never samples (rows of the head beyond the tokenizer, placeholders of images) have no
    share of the probability here either: their share would grow with T.
    """

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict, dict]:
        if not _is_fused(micro_batch):
            return super().prepare_model_inputs(micro_batch)
        # verl refuses a temperature for each response here, and would hand on one for all.
        unfused = micro_batch.copy()
        tu.assign_non_tensor_data(unfused, "use_fused_kernels", False)
        inputs, output_args = super().prepare_model_inputs(unfused)
        labels, temperatures = _labels_and_temperatures(
            output_args, micro_batch["input_ids"], inputs["input_ids"].shape[:2]
        )
        handed = fused.TokenSampling(temperatures, self._vocabulary(), self._banned(), _heat_tokens(micro_batch))
        output_args[_HANDED] = handed
        return inputs | {"temperature": handed, "shift_labels": labels, "return_dict": True}, output_args

    def prepare_model_outputs(
        self, output: Any, output_args: dict, micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict:
        for name in _NEEDS_SCALED_LOGITS:
            if tu.get_non_tensor_data(micro_batch, name, default=False):
                raise RuntimeError(f"{name} does not work with a temperature per response; turn it off.")
        if _is_fused(micro_batch):
            found = super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
            measured = output_args[_HANDED].heat
            return found if measured is None else found | self._heat(measured, output_args, micro_batch)
        logits = output.logits.full_tensor() if isinstance(output.logits, DTensor) else output.logits
        labels, temperatures = _labels_and_temperatures(output_args, micro_batch["input_ids"], logits.shape[:2])
        log_probs, entropy = token_log_probs(
            logits,
            labels,
            temperatures,
            vocabulary=self._vocabulary(),
            banned=self._banned(),
            entropy=tu.get_non_tensor_data(micro_batch, "calculate_entropy", default=False),
        )
        # verl's way for log-probs that were computed already: it only brings them into the batch's shape.
        computed = micro_batch.copy()
        tu.assign_non_tensor_data(computed, "use_fused_kernels", True)
        shown = SimpleNamespace(log_probs=log_probs, entropy=entropy)
        found = super().prepare_model_outputs(shown, output_args, computed, logits_processor_func)
        if _heat_tokens(micro_batch):
            measured = self._measure(logits, labels, temperatures, log_probs, _heat_tokens(micro_batch))
            found |= self._heat(measured, output_args, micro_batch)
        return found

    @torch.no_grad()
    def _measure(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        temperatures: torch.Tensor,
        log_probs: torch.Tensor,
        heat_tokens: int,
    ) -> torch.Tensor:
        """Tail masses at T and hotter, and log-probs at T = 1: float32, shape (3, *labels)."""
        known: dict[str, Any] = {"vocabulary": self._vocabulary(), "banned": self._banned()}
        places = heat.spread(labels.numel(), heat_tokens, labels.device)
        masses = heat.tail_masses(
            logits.reshape(-1, logits.shape[-1])[places], temperatures.reshape(-1)[places], **known
        )
        if bool((temperatures == 1).all()):
            at_one = log_probs
        else:
            at_one, _ = token_log_probs(logits, labels, torch.ones_like(temperatures), entropy=False, **known)
        return torch.cat([heat.at_places(masses, places, labels.shape), at_one.unsqueeze(0)])

    @torch.no_grad()
    def _heat(self, measured: torch.Tensor, output_args: dict, micro_batch: TensorDict) -> dict[str, torch.Tensor]:
        """The column :data:`~erpo.trainer.heat.HEAT` of a micro-batch from values at its places, (3, *labels)."""
        computed = micro_batch.copy()
        tu.assign_non_tensor(computed, use_fused_kernels=True, calculate_entropy=False)
        tail, hotter, at_one = (
            super(PerResponseTemperatureEngine, self).prepare_model_outputs(
                SimpleNamespace(log_probs=one, entropy=None), output_args, computed, None
            )["log_probs"]
            for one in measured
        )
        return {heat.HEAT: heat.of_responses(tail, hotter, at_one, micro_batch["response_mask"])}


class MegatronTemperature(PerResponseTemperature):
    """For verl's Megatron engine and MindSpeed's, which divide the logits by a column of temperatures themselves."""

    def _lm_head_logits_processor(
        self, logits: torch.Tensor, label: torch.Tensor, temperature: torch.Tensor, **settings: Any
    ) -> dict[str, torch.Tensor]:
        from megatron.core import parallel_state  # type: ignore[import-not-found]

        # Under tensor parallelism each process has a slice of the head's rows.
        first = parallel_state.get_tensor_model_parallel_rank() * logits.shape[-1]
        logits = self._as_sampled(logits, first)
        return super()._lm_head_logits_processor(logits, label, temperature, **settings)  # type: ignore[misc]


# Our part of the engine of each backend. torchtitan's divides by one number for all, and the PPO trainer has no
# settings for Automodel's: neither is served.
ENGINES: dict[str, type[PerResponseTemperature]] = {
    "fsdp": PerResponseTemperatureEngine,
    "fsdp2": PerResponseTemperatureEngine,
    "fsdp_turbo": PerResponseTemperatureEngine,
    "veomni": PerResponseTemperatureEngine,
    "megatron": MegatronTemperature,
}


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
                found.append(RunningEngine(role, type(engine).__name__, isinstance(engine, PerResponseTemperature)))
    return found


def _is_fused(micro_batch: TensorDict) -> bool:
    return bool(tu.get_non_tensor_data(micro_batch, "use_fused_kernels", default=False))


def _heat_tokens(micro_batch: TensorDict) -> int:
    return int(tu.get_non_tensor_data(micro_batch, heat.HEAT_TOKENS, default=0))


def _labels_and_temperatures(output_args: dict, input_ids: Any, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Next token and temperature at every place of the logits.

    ``shape`` is (1, tokens) for packed responses, of which this process may have a slice, and (bsz, longest) for padded
    ones, where verl keeps labels without the padding.
    """
    labels = output_args["input_ids_rmpad_rolled"]
    if "temperature_rmpad" in output_args:
        return labels.unsqueeze(0), output_args["temperature_rmpad"].unsqueeze(0)
    lengths = input_ids.offsets().diff()
    padded = labels.new_zeros(shape)
    padded[torch.arange(shape[1], device=labels.device) < lengths.unsqueeze(1)] = labels
    return padded, output_args["temperature"].unsqueeze(1).expand(shape)


def _serve_all_devices() -> None:
    """Put a class of ours in the place of every engine for language models that verl's registry holds.

    verl looks for (device, vendor), then for the device, then for (cuda, nvidia), and refuses to register a key twice:
    replacing the entries themselves is the one way to be found for every vendor, those of plug-ins included.
    """
    fused.install()
    registered = EngineRegistry._engines["language_model"]
    for backend, ours in ENGINES.items():
        engines = registered.get(backend, {})
        for key, engine in engines.items():
            if not issubclass(engine, PerResponseTemperature):
                engines[key] = _with_temperatures(ours, engine)


def _with_temperatures(ours: type[PerResponseTemperature], engine: type) -> type:
    if issubclass(ours, engine):
        return ours
    return type(f"PerResponseTemperature{engine.__name__}", (ours, engine), {})


_serve_all_devices()
