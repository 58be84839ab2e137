# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a step moves through the trainer's process: ERPO's trainer against verl's, on synthetic trajectories.

Both trainers do their own part of a step by their own methods, on a real TransferQueue, with trajectories that real
agent-loop workers wrote. Only the tokens, rewards and log-probs are made up, in place of engine, scorer and model.
"""

import pickle
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig

from benchmarks.overhead import composed

# The shape that the figures are projected to, from two lengths: prompts, responses of each, tokens of a response.
SHAPE = (1024, 16, 8192)
STAGES = ("sample", "old_log_prob", "advantage", "metrics")
ROUNDS = 3
_MOVES = ("kv_batch_get", "kv_batch_get_by_meta", "kv_batch_put", "kv_list")


def measure(prompts: int = 64, n: int = 16, tokens: int = 512) -> dict[str, Any]:
    """Bytes and seconds per response in the trainer's process, ours beside verl's.

    Args:
        prompts: Groups of a step.
        n: Responses of each.
        tokens: Mean length of a response; half of it is measured too.

    Returns:
        ``bytes_per_response`` and ``seconds_per_response`` by trainer and stage at ``tokens``; ``bytes_ratio_to_verl``
        and ``seconds_ratio_to_verl`` of their sums; ``gib_at_1024x16x8192`` by trainer, by a line through both lengths.
    """
    import ray
    import transfer_queue as tq

    from erpo.platform.cpu import activate

    activate()
    moved: dict[tuple[str, int], dict[str, float]] = {}
    seconds: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as scratch:
        _write_model(Path(scratch) / "model")
        ray.init(num_cpus=32, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level=40)
        try:
            for length in (tokens // 2, tokens):
                config = _settings(Path(scratch), prompts, n, length)
                tq.init(config.transfer_queue)
                trainers = {name: _trainer(name, config) for name in ("verl", "ours")}
                rounds = [{name: _step(trainer, length) for name, trainer in trainers.items()} for _ in range(ROUNDS)]
                for name in trainers:
                    moved[name, length] = {s: rounds[-1][name][s][0] / (prompts * n) for s in STAGES}
                    seconds[name] = {s: median(r[name][s][1] for r in rounds) / (prompts * n) for s in STAGES}
        finally:
            tq.close()
            ray.shutdown()
    return {"prompts": prompts, "n": n, "tokens": tokens, **compare(moved, seconds, tokens)}


def compare(
    moved: dict[tuple[str, int], dict[str, float]], seconds: dict[str, dict[str, float]], tokens: int
) -> dict[str, Any]:
    """Sums, ratios and projection.

    Args:
        moved: Bytes per response, by trainer and mean length, by stage.
        seconds: Seconds per response, by trainer, by stage.
        tokens: The longer of the two lengths; the other is half of it.
    """
    groups, n, length = SHAPE
    totals = {key: sum(stages.values()) for key, stages in moved.items()}
    per_token = {name: (totals[name, tokens] - totals[name, tokens // 2]) / (tokens - tokens // 2) for name in seconds}
    return {
        "bytes_per_response": {name: {**moved[name, tokens], "all": totals[name, tokens]} for name in seconds},
        "seconds_per_response": {name: {**stages, "all": sum(stages.values())} for name, stages in seconds.items()},
        "bytes_ratio_to_verl": totals["ours", tokens] / totals["verl", tokens],
        "seconds_ratio_to_verl": sum(seconds["ours"].values()) / sum(seconds["verl"].values()),
        f"gib_at_{groups}x{n}x{length}": {
            name: groups * n * (totals[name, tokens] + (length - tokens) * rate) / 2**30
            for name, rate in per_token.items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """The result as a table in Markdown."""
    lines = ["| stage | verl, kB | ours, kB | verl, ms | ours, ms |", "|---|---|---|---|---|"]
    for stage in (*STAGES, "all"):
        cells = [
            f"{result[quantity][name][stage] * 1000**exponent:.3f}"
            for quantity, exponent in (("bytes_per_response", -1), ("seconds_per_response", 1))
            for name in ("verl", "ours")
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _settings(folder: Path, prompts: int, n: int, tokens: int) -> DictConfig:
    return composed(
        [
            "experiment=cpu_arithmetic",
            "method=erpo",
            "erpo.groups.drop=[]",
            # Responses to read are a few groups' every few steps.
            "erpo.samples.every=0",
            "algorithm.filter_groups.enable=false",
            f"data.train_batch_size={prompts}",
            # Lengths vary by half around their mean.
            f"data.max_response_length={tokens * 3 // 2}",
            f"actor_rollout_ref.rollout.n={n}",
            f"actor_rollout_ref.rollout.max_model_len={tokens * 3}",
            f"actor_rollout_ref.model.path={folder}/model",
            "actor_rollout_ref.rollout.agent.num_workers=2",
            f"trainer.default_local_dir={folder}/run",
        ]
    )


def _write_model(folder: Path) -> None:
    from erpo.tasks.arithmetic.model import build_model, build_tokenizer

    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class MadeUpServer:
    """Stands where verl's client of the rollout servers stands: responses of random tokens."""

    def __init__(self, tokens: int, eos_token_id: int) -> None:
        self.tokens = tokens
        self.eos_token_id = eos_token_id
        self.served = 0

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> Any:
        """A response of a length between half and one and a half of the mean one, the same lengths in every run."""
        from verl.workers.rollout.replica import TokenOutput

        length = self.tokens // 2 + self.served * 7919 % (self.tokens + 1)
        self.served += 1
        return TokenOutput(
            token_ids=[*random.choices(range(3, 10), k=length - 1), self.eos_token_id],
            log_probs=[-random.random() for _ in range(length)],
            stop_reason="completed",
            extra_fields={"global_steps": 0, "min_global_steps": 0, "max_global_steps": 0},
        )


