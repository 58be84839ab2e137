# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Train with ERPO or one of its baselines: ``python -m recipe.erpo.main_erpo [experiment=...] [method=...]``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

# The settings lie at the root of a checkout, and inside this package in an installed wheel.
_PACKAGED = Path(__file__).parent / "configs"
CONFIG_FOLDER = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "configs"


def train(config: DictConfig) -> None:
    """Check the settings, prepare what the experiment makes itself, train, and print a summary.

    Args:
        config: The composed settings.

    Raises:
        ConfigError: A setting or the data cannot be used.
        TrackerError: The data or the saved history cannot be used.
    """
    if config.trainer.device == "cpu":
        from erpo.platform.cpu import activate

        activate()
    import ray
    from verl.trainer.main_ppo import run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    from erpo.runs.summary import print_summary
    from erpo.trainer.checks import check_data_files, check_settings
    from erpo.trainer.config import ConfigError
    from erpo.trainer.runner import ErpoTaskRunner

    auto_set_device(config)
    check_settings(config)
    if "arithmetic" in config:
        from erpo.arithmetic.prepare import PrepareConfig, prepare

        task = config.arithmetic
        try:
            prepare(task.folder, PrepareConfig(train_prompts=task.train_prompts, test_prompts=task.test_prompts))
        except (ValueError, OSError, RuntimeError) as error:
            raise ConfigError(f"arithmetic: {error}") from error
    check_data_files(config)
    # Ray's workers on other nodes have another working folder than this process.
    run_folder = Path(config.trainer.default_local_dir).absolute()
    config.trainer.default_local_dir = str(run_folder)
    # By Ray's own environment, which reaches the processes of other nodes, and of this run only.
    tensorboard = os.environ.get("TENSORBOARD_DIR", str(run_folder / "tensorboard"))
    OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars.TENSORBOARD_DIR", tensorboard, force_add=True)
    with _terminal(config, run_folder):
        validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
        try:
            run_ppo(config, task_runner_class=ray.remote(num_cpus=1)(ErpoTaskRunner))
        finally:
            # The next job of a sweep starts in this process, and must find the devices free.
            ray.shutdown()
    print_summary(run_folder)
    _write_report(run_folder)


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
    if config.ray_kwargs.ray_init.get("log_to_driver", True):
        yield
        return
    from erpo.runs.console import follow

    print(f"run folder: {run_folder}")
    run_folder.mkdir(parents=True, exist_ok=True)
    with (
        follow(run_folder, config.trainer.total_training_steps),
        (run_folder / "driver.log").open("a") as file,
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

    from erpo.tracker import TrackerError
    from erpo.trainer.config import ConfigError
    from erpo.trainer.watchdog import StalledError, death_message

    try:
        train(config)
    except (ConfigError, TrackerError, StalledError) as error:
        # Ray raises an actor's error as one of the same class, whose text is the actor's traceback.
        sys.exit(f"error: {getattr(error, 'cause', error)}")
    except RayActorError as error:
        sys.exit(f"error: {death_message(error)}")


if __name__ == "__main__":
    main()
