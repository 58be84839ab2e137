# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One forward and backward pass of verl's FSDP2 on the CPU through our engine; prints what differs from the definition.

``VERL_PLATFORM=cpu python fsdp_engine.py MODEL_FOLDER [fused]``, in a process of its own: it starts a process group.
"""

import json
import sys
from typing import Any

import torch
from tensordict import TensorDict
from transformers import AutoModelForCausalLM

LENGTHS = (7, 12, 3)
TEMPERATURES = (1.0, 1.2, 1.5)


def main(model: str, fused: bool) -> None:
    torch.distributed.init_process_group("cpu:gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    config = settings_of(model, fused)
    engine, vocabulary = started(config), len(config.tokenizer)
    torch.manual_seed(0)
    rows = [torch.randint(vocabulary, (n,)) for n in LENGTHS]
    with engine.train_mode():
        engine.optimizer_zero_grad()
        found = engine.forward_backward_batch(batch(rows, fused), loss)["model_output"]
        gradient = torch.cat([weight.grad.full_tensor().flatten() for weight in engine.module.parameters()])
        engine.optimizer_zero_grad()
        exact = by_definition(model, rows, vocabulary)
    differences = {
        "log_probs": (before_last(found["log_probs"]) - exact["log_probs"]).abs().max(),
        "entropy": (before_last(found["entropy"]) - exact["entropy"]).abs().max(),
        "gradient": (gradient - exact["gradient"]).abs().max() / exact["gradient"].abs().max(),
    }
    print(json.dumps({"engine": type(engine).__name__} | {name: float(value) for name, value in differences.items()}))


def settings_of(model: str, fused: bool) -> Any:
    """verl's settings of a model in a folder, with our engine."""
    from verl.workers.config import HFModelConfig

    config = HFModelConfig(
        path=model,
        external_lib="erpo.trainer.engine",
        use_remove_padding=False,
        use_fused_kernels=fused,
        fused_kernel_options={"impl_backend": "torch"},
        override_config={"attn_implementation": "eager"},
    )
    config.model_type = "language_model"
    return config


def started(config: Any) -> Any:
    """verl's FSDP2 engine with this model, in float32."""
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig
    from verl.workers.engine.base import EngineRegistry

    precision = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    engine = EngineRegistry.new(
        model_type="language_model",
        backend="fsdp2",
        model_config=config,
        engine_config=FSDPEngineConfig(strategy="fsdp2", use_torch_compile=False, mixed_precision=precision),
        optimizer_config=FSDPOptimizerConfig(lr=1e-3, total_training_steps=1),
        checkpoint_config=CheckpointConfig(),
    )
    engine.initialize()
    return engine


def assign_settings(batch: TensorDict, fused: bool, longest: int) -> None:
    """What verl's trainer tells its engine with a batch; in several micro-batches, so that columns follow rows."""
    from verl.utils import tensordict_utils as tu

    tu.assign_non_tensor(
        batch,
        use_remove_padding=False,
        use_fused_kernels=fused,
        calculate_entropy=True,
        return_model_output=True,
        temperature=1.0,
        use_dynamic_bsz=True,
        max_token_len_per_gpu=longest,
    )


def batch(rows: list[torch.Tensor], fused: bool) -> TensorDict:
    """What verl hands its engine: jagged rows, and our column of temperatures."""
    positions = [torch.arange(len(row)) for row in rows]
    columns = {
        "input_ids": torch.nested.as_nested_tensor(rows, layout=torch.jagged),
        "position_ids": torch.nested.as_nested_tensor(positions, layout=torch.jagged),
        "rollout_temperature": torch.tensor(TEMPERATURES),
        "loss_mask": torch.ones(len(rows), 1),
    }
    made = TensorDict(columns, batch_size=len(rows))
    assign_settings(made, fused, max(LENGTHS) + 1)
    return made


def before_last(values: torch.Tensor) -> torch.Tensor:
    """Without each row's last place, whose label is the first token of another row."""
    return torch.cat([row[:-1] for row in values.unbind()])


def loss(model_output: dict, data: TensorDict, dp_group: object) -> tuple[torch.Tensor, dict]:
    return before_last(model_output["log_probs"]).sum() + before_last(model_output["entropy"]).sum(), {}


def by_definition(model: str, rows: list[torch.Tensor], vocabulary: int) -> dict[str, torch.Tensor]:
    """Log-probs, entropies and gradient of the same sum, in plain PyTorch."""
    # verl's fused kernels replace the forward function of the model's class, not of its parts.
    plain = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager")
    log_probs, entropy = [], []
    for row, temperature in zip(rows, TEMPERATURES, strict=True):
        logits = plain.lm_head(plain.model(row[:-1].unsqueeze(0))[0][0])[:, :vocabulary]
        log_p = torch.log_softmax(logits.float() / temperature, -1)
        log_probs.append(log_p.gather(-1, row[1:].unsqueeze(-1)).squeeze(-1))
        entropy.append(-(log_p.exp() * log_p).sum(-1))
    (torch.cat(log_probs).sum() + torch.cat(entropy).sum()).backward()
    return {
        "log_probs": torch.cat(log_probs),
        "entropy": torch.cat(entropy),
        "gradient": torch.cat([weight.grad.flatten() for weight in plain.parameters()]),
    }


if __name__ == "__main__":
    main(sys.argv[1], "fused" in sys.argv[2:])
