# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A run's folder: nothing in it is lost, it belongs to one experiment and one process, and it holds no secrets."""

import copy
import functools
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from tensorboard import plugin_util
from torchdata.stateful_dataloader import StatefulDataLoader

from erpo.report.data import load_runs
from erpo.runs import GroupLog, MetricsLog, read_groups, read_metrics, settings, stop
from erpo.runs.errors import RunFolderError
from erpo.runs.lock import locked
from erpo.runs.sample_log import SampleLog
from erpo.runs.summary import print_summary, summarize
from erpo.runs.superseded import supersede
from erpo.tracker import (
    GroupOutcomes,
    Outcome,
    PromptTracker,
    TrackerConfig,
    TrackerError,
    keys_array,
    on_grid,
    prompt_key,
)
from erpo.tracker.storage import load_state, save_state
from erpo.trainer import early, live
from erpo.trainer.config import ConfigError, ErpoConfig
from erpo.trainer.folders import checkpoint_to_resume, log_folder, prepare_folders, same_command_continues
from erpo.trainer.identity import check_identity, fingerprint, to_file
from erpo.trainer.stages import checkpoint, step
from erpo.trainer.trainer import ErpoTrainerSync
from erpo.trainer.watchdog import StalledError
from recipe.erpo import main_erpo
from recipe.erpo.main_erpo import CONFIG_FOLDER

ROW = {
    "key": "ab" * 16,
    "temperature": 1.0,
    "n": 2,
    "correct": 1,
    "accuracy": 0.5,
    "lengths": [3, 4],
    "truncated": 0,
    "outcome": "mixed",
    "revived": False,
    "dropped": False,
}
GPU = [
    "data.train_files=T.parquet",
    "data.val_files=V.parquet",
    "actor_rollout_ref.model.path=M",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.n=8",
]


GROUPS = ("experiment=", "method=", "+sweep=")


@functools.cache
def _composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        return compose("erpo_trainer", overrides=list(overrides))


def composed(*overrides: str) -> DictConfig:
    """Composed settings; Hydra needs a second for verl's tree, so only the choice of files is its own."""
    config = copy.deepcopy(_composed(*(override for override in overrides if override.startswith(GROUPS))))
    OmegaConf.set_struct(config, False)
    dots = [override.lstrip("+") for override in overrides if not override.startswith(GROUPS)]
    return OmegaConf.merge(config, OmegaConf.from_dotlist(dots))


def write_run(run: Path, last: int, saved: tuple[int, ...], data: str = "data") -> Path:
    """A run of so many steps, with checkpoints of some."""
    MetricsLog(run).append(0, {"val-core/set/acc/mean@2": 0.25})
    for number in range(1, last + 1):
        GroupLog(run).write(number, [{**ROW, "step": number}])
        MetricsLog(run).append(number, {"erpo/generated/tokens": 7 * number})
        SampleLog(run).write(number, [])
    for number in saved:
        extra = {"waiting_groups": [], "totals": {"groups": number, "responses": 2 * number, "tokens": 7 * number}}
        save_state(PromptTracker(TrackerConfig(name="linear"), data), run / f"global_step_{number}" / "erpo", extra)
        (run / "latest_checkpointed_iteration.txt").write_text(str(number))
    return run


def trainer_of(config: DictConfig, data: str = "data") -> ErpoTrainerSync:
    """Our trainer without Ray's workers: verl's own loading, and ours, of what lies in the folder."""
    trainer = object.__new__(ErpoTrainerSync)
    trainer.config, trainer.erpo = config, ErpoConfig.from_dict(OmegaConf.to_container(config.erpo, resolve=True))
    trainer.run_folder, trainer.log_folder = Path(config.trainer.default_local_dir), log_folder(config)
    trainer.validates_only = trainer.log_folder != trainer.run_folder
    for name, log in (("group_log", GroupLog), ("metrics_log", MetricsLog), ("sample_log", SampleLog)):
        setattr(trainer, name, log(trainer.log_folder))
    trainer.tracker, trainer.groups = PromptTracker(trainer.erpo.schedule, data), {}
    trainer.total_training_steps = trainer.longest_training = 6
    trainer.actor_rollout_wg = types.SimpleNamespace(load_checkpoint=lambda **_: None)
    trainer.use_critic, trainer.trainer_mode = False, "sync"
    trainer.train_dataloader = StatefulDataLoader(list(range(100)), batch_size=1)
    return trainer


def run_config(run: Path, *overrides: str) -> DictConfig:
    method = [] if any(override.startswith("method=") for override in overrides) else ["method=erpo"]
    config = composed("experiment=cpu_arithmetic", *method, f"trainer.default_local_dir={run}", *overrides)
    prepare_folders(config)
    return config


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


AT_STEP_2 = ["trainer.resume_mode=resume_path", "trainer.resume_from_path=RUN/global_step_2"]


