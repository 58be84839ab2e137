# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Samples responses with vLLM, offline, so that the same seed gives the same responses."""

import asyncio
import hashlib
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tqdm import tqdm

from erpo.evaluation.config import EvaluationError, SamplingConfig
from erpo.evaluation.data import Problem, holds_images

#: Most probable tokens that are not the tail, as in the trainer's metrics; vLLM's own limit for log-probs is this.
TOP = 20
# Prompt tokens that vLLM on a CPU computes at a time; its own default is of this size.
_BATCHED_TOKENS = 4096


@dataclass(frozen=True)
class Request:
    """One response to sample.

    Attributes:
        tokens: Token ids of the prompt.
        temperature: Sampling temperature; 0 is greedy.
        seed: Seed of this response alone.
        tail: Whether to measure the probability outside the top tokens.
        images: Images of the prompt, as :meth:`Sampler.images` gives them.
    """

    tokens: list[int]
    temperature: float
    seed: int
    tail: bool = False
    images: Sequence[Any] = ()


@dataclass(frozen=True)
class Response:
    """One sampled response.

    Attributes:
        text: Decoded without special tokens, as verl decodes what it judges.
        length: Tokens, the end-of-sequence token included.
        truncated: Whether it was cut at the length limit.
        tail_mass: Mean over its tokens of the probability outside the top :data:`TOP` ones, as they were sampled; None
            where it was not asked for.
    """

    text: str
    length: int
    truncated: bool
    tail_mass: float | None = None


