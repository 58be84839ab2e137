# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The launch scripts: what they would start is a command whose settings compose."""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

import recipe.erpo.run.wait_for_nodes
from erpo.environment.resources import needs
from erpo.trainer.checks import check_settings

SCRIPTS = Path(recipe.erpo.run.wait_for_nodes.__file__).parent
RUN = ["python", "-m", "recipe.erpo.main_erpo"]


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a script with nothing of this shell's but the path."""
    return subprocess.run(
        [SCRIPTS / name, *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
        timeout=30,
    )


@pytest.mark.parametrize("name", ["one_node.sh", "multi_node_ray.sh", "slurm.sh"])
def test_help_names_every_option(name):
    shown = script(name, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for option in ("--dry-run", "--help", "experiment=NAME", "PYTHON"):
        assert option in shown.stdout


DRY_RUNS = [
    (["one_node.sh"], {}, (1, 4)),
    (["one_node.sh", "--gpus", "8"], {}, (1, 8)),
    (["multi_node_ray.sh", "head", "--nodes", "3", "--ip", "10.0.0.1"], {}, (3, 4)),
    (["multi_node_ray.sh", "head", "--nodes", "2", "--gpus", "8", "--ip", "10.0.0.1"], {}, (2, 8)),
    (["slurm.sh"], {}, (2, 8)),
    (["slurm.sh"], {"SLURM_JOB_NUM_NODES": "4", "SLURM_GPUS_ON_NODE": "2"}, (4, 2)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "environment", "size"), DRY_RUNS)
def test_dry_run_prints_a_command_that_composes(composed, command, environment, size):
    name, *options = command
    mine = ["experiment=qwen2_5_3b", "method=ra", "data.val_files=[data/aime24.parquet]", "erpo.ra.scale=0.5"]
    shown = script(name, *options, *mine, "--dry-run", **environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    words = shlex.split(shown.stdout.splitlines()[-1])
    at = words.index("python")
    assert words[at : at + 3] == RUN
    assert words[:at][:1] == ([] if name == "one_node.sh" else ["env"])
    config = composed(*words[at + 3 :])
    assert check_settings(config).ra.scale == 0.5
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == size
    assert config.data.val_files == ["data/aime24.parquet"]


def test_head_and_workers_meet_at_one_address():
    head = script(
        "multi_node_ray.sh", "head", "--nodes", "2", "--ip", "10.0.0.1", "--port", "7000", "--ray", "--num-cpus=4",
        "experiment=qwen2_5_3b", "--dry-run",
    )  # fmt: skip
    start, wait, train = (shlex.split(line) for line in head.stdout.splitlines())
    assert {"--head", "--block", "--node-ip-address=10.0.0.1", "--port=7000", "--num-cpus=4"} < set(start)
    assert wait[-2:] == ["10.0.0.1:7000", "2"]
    assert train[:2] == ["env", "RAY_ADDRESS=10.0.0.1:7000"]
    worker = script("multi_node_ray.sh", "worker", "10.0.0.1:7000", "--dry-run", PYTHON="/opt/python")
    words = shlex.split(worker.stdout)
    assert words[0] == "/opt/python"
    assert words[-1] == "--address=10.0.0.1:7000"


def test_slurm_starts_a_ray_node_on_every_node():
    shown = script("slurm.sh", "experiment=qwen2_5_32b", "--dry-run", SLURM_JOB_NUM_NODES="4", SLURM_CPUS_PER_TASK="32")
    cluster, wait, train = (shlex.split(line) for line in shown.stdout.replace("$'", "'").splitlines())
    assert cluster[:4] == ["srun", "--nodes=4", "--ntasks=4", "--ntasks-per-node=1"]
    address = wait[-2]
    assert cluster[-3:] == [*address.split(":"), "32"]
    assert wait[-1] == "4"
    assert train[1] == f"RAY_ADDRESS={address}"


def spooled(folder: Path) -> Path:
    """A copy of slurm.sh alone, as Slurm runs it, beside a Slurm that knows where it was submitted from."""
    (folder / "slurm_script").write_bytes((SCRIPTS / "slurm.sh").read_bytes())
    lines = f"JobId=7 JobName=erpo\n   Command={SCRIPTS}/slurm.sh experiment=qwen2_5_3b\n   WorkDir=/"
    (folder / "scontrol").write_text(f'#!/bin/bash\n[[ "$*" == "show job 7" ]] && echo "{lines}"\n')
    (folder / "scontrol").chmod(0o755)
    return folder / "slurm_script"


def test_slurm_finds_what_it_shares_with_the_other_scripts(tmp_path):
    command = ["bash", spooled(tmp_path), "experiment=qwen2_5_3b", "--ip", "10.0.0.1", "--dry-run"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    in_job = subprocess.run(command, env={**environment, "SLURM_JOB_ID": "7"}, capture_output=True, text=True)
    beside = script("slurm.sh", *command[2:])
    assert (in_job.returncode, in_job.stdout) == (0, beside.stdout)
    alone = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (alone.returncode, alone.stdout) == (1, "")
    assert f"there is no common.sh in {tmp_path}; leave slurm.sh beside it" in alone.stderr


def test_slurm_runs_everything_in_the_container():
    shown = script(
        "slurm.sh", "experiment=qwen2_5_32b", "--dry-run", CONTAINER="erpo.sqsh", CONTAINER_MOUNTS="/data:/data",
        SLURMD_NODENAME="node7",
    )  # fmt: skip
    cluster, wait, train = (shlex.split(line) for line in shown.stdout.replace("$'", "'").splitlines())
    for words in (cluster, wait, train):
        assert "--container-image=erpo.sqsh" in words
        assert any(word.startswith("--container-mounts=/") and word.endswith(",/data:/data") for word in words)
    # On the head, beside Ray, which has the node already.
    for words in (wait, train):
        assert {"--overlap", "--nodes=1", "--ntasks=1", "--nodelist=node7"} < set(words)


def test_a_slurm_job_ends_with_the_code_of_a_training_that_fails_at_once(tmp_path):
    """Also where the shell has heard of its end before it first asks: here each question takes a while."""
    (tmp_path / "srun").write_text("#!/bin/bash\nexec sleep 60\n")
    (tmp_path / "python").write_text('#!/bin/bash\ncase "$*" in *wait_for_nodes*) exit 0 ;; *) exit 3 ;; esac\n')
    for name in ("srun", "python"):
        (tmp_path / name).chmod(0o755)
    slow = {"BASH_FUNC_kill%%": '() { sleep 0.5; builtin kill "$@"; }'}
    environment = {**os.environ, **slow, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    command = ["bash", SCRIPTS / "slurm.sh", "--ip", "10.0.0.1", "experiment=qwen2_5_3b"]
    assert subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode == 3


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (1, False)])
def test_a_slurm_job_hands_the_signal_on_and_queues_again(tmp_path, code, requeued):
    """With commands of Slurm that only sleep or write down, and a training that ends with this code when told to."""
    commands = {
        "srun": "exec sleep 60",
        "scontrol": f'echo "$@" > {tmp_path}/queue',
        "python": f"""case "$*" in
            *wait_for_nodes*) exit 0 ;;
            *) trap 'exit {code}' TERM; touch {tmp_path}/training; while true; do sleep 0.1; done ;;
        esac""",
    }
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    job = subprocess.Popen(
        ["bash", SCRIPTS / "slurm.sh", "--ip", "10.0.0.1", "experiment=qwen2_5_3b"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "training").exists():
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=30) == code
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    assert (tmp_path / "queue").exists() is requeued
    if requeued:
        assert (tmp_path / "queue").read_text() == "requeue 7\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kuberay.yaml", "skypilot.yaml"])
def test_files_of_schedulers_start_a_command_that_composes(composed, name):
    content = yaml.safe_load((SCRIPTS / name).read_text())
    line = content["run"].splitlines()[-1] if name == "skypilot.yaml" else content["spec"]["entrypoint"]
    words = shlex.split(line)
    assert words[:3] == RUN
    config = composed(*words[3:])
    check_settings(config)
    needed = needs(config)
    if name == "kuberay.yaml":
        spec = content["spec"]["rayClusterSpec"]
        groups = [(1, spec["headGroupSpec"]), *((group["replicas"], group) for group in spec["workerGroupSpecs"])]
        pods = [(count, group["template"]["spec"]["containers"][0]["resources"]["limits"]) for count, group in groups]
        assert sum(count * int(limits["cpu"]) for count, limits in pods) >= needed.cpus
        assert sum(count * int(limits["nvidia.com/gpu"]) for count, limits in pods) == needed.gpus


BAD = [
    (["one_node.sh"], "no experiment is named"),
    (["one_node.sh", "--gpus", "experiment=qwen2_5_3b"], "--gpus needs a number"),
    (["one_node.sh", "experiment=qwen2_5_3b", "--gpus"], "--gpus needs a number"),
    (["multi_node_ray.sh"], "head or worker"),
    (["multi_node_ray.sh", "train"], "head or worker"),
    (["multi_node_ray.sh", "head", "experiment=qwen2_5_3b"], "--nodes needs the number of nodes"),
    (["multi_node_ray.sh", "head", "--nodes", "2"], "no experiment is named"),
    (["multi_node_ray.sh", "head", "experiment=qwen2_5_3b", "--nodes"], "--nodes needs a value"),
    (["multi_node_ray.sh", "worker"], "needs the head's address"),
    (["multi_node_ray.sh", "worker", "10.0.0.1:6379", "experiment=qwen2_5_3b"], "and nothing else"),
    (["slurm.sh"], "no experiment is named"),
    (["slurm.sh", "experiment=qwen2_5_3b"], "this is no Slurm job"),
]


@pytest.mark.parametrize(("command", "message"), BAD, ids=[" ".join(command) for command, _ in BAD])
def test_bad_arguments_end_in_one_sentence(command, message):
    run = script(*command)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("error: ")
    assert message in run.stderr
    assert run.stderr.count("\n") == 1


def test_waiting_for_a_head_that_never_comes_ends(capsys):
    with pytest.raises(TimeoutError, match=r"no Ray head answers at 127\.0\.0\.1:1 within 0\.5 s"):
        recipe.erpo.run.wait_for_nodes.wait_for_nodes("127.0.0.1:1", 2, timeout=0.5)
