# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The launch scripts: what they would start is a command whose settings compose."""

import shlex
import subprocess
from pathlib import Path

import pytest

import recipe.erpo.run.wait_for_nodes
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
