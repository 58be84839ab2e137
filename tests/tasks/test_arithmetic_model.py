# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer and model: exact vocabulary, end of sequence, saving, and what verl asks of the tokenizer."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from verl.utils import hf_tokenizer
from verl.utils.tokenizer import continuous_token_wiring as wiring

from erpo.tasks.arithmetic.model import EOS_TOKEN, build_model, build_tokenizer
from erpo.tasks.arithmetic.task import distinct_problems

torch.set_num_threads(1)
PROBLEMS = distinct_problems(seed=9, count=20)


def test_one_token_per_character_and_back() -> None:
    tokenizer = build_tokenizer()
    for problem in PROBLEMS:
        text = problem.prompt + problem.response
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_chat_template_adds_nothing_to_a_prompt_and_the_end_to_a_response() -> None:
    tokenizer = build_tokenizer()
    user = {"role": "user", "content": "63-9*8+3="}
    ids = tokenizer.apply_chat_template([user], add_generation_prompt=True, tokenize=True)["input_ids"]
    assert ids == tokenizer("63-9*8+3=")["input_ids"]
    both = tokenizer.apply_chat_template([user, {"role": "assistant", "content": "-9=54"}], tokenize=False)
    assert both == "63-9*8+3=-9=54" + EOS_TOKEN


def test_verl_builds_exactly_the_prompt_s_tokens(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=0).config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    # As verl loads it: the folder's model type decides the class, which is another one than we saved.
    builder = wiring.create_continuous_token_builder(hf_tokenizer(tmp_path), hf_model_type="qwen2")
    ids = builder.build_initial_tokens([{"role": "user", "content": "63-9="}])
    assert ids == tokenizer("63-9=")["input_ids"]


def test_saved_and_loaded_they_are_the_same(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed=0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded_tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    loaded_model = AutoModelForCausalLM.from_pretrained(tmp_path)
    generation = GenerationConfig.from_pretrained(tmp_path)

    assert len(loaded_tokenizer) == loaded_model.config.vocab_size == 17
    assert loaded_model.get_input_embeddings().num_embeddings == 17
    assert loaded_tokenizer.eos_token == EOS_TOKEN
    assert loaded_tokenizer.eos_token_id == loaded_model.config.eos_token_id == generation.eos_token_id
    assert loaded_tokenizer.pad_token_id == loaded_model.config.pad_token_id == generation.pad_token_id
    assert loaded_tokenizer.pad_token_id != loaded_tokenizer.eos_token_id
    assert loaded_tokenizer.chat_template == tokenizer.chat_template
    prompts = [problem.prompt for problem in PROBLEMS]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    assert torch.equal(loaded_tokenizer(prompts, padding=True, return_tensors="pt")["input_ids"], batch["input_ids"])
    with torch.no_grad():
        assert torch.equal(loaded_model(**batch).logits, model(**batch).logits)


def test_weights_follow_the_seed_and_leave_the_global_random_state_alone() -> None:
    tokenizer = build_tokenizer()
    state = torch.get_rng_state()
    first, again, other = (build_model(tokenizer, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
