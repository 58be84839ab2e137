# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Writes SmolLM2, warmed up on word problems, and the data files of its experiment, once.

`python -m erpo.tasks.word_problems.prepare --out DIR` builds them; a second call with the same settings reuses them.
"""

import argparse
import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from erpo.tasks.artefact import MODEL_FOLDER, build_once, write_data
from erpo.tasks.supervised import IGNORED, supervised_steps
from erpo.tasks.word_problems.problems import MAX_STEPS, MIN_STEPS, draw_problem, make_pools
from erpo.tasks.word_problems.weights import SOURCES, write_model

# Raise it with every change of what is built from the same settings.
FORMAT_VERSION = 1
DATA_SOURCE = "word_problems"
RAMP_STEPS = 10
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class PrepareConfig:
    """Settings of the artefact.

    Attributes:
        source: Where the weights come from: ``package``, ``hub``, or the path of a model folder.
        train_prompts: Number of prompts in the train file.
        test_prompts: Number of prompts in the test file.
        warmup_steps: Supervised steps on worked answers; 0 leaves the model as it is.
        batch_size: Worked answers in a step.
        learning_rate: AdamW's, constant after a short rise.
        dtype: What the warm-up computes in; its weights are float32.
        seed: Seed of the worked answers.
    """

    source: str = "package"
    train_prompts: int = 256
    test_prompts: int = 64
    warmup_steps: int = 90
    batch_size: int = 16
    learning_rate: float = 1e-4
    dtype: str = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError, in one sentence, for a setting that cannot be used."""
        for name in ("train_prompts", "test_prompts", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be 0 or more, got {self.warmup_steps}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype}")
        if self.source not in SOURCES and not (Path(self.source) / "config.json").exists():
            raise ValueError(f"source must be one of {', '.join(SOURCES)} or a model folder, and {self.source} is none")


def prepare(folder: str | Path, config: PrepareConfig | None = None, device: str = "cpu") -> dict[str, Any]:
    """Builds the artefact in `folder`, or reuses the one that is there (:func:`erpo.tasks.artefact.build_once`).

    Args:
        folder: Folder of the artefact. Its parents are created; a folder with other files is refused.
        config: Settings; the defaults if None.
        device: Where the warm-up computes. It makes another model on another device, as on another processor.

    Returns:
        The manifest: settings, losses of the warm-up and its seconds, digests of the files.

    Raises:
        ValueError: A setting makes no sense.
        OSError: The weights cannot be had, or `folder` holds other files or cannot be written.
    """
    config = config or PrepareConfig()
    return build_once(Path(folder).resolve(), FORMAT_VERSION, asdict(config), lambda new: _build(new, config, device))


def _build(folder: Path, config: PrepareConfig, device: str) -> dict[str, Any]:
    train, test = make_pools(config.train_prompts, config.test_prompts)
    rows = (
        ((problem.question, problem.answer, {"steps": len(problem.steps)}) for problem in problems)
        for problems in (train, test)
    )
    write_data(folder, DATA_SOURCE, *rows)
    raw = Path(config.source)
    if config.source in SOURCES:
        raw = write_model(folder / "raw", config.source)
    model = AutoModelForCausalLM.from_pretrained(raw, dtype=torch.float32).to(device)
    tokenizer = AutoTokenizer.from_pretrained(raw)
    begin = time.monotonic()
    losses = warm_up(model, tokenizer, {problem.question for problem in (*train, *test)}, config)
    # The caller lives as long as the run, which needs the GPU's memory.
    model = model.cpu()
    torch.cuda.empty_cache()
    model.save_pretrained(folder / MODEL_FOLDER)
    tokenizer.save_pretrained(folder / MODEL_FOLDER)
    if raw.is_relative_to(folder):
        for path in raw.iterdir():
            path.unlink()
        raw.rmdir()
    return {"losses": losses, "warmup_seconds": round(time.monotonic() - begin)}


