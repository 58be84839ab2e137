# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Every loss of verl at mixed temperatures: one update on recorded rollouts, by verl's worker and FSDP2 on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

from erpo.tasks.arithmetic.model import build_model, build_tokenizer

ROLLOUTS = Path(__file__).parents[1] / "golden" / "rollouts.parquet"
# Where the ratio is 1, each loss has the gradient of -A log pi_T: as a mean over the tokens, or over the means of the
# responses. clip_cov leaves some tokens out by their covariance, whatever the ratio; geo_mean is a mean over the
# micro-batch, so that the gradients of micro-batches add up.
LOSSES = {
    "vanilla": "tokens",
    "dppo_tv": "tokens",
    "dppo_kl": "tokens",
    "gspo": "tokens",
    "sapo": "responses",
    "gpg": "tokens",
    "clip_cov": "tokens",
    "kl_cov": "tokens",
    "geo_mean": "responses",
    "dro": "tokens",
    "cispo": "tokens",
    "bypass_mode": "tokens",
}
EACH_LOSS = pytest.mark.parametrize("loss", LOSSES)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("losses_on_fsdp2.py"), folder, ROLLOUTS],
        env={**os.environ, "VERL_PLATFORM": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_loss_of_verl_is_in_the_table():
    assert LOSSES.keys() == POLICY_LOSS_REGISTRY.keys()


def test_old_log_probs_are_those_of_each_responses_temperature(found):
    assert found["engine"] == "PerResponseTemperatureEngine"
    assert found["temperatures"] == [0.5, 1.0, 1.5, 2.0]
    assert found["log_probs"] < 2e-6


@EACH_LOSS
def test_ratio_is_one_in_the_first_update_and_every_weight_moves(found, loss):
    own = found["losses"][loss]["own"]
    assert own["micro_batches"] == 4
    assert own["log_ratio"] < 1e-6 and abs(own.get("ppo_kl", 0.0)) < 1e-6
    assert own.get("pg_clipfrac", 0.0) <= (0.02 if loss == "clip_cov" else 0)
    assert abs(own["loss"]) < 1 and own["least_moved"] > 9e-4  # the learning rate is 1e-3


@EACH_LOSS
def test_gradient_is_that_of_the_definition(found, loss):
    own, exact = found["losses"][loss]["own"], found["grad_norm"][LOSSES[loss]]
    if loss == "geo_mean":
        exact *= own["micro_batches"]
    assert own["grad_norm"] == pytest.approx(exact, rel=2e-2 if loss == "clip_cov" else 1e-5)


@EACH_LOSS
def test_with_old_log_probs_at_one_temperature_the_ratio_is_not_one(found, loss):
    own, control = (found["losses"][loss][name] for name in ("own", "at_one"))
    assert control["log_ratio"] > 0.5
    if loss == "gpg":  # the one loss that reads no old log-probs
        assert control["loss"] == own["loss"]
    else:
        assert abs(control["ppo_kl"]) > 0.02
        assert abs(control["loss"] - own["loss"]) > 4e-4


@EACH_LOSS
def test_with_verls_own_engine_neither_ratio_nor_gradient_is_right(found, loss):
    own, control = (found["losses"][loss][name] for name in ("own", "verls"))
    assert control["log_ratio"] > 0.5
    assert control["grad_norm"] / own["grad_norm"] > 1.03


def test_kl_in_the_loss_is_taken_at_each_responses_temperature(found):
    others = found["others"]
    assert others["kl"]["kl_loss"] == pytest.approx(others["kl_exact"], rel=1e-5) and others["kl_exact"] > 0.01
    assert others["kl"]["grad_norm"] == pytest.approx(others["kl_exact_grad_norm"], rel=1e-5)
    assert others["kl"]["least_moved"] > 9e-4
    # A reference that is the model itself, and the control.
    assert abs(others["kl_of_itself"]) < 1e-9
    assert others["kl_at_one"] > 0.01


def test_kl_in_the_reward_is_taken_at_each_responses_temperature(found):
    assert found["others"]["reward_of_itself"] < 1e-6
    assert found["others"]["reward_at_one"] > 0.1


def test_entropy_bonus_is_of_each_responses_temperature(found):
    others = found["others"]
    assert others["entropy"]["entropy_loss"] == pytest.approx(others["entropy_exact"], rel=1e-6)
    assert others["entropy"]["grad_norm"] == pytest.approx(others["entropy_exact_grad_norm"], rel=1e-5)
    assert others["entropy_after"] > others["entropy_exact"] + 0.01


def test_gradient_and_log_ratio_go_with_one_over_the_temperature(found):
    """The model is almost uniform at every T, so that of T's effect on the gradient little but the factor is left."""
    for values in found["by_temperature"].values():
        cool, base, hot = values  # T = 0.5, 1, 2
        assert cool / base == pytest.approx(2, rel=0.1)
        assert hot / base == pytest.approx(1 / 2, rel=0.1)


def test_value_head_never_sees_a_temperature(found):
    critic = found["critic"]
    assert critic["engine"] == "FSDPEngineWithValueHead"
    assert critic["values_when_hot"] == critic["weights_when_hot"] == 0
    assert 0 < critic["update"]["critic/vf_loss"] < 10 and critic["update"]["least_moved"] > 9e-4
    assert critic["actor"]["log_ratio"] < 1e-6 and critic["actor"]["least_moved"] > 9e-4
