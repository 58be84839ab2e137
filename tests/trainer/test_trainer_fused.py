# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""verl's fused kernels with a temperature for every token: log-probs, entropies and gradients by the definition."""

import inspect
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import verl
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.experimental.torch_functional import FusedLinearForPPO
from verl.utils.kernel import linear_cross_entropy as triton_kernel

from erpo.trainer import fused
from erpo.trainer.engine import PerResponseTemperatureEngine

LENGTHS = (7, 12, 3)
TOKENS = sum(LENGTHS)
WIDTH, HEAD = 64, 320
TEMPERATURES = (0.7, 1.3, 2.0)
QUANTITIES = ("log_probs", "entropy", "hidden", "head")


def inputs(dtype=torch.float32, head=HEAD):
    """Hidden states (1, tokens, width), the head's weight, labels (1, tokens) and T of each token (1, tokens)."""
    torch.manual_seed(0)
    hidden = torch.randn(1, TOKENS, WIDTH).to(dtype)
    weight = (torch.randn(head, WIDTH) * 0.4).to(dtype)
    labels = torch.randint(head, (1, TOKENS))
    return hidden, weight, labels, torch.tensor(TEMPERATURES).repeat_interleave(torch.tensor(LENGTHS)).unsqueeze(0)


def measured(function, hidden, weight):
    """What a function of both gives, and the gradients of a sum in which every token counts differently."""
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    log_probs, entropy = function(hidden, weight)
    weights = torch.linspace(-1, 1, TOKENS)
    (weights * log_probs + weights.roll(1) * entropy).sum().backward()
    found = (log_probs.detach(), entropy.detach(), hidden.grad, weight.grad)
    return dict(zip(QUANTITIES, (value.double() for value in found), strict=True))


def exact(hidden, weight, labels, temperatures, never=(), dtype=torch.float64):
    """By the definition; `never` are rows of the head that the rollout never samples."""

    def define(hidden, weight):
        logits = hidden @ weight.T / temperatures.to(dtype).unsqueeze(-1)
        if len(never):
            logits = logits.index_fill(-1, torch.tensor(never), -1e9)
        log_p = torch.log_softmax(logits, -1)
        return log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1), -(log_p.exp() * log_p).sum(-1)

    return measured(define, hidden.to(dtype), weight.to(dtype))


def ours(hidden, weight, labels, temperatures, vocabulary=HEAD, banned=()):
    handed = fused.TokenSampling(temperatures, vocabulary, banned)
    kernel = FusedLinearForPPO()
    return measured(lambda h, w: kernel(h, w, labels, handed), hidden, weight)


def errors(found, expected):
    return {name: float((found[name] - expected[name]).abs().max()) for name in QUANTITIES}


def test_float32_is_as_exact_as_logits_in_float32():
    arguments = inputs()
    expected = exact(*arguments)
    unfused, found = errors(exact(*arguments, dtype=torch.float32), expected), errors(ours(*arguments), expected)
    for name in QUANTITIES:
        # verl's kernels take the entropy as a difference of two larger numbers.
        assert found[name] < (4 if name == "entropy" else 2) * unfused[name] < 1e-5


def test_bf16_is_no_worse_than_verls_kernel_with_one_temperature_for_all():
    hidden, weight, labels, _ = inputs(torch.bfloat16)
    for temperature in (1.05, 1.2, 1.7):
        everywhere = torch.full((1, TOKENS), temperature)
        expected = exact(hidden, weight, labels, everywhere)
        kernel = partial(FusedLinearForPPO().forward, input_ids=labels, temperature=temperature)
        of_verl = errors(measured(kernel, hidden, weight), expected)
        of_ours = errors(ours(hidden, weight, labels, everywhere), expected)
        for name in QUANTITIES:
            assert of_ours[name] < 1.5 * of_verl[name], (temperature, name)


def test_what_is_never_sampled_has_no_probability():
    hidden, weight, labels, temperatures = inputs()
    labels = labels % 300
    labels[labels == 5] = labels[labels == 6] = 7
    never = [5, 6, *range(300, HEAD)]
    found = ours(hidden, weight, labels, temperatures, vocabulary=300, banned=(5, 6))
    assert max(errors(found, exact(hidden, weight, labels, temperatures, never)).values()) < 1e-5
    assert not found["head"][300:].any()
    # Their share is no rounding error: without the mask the log-probs are others.
    assert errors(found, exact(hidden, weight, labels, temperatures))["log_probs"] > 1e-2


def test_a_label_that_is_never_sampled_has_no_log_prob_and_no_gradient():
    hidden, weight, _, temperatures = inputs()
    handed = fused.TokenSampling(temperatures, 300, (5,))
    leaf = hidden.clone().requires_grad_()
    for label in (5, 300, HEAD - 1):
        labels = torch.full((1, TOKENS), label)
        log_probs, _ = FusedLinearForPPO()(leaf, weight, labels, handed)
        assert not log_probs.any()
        (log_probs.sum() * 1e3).backward()
        assert not leaf.grad.any()