@pytest.mark.parametrize(
    ("saved", "overrides", "error"),
    [
        pytest.param((2, 4, 6), [*AT_STEP_2, "trainer.val_only=true"], None, id="validating-an-earlier-checkpoint"),
        pytest.param((2, 4, 6), ["trainer.val_only=true"], None, id="validating-the-newest-checkpoint"),
        pytest.param((2, 4, 6), AT_STEP_2, None, id="an-earlier-checkpoint-that-never-trains-a-step"),
        pytest.param((2, 4, 6), ["erpo.schedule.name=band"], "schedule 'linear'", id="another-schedule"),
        pytest.param((), ["trainer.save_freq=-1"], None, id="no-checkpoints-and-the-same-command-again"),
        pytest.param((2, 4, 6), ["+lost=marker"], None, id="the-marker-file-is-lost"),
        pytest.param((2, 4, 6), ["+lost=state"], "tracker", id="the-tracker-state-is-lost"),
    ],
)
def test_loading_changes_nothing_in_the_folder(tmp_path, saved, overrides, error):
    run = write_run(tmp_path / "run", 6, saved)
    config = run_config(run, *(override.replace("RUN", str(run)) for override in overrides))
    if config.get("lost") == "marker":
        (run / "latest_checkpointed_iteration.txt").unlink()
    if config.get("lost") == "state":
        (run / "global_step_6" / "erpo" / "tracker.json").unlink()
    before = contents(run)
    trainer = trainer_of(config)
    if error:
        with pytest.raises(TrackerError, match=error):
            trainer._load_checkpoint()
    else:
        trainer._load_checkpoint()
    assert contents(run) == before


def test_a_marker_that_names_no_checkpoint_is_refused(tmp_path):
    run = write_run(tmp_path / "run", 6, (2, 4, 6))
    shutil.rmtree(run / "global_step_6")
    config = run_config(run)
    with pytest.raises(ConfigError, match="names global_step_6, which is not there; write the number of the newest"):
        checkpoint_to_resume(config)
    config.trainer.resume_mode = "disable"
    assert checkpoint_to_resume(config) is None


@pytest.mark.parametrize(
    ("path", "recorded", "mode"),
    [
        pytest.param("other", "other", "auto", id="the-same-command-again"),
        pytest.param("other", "another", "resume_path", id="another-checkpoint-than-before"),
        pytest.param("other", None, "resume_path", id="for-the-first-time"),
        pytest.param("run", "run", "resume_path", id="back-to-a-checkpoint-of-its-own"),
    ],
)
def test_a_command_that_is_given_again_goes_on(tmp_path, path, recorded, mode):
    """A job that was preempted is started by the same command, and must not go back to where it began."""
    run = write_run(tmp_path / "run", 6, (4, 6))
    if recorded is not None:
        named = OmegaConf.create({"trainer": {"resume_from_path": str(tmp_path / recorded / "global_step_4")}})
        OmegaConf.save(named, run / "config.yaml")
    command = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={tmp_path}/{path}/global_step_4"]
    config = run_config(run, *command)
    assert config.trainer.resume_mode == mode
    assert checkpoint_to_resume(config) == (
        run / "global_step_6" if mode == "auto" else tmp_path / path / "global_step_4"
    )
    assert run_config(run, *command, "trainer.val_only=true").trainer.resume_mode == "resume_path"
    # What the last line of a stopped run says of it.
    assert same_command_continues(config) is (path == "other")


@pytest.mark.parametrize(
    ("mode", "left"),
    [
        ("auto", main_erpo.EXIT_STOPPED),
        ("disable", "trainer.resume_mode=auto continues from there, and disable does not"),
    ],
)
def test_a_stopped_run_is_queued_again_only_where_its_command_continues_it(tmp_path, monkeypatch, mode, left):
    """slurm.sh queues a job again by the exit code, and one that begins anew each time would never end."""
    monkeypatch.setattr(main_erpo, "train", lambda config: 3)
    config = run_config(tmp_path / "run", f"trainer.resume_mode={mode}")
    with pytest.raises(SystemExit) as end:
        main_erpo.main.__wrapped__(config)
    assert end.value.code == left or str(end.value.code).endswith(str(left))


def test_a_stopped_run_names_its_folder_where_every_start_has_one_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(main_erpo, "train", lambda config: 3)
    config = run_config(f"{tmp_path}/" + "${now:%Y}-run")
    with pytest.raises(SystemExit) as end:
        main_erpo.main.__wrapped__(config)
    assert re.search(rf"; trainer.default_local_dir={tmp_path}/2\d\d\d-run continues it$", str(end.value.code))


