# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Check a machine, and a run on it, before it starts: ``python -m recipe.erpo.doctor [experiment=... any setting]``."""

import argparse
import json
import sys
import warnings
from collections.abc import Iterable

from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from erpo.environment import Finding, Level
from erpo.environment.examination import examine_machine, examine_run
from recipe.erpo.estimate import EstimateError, compose_experiment

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red", Level.SKIPPED: "dim"}


def findings(overrides: list[str]) -> Iterable[Finding]:
    """The findings for a run of these settings; without settings, for the machine alone.

    Raises:
        EstimateError: The settings cannot be composed.
    """
    if not overrides:
        return examine_machine()
    config = compose_experiment(overrides)
    if OmegaConf.select(config, "trainer.device") == "cpu":
        from erpo.platform.cpu import activate

        activate()
    return examine_run(config)


def print_table(found: list[Finding], console: Console) -> None:
    """Print the findings, one a row, and below them what fixes those that are not ok."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in found:
        style = _STYLES[finding.level]
        table.add_row(f"[{style}]{finding.level.value}[/]", finding.check, escape(finding.found))
    console.print(table)
    for finding in found:
        if finding.fix:
            console.print(f"{finding.check}: {finding.fix}", markup=False, highlight=False, soft_wrap=True)
    counts = {level: sum(finding.level is level for finding in found) for level in Level}
    console.print(f"{counts[Level.ERROR]} errors, {counts[Level.WARNING]} warnings", highlight=False)


def main() -> None:
    """Command line; exit code 1 where there is an error."""
    parser = argparse.ArgumentParser(
        prog="python -m recipe.erpo.doctor",
        description="Check this machine, and a run on it, before the run starts. Exit code 1 where there is an error.",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="SETTING", help="as for training: experiment=..., method=..., ..."
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_intermixed_args()
    warnings.simplefilter("ignore")
    try:
        found = list(findings(options.overrides))
    except EstimateError as error:
        sys.exit(f"error: {error}")
    if options.json:
        print(json.dumps([finding.to_json() for finding in found], indent=2))
    else:
        # A pipe has no width of its own.
        print_table(found, Console(width=None if sys.stdout.isatty() else 140))
    sys.exit(any(finding.level is Level.ERROR for finding in found))


if __name__ == "__main__":
    main()
