# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One run that is killed with -9 at 13 moments and told to end (SIGTERM) at two, and goes on after each.

Whatever the moment: every step up to the last checkpoint has its groups and its metrics, once, and the history in that
checkpoint is what the group log says. The run goes on from there.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from e2e_runs import RUN_TIMEOUT, Run, replay, same_history, small_run, start

from erpo.runs import read_groups
from erpo.tracker import PromptTracker, TrackerConfig
from erpo.tracker.schedules.linear import LinearConfig
from erpo.tracker.storage import load_state

pytestmark = [pytest.mark.ray, pytest.mark.long]

SCHEDULE = TrackerConfig(name="linear", linear=LinearConfig(dt=0.5, t_max=2.0))
SAVE_EVERY = 2
LEAST_HIT = 12
# Code of a run that was told to end and saved what it had.
PREEMPTED = 75
LOOK_EVERY = 0.005  # seconds


@dataclass
class View:
    """What can be seen of a running training from outside, since it was started.

    Attributes:
        folder: The run's folder.
        asked: File that grows by a byte with every response that is scored.
        first: The step that this start begins with.
        save: The step at which it saves first.
    """

    folder: Path
    asked: Path
    first: int = 0
    save: int = 0
    scored: int = 0
    before: dict[Path, tuple[int, int]] = field(default_factory=dict)
    lines_before: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.first = marker(self.folder) + 1
        self.save = -(-self.first // SAVE_EVERY) * SAVE_EVERY
        # What an earlier start left is no sign of this one.
        self.before = {path: self._stamp(path) for path in self.folder.rglob("*")}
        self.lines_before = frozenset(metrics_lines(self.folder))
        self.mark()

    @staticmethod
    def _stamp(path: Path) -> tuple[int, int]:
        stat = path.stat()
        return stat.st_ino, stat.st_mtime_ns

    def mark(self) -> None:
        """Count responses from here."""
        self.scored = self.asked.stat().st_size if self.asked.exists() else 0

    def written(self, pattern: str) -> bool:
        """Whether this start made or touched a file."""
        try:
            return any(self._stamp(path) != self.before.get(path) for path in self.folder.glob(pattern))
        except FileNotFoundError:
            return False

    def measured(self, step: int) -> bool:
        """Whether this start wrote the metrics of a step."""
        new = set(metrics_lines(self.folder)) - self.lines_before
        return any(json.loads(line)["step"] == step for line in new)


Sign = Callable[[View], bool]


def scored(count: int) -> Sign:
    return lambda view: view.asked.exists() and view.asked.stat().st_size >= view.scored + count


def groups_of(later: int) -> Sign:
    return lambda view: view.written(f"groups/step_{view.first + later:06d}.parquet")


def saving(pattern: str) -> Sign:
    return lambda view: view.written(f"global_step_{view.save}/{pattern}")


def measured(later: int) -> Sign:
    return lambda view: view.measured(view.first + later)


def saved(view: View) -> bool:
    return marker(view.folder) == view.save


@dataclass(frozen=True)
class Moment:
    """When a run is ended: after these signs, one after the other, and so many seconds."""

    name: str
    signs: tuple[Sign, ...]
    after: float = 0.0
    by: signal.Signals = signal.SIGKILL


MOMENTS = [
    Moment("generation of the first step", (scored(3),)),
    Moment("marker written", (saved,)),
    Moment("generation, nearly complete", (scored(25),)),
    Moment("observation", (scored(32),), after=0.15),
    Moment("group log written", (groups_of(0),)),
    Moment("tracker state begun", (saving("erpo"),)),
    Moment("validation after a checkpoint", (saved, scored(3))),
    Moment("tracker state written", (saving("erpo/tracker.json"),)),
    Moment("weights being written", (saving("actor/model_*.pt"),)),
    Moment("optimizer being written", (saving("actor/optim_*.pt"),)),
    Moment("told to end in a generation", (scored(3),), by=signal.SIGTERM),
    Moment("data position written", (saving("data.pt"),)),
    Moment("metrics of a saved step written", (lambda view: view.measured(view.save),)),
    Moment("told to end in a validation", (saved, scored(3)), by=signal.SIGTERM),
    Moment("generation of the second step", (groups_of(0), measured(0), scored(5)), after=0.1),
]


def marker(folder: Path) -> int:
    """The step that a resumed run goes on from."""
    try:
        return int((folder / "latest_checkpointed_iteration.txt").read_text() or 0)
    except FileNotFoundError:
        return 0


def measured_steps(folder: Path) -> list[int]:
    """The steps of a run's metrics, in their order."""
    return [json.loads(line)["step"] for line in metrics_lines(folder)]


def metrics_lines(folder: Path) -> list[str]:
    """The whole lines of a run's metrics; a kill can leave part of one."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith("{") and line.endswith("}")]


def end_at(run: Run, view: View, moment: Moment) -> bool:
    """Wait for the moment and end the run; whether the moment came."""
    tree: list[psutil.Process] = []
    signs = list(moment.signs)
    end = time.monotonic() + RUN_TIMEOUT
    hit = False
    while (
        run.process.poll() is None and time.monotonic() < end and not view.written(f"groups/step_{view.save + 3:06d}.*")
    ):
        if not tree and scored(1)(view):
            # All processes exist by now; looking them up takes too long for the moment itself.
            tree = run.tree()
        if signs[0](view):
            signs.pop(0)
            view.mark()
        if not signs:
            time.sleep(moment.after)
            hit = run.process.poll() is None
            break
        time.sleep(LOOK_EVERY)
    if hit and moment.by == signal.SIGTERM:
        run.process.send_signal(signal.SIGTERM)
        run.process.wait(RUN_TIMEOUT)
    for process in tree:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    run.kill()
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert not alive, alive
    return hit


def faults_of(folder: Path, last: int) -> list[str]:
    """What is wrong with the records of the steps up to ``last``, which is the last checkpoint's."""
    if last == 0:
        return []
    faults = []
    steps = list(range(1, last + 1))
    files = {path.stem for path in (folder / "groups").glob("step_*.parquet")}
    without = [step for step in steps if f"step_{step:06d}" not in files]
    if without:
        return [f"no groups of steps {without}"]
    logged = [step for step in measured_steps(folder) if step <= last]
    if logged != steps:
        faults.append(f"metrics of steps {logged}, expected {steps}")
    groups = read_groups(folder)
    groups = groups[groups["step"] <= last]
    state = PromptTracker(SCHEDULE)
    extra = load_state(state, folder / f"global_step_{last}" / "erpo", accept_changed_data=True)
    if extra["totals"]["groups"] != len(groups):
        faults.append(f"{extra['totals']['groups']} groups in the state, {len(groups)} in the log")
    try:
        same_history(state, replay(folder, SCHEDULE, last))
    except AssertionError as error:
        faults.append(f"history of step {last} is not the log's: {error}")
    return faults


@pytest.fixture(scope="module")
def chaos(untrained, tmp_path_factory):
    """The folder of the run, the moments that were hit, and what was found wrong after each."""
    folder = tmp_path_factory.mktemp("chaos")
    asked = folder / "asked"
    # Scoring takes its time, so that a generation can be met half-way.
    (folder / "counted_reward.py").write_text(
        f"import sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from scripted_reward import compute_score as scripted\n"
        f"def compute_score(*args, **kwargs):\n"
        f"    time.sleep(0.03)\n"
        f"    with open({str(asked)!r}, 'ab') as file:\n"
        f"        file.write(b'.')\n"
        f"    return scripted(*args, **kwargs)\n"
    )
    run_folder = folder / "run"
    arguments = small_run(
        untrained,
        run_folder,
        "method=erpo",
        "erpo.schedule.linear.dt=0.5",
        f"reward.custom_reward_function.path={folder}/counted_reward.py",
        f"trainer.save_freq={SAVE_EVERY}",
        "trainer.test_freq=1",
    )
    hit, faults = [], []
    begin = time.monotonic()
    for i, moment in enumerate(MOMENTS):
        view = View(run_folder, asked)
        run = start(folder / f"{i}.log", "recipe.erpo.main_erpo", [*arguments, "trainer.total_training_steps=1000"])
        came = end_at(run, view, moment)
        last = marker(run_folder)
        found = faults_of(run_folder, last)
        if came:
            hit.append(moment)
        else:
            found.append(f"the moment did not come: {run.tail()[-1500:]}")
        if came and moment.by == signal.SIGTERM:
            steps = measured_steps(run_folder)
            if run.process.returncode != PREEMPTED or last < view.first or last != max(steps):
                found.append(f"ended with {run.process.returncode}, saved {last}, began with {view.first}, did {steps}")
        faults += [f"{moment.name}: {fault}" for fault in found]
        verdict = "; ".join(found) or "nothing lost"
        print(f"{time.monotonic() - begin:5.0f} s | {moment.name} | began with {view.first}, saved {last} | {verdict}")
    last_step = marker(run_folder) + SAVE_EVERY
    start(
        folder / "last.log", "recipe.erpo.main_erpo", [*arguments, f"trainer.total_training_steps={last_step}"]
    ).wait()
    print(f"{time.monotonic() - begin:5.0f} s | end | step {last_step}")
    return run_folder, hit, faults, last_step


def test_the_moments_were_hit(chaos):
    kills = [moment.name for moment in chaos[1] if moment.by == signal.SIGKILL]
    assert len(kills) >= LEAST_HIT, kills


def test_nothing_was_lost_or_written_twice_at_any_moment(chaos):
    assert not chaos[2], "\n".join(chaos[2])


def test_the_run_ends_as_if_it_had_not_been_disturbed(chaos):
    run_folder, _, _, last_step = chaos
    assert marker(run_folder) == last_step
    assert not faults_of(run_folder, last_step)
    groups = read_groups(run_folder)
    assert sorted(groups["step"].unique()) == list(range(1, last_step + 1))
    # Eight groups a step are trained on; how many are dropped besides depends on the prompts.
    assert (groups[~groups["dropped"]].groupby("step").size() == 8).all()
    assert groups["temperature"].max() == 2.0
