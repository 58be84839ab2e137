# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Waits for responses that cannot come, or do not come: which of them end the run, and what the run says."""

import os
import re
import signal
import time
from collections import defaultdict
from types import SimpleNamespace

import pytest
import ray
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from erpo.trainer.config import ConfigError, ErpoConfig, GroupsConfig
from erpo.trainer.replay_buffer import observe_groups
from erpo.trainer.watchdog import StalledError, Watchdog
from recipe.erpo import main_erpo

GROUPS = "groups of 'train', of which 0 pending, 8 running, 0 finished, 0 failure"
SILENT = r"No response finished in {} s of waiting.*raise erpo\.watchdog\.seconds.*GiB free"


@pytest.mark.parametrize(
    ("waits", "ends"),
    [
        # Each wait: seconds, and the responses that TransferQueue holds then; "batch" where one is complete.
        pytest.param([(60, set())] * 9, None, id="silence-shorter-than-the-limit"),
        pytest.param([(60, set())] * 10, 600, id="no-response-at-all"),
        pytest.param([(60, {"a_0_0"})] * 11, 600, id="one-response-and-then-none"),
        pytest.param([(300, {f"a_{i}_0" for i in range(n)}) for n in range(1, 20)], None, id="slow-but-alive"),
        pytest.param(
            [(300, {"a_0_0"}), (300, {"b_0_0"}), (300, {"c_0_0"})] * 3, None, id="others-finish-as-some-leave"
        ),
        # Groups that fail leave no response: an asynchronous run refills them for ever.
        pytest.param([(300, {"a_0_0"}), (300, set()), (300, set())], 600, id="every-refilled-group-fails"),
        pytest.param([(500, set()), "batch", (500, set()), "batch"], None, id="waits-of-two-steps-are-not-one"),
        pytest.param([(500, set()), "batch", (599, set()), (1, set())], 600, id="second-step-without-a-response"),
    ],
)
def test_silence(waits, ends):
    watchdog = Watchdog(600, dict)

    def go():
        for wait in waits:
            if wait == "batch":
                watchdog.reset()
            else:
                watchdog.waiting(*wait, GROUPS)

    if ends is None:
        go()
    else:
        with pytest.raises(StalledError, match=SILENT.format(ends)) as error:
            go()
        assert "0 pending, 8 running" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [ReplayBuffer, ReplayBufferAsync])
@pytest.mark.parametrize("partition", ["train", "val"])
def test_both_of_verls_buffers_call_the_watchdog_in_training_and_validation(kind, partition, monkeypatch):
    buffer = kind("sync", None, None, "drop", None, poll_interval=0.01)
    buffer = observe_groups(buffer, SimpleNamespace(), {}, GroupsConfig(), None, Watchdog(0.05, dict))
    running = {"uid": {"is_prompt": True, "status": "running", "global_steps": 1}}
    monkeypatch.setattr("transfer_queue.kv_list", lambda: {partition: running})
    with pytest.raises(StalledError, match=f"groups of '{partition}', of which 0 pending, 1 running"):
        buffer.sample(1, partition, 1)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        pytest.param(-1, "erpo.watchdog.seconds is -1", id="negative"),
        pytest.param(float("nan"), "erpo.watchdog.seconds is nan", id="not-a-number"),
        pytest.param("1h", "erpo.watchdog.seconds is '1h'; it must be of type", id="text"),
        pytest.param(0, None, id="zero-is-off"),
        pytest.param(None, None, id="null-is-off"),
    ],
)
def test_setting(seconds, message):
    values = {"watchdog": {"seconds": seconds}}
    if message is None:
        assert not ErpoConfig.from_dict(values).watchdog.seconds
    else:
        with pytest.raises(ConfigError, match=message):
            ErpoConfig.from_dict(values)


@ray.remote
class Worker:
    async def pid(self) -> int:
        return os.getpid()


def _kill_9(worker):
    os.kill(ray.get(worker.pid.remote()), signal.SIGKILL)


def _exit(worker):
    ray.kill(worker)


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=40)
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("role", "end", "message"),
    [
        pytest.param("agent-loop worker", _kill_9, "worker process has died. Worker exit type", id="worker-killed-9"),
        pytest.param("rollout server", _exit, "killed by `ray.kill`", id="server-ended-by-ray"),
        pytest.param("reward worker", _kill_9, "worker process has died. Worker exit type", id="reward-worker-killed"),
        pytest.param("a user's own actor", _kill_9, None, id="actor-of-no-role-is-the-users-affair"),
        pytest.param("agent-loop worker", None, None, id="busy-but-alive"),
    ],
)
def test_dead_processes(cluster, role, end, message, monkeypatch):
    monkeypatch.setattr("erpo.trainer.watchdog._LOOK_EVERY", 0.2)
    worker, other = Worker.remote(), Worker.remote()
    ray.get([worker.pid.remote(), other.pid.remote()])
    roles = defaultdict(str, {other._actor_id.hex(): "agent-loop worker"})
    if role != "a user's own actor":
        roles[worker._actor_id.hex()] = role
    watchdog = Watchdog(600, lambda: roles)
    watchdog.waiting(0.1, [], GROUPS)
    if end is not None:
        end(worker)
    begin = time.monotonic()
    error = None
    while error is None and time.monotonic() < begin + (3 if message is None else 30):
        try:
            watchdog.waiting(0.1, [], GROUPS)
        except StalledError as stalled:
            error = str(stalled)
        time.sleep(0.1)
    if message is None:
        assert error is None
    else:
        assert re.match(rf"1 of 2 processes that work on responses died.*: {role} \(process \d+ on [\d.]+\)", error)
        assert message in error and "0 pending, 8 running" in error and "GiB free" in error
        assert "the same command continues from the last checkpoint" in error and "\n" not in error


@pytest.mark.ray
@pytest.mark.parametrize("from_actor", [False, True], ids=["task-runner-died", "worker-died-before-a-dispatch"])
def test_a_call_to_a_dead_process_ends_the_run_with_a_sentence(cluster, from_actor, monkeypatch):
    worker = Worker.remote()
    _kill_9(worker)

    def train(config):
        call = ask.remote([worker]) if from_actor else worker.pid.remote()
        ray.get(call)

    monkeypatch.setattr(main_erpo, "train", train)
    with pytest.raises(SystemExit) as ended:
        main_erpo.main.__wrapped__(None)
    message = str(ended.value)
    assert message.startswith(
        "error: A process of the run died. The actor died unexpectedly before finishing this task"
    )
    assert "class_name: Worker" in message and "worker process has died" in message and "\n" not in message
    assert message.endswith("the same command continues from the last checkpoint.")


@ray.remote
def ask(workers):
    return ray.get(workers[0].pid.remote())
