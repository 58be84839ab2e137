# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Record the golden run anew, where a change of its numbers is meant: ``python tests/golden/record.py``.

It trains for about two minutes and rewrites the rollouts, the group log and the metrics beside this file. Nothing is
written if the run fails or does not show what the test is for. With ``--keep-rollouts`` the difference in git is that
of the change alone; a change of the temperatures, or of what verl records of a rollout, needs new ones.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import pandas as pd

# pytest finds e2e_runs by pyproject.toml; a script has only its own folder.
sys.path.append(str(Path(__file__).parents[1] / "e2e"))
from golden_compare import is_compared
from golden_run import (
    GROUPS,
    METRICS,
    RECORDED,
    ROLLOUTS,
    group_table,
    prepare,
    read_dumps,
    start_run,
    step_metrics,
    write_dumps,
)


def missing(groups: pd.DataFrame) -> list[str]:
    """What a recording must show and this one does not."""
    recorded = groups[groups["step"] <= RECORDED]
    capped = recorded[(recorded["outcome"] == "all_correct") & (recorded["temperature"] == groups["temperature"].max())]
    shown = {
        "a revived group": recorded["revived"].astype(bool).any(),
        "an all-wrong group": (recorded["outcome"] == "all_wrong").any(),
        "a mixed group above the base temperature": (recorded.query("temperature > 1")["outcome"] == "mixed").any(),
        "an all-correct group at the cap twice": capped["key"].duplicated().any(),
    }
    return [name for name, is_shown in shown.items() if not is_shown]


def write(folder: Path, weights: list[float]) -> None:
    """Write the files beside this one from a run in ``folder``."""
    groups, rollouts = group_table(folder), read_dumps(folder / "rollouts")
    lacking = missing(groups)
    if lacking:
        sys.exit(f"error: the recording does not show {', '.join(lacking)}; sampling is random, so record again")
    steps = {
        step: {name: value for name, value in sorted(values.items()) if is_compared(name)}
        for step, values in step_metrics(folder).items()
    }
    contents = {
        ROLLOUTS: rollouts.to_parquet(compression="zstd", index=False),
        GROUPS: groups.to_csv(index=False).encode(),
        METRICS: (json.dumps({"weights": weights, "steps": steps}, indent=1) + "\n").encode(),
    }
    for path, content in contents.items():
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(content)
        os.replace(temporary, path)
        print(f"wrote {path.name}, {len(content):,} bytes")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Record the golden run anew.")
    parser.add_argument(
        "--keep-rollouts", action="store_true", help="replay the committed rollouts, sample no new ones"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = prepare(folder)
        if options.keep_rollouts:
            write_dumps(pd.read_parquet(ROLLOUTS), folder / "rollouts")
        print("training: about two minutes", flush=True)
        start_run(folder).wait()
        write(folder, weights)


if __name__ == "__main__":
    main()
