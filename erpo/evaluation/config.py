# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of the evaluation commands: these dataclasses are the truth, ``configs/*.yaml`` mirrors them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Of the proxy runs (the first author's later public ones on the same base model).
DEFAULT_RESPONSE_LENGTH = 8192


class EvaluationError(ValueError):
    """Input or a setting that cannot be used; the message says what is wrong and what to change."""


@dataclass(frozen=True)
class SamplingConfig:
    """What both commands share.

    Attributes:
        model: A Hugging Face folder (or hub id), a run folder (its newest checkpoint), or one ``global_step_N``.
        n: Responses per prompt.
        top_p: Nucleus; 1 is off.
        top_k: Most probable tokens that are sampled from; -1 is all.
        max_response_length: Tokens after which a response is cut; None takes the run's, else 8192.
        seed: Seed of the responses, of the intervals, and of a choice of prompts.
        out: Folder of the results; None is a folder in the run, else one named after the model.
        reward_function: Python file or ``pkg://module`` with a reward function in verl's form; None takes the run's,
            else verl's scorer of the data source.
        reward_function_name: Its name.
        reward_kwargs: Its further keyword arguments.
        apply_chat_template_kwargs: Arguments of the chat template; None takes the run's.
        chunk_responses: Responses that are sampled, judged and written at a time: what an interruption can cost.
        tensor_parallel_size: GPUs that the model is split over.
        dtype: vLLM's dtype; None is float32 on a CPU, and the model's own elsewhere.
        engine_kwargs: Further arguments of ``vllm.LLM``.
    """

    model: str = MISSING
    n: int = 32
    top_p: float = 1.0
    top_k: int = -1
    max_response_length: int | None = None
    seed: int = 0
    out: str | None = None
    reward_function: str | None = None
    reward_function_name: str = "compute_score"
    reward_kwargs: dict[str, Any] = field(default_factory=dict)
    apply_chat_template_kwargs: dict[str, Any] | None = None
    chunk_responses: int = 1024
    tensor_parallel_size: int = 1
    dtype: str | None = None
    engine_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.n >= 1, f"n is {self.n}; set 1 or more responses per prompt")
        require(0 < self.top_p <= 1, f"top_p is {self.top_p}; set a number in (0, 1]")
        require(
            self.top_k == -1 or self.top_k >= 1, f"top_k is {self.top_k}; set a positive number, or -1 for all tokens"
        )
        length = self.max_response_length
        require(length is None or length >= 1, f"max_response_length is {length}; set a positive number of tokens")
        require(self.chunk_responses >= 1, f"chunk_responses is {self.chunk_responses}; set 1 or more")
        require(self.tensor_parallel_size >= 1, f"tensor_parallel_size is {self.tensor_parallel_size}; set 1 or more")


@dataclass(frozen=True)
class EvalConfig(SamplingConfig):
    """Settings of ``recipe.erpo.main_eval``; the sampling defaults are the proxy's validation.

    Attributes:
        sets: Names of prepared sets, or paths of Parquet files in verl's row schema.
        data_folder: Folder of the prepared sets.
        temperature: Sampling temperature; 0 is greedy.
    """

    sets: list[str] = MISSING
    data_folder: str = "data"
    temperature: float = 1.0
    top_p: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.sets) > 0, "sets is empty; name at least one, sets=[math500]")
        require(self.temperature >= 0, f"temperature is {self.temperature}; set 0 (greedy) or a positive number")
        require(
            self.temperature > 0 or self.n == 1,
            f"at temperature 0 all {self.n} responses of a prompt are one; set n=1 or a positive temperature",
        )


@dataclass(frozen=True)
class ResidualConfig(SamplingConfig):
    """Settings of ``recipe.erpo.residual_share``; responses are sampled as training samples them.

    Attributes:
        data: Name of a prepared set, or path of a Parquet file: the training prompts.
        data_folder: Folder of the prepared sets.
        temperatures: The lowest is T_base.
        prompts: Prompts that are drawn from the data; None is all of them.
    """

    data: str = MISSING
    data_folder: str = "data"
    temperatures: list[float] = field(default_factory=lambda: [1.0, 1.1, 1.2, 1.5])
    n: int = 8
    prompts: int | None = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = list(self.temperatures)
        require(self.n >= 2, f"n is {self.n}; a group needs 2 or more responses to be mixed")
        require(all(t > 0 for t in chosen), f"temperatures are {chosen}; set positive ones")
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
    """
    file = run / "config.yaml" if run is not None else None
    trained = OmegaConf.load(file) if file is not None and file.exists() else OmegaConf.create()

    def of_run(key: str, default: Any) -> Any:
        value = OmegaConf.select(trained, key)
        return default if value is None else OmegaConf.to_object(value) if OmegaConf.is_config(value) else value

    changes: dict[str, Any] = {}
    if settings.max_response_length is None:
        changes["max_response_length"] = int(of_run("data.max_response_length", DEFAULT_RESPONSE_LENGTH))
    if settings.apply_chat_template_kwargs is None:
        changes["apply_chat_template_kwargs"] = of_run("data.apply_chat_template_kwargs", {})
    where = "reward.custom_reward_function"
    if settings.reward_function is None and of_run(f"{where}.path", None):
        changes["reward_function"] = of_run(f"{where}.path", None)
        changes["reward_function_name"] = of_run(f"{where}.name", "compute_score")
        changes["reward_kwargs"] = of_run(f"{where}.reward_kwargs", {})
    return replace(settings, **changes)


def require(condition: bool, message: str) -> None:
    """Raise :class:`EvaluationError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise EvaluationError(message + ".")
