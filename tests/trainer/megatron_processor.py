# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The head of verl's Megatron engine on the CPU, split over processes; prints what differs from the definition.

``VERL_PLATFORM=cpu python megatron_processor.py PROCESSES STORE``, with megatron-core on the path; without a model,
whose layers need a GPU. STORE is a file by which the processes find each other.
"""

import json
import sys
from types import SimpleNamespace

import torch

HEAD, VOCABULARY, PLACEHOLDER = 320, 299, 5
LENGTH, RESPONSES = 9, 3
TEMPERATURES = (1.0, 1.05, 1.7)


def main(rank: int, processes: int, store: str) -> None:
    from megatron.core import parallel_state
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.megatron import MegatronEngineWithLMHead

    import erpo.trainer.engine  # noqa: F401

    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=processes, store=torch.distributed.FileStore(store, processes)
    )
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=processes)
    engine_class = EngineRegistry.get_engine_cls("language_model", "megatron")
    engine = object.__new__(engine_class)
    processor = SimpleNamespace(image_token_id=PLACEHOLDER, video_token_id=PLACEHOLDER)
    engine.model_config = SimpleNamespace(tokenizer=range(VOCABULARY), processor=processor)
    engine.engine_config = SimpleNamespace(entropy_from_logits_with_chunking=False)

    torch.manual_seed(0)
    logits = (torch.randn(RESPONSES, LENGTH, HEAD) * 4).bfloat16().requires_grad_()
    labels = torch.randint(6, VOCABULARY, (RESPONSES, LENGTH))
    temperatures = torch.tensor(TEMPERATURES).unsqueeze(-1).expand(RESPONSES, LENGTH).contiguous()
    weights = torch.linspace(-1, 1, RESPONSES * LENGTH).view(RESPONSES, LENGTH)

    part = HEAD // processes
    mine = slice(rank * part, (rank + 1) * part)

    def measure(engine_class: type) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        found = engine_class._lm_head_logits_processor(
            engine,
            logits[..., mine] * 1,
            labels,
            temperatures.clone(),
            calculate_sum_pi_squared=False,
            calculate_entropy=True,
            distillation_use_topk=False,
            distillation_only=False,
            logits_processor_func=None,
            batch=None,
            data_format="bshd",
        )
        (weights * found["log_probs"]).sum().backward()
        gradient, logits.grad = logits.grad, None
        return found, gradient

    never = (torch.arange(HEAD) >= VOCABULARY) | (torch.arange(HEAD) == PLACEHOLDER)
    log_p = torch.log_softmax((logits.float() / temperatures.unsqueeze(-1)).masked_fill(never, -1e9), -1)
    log_probs = log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    (weights * log_probs).sum().backward()
    exact_gradient, logits.grad = logits.grad, None
    differences = {}
    for name, measured in (("ours", engine_class), ("verls", MegatronEngineWithLMHead)):
        found, gradient = measure(measured)
        differences[name] = {
            "log_probs": float((found["log_probs"] - log_probs).abs().max()),
            "entropy": float((found["entropy"] + (log_p.exp() * log_p).sum(-1)).abs().max()),
            "gradient": float((gradient - exact_gradient)[..., mine].abs().max()),
        }
    if rank == 0:
        print(json.dumps({"engine": engine_class.__name__} | differences))


if __name__ == "__main__":
    count = int(sys.argv[1])
    torch.multiprocessing.spawn(main, (count, sys.argv[2]), nprocs=count)
