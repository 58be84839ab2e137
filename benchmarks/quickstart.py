# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Does the quickstart teach? Its run from several base models: ``python -m benchmarks.quickstart --out DIR``.

The base model decides more about a run than the method does: a quickstart that was tuned on one teaches that one.
Each base is warmed up from its own seed; a call that was stopped begins with the run that it was in.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from erpo.tasks.arithmetic.base import load_base, one_thread
from erpo.tasks.arithmetic.prepare import PrepareConfig, prepare
from erpo.tasks.arithmetic.sampling import group_accuracies
from erpo.tasks.arithmetic.task import RESERVED_TEST_PROMPTS, make_pools
from erpo.tasks.arithmetic.warmup import WarmupConfig
from erpo.tasks.artefact import MODEL_FOLDER

SAMPLES = 8
RESULTS_FILE = "quickstart.csv"


def accuracy(folder: Path) -> tuple[float, float]:
    """Mean@8 and pass@8 of a model on the held-out problems of all sizes of the task, at T = 1."""
    model, tokenizer = load_base(folder)
    test = make_pools(1, RESERVED_TEST_PROMPTS, 1).test
    with one_thread():
        scores = pd.Series(group_accuracies(model, tokenizer, test, SAMPLES, temperature=1.0, seed=0))
    return float(scores.mean()), float((scores > 0).mean())


def run(base_seed: int | None, out: Path, settings: Sequence[str]) -> dict[str, object]:
    """Train from one base model, as the quickstart does; None is the one in the package.

    Returns:
        ``base`` (its seed, or "package"), ``mean_before``, ``mean_after``, ``pass_before``, ``pass_after``, and
        ``seconds`` of the run, warm-up aside.
    """
    name = "package" if base_seed is None else str(base_seed)
    base, folder = out / f"base-{name}", out / f"run-{name}"
    experiment = ["experiment=cpu_arithmetic", "method=erpo"]
    prepare(base, PrepareConfig(warmup=None if base_seed is None else WarmupConfig(seed=base_seed)))
    # The seconds of a run that was cut off and goes on would be those of its last part.
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.monotonic()
    command = [
        *(sys.executable, "-m", "recipe.erpo.main_erpo", *experiment),
        f"arithmetic.folder={base}",
        f"arithmetic.base_seed={'null' if base_seed is None else base_seed}",
        f"trainer.default_local_dir={folder}",
        "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
        *settings,
    ]
    with (out / f"{name}.log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    seconds = time.monotonic() - begin
    step = (folder / "latest_checkpointed_iteration.txt").read_text()
    before, after = accuracy(base / MODEL_FOLDER), accuracy(folder / f"global_step_{step}" / "actor" / "huggingface")
    means = {"mean_before": before[0], "mean_after": after[0], "pass_before": before[1], "pass_after": after[1]}
    return {"base": name, **means, "seconds": seconds}


def table(results: pd.DataFrame) -> str:
    """The results in Markdown."""
    lines = ["| base model | mean@8 | points | pass@8 | points | seconds |", "|---|---|---|---|---|---|"]
    for row in results.itertuples():
        mean, passed = 100 * (row.mean_after - row.mean_before), 100 * (row.pass_after - row.pass_before)
        lines.append(
            f"| {row.base} | {row.mean_before:.1%} to {row.mean_after:.1%} | {mean:+.1f} | {row.pass_before:.1%} to "
            f"{row.pass_after:.1%} | {passed:+.1f} | {row.seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="quickstart", description="Run the quickstart from several base models.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs; finished ones are not repeated")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4], help="of the bases beside the package's")
    parser.add_argument("settings", nargs="*", help="settings of the runs, as main_erpo takes them")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / RESULTS_FILE
    done = pd.read_csv(path, dtype={"base": str}) if path.exists() else pd.DataFrame({"base": []})
    for seed in [None, *options.seeds]:
        if ("package" if seed is None else str(seed)) not in set(done["base"]):
            row = pd.DataFrame([run(seed, options.out, options.settings)])
            row.to_csv(path, mode="a", header=not path.exists(), index=False)
    print(table(pd.read_csv(path, dtype={"base": str})))


if __name__ == "__main__":
    main()
