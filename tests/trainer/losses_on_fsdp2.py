# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One update with each of verl's losses on the CPU: verl's worker and FSDP2, our engine, recorded rollouts, no Ray.

``VERL_PLATFORM=cpu python losses_on_fsdp2.py MODEL_FOLDER ROLLOUTS``, in a process of its own: it starts a process
group. It prints what it found as JSON; ``test_trainer_losses.py`` says what that must be.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

STEP = 3  # of the recorded ones: 32 responses at T = 0.5, 1, 1.5 and 2, of mixed, all-correct and all-wrong groups
NESTED = ("input_ids", "position_ids", "prompts", "responses", "response_mask", "loss_mask", "rm_scores")
PRECISION = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


def read_batch(path: str) -> TensorDict:
    """The recorded responses as verl's workers get them, with nested columns."""
    from verl.utils import tensordict_utils as tu

    rows = pd.read_parquet(path).query(f"step == {STEP}")
    columns = {
        name: torch.nested.as_nested_tensor([torch.tensor(v) for v in rows[f"field/{name}"]], layout=torch.jagged)
        for name in NESTED
    }
    columns["rollout_temperature"] = torch.tensor(rows["field/rollout_temperature"].to_numpy())
    return tu.get_tensordict(columns | {"uid": rows["field/uid"].tolist()})


class Worker:
    """verl's training worker on the CPU, with the weights of the beginning to go back to."""

    def __init__(self, model_type: str, folder: str, batch: TensorDict) -> None:
        from verl.trainer.config import CheckpointConfig
        from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig, TrainingWorkerConfig
        from verl.workers.engine_workers import TrainingWorker

        model = HFModelConfig(
            path=folder,
            external_lib="erpo.trainer.engine",
            use_remove_padding=False,
            override_config={"attn_implementation": "eager"},
        )
        # Other micro-batches in training than for the old log-probs, as in a run.
        engine = FSDPEngineConfig(
            strategy="fsdp2",
            use_torch_compile=False,
            mixed_precision=PRECISION,
            use_dynamic_bsz=True,
            infer_max_token_len_per_gpu=1024,
            max_token_len_per_gpu=128,
        )
        self.worker = TrainingWorker(
            TrainingWorkerConfig(
                model_type=model_type,
                model_config=model,
                engine_config=engine,
                optimizer_config=FSDPOptimizerConfig(lr=1e-3, weight_decay=0.0, total_training_steps=100),
                checkpoint_config=CheckpointConfig(),
            )
        )
        self.worker.reset()
        self.engine = self.worker.engine
        self.first = self.weights()
        self.batch = batch

    def weights(self) -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in self.engine.module.parameters()]

    def begin_again(self) -> None:
        for weight, first in zip(self.engine.module.parameters(), self.first, strict=True):
            weight.data.copy_(first)
        self.engine.optimizer.state.clear()

    @contextmanager
    def with_verls_engine(self) -> Iterator[None]:
        """verl's own engine in the place of ours, which takes the one temperature that verl's trainer hands out."""
        from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

        ours = type(self.engine)
        self.engine.__class__ = FSDPEngineWithLMHead
        try:
            yield
        finally:
            self.engine.__class__ = ours

    def infer(self, name: str = "log_probs", **columns: torch.Tensor) -> torch.Tensor:
        """Log-probs, entropies or values of the responses under the present weights, nested."""
        from verl.utils import tensordict_utils as tu
        from verl.workers.utils.padding import response_from_nested

        data = self.batch.copy()
        data.update(columns)
        tu.assign_non_tensor(data, temperature=1.0, compute_loss=False, calculate_entropy=name == "entropy")
        return response_from_nested(self.worker.infer_batch(data)[name], data["response_mask"])

    def update(self, loss: Any, entropy: bool = False, **columns: torch.Tensor) -> dict[str, float]:
        """One update from the first weights, of all responses together: its metrics, and how far the weights moved."""
        from verl.utils import tensordict_utils as tu

        self.begin_again()
        data = self.batch.copy()
        data.update(columns)
        tu.assign_non_tensor(
            data, temperature=1.0, calculate_entropy=entropy, global_batch_size=32, mini_batch_size=32, epochs=1
        )
        self.worker.set_loss_fn(loss)
        output = self.worker.train_mini_batch(data)
        moved = [float((now - first).abs().max()) for now, first in zip(self.weights(), self.first, strict=True)]
        found = {name.removeprefix("actor/"): float(np.mean(value)) for name, value in output["metrics"].items()}
        return found | {"least_moved": min(moved), "most_moved": max(moved)}