def warm_up(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, exclude: set[str], config: PrepareConfig
) -> list[float]:
    """Trains the model in place with next-token steps on fresh worked answers.

    Args:
        model: The model, float32.
        tokenizer: Its tokenizer, with a chat template.
        exclude: Questions that may not occur; should contain both pools.
        config: Settings.

    Returns:
        Mean loss of each step, nats per response token.
    """
    answers = worked_answers(config.seed, exclude)

    def add_gradients() -> float:
        pairs = sorted((next(answers) for _ in range(config.batch_size)), key=lambda pair: len("".join(pair)))
        half = (len(pairs) + 1) // 2
        # The short and the long ones apart, or three tokens of ten would be padding.
        parts = [make_batch(tokenizer, part) for part in (pairs[:half], pairs[half:]) if part]
        trained = sum(int((labels != IGNORED).sum()) for _, labels in parts)
        loss = 0.0
        for tokens, labels in parts:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                part_loss = answer_loss(model, tokens.to(model.device), labels.to(model.device)) / trained
            part_loss.backward()
            loss += part_loss.item()
        return loss

    losses = []
    adamw = {"lr": config.learning_rate, "weight_decay": 0.0}
    for _, loss, progress in supervised_steps(model, add_gradients, config.warmup_steps, RAMP_STEPS, 30.0, **adamw):
        losses.append(round(loss, 4))
        progress.set_postfix(loss=f"{losses[-1]:.3f}")
    model.eval()
    return losses


def answer_loss(model: PreTrainedModel, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Next-token loss of a batch, with logits of the answers alone.

    More than half of a batch is prompts and padding, and the logits of 49,152 tokens take as long as the layers.

    Args:
        model: The model.
        tokens: Shape (batch, longest prompt + answer).
        labels: Of the same shape; -100 on prompts and padding (:func:`make_batch`).

    Returns:
        Nats, summed over the tokens of the answers.
    """
    answer = labels[:, 1:] != IGNORED
    # At the head's input, because some models scale or cap what comes out of it.
    with model.get_output_embeddings().register_forward_pre_hook(lambda head, inputs: (inputs[0][answer],)):
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    return cross_entropy(logits.float(), labels[:, 1:][answer], reduction="sum")


def worked_answers(seed: int, exclude: set[str]) -> Iterator[tuple[str, str]]:
    """Yields questions, none of them in `exclude`, with a worked answer, without end."""
    generator = random.Random(seed)
    while True:
        problem = draw_problem(generator, generator.randint(MIN_STEPS, MAX_STEPS))
        if problem.question not in exclude:
            yield problem.question, problem.worked_answer(generator)


def make_batch(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokenizes questions and answers as a rollout has them, for training on the answer, its end included.

    Returns:
        Tokens and labels, both (batch, longest prompt + answer). Padding is on the right, where a causal model needs
        no attention mask; labels are -100 on prompts and padding.
    """
    rows, prompts = [], []
    for question, answer in pairs:
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        rows.append([*prompt, *tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id])
        prompts.append(len(prompt))
    tokens = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
    labels = torch.full_like(tokens, IGNORED)
    for row, (ids, prompt_length) in enumerate(zip(rows, prompts, strict=True)):
        tokens[row, : len(ids)] = torch.tensor(ids)
        labels[row, prompt_length : len(ids)] = torch.tensor(ids[prompt_length:])
    return tokens, labels


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of `prepare`."""
    defaults = PrepareConfig()
    parser = argparse.ArgumentParser(description="Write the model and data files of the word problems.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the artefact")
    for name in ("source", "train_prompts", "test_prompts", "warmup_steps", "batch_size", "dtype", "seed"):
        default = getattr(defaults, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, help="default: %(default)s")
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = options.pop("out")
    try:
        prepare(out, PrepareConfig(**options))
    except (ValueError, OSError) as error:
        parser.exit(1, f"error: {str(error).splitlines()[0]}\n")


if __name__ == "__main__":
    main()
