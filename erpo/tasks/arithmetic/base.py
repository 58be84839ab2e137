# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The base model of the arithmetic experiment; it comes with the package, so that everybody starts from the same one.

`python -m erpo.tasks.arithmetic.base --out DIR` warms it up anew and says how it differs: the same seed gives another
model on another processor, and the base model decides more about a run than the method does.
"""

import argparse
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2ForCausalLM

from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.tasks.arithmetic.sampling import group_accuracies, sample_responses
from erpo.tasks.arithmetic.task import RESERVED_TEST_PROMPTS, make_pools, reserved_pools
from erpo.tasks.arithmetic.warmup import WarmupConfig, WarmupResult, warm_up

BASE_FOLDER = Path(__file__).with_name("base_model")
_SAMPLES = 4
_GREEDY = 1e-4  # a temperature at which sampling takes the likeliest token


@contextmanager
def one_thread() -> Iterator[None]:
    """The same model on every start; and where other processes work, two threads wait for each other at each step.

    Measured on two busy cores: 2.7 s a step with two threads, 0.15 s with one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def load_base(folder: Path = BASE_FOLDER) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Model, in float32, and tokenizer of a folder.

    Raises:
        ValueError: Weights are missing, for which transformers would draw random numbers.
    """
    model, found = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if found["missing_keys"]:
        raise ValueError(f"{folder} lacks {', '.join(sorted(found['missing_keys']))}; save the model again")
    return model, AutoTokenizer.from_pretrained(folder)


def make_base(folder: Path, config: WarmupConfig, exclude: Collection[str] = ()) -> WarmupResult:
    """Warm a base model up and write it.

    Args:
        folder: Folder of model and tokenizer, for `from_pretrained`.
        config: Settings of the warm-up.
        exclude: Prompts that the warm-up may not contain, beside those of the reserved pools.

    Raises:
        RuntimeError: If the warm-up does not reach its target accuracy.
    """
    pools = reserved_pools()
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, config.seed)
    with one_thread():
        result = warm_up(model, tokenizer, pools.validation, pools.prompts.union(exclude), config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return result


def describe_difference(folder: Path) -> list[str]:
    """How a base model differs from the one in the package, a line each."""
    (model, tokenizer), (ours, _) = load_base(folder), load_base()
    test = make_pools(1, RESERVED_TEST_PROMPTS, 1).test
    prompts = [problem.prompt for problem in test]
    with one_thread():
        accuracies = [
            group_accuracies(one, tokenizer, test, _SAMPLES, temperature=1.0, seed=0) for one in (model, ours)
        ]
        greedy = [sample_responses(one, tokenizer, prompts, _GREEDY, seed=0) for one in (model, ours)]
    means = [sum(values) / len(values) for values in accuracies]
    same = sum(first == second for first, second in zip(*greedy, strict=True)) / len(test)
    weights = ours.state_dict()
    largest = max(float((value - weights[name]).abs().max()) for name, value in model.state_dict().items())
    return [
        f"largest difference of a weight: {largest:.2g}",
        f"held-out accuracy at T = 1: {means[0]:.3f}, that in the package {means[1]:.3f}",
        f"greedy answers that are the same: {same:.1%} of {len(test)}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="base", description="Warm the base model up again (three minutes), and say how it differs."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write, which must be empty or new")
    parser.add_argument("--seed", type=int, default=WarmupConfig.seed, help="default: %(default)s, the package's")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        parser.exit(1, f"error: {options.out} is not an empty folder; choose another\n")
    try:
        result = make_base(options.out, WarmupConfig(seed=options.seed))
    except (OSError, RuntimeError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{result.steps} steps, validation accuracy {result.validation_accuracy:.3f}")
    for line in describe_difference(options.out):
        print(line)


if __name__ == "__main__":
    main()
