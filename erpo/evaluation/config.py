# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of the evaluation commands: these dataclasses are the truth, ``configs/*.yaml`` mirrors them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from erpo.runs.errors import RunFolderError
from erpo.runs.settings import CONFIG_FILE, left_out_of, setting
from erpo.runs.settings import read_settings as run_settings
from erpo.trainer.config import AccuracyConfig, ConfigError
from erpo.trainer.early import MAX_TEMPERATURE

# Of the proxy runs (the first author's later public ones on the same base model).
DEFAULT_RESPONSE_LENGTH = 8192


class EvaluationError(ValueError):
    """Input or a setting that cannot be used; the message says what is wrong and what to change."""


@dataclass  # not frozen: OmegaConf would not merge settings into it
class AccuracySettings:
    """When a response is correct; None takes the run's ``erpo.accuracy``, else its defaults.

    Attributes:
        metric: Key of the reward function's result; "reward" is the reward itself.
        threshold: A response is correct from this value on.
        tolerance: Two values that differ by less are equal.
    """

    metric: str | None = None
    threshold: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class SamplingConfig:
    """What both commands share.

    Attributes:
        model: A Hugging Face folder (or hub id), a run folder (its newest checkpoint), or one ``global_step_N``.
        n: Responses per prompt.
        top_p: Nucleus; 1 is off. None takes the run's.
        top_k: Most probable tokens that are sampled from; -1 is all. None takes the run's, else -1.
        max_prompt_length: Longer prompts (tokens) are skipped and counted, as are those that do not fit into the model.
            None takes the run's, if that filtered its prompts.
        max_response_length: Tokens after which a response is cut; None takes the run's, else 8192.
        seed: Seed of the responses, of the intervals, and of a choice of prompts.
        out: Folder of the results; None is a folder in the run, else one named after the model.
        reward_function: Python file or ``pkg://module`` with a reward function in verl's form; None takes the run's,
            else verl's scorer of the data source.
        reward_function_name: Its name.
        reward_kwargs: Its further keyword arguments; beside the run's where the function is the run's.
        reward_timeout: Seconds after which a response counts as one that the reward function cannot judge.
        accuracy: When a response is correct.
        apply_chat_template_kwargs: Arguments of the chat template; None takes the run's.
        mm_processor_kwargs: Arguments of the processor of images; None takes the run's.
        chunk_responses: Responses that are sampled, judged and written at a time: what an interruption can cost.
        tensor_parallel_size: GPUs that the model is split over.
        dtype: vLLM's dtype; None is float32 on a CPU, and the model's own elsewhere.
        engine_kwargs: Further arguments of ``vllm.LLM``.
    """

    model: str = MISSING
    n: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_prompt_length: int | None = None
    max_response_length: int | None = None
    seed: int = 0
    out: str | None = None
    reward_function: str | None = None
    reward_function_name: str = "compute_score"
    reward_kwargs: dict[str, Any] = field(default_factory=dict)
    reward_timeout: float = 60.0
    accuracy: AccuracySettings = field(default_factory=AccuracySettings)
    apply_chat_template_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    chunk_responses: int = 1024
    tensor_parallel_size: int = 1
    dtype: str | None = None
    engine_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.n is None or self.n >= 1, f"n is {self.n}; set 1 or more responses per prompt")
        require(self.top_p is None or 0 < self.top_p <= 1, f"top_p is {self.top_p}; set a number in (0, 1]")
        require(
            self.top_k is None or self.top_k == -1 or self.top_k >= 1,
            f"top_k is {self.top_k}; set a positive number, or -1 for all tokens",
        )
        for name in ("max_prompt_length", "max_response_length"):
            length = getattr(self, name)
            require(length is None or length >= 1, f"{name} is {length}; set a positive number of tokens")
        require(
            0 < self.reward_timeout < float("inf"),
            f"reward_timeout is {self.reward_timeout}; set a positive number of seconds",
        )
        require(self.chunk_responses >= 1, f"chunk_responses is {self.chunk_responses}; set 1 or more")
        require(self.tensor_parallel_size >= 1, f"tensor_parallel_size is {self.tensor_parallel_size}; set 1 or more")


@dataclass(frozen=True)
class EvalConfig(SamplingConfig):
    """Settings of ``recipe.erpo.main_eval``: what is not set is taken from the run's own validation.

    Attributes:
        sets: Names of prepared sets, or paths of Parquet files in verl's row schema.
        data_folder: Folder of the prepared sets.
        n: Responses per prompt; None is 32, and 1 at temperature 0.
        temperature: Sampling temperature; 0 is greedy. None takes the run's, else 1.0; ``top_p`` likewise, else 0.9.
    """

    sets: list[str] = MISSING
    data_folder: str = "data"
    temperature: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.sets) > 0, "sets is empty; name at least one, sets=[math500]")
        require(
            self.temperature is None or 0 <= self.temperature <= MAX_TEMPERATURE,
            f"temperature is {self.temperature}; set 0 (greedy) or a number up to {MAX_TEMPERATURE:g}, vLLM's highest",
        )
        require(
            self.temperature != 0 or self.n is None or self.n == 1,
            f"at temperature 0 all {self.n} responses of a prompt are one; set n=1 or a positive temperature",
        )


