# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Train with ERPO or one of its baselines: ``python -m recipe.erpo.main_erpo [experiment=...] [method=...]``."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from erpo.trainer import default_folder
from erpo.trainer.default_folder import CONFIG_FOLDER

default_folder.register()

# sysexits.h: EX_TEMPFAIL, "the user is invited to retry": the run saved and stopped because it was asked to.
EXIT_STOPPED = 75


def train(config: DictConfig) -> int | None:
    """Check the settings, prepare what the experiment makes itself, train, and print a summary.

    Args:
        config: The composed settings.

    Returns:
        The step at which the run saved and stopped because it was asked to by SIGTERM; None if it came to its end.

    Raises:
        ConfigError: A setting or the data cannot be used.
        RunFolderError: Another process is in the run's folder.
        TrackerError: The data or the saved history cannot be used.
    """
    if config.trainer.device == "cpu":
        from erpo.platform.cpu import activate

        activate()
    from verl.utils.device import auto_set_device

    from erpo.runs.summary import print_summary
    from erpo.trainer.folders import NEW_FOLDER, log_folder, prepare_folders, validates_only

    auto_set_device(config)
    run_folder = prepare_folders(config)
    _check(config, run_folder)
    logs = log_folder(config)
    # By Ray's own environment, which reaches the processes of other nodes, and of this run only.
    tensorboard = os.environ.get("TENSORBOARD_DIR", str(logs / "tensorboard"))
    OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars.TENSORBOARD_DIR", tensorboard, force_add=True)
    try:
        stopped = _run(config, logs)
    except Exception:
        # What is said of such an end is that the same command continues from the last checkpoint.
        if OmegaConf.select(config, NEW_FOLDER, default=False):
            print(f"every start has a folder of its own; this one is trainer.default_local_dir={run_folder}")
        raise
    if stopped is not None:
        return stopped
    print_summary(logs)
    if not validates_only(config):
        _write_report(logs)
    return None


def _check(config: DictConfig, run_folder: Path) -> None:
    """Stop before anything starts what could not be trained; make what the experiment makes itself on the way."""
    from erpo.environment.attention import choose_attention
    from erpo.environment.examination import start_problem
    from erpo.trainer.checks import check_data_files, check_settings
    from erpo.trainer.config import ConfigError
    from erpo.trainer.folders import checkpoint_to_resume, validates_only
    from erpo.trainer.identity import check_identity

    check_settings(config)
    problem = start_problem(config)
    if problem is not None:
        raise ConfigError(problem)
    _prepare_artefacts(config)
    check_data_files(config)
    chosen = choose_attention(config)
    if chosen is not None:
        print(chosen)
    if not validates_only(config):
        check_identity(config, run_folder, checkpoint_to_resume(config))


def _run(config: DictConfig, logs: Path) -> int | None:
    """Train with verl's entry point; returns the step after which the run stopped because it was asked to."""
    # Not below: loggers keep the terminal that they find when they are imported.
    import ray
    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    from erpo.runs import stop
    from erpo.runs.lock import locked
    from erpo.trainer.runner import ErpoTaskRunner

    with locked(logs), _terminal(config, logs):
        stop.forget(logs)
        validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
        runner = _StopsOnSigterm(ray.remote(num_cpus=1)(ErpoTaskRunner), logs)
        try:
            run_ppo(config, task_runner_class=runner)
        finally:
            runner.restore()
            # The next job of a sweep starts in this process, and must find the devices free.
            ray.shutdown()
        stopped = stop.stopped_at(logs)
        stop.forget(logs)
    return stopped


def _prepare_artefacts(config: DictConfig) -> None:
    """Make the model and the data of an experiment that makes its own, where they are not there yet."""
    from erpo.trainer.config import ConfigError

    try:
        if "arithmetic" in config:
            from erpo.tasks.arithmetic import prepare as arithmetic
            from erpo.tasks.arithmetic.warmup import WarmupConfig

            settings = dict(config.arithmetic)
            folder, seed = settings.pop("folder"), settings.pop("base_seed")
            warmup = None if seed is None else WarmupConfig(seed=seed)
            arithmetic.prepare(folder, arithmetic.PrepareConfig(**settings, warmup=warmup))
        if "word_problems" in config:
            from erpo.tasks.word_problems import prepare as smollm2

            settings = dict(config.word_problems)
            folder = settings.pop("folder")
            smollm2.prepare(folder, smollm2.PrepareConfig(**settings), config.trainer.device)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        # transformers' own messages have several lines.
        raise ConfigError(
            f"model and data could not be made: {next(iter(str(error).splitlines()), repr(error))}"
        ) from error


