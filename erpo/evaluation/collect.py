# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Samples and judges whole parts (a set, or a set at one temperature), chunk by chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from erpo.evaluation.checkpoint import ModelSource, identity, merge
from erpo.evaluation.config import SamplingConfig
from erpo.evaluation.data import Problem, answers_fingerprint, fingerprint, holds_images
from erpo.evaluation.sampler import ProgressBar, Request, Sampler, prepare_process, request_seed
from erpo.evaluation.scorer import Scorer, fold
from erpo.evaluation.store import SampleStore
from erpo.runs.settings import without_secrets

# What a sample depends on. The engine's settings are not among them: a resume may need less memory.
_DECIDING = (
    "top_p",
    "top_k",
    "max_response_length",
    "seed",
    "apply_chat_template_kwargs",
    "chunk_responses",
)
# First responses to prompts of a chunk whose tail is measured: vLLM holds 21 numbers for each of their tokens.
TAIL_RESPONSES = 16
# Likewise, where it is set: a folder of an earlier version does not name it.
_DECIDING_IF_SET = ("mm_processor_kwargs",)


@dataclass(frozen=True)
class Part:
    """Groups of n responses for the same prompts at one temperature.

    Attributes:
        name: Its name in the samples.
        problems: The prompts.
        n: Responses per prompt.
        temperature: Sampling temperature.
        label: Goes into the seeds; parts with another label are independent samples.
        tail: Whether the probability outside the top tokens is measured, in :data:`TAIL_RESPONSES` of a chunk.
    """

    name: str
    problems: Sequence[Problem]
    n: int
    temperature: float
    label: str = ""
    tail: bool = False

    @property
    def responses(self) -> int:
        """Responses of the part."""
        return self.n * len(self.problems)


def collect(source: ModelSource, settings: SamplingConfig, parts: Sequence[Part], out: Path) -> pd.DataFrame:
    """Sample and judge all parts, or what an earlier start left of them.

    Args:
        source: The model.
        settings: Filled settings (:func:`~erpo.evaluation.config.fill_from_run`).
        parts: What to sample.
        out: Folder of the samples.

    Returns:
        Samples of all parts that the folder holds, one row each, columns as in ``store.SCHEMA``.

    Raises:
        EvaluationError: Something cannot be used; whatever can be checked is checked before the first response.
    """
    prepare_process()
    scorer = Scorer(settings)
    try:
        scorer.check([problem for part in parts for problem in part.problems])
        merge(source)
        sampler = Sampler(source.path, settings)
        # Of all parts: the length of the model's window must not depend on what is done already.
        encoded = {part.name: sampler.encode(part.problems) for part in parts}
        skipped = {name: sum(not one for one in prompts) for name, prompts in encoded.items()}
        for part in parts:
            if skipped[part.name]:
                print(f"{part.name}: {skipped[part.name]} of {len(part.problems)} prompts are skipped: {sampler.limit}")
        parts = [_without_skipped(part, encoded[part.name]) for part in parts]
        tokens = {name: [one for one in prompts if one] for name, prompts in encoded.items()}
        store = SampleStore(
            out,
            # A path alone may hold other weights tomorrow.
            {"model": source.path, "weights": identity(source), **_deciding(settings)},
            {
                part.name: {
                    "n": part.n,
                    "temperature": part.temperature,
                    "prompts_fingerprint": fingerprint(part.problems),
                    "skipped": skipped[part.name],
                }
                for part in parts
            },
        )
        _sample_and_judge(parts, tokens, settings, sampler, scorer, store)
    finally:
        scorer.close()
    samples = store.read()
    _report_unjudged(samples[samples["part"].isin([part.name for part in parts])])
    for name in store.judged_otherwise(without_secrets(scorer.identity)):
        print(f"{name} in {out} was judged with other settings; name it in sets= to judge it again")
    return samples


def _deciding(settings: SamplingConfig) -> dict[str, Any]:
    values = asdict(settings)
    return {name: values[name] for name in _DECIDING} | {
        name: values[name] for name in _DECIDING_IF_SET if values[name]
    }


def _without_skipped(part: Part, tokens: Sequence[list[int]]) -> Part:
    return replace(part, problems=[problem for problem, one in zip(part.problems, tokens, strict=True) if one])


