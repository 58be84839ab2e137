# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Start-up checks: settings that would give wrong log-probs, or a wrong method, stop the run before anything starts."""

import importlib.metadata
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from erpo.tracker import is_raised, on_grid
from erpo.tracker.config import make_schedule
from erpo.trainer.config import ConfigError, ErpoConfig
from erpo.trainer.early import MAX_TEMPERATURE, READS_NO_GROUPS, late_failures, missing_settings, unknown_names
from erpo.trainer.ignored import ignored_settings

TESTED_VERL = "0.9.1"
MANAGER_CLASS = "erpo.trainer.agent_loop.ErpoAgentLoopManager"
ENGINE_MODULE = "erpo.trainer.engine"
# verl's engines that take a temperature for each response; those of the second line need GPUs and were never run.
RUN_STRATEGIES = ("fsdp", "fsdp2")
STRATEGIES = (*RUN_STRATEGIES, "fsdp_turbo", "veomni", "megatron")
# verl's class of an engine's settings, what composes it, and the strategies that belong to it.
_ENGINE_SETTINGS = {
    "FSDPActorConfig": ("model_engine=dp", ("fsdp", "fsdp2", "fsdp_turbo")),
    "McoreActorConfig": ("model_engine=megatron", ("megatron",)),
    "VeOmniActorConfig": ("model_engine=veomni", ("veomni",)),
}
# Those whose fused kernels take one too, with these of verl's back ends.
_FUSED_STRATEGIES = ("fsdp", "fsdp2", "fsdp_turbo")
_FUSED_BACKENDS = ("torch", "triton", "liger")
_LOG_PROBS = "actor_rollout_ref.rollout.calculate_log_probs"
# Estimators of advantages with a baseline from the group, which RA's pseudo samples join.
RA_ESTIMATORS = ("grpo", "grpo_vectorized", "rloo", "rloo_vectorized", "opo", "gpg")
# Those for which RA has no meaning, and why.
RA_WITHOUT_MEANING = {
    "grpo_passk": "whose advantage is the lead of a group's best response over its second best, and wrong answers do "
    "not change it",
    "reinforce_plus_plus": "which has no group baseline, so all-correct groups have an advantage already",
    "reinforce_plus_plus_baseline": "which normalizes advantages over the whole batch, so pseudo samples in one "
    "group would shift all the others",
    "gae": "whose baseline is a critic's and not the group's",
}
# vLLM raises lower temperatures to this value, silently.
MIN_TEMPERATURE = 0.01


def check_settings(config: DictConfig) -> ErpoConfig:
    """Check the composed settings of a run.

    Args:
        config: verl's settings with the section ``erpo``.

    Returns:
        The settings of ERPO.

    Raises:
        ConfigError: The first setting that cannot be used, in one sentence that says what to change.
    """
    problem = next(missing_settings(config), None)
    if problem is not None:
        raise ConfigError(problem)
    try:
        erpo = ErpoConfig.from_dict(OmegaConf.to_container(config.erpo, resolve=True))
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"erpo: {error}") from error
    problem = next(_problems(config, erpo), None)
    if problem is not None:
        raise ConfigError(problem)
    version = importlib.metadata.version("verl")
    if version != TESTED_VERL:
        warnings.warn(f"ERPO was tested with verl {TESTED_VERL}, this is verl {version}.", stacklevel=2)
    return erpo


def check_data_files(config: DictConfig) -> None:
    """Check that the data files of a run exist, where they are files of this machine.

    Raises:
        ConfigError: A file is missing, or of a kind that verl does not read.
    """
    if not config.data.val_files:
        raise ConfigError("data.val_files is empty, but verl needs a validation file to start; name one.")
    for setting in ("train_files", "val_files"):
        files = config.data[setting]
        for file in [files] if isinstance(files, str) else files or []:
            if "://" not in file and not Path(file).expanduser().exists():
                raise ConfigError(f"data.{setting} names {file}, which does not exist; name another file.")
            if not str(file).endswith((".parquet", ".json", ".jsonl")) and not config.data.custom_cls.path:
                raise ConfigError(
                    f"data.{setting} names {file}, but verl reads .parquet, .json and .jsonl; name such a file."
                )


