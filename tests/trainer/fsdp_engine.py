# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One forward and backward pass of verl's FSDP2 on the CPU through our engine; prints what differs from the definition.

``VERL_PLATFORM=cpu python fsdp_engine.py MODEL_FOLDER [fused]``, in a process of its own: it starts a process group.
"""

import json
import sys

import torch
from tensordict import TensorDict
from transformers import AutoModelForCausalLM

LENGTHS = (7, 12, 3)
TEMPERATURES = (1.0, 1.2, 1.5)


def main(model: str, fused: bool) -> None:
    from verl.trainer.config import CheckpointConfig
    from verl.utils import tensordict_utils as tu
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
    from verl.workers.engine.base import EngineRegistry

    torch.distributed.init_process_group("cpu:gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    config = HFModelConfig(
        path=model,
        external_lib="erpo.trainer.engine",
        use_remove_padding=False,
        use_fused_kernels=fused,
        fused_kernel_options={"impl_backend": "torch"},
        override_config={"attn_implementation": "eager"},
    )
    config.model_type = "language_model"
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
    vocabulary = len(config.tokenizer)
    torch.manual_seed(0)
    ids = torch.nested.as_nested_tensor([torch.randint(vocabulary, (n,)) for n in LENGTHS], layout=torch.jagged)
    positions = torch.nested.as_nested_tensor([torch.arange(n) for n in LENGTHS], layout=torch.jagged)

    def batch() -> TensorDict:
        columns = {"input_ids": ids, "position_ids": positions, "rollout_temperature": torch.tensor(TEMPERATURES)}
        made = TensorDict(columns | {"loss_mask": torch.ones(len(LENGTHS), 1)}, batch_size=len(LENGTHS))
        tu.assign_non_tensor(
            made,
            use_remove_padding=False,
            use_fused_kernels=fused,
            calculate_entropy=True,
            return_model_output=True,
            temperature=1.0,
            # Two micro-batches: the column follows its rows.
            use_dynamic_bsz=True,
            max_token_len_per_gpu=max(LENGTHS) + 1,
        )
        return made

    def before_last(values: torch.Tensor) -> torch.Tensor:
        """Without each row's last place, whose label is the first token of another row."""
        return torch.cat([row[:-1] for row in values.unbind()])

    def loss(model_output: dict, data: TensorDict, dp_group: object) -> tuple[torch.Tensor, dict]:
        return before_last(model_output["log_probs"]).sum() + before_last(model_output["entropy"]).sum(), {}

    def gradients() -> torch.Tensor:
        return torch.cat([weight.grad.full_tensor().flatten() for weight in engine.module.parameters()])

    with engine.train_mode():
        engine.optimizer_zero_grad()
        output = engine.forward_backward_batch(batch(), loss)
        ours = gradients()

        engine.optimizer_zero_grad()
        # verl's fused kernels replace the forward function of the model's class, not of its parts.
        plain = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager")
        log_probs, entropy = [], []
        for row, temperature in zip(ids.unbind(), TEMPERATURES, strict=True):
            logits = plain.lm_head(plain.model(row[:-1].unsqueeze(0))[0][0])[:, :vocabulary]
            log_p = torch.log_softmax(logits.float() / temperature, -1)
            log_probs.append(log_p.gather(-1, row[1:].unsqueeze(-1)).squeeze(-1))
            entropy.append(-(log_p.exp() * log_p).sum(-1))
        (torch.cat(log_probs).sum() + torch.cat(entropy).sum()).backward()
        exact = torch.cat([weight.grad.flatten() for weight in plain.parameters()])
    found = output["model_output"]
    differences = {
        "log_probs": (before_last(found["log_probs"]) - torch.cat(log_probs)).abs().max(),
        "entropy": (before_last(found["entropy"]) - torch.cat(entropy)).abs().max(),
        "gradient": (ours - exact).abs().max() / exact.abs().max(),
    }
    print(json.dumps({"engine": type(engine).__name__} | {name: float(value) for name, value in differences.items()}))


if __name__ == "__main__":
    main(sys.argv[1], "fused" in sys.argv[2:])