def test_a_failed_run_names_its_folder_where_every_start_has_one_of_its_own(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise StalledError("1 process died; the same command continues from the last checkpoint.")

    monkeypatch.setattr(main_erpo, "_check", lambda *_: None)
    monkeypatch.setattr(main_erpo, "_run", fail)
    # On the CPU the platform of this process would be chosen.
    monkeypatch.setattr("verl.utils.device.auto_set_device", lambda config: None)
    for folder, named in (("${now:%Y}-run", True), ("run", False)):
        settings = ["trainer.device=cuda", f"trainer.default_local_dir={tmp_path}/{folder}"]
        config = composed("experiment=cpu_arithmetic", "method=erpo", *settings)
        with pytest.raises(StalledError):
            main_erpo.train(config)
        assert ("every start has a folder of its own; this one is" in capsys.readouterr().out) == named


@pytest.mark.parametrize("damaged", [False, True])
def test_a_validation_needs_no_history(tmp_path, damaged):
    run = write_run(tmp_path / "run", 6, (6,))
    if damaged:
        (run / "global_step_6" / "erpo" / "tracker.json").write_text("{")
    config = run_config(run, "method=grpo", "trainer.val_only=true")
    erpo = ErpoConfig.from_dict(OmegaConf.to_container(config.erpo, resolve=True))
    assert list(early._resume(config, erpo)) == []
    config.trainer.val_only = False
    (problem,) = early._resume(config, erpo)
    assert ("is damaged" if damaged else "accept_changed=[erpo.schedule.name]") in problem


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunFolderError, match=r"file/run cannot be written \(.+\); set another trainer.default_local_dir"
    ):
        locked(tmp_path / "file" / "run").__enter__()


@pytest.mark.parametrize("base", [0.6, 1.0, 1.1, 1.2])
def test_nothing_is_raised_that_was_sampled_at_the_base(tmp_path, base):
    """bf16 rounds some of these up; the summary, the report and the metrics have one rule."""
    run = tmp_path / "run"
    run.mkdir()
    OmegaConf.save(OmegaConf.create({"actor_rollout_ref": {"rollout": {"temperature": base}}}), run / "config.yaml")
    for number in (51, 52):
        GroupLog(run).write(number, [{**ROW, "step": number, "temperature": float(on_grid(base))}])
        MetricsLog(run).append(number, {"erpo/generated/tokens": number})
    summary = summarize(run)
    assert summary.prompts_raised == 0
    # The run goes on from another one's fiftieth step.
    assert (summary.window, summary.all_correct_start, summary.all_correct_end) == (1, 0.0, 0.0)
    (report,) = load_runs([run])
    assert not report.groups["raised"].any()


@pytest.mark.parametrize(
    ("saved", "resumed", "left", "marker"),
    [
        pytest.param((2, 4, 6), 2, {1, 2}, "2", id="from-an-earlier-checkpoint"),
        pytest.param((2, 4), 4, {1, 2, 3, 4}, "4", id="killed-after-the-checkpoint"),
        pytest.param((), 0, set(), None, id="from-scratch-without-checkpoints"),
        pytest.param((2, 4, 6), 0, set(), None, id="from-scratch-after-a-lost-marker"),
        pytest.param((6,), 2, {1, 2}, None, id="from-a-checkpoint-of-another-folder"),
    ],
)
def test_the_first_training_step_moves_later_records_and_loses_none(tmp_path, saved, resumed, left, marker):
    run = write_run(tmp_path / "run", 6, saved)
    before = contents(run)
    trainer = trainer_of(run_config(run))
    trainer.global_steps = resumed + 1
    trainer._begin_to_record()
    after = contents(run)
    assert set(read_metrics(run).index) - {0} == left if left else not (run / "metrics.jsonl").read_bytes()
    assert {int(name[-14:-8]) for name in after if name.startswith("groups/")} == left
    assert {int(name[-14:-8]) for name in after if name.startswith("samples/")} == left
    found = run / "latest_checkpointed_iteration.txt"
    assert (found.read_text() if found.exists() else None) == marker
    assert not [path for path in run.glob("global_step_*") if int(path.name[12:]) > resumed]
    (superseded,) = (run / "superseded").iterdir()
    kept = {name: text for name, text in before.items() if name.startswith(("groups", "samples", "global_step"))}
    assert all(contents(superseded).get(name, after.get(name)) == text for name, text in kept.items())
    lines = (run / "metrics.jsonl").read_text() + (superseded / "metrics.jsonl").read_text()
    assert sorted(json.loads(line)["step"] for line in lines.splitlines()) == list(range(7))
    # Once a start.
    trainer.global_steps += 1
    trainer._begin_to_record()
    assert len(list((run / "superseded").iterdir())) == 1