def request_seed(seed: int, label: str, key: str, index: int) -> int:
    """Seed of one response: it depends on nothing that a resume, an order or another set could change.

    Args:
        seed: Seed of the evaluation.
        label: Tells apart groups of one prompt that must be independent.
        key: Key of the prompt.
        index: Number of the response in its group.
    """
    digest = hashlib.blake2b(f"{seed}/{label}/{key}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # vLLM's generators take 63 bits


class Sampler:
    """A model in vLLM. The engine starts with the first call of :meth:`sample`.

    The engine runs in this process and without prefix cache: scheduling is then a function of the requests of one call,
    and so are batches and rounding. On other hardware, or with another version or tensor_parallel_size, probabilities
    differ by rounding, and some responses with them.

    Args:
        path: Folder of the model, or hub id.
        settings: Sampling and engine settings; ``max_response_length`` and ``apply_chat_template_kwargs`` are set.

    Raises:
        EvaluationError: Tokenizer or settings of the model cannot be read.
    """

    def __init__(self, path: str, settings: SamplingConfig) -> None:
        self._path, self._settings = path, settings
        self._engine: Any = None
        from transformers import AutoConfig
        from verl.utils import hf_processor, hf_tokenizer
        from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

        try:
            self._model_config = AutoConfig.from_pretrained(path)
            self._tokenizer = hf_tokenizer(path)
        except (OSError, ValueError) as error:
            raise EvaluationError(f"model {path} cannot be loaded: {str(error).splitlines()[0]}") from error
        self._processor = hf_processor(path) if hasattr(self._model_config, "vision_config") else None
        if self._processor is None and hasattr(self._model_config, "vision_config"):
            raise EvaluationError(
                f"the processor of {path}, a model that sees, cannot be loaded; install qwen-vl-utils and the "
                "torchvision that belongs to this torch, or save the processor in the model's folder."
            )
        # The one by which verl's agent loops tokenize prompts.
        self._builder = create_continuous_token_builder(
            self._tokenizer,
            hf_model_type=self._model_config.model_type,
            chat_template_kwargs=settings.apply_chat_template_kwargs,
            mm_processor_kwargs=settings.mm_processor_kwargs,
            processor=self._processor,
        )
        self._window = self._most_images = 0

    def encode(self, problems: Sequence[Problem]) -> list[list[int]]:
        """Tokenize prompts with the chat template, as a training rollout does.

        Returns:
            Tokens of each prompt; an empty list for one that is longer than ``max_prompt_length``, or that leaves no
            room for a response of ``max_response_length`` in the model's window, and is to be skipped.

        Raises:
            EvaluationError: A prompt cannot be rendered, or all are too long.
        """
        pictures = [self.images(problem) for problem in problems]
        self._most_images = max(self._most_images, *map(len, pictures))
        try:
            encoded = [
                self._builder.build_initial_tokens(problem.messages, images=images or None)
                for problem, images in zip(problems, pictures, strict=True)
            ]
        except Exception as error:
            raise EvaluationError(
                f"the chat template of {self._path} fails: {(str(error).splitlines() or [repr(error)])[0]}"
            ) from error
        response, positions = self._settings.max_response_length, self._positions
        assert response is not None
        longest = self._longest_prompt()
        lengths = [len(tokens) for tokens in encoded]
        if longest is not None and min(lengths) > longest:
            if positions is not None and positions - response < min(lengths) < positions:
                room = positions - (max(lengths) if max(lengths) < positions else min(lengths))
                advice = f"set max_response_length={room} or less"
            elif positions is not None and min(lengths) >= positions:
                advice = "take a model with a longer window, or other prompts"
            else:
                advice = f"set max_prompt_length={max(lengths)}"
            raise EvaluationError(f"all prompts have {min(lengths)} tokens or more: {self.limit}; {advice}.")
        kept = [[] if longest is not None and len(tokens) > longest else tokens for tokens in encoded]
        self._window = max(self._window, max(len(tokens) for tokens in kept) + response)
        return kept

    def images(self, problem: Problem) -> list[Any]:
        """The images of a prompt, in the size that a training rollout gives them; none for a prompt of text.

        Raises:
            EvaluationError: The model does not see, or nothing is installed that reads images.
        """
        if not holds_images(problem):
            return []
        if self._processor is None:
            raise EvaluationError(
                f"prompt {problem.key} holds images, and {self._path} takes text alone; name a model that sees, or "
                "remove such rows."
            )
        from verl.utils.dataset.rl_dataset import RLHFDataset

        patch = self._processor.image_processor.patch_size
        try:
            images, _, _ = asyncio.run(RLHFDataset.process_multi_modal_info(problem.messages, patch, None))
        except ImportError as error:
            raise EvaluationError(
                f"verl reads images by qwen-vl-utils, which cannot be imported ({error}); install it."
            ) from error
        return list(images)

    @property
    def limit(self) -> str:
        """What limits the length of a prompt, in words."""
        own, response, positions = (
            self._settings.max_prompt_length,
            self._settings.max_response_length,
            self._positions,
        )
        assert response is not None
        if positions is None or (own is not None and own <= positions - response):
            return f"max_prompt_length is {own}"
        return (
            f"the model has {positions} positions, max_response_length={response} leaves {max(positions - response, 0)}"
        )

    @property
    def _positions(self) -> int | None:
        # Of a model that sees they stand beside those of its other part.
        return getattr(self._model_config.get_text_config(), "max_position_embeddings", None)

    def _longest_prompt(self) -> int | None:
        """Tokens that a prompt may have; None for any number."""
        assert self._settings.max_response_length is not None
        limits = [self._settings.max_prompt_length]
        if self._positions is not None:
            limits.append(self._positions - self._settings.max_response_length)
        return min((limit for limit in limits if limit is not None), default=None)

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode a prompt as the model sees it, with one placeholder for each image."""
        return str(self._tokenizer.decode(self._one_placeholder_each(tokens)))

    def sample(self, requests: Sequence[Request], bar: "ProgressBar") -> list[Response]:
        """Sample one response for each request, all in one batch.

        Raises:
            EvaluationError: vLLM refuses the model or a setting.
        """
        from vllm import SamplingParams

        engine = self._started()
        settings = self._settings
        # Of a smaller vocabulary nothing is outside the top, and vLLM fails to look for so many.
        has_tail = self._model_config.get_text_config().vocab_size > TOP
        params = [
            SamplingParams(
                temperature=request.temperature,
                top_p=settings.top_p if request.temperature > 0 else 1.0,
                top_k=settings.top_k if request.temperature > 0 else -1,
                max_tokens=settings.max_response_length,
                seed=request.seed,
                detokenize=False,
                logprobs=TOP if request.tail and has_tail else None,
                flat_logprobs=True,
            )
            for request in requests
        ]
        prompts = [self._prompt(request) for request in requests]
        outputs = [output.outputs[0] for output in engine.generate(prompts, params, use_tqdm=bar)]
        return [
            Response(
                text=self._tokenizer.decode(list(output.token_ids), skip_special_tokens=True),
                length=len(output.token_ids),
                truncated=output.finish_reason == "length",
                tail_mass=(_tail_mass(output.logprobs) if has_tail else 0.0) if request.tail else None,
            )
            for request, output in zip(requests, outputs, strict=True)
        ]

    def _prompt(self, request: Request) -> dict[str, Any]:
        """A request as vLLM takes it, which puts in an image's further placeholders itself."""
        prompt: dict[str, Any] = {"prompt_token_ids": self._one_placeholder_each(request.tokens)}
        if request.images:
            prompt["multi_modal_data"] = {"image": list(request.images)}
            if self._settings.mm_processor_kwargs:
                prompt["mm_processor_kwargs"] = self._settings.mm_processor_kwargs
        return prompt

    def _one_placeholder_each(self, tokens: Sequence[int]) -> list[int]:
        from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

        return list(qwen2_5_vl_dedup_image_tokens(list(tokens), self._processor))

    def _started(self) -> Any:
        if self._engine is None:
            from verl.workers.rollout.utils import get_vision_placeholder_token_ids
            from vllm import LLM

            settings, on_cpu = self._settings, _on_cpu()
            arguments: dict[str, Any] = {
                "dtype": settings.dtype or ("float32" if on_cpu else "auto"),
                "enforce_eager": on_cpu,
                "tensor_parallel_size": settings.tensor_parallel_size,
                "max_model_len": self._window,
                "enable_prefix_caching": False,
                "seed": settings.seed,
                # After temperature and filters, as verl asks for them too.
                "logprobs_mode": "processed_logprobs",
            }
            if self._processor is not None:
                arguments["limit_mm_per_prompt"] = {"image": self._most_images, "video": 0}
            if on_cpu:
                # vLLM's CPU build cannot wind back the generator of a request whose prompt is computed in pieces.
                arguments |= {
                    "enable_chunked_prefill": False,
                    "max_num_batched_tokens": max(self._window, _BATCHED_TOKENS),
                }
            print("starting vLLM", flush=True)
            try:
                self._engine = LLM(model=self._path, **{**arguments, **settings.engine_kwargs})
            except (ValueError, TypeError) as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                # pydantic's first line is only a count.
                reason = lines[min(1, len(lines) - 1)] if lines else type(error).__name__
                raise EvaluationError(f"vLLM does not start with {self._path}: {reason}") from error
            banned = get_vision_placeholder_token_ids(self._processor)
            self._engine.apply_model(partial(_mask, len(self._tokenizer), banned))
        return self._engine


def _mask(vocabulary: int, banned: list[int], model: Any) -> None:
    """Give no probability to what verl's rollout never samples (its ``monkey_patch_compute_logits``).

    These are rows of the head that are no token, whose share grows with T, and placeholders without an image behind
    them, which break the next reader.
    """
    compute_logits = model.compute_logits

    def masked(*args: Any, **kwargs: Any) -> Any:
        logits = compute_logits(*args, **kwargs)
        logits[..., vocabulary:] = -math.inf
        logits[..., banned] = -math.inf
        return logits

    model.compute_logits = masked


def _tail_mass(logprobs: Any) -> float | None:
    """Mean over the tokens of a response; of vLLM's flat log-probs each token's last ones are the most probable."""
    ends = zip(logprobs.start_indices, logprobs.end_indices, strict=True)
    tops = [logprobs.logprobs[max(start, end - TOP) : end] for start, end in ends]
    masses = [max(0.0, 1.0 - sum(math.exp(one) for one in top)) for top in tops]
    return sum(masses) / len(masses) if masses else None


class ProgressBar:
    """One bar over all responses, whichever call of vLLM they come from.

    Args:
        total: Responses of the whole evaluation.
        done: Those that an earlier start left.
    """

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.part = total, done, ""

    def __call__(self, *arguments: Any, desc: str = "", total: int | None = None, **options: Any) -> tqdm:
        # vLLM asks for a bar for every stage of a call; only generation takes time.
        if desc != "Processed prompts":
            return tqdm(*arguments, total=total, disable=True)
        initial, self.done = self.done, self.done + (total or 0)
        return tqdm(
            total=self.total,
            initial=initial,
            desc=self.part,
            unit=" responses",
            dynamic_ncols=True,
            leave=self.done == self.total,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )


def prepare_process() -> None:
    """Set what torch and vLLM read from the environment; to be called before anything imports either."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    # An engine process of its own would take requests in as they come, and batch them by chance.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    # For vLLM on a CPU, as in erpo.platform.cpu. Whoever has many cores sets OMP_NUM_THREADS.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())
