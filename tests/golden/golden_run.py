# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The golden run: its settings, and its files as verl and as this folder keep them.

Four steps were recorded of ``method=erpo_band`` on an untrained model: temperatures from 0.5 to the cap of 2.0 in one
batch, all-correct groups with RA's advantage (with its decay at the cap), mixed and all-wrong groups. vLLM's sampling
depends on the order in which requests arrive, so a replay reads the recorded rollouts, by verl's own
``skip.rollout_tq``, and repeats everything after them. Two more steps are sampled anew: the fifth shows which
temperatures the tracker hands out, and both that rollout and training agree on the probabilities.

No group is dropped: verl records the batch that was sampled, so that dropped groups would be missing from a replay.
"""

import json
from pathlib import Path
from typing import Any

import e2e_runs
import numpy as np
import pandas as pd
import torch
from golden_compare import numbers
from verl.utils import tensordict_utils as tu

from erpo.runs import read_groups, read_metrics
from erpo.tracker import TrackerConfig
from erpo.tracker.schedules.band import BandConfig

RECORDED = 4
STEPS = RECORDED + 2
ROLLOUTS = Path(__file__).with_name("rollouts.parquet")
GROUPS = Path(__file__).with_name("groups.csv")
METRICS = Path(__file__).with_name("metrics.json")

KINDS = ["right"] * 3 + ["wrong"] + ["mixed"] * 4  # what the scripted reward makes of a prompt
SCHEDULE = TrackerConfig(name="band", band=BandConfig(dt=0.5, floor=0.5, t_max=2.0))
SETTINGS = [
    "method=erpo_band",
    "erpo.schedule.band.dt=0.5",
    "erpo.schedule.band.floor=0.5",
    "erpo.schedule.band.t_max=2.0",
    "erpo.ra.cap_decay=0.5",
    "erpo.groups.drop=[]",
    "algorithm.filter_groups.enable=false",
    "actor_rollout_ref.actor.optim.lr=1.0e-3",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
    "erpo.samples.every=2",
    "erpo.samples.groups=2",
    f"trainer.total_training_steps={STEPS}",
    "skip.rollout_tq.enable=true",
    f"skip.rollout_tq.steps={list(range(1, RECORDED + 1))}",
]
# verl's name for the folder of rollouts of these settings.
DUMP_FOLDER = "erpo_band_cpu_arithmetic/GBS8_N4_in32_out16"


def prepare(folder: Path) -> list[float]:
    """Write the model and the prompts; two sums over all weights, which tell other weights from these."""
    model = e2e_runs.prepare(folder, "golden", KINDS)
    weights = torch.cat([weight.detach().double().flatten() for weight in model.parameters()])
    places = torch.linspace(0, 1, len(weights), dtype=torch.float64)
    return [float(weights.abs().sum()), float(weights.abs() @ places)]


def start_run(folder: Path, log: str = "run.log") -> e2e_runs.Run:
    """Train in ``folder``, which :func:`prepare` filled; steps with rollouts in ``folder/rollouts`` replay them."""
    arguments = e2e_runs.small_run(folder, folder / "run", *SETTINGS, f"skip.rollout_tq.dump_dir={folder}/rollouts")
    return e2e_runs.start(folder / log, "recipe.erpo.main_erpo", arguments)


def committed() -> dict[tuple[int, str], Any]:
    """The numbers of the recorded run."""
    groups = pd.read_csv(GROUPS, dtype={"key": str, "lengths": str})
    return numbers(groups, json.loads(METRICS.read_text())["steps"])


def group_table(folder: Path) -> pd.DataFrame:
    """The group log up to the first step that is sampled anew, where what follows from the sampling is empty."""
    groups = read_groups(folder / "run").query(f"step <= {RECORDED + 1}")
    groups = groups.sort_values(["step", "key"], ignore_index=True)
    # A replay may number the responses of a group differently.
    groups["lengths"] = [" ".join(map(str, sorted(lengths))) for lengths in groups["lengths"]]
    sampled_anew = groups["step"] > RECORDED
    for name in ("correct", "accuracy", "lengths", "truncated", "outcome", "revived", "entropy"):
        groups[name] = groups[name].astype(object).where(~sampled_anew)
    return groups


def step_metrics(folder: Path) -> dict[str, dict[str, float]]:
    """The metrics by step, of the first step that is sampled anew those that do not depend on its sampling."""
    read = read_metrics(folder / "run").loc[: RECORDED + 1]
    metrics = {str(step): row.dropna().to_dict() for step, row in read.iterrows()}
    last = str(RECORDED + 1)
    settled = ("erpo/temperature/mean", "erpo/temperature/max", "erpo/temperature/frac_raised", "actor/lr")
    metrics[last] = {
        name: value for name, value in metrics[last].items() if name in settled or name.endswith("probs_diff_max")
    }
    return metrics


# ---- rollouts: verl's torch file of each step <-> one table of plain values -----------------------------------------


def dumps_of(folder: Path) -> list[Path]:
    """verl's files below ``folder``, one per recorded step."""
    return sorted(folder.rglob("tq_batch.pt"))


def read_dumps(folder: Path) -> pd.DataFrame:
    """Rollouts as verl wrote them, one row per response; what is neither a number nor a list of them is JSON."""
    tables = []
    for path in dumps_of(folder):
        payload = torch.load(path, weights_only=False)
        columns: dict[str, Any] = {"key": payload["keys"], "tag": [json.dumps(tag) for tag in payload["tags"]]}
        columns["step"] = payload["global_steps"]
        for name, values in sorted(payload["tensordict"].items()):
            if isinstance(values, torch.Tensor):
                nested = values.is_nested
                columns[f"field/{name}"] = [row.numpy() for row in values.unbind()] if nested else values.numpy()
            else:
                columns[f"field/{name}"] = [json.dumps(getattr(value, "data", value)) for value in list(values)]
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def write_dumps(rollouts: pd.DataFrame, folder: Path) -> None:
    """Inverse of :func:`read_dumps`, where verl looks for the rollouts of these settings."""
    for step, rows in rollouts.groupby("step"):
        fields = {name.removeprefix("field/"): _field(rows[name]) for name in rows if name.startswith("field/")}
        payload = {
            "tensordict": tu.get_tensordict(fields),
            "tags": [json.loads(tag) for tag in rows["tag"]],
            "keys": rows["key"].tolist(),
            "global_steps": step,
        }
        target = folder / DUMP_FOLDER / str(step) / "0"
        target.mkdir(parents=True)
        torch.save(payload, target / "tq_batch.pt")
        (target / "meta.json").write_text(json.dumps({"global_steps": step, "num_trajectories": len(rows)}))


def _field(values: pd.Series) -> torch.Tensor | list[Any]:
    first = values.iloc[0]
    if isinstance(first, str):
        return [json.loads(value) for value in values]
    if isinstance(first, np.ndarray):
        return torch.nested.as_nested_tensor([torch.tensor(value) for value in values], layout=torch.jagged)
    return torch.tensor(values.to_numpy())