def validated(trainer: ErpoTrainerSync, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    # verl's own validation needs the rollout.
    monkeypatch.setattr(step.TrainerStage, "_validate", lambda self: {"val-core/set/acc/mean@2": value})
    trainer._validate()


def test_the_validation_before_step_one_of_a_second_pass_is_not_the_firsts(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", 6, ())
    trainer = trainer_of(run_config(run))
    trainer.global_steps = 0
    before = (run / "metrics.jsonl").read_bytes()
    validated(trainer, monkeypatch, 0.75)
    assert (run / "metrics.jsonl").read_bytes() == before
    trainer.global_steps = 1
    trainer._begin_to_record()
    assert read_metrics(run)["val-core/set/acc/mean@2"].tolist() == [0.75]
    (superseded,) = (run / "superseded").iterdir()
    assert (superseded / "metrics.jsonl").read_bytes() == before


def test_the_validation_before_step_one_of_a_new_run_stays(tmp_path, monkeypatch):
    run = tmp_path / "run"
    trainer = trainer_of(run_config(run))
    trainer.global_steps = 0
    validated(trainer, monkeypatch, 0.75)
    trainer.global_steps = 1
    trainer._begin_to_record()
    assert read_metrics(run)["val-core/set/acc/mean@2"].tolist() == [0.75]
    assert not (run / "superseded").exists()


def test_the_line_of_a_step_is_there_before_its_checkpoint_is_named_and_once_only(tmp_path, monkeypatch):
    run = tmp_path / "run"
    trainer = trainer_of(run_config(run))
    trainer.global_steps, trainer.totals, trainer.unreported = 1, types.SimpleNamespace(tokens=7), []
    trainer.step_metrics = {"erpo/groups/count": 8}
    seen = []
    monkeypatch.setattr(
        checkpoint.TrainerStage, "_save_checkpoint", lambda self: seen.append(read_metrics(run).loc[1].to_dict())
    )
    trainer._save_checkpoint()
    assert seen == [{"erpo/groups/count": 8.0}]
    # A kill here costs nothing; without one, validation and the rest join the line as they come.
    trainer.timing_raw = {}
    validated(trainer, monkeypatch, 0.5)
    trainer.metrics_log.append(1, {"erpo/groups/count": 8, "perf/x": 2})
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "erpo/groups/count": 8, "val-core/set/acc/mean@2": 0.5, "perf/x": 2}


@pytest.mark.parametrize(
    ("overrides", "recorded", "validates"),
    [
        pytest.param(["trainer.test_freq=2"], {}, True, id="killed-during-the-validation"),
        pytest.param(["trainer.test_freq=2"], {"val-core/set/acc/mean@2": 0.5}, False, id="killed-after-it"),
        pytest.param(["trainer.test_freq=3"], {}, False, id="none-was-due"),
        pytest.param(["trainer.test_freq=-1"], {}, False, id="never"),
    ],
)
def test_a_validation_that_a_kill_cost_is_made_up_for(tmp_path, overrides, recorded, validates):
    run = write_run(tmp_path / "run", 4, (4,))
    MetricsLog(run).append(4, recorded)
    trainer = trainer_of(run_config(run, "trainer.val_before_train=false", *overrides))
    trainer._load_checkpoint()
    assert trainer.config.trainer.val_before_train is validates


@pytest.mark.parametrize(
    "torn",
    [
        pytest.param(b'{"step": 3, "a"', id="cut-inside"),
        pytest.param(b'{"step": 3, "a": 1}', id="without-its-line-end"),
        pytest.param(b"{", id="one-letter"),
        pytest.param(b'{"step": 3, "a": 1\x00\x00', id="zeros-of-a-power-cut"),
    ],
)
def test_a_half_written_line_hides_no_other(tmp_path, torn):
    log = MetricsLog(tmp_path)
    log.append(1, {"a": 1})
    log.append(2, {"a": 2})
    with log.path.open("ab") as file:
        file.write(torn)
    log.append(4, {"a": 4})
    log.append(5, {"a": 5})
    assert [step for step in read_metrics(tmp_path).index if step != 3] == [1, 2, 4, 5]


def test_a_crash_while_records_move_loses_none(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", 6, (2, 4))
    moves = []

    def failing(source, target):
        moves.append(source)
        if len(moves) == 5:
            raise OSError("power cut")
        return os.replace(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="power cut"):
        supersede(run, after=2)
    monkeypatch.undo()
    supersede(run, after=2)
    found = [path.name for path in run.rglob("step_*.parquet") if path.parent.name == "groups"]
    assert sorted(found) == [f"step_{number:06d}.parquet" for number in range(1, 7)]
    assert read_groups(run)["step"].tolist() == [1, 2]
    assert (run / "latest_checkpointed_iteration.txt").read_text() == "2"


def test_responses_that_verl_dumped_are_not_overwritten(tmp_path):
    run = write_run(tmp_path / "run", 3, (2,))
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    for number in (1, 2, 3):
        (dumps / f"{number}.jsonl").write_text(str(number))
    trainer = trainer_of(run_config(run, f"trainer.rollout_data_dir={dumps}"))
    trainer.global_steps = 3
    trainer._begin_to_record()
    assert sorted(path.name for path in dumps.glob("*.jsonl")) == ["1.jsonl", "2.jsonl"]
    assert [path.read_text() for path in dumps.rglob("3.jsonl")] == ["3"]


@pytest.mark.parametrize("started", [pytest.param(True, id="trains"), pytest.param(False, id="fails-before-a-step")])
def test_settings_replace_others_when_a_step_is_recorded(tmp_path, started):
    old, new = OmegaConf.create({"a": 1}), OmegaConf.create({"a": 2})
    settings.stage(tmp_path, old, "{}")
    settings.commit(tmp_path, tmp_path / "superseded" / "first")
    settings.stage(tmp_path, new, "{}")
    if started:
        settings.commit(tmp_path, tmp_path / "superseded" / "second")
    assert OmegaConf.load(tmp_path / "config.yaml").a == (2 if started else 1)
    assert not (tmp_path / "superseded" / "first").exists()
    assert (tmp_path / "superseded" / "second" / "config.yaml").exists() is started
    assert not (tmp_path / "superseded" / "second" / "fingerprint.json").exists()


LR = "actor_rollout_ref.actor.optim.lr"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(["method=grpo", *GPU], ["method=dapo", *GPU], False, id="two-methods-without-an-experiment"),
        pytest.param(["method=erpo", *GPU], ["method=erpo", *GPU], True, id="the-same-command"),
        pytest.param(["method=erpo", *GPU], ["method=erpo", *GPU, "data.seed=3"], False, id="another-seed"),
        pytest.param(["experiment=qwen2_5_3b"], ["experiment=qwen2_5_7b"], False, id="two-experiments"),
        pytest.param(["experiment=qwen2_5_3b"], ["experiment=qwen2_5_3b", f"{LR}=5e-7"], False, id="learning-rate"),
        pytest.param(
            ["experiment=qwen2_5_3b", f"{LR}=5e-7"], ["experiment=qwen2_5_3b", f"{LR}=6e-7"], False, id="two-overrides"
        ),
        pytest.param(
            ["experiment=qwen2_5_3b"], ["experiment=qwen2_5_3b", "erpo.ra.enable=false"], False, id="an-ablation-of-ra"
        ),
        pytest.param(
            ["experiment=qwen2_5_3b", "erpo.schedule.name=band", "erpo.schedule.band.dt=0.1"],
            ["experiment=qwen2_5_3b", "erpo.schedule.name=band", "erpo.schedule.band.dt=0.3"],
            False,
            id="a-constant-of-an-overridden-schedule",
        ),
        pytest.param(
            ["experiment=qwen2_5_3b"],
            ["experiment=qwen2_5_3b", "trainer.save_freq=3", "trainer.nnodes=2", "trainer.total_training_steps=9"],
            True,
            id="more-steps-on-more-nodes",
        ),
        pytest.param(
            ["experiment=qwen2_5_3b", "+sweep=erpo_sweep", "erpo.schedule.linear.dt=0.1"],
            ["experiment=qwen2_5_3b", "+sweep=erpo_sweep", "erpo.schedule.linear.dt=0.1", "data.seed=3"],
            False,
            id="a-seed-beside-a-sweep",
        ),
    ],
)
def test_two_experiments_have_two_default_folders(one, other, same):
    folders = [composed(*overrides).trainer.default_local_dir for overrides in (one, other)]
    assert (folders[0] == folders[1]) is same


