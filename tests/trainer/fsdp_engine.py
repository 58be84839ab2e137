# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One forward and backward pass of verl's FSDP2 on the CPU through our engine; prints what differs from the definition.

``VERL_PLATFORM=cpu python fsdp_engine.py MODEL_FOLDER``, in a process of its own: it starts a process group.
"""

import json
import sys

import torch
from tensordict import TensorDict

LENGTHS = (7, 12, 3)
TEMPERATURES = (1.0, 1.2, 1.5)


def main(model: str) -> None:
    from verl.trainer.config import CheckpointConfig
    from verl.utils import tensordict_utils as tu
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
    from verl.workers.engine.base import EngineRegistry

    torch.distributed.init_process_group("cpu:gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    config = HFModelConfig(
        path=model,
        external_lib="erpo.trainer.engine",
        use_remove_padding=False,
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
        made = TensorDict(columns, batch_size=len(LENGTHS))
        tu.assign_non_tensor(made, use_remove_padding=False, calculate_entropy=True, temperature=1.0)
        return made

    def loss(model_output: dict, data: TensorDict, dp_group: object) -> tuple[torch.Tensor, dict]:
        return model_output["log_probs"].values().sum() + model_output["entropy"].values().sum(), {}

    def gradients() -> torch.Tensor:
        return torch.cat([weight.grad.full_tensor().flatten() for weight in engine.module.parameters()])

    with engine.train_mode():
        engine.optimizer_zero_grad()
        total, output = engine.forward_step(batch(), loss, forward_only=False)
        total.backward()
        ours = gradients()

        engine.optimizer_zero_grad()
        inputs, _ = engine.prepare_model_inputs(batch())
        padded = engine.module(**inputs, use_cache=False).logits
        logits = torch.cat([row[:n] for row, n in zip(padded, LENGTHS, strict=True)])[:, :vocabulary]
        temperatures = torch.tensor(TEMPERATURES).repeat_interleave(torch.tensor(LENGTHS)).unsqueeze(-1)
        log_p = torch.log_softmax(logits.float() / temperatures, -1)
        log_probs = log_p.gather(-1, ids.values().roll(-1).unsqueeze(-1)).squeeze(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        (log_probs.sum() + entropy.sum()).backward()
        exact = gradients()
    found = output["model_output"]
    differences = {
        "log_probs": (found["log_probs"].values() - log_probs).abs().max(),
        "entropy": (found["entropy"].values() - entropy).abs().max(),
        "gradient": (ours - exact).abs().max() / exact.abs().max(),
    }
    print(json.dumps({"engine": type(engine).__name__} | {name: float(value) for name, value in differences.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
