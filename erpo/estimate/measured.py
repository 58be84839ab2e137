# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a run measured, in the place of what has to be assumed before it."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from erpo.estimate.settings import Assumptions, EstimateError
from erpo.runs.metrics_log import read_metrics

# Steps that compile kernels and fill caches.
_WARM_UP = 2
_MEASURED = {
    "response_tokens": "response_length/mean",
    "prompt_tokens": "prompt_length/mean",
    "mfu": "perf/mfu/actor",
}
_PARTS = ("timing_s/gen", "timing_s/old_log_prob", "timing_s/ref", "timing_s/update_actor")


@dataclass(frozen=True)
class Measured:
    """What a run's metrics say.

    Attributes:
        steps: Steps that were looked at.
        values: Assumptions that they replace.
        peak_gib: Most that torch had allocated in a training process; None where nothing was logged.
    """

    steps: int
    values: dict[str, float]
    peak_gib: float | None

    def applied_to(self, assumptions: Assumptions) -> Assumptions:
        """The assumptions with the measured ones in their place."""
        return replace(assumptions, **self.values)


def measured_by(run_folder: Path) -> Measured:
    """Medians over the steps of a run but the first two.

    Raises:
        EstimateError: The folder has no metrics, or of too few steps.
    """
    try:
        metrics = read_metrics(run_folder)
    except (FileNotFoundError, ValueError) as error:
        raise EstimateError(f"{run_folder} has no metrics.jsonl of a run; name a run's folder") from error
    metrics = metrics[metrics["timing_s/step"].notna()] if "timing_s/step" in metrics else metrics[:0]
    metrics = metrics.iloc[_WARM_UP:]
    if metrics.empty:
        raise EstimateError(f"{run_folder} has no step after the first {_WARM_UP}; let it run longer")
    values = {name: _median(metrics, column) for name, column in _MEASURED.items()}
    parts = [metrics[part].fillna(0.0) for part in _PARTS if part in metrics]
    values["step_overhead"] = float((metrics["timing_s/step"] - sum(parts)).clip(lower=0.0).median())
    peak = "actor/perf/max_memory_allocated_gb"
    # A CPU's counters are 0.
    return Measured(
        len(metrics),
        {name: value for name, value in values.items() if value is not None and value > 0},
        float(metrics[peak].max()) if peak in metrics and metrics[peak].max() > 0 else None,
    )


def _median(metrics: pd.DataFrame, column: str) -> float | None:
    return float(metrics[column].median()) if column in metrics else None