def test_hydras_command_line_gives_the_same_folder():
    command = [
        sys.executable,
        "-m",
        "recipe.erpo.main_erpo",
        "--cfg",
        "job",
        "--resolve",
        "-p",
        "trainer.default_local_dir",
    ]
    overrides = ["experiment=qwen2_5_3b", "method=dapo", "data.seed=5"]
    command += ["-p", "trainer.default_local_dir", *overrides]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert process.stdout.split()[-1] == composed(*overrides).trainer.default_local_dir


@pytest.mark.parametrize(
    ("override", "refused"),
    [
        pytest.param("method=dapo", 'erpo.method: "erpo" -> "dapo"', id="method"),
        pytest.param("erpo.schedule.name=band", 'erpo.schedule.name: "linear" -> "band"', id="schedule"),
        pytest.param("erpo.schedule.linear.dt=0.3", "erpo.schedule.linear.dt: 0.2 -> 0.3", id="its-constant"),
        pytest.param("erpo.schedule.band.dt=0.3", None, id="constant-of-another-schedule"),
        pytest.param("erpo.ra.scale=0.5", "erpo.ra.scale: 1.0 -> 0.5", id="ra"),
        pytest.param("erpo.accuracy.threshold=0.9", "erpo.accuracy.threshold: 0.5 -> 0.9", id="accuracy"),
        pytest.param("algorithm.norm_adv_by_std_in_grpo=false", "in_grpo: true -> false", id="estimator"),
        pytest.param("actor_rollout_ref.actor.clip_ratio_high=0.28", "clip_ratio_high: 0.2 -> 0.28", id="loss"),
        pytest.param(f"{LR}=1e-5", f"{LR}: 0.0001 -> 1e-05", id="optimizer"),
        pytest.param("data.train_batch_size=8", "data.train_batch_size: 16 -> 8", id="batch"),
        pytest.param("actor_rollout_ref.rollout.n=4", "actor_rollout_ref.rollout.n: 8 -> 4", id="n"),
        pytest.param("actor_rollout_ref.rollout.top_p=0.9", "rollout.top_p: 1 -> 0.9", id="sampling"),
        pytest.param("actor_rollout_ref.model.path=M", "actor_rollout_ref.model.path", id="model"),
        pytest.param("data.train_files=[T]", "data.train_files", id="data"),
        pytest.param("data.seed=1", "data.seed: 0 -> 1", id="seed"),
        pytest.param("reward.custom_reward_function.path=r.py", "reward.custom_reward_function.path", id="reward"),
        pytest.param("+algorithm.new=1", "algorithm.new: not set -> 1", id="a-setting-that-was-not-set"),
        pytest.param("trainer.total_training_steps=9", None, id="total-steps"),
        pytest.param("trainer.save_freq=1", None, id="save-freq"),
        pytest.param("trainer.logger=[console]", None, id="logger"),
        pytest.param("trainer.n_gpus_per_node=4", None, id="gpus"),
        pytest.param("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2", None, id="micro-batch"),
        pytest.param("actor_rollout_ref.rollout.gpu_memory_utilization=0.5", None, id="memory"),
        pytest.param("erpo.token_budget=100", None, id="token-budget"),
        pytest.param("data.val_files=[V]", None, id="validation-files"),
        pytest.param("trainer.resume_mode=auto", None, id="resume-settings"),
    ],
)
def test_a_folder_of_another_experiment_is_refused_with_what_differs(tmp_path, override, refused):
    saved, now = run_config(tmp_path), run_config(tmp_path, override)
    (tmp_path / "fingerprint.json").write_text(to_file(fingerprint(saved)))
    if refused is None:
        check_identity(now, tmp_path, None)
        return
    with pytest.raises(ConfigError) as error:
        check_identity(now, tmp_path, None)
    assert refused in str(error.value) and "\n" not in str(error.value)
    # The message holds the setting that accepts it.
    accepting = str(error.value).rsplit(" ", 1)[1].rstrip(".")
    check_identity(run_config(tmp_path, override, accepting), tmp_path, None)


