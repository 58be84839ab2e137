# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the engine measures of the tail, against the definition, and what the trainer makes of it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from test_trainer_engine import HEAD, LENGTHS, bf16_logits, engine_of, results
from transformers import LlamaConfig, LlamaForCausalLM
from verl.utils import tensordict_utils as tu
from verl.utils.experimental.torch_functional import FusedLinearForPPO

from erpo.tracker import Outcome
from erpo.trainer import PROMPT_KEY, RESPONSE_TAG, log_probs
from erpo.trainer.agent_loop import ErpoAgentLoopWorker
from erpo.trainer.config import AccuracyConfig
from erpo.trainer.engine import PerResponseTemperatureEngine
from erpo.trainer.groups import Group, read_groups
from erpo.trainer.heat import HEAT, HEAT_TOKENS, spread
from erpo.trainer.metrics import broken_metrics, lowest_log_probs, tail_metrics

TEMPERATURES = [1.0, 1.3, 1.7]
# Tokens of the responses, and of them those that the model did not write.
RESPONSES, MASKED = (4, 9, 2), {(1, 3), (1, 4)}
VOCABULARY, BANNED = HEAD - 21, (5, 6)


def nested(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def micro_batch(layout, *, temperatures=TEMPERATURES, heat_tokens=512, fused=False):
    torch.manual_seed(3)
    mask = [torch.tensor([int((row, i) not in MASKED) for i in range(n)]) for row, n in enumerate(RESPONSES)]
    batch = TensorDict(
        {
            "input_ids": nested([torch.randint(7, VOCABULARY, (n,)) for n in LENGTHS]),
            "position_ids": nested([torch.arange(n) for n in LENGTHS]),
            "response_mask": nested(mask),
        },
        batch_size=len(LENGTHS),
    )
    batch["temperature"] = torch.tensor(temperatures)
    tu.assign_non_tensor(
        batch,
        **{HEAT_TOKENS: heat_tokens},
        use_remove_padding=layout == "packed",
        use_fused_kernels=fused,
        calculate_entropy=True,
    )
    return batch


def engine():
    return engine_of(
        PerResponseTemperatureEngine, VOCABULARY, SimpleNamespace(image_token_id=BANNED[0], video_token_id=BANNED[1])
    )


def found_in(batch, logits, layout):
    """What the engine gives for logits of all tokens, (tokens, rows of the head)."""
    with torch.no_grad():
        _, output_args = engine().prepare_model_inputs(batch)
        places = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
        shaped = logits.unsqueeze(0)
        if layout == "padded":
            shaped = torch.zeros(*places.shape, HEAD, dtype=logits.dtype).masked_scatter(places.unsqueeze(-1), logits)
        return engine().prepare_model_outputs(SimpleNamespace(logits=shaped), output_args, batch, None)


def by_definition(batch, logits, temperatures):
    """The column token by token: from sorted probabilities, without pieces, layouts or verl."""
    masses, allowed = [], [i for i in range(VOCABULARY) if i not in BANNED]
    first = 0
    for row, (ids, temperature) in enumerate(zip(batch["input_ids"].unbind(), temperatures, strict=True)):
        tail, hotter, lowest, count = 0.0, 0.0, 0.0, 0
        for i in range(RESPONSES[row]):
            if (row, i) in MASKED:
                continue
            token = len(ids) - RESPONSES[row] + i
            z = logits[first + token - 1].double()[allowed]
            for_t = [
                torch.softmax(z / t, -1).sort().values[:-20].sum().item() for t in (temperature, temperature + 0.2)
            ]
            tail, hotter, count = tail + for_t[0], hotter + for_t[1], count + 1
            lowest = min(lowest, torch.log_softmax(z, -1)[allowed.index(int(ids[token]))].item())
        masses.append([count, tail, hotter, lowest])
        first += len(ids)
    return torch.tensor(masses)


def assert_same(found, expected):
    torch.testing.assert_close(torch.stack(found.unbind()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("temperatures", [TEMPERATURES, [1.0] * 3, [2.0] * 3])
def test_masses_and_lowest_log_probs_are_those_of_the_definition(layout, temperatures, monkeypatch):
    monkeypatch.setattr(log_probs, "_PIECE", 5 * HEAD)
    batch = micro_batch(layout, temperatures=temperatures)
    expected = by_definition(batch, bf16_logits() / 4, temperatures)
    assert expected[:, 1].min() > 0.1 and (expected[:, 2] > expected[:, 1]).all()
    assert_same(found_in(batch, bf16_logits() / 4, layout)[HEAT], expected)


@pytest.mark.parametrize("temperatures", [TEMPERATURES, [1.0] * 3])
def test_fused_kernels_measure_the_same(temperatures):
    torch.manual_seed(0)
    hidden, head = torch.randn(sum(LENGTHS), 64), torch.randn(HEAD, 64) * 0.2
    batch = micro_batch("packed", temperatures=temperatures, fused=True)
    with torch.no_grad():
        inputs, output_args = engine().prepare_model_inputs(batch)
        values = FusedLinearForPPO()(hidden.unsqueeze(0), head, inputs["shift_labels"], inputs["temperature"])
        output = SimpleNamespace(log_probs=values[0], entropy=values[1])
        found = engine().prepare_model_outputs(output, output_args, batch, None)
    assert_same(found[HEAT], by_definition(batch, hidden @ head.T, temperatures))
    unfused = found_in(micro_batch("packed", temperatures=temperatures), hidden @ head.T, "packed")
    torch.testing.assert_close(found["log_probs"].values(), unfused["log_probs"].values(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_limit_measures_fewer_places_and_every_log_prob(layout):
    whole = torch.stack(found_in(micro_batch(layout), bf16_logits(), layout)[HEAT].unbind())
    few = torch.stack(found_in(micro_batch(layout, heat_tokens=9), bf16_logits(), layout)[HEAT].unbind())
    assert 0 < few[:, 0].sum() <= 9 < whole[:, 0].sum()
    torch.testing.assert_close(few[:, 3], whole[:, 3])


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_log_probs_and_gradients_are_what_they_were(layout):
    measured = found_in(micro_batch(layout), bf16_logits(), layout)
    plain = found_in(micro_batch(layout, heat_tokens=0), bf16_logits(), layout)
    assert HEAT not in plain
    for name in ("log_probs", "entropy"):
        assert torch.equal(measured[name].values(), plain[name].values())
    # A batch that does not ask, as those of the update: the engine's own test compares its gradients.
    assert results(PerResponseTemperatureEngine, bf16_logits(), TEMPERATURES, layout).keys() == {
        "log_probs",
        "entropy",
        "gradient",
    }


def test_a_model_is_measured_at_each_response_s_own_temperature():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=HEAD, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    batch = micro_batch("padded")
    with torch.no_grad():
        logits = torch.cat([8 * model(ids.unsqueeze(0)).logits[0] for ids in batch["input_ids"].unbind()])
    found = found_in(batch, logits, "padded")
    assert_same(found[HEAT], by_definition(batch, logits, TEMPERATURES))
    with pytest.raises(AssertionError):
        assert_same(found[HEAT], by_definition(batch, logits, [1.0] * 3))


def test_places_are_spread_over_the_batch():
    assert spread(5, 9).tolist() == [0, 1, 2, 3, 4]
    for places in (513, 4096, 16 * 1024):
        chosen = spread(places, 512)
        assert 380 < len(chosen) <= 512 and chosen.min() >= 0 and chosen.max() < places
        assert chosen.diff().max() < 4 * places / len(chosen)
        # Rows of equal length: every eighth of them is hit.
        assert (chosen % 8).bincount(minlength=8).min() > 30


def group(uid, accuracies, broken=(), outcome=Outcome.MIXED, temperature=1.0):
    n = len(accuracies)
    return Group(
        uid=uid, key=b"k" * 16, step=1, temperature=temperature, expected=n, accuracies=accuracies,
        correct=int(sum(accuracies)), lengths=[4] * n, truncated=0, outcome=outcome, broken=list(broken),
        trajectory_keys=[f"{uid}_{i}_0" for i in range(n)],
    )  # fmt: skip


def test_broken_responses_of_mixed_groups_are_counted_by_what_broke_them():
    mixed = group("a", [1.0, 0.0, 0.0, 0.0], [False, True, False, False])
    groups = [mixed, group("b", [0.0, 0.0], [True, True], outcome=Outcome.ALL_WRONG), group("c", [1.0, 0.0])]
    rows = [(g, key) for g in groups for key in g.trajectory_keys]
    # The first session of "a" has an output before its last one.
    rows.insert(0, (mixed, "a_0_-1"))
    rare = math.log(1e-5)
    lowest = [rare - 1, -1.0, -1.0, rare - 0.1, rare + 0.1, -1.0, -1.0, -1.0, rare - 5]
    arguments = ([key for _, key in rows], [g for g, _ in rows])
    metrics = broken_metrics(*arguments, np.array(lowest), AccuracyConfig(), 1e-5)
    # Wrong: cut, rare, neither ("a"); rare ("c"). Right: a rare token in its first output ("a"), none ("c").
    assert metrics == {"erpo/heat/broken_wrong": 3 / 4, "erpo/heat/broken_right": 1 / 2}
    # An unknown log-prob of a mixed group leaves the share out; one of another group does not.
    assert broken_metrics(*arguments, np.array([*lowest[:-1], np.nan]), AccuracyConfig(), 1e-5) == {}
    unknown = [*lowest[:5], np.nan, *lowest[6:]]
    assert broken_metrics(*arguments, np.array(unknown), AccuracyConfig(), 1e-5) == metrics
    assert broken_metrics(["b_0_0"], [groups[1]], np.zeros(1), AccuracyConfig(), 1e-5) == {}


@pytest.mark.parametrize(
    ("reported", "unparsed"),
    [({"pred": "[INVALID]"}, True), ({"pred": None}, True), ({"pred": "7"}, False), ({}, False), (None, False)],
)
def test_a_worker_tags_responses_without_an_answer_and_the_group_has_them(reported, unparsed):
    worker = object.__new__(ErpoAgentLoopWorker)
    worker._accuracy = AccuracyConfig()
    worker.tokenizer = SimpleNamespace(eos_token_id=0)
    rollout = SimpleNamespace(response_length=4, temperature=1.0)
    worker.config = SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout))

    def tag(length):
        fields = {"reward_extra_info": reported}
        last = SimpleNamespace(
            response_ids=[7] * length, response_mask=[1] * length, reward_score=1.0, extra_fields=fields
        )
        return {RESPONSE_TAG: worker._describe([last], {PROMPT_KEY: "00" * 16})}

    # The second one is cut.
    (found,) = read_groups(["a"], {"a_0_0": tag(3), "a_1_0": tag(4)}, AccuracyConfig(), 2, step=1)
    assert found.broken == [unparsed, True] and found.truncated == 1
    assert Group.from_json(found.to_json()) == found
    # Tags and groups of an older version's checkpoint do not tell.
    old = {
        key: {RESPONSE_TAG: {k: v for k, v in tag(3)[RESPONSE_TAG].items() if k != "unparsed"}} for key in ("a_0_0",)
    }
    assert read_groups(["a"], old, AccuracyConfig(), 1, step=1)[0].broken == [False]
    assert Group.from_json({k: v for k, v in found.to_json().items() if k != "broken"}).broken == []


def test_tail_is_a_mean_over_the_measured_tokens():
    assert tail_metrics(torch.tensor([[4, 0.4, 0.8, -1], [1, 0.6, 0.7, -2], [0, 0, 0, -3]])) == pytest.approx(
        {"erpo/heat/tail_mass": 0.2, "erpo/heat/tail_mass_hotter": 0.3}
    )
    assert tail_metrics(torch.zeros(2, 4)) == {}


def test_lowest_log_prob_is_of_what_the_model_wrote():
    data = TensorDict(
        {
            "old_log_probs": nested([torch.tensor([-1.0, -9.0, -2.0]), torch.tensor([-5.0])]),
            "response_mask": nested([torch.tensor([1, 0, 1]), torch.tensor([0])]),
        },
        batch_size=2,
    )
    assert lowest_log_probs(data).tolist() == [-2.0, 0.0]
