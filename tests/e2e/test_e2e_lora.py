# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A LoRA adapter of rank 4 through the real trainer: trained, resumed by the same command, evaluated."""

import pytest
import torch
from e2e_runs import RAISED_FAST, small_run, start
from transformers import AutoModelForCausalLM

from erpo.runs import read_groups, read_metrics

pytestmark = [pytest.mark.ray, pytest.mark.long]


@pytest.fixture(scope="module")
def trained(untrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    arguments = small_run(
        untrained,
        folder / "run",
        *RAISED_FAST,
        "actor_rollout_ref.model.lora_rank=4",
        "actor_rollout_ref.model.lora_alpha=8",
        "actor_rollout_ref.model.target_modules=all-linear",
        # verl hands vLLM the adapter alone, so that the base model must be there.
        "actor_rollout_ref.rollout.load_format=safetensors",
        "actor_rollout_ref.actor.optim.lr=1.0e-2",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
        "trainer.save_freq=1",
    )
    for steps in (2, 4):
        run = start(
            folder / f"{steps}.log", "recipe.erpo.main_erpo", [*arguments, f"trainer.total_training_steps={steps}"]
        )
        run.wait()
    evaluation = start(
        folder / "eval.log",
        "recipe.erpo.main_eval",
        [f"model={folder}/run", f"sets=[{untrained}/train.parquet]", "n=2"],
        VERL_PLATFORM="cpu",
    )
    evaluation.wait()
    return folder / "run"


def test_rollout_and_training_agree_with_the_adapter_at_every_temperature(trained):
    metrics = read_metrics(trained)
    assert metrics.index.tolist() == [1, 2, 3, 4]
    assert metrics["actor/grad_norm"].min() > 0
    assert metrics["training/rollout_probs_diff_max"].max() < 1e-6
    assert read_groups(trained)["temperature"].max() == 2.0
    assert metrics.loc[2:, "erpo/raised/probs_diff_max"].max() < 1e-6


def test_the_evaluated_model_is_the_base_model_with_the_adapter(trained, untrained):
    base, merged = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        for path in (untrained / "model", trained / "global_step_4" / "merged")
    )
    adapted = {name.split(".weight")[0] for name, weight in base.state_dict().items() if "proj" in name}
    for name, weight in base.state_dict().items():
        difference = (merged.state_dict()[name] - weight).abs().max() / weight.abs().max()
        # The merged model is bfloat16, which keeps 8 bits.
        assert (difference > 0.02) == (name.split(".weight")[0] in adapted and "bias" not in name), name
    assert list(trained.glob("eval/**/*.md"))