@pytest.mark.parametrize(
    ("accepted", "passes"),
    [
        pytest.param("[]", False, id="nothing-accepted"),
        pytest.param("[erpo.method]", False, id="one-of-several"),
        pytest.param("[erpo.*]", True, id="a-pattern"),
        pytest.param("[erpo.method,erpo.schedule,erpo.groups,erpo.ra]", True, id="prefixes"),
    ],
)
def test_erpo_goes_on_from_a_dapo_checkpoint_where_that_is_accepted(tmp_path, accepted, passes):
    dapo = run_config(tmp_path / "dapo", "method=dapo")
    folder = tmp_path / "dapo" / "global_step_4"
    tracker = PromptTracker(TrackerConfig(name="none"), "data")
    tracker.observe(
        GroupOutcomes(
            keys=keys_array([prompt_key("set", "1+1=")]),
            outcomes=[Outcome.ALL_CORRECT],
            accuracies=[1.0],
            sizes=[8],
            temperatures=[1.0],
            steps=[4],
        )
    )
    totals = {"groups": 1, "responses": 8, "tokens": 80}
    save_state(tracker, folder / "erpo", {"waiting_groups": [], "totals": totals})
    (folder / "erpo" / "fingerprint.json").write_text(to_file(fingerprint(dapo)))
    config = run_config(
        tmp_path / "erpo",
        "trainer.resume_mode=resume_path",
        f"trainer.resume_from_path={folder}",
        f"erpo.state.accept_changed={accepted}",
    )
    if not passes:
        with pytest.raises(ConfigError, match="global_step_4 belongs to another experiment"):
            check_identity(config, tmp_path / "erpo", checkpoint_to_resume(config))
        return
    check_identity(config, tmp_path / "erpo", checkpoint_to_resume(config))
    trainer = trainer_of(config)
    trainer._load_checkpoint()
    frame = trainer.tracker.frame()
    assert frame["last_outcome"].tolist() == [Outcome.ALL_CORRECT] and frame["all_correct_visits"].tolist() == [1]
    assert frame["level"].tolist() == [0] and frame["temperature"].tolist() == [1.0]


@pytest.mark.parametrize("name", ["linear", "band", "predictive", "fitted", "constant", "rising", "none"])
@pytest.mark.parametrize("saved", ["none", "linear", "predictive", "fitted"])
def test_an_accepted_schedule_takes_over_the_outcomes_and_starts_its_own_columns(tmp_path, saved, name):
    tracker = PromptTracker(TrackerConfig(name=saved))
    keys = keys_array([prompt_key("set", text) for text in "ab"])
    tracker.observe(
        GroupOutcomes(
            keys=keys,
            outcomes=[Outcome.ALL_CORRECT, Outcome.MIXED],
            accuracies=[1.0, 0.5],
            sizes=[2, 2],
            temperatures=[1.0, 1.0],
            steps=[1, 1],
        )
    )
    save_state(tracker, tmp_path, {})
    other = PromptTracker(TrackerConfig(name=name))
    if name != saved:
        with pytest.raises(TrackerError, match=f"saved with the schedule '{saved}'"):
            load_state(other, tmp_path)
    load_state(other, tmp_path, accept_changed_schedule=True)
    assert other.frame()["visits"].tolist() == [1, 1] and sorted(other.frame()["last_accuracy"]) == [0.5, 1.0]
    if other.attaches_temperatures and name != saved:
        fresh = PromptTracker(TrackerConfig(name=name))
        assert other.temperatures_for(keys).tolist() == fresh.temperatures_for(keys).tolist()


