# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One forward and backward pass of verl's FSDP2 on the CPU through our engine, on responses to prompts with images.

``VERL_PLATFORM=cpu python engine_with_images.py FOLDER [fused]``, in a process of its own: it starts a process group.
FOLDER is what ``tiny_qwen2_vl.py`` wrote. Prints what differs from the same, computed row by row by transformers alone.
"""

import asyncio
import json
import sys
from types import SimpleNamespace

import torch
from fsdp_engine import assign_settings, settings_of, started
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from transformers import Qwen2VLForConditionalGeneration

RESPONSE = 9
# Of prompts with one picture, another one, two, and none: rows 0, 1, 4 and 6.
ROWS = (0, 1, 4, 6)
TEMPERATURES = (1.0, 1.2, 1.5, 1.9)


def rollouts(folder: str, config) -> list[dict]:
    """Prompts as verl's agent loop makes them, with responses of random tokens, and what it keeps of their images."""
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
    from verl.utils.dataset.rl_dataset import RLHFDataset
    from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

    settings = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": f"{folder}/cache"})
    dataset = RLHFDataset(f"{folder}/train.parquet", config.tokenizer, settings, processor=config.processor)
    builder = create_continuous_token_builder(config.tokenizer, hf_model_type="qwen2_vl", processor=config.processor)
    worker = object.__new__(AgentLoopWorker)
    worker.tokenizer, worker.processor, worker.mm_processor_kwargs = config.tokenizer, config.processor, {}
    made = []
    for number in ROWS:
        messages = dataset[number]["raw_prompt"]
        images, _, _ = asyncio.run(RLHFDataset.process_multi_modal_info(messages, 14, settings))
        prompt = builder.build_initial_tokens(messages, images=images)
        # Letters alone: the rollout never samples a placeholder.
        ids = torch.tensor([prompt + torch.randint(60, (RESPONSE,)).tolist()])
        output = SimpleNamespace(multi_modal_data={"images": images}, mm_processor_kwargs=None)
        inputs = worker._compute_multi_modal_inputs(output, ids[0])
        positions = worker._compute_position_ids(ids, torch.ones_like(ids), inputs)
        made.append({"ids": ids[0], "positions": positions[0], "inputs": inputs})
    return made


def exact(model: str, rows: list[dict], tokenizer, processor) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """Log-probs and entropies of the responses, and the gradient of their sum, one row at a time."""
    plain = Qwen2VLForConditionalGeneration.from_pretrained(model, attn_implementation="eager")
    never = torch.tensor([processor.image_token_id, processor.video_token_id])
    log_probs, entropy = [], []
    for row, temperature in zip(rows, TEMPERATURES, strict=True):
        pictures = {name: row["inputs"][name] for name in ("pixel_values", "image_grid_thw") if name in row["inputs"]}
        ids = row["ids"].unsqueeze(0)
        types = (ids == processor.image_token_id).int()
        logits = plain(ids, mm_token_type_ids=types, **pictures).logits[0, -RESPONSE - 1 : -1, : len(tokenizer)]
        log_p = torch.log_softmax(logits.float().index_fill(-1, never, -1e9) / temperature, -1)
        log_probs.append(log_p.gather(-1, row["ids"][-RESPONSE:].unsqueeze(-1)).squeeze(-1))
        entropy.append(-(log_p.exp() * log_p).sum(-1))
    (torch.cat(log_probs).sum() + torch.cat(entropy).sum()).backward()
    return torch.cat(log_probs), torch.cat(entropy), {name: weight.grad for name, weight in plain.named_parameters()}


def batch_of(rows: list[dict], fused: bool) -> TensorDict:
    """What verl hands its engine: jagged rows, inputs of their images, and our column of temperatures."""
    made = TensorDict(
        {
            "input_ids": torch.nested.as_nested_tensor([row["ids"] for row in rows], layout=torch.jagged),
            "position_ids": torch.nested.as_nested_tensor([row["positions"] for row in rows], layout=torch.jagged),
            "multi_modal_inputs": NonTensorStack(*(row["inputs"] for row in rows)),
            "rollout_temperature": torch.tensor(TEMPERATURES),
            "loss_mask": torch.ones(len(rows), 1),
        },
        batch_size=len(rows),
    )
    assign_settings(made, fused, 2 * max(len(row["ids"]) for row in rows))
    return made


def of_responses(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([row[-RESPONSE - 1 : -1] for row in values.unbind()])


def loss(model_output: dict, data: TensorDict, dp_group: object) -> tuple[torch.Tensor, dict]:
    return of_responses(model_output["log_probs"]).sum() + of_responses(model_output["entropy"]).sum(), {}


def main(folder: str, fused: bool) -> None:
    torch.distributed.init_process_group("cpu:gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    # FSDP2 splits a head that is not the embedding, and verl's fused kernels need it whole.
    model = f"{folder}/tied" if fused else f"{folder}/model"
    config = settings_of(model, fused)
    torch.manual_seed(0)
    rows = rollouts(folder, config)
    # verl's engine replaces the forward functions of the model's classes.
    log_probs, entropy, gradients = exact(model, rows, config.tokenizer, config.processor)
    engine = started(config)
    with engine.train_mode():
        engine.optimizer_zero_grad()
        found = engine.forward_backward_batch(batch_of(rows, fused), loss)["model_output"]
        ours = {name: weight.grad.full_tensor() for name, weight in engine.module.named_parameters()}
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert ours.keys() == gradients.keys()
    differences = {
        "log_probs": float((of_responses(found["log_probs"]) - log_probs).abs().max()),
        "entropy": float((of_responses(found["entropy"]) - entropy).abs().max()),
        "gradient": max(float((ours[name] - gradients[name]).abs().max()) for name in ours) / largest,
        # Of the part that sees: it learns from what is said about its pictures.
        "vision": max(float(ours[name].abs().max()) for name in ours if "visual" in name) / largest,
    }
    print(json.dumps({"engine": type(engine).__name__} | differences))


if __name__ == "__main__":
    main(sys.argv[1], "fused" in sys.argv[2:])
