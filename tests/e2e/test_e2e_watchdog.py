# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A worker that is killed while the trainer waits for its responses, as the kernel does when memory runs out."""

import re
import subprocess
import time

import psutil
import pytest
from e2e_runs import small_run, start, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.long]

# So long a response waits for its reward, and the run for its responses: far longer than the watchdog may need.
REWARD_SECONDS = 300
ENDS_WITHIN = 90


def test_a_worker_killed_in_mid_step_ends_the_run_with_what_was_seen(untrained, tmp_path):
    (tmp_path / "slow_reward.py").write_text(
        f"import pathlib, time\n"
        f"def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):\n"
        f"    pathlib.Path({str(tmp_path / 'asked')!r}).touch()\n"
        f"    time.sleep({REWARD_SECONDS})\n"
        f"    return 0.0\n"
    )
    slow = f"reward.custom_reward_function.path={tmp_path}/slow_reward.py"
    arguments = small_run(untrained, tmp_path / "run", "method=erpo", slow)
    run = start(tmp_path / "log", "recipe.erpo.main_erpo", arguments)
    try:
        wait_for(run, tmp_path / "asked")
        killed = kill_agent_loop_worker(run.process.pid)
        begin = time.monotonic()
        code = run.process.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the run still waits {ENDS_WITHIN} s after its worker died:\n{run.tail()}")
    finally:
        run.kill()
    print(f"ended {time.monotonic() - begin:.0f} s after the kill")
    (line,) = (line for line in run.log.read_text().splitlines() if line.startswith("error: "))
    assert code == 1
    assert re.match(
        rf"error: 1 of 4 processes that work on responses died.*agent-loop worker \(process {killed} on", line
    )
    assert "groups of 'train', of which 0 pending, 8 running, 0 finished" in line
    assert "last response: none since the start" in line and "GiB free" in line


def kill_agent_loop_worker(run: int) -> int:
    """Kill -9 the one agent-loop worker of a run; its process id."""
    (worker,) = (
        process
        for process in psutil.Process(run).children(recursive=True)
        if re.match(r"ray::\w*(AgentLoop|Temperature)Worker\b", " ".join(process.cmdline()))
    )
    worker.kill()
    return worker.pid