def test_a_checkpoint_without_fingerprint_is_accepted_with_one_warning(tmp_path, caplog):
    run = write_run(tmp_path / "run", 4, (4,))
    config = run_config(run)
    check_identity(config, run, checkpoint_to_resume(config))
    assert [record.message.count("has no fingerprint") for record in caplog.records] == [1]


@pytest.mark.parametrize("prefix", ["", "pkg://"])
def test_a_reward_function_counts_with_its_content(tmp_path, monkeypatch, prefix):
    monkeypatch.syspath_prepend(tmp_path)
    reward = tmp_path / "reward_of_this_test.py"
    reward.write_text("def compute_score(**_): return 0.0")
    path = f"pkg://{reward.stem}" if prefix else reward
    config = run_config(tmp_path / "run", f"reward.custom_reward_function.path={path}")
    before = fingerprint(config)
    reward.write_text("def compute_score(**_): return 1.0")
    assert [name for name in before if before[name] != fingerprint(config)[name]] == [
        "reward.custom_reward_function.content"
    ]


HOLD = """
import sys, time
from erpo.runs.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_are_kept_out_of_one_folder_and_a_killed_one_is_not_in_the_way(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunFolderError, match=rf"is in use by \S+ process {holder.pid}; stop it, or"),
            locked(tmp_path),
        ):
            pass
        other = tmp_path / "other"
        with locked(other):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path), pytest.raises(RunFolderError, match=f"process {os.getpid()}"), locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        pytest.param("default_local_dir", "~/runs/a", str(Path.home() / "runs/a"), id="home"),
        pytest.param("default_local_dir", "runs/a", str(Path("runs/a").absolute()), id="relative"),
        pytest.param("resume_from_path", "~/a/global_step_2", str(Path.home() / "a/global_step_2"), id="resume-home"),
        pytest.param("default_local_dir", "hdfs://cluster/a", None, id="hdfs"),
        pytest.param("default_local_dir", "s3://bucket/a", None, id="s3"),
        pytest.param("default_local_dir", "gs://bucket/a", None, id="gs"),
        pytest.param("resume_from_path", "s3://bucket/global_step_2", None, id="resume-s3"),
        pytest.param("rollout_data_dir", "s3://bucket/rollouts", None, id="dump-s3"),
    ],
)
def test_folders_mean_what_they_say_or_are_refused(setting, value, expected):
    config = composed("experiment=cpu_arithmetic", f"trainer.{setting}={value}")
    if expected is None:
        with pytest.raises(ConfigError, match=rf"trainer\.{setting} is {value}, but .* trainer\.default_hdfs_dir"):
            prepare_folders(config)
    else:
        prepare_folders(config)
        assert config.trainer[setting] == expected


@pytest.mark.parametrize(
    ("data", "position"),
    [pytest.param("data", 60, id="the-same-data"), pytest.param("other", 0, id="changed-and-accepted")],
)
def test_changed_data_are_read_from_their_beginning(tmp_path, data, position):
    run = write_run(tmp_path / "run", 4, (4,))
    loader = StatefulDataLoader(list(range(100)), batch_size=1)
    batches = iter(loader)
    for _ in range(60):
        next(batches)
    torch.save(loader.state_dict(), run / "global_step_4" / "data.pt")
    trainer = trainer_of(run_config(run, "erpo.state.accept_changed_data=true"), data)
    trainer._load_checkpoint()
    assert int(next(iter(trainer.train_dataloader))) == position


SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        *(
            pytest.param(name, True, id=name)
            for name in (
                "WANDB_API_KEY", "HF_TOKEN", "OPENAI_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "api_key", "apiKey",
                "access_token", "Authorization", "GITHUB_PAT", "client_secret", "SLACK_WEBHOOK_COOKIE",
            )
        ),
        *(
            pytest.param(name, False, id=name)
            for name in ("prompt_key", "token_budget", "ppo_max_token_len_per_gpu", "tokenizer", "path")
        ),
    ],
)  # fmt: skip
def test_secrets_are_left_out_of_the_settings(tmp_path, name, hidden):
    config = OmegaConf.create(
        {"a": {"b": [{name: SECRET}]}, "ray_kwargs": {"ray_init": {"runtime_env": {"env_vars": {name: SECRET}}}}}
    )
    settings.stage(tmp_path, config, "{}")
    settings.commit(tmp_path, tmp_path / "superseded")
    text = (tmp_path / "config.yaml").read_text()
    assert (SECRET in text) is not hidden
    assert (tmp_path / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert config.a.b[0][name] == SECRET
    assert settings.secrets_in(OmegaConf.to_container(config)) == ({SECRET} if hidden else set())


def test_no_setting_of_ours_or_verls_is_taken_for_a_secret():
    config = OmegaConf.to_container(composed("experiment=qwen2_5_3b"), resolve=False)
    assert settings.secrets_in(config) == set()
    assert "user:pw" not in str(settings.without_secrets({"proxy": "http://user:pw@host:1"}))


def test_the_drivers_log_holds_no_secret(tmp_path):
    with settings.PrivateLog(tmp_path / "driver.log", {SECRET}) as log:
        print(f"ray init kwargs: {{'WANDB_API_KEY': '{SECRET}'}}", file=log)
    assert SECRET not in (tmp_path / "driver.log").read_text()
    assert (tmp_path / "driver.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a|b", id="bar"),
        pytest.param("a\\|b", id="backslash-before-a-bar"),
        pytest.param("a\\", id="backslash-at-the-end"),
        pytest.param("a\r\nb", id="cr-lf"),
        pytest.param("a\rb", id="cr"),
        pytest.param("a\n\n| b |\n|---|", id="a-table"),
        pytest.param("`a|b`", id="bar-in-code"),
        pytest.param("<think>a|b</think>", id="html"),
        pytest.param("```\na\n```", id="fence"),
        pytest.param("a\x0bb\u2028c", id="other-line-ends"),
    ],
)
def test_a_cell_stays_one_cell_in_tensorboards_table(text):
    row = {"temperature": 1.2, "outcome": "mixed", "correct": True, "length": 3, "prompt": text, "response": "end"}
    table = live._markdown(live.pd.DataFrame([row]))
    assert len(table.splitlines()) == 3
    page = plugin_util.markdown_to_safe_html(table)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)
    assert len(cells) == 6 and cells[5] == "end"
    shown = html.unescape(re.sub(r"<br ?/?>", "\n", cells[4]))
    assert shown.split("\n") == text.splitlines()


def test_a_validation_in_a_fresh_folder_ends_with_its_accuracy(tmp_path, capsys):
    MetricsLog(tmp_path).append(0, {"val-core/set/acc/mean@8": 0.5})
    print_summary(tmp_path)
    assert "held-out accuracy 0.500, no training step" in capsys.readouterr().out


def test_a_run_on_another_machines_disk_ends_with_one_line(tmp_path, capsys):
    print_summary(tmp_path / "elsewhere")
    (line,) = capsys.readouterr().out.splitlines()
    assert "holds no records here; a run on another machine has them on its disk" in line


@pytest.mark.parametrize(
    ("temperatures", "base", "raised"),
    [
        pytest.param([1.6, 1.6], 1.0, 2, id="a-constant-schedule"),
        pytest.param([1.0, 1.2], 1.0, 1, id="one-raised"),
        pytest.param([1.0, 1.0], 1.0, 0, id="none-raised"),
        pytest.param([0.8, 1.0], 1.0, 0, id="cooled-below-the-base"),
        pytest.param([1.0, 1.2], None, 1, id="without-settings"),
    ],
)
def test_raised_means_above_the_runs_base_temperature(tmp_path, temperatures, base, raised):
    rows = [{**ROW, "step": 1, "key": f"{i:032x}", "temperature": t} for i, t in enumerate(temperatures)]
    GroupLog(tmp_path).write(1, rows)
    MetricsLog(tmp_path).append(1, {"a": 1})
    if base is not None:
        OmegaConf.save({"actor_rollout_ref": {"rollout": {"temperature": base}}}, tmp_path / "config.yaml")
    assert summarize(tmp_path).prompts_raised == raised


def test_steps_of_an_asynchronous_run_are_those_it_trained(tmp_path):
    for number in (1, 2, 3, 4):
        GroupLog(tmp_path).write(number, [{**ROW, "step": number}])
        MetricsLog(tmp_path).append(number, {"a": 1})
    GroupLog(tmp_path).write(5, [{**ROW, "step": 4}])
    MetricsLog(tmp_path).append(5, {"a": 1})
    assert summarize(tmp_path).steps == 5


RUNS = """
import sys, time
from pathlib import Path
from recipe.erpo.main_erpo import _StopsOnSigterm
class Actor:
    def remote(self): return "started"
runner = _StopsOnSigterm(Actor(), Path(sys.argv[1]))
assert runner.remote() == "started"
print("ready", flush=True)
time.sleep(60)
"""


def test_a_first_sigterm_asks_the_run_to_stop_and_a_second_ends_it(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 30
    while not stop.requested(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stop.requested(tmp_path) and process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert errors.count("the run saves and ends after the current step") == 1
    stop.answer(tmp_path, 3)
    assert stop.stopped_at(tmp_path) == 3
    stop.forget(tmp_path)
    assert not stop.requested(tmp_path) and stop.stopped_at(tmp_path) is None
