# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Temperatures per response in every engine of verl: run where a CPU can, else held against verl's source."""

import ast
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import verl
from verl.workers.engine.base import EngineRegistry

from erpo.trainer import checks, engine
from erpo.trainer.checks import check_settings

FOLDER = Path(verl.__file__).parent / "workers" / "engine"
# With it alone verl registers its Megatron engine, and MindSpeed's.
MEGATRON = "megatron-core==0.16.1"


def source_of(backend, name, method=None):
    """Text of a class of verl's, or of its method, which cannot be imported here."""
    text = (FOLDER / backend / "transformer_impl.py").read_text()
    found = next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)
    if method is not None:
        found = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == method)
    return ast.get_source_segment(text, found)


def test_the_start_allows_the_strategies_that_have_an_engine_of_ours():
    assert set(checks.STRATEGIES) == engine.ENGINES.keys()
    fsdp = {name for name, ours in engine.ENGINES.items() if ours is engine.PerResponseTemperatureEngine}
    # VeOmni's fused kernels are its own.
    assert set(checks._FUSED_STRATEGIES) == fsdp - {"veomni"}


@pytest.mark.parametrize("backend", ["fsdp", "fsdp2", "fsdp_turbo"])
def test_importable_engines_are_served(backend, monkeypatch):
    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cuda")
    found = EngineRegistry.get_engine_cls("language_model", backend)
    assert issubclass(found, engine.PerResponseTemperatureEngine)
    # Ours comes first, and the engine's own methods before those of the one that it is derived from.
    names = [base.__name__ for base in found.__mro__]
    assert names.index("PerResponseTemperature") < names.index("FSDPEngineWithLMHead")
    if backend == "fsdp_turbo":
        assert names.index("PerResponseTemperatureEngine") < names.index("FSDPTurboEngineWithLMHead")
        assert names.index("FSDPTurboEngineWithLMHead") < names.index("FSDPEngineWithLMHead")


@pytest.mark.parametrize("strategy", [*checks.STRATEGIES, "torchtitan"])
def test_an_engine_that_was_never_run_is_said_at_the_start(cpu_config, strategy):
    overrides = [f"actor_rollout_ref.{role}.strategy={strategy}" for role in ("actor", "ref")]
    # As verl's model_engine composes them.
    settings = {"megatron": "McoreActorConfig", "veomni": "VeOmniActorConfig"}.get(strategy, "FSDPActorConfig")
    overrides += [f"actor_rollout_ref.{role}._target_=verl.workers.config.{settings}" for role in ("actor", "ref")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if strategy == "torchtitan":
            with pytest.raises(checks.ConfigError, match="whose engine takes one temperature for all"):
                check_settings(cpu_config("erpo", *overrides))
            return
        check_settings(cpu_config("erpo", *overrides))
    said = any("never run" in str(warning.message) for warning in caught)
    assert said == (strategy not in checks.RUN_STRATEGIES)


def test_veomni_takes_its_temperatures_from_the_fsdp_engine():
    """Not run: needs veomni and GPUs."""
    text = (FOLDER / "veomni" / "transformer_impl.py").read_text()
    assert "class VeOmniEngineWithLMHead(VeOmniEngine, FSDPEngineWithLMHead):" in text
    for method in ("prepare_model_inputs", "prepare_model_outputs"):
        assert f"super().{method}(" in source_of("veomni", "VeOmniEngineWithLMHead", method)
    # Its fused kernels are behind this, which we never set for it.
    assert "if use_fused_kernels and use_remove_padding:" in source_of("veomni", "VeOmniEngineWithLMHead")


def test_automodel_cannot_be_chosen():
    """verl's PPO trainer has no settings for it."""
    from verl.workers import config

    assert not hasattr(config, "AutomodelActorConfig")


def test_torchtitan_divides_by_the_raw_value_and_stays_refused():
    outputs = source_of("torchtitan", "TorchTitanEngineWithLMHead", "prepare_model_outputs")
    for text in (
        'temperature = micro_batch["temperature"]\n',
        "logits_rmpad = logits_rmpad / temperature\n",
        "logits.div_(temperature)\n",
    ):
        assert text in outputs


def test_every_engine_is_handed_its_batch_by_the_method_that_we_override():
    for backend, name in (
        ("fsdp", "FSDPEngine"),
        ("veomni", "VeOmniEngine"),
        ("megatron", "MegatronEngine"),
    ):
        method = source_of(backend, name, "forward_backward_batch")
        arguments = "(self, data: TensorDict, loss_function: Callable, forward_only=False)"
        assert method.startswith(f"def forward_backward_batch{arguments}")
        # A column of the batch is a column of its micro-batches.
        assert "prepare_micro_batches(" in method


@pytest.mark.long
def test_megatrons_log_probs_at_every_responses_temperature(tmp_path):
    """Its layers need a GPU; log-probs of its head and their gradients are computed here, split over two processes."""
    target = tmp_path / "packages"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--no-deps", "--target", target, MEGATRON], check=True, timeout=300
    )
    script = Path(__file__).with_name("megatron_processor.py")
    environment = {**os.environ, "VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{target}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, script, "2", tmp_path / "store"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["engine"] == "PerResponseTemperatureMegatronEngineWithLMHead"
    assert max(found["ours"].values()) < 1e-5
    # What verl's own engine gives for the same bf16 logits, T and head.
    assert min(found["verls"].values()) > 1e-2
