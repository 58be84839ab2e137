# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""All checks of a machine, and those that are fast enough for every start of a run."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from erpo.environment.attention import attention_finding
from erpo.environment.data import data_findings, image_findings
from erpo.environment.finding import Finding, Level
from erpo.environment.late import late_findings
from erpo.environment.machine import Gpu, disk_findings, gpu_findings, gpus, memory_finding, shared_memory_finding
from erpo.environment.model import model_findings, tokenizer_finding
from erpo.environment.packages import has_cpu_platform, package_findings
from erpo.environment.resources import joins, own_resources, resources_findings
from erpo.tasks.artefact import ARTEFACT_SECTIONS


def examine_machine() -> Iterator[Finding]:
    """What is here, without a run."""
    listed = gpus()
    # A login node has the GPU packages and no GPU.
    on_cpu = not listed and has_cpu_platform()
    yield from package_findings(on_cpu)
    if not on_cpu:
        yield from gpu_findings(listed)
    else:
        yield Finding("GPU", Level.WARNING, "none: only the CPU platform works", "experiment=cpu_arithmetic needs none")
    yield from _host(Path("runs"), None, None)


def examine_run(config: DictConfig) -> Iterator[Finding]:
    """What is here against what a run needs.

    Args:
        config: The composed settings.
    """
    from erpo.trainer.checks import check_settings
    from erpo.trainer.config import ConfigError
    from erpo.trainer.early import missing_settings, wrong_numbers

    device = OmegaConf.select(config, "trainer.device")
    on_cpu = device == "cpu"
    listed = [] if on_cpu else gpus()
    yield from package_findings(on_cpu)
    if device == "cuda":
        yield from gpu_findings(listed)
    problem = next(chain(missing_settings(config), wrong_numbers(config)), None)
    if problem is not None:
        # All further checks read such settings.
        yield Finding("settings", Level.ERROR, problem, "change it, for the other checks need it")
        yield from _host(Path("runs"), None, None)
        return
    try:
        check_settings(config)
        yield Finding("settings", Level.OK, "accepted")
        yield from late_findings(config)
    except ConfigError as error:
        yield Finding("settings", Level.ERROR, str(error), "change it")
    models = [*_models(config)]
    yield from models
    if not _makes_model(config):
        if models[0].level is Level.OK:
            model = config.actor_rollout_ref.model
            yield tokenizer_finding(str(model.get("tokenizer_path") or model.path))
        yield from data_findings(config)
        yield from image_findings(config)
    yield attention_finding(config)
    address = joins(config)
    if address is None:
        yield Finding("Ray", Level.OK, "the run starts its own")
        yield from resources_findings(config, own_resources(config), "this machine")
    else:
        yield _joined(config, address)
    memory, checkpoint = _estimate(config, listed)
    yield memory
    folder, kept = Path(config.trainer.default_local_dir), config.trainer.max_actor_ckpt_to_keep
    yield from _host(folder, checkpoint, kept, config.ray_kwargs.ray_init.get("_temp_dir"))


def start_problem(config: DictConfig) -> str | None:
    """What would stop a run late, and is found in seconds; None where nothing is.

    Args:
        config: The composed settings.
    """
    return next((finding.sentence() for finding in _at_start(config) if finding.level is Level.ERROR), None)


def _at_start(config: DictConfig) -> Iterator[Finding]:
    yield from late_findings(config)
    yield attention_finding(config)
    yield from _models(config)
    yield from image_findings(config)
    address = joins(config)
    if address is None:
        yield from resources_findings(config, own_resources(config), "this machine")
    else:
        yield _joined(config, address)


def _models(config: DictConfig) -> Iterator[Finding]:
    if _makes_model(config):
        yield Finding("model", Level.OK, f"{config.actor_rollout_ref.model.path}, which the first run makes")
    else:
        yield from model_findings(config)


def _makes_model(config: DictConfig) -> bool:
    """Whether the run makes its own model, with the data beside it, and has not done so yet."""
    path = Path(config.actor_rollout_ref.model.path)
    folders = [config[section].folder for section in ARTEFACT_SECTIONS if section in config]
    return any(path.is_relative_to(folder) for folder in folders) and not path.exists()


def _joined(config: DictConfig, address: str) -> Finding:
    named = [name for name in ("num_cpus", "num_gpus") if config.ray_kwargs.ray_init.get(name) is not None]
    if named:
        return Finding(
            "Ray",
            Level.ERROR,
            f"a Ray cluster runs at {address}, so this run cannot set {' and '.join(named)}",
            f"stop it (ray stop), set +ray_kwargs.ray_init.address=local, or set {named[0]} to null",
        )
    return Finding(
        "Ray", Level.OK, f"the run joins the cluster at {address}; its CPUs and GPUs are checked at the start"
    )


def _host(
    run_folder: Path, checkpoint: float | None, kept: int | None, ray_folder: str | None = None
) -> Iterator[Finding]:
    yield memory_finding()
    yield shared_memory_finding()
    yield from disk_findings(run_folder, checkpoint, kept, ray_folder)


def _estimate(config: DictConfig, listed: list[Gpu]) -> tuple[Finding, float | None]:
    """Memory of a GPU as the run takes it by our calculation, and bytes of a checkpoint."""
    from erpo.estimate import EstimateError, Hardware, ModelShape, RunSettings
    from erpo.estimate.memory import estimate_memory
    from erpo.estimate.settings import GIB, Assumptions

    check = "GPU memory"
    if config.trainer.device == "cpu":
        return Finding(check, Level.SKIPPED, "the run needs none"), None
    try:
        settings = RunSettings.from_config(config)
        shape = ModelShape.of(config.actor_rollout_ref.model.path)
        least = min((gpu.memory for gpu in listed), default=0.0)
        hardware = Hardware("this machine", settings.gpus, least, 1.0, 1.0)
        memory = estimate_memory(shape, settings, hardware, Assumptions())
    except EstimateError as error:
        return Finding(check, Level.SKIPPED, f"not estimated: {error}"), None
    if not listed:
        return Finding(
            check, Level.SKIPPED, f"training takes {memory.training_peak / GIB:.0f} GiB a GPU"
        ), memory.checkpoint
    found = (
        f"training takes {memory.training_peak / GIB:.0f} GiB, generation {memory.rollout_peak / GIB:.0f} GiB "
        f"of {least / GIB:.0f} GiB, calculated"
    )
    if memory.fits(hardware, settings):
        return Finding(check, Level.OK, found), memory.checkpoint
    fix = "python -m recipe.erpo.estimate with these settings and --machine names what to add"
    return Finding(check, Level.WARNING, found, fix), memory.checkpoint