class _StopsOnSigterm:
    """An actor class whose start also installs our handler of SIGTERM: before it, ``ray.init`` puts its own in place.

    The first signal asks the trainer to save and end with the present step; the second ends this process at once.

    Args:
        actor_class: The actor class, as ``ray.remote`` returns it.
        folder: Folder of the run's records.
    """

    def __init__(self, actor_class: Any, folder: Path) -> None:
        self._actor_class = actor_class
        self._folder = folder
        self._previous: Any = None

    def options(self, **settings: Any) -> "_StopsOnSigterm":
        """As the actor class has it."""
        self._actor_class = self._actor_class.options(**settings)
        return self

    def remote(self) -> Any:
        """Start the actor."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self._actor_class.remote()

    def restore(self) -> None:
        """Put the handler in place that was there before."""
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
            self._previous = None

    def _handle(self, number: int, frame: Any) -> None:
        from erpo.runs import stop

        if stop.requested(self._folder):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        # Said before it is asked for: a second signal may follow at once.
        print(
            "SIGTERM: the run saves and ends after the current step; a second SIGTERM ends it at once.", file=sys.stderr
        )
        stop.request(self._folder)


def _write_report(run_folder: Path) -> None:
    """Write the report, where the extra ``report`` is installed; a run that succeeded does not fail by its picture."""
    try:
        from erpo.report import write_report
    except ImportError as error:
        print(f"no report: {error.name} is not installed (extra: report)")
        return
    try:
        print(f"report: {write_report([run_folder], run_folder / 'report')}")
    except Exception as error:
        print(f"no report: {error}; try `python -m erpo.report {run_folder} --out FOLDER`")


@contextmanager
def _terminal(config: DictConfig, run_folder: Path) -> Iterator[None]:
    """Where Ray keeps the workers' output to itself, show the run's own lines and put verl's prints into a file."""
    print(f"run folder: {run_folder}")
    if config.ray_kwargs.ray_init.get("log_to_driver", True):
        yield
        return
    from erpo.runs.console import follow
    from erpo.runs.settings import PrivateLog, secrets_in

    # verl prints the environment that it hands to Ray.
    secrets = secrets_in(OmegaConf.to_container(config.ray_kwargs, resolve=True))
    with (
        follow(run_folder, config.trainer.total_training_steps),
        PrivateLog(run_folder / "driver.log", secrets) as file,
        redirect_stdout(file),
    ):
        try:
            yield
        except Exception:
            print("The run failed; what its processes printed is in Ray's folder session_latest/logs.", file=sys.stderr)
            raise


@hydra.main(config_path=str(CONFIG_FOLDER), config_name="erpo_trainer", version_base=None)
def main(config: DictConfig) -> None:
    """Command line."""
    from ray.exceptions import RayActorError

    from erpo.runs.errors import RunFolderError
    from erpo.tracker import TrackerError
    from erpo.trainer.config import ConfigError
    from erpo.trainer.folders import NEW_FOLDER, same_command_continues
    from erpo.trainer.watchdog import StalledError, death_message

    try:
        stopped = train(config)
    except (ConfigError, RunFolderError, StalledError, TrackerError) as error:
        # Ray raises an actor's error as one of the same class, whose text is the actor's traceback.
        sys.exit(f"error: {getattr(error, 'cause', error)}")
    except RayActorError as error:
        sys.exit(f"error: {death_message(error)}")
    if stopped is None:
        return
    said = f"stopped by SIGTERM after step {stopped}, which is saved"
    if OmegaConf.select(config, NEW_FOLDER, default=False):
        sys.exit(f"{said}; trainer.default_local_dir={config.trainer.default_local_dir} continues it")
    if not same_command_continues(config):
        sys.exit(f"{said}; trainer.resume_mode=auto continues from there, and {config.trainer.resume_mode} does not")
    print(f"{said}; the same command continues from there")
    sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    main()
