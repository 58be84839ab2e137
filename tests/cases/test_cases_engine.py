# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Wrong temperatures in training that nobody would see: engines, columns, precision, vocabulary, agent loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array, on_grid
from erpo.trainer import engine, log_probs
from erpo.trainer.config import ConfigError, TripwireConfig
from erpo.trainer.metrics import is_raised
from erpo.trainer.stages.startup import check_engines
from erpo.trainer.tripwire import Tripwire

OURS = engine.PerResponseTemperatureEngine


# ---- The engine is ours, on every device and vendor.


@pytest.mark.parametrize("backend", ["fsdp", "fsdp2"])
@pytest.mark.parametrize(
    ("device", "vendor"),
    [
        pytest.param("cuda", "nvidia", id="nvidia"),
        pytest.param("cuda", "amd", id="amd"),
        pytest.param("cuda", "metax", id="engine-of-a-vendor-without-our-class"),
        pytest.param("cuda", "iluvatar", id="another-cuda-vendor"),
        pytest.param("cuda", "one-of-tomorrow", id="vendor-that-verl-does-not-know"),
        pytest.param("npu", "huawei", id="npu"),
    ],
)
def test_engine_is_ours(monkeypatch, backend, device, vendor):
    monkeypatch.setenv("VERL_ENGINE_DEVICE", device)
    monkeypatch.setenv("VERL_ENGINE_VENDOR", vendor)
    assert issubclass(EngineRegistry.get_engine_cls("language_model", backend), OURS)
    # A critic's engine has no temperature.
    assert not issubclass(EngineRegistry.get_engine_cls("value_model", backend), OURS)


def test_engine_of_a_plug_in_for_its_vendor_becomes_ours(monkeypatch):
    engines = EngineRegistry._engines["language_model"]
    monkeypatch.setitem(engines, "fsdp2", dict(engines["fsdp2"]))

    @EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cuda", vendor="acme")
    class AcmeEngine(FSDPEngineWithLMHead):
        pass

    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cuda")
    monkeypatch.setenv("VERL_ENGINE_VENDOR", "acme")
    assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is AcmeEngine
    engine._serve_all_devices()
    found = EngineRegistry.get_engine_cls("language_model", "fsdp2")
    assert issubclass(found, AcmeEngine) and found.prepare_model_outputs is OURS.prepare_model_outputs


def worker(actor=None, ref=None):
    """verl's worker of a process: roles, each with its training worker, each with its engine."""
    members = [None if kind is None else SimpleNamespace(engine=object.__new__(kind)) for kind in (actor, ref)]
    return SimpleNamespace(worker_dict={"actor_rollout_ref": SimpleNamespace(actor=members[0], ref=members[1])})


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        pytest.param([worker(OURS)] * 2, "Engines: actor PerResponseTemperatureEngine x 2", id="ours"),
        pytest.param([worker(OURS, OURS)], "actor PerResponseTemperatureEngine x 1, ref Per", id="ours-with-reference"),
        pytest.param(
            [worker(OURS), worker(FSDPEngineWithLMHead)],
            "The actor runs FSDPEngineWithLMHead, whose log-probs are at one temperature",
            id="one-worker-took-verls",
        ),
        pytest.param(
            [worker(OURS, FSDPEngineWithLMHead)], "The ref runs FSDPEngineWithLMHead", id="reference-took-verls"
        ),
        pytest.param([worker()], "No worker reported its engine", id="no-engine"),
    ],
)
def test_workers_report_their_engine(workers, expected):
    engines = [running for one in workers for running in engine.running_engines(one)]
    if expected.startswith(("Engines", "actor")):
        assert expected in check_engines(engines)
    else:
        with pytest.raises(ConfigError, match=expected):
            check_engines(engines)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({}, "has no column 'rollout_temperature'", id="column-dropped-on-the-way"),
        pytest.param(
            {"temperature": [1.0, 1.0]}, "has no column 'rollout_temperature'", id="verls-scalar-is-no-column"
        ),
        pytest.param({"rollout_temperature": [1.0, float("nan")]}, "must be finite and above 0", id="nan"),
        pytest.param({"rollout_temperature": [1.0, 0.0]}, "must be finite and above 0", id="a-row-that-was-not-filled"),
    ],
)
def test_a_batch_without_temperatures_is_an_error(columns, expected):
    batch = TensorDict({name: torch.tensor(values) for name, values in columns.items()}, batch_size=2)
    with pytest.raises(RuntimeError, match=expected):
        object.__new__(OURS).forward_backward_batch(batch, None)


