# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""All benchmarks: ``python -m benchmarks run --out FILE.json``, and ``python -m benchmarks check FILE.json``."""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import bf16, driver, log_probs, overhead, startup, tracker

BENCHMARKS = {
    "tracker": tracker.measure,
    "log_probs": log_probs.measure,
    "startup": startup.measure,
    "bf16": bf16.measure,
    "driver": driver.measure,
    "overhead": overhead.measure,
}
COMMITTED = Path(__file__).parent / "results" / "cpu.json"
# A ratio may be worse than the committed one by this factor: two cores shared with others are noisy.
TOLERANCE = 1.25


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure, and compare with committed ratios.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure and write the results")
    run.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="default: all")
    run.add_argument("--out", type=Path, required=True, help="file to write; other benchmarks in it are kept")
    check = commands.add_parser("check", help="compare the ratios of a run with the committed ones")
    check.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        _run(options.only, options.out)
    else:
        worse = list(regressions(json.loads(COMMITTED.read_text()), json.loads(options.file.read_text())))
        sys.exit("\n".join(worse) if worse else 0)


def _run(names: list[str], out: Path) -> None:
    results = json.loads(out.read_text()) if out.exists() else {}
    results["machine"] = machine()
    for name in names:
        print(f"==> {name}", flush=True)
        results[name] = BENCHMARKS[name]()
        print(json.dumps(results[name], indent=2), flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=2) + "\n")


def regressions(committed: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Name every ratio of `new` that is worse than the committed one by more than the tolerance."""
    measured = dict(_ratios(new))
    for name, value in _ratios(committed):
        if name in measured and measured[name] > value * TOLERANCE:
            yield f"{name}: {measured[name]:.3f}, committed {value:.3f}"


def _ratios(results: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in results.items():
        if isinstance(value, dict):
            yield from _ratios(value, f"{prefix}{name}.")
        elif "ratio" in name or "_to_" in name:
            yield f"{prefix}{name}", value


def machine() -> dict[str, Any]:
    """Processor and packages, for a result's reader."""
    packages = ("verl", "torch", "ray", "numpy", "pyarrow")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
