# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The engine's log-probs, entropies and gradients on bf16 logits, against log_softmax(z.float() / T)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils import torch_functional as verl_F
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.trainer import log_probs
from erpo.trainer.engine import PerResponseTemperatureEngine

LENGTHS = (7, 12, 3)
HEAD = 320  # rows of the head
TEMPERATURES = [round(1 + 0.05 * i, 2) for i in range(21)]
LAYOUTS = ["packed", "padded"]
# Rounding of float32, whose last place at 20 is 2e-6; a rounded T is off by 2e-2.
VALUES = {"rtol": 0.0, "atol": 2e-6}
# A gradient has the logits' dtype: bf16 keeps 8 bits, so its last place is 2 ** -8 of the value.
GRADIENTS = {"rtol": 2**-7, "atol": 1e-8}


def engine_of(engine_class, vocabulary, processor=None):
    """verl's methods without verl's model: they read these attributes only."""
    engine = object.__new__(engine_class)
    engine.pad_to_length, engine.use_ulysses_sp = False, False
    engine.engine_config = SimpleNamespace(entropy_checkpointing=False, entropy_from_logits_with_chunking=False)
    engine.compute_entropy_from_logits = verl_F.entropy_from_logits
    engine.model_config = SimpleNamespace(tokenizer=range(vocabulary), processor=processor)
    return engine


def results(engine_class, logits, temperatures, layout, *, vocabulary=HEAD, entropy=True, processor=None, tokens=HEAD):
    """Log-probs, entropies and the gradient of a sum that weighs both, one row a token, without padding.

    Args:
        logits: Of all tokens, (tokens, rows of the head).
        temperatures: One per response.
    """
    torch.manual_seed(3)
    ids = torch.nested.as_nested_tensor([torch.randint(tokens, (n,)) for n in LENGTHS], layout=torch.jagged)
    positions = torch.nested.as_nested_tensor([torch.arange(n) for n in LENGTHS], layout=torch.jagged)
    batch = TensorDict({"input_ids": ids, "position_ids": positions}, batch_size=len(LENGTHS))
    batch["temperature"] = torch.tensor(temperatures)
    tu.assign_non_tensor(batch, use_remove_padding=layout == "packed", calculate_entropy=entropy)
    engine = engine_of(engine_class, vocabulary, processor)
    _, output_args = engine.prepare_model_inputs(batch)

    leaf = logits.clone().requires_grad_()
    places = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    if layout == "packed":
        shaped = (leaf * 1).unsqueeze(0)
    else:
        shaped = torch.zeros(*places.shape, HEAD, dtype=logits.dtype).masked_scatter(places.unsqueeze(-1), leaf)
    found = engine.prepare_model_outputs(SimpleNamespace(logits=shaped), output_args, batch, None)
    found = {name: value.values() for name, value in found.items()}
    weigh(found).backward()
    return {name: value.detach().float() for name, value in found.items()} | {"gradient": leaf.grad.float()}


def weigh(found):
    """A loss in which every token counts differently, its entropy too."""
    weights = torch.linspace(-1, 1, sum(LENGTHS))
    return sum((weights.roll(i) * value).sum() for i, value in enumerate(found.values()))


def exact(logits, temperatures, *, vocabulary=HEAD, entropy=True, tokens=HEAD):
    """The same by the definition, in float32."""
    torch.manual_seed(3)
    labels = torch.cat([torch.randint(tokens, (n,)) for n in LENGTHS]).roll(-1)
    leaf = logits.clone().requires_grad_()
    per_token = torch.tensor(temperatures).repeat_interleave(torch.tensor(LENGTHS)).unsqueeze(-1)
    log_p = torch.log_softmax(leaf[:, :vocabulary].float() / per_token, -1)
    found = {"log_probs": log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)}
    if entropy:
        found["entropy"] = -(log_p.exp() * log_p).sum(-1)
    weigh(found).backward()
    return {name: value.detach() for name, value in found.items()} | {"gradient": leaf.grad.float()}