def _problems(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    yield from _trainer_problems(config)
    for role in ("actor", "ref"):
        yield from _contradicting_engine(role, config.actor_rollout_ref[role])
    yield from late_failures(config, erpo)
    yield from ignored_settings(config, erpo)
    yield from _filter_problems(config, erpo)
    yield from _ra_problems(config, erpo)
    if erpo.schedule.attaches_temperatures:
        yield from _temperature_problems(config, erpo)
        yield from _sampling_problems(config)
        yield from _engine_problems(config)
    else:
        if erpo.train_temperature == "base":
            yield "erpo.train_temperature=base needs a temperature schedule; set erpo.schedule.name, or remove it."
        _warn_of_verls_division(config)
    yield from _correction_problems(config)
    yield from _misnamed(config, erpo.schedule.section)
    yield from unknown_names(config)


def _misnamed(config: DictConfig, name: str) -> Iterator[str]:
    """A name that is made of a constant which the run does not read, as a sweep of another schedule makes it."""
    raw = OmegaConf.to_container(config.trainer, resolve=False)
    assert isinstance(raw, dict)
    for setting in ("experiment_name", "default_local_dir"):
        sections = re.findall(r"\$\{erpo\.schedule\.(\w+)\.", str(raw[setting]))
        other = next((section for section in sections if section != name), None)
        if other is not None:
            yield (
                f"trainer.{setting} names the run by erpo.schedule.{other}, but the schedule of "
                f"method={config.erpo.method} is {name}; take a method with that schedule (erpo has linear)."
            )


def _warn_of_cold_controls(erpo: ErpoConfig, t_base: float) -> None:
    """Temperatures for all prompts are above the base, or the run is no control of what raises them."""
    schedule = erpo.schedule
    if schedule.section == "constant" and on_grid(schedule.constant.temperature) < on_grid(t_base):
        warnings.warn(
            f"erpo.schedule.constant.temperature is {schedule.constant.temperature:g}, below the base temperature "
            f"{t_base:g}: all prompts are sampled colder than without a schedule.",
            stacklevel=2,
        )
    rising = schedule.rising
    if schedule.section == "rising" and not is_raised(on_grid(rising.t_max), max(t_base, rising.t_first)):
        warnings.warn(
            f"erpo.schedule.rising goes from {rising.t_first:g} to {rising.t_max:g}, which is not above t_first and "
            f"the base temperature {t_base:g}; raise erpo.schedule.rising.t_max.",
            stacklevel=2,
        )


def _warn_of_verls_division(config: DictConfig) -> None:
    """Methods without temperatures per prompt train with verl's own engine."""
    temperature = float(config.actor_rollout_ref.rollout.temperature)
    dtype = OmegaConf.select(config, "actor_rollout_ref.actor.fsdp_config.dtype")
    if temperature != 1.0 and dtype != "float32":
        warnings.warn(
            f"actor_rollout_ref.rollout.temperature is {temperature:g}: verl divides bf16 logits by it in bf16, so "
            "training log-probs differ from the rollout's; to divide in float32, leave it at 1 and set "
            f"erpo.schedule.name=constant erpo.schedule.constant.temperature={temperature:g} "
            f"actor_rollout_ref.model.external_lib={ENGINE_MODULE}.",
            stacklevel=3,
        )


def _trainer_problems(config: DictConfig) -> Iterator[str]:
    trainer = config.trainer
    if not trainer.use_v1:
        yield "trainer.use_v1 is false, but ERPO extends verl's V1 trainer; set trainer.use_v1=true."
    manager = OmegaConf.select(config, "actor_rollout_ref.rollout.agent.agent_loop_manager_class", default=None)
    if manager != MANAGER_CLASS and not _is_ours(manager):
        yield (
            f"actor_rollout_ref.rollout.agent.agent_loop_manager_class is {manager}, whose workers neither sample "
            f"at a prompt's temperature nor report finished groups; set it to {MANAGER_CLASS} or a subclass of it."
        )


def _is_ours(manager: str | None) -> bool:
    """Whether a class named by its path is derived from ours."""
    if not manager:
        return False
    from erpo.trainer.agent_loop import ErpoAgentLoopManager

    try:
        found = get_class(manager)
    except Exception as error:
        raise ConfigError(
            f"agent_loop_manager_class {manager} cannot be loaded ({error}); set it to {MANAGER_CLASS}."
        ) from error
    return issubclass(found, ErpoAgentLoopManager)


def _filter_problems(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    enabled = bool(OmegaConf.select(config, "algorithm.filter_groups.enable", default=False))
    if erpo.groups.drop and not enabled:
        yield "erpo.groups.drop is set, but verl's refill is off; set algorithm.filter_groups.enable=true."
    if enabled and not erpo.groups.drop:
        yield "algorithm.filter_groups.enable is true, but erpo.groups.drop is empty; name the kinds to drop."
    if erpo.ra.enable and "all_correct" in erpo.groups.drop:
        yield (
            "erpo.groups.drop drops the all-correct groups that RA needs; remove all_correct from it, or set "
            "erpo.ra.enable=false."
        )


def _ra_problems(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    if not erpo.ra.enable:
        return
    estimator = str(config.algorithm.adv_estimator)
    if estimator not in RA_ESTIMATORS:
        reason = RA_WITHOUT_MEANING.get(estimator, "which is not one of verl's estimators, so its baseline is unknown")
        yield (
            f"erpo.ra.enable has no meaning with algorithm.adv_estimator={estimator}, {reason}; set one of "
            f"{', '.join(RA_ESTIMATORS)}, or erpo.ra.enable=false."
        )
    if erpo.ra.cap_decay != 1 and not erpo.schedule.attaches_temperatures:
        yield (
            f"erpo.ra.cap_decay is {erpo.ra.cap_decay:g}, but without a temperature schedule no prompt is ever at the "
            "cap; set it to 1, or name a schedule in erpo.schedule.name."
        )


def _temperature_problems(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    base = float(config.actor_rollout_ref.rollout.temperature)
    name = erpo.schedule.section
    schedule = make_schedule(erpo.schedule)
    assert schedule is not None
    t_base = schedule.t_base
    lowest = t_base if schedule.t_min is None else min(schedule.t_min, t_base)
    if lowest < MIN_TEMPERATURE:
        yield f"erpo.schedule.{name} reaches T={lowest:g}, below vLLM's lowest temperature {MIN_TEMPERATURE}; raise it."
    if schedule.t_max > MAX_TEMPERATURE:
        yield (
            f"erpo.schedule.{name} reaches T={schedule.t_max:g}, above {MAX_TEMPERATURE:g}, the highest that vLLM "
            "samples at; lower it."
        )
    if name not in READS_NO_GROUPS and lowest == t_base and not is_raised(on_grid(schedule.t_max), t_base):
        warnings.warn(
            f"erpo.schedule.{name}.t_max is {schedule.t_max:g} and t_base {t_base:g}, so that no prompt is ever "
            "raised; raise t_max, or set erpo.schedule.name=none.",
            stacklevel=2,
        )
    _warn_of_cold_controls(erpo, t_base)
    if name == "rising" and erpo.token_budget and erpo.schedule.rising.steps == config.trainer.total_training_steps:
        warnings.warn(
            "erpo.token_budget may end the run before the temperature reaches erpo.schedule.rising.t_max after "
            "trainer.total_training_steps; set erpo.schedule.rising.steps to the steps that you expect.",
            stacklevel=2,
        )
    if abs(t_base - base) > 1e-6:
        yield (
            f"erpo.schedule.{name}.t_base is {t_base:g}, actor_rollout_ref.rollout.temperature is {base:g}; "
            "set them to the same value."
        )
    if erpo.train_temperature == "base" and not OmegaConf.select(
        config, "algorithm.rollout_correction.rollout_is", default=None
    ):
        yield (
            "erpo.train_temperature=base trains on another distribution than it samples from; set "
            "algorithm.rollout_correction.rollout_is=token (or sequence), or erpo.train_temperature=sampling."
        )
    compares = bool(config.actor_rollout_ref.rollout.calculate_log_probs)
    if erpo.train_temperature == "base":
        bypass = OmegaConf.select(config, "algorithm.rollout_correction.bypass_mode", default=False)
        off = "algorithm.rollout_correction.bypass_mode=true" if bypass else f"{_LOG_PROBS}=false"
        if bypass or not compares:
            yield (
                f"erpo.train_temperature=base needs verl's importance weights, which {off} switches off; "
                "change it, or set erpo.train_temperature=sampling."
            )
    elif not compares:
        warnings.warn(
            f"{_LOG_PROBS} is false, so rollout and training log-probs are not compared and a wrong temperature would "
            "not be noticed; set it to true.",
            stacklevel=2,
        )
    if OmegaConf.select(config, "distillation.enabled", default=False):
        yield (
            f"distillation.enabled is true, but verl scores the teacher at T=1 and the student at the temperatures of "
            f"{name}; set it to false, or erpo.schedule.name=none."
        )


def _correction_problems(config: DictConfig) -> Iterator[str]:
    """What verl's older trainer hands to the loss in bypass mode, and its V1 trainer does not."""
    where, loss = "algorithm.rollout_correction", "actor_rollout_ref.actor.policy_loss"
    correction = config.algorithm.get("rollout_correction") or {}
    bypass = bool(correction.get("bypass_mode", False))
    given = {name: correction.get(name) for name in ("rollout_is", "rollout_rs") if correction.get(name)}
    unread = dict(given) if bypass else {}
    if correction.get("loss_type", "ppo_clip") != "ppo_clip":
        unread["loss_type"] = correction["loss_type"]
    for name, value in unread.items():
        yield (
            f"{where}.{name} is {value}, which verl's V1 trainer does not hand to the loss; remove it, or in bypass "
            f"mode set {loss}.loss_mode=bypass_mode and +{loss}.rollout_correction.{name}={value} in its place."
        )
    if OmegaConf.select(config, f"{loss}.loss_mode") == "bypass_mode" and not bypass:
        yield (
            f"{loss}.loss_mode is bypass_mode, which takes the old log-probs for the rollout's; set "
            f"{where}.bypass_mode=true or another loss."
        )
    if not config.actor_rollout_ref.rollout.calculate_log_probs:
        for name in [*(["bypass_mode"] if bypass else []), *given]:
            yield f"{where}.{name} is set, but needs the rollout's log-probs; set {_LOG_PROBS}=true, or remove it."


def _sampling_problems(config: DictConfig) -> Iterator[str]:
    rollout = config.actor_rollout_ref.rollout
    where = "actor_rollout_ref.rollout"
    why = "the rollout's log-probs would not be log_softmax(logits / T)"
    if float(rollout.top_p) != 1.0:
        yield f"{where}.top_p is {rollout.top_p}: {why}; set it to 1.0."
    if int(rollout.top_k) != -1:
        yield f"{where}.top_k is {rollout.top_k}: {why}; set it to -1."
    for name, neutral in (("min_p", 0.0), ("repetition_penalty", 1.0), ("presence_penalty", 0.0)):
        value = rollout.get(name, None)
        if value is not None and float(value) != neutral:
            yield f"{where}.{name} is {value}: {why}; set it to {neutral} or remove it."
    generation = OmegaConf.select(rollout, "engine_kwargs.vllm.override_generation_config", default=None)
    if generation:
        yield f"{where}.engine_kwargs.vllm.override_generation_config changes the sampling: {why}; remove it."
    if rollout.logprobs_mode != "processed_logprobs":
        yield f"{where}.logprobs_mode is {rollout.logprobs_mode}: {why}; set it to processed_logprobs."
    if rollout.name != "vllm":
        yield f"{where}.name is {rollout.name}, but per-prompt temperature was tested with vllm only; set it to vllm."


def _contradicting_engine(role: str, settings: DictConfig) -> Iterator[str]:
    """verl takes the engine from the class of the settings, and its name from ``strategy``."""
    found = str(settings.get("_target_", "")).rsplit(".", 1)[-1]
    if settings.strategy in _ENGINE_SETTINGS.get(found, ("", ()))[1]:
        return
    for composed_by, strategies in _ENGINE_SETTINGS.values():
        if settings.strategy in strategies:
            yield (
                f"actor_rollout_ref.{role}.strategy is {settings.strategy}, but the engine's settings are verl's "
                f"{found}; compose them with {composed_by}, or set the strategy of the engine that you composed."
            )


def _has_own_head(path: str) -> bool:
    """Whether a model in a folder is known to have a head that is not its embedding."""
    try:
        found = json.loads((Path(path).expanduser() / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return found.get("tie_word_embeddings") is False


def _engine_problems(config: DictConfig) -> Iterator[str]:
    actor_rollout_ref = config.actor_rollout_ref
    fused = OmegaConf.select(actor_rollout_ref, "model.use_fused_kernels", default=False)
    for role in ("actor", "ref"):
        strategy = actor_rollout_ref[role].strategy
        if strategy not in STRATEGIES:
            yield (
                f"actor_rollout_ref.{role}.strategy is {strategy}, whose engine takes one temperature for all "
                f"responses; set it to one of {', '.join(STRATEGIES)}."
            )
        if fused and strategy not in _FUSED_STRATEGIES:
            yield (
                "actor_rollout_ref.model.use_fused_kernels is true, but the fused kernels of "
                f"{role}.strategy={strategy} take one temperature for all responses; set it to false."
            )
        if role == "actor" and strategy not in RUN_STRATEGIES:
            warnings.warn(
                f"per-prompt temperature with {role}.strategy={strategy} was written against verl's source and never "
                "run; compare training/rollout_probs_diff_mean at raised prompts with that at the base temperature.",
                stacklevel=2,
            )
    if fused and actor_rollout_ref.actor.strategy == "fsdp2" and _has_own_head(actor_rollout_ref.model.path):
        yield (
            f"actor_rollout_ref.model.use_fused_kernels is true, but verl's fsdp2 splits the head of "
            f"{actor_rollout_ref.model.path}, which is not its embedding, and its fused kernels need it whole; set it "
            "to false."
        )
    backend = OmegaConf.select(actor_rollout_ref, "model.fused_kernel_options.impl_backend", default=None)
    if fused and backend not in _FUSED_BACKENDS:
        yield (
            f"actor_rollout_ref.model.fused_kernel_options.impl_backend is {backend}, so verl fuses nothing; set "
            f"one of {', '.join(_FUSED_BACKENDS)}."
        )
    if OmegaConf.select(actor_rollout_ref, "actor.calculate_sum_pi_squared", default=False):
        yield (
            "actor_rollout_ref.actor.calculate_sum_pi_squared is true, but verl computes it with one temperature for "
            "all responses; set it to false."
        )
    external = actor_rollout_ref.model.get("external_lib", None)
    if ENGINE_MODULE not in ([external] if isinstance(external, str) else list(external or [])):
        yield (
            f"actor_rollout_ref.model.external_lib does not name {ENGINE_MODULE}, so log-probs would be computed at "
            "one temperature for all responses; add it."
        )