# ---- Temperatures that bf16 holds.


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        pytest.param(1.0, 1.0, id="1"),
        pytest.param(1.05, 1.046875, id="1.05"),
        pytest.param(1.1, 1.1015625, id="1.1"),
        pytest.param(1.2, 1.203125, id="default-cap"),
        pytest.param(1.25, 1.25, id="already-on-the-grid"),
        pytest.param(2.02, 2.015625, id="above-2-in-64ths"),
        pytest.param(0.7, 0.69921875, id="under-1-in-256ths"),
        pytest.param(0.01, 0.010009765625, id="vllms-least"),
    ],
)
def test_temperatures_are_emitted_on_the_grid(temperature, expected):
    assert float(on_grid(temperature)) == expected == float(torch.tensor(temperature).bfloat16())


ONE = keys_array([b"k" * 16])


def group(temperature, outcome=Outcome.ALL_CORRECT, step=0):
    return GroupOutcomes(
        keys=ONE,
        outcomes=np.array([outcome], dtype=np.int8),
        accuracies=np.array([float(outcome == Outcome.ALL_CORRECT)]),
        sizes=np.array([8], dtype=np.int32),
        temperatures=np.array([temperature], dtype=np.float64),
        steps=np.array([step], dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("schedule", "settings", "cap"),
    [
        pytest.param("linear", {"t_max": 1.3, "dt": 0.05}, 6, id="linear-cap-rounds-down"),
        pytest.param("linear", {"t_max": 1.0, "dt": 0.05}, 0, id="linear-without-room"),
        pytest.param("linear", {"t_max": 1.2, "dt": 0.005}, 40, id="linear-steps-finer-than-the-grid-add-up"),
        pytest.param("band", {"t_max": 1.3, "dt": 0.03, "max_factor": 1}, 10, id="band"),
        pytest.param("band", {"t_max": 1.1, "dt": 0.003, "max_factor": 1}, 34, id="band-steps-finer-than-the-grid"),
    ],
)
def test_history_agrees_with_what_was_sampled(schedule, settings, cap):
    """A prompt that is always all-correct reaches the cap in the steps that its rule needs, and it is seen there."""
    tracker = PromptTracker(TrackerConfig.from_dict({"name": schedule, schedule: settings}))
    at_cap = 0
    for step in range(cap + 1):
        assert tracker.capped_visits_for(ONE)[0] == at_cap
        sampled = on_grid(tracker.temperatures_for(ONE))[0]
        at_cap += sampled == on_grid(settings["t_max"])
        tracker.observe(group(float(np.float32(sampled)), step=step))
        assert (tracker.temperatures_for(ONE)[0] < settings["t_max"] - 1e-6) == (step + 1 < cap)
    assert tracker.capped_visits_for(ONE)[0] == at_cap > 0


@pytest.mark.parametrize(
    ("base", "temperature", "expected"),
    [
        pytest.param(1.1, float(on_grid(1.1)), False, id="base-that-rounds-up"),
        pytest.param(1.4, float(on_grid(1.4)), False, id="base-that-rounds-down"),
        pytest.param(1.4, 1.4, False, id="base-of-a-method-without-temperatures"),
        pytest.param(1.0, 1.0078125, True, id="one-place-above"),
    ],
)
def test_base_is_not_raised_by_rounding(base, temperature, expected):
    assert bool(is_raised(np.array([temperature]), base)[0]) == expected


# ---- The first raised prompt needs no more memory.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "float32"])
def test_no_temperature_copies_the_logits(dtype, monkeypatch):
    """Neither pass allocates anything of the logits' size, at T = 1 and elsewhere, so step 1 shows the peak."""
    monkeypatch.setattr(log_probs, "_PIECE", 1 << 18)
    tokens, head = 2048, 2048
    largest = {}
    for temperature in (1.0, 1.2):
        logits = torch.randn(tokens, head, dtype=dtype).requires_grad_()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
            found, entropy = log_probs.token_log_probs(
                logits, torch.zeros(tokens, dtype=torch.long), torch.full((tokens,), temperature), vocabulary=head
            )
            (found.sum() + entropy.sum()).backward()
        largest[temperature] = max(event.cpu_memory_usage for event in seen.events())
        assert logits.grad.data_ptr() == logits.data_ptr()
    assert largest[1.0] == largest[1.2]
    assert largest[1.2] < logits.nbytes / 2


# ---- The tripwire: an agent loop that ignores its sampling parameters.

STEPS = 3


def step(sampled, scored, *, noise=0.03, base=0, responses=8, length=60, seed=0):
    """Log-probs of responses sampled at one temperature and scored at another, some at the base temperature beside.

    The logits of rollout and training differ by noise, as those of two bf16 implementations do.
    """
    torch.manual_seed(seed)
    rows = {"old_log_probs": [], "rollout_log_probs": [], "entropy": [], "response_mask": []}
    groups = []
    for i in range(responses + base):
        at = (sampled, scored) if i < responses else (min(sampled, 1.0), 1.0)
        logits = torch.randn(length, 300) * 2
        logits[torch.arange(length), torch.randint(300, (length,))] += torch.rand(length) * 16
        rollout = torch.log_softmax((logits + noise * torch.randn_like(logits)) / at[0], -1)
        train = torch.log_softmax((logits + noise * torch.randn_like(logits)) / at[1], -1)
        tokens = torch.multinomial(rollout.exp(), 1)
        rows["old_log_probs"].append(train.gather(-1, tokens).squeeze(-1))
        rows["rollout_log_probs"].append(rollout.gather(-1, tokens).squeeze(-1))
        rows["entropy"].append(-(train.exp() * train).sum(-1))
        rows["response_mask"].append(torch.ones(length, dtype=torch.int64))
        groups.append(SimpleNamespace(temperature=at[1]))
    nested = {name: torch.nested.as_nested_tensor(values, layout=torch.jagged) for name, values in rows.items()}
    return TensorDict(nested, batch_size=len(groups)), groups


@pytest.mark.parametrize(
    ("sampled", "scored", "noise", "base", "trips"),
    [
        pytest.param(1.2, 1.2, 0.0, 8, False, id="float32"),
        pytest.param(1.046875, 1.046875, 0.03, 8, False, id="first-raise-in-bf16"),
        pytest.param(1.2, 1.2, 0.03, 8, False, id="bf16"),
        pytest.param(1.2, 1.2, 0.3, 8, False, id="very-noisy"),
        pytest.param(1.203125, 1.203125, 0.03, 0, False, id="constant-schedule"),
        pytest.param(1.5, 1.5, 0.3, 0, False, id="hot-constant-very-noisy"),
        pytest.param(1.0, 1.2, 0.03, 8, True, id="loop-ignores-its-parameters"),
        pytest.param(1.0, 1.2, 0.3, 8, True, id="loop-ignores-its-parameters-very-noisy"),
        pytest.param(1.0, 1.203125, 0.03, 0, True, id="loop-ignores-a-constant-schedule"),
        pytest.param(1.0, 1.046875, 0.03, 8, True, id="seen-from-the-first-raise-on"),
        pytest.param(0.7, 1.2, 0.03, 8, True, id="loop-with-a-temperature-of-its-own"),
        pytest.param(1.0, 2.0, 0.03, 8, True, id="far-raised"),
    ],
)
def test_a_rollout_that_does_not_follow_trips(sampled, scored, noise, base, trips):
    tripwire = Tripwire(TripwireConfig(steps=STEPS), base_temperature=1.0)
    for i in range(STEPS - 1):
        tripwire.observe(*step(sampled, scored, noise=noise, base=base, seed=i))
    last = step(sampled, scored, noise=noise, base=base, seed=STEPS)
    if trips:
        with pytest.raises(ConfigError, match="let the agent loop pass on the sampling_params"):
            tripwire.observe(*last)
    else:
        assert tripwire.observe(*last)["erpo/raised/not_followed"] < 0.1


@pytest.mark.parametrize("deaf", [False, True])
def test_a_loop_that_forgets_its_parameters_after_the_first_turn_trips(deaf):
    """The last ten of sixty tokens are the second turn; over all tokens too little of the raise is missing."""
    tripwire = Tripwire(TripwireConfig(steps=STEPS), base_temperature=1.0)
    for i in range(STEPS):
        data, groups = step(1.2, 1.2, seed=i, responses=16)
        other, _ = step(1.0 if deaf else 1.2, 1.2, seed=i + 100, responses=16)
        columns = {}
        for name in data.keys():  # noqa: SIM118
            rows = zip(data[name].unbind(), other[name].unbind(), strict=True)
            given = torch.zeros(5, dtype=data[name].dtype)
            columns[name] = torch.nested.as_nested_tensor(
                [torch.cat([one[:50], given, two[:10]]) for one, two in rows], layout=torch.jagged
            )
        data = TensorDict(columns, batch_size=len(groups))
        if deaf and i == STEPS - 1:
            with pytest.raises(ConfigError, match=r"of raised prompts after their first turn .*pass on the sampling"):
                tripwire.observe(data, groups)
        else:
            assert tripwire.observe(data, groups)["erpo/raised/not_followed"] < 0.3


def test_steps_without_raised_prompts_tell_nothing():
    tripwire = Tripwire(TripwireConfig(steps=STEPS), base_temperature=1.0)
    assert tripwire.observe(*step(1.0, 1.0)) == {}
    for i in range(STEPS - 1):
        assert tripwire.observe(*step(1.0, 1.2, seed=i))["erpo/raised/not_followed"] > 0.8
    tripwire.observe(*step(1.0, 1.0))


def test_few_tokens_do_not_trip():
    tripwire = Tripwire(TripwireConfig(steps=1), base_temperature=1.0)
    for seed in range(30):
        tripwire.observe(*step(1.0078125, 1.0078125, noise=0.1, base=8, responses=1, length=20, seed=seed))
