# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The character tokenizer and the tiny Qwen2 model of the arithmetic task."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from erpo.tasks.arithmetic.task import ALPHABET

PAD_TOKEN = "<|endoftext|>"
EOS_TOKEN = "<|im_end|>"
# verl's token builder for model type qwen2 needs the token <|im_end|> and a newline that is one token. The newline is
# otherwise unused.
TOKENS = (PAD_TOKEN, EOS_TOKEN, "\n", *ALPHABET)
MAX_POSITIONS = 128
WIDTH = 128
# The content of the user message is the prompt, without markup; an assistant message ends with the end-of-sequence
# token, as a response does.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Builds the tokenizer: one token per character, 17 tokens in all.

    It has no unknown token: a character outside the alphabet is dropped, as byte-level tokenizers do.
    """
    # Byte-level, because AutoTokenizer rebuilds the tokenizer of a qwen2 folder as Qwen2Tokenizer, which is: in its
    # alphabet a newline is written differently, every other character of ours as itself.
    newline = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("\n")[0][0]
    vocabulary = {newline if token == "\n" else token: index for index, token in enumerate(TOKENS)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=EOS_TOKEN,
        pad_token=PAD_TOKEN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int, width: int = WIDTH) -> Qwen2ForCausalLM:
    """Builds the untrained model in float32, about 0.4 million parameters at its default width.

    The vocabulary is exactly the tokenizer's: an inference engine masks surplus tokens, a trainer does not, and their
    probabilities would differ.

    Args:
        tokenizer: Tokenizer of `build_tokenizer`.
        seed: Seed of the initial weights. The global random state is left as it was.
        width: Hidden size, a multiple of 64.
    """
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=2,
        # vLLM's attention on a CPU knows no heads below 32.
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