def test_a_number_is_verls_own_way():
    hidden, weight, labels, _ = inputs()
    kernel = FusedLinearForPPO()
    with_ours = kernel(hidden, weight, labels, 1.3)
    plain = FusedLinearForPPO.forward.__wrapped__(kernel, hidden, weight, labels, 1.3)
    assert all(torch.equal(one, other) for one, other in zip(with_ours, plain, strict=True))


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_engine_hands_labels_and_temperatures_to_the_kernel(layout):
    """With the identity as head, hidden states are logits: the model's forward pass is its last line alone."""
    ids = torch.nested.as_nested_tensor([torch.randint(HEAD, (n,)) for n in LENGTHS], layout=torch.jagged)
    positions = torch.nested.as_nested_tensor([torch.arange(n) for n in LENGTHS], layout=torch.jagged)
    batch = TensorDict({"input_ids": ids, "position_ids": positions}, batch_size=len(LENGTHS))
    batch["temperature"] = torch.tensor(TEMPERATURES)
    tu.assign_non_tensor(batch, use_remove_padding=layout == "packed", use_fused_kernels=True, calculate_entropy=True)
    engine = object.__new__(PerResponseTemperatureEngine)
    engine.pad_to_length, engine.use_ulysses_sp = False, False
    engine.model_config = SimpleNamespace(tokenizer=range(HEAD), processor=None)
    handed, output_args = engine.prepare_model_inputs(batch)
    rows = [torch.randn(n, HEAD) for n in LENGTHS]
    if layout == "packed":
        hidden = torch.cat(rows).unsqueeze(0)
    else:
        hidden = torch.nested.as_nested_tensor(rows, layout=torch.jagged).to_padded_tensor(0.0)
    log_probs, entropy = FusedLinearForPPO()(hidden, torch.eye(HEAD), handed["shift_labels"], handed["temperature"])
    found = engine.prepare_model_outputs(
        SimpleNamespace(log_probs=log_probs, entropy=entropy), output_args, batch, None
    )
    for i, (row, tokens, temperature) in enumerate(zip(rows, ids.unbind(), TEMPERATURES, strict=True)):
        log_p = torch.log_softmax(row / temperature, -1)
        expected = log_p[:-1].gather(-1, tokens[1:].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(found["log_probs"].unbind()[i][:-1], expected, rtol=0, atol=2e-6)
        torch.testing.assert_close(found["entropy"].unbind()[i], -(log_p.exp() * log_p).sum(-1), rtol=0, atol=2e-6)


def test_temperatures_reach_the_kernel_in_float32():
    """FSDP casts floats among a model's arguments, in containers and data classes too, to the parameters' dtype."""
    from torch.distributed.fsdp._fully_shard._fsdp_common import _cast_fp_tensor
    from torch.distributed.utils import _apply_to_tensors
    from torch.utils._pytree import tree_map

    def cast(value):
        return _cast_fp_tensor(torch.bfloat16, value) if torch.is_tensor(value) else value

    values = torch.tensor([1.05])
    arguments = {"temperature": fused.TokenSampling(values, HEAD, ()), "control": values, "nested": [values]}
    for through in (tree_map(cast, arguments), _apply_to_tensors(cast, arguments)):
        assert through["control"].dtype == through["nested"][0].dtype == torch.bfloat16
        assert through["temperature"].values.dtype == torch.float32


def test_every_forward_function_of_verl_looks_the_kernels_up_when_it_is_called():
    """Not run here: triton and liger need a GPU. What our functions stand in for is called with what they expect."""
    assert list(inspect.signature(triton_kernel.LinearCrossEntropy.forward).parameters) == [
        "ctx", "hidden", "weight", "labels", "temperature", "reduction", "dist_process_group",
    ]  # fmt: skip
    assert triton_kernel.linear_cross_entropy.__wrapped__.__self__ is triton_kernel.LinearCrossEntropy
    folder = Path(verl.__file__).parent / "models" / "transformers"
    users = [path.read_text() for path in folder.glob("*.py") if "FusedLinearForPPO" in path.read_text()]
    assert len(users) >= 5
    for text in users:
        lookups = ("from verl.utils.experimental.torch_functional import Fus", "from verl.utils.kernel.linear_cross_en")
        for lookup in lookups:
            assert text.count(f"\n    {lookup}") == text.count(lookup) > 0
        assert "shift_labels" in text and "temperature=temperature," in text


def test_a_place_where_a_placeholder_is_certain_makes_no_number_infinite():
    hidden, weight, labels, temperatures = inputs()
    labels[labels == 5] = 7
    # The head's row 5 takes all of the probability at every place.
    weight[5] = 0
    hidden[..., 0], weight[5, 0] = 10.0, 10.0
    found = ours(hidden, weight, labels, temperatures, banned=(5,))
    for name in QUANTITIES:
        assert found[name].isfinite().all(), name


def test_a_head_that_fsdp2_has_split_is_an_error():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    hidden, weight, labels, temperatures = inputs()
    split = distribute_tensor(weight, init_device_mesh("cpu", (1,)), [Shard(0)])
    with pytest.raises(RuntimeError, match="FSDP2 has split the model's head"):
        FusedLinearForPPO()(hidden, split, labels, fused.TokenSampling(temperatures, HEAD, ()))
    torch.distributed.destroy_process_group()