def bf16_logits():
    """Peaked rows, as a trained model's are."""
    torch.manual_seed(0)
    logits = torch.randn(sum(LENGTHS), HEAD) * 3
    logits[torch.arange(len(logits)), torch.randint(HEAD, (len(logits),))] += 12
    return logits.bfloat16()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = GRADIENTS if name == "gradient" else VALUES
        torch.testing.assert_close(found[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_bf16_logits_are_divided_in_float32(layout, temperature):
    for temperatures in ([temperature] * 3, [1.0, temperature, 2.0]):  # one for all, and mixed
        found = results(PerResponseTemperatureEngine, bf16_logits(), temperatures, layout)
        assert_equal(found, exact(bf16_logits(), temperatures))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("temperature", [1.05, 1.2])
def test_verls_own_engine_does_not(layout, temperature):
    found = results(FSDPEngineWithLMHead, bf16_logits(), [temperature] * 3, layout)
    expected = exact(bf16_logits(), [temperature] * 3)
    assert (found["log_probs"] - expected["log_probs"]).abs().max() > 1e-2
    with pytest.raises(AssertionError, match="log_probs"):
        assert_equal(found, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pieces_make_no_difference(layout, monkeypatch):
    whole = results(PerResponseTemperatureEngine, bf16_logits(), [1.0, 1.3, 1.7], layout)
    monkeypatch.setattr(log_probs, "_PIECE", 5 * HEAD)  # 22 tokens in pieces of 5
    assert_equal(results(PerResponseTemperatureEngine, bf16_logits(), [1.0, 1.3, 1.7], layout), whole)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_log_probs_need_no_entropy(layout):
    temperatures = [1.0, 1.3, 1.7]
    found = results(PerResponseTemperatureEngine, bf16_logits(), temperatures, layout, entropy=False)
    assert_equal(found, exact(bf16_logits(), temperatures, entropy=False))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_the_head_that_are_no_token_have_no_probability(layout):
    found = results(
        PerResponseTemperatureEngine, bf16_logits(), [1.0, 1.3, 1.7], layout, vocabulary=HEAD - 21, tokens=HEAD - 21
    )
    expected = exact(bf16_logits(), [1.0, 1.3, 1.7], vocabulary=HEAD - 21, tokens=HEAD - 21)
    assert_equal(found, expected)
    assert not found["gradient"][:, -21:].any()


def test_placeholders_of_images_have_no_probability():
    processor = SimpleNamespace(image_token_id=5, video_token_id=6)
    temperatures = [1.0, 1.3, 1.7]
    found = results(PerResponseTemperatureEngine, bf16_logits(), temperatures, "packed", processor=processor)
    masked = bf16_logits()
    masked[:, 5:7] = -1e9
    # No label of this batch is one of them.
    assert_equal(found, exact(masked, temperatures))


def test_a_placeholder_in_a_prompt_makes_no_number_infinite():
    logits, labels = bf16_logits(), torch.full((sum(LENGTHS),), 5)
    leaf = logits.clone().requires_grad_()
    found, entropy = log_probs.token_log_probs(
        leaf * 1, labels, torch.full(labels.shape, 1.2), vocabulary=HEAD, banned=(5,)
    )
    (found.sum() * 1e3 + entropy.sum() * 1e3).backward()
    assert not found.any() and entropy.isfinite().all() and leaf.grad.isfinite().all()


@pytest.mark.parametrize("arguments", [[], ["fused"]], ids=["unfused", "fused"])
def test_verls_fsdp2_trains_through_it(tmp_path, arguments):
    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    script = Path(__file__).with_name("fsdp_engine.py")
    environment = {**os.environ, "VERL_PLATFORM": "cpu"}
    done = subprocess.run(
        [sys.executable, script, tmp_path, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("engine") == "PerResponseTemperatureEngine"
    assert max(found.values()) < 1e-6
