# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The GPU acceptance: at toy shapes on the CPU, with the same script, so that it works where it meets a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from benchmarks import gpu
from benchmarks.overhead import composed, plain_settings
from erpo.environment import attention
from erpo.environment.resources import needs
from erpo.trainer.checks import check_settings

ROOT = Path(__file__).parents[2]


def accept(out, *options):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", out, *options], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.long
def test_parts_at_toy_shapes(tmp_path):
    done = accept(tmp_path / "toy.json", "--toy", "--only", "packages", "agreement", "attention", "log_probs")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = json.loads((tmp_path / "toy.json").read_text())
    assert results["packages"]["verl"] == "0.9.1" and results["toy"]
    first, last = results["agreement"]["toy"]
    assert (first["temperature"], last["temperature"], first["tokens"]) == (1.0, 1.5, 64)
    assert first["ours"] < 0.1 and last["ours"] < 0.1 and last["entropy"] > first["entropy"] > 0.1
    assert results["attention"]["sdpa"]["seconds"] > 0
    assert "not installed" in results["attention"]["flash_attention_2"]["skipped"]
    assert "minutes on a CPU" in results["log_probs"]["skipped"]


@pytest.mark.ray
@pytest.mark.long
def test_training_at_toy_shapes(tmp_path):
    done = accept(tmp_path / "toy.json", "--toy", "--only", "training")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = json.loads((tmp_path / "toy.json").read_text())["training"]
    assert results["erpo_to_verl_step"] > 0 and results["erpo_update_weights_seconds"] > 0
    assert results["erpo_probs_diff_max"] < 1e-4 and results["verl_response_tokens"] == 32


def test_without_a_gpu_it_says_so(tmp_path):
    done = accept(tmp_path / "gpu.json")
    assert done.returncode == 1 and done.stderr == (
        "error: nvidia-smi lists no GPU; --toy runs the same script at toy shapes on the CPU platform\n"
    )
    assert not (tmp_path / "gpu.json").exists()


def test_a_part_that_fails_costs_no_other(tmp_path, monkeypatch):
    def broken(setting):
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(gpu.PARTS, "attention", broken)
    setting = gpu.Setting(True, ("toy",), tmp_path)
    assert not gpu.accept(setting, tmp_path / "out.json", ["attention", "log_probs"])
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["attention"]["failed"] == "RuntimeError: no such kernel"
    assert "minutes on a CPU" in results["log_probs"]["skipped"]


def fail():
    assert 1 == 2


def test_an_error_of_another_process_says_where_it_was():
    with pytest.raises(RuntimeError, match=r"(?s)in fail\n.*assert 1 == 2"):
        gpu._in_process(fail)


@pytest.mark.parametrize("method", ["grpo", "erpo"])
def test_settings_of_the_runs_on_a_gpu_pass_our_checks(tmp_path, method):
    setting = gpu.Setting(False, ("Qwen/Qwen2.5-0.5B",), tmp_path)
    config = composed(gpu._arguments(setting, tmp_path, tmp_path / "data.parquet", tmp_path, method))
    assert check_settings(config).method == method
    assert needs(config).gpus == 1
    if method == "erpo":
        assert config.erpo.schedule.constant.temperature > config.erpo.schedule.constant.t_base


def test_every_token_of_a_model_is_a_word(tmp_path, monkeypatch):
    """Or a response of random weights would be an empty text, and detokenized in no time."""
    small = gpu._model_config(gpu.Setting(True, ("toy",), tmp_path), "toy")
    small.vocab_size = 600
    monkeypatch.setattr(gpu, "_model_config", lambda *_: small)
    tokenizer = AutoTokenizer.from_pretrained(gpu._write_model(gpu.Setting(True, ("toy",), tmp_path), "toy"))
    assert len(tokenizer) == 600
    assert tokenizer.decode([4, 5, 500, 599, tokenizer.eos_token_id], skip_special_tokens=True) == "12w500w599"
    assert tokenizer("12")["input_ids"] == [4, 5]


def test_figures_of_another_machine_are_not_compared(capsys):
    committed = json.loads(gpu.COMMITTED.read_text())
    slow = json.loads(
        json.dumps(committed).replace('"per_response_to_scalar_seconds": 0.', '"per_response_to_scalar_seconds": 1.')
    )
    assert gpu._compare(committed) == 0
    assert "qwen2.5-3b.per_response_to_scalar_seconds" in gpu._compare(slow)
    for name, value in ("gpus", ["another"]), ("flash_attn", True):
        other = {**slow, "machine": {**committed["machine"], name: value}}
        assert gpu._compare(other) == 0
        assert f"not compared: the committed figures are of {name}=" in capsys.readouterr().out


def test_verls_own_run_takes_the_attention_that_ours_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(attention, "flash_problem", lambda: "flash-attn is not installed")
    setting = gpu.Setting(False, ("Qwen/Qwen2.5-0.5B",), tmp_path)
    config = plain_settings(gpu._arguments(setting, tmp_path, tmp_path / "data.parquet", tmp_path, "grpo"))
    assert config.actor_rollout_ref.model.override_config.attn_implementation == "sdpa"


def test_shapes_are_those_of_the_models(tmp_path):
    setting = gpu.Setting(False, ("Qwen/Qwen2.5-0.5B",), tmp_path)
    config = gpu._model_config(setting, "Qwen/Qwen2.5-0.5B")
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (896, 24, 151936)
    assert config.eos_token_id < 17
