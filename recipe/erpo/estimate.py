# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Memory and time of an experiment before it is started: ``python -m recipe.erpo.estimate experiment=qwen2_5_7b``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from erpo.estimate import CARDS, Assumptions, EstimateError, Hardware, ModelShape, Plan, RunSettings, make_plan
from erpo.estimate.measured import Measured, measured_by
from erpo.estimate.settings import GIB
from recipe.erpo.main_erpo import CONFIG_FOLDER

_MACHINES = ("4xa100-80gb", "4xh100-80gb", "8xa100-80gb", "8xh100-80gb", "1xh200-141gb")
# Shares of dropped groups: methods that drop nothing, and two points for those that do.
_DROPPED = (0.0, 0.5, 0.75)


def machine(name: str) -> Hardware:
    """A machine by its name, such as ``8xh100-80gb``.

    Raises:
        EstimateError: No such machine.
    """
    count, _, card = name.partition("x")
    if not count.isdigit() or int(count) < 1 or card not in CARDS:
        raise EstimateError(f"{name!r} is not a machine; write a number of GPUs, x and one of {', '.join(CARDS)}")
    return Hardware(name, int(count), *CARDS[card])


def print_plans(plans: Sequence[Plan], console: Console) -> None:
    """Print a row for each machine and, below, what has to be added to the command there."""
    table = Table(box=box.MARKDOWN)
    columns = ["machine", "added", "training", "generation", "a GPU has", "host", "at once", "step"]
    for name in [*columns, *(f"hours, {share:.0%} dropped" for share in _DROPPED)]:
        table.add_column(name, justify="left" if name in ("machine", "added") else "right")
    marks: dict[tuple[str, ...], str] = {}
    for plan in plans:
        mark = marks.setdefault(plan.overrides, "abcdefghij"[len(marks)]) if plan.overrides else ""
        table.add_row(plan.hardware.name, mark, *_memory_cells(plan), *_time_cells(plan))
    console.print(table)
    for overrides, mark in marks.items():
        console.print(f"{mark}: {' '.join(overrides)}", soft_wrap=True)


def _memory_cells(plan: Plan) -> list[str]:
    memory = plan.memory
    sizes = (memory.training_peak, memory.rollout_peak, plan.hardware.memory, memory.host)
    return [f"{size / GIB:.0f} GiB" for size in sizes]


def _time_cells(plan: Plan) -> list[str]:
    if plan.timing is None:
        return ["", "does not fit", *("" for _ in _DROPPED)]
    timing = plan.timing
    generation, training = timing.generation + timing.tail, timing.training + timing.offload + timing.overhead
    step = f"{generation / 60:.1f} + {training / 60:.1f} min"
    return [str(timing.concurrent), step, *(f"{timing.hours(plan.settings, share):.0f}" for share in _DROPPED)]


def print_parts(plan: Plan, console: Console) -> None:
    """Print where the memory of a plan goes."""
    table = Table(box=box.MARKDOWN)
    for name in (plan.hardware.name, "part", "GiB"):
        table.add_column(name, justify="right" if name == "GiB" else "left")
    for phase, parts in {**plan.memory.training, "generation": plan.memory.rollout}.items():
        for part, size in parts.items():
            if size:
                table.add_row(phase, part, f"{size / GIB:.1f}")
    table.add_row("inside vLLM", "KV cache", f"{plan.memory.cache / GIB:.1f}")
    table.add_row("a checkpoint", "on disk", f"{plan.memory.checkpoint / GIB:.1f}")
    console.print(table)


def print_assumptions(assumptions: Assumptions, console: Console) -> None:
    """Print every number that is neither a setting nor a fact."""
    table = Table(box=box.MARKDOWN)
    for name in ("assumption", "value", "meaning"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for entry in fields(assumptions):
        table.add_row(entry.name, f"{getattr(assumptions, entry.name):g}", entry.metadata["meaning"])
    console.print(table)


def print_measured(run_folder: Path, measured: Measured, console: Console) -> None:
    """Print what a run measured."""
    values = ", ".join(f"{name}={value:.3g}" for name, value in measured.values.items())
    peak = "" if measured.peak_gib is None else f"; a training process had {measured.peak_gib:.0f} GiB at most"
    console.print(
        f"From {measured.steps} steps of {run_folder}: {values}{peak}.", highlight=False, markup=False, soft_wrap=True
    )


def compose_experiment(overrides: Sequence[str]) -> DictConfig:
    """Compose the settings as training does.

    Raises:
        EstimateError: They cannot be composed.
    """
    try:
        with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
            return compose("erpo_trainer", overrides=list(overrides))
    except HydraException as error:
        raise EstimateError(str(error).splitlines()[0]) from error


def estimate(options: argparse.Namespace, console: Console) -> None:
    """Calculate and print.

    Raises:
        EstimateError: Something is unknown or not covered.
    """
    machines = [machine(name) for name in options.machine or _MACHINES]
    assumptions = Assumptions()
    if options.measured is not None:
        measured = measured_by(options.measured)
        assumptions = measured.applied_to(assumptions)
        print_measured(options.measured, measured, console)
    assumptions = assumptions.with_values(options.assume)
    config = compose_experiment(options.overrides)
    settings = RunSettings.from_config(config)
    shape = ModelShape.of(config.actor_rollout_ref.model.path)
    plans = [make_plan(shape, settings, hardware, assumptions) for hardware in machines]
    console.print(
        f"{config.actor_rollout_ref.model.path}: {shape.parameters:,} parameters, {settings.steps} steps of "
        f"{settings.batch} prompts x {settings.n} responses. Calculated, not measured.\n",
        highlight=False,
    )
    print_plans(plans, console)
    if options.parts:
        for plan in plans:
            print_parts(plan, console)
        print_assumptions(assumptions, console)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipe.erpo.estimate",
        description="Calculate memory and time of an experiment; docs/reproduce.md explains the columns.",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="SETTING", help="as for training: experiment=..., method=..., ..."
    )
    parser.add_argument("--machine", action="append", help=f"GPUs x card, repeatable (default: {', '.join(_MACHINES)})")
    parser.add_argument(
        "--assume", action="append", default=[], metavar="NAME=VALUE", help="another assumption, repeatable"
    )
    parser.add_argument(
        "--from", dest="measured", type=Path, metavar="RUN", help="take what a run measured instead of assumptions"
    )
    parser.add_argument("--parts", action="store_true", help="also print where the memory goes, and the assumptions")
    console = Console()
    # A Markdown table must not be wrapped where the output is a file.
    console.width = max(console.width, 200)
    try:
        estimate(parser.parse_intermixed_args(), console)
    except EstimateError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