def policy_update(actor: Worker, loss_mode: str = "vanilla", **settings: Any) -> dict[str, float]:
    """One update of the actor; ``log_ratio`` is the largest that the loss was given."""
    from verl.trainer.ppo import core_algos
    from verl.workers.config import FSDPActorConfig, PolicyLossConfig
    from verl.workers.utils.losses import ppo_loss

    columns = {name: settings.pop(name) for name in list(settings) if isinstance(settings[name], torch.Tensor)}
    config = FSDPActorConfig(
        strategy="fsdp2",
        rollout_n=4,
        use_dynamic_bsz=True,
        policy_loss=PolicyLossConfig(loss_mode=loss_mode, dro_beta=0.1),
        **settings,
    )
    verls, seen = core_algos.POLICY_LOSS_REGISTRY[loss_mode], []

    def watched(**given: Any) -> Any:
        log_ratio = (given["log_prob"] - given["old_log_prob"])[given["response_mask"]]
        seen.append(float(log_ratio.detach().abs().max()))
        return verls(**given)

    core_algos.POLICY_LOSS_REGISTRY[loss_mode] = watched
    try:
        found = actor.update(partial(ppo_loss, config=config), config.entropy_coeff != 0, **columns)
    finally:
        core_algos.POLICY_LOSS_REGISTRY[loss_mode] = verls
    return found | {"log_ratio": max(seen), "micro_batches": len(seen)}


def estimated(batch: TensorDict, estimator: str, beta: float = 0.0, **columns: torch.Tensor) -> dict[str, torch.Tensor]:
    """Advantages and returns by verl's estimator, after its KL penalty in the reward where there is one, nested."""
    from verl.protocol import DataProto
    from verl.trainer.ppo.core_algos import FixedKLController
    from verl.trainer.ppo.ray_trainer import apply_kl_penalty, compute_advantage
    from verl.workers.utils.padding import response_to_nested

    columns |= {"response_mask": batch["response_mask"], "token_level_scores": batch["rm_scores"]}
    padded = {name: torch.nested.to_padded_tensor(values, 0) for name, values in columns.items()}
    padded["token_level_rewards"] = padded["token_level_scores"]
    data = DataProto.from_dict(padded, {"uid": np.array(list(batch["uid"]), dtype=object)})
    if beta:
        data, _ = apply_kl_penalty(data, FixedKLController(beta))
    data = compute_advantage(data, estimator, config=OmegaConf.create({}))
    return {name: response_to_nested(data.batch[name], batch["response_mask"]) for name in ("advantages", "returns")}


