# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Start: before the first step, every worker says which engine it runs."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from erpo.runs.console import write_line
from erpo.trainer.config import ConfigError
from erpo.trainer.stages.base import TrainerStage

if TYPE_CHECKING:
    from erpo.trainer.engine import RunningEngine


class Startup(TrainerStage):
    """Stops a run whose workers took another engine than ours."""

    def on_init_end(self) -> None:
        """Ask the workers of actor and reference, where the method attaches temperatures."""
        if self.tracker.attaches_temperatures:
            # Importing the engine's module changes verl's registry, which is for methods that need it.
            from erpo.trainer.engine import running_engines

            groups = [self.actor_rollout_wg]
            if self.use_reference_policy and self.ref_policy_wg is not self.actor_rollout_wg:
                groups.append(self.ref_policy_wg)
            reports = [wg.execute_all_sync("execute_with_func_generator", running_engines) for wg in groups]
            line = check_engines([engine for report in reports for worker in report for engine in worker])
            write_line(self.log_folder, line)
            print(line)
        super().on_init_end()


def check_engines(engines: Iterable["RunningEngine"]) -> str:
    """Check what the workers reported.

    Returns:
        One line for the log.

    Raises:
        ConfigError: An engine is not ours, or none was reported.
    """
    counts: dict[RunningEngine, int] = {}
    for engine in engines:
        counts[engine] = counts.get(engine, 0) + 1
    for engine in counts:
        if not engine.per_response:
            raise ConfigError(
                f"The {engine.role} runs {engine.name}, whose log-probs are at one temperature for all responses; name "
                "erpo.trainer.engine in actor_rollout_ref.model.external_lib, after any module that brings engines."
            )
    if not counts:
        raise ConfigError("No worker reported its engine; set actor_rollout_ref.actor.strategy=fsdp2.")
    return "Engines: " + ", ".join(f"{engine.role} {engine.name} x {count}" for engine, count in counts.items())
