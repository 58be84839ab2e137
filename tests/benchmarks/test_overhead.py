# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of step time and start-up do around their runs: settings, clocks, ratios and phases."""

import json
import types
from itertools import accumulate

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import PPOTrainerSync
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from benchmarks.overhead import Line, compare, measure, our_arguments, plain_settings, run, steps_of
from benchmarks.startup import _session_time, phases
from erpo.trainer.checks import check_settings
from recipe.erpo.main_erpo import CONFIG_FOLDER


def leaves(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    return {name: leaf for key in value for name, leaf in leaves(value[key], f"{prefix}.{key}").items()}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Our settings and verl's, composed from the same arguments."""
    arguments = our_arguments(tmp_path_factory.mktemp("overhead") / "run", 7)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        ours = compose("erpo_trainer", overrides=arguments)
    return ours, plain_settings(arguments)


def test_our_run_goes_the_whole_way_at_one_temperature(both):
    erpo = check_settings(both[0])
    assert erpo.schedule.attaches_temperatures and erpo.schedule.constant.temperature == 1.0
    assert not erpo.ra.enable and not erpo.groups.drop


def test_verls_run_differs_by_erpo_alone(both):
    ours, verl = (leaves(OmegaConf.to_container(settings, resolve=True)) for settings in both)
    differing = {name for name in {*ours, *verl} if ours.get(name) != verl.get(name)}
    assert {name for name in differing if not name.startswith((".erpo.", ".arithmetic."))} == {
        ".actor_rollout_ref.model.external_lib",
        ".actor_rollout_ref.rollout.agent.agent_loop_manager_class",
        ".trainer.v1.sampler.custom_sampler.path",
        ".trainer.v1.sampler.custom_sampler.name",
        ".trainer.v1.sampler.sampler_kwargs.poll_interval",
    }
    assert not any(name.startswith((".erpo", ".arithmetic")) for name in verl)


def test_verls_trainer_builds_its_own_buffer_with_our_interval(both):
    ours, verl = both
    trainer = types.SimpleNamespace(config=verl, trainer_mode="sync", _add_prompts_to_generate=None)
    buffer = PPOTrainerSync._build_replay_buffer(trainer)
    assert type(buffer) is ReplayBuffer
    assert buffer.poll_interval == ours.erpo.poll_interval == 0.1


def test_a_run_is_timed_line_by_line(tmp_path):
    (tmp_path / "training.py").write_text(
        "import json, os, time\n"
        "with open(os.environ['VERL_FILE_LOGGER_PATH'], 'wb', buffering=0) as file:\n"
        "    for step in range(3):\n"
        "        time.sleep(0.2 * step)\n"
        "        file.write(json.dumps({'step': step, 'data': {'x': step}}).encode() + b'\\n')\n"
        "    time.sleep(0.2)\n"
    )
    first, second, third = run(["training"], tmp_path)
    assert [line.metrics for line in (first, second, third)] == [{"x": 0}, {"x": 1}, {"x": 2}]
    assert second.time - first.time == pytest.approx(0.2, abs=0.15)
    assert third.time - second.time == pytest.approx(0.4, abs=0.15)


def test_cpu_seconds_are_those_of_all_processes_of_a_run(tmp_path):
    (tmp_path / "training.py").write_text(
        "import os, subprocess, sys, time\n"
        "busy = 'import time\\nwhile time.process_time() < 1.0: pass\\nprint(flush=True)\\ntime.sleep(60)'\n"
        "child = subprocess.Popen([sys.executable, '-c', busy], stdout=subprocess.PIPE)\n"
        "for step in range(2):\n"
        "    with open(os.environ['VERL_FILE_LOGGER_PATH'], 'a') as file:\n"
        "        file.write('{\"data\": {}}\\n')\n"
        "    child.stdout.readline() if step == 0 else time.sleep(0.5)\n"
        "child.kill()\n"
    )
    first, second = run(["training"], tmp_path)
    assert second.cpu - first.cpu == pytest.approx(1.0, abs=0.3)


def test_a_run_that_fails_is_an_error_with_its_last_words(tmp_path):
    (tmp_path / "training.py").write_text("print('out of prompts')\nraise SystemExit(3)\n")
    with pytest.raises(RuntimeError, match=r"training ended with code 3: out of prompts"):
        run(["training"], tmp_path)


@pytest.mark.parametrize(("steps", "pairs"), [(2, 1), (3, 0)])
def test_nothing_to_compare_is_refused(steps, pairs):
    with pytest.raises(ValueError, match="nothing to compare"):
        measure(steps, pairs)


def lines(*step_seconds, length):
    """What a run logs whose steps take so many seconds, half of them of a CPU, and 0.5 after verl's timer stopped."""
    parts = {"gen": 0.25, "old_log_prob": 0.25, "adv": 0.125, "update_actor": 0.125, "update_weights": 0.125}
    logged = {**{f"timing_s/{name}": value for name, value in parts.items()}, "response_length/mean": length}
    times = accumulate(step_seconds)
    return [
        Line(time, time / 2, {**logged, "timing_s/step": seconds - 0.5})
        for time, seconds in zip(times, step_seconds, strict=True)
    ]


def test_first_steps_are_left_out_and_parts_add_up():
    steps = steps_of(lines(90.0, 9.0, 2.0, 3.0, length=20.0))
    assert [step.seconds for step in steps] == [2.0, 3.0]
    assert [step.cpu for step in steps] == [1.0, 1.5]
    assert [step.timed for step in steps] == [1.5, 2.5]
    assert steps[0].parts["after"] == 0.5 and steps[0].parts["other"] == pytest.approx(1.5 - 0.875)
    assert all(sum(step.parts.values()) == pytest.approx(step.seconds) for step in steps)


def test_ratios_are_of_pairs():
    """A machine that is twice as slow during one pair changes no ratio."""
    ours = [steps_of(lines(1, 1, 2.2, 2.2, 9, length=22)), steps_of(lines(1, 1, 4.2, 4.2, 4.2, length=20))]
    verl = [steps_of(lines(1, 1, 2, 2, 2, length=20)), steps_of(lines(1, 1, 4, 4, 4, length=20))]
    result = compare(ours, verl)
    assert result["step_range"] == pytest.approx([1.05, 1.1])
    assert result["step_ratio"] == pytest.approx(1.075)
    assert result["token_range"] == pytest.approx([1.0, 1.05])
    assert result["timer_range"] == pytest.approx([3.7 / 3.5, 1.7 / 1.5])
    assert result["cpu_ratio"] == pytest.approx(1.075)
    assert result["seconds"] == pytest.approx({"ours": 4.2, "verl": 3.0})
    assert result["cpu_seconds"] == pytest.approx({"ours": 2.1, "verl": 1.5})
    assert result["parts"]["after"] == pytest.approx({"ours": 0.5, "verl": 0.5})


# Calls as Ray names them in its timeline, with the seconds after the start at which they end.
CALLS = {
    "TransferQueueController:TransferQueueController.store_config": 21,
    "7SMnTCWorkerDict_0:0:WorkerDict.__init__": 30,
    "WorkerDict.actor_rollout_init_model": 34,
    "reward_loop_worker_0:RewardLoopWorker.__init__": 39,
    "vllm_server_0_0:vLLMHttpServer.__init__": 48,
    "vLLMHttpServer.launch_server": 60,
    "WorkerDict.actor_rollout_update_weights": 62,
    "GlobalRequestLoadBalancer.__init__": 72,
    "agent_loop_worker_0_64acbee7:AgentLoopWorkerTQ.__init__": 70,
}
BEGIN = 1_795_246_857.0


def event(category, end, worker="other", seconds=1.0):
    return {"cat": category, "name": "x", "tid": worker, "ts": (BEGIN + end - seconds) * 1e6, "dur": seconds * 1e6}


def timeline():
    return [
        # A later call of the same method, as every step makes them, ends no phase.
        event("task::WorkerDict.actor_rollout_update_weights", 90),
        *(event(f"task::{call}", end) for call, end in CALLS.items()),
        event("task::TaskRunnerV1.run", 120, "runner", seconds=110),
        event("submit_task", 15, "runner", seconds=0),
        event("submit_task", 16, "runner", seconds=0),
        event("submit_task", 7, "driver", seconds=0),
        event("task:execute", 3, "driver"),
    ]


def test_phases_of_a_start_follow_one_another():
    result = phases(timeline(), BEGIN, BEGIN + 4, BEGIN + 80)
    assert result["total"] == pytest.approx(80)
    assert result["seconds"] == pytest.approx(
        {
            "driver": 4,
            "ray_init": 3,
            "task_runner": 8,
            "transfer_queue": 6,
            "data_and_worker_process": 9,
            "fsdp2": 4,
            "vllm_server": 14,
            "vllm_engine": 12,
            "first_weights": 2,
            "agent_loop_workers": 10,
            "first_step": 8,
        }
    )
    assert sum(result["share"].values()) == pytest.approx(1)
    assert result["share"]["ray_init"] == pytest.approx(3 / 80)


@pytest.mark.parametrize("call", ["vLLMHttpServer.launch_server", "TaskRunnerV1.run"])
def test_a_timeline_of_another_verl_is_refused(call):
    events = [one for one in timeline() if not one["cat"].endswith(call)]
    with pytest.raises(RuntimeError, match="Ray's timeline lacks"):
        phases(json.loads(json.dumps(events)), BEGIN, BEGIN + 4, BEGIN + 80)


def test_the_name_of_a_session_tells_its_time():
    first, second = (_session_time(f"session_2026-11-21_07-36-{rest}") for rest in ("45_368535_10134", "46_000035_7"))
    assert second - first == pytest.approx(0.6315, abs=1e-5)