@dataclass(frozen=True)
class ResidualConfig(SamplingConfig):
    """Settings of ``recipe.erpo.residual_share``; responses are sampled as training samples them.

    Attributes:
        data: Name of a prepared set, or path of a Parquet file: the training prompts.
        data_folder: Folder of the prepared sets.
        n: Responses per prompt; None takes the run's ``rollout.n``, else 8.
        temperatures: The lowest is T_base.
        prompts: Prompts that are drawn from the data; None is all of them.
    """

    data: str = MISSING
    data_folder: str = "data"
    temperatures: list[float] = field(default_factory=lambda: [1.0, 1.1, 1.2, 1.5])
    prompts: int | None = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = list(self.temperatures)
        require(self.n is None or self.n >= 2, f"n is {self.n}; a group needs 2 or more responses to be mixed")
        require(
            all(0 < t <= MAX_TEMPERATURE for t in chosen),
            f"temperatures are {chosen}; set positive ones up to {MAX_TEMPERATURE:g}, vLLM's highest",
        )
        require(
            len(set(chosen)) == len(chosen) >= 2,
            f"temperatures are {chosen}; set two or more different ones, the lowest is T_base",
        )
        require(self.prompts is None or self.prompts >= 1, f"prompts is {self.prompts}; set a positive number or null")


Config = TypeVar("Config", bound=SamplingConfig)


def read_settings(settings_class: type[Config], config: DictConfig) -> Config:
    """Check composed settings.

    Raises:
        EvaluationError: A setting is missing, unknown, of another type, or cannot be used.
    """
    for name in ("sets", "temperatures"):
        # sets=math500 means sets=[math500].
        if isinstance(value := OmegaConf.select(config, name), (str, int, float)):
            config = DictConfig({**config, name: [value]})
    try:
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(settings_class), config))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, EvaluationError):
            raise error.__cause__ from None
        if "missing" in str(error).lower():
            raise EvaluationError(f"{error.full_key} is not set; add {error.full_key}=... to the command.") from None
        raise EvaluationError(f"{error.full_key}: {str(error).splitlines()[0].rstrip('.')}.") from None
    assert isinstance(settings, settings_class)
    return settings


def fill_from_run(settings: Config, run: Path | None) -> Config:
    """Take what is left open from the settings of the run, so that responses are asked for and judged as there.

    Args:
        settings: The checked settings.
        run: Folder of the run that the model belongs to; None if it belongs to none.

    Raises:
        EvaluationError: The settings of the run cannot be read, or not be used here, or what is needed was left out of
            them as a secret.
    """
    trained = read_run(run)

    def of_run(key: str, default: Any) -> Any:
        return setting(trained, key, default)

    changes: dict[str, Any] = {}

    def fill(name: str, key: str, default: Any) -> None:
        if getattr(settings, name) is None:
            changes[name] = of_run(key, default)

    rollout = "actor_rollout_ref.rollout"
    if isinstance(settings, EvalConfig):
        fill("temperature", f"{rollout}.val_kwargs.temperature", 1.0)
        fill("top_p", f"{rollout}.val_kwargs.top_p", 0.9)
        fill("top_k", f"{rollout}.val_kwargs.top_k", -1)
        greedy = changes.get("temperature", settings.temperature) == 0
        changes["n"] = settings.n or (1 if greedy else 32)
    else:
        fill("n", f"{rollout}.n", 8)
        fill("top_p", f"{rollout}.top_p", 1.0)
        fill("top_k", f"{rollout}.top_k", -1)
    if of_run("data.filter_overlong_prompts", False):
        fill("max_prompt_length", "data.max_prompt_length", None)
    fill("max_response_length", "data.max_response_length", DEFAULT_RESPONSE_LENGTH)
    fill("apply_chat_template_kwargs", "data.apply_chat_template_kwargs", {})
    fill("mm_processor_kwargs", "data.mm_processor_kwargs", {})
    where = "reward.custom_reward_function"
    if settings.reward_function is None and of_run(f"{where}.path", None):
        changes["reward_function"] = of_run(f"{where}.path", None)
        changes["reward_function_name"] = of_run(f"{where}.name", "compute_score")
        of_both = OmegaConf.merge(of_run(f"{where}.reward_kwargs", {}), settings.reward_kwargs)
        changes["reward_kwargs"] = OmegaConf.to_object(of_both)
    _refuse_left_out(changes)
    own, fallback = settings.accuracy, AccuracyConfig()
    changes["accuracy"] = AccuracySettings(
        **{
            f.name: of_run(f"erpo.accuracy.{f.name}", getattr(fallback, f.name))
            if getattr(own, f.name) is None
            else getattr(own, f.name)
            for f in fields(own)
        }
    )
    try:
        AccuracyConfig(**asdict(changes["accuracy"]))
    except ConfigError as error:
        raise EvaluationError(str(error).replace("erpo.accuracy", "accuracy", 1)) from None
    return replace(settings, **changes)


def _refuse_left_out(changes: Mapping[str, Any]) -> None:
    """Raise where a setting of the run holds the marker that stands for a secret: it would be taken for the value."""
    for name, value in changes.items():
        for lacking in left_out_of(value, name):
            # The command's reward_kwargs join the run's; any other setting of the command replaces the run's.
            whole = lacking == name or name != "reward_kwargs"
            raise EvaluationError(
                f"{lacking} is not in {CONFIG_FILE} of the run, which holds nothing that looks like a secret; add "
                + (f"{name}=... to the command, whole." if whole else f"+{lacking}=... to the command.")
            )


def read_run(run: Path | None) -> DictConfig:
    """Settings of a run, empty without a run or its ``config.yaml``.

    Raises:
        EvaluationError: The file cannot be read.
    """
    try:
        return OmegaConf.create() if run is None else run_settings(run)
    except RunFolderError as error:
        raise EvaluationError(str(error)) from error


def require(condition: bool, message: str) -> None:
    """Raise :class:`EvaluationError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise EvaluationError(message + ".")