class MadeUpScorer:
    """Stands where verl's reward workers stand: a third of the groups is all-correct, all-wrong and mixed each."""

    async def compute_score(self, data: Any) -> dict[str, Any]:
        """Score one response."""
        kind = int(data.non_tensor_batch["index"][0]) % 3
        acc = float(random.random() < 0.5 if kind == 2 else kind)
        return {"reward_score": acc, "reward_extra_info": {"acc": acc}}


def _trainer(name: str, config: DictConfig) -> Any:
    """A trainer as verl builds it, with the attributes that its driver's part of a step needs."""
    import ray
    from verl.trainer.ppo.v1 import PPOTrainerSync
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ

    from erpo.tasks.arithmetic.model import build_tokenizer
    from erpo.tracker import PromptTracker
    from erpo.trainer.trainer import ErpoTrainerSync

    trainer_class, manager_class = PPOTrainerSync, AgentLoopManagerTQ
    if name == "ours":
        trainer_class = ErpoTrainerSync
        manager_class = get_class(config.actor_rollout_ref.rollout.agent.agent_loop_manager_class)
    trainer = trainer_class(config)
    trainer.tokenizer = build_tokenizer()
    trainer.total_training_steps = trainer.longest_training = 1000
    trainer.curr_step_profile = False
    if name == "ours":
        trainer.tracker = PromptTracker(trainer.erpo.schedule)
    trainer.checkpoint_manager = SimpleNamespace(sleep_replicas=lambda: None)
    trainer.resource_pool_manager = SimpleNamespace(get_n_gpus=lambda: 1)
    # The workers' own part: what they write is in TransferQueue before the stage begins.
    trainer.actor_rollout_wg = SimpleNamespace(compute_log_prob=lambda batch: batch)
    trainer.agent_loop_manager = manager_class.create(
        config=config,
        llm_client=MadeUpServer(config.data.max_response_length * 2 // 3, trainer.tokenizer.eos_token_id),
        reward_loop_worker_handles=[ray.remote(MadeUpScorer).options(num_cpus=0).remote()],
    )
    trainer.global_steps = 0
    return trainer


def _step(trainer: Any, tokens: int) -> dict[str, tuple[int, float]]:
    """One step of a trainer; bytes and seconds of every stage."""
    import transfer_queue as tq

    trainer.global_steps += 1
    prompts = trainer.config.data.train_batch_size
    trainer._submit_batch_to_rollout(_prompts(prompts, trainer.global_steps))
    while sum(tag.get("status") == "finished" for tag in tq.kv_list("train").get("train", {}).values()) < prompts:
        time.sleep(0.5)
    results: dict[str, tuple[int, float]] = {}
    metrics: dict[str, Any] = {"actor/grad_norm": 1.0}

    def sample() -> Any:
        batch, _ = trainer.replay_buffer.sample(
            global_steps=trainer.global_steps, partition_id="train", batch_size=prompts
        )
        trainer.on_sample_end()
        return batch

    batch, results["sample"] = _measured(sample)
    _write_log_probs(batch)
    batch, results["old_log_prob"] = _measured(lambda: trainer._compute_old_log_prob(batch, metrics))
    batch, results["advantage"] = _measured(lambda: trainer._compute_advantage(batch, metrics))
    timing = dict.fromkeys(("step", "gen", "update_actor", "adv", "old_log_prob"), 1.0)
    _, results["metrics"] = _measured(lambda: trainer._compute_metrics(batch, metrics, timing, trainer.global_steps, 0))
    tq.kv_clear(keys=batch.keys, partition_id="train")
    if hasattr(trainer, "erpo"):
        # As at the beginning of a step.
        trainer.batch_groups.clear()
        trainer.settled.clear()
    return results


def _prompts(count: int, step: int) -> Any:
    """A batch as verl's data set and trainer make it, of a text as long as a problem of mathematics."""
    import uuid

    import numpy as np
    from verl.utils import tensordict_utils as tu

    text = "12+34=" * 40
    columns = {
        "raw_prompt": [[{"role": "user", "content": f"{i}+{text}"}] for i in range(count)],
        "data_source": ["math"] * count,
        "ability": ["math"] * count,
        "reward_model": [{"style": "rule", "ground_truth": str(i)} for i in range(count)],
        "extra_info": [{"index": i, "prompt_id": f"prompt-{i}", "problem": text} for i in range(count)],
        "index": list(range(count)),
        "uid": [str(uuid.uuid4()) for _ in range(count)],
    }
    arrays = {}
    for name, values in columns.items():
        arrays[name] = np.empty(count, dtype=object)
        arrays[name][:] = values
    batch = tu.get_tensordict(arrays)
    tu.assign_non_tensor_data(batch, "global_steps", step)
    return batch


def _write_log_probs(batch: Any) -> None:
    """What the training workers would have written: log-probs and entropy of the whole sequences."""
    import torch
    import transfer_queue as tq
    from tensordict import TensorDict

    lengths = [tag["seq_len"] for tag in batch.tags]
    values = {
        name: torch.nested.as_nested_tensor([-torch.rand(length) for length in lengths], layout=torch.jagged)
        for name in ("log_probs", "entropy")
    }
    tq.kv_batch_put(
        keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(values, batch_size=len(lengths))
    )


def _measured(stage: Callable[[], Any]) -> tuple[Any, tuple[int, float]]:
    """The stage's result; the bytes that it moved between this process and TransferQueue, and its seconds."""
    with _recorded() as moves:
        begin = time.perf_counter()
        result = stage()
        seconds = time.perf_counter() - begin
    return result, (sum(size_of(data) for data in moves), seconds)


@contextmanager
def _recorded() -> Iterator[list[Any]]:
    """Note what goes through TransferQueue's calls; sizes are taken later, so that they cost the stage nothing."""
    import transfer_queue as tq

    moves: list[Any] = []
    originals = {name: getattr(tq, name) for name in _MOVES}

    def recording(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = originals[name](*args, **kwargs)
            # The trainers take columns out of what they get.
            moved = [kwargs.get("fields"), kwargs.get("tags")] if name == "kv_batch_put" else [result]
            moves.extend(dict(data.items()) if hasattr(data, "items") else data for data in moved if data is not None)
            return result

        return call

    for name in _MOVES:
        setattr(tq, name, recording(name))
    try:
        yield moves
    finally:
        for name, original in originals.items():
            setattr(tq, name, original)


def size_of(data: Any) -> int:
    """Bytes of columns: of a tensor its numbers, of anything else its pickle."""
    import torch

    if isinstance(data, dict) and any(isinstance(value, torch.Tensor) for value in data.values()):
        return sum(size_of(value) for value in data.values())
    if isinstance(data, torch.Tensor):
        return data.values().nbytes if data.is_nested else data.nbytes
    data = data.tolist() if hasattr(data, "tolist") else data
    # tensordict's own kind of list cannot be pickled on Python 3.10.
    return len(pickle.dumps(list(data) if isinstance(data, list) else data))