def _sample_and_judge(
    parts: Sequence[Part],
    tokens: Mapping[str, Sequence[list[int]]],
    settings: SamplingConfig,
    sampler: Sampler,
    scorer: Scorer,
    store: SampleStore,
) -> None:
    unfinished = [part for part in parts if not store.is_complete(part.name)]
    done = sum(_rows(part, chunk) for part in unfinished for chunk in _chunks(part, settings, store, written=True))
    total = sum(part.responses for part in parts)
    bar = ProgressBar(total, total - sum(part.responses for part in unfinished) + done)
    if unfinished and bar.done:
        print(f"{bar.done} of {total} responses are there already, in {store.folder}")
    for part in parts:
        if part in unfinished:
            _sample_part(part, tokens[part.name], settings, sampler, store, bar)
        _judge_part(part, scorer, store)


def _judge_part(part: Part, scorer: Scorer, store: SampleStore) -> None:
    """Judge the responses of a complete part, unless their verdicts are those that would be given now."""
    judge = fold(scorer.identity, answers_fingerprint(part.problems))
    held = store.judges(part.name)
    if held == {judge}:
        return
    if held != {None}:
        print(f"{part.name}: judged again, because the reward function, its settings or the answers changed")
    problems = {problem.key: problem for problem in part.problems}
    verdicts = []
    for sample in tqdm(store.responses(part.name), desc=f"judging {part.name}", delay=5, leave=False):
        problem = problems[sample["key"]]
        verdicts.append(
            {
                **asdict(scorer.judge(problem, sample["response"])),
                "data_source": problem.data_source,
                "ground_truth": str(problem.ground_truth),
                "judge": judge,
            }
        )
    store.write_verdicts(part.name, verdicts, without_secrets(scorer.identity))


def _report_unjudged(samples: pd.DataFrame) -> None:
    failed = samples[samples["error"].notna()]
    if len(failed):
        first = failed.iloc[0]
        print(
            f"warning: {len(failed)} of {len(samples)} responses could not be judged and count as wrong, the first to "
            f"prompt {first['key']} of {first['part']}: {first['error'].removesuffix('.')}. Fix the reward function "
            "and repeat the command: it judges again and samples nothing again."
        )


def _sample_part(
    part: Part,
    tokens: Sequence[list[int]],
    settings: SamplingConfig,
    sampler: Sampler,
    store: SampleStore,
    bar: ProgressBar,
) -> None:
    bar.part = part.name
    for number, positions in _chunks(part, settings, store, written=False):
        cells = [(position, index) for position in positions for index in range(part.n)]
        with_images = [position for position in positions if holds_images(part.problems[position])]
        images = {position: sampler.images(part.problems[position]) for position in with_images}
        requests = [
            Request(
                tokens[position],
                part.temperature,
                request_seed(settings.seed, part.label, part.problems[position].key, index),
                tail=part.tail and index == 0 and position - positions.start < TAIL_RESPONSES,
                images=images.get(position, ()),
            )
            for position, index in cells
        ]
        rows = []
        for (position, index), request, response in zip(cells, requests, sampler.sample(requests, bar), strict=True):
            problem = part.problems[position]
            row: dict[str, Any] = {
                "key": problem.key,
                "data_source": problem.data_source,
                "prompt": sampler.decode(request.tokens),
                "ground_truth": str(problem.ground_truth),
                "sample": index,
                "seed": request.seed,
                "temperature": part.temperature,
                "response": response.text,
                "length": response.length,
                "truncated": response.truncated,
                "tail_mass": response.tail_mass,
            }
            rows.append(row)
        store.write_chunk(part.name, number, rows)
    store.complete(part.name, len(_all_chunks(part, settings)))


def _all_chunks(part: Part, settings: SamplingConfig) -> list[tuple[int, range]]:
    """Number and prompts of every chunk: one batch each, whose bounds do not depend on what is done already."""
    prompts = max(1, settings.chunk_responses // part.n)
    starts = range(0, len(part.problems), prompts)
    return [(number, range(start, min(start + prompts, len(part.problems)))) for number, start in enumerate(starts)]


def _chunks(part: Part, settings: SamplingConfig, store: SampleStore, written: bool) -> list[tuple[int, range]]:
    return [chunk for chunk in _all_chunks(part, settings) if store.has_chunk(part.name, chunk[0]) == written]


def _rows(part: Part, chunk: tuple[int, range]) -> int:
    return part.n * len(chunk[1])


def folder_of(source: ModelSource, settings: SamplingConfig, name: str) -> Path:
    """Folder of the results: the setting, else ``name`` in the run, else ``name/MODEL``."""
    if settings.out is not None:
        return Path(settings.out)
    return source.run / name if source.run is not None else Path(name) / source.name