class Definition:
    """The same by transformers and autograd: log_softmax(z / T) response by response."""

    def __init__(self, folder: str, batch: TensorDict) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        log_probs, entropies = [], []
        temperatures = batch["rollout_temperature"]
        for tokens, prompt, temperature in zip(
            batch["input_ids"].unbind(), batch["prompts"].unbind(), temperatures, strict=True
        ):
            logits = self.model(tokens.unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
            log_p = torch.log_softmax(logits / temperature, dim=-1)
            log_probs.append(log_p.gather(-1, tokens[len(prompt) :].unsqueeze(-1)).squeeze(-1))
            entropies.append(-(log_p.exp() * log_p).sum(-1))
        self.log_probs, self.entropies = torch.cat(log_probs), torch.cat(entropies)

    def grad_norm(self, loss: torch.Tensor) -> float:
        gradients = torch.autograd.grad(loss, list(self.model.parameters()), retain_graph=True)
        return float(torch.cat([gradient.double().flatten() for gradient in gradients]).norm())


def largest(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of two nested columns."""
    return float((one.values() - other.values()).abs().max())


def losses(actor: Worker, at_one: torch.Tensor) -> dict[str, Any]:
    """Every loss of verl, with old log-probs at each response's temperature and with those of one temperature."""
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    found: dict[str, Any] = {}
    for name in list(POLICY_LOSS_REGISTRY):
        found[name] = {"own": policy_update(actor, name), "at_one": policy_update(actor, name, old_log_probs=at_one)}
        with actor.with_verls_engine():
            found[name]["verls"] = policy_update(actor, name)
    return found


def kl_and_entropy(actor: Worker, exact: Definition, at_one: torch.Tensor) -> dict[str, Any]:
    """KL in the loss and in the reward, and the entropy bonus; what they are by the definition."""
    own, advantages = actor.batch["old_log_probs"], actor.batch["advantages"]
    nothing = advantages * 0
    # A reference with other weights, at each response's temperature.
    policy_update(actor, "vanilla")
    reference = actor.infer()
    actor.begin_again()
    difference = reference.values() - exact.log_probs
    exact_kl = (difference.exp() - difference - 1).mean()
    kl = partial(policy_update, actor, use_kl_loss=True, kl_loss_coef=1.0, advantages=nothing)
    bonus = policy_update(actor, entropy_coeff=1.0, advantages=nothing)
    entropy_after = float(actor.infer("entropy").values().mean())
    actor.begin_again()
    return {
        "kl": kl(ref_log_prob=reference),
        "kl_of_itself": kl(ref_log_prob=own)["kl_loss"],
        "kl_at_one": kl(ref_log_prob=at_one)["kl_loss"],
        "kl_exact": float(exact_kl.detach()),
        "kl_exact_grad_norm": exact.grad_norm(exact_kl),
        "reward_of_itself": largest(
            advantages, estimated(actor.batch, "grpo", 0.1, old_log_probs=own, ref_log_prob=own)["advantages"]
        ),
        "reward_at_one": largest(
            advantages, estimated(actor.batch, "grpo", 0.1, old_log_probs=own, ref_log_prob=at_one)["advantages"]
        ),
        "entropy": bonus,
        "entropy_exact": float(exact.entropies.detach().mean()),
        "entropy_exact_grad_norm": exact.grad_norm(exact.entropies.mean()),
        "entropy_after": entropy_after,
    }


def by_temperature(actor: Worker) -> dict[str, Any]:
    """The same responses with the same advantages, all at one T: the gradient, and the log-ratio after one change."""
    columns = {t: torch.full((32,), t) for t in (0.5, 1.0, 2.0)}
    before = {t: actor.infer(rollout_temperature=column) for t, column in columns.items()}
    gradients = {
        t: policy_update(actor, rollout_temperature=column, old_log_probs=before[t])["grad_norm"]
        for t, column in columns.items()
    }
    policy_update(actor)
    after = {t: actor.infer(rollout_temperature=column) for t, column in columns.items()}
    actor.begin_again()
    ratios = {t: float((after[t].values() - before[t].values()).abs().mean()) for t in columns}
    return {"gradient": list(gradients.values()), "log_ratio": list(ratios.values())}


def critic(folder: str, actor: Worker) -> dict[str, Any]:
    """Values, GAE and one update of verl's critic, with the responses' temperatures and without; then the actor's."""
    from verl.utils import model as verl_model
    from verl.workers.config import FSDPCriticConfig
    from verl.workers.utils.losses import value_loss

    torch.manual_seed(0)
    # verl 0.9.1 asks for flash_attention_2 here whatever the settings say, which no CPU has.
    verl_model.load_valuehead_model = lambda local_path, model_config, **_: (
        AutoModelForTokenClassification.from_pretrained(local_path, config=model_config, attn_implementation="eager")
    )
    worker = Worker("value_model", folder, actor.batch)
    hot = torch.full((32,), 2.0)
    values = worker.infer("values")
    advantages = estimated(actor.batch, "gae", values=values)
    loss = partial(value_loss, config=FSDPCriticConfig(strategy="fsdp2", use_dynamic_bsz=True))
    found = worker.update(loss, values=values, returns=advantages["returns"])
    trained = worker.weights()
    worker.update(loss, values=values, returns=advantages["returns"], rollout_temperature=hot)
    differences = [float((one - other).abs().max()) for one, other in zip(trained, worker.weights(), strict=True)]
    worker.begin_again()
    return {
        "engine": type(worker.engine).__name__,
        "update": found,
        "values_when_hot": largest(values, worker.infer("values", rollout_temperature=hot)),
        "weights_when_hot": max(differences),
        "actor": policy_update(actor, advantages=advantages["advantages"]),
    }


def main(model: str, rollouts: str) -> None:
    os.environ.update(WORLD_SIZE="1", RANK="0", MASTER_ADDR="localhost", MASTER_PORT="0")
    torch.distributed.init_process_group("cpu:gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    batch = read_batch(rollouts)
    actor = Worker("language_model", model, batch)
    exact = Definition(model, batch)
    with actor.with_verls_engine():
        at_one = actor.infer()
    batch["old_log_probs"] = actor.infer()
    batch.update(estimated(batch, "grpo"))
    advantages = batch["advantages"].values()
    lengths = batch["responses"].offsets().diff()
    lengths = lengths.repeat_interleave(lengths)
    print(
        json.dumps(
            {
                "engine": type(actor.engine).__name__,
                "temperatures": sorted(set(batch["rollout_temperature"].tolist())),
                "log_probs": float((batch["old_log_probs"].values() - exact.log_probs).abs().max()),
                "grad_norm": {
                    "tokens": exact.grad_norm(-(advantages * exact.log_probs).mean()),
                    "responses": exact.grad_norm(-(advantages * exact.log_probs / lengths).sum() / 32),
                },
                "losses": losses(actor, at_one),
                "others": kl_and_entropy(actor, exact, at_one),
                "by_temperature": by_temperature(actor),
                "critic": critic(model, actor),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
