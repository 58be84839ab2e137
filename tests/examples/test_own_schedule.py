# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A schedule in a file of the user's own: settings, checks, state, resume, identity and report."""

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from erpo.report.data import _newest_tracker
from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, TrackerError, keys_array, prompt_key
from erpo.tracker.storage import load_state, save_state
from erpo.trainer.checks import check_settings
from erpo.trainer.config import ConfigError, ErpoConfig
from erpo.trainer.identity import check_identity, fingerprint, to_file
from recipe.erpo.main_erpo import CONFIG_FOLDER

FILE = Path(__file__).parents[2] / "examples" / "own_schedule.py"
OWN = [f"erpo.schedule.path={FILE}", "erpo.schedule.name=AverageSchedule"]
KEYS = keys_array([prompt_key("set", problem) for problem in ("1+1=", "1+2=", "1+3=")])


@functools.cache
def composed(*overrides):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        return compose("erpo_trainer", overrides=["experiment=cpu_arithmetic", "method=erpo", *OWN, *overrides])


@pytest.fixture
def settings(tmp_path):
    """Settings of the command in the file's docstring, composed once, with a run folder of the test's own."""

    def build(*overrides):
        config = composed().copy()
        OmegaConf.set_struct(config, False)
        overrides = [f"trainer.default_local_dir={tmp_path}/run", *overrides]
        return OmegaConf.merge(config, OmegaConf.from_dotlist(overrides))

    return build


def tracker(**own):
    return PromptTracker(TrackerConfig("AverageSchedule", path=str(FILE), own={"t_base": 1.0, **own}))


def observe(tracker, accuracies, temperatures, step=1):
    outcomes = [Outcome.ALL_CORRECT if a == 1 else Outcome.MIXED if a else Outcome.ALL_WRONG for a in accuracies]
    count = len(accuracies)
    tracker.observe(
        GroupOutcomes(
            KEYS[:count], outcomes, np.array(accuracies), np.full(count, 4), temperatures, np.full(count, step)
        )
    )


def test_it_gives_the_temperatures_that_its_rule_says():
    subject = tracker(t_max=2.0, rate=0.5)
    assert subject.temperatures_for(KEYS).tolist() == [1.0, 1.0, 1.0]
    observe(subject, [1.0, 0.5, 0.0], np.ones(3))
    # a = 0.75, 0.5 and 0.25; T = 1 + max(0, 2a - 1).
    assert subject.temperatures_for(KEYS).tolist() == [1.5, 1.0, 1.0]
    observe(subject, [1.0], np.array([1.5]))
    assert subject.temperatures_for(KEYS[:1]).tolist() == [1.75]


def test_settings_compose_and_pass_the_checks():
    config = composed("+erpo.schedule.own.t_max=2.0", "actor_rollout_ref.rollout.temperature=1.2")
    erpo = check_settings(config)
    assert erpo.schedule.own == {"t_base": 1.2, "t_max": 2.0}
    # As the trainer reads them again, in a process of its own.
    again = ErpoConfig.from_dict(OmegaConf.to_container(config.erpo, resolve=True))
    assert PromptTracker(again.schedule).temperatures_for(KEYS).tolist() == [1.2] * 3


def test_a_state_is_loaded_back_and_goes_on(tmp_path):
    saved, loaded = tracker(), tracker()
    observe(saved, [1.0, 0.5, 0.0], np.ones(3))
    save_state(saved, tmp_path, {"step": 1})
    assert load_state(loaded, tmp_path) == {"step": 1}
    for one in (saved, loaded):
        observe(one, [1.0, 1.0, 1.0], one.temperatures_for(KEYS), step=2)
    assert loaded.frame().equals(saved.frame())
    assert loaded.temperatures_for(KEYS)[0] > 1.1
    with pytest.raises(TrackerError, match="saved with the schedule 'AverageSchedule', this run has 'linear'"):
        load_state(PromptTracker(TrackerConfig("linear")), tmp_path)


def test_a_run_is_not_continued_with_another_schedule_or_another_content(settings, tmp_path):
    copy = tmp_path / "own.py"
    shutil.copy(FILE, copy)
    config = settings(f"erpo.schedule.path={copy}")
    run, state = tmp_path / "run", tmp_path / "run" / "global_step_3" / "erpo"
    save_state(tracker(), state)
    (run / "latest_checkpointed_iteration.txt").write_text("3")
    (run / "fingerprint.json").write_text(to_file(fingerprint(config)))
    check_settings(config)
    check_identity(config, run, None)
    # Of the constants those of this schedule count.
    check_identity(settings(f"erpo.schedule.path={copy}", "erpo.schedule.linear.dt=0.3"), run, None)
    with pytest.raises(ConfigError, match=r"erpo\.schedule\.own\.rate: not set -> 0\.1"):
        check_identity(settings(f"erpo.schedule.path={copy}", "erpo.schedule.own.rate=0.1"), run, None)
    with pytest.raises(ConfigError, match=r"saved with erpo\.schedule\.name=AverageSchedule, this run has linear"):
        check_settings(settings("erpo.schedule.path=null", "erpo.schedule.name=linear"))
    copy.write_text(copy.read_text() + "\n")
    with pytest.raises(ConfigError, match=r"erpo\.schedule\.content: .*accept_changed=\[erpo\.schedule\.content\]"):
        check_identity(config, run, None)


def test_a_report_reads_the_history_and_runs_no_code_of_the_run_s(tmp_path):
    copy = tmp_path / "own.py"
    shutil.copy(FILE, copy)
    subject = PromptTracker(TrackerConfig("AverageSchedule", path=str(copy)))
    observe(subject, [1.0, 0.5, 0.0], np.ones(3))
    save_state(subject, tmp_path / "global_step_2" / "erpo")
    copy.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    frame, step = _newest_tracker(tmp_path)
    assert step == 2 and sorted(frame["last_accuracy"]) == [0.0, 0.5, 1.0] and "temperature" not in frame
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["erpo.schedule.path=nowhere.py"], "there is no file nowhere.py; name the file"),
        (["erpo.schedule.path=pkg://no.such.module"], "pkg://no.such.module cannot be loaded .*ModuleNotFoundError"),
        (["erpo.schedule.name=AverageSchedul"], "no subclass .* 'AverageSchedul'; did you mean 'AverageSchedule'"),
        (["erpo.schedule.name=linear"], "no subclass .* 'linear'; it has AverageSchedule"),
        (["erpo.schedule.name=none"], "path is .*, but name is 'none'; set name to the class in that file"),
        (["erpo.schedule.own.tmax=2"], r"cannot be used with .* unexpected keyword argument 'tmax'\); fix it or its"),
        (["erpo.schedule.own.rate=2"], "AverageSchedule of .*: rate must be above 0 and up to 1, not 2"),
        (["erpo.schedule.own.t_base=1.1"], "own.t_base is 1.1, .*temperature is 1; set them to the same value"),
        (["erpo.schedule.own.t_base=0.001"], "own reaches T=0.001, below vLLM's lowest temperature"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_sentence(settings, overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_settings(settings(*overrides))
    assert "\n" not in str(caught.value)


GOOD = """
import numpy as np
from erpo.tracker import Column, Schedule

class Mine(Schedule):
    def __init__(self, t_base):
        self.t_base, self.t_max = t_base, 1.5
    def temperatures(self, history, rows):
        return np.full(rows.shape, self.t_base)
    def observe(self, history, rows, groups):
        pass
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import numpy", "import numpi", r"cannot be loaded \(ModuleNotFoundError: No module named 'numpi'\); fix"),
        ("class Mine(Schedule)", "class Mine", "no subclass .* with the name 'Mine'; it has none"),
        ("    def observe", "    def observes", "cannot be used with .*abstract"),
        ("self.t_base, self.t_max = t_base, 1.5", "self.t_base = t_base", "it has no t_max; set self.t_max"),
        ("1.5", "float('inf')", "t_max must be finite, not inf"),
        ("    def __init__", "    columns = (Column('level', 'i4'),)\n    def __init__", "a column 'level' already"),
        ("    def __init__", "    columns = ('mine',)\n    def __init__", "columns holds 'mine'; make it an"),
        ("np.full(rows.shape, self.t_base)", "self.t_base", r"gave float for 2 prompts; .* shape \(2,\)"),
        ("rows.shape, self.t_base", "rows.shape, np.nan", "gave nan; return temperatures between 1 "),
        ("rows.shape, self.t_base", "rows.shape, 0.9", "gave 0.9; return temperatures between 1 "),
        ("rows.shape, self.t_base", "rows.shape, 1.6", r"gave 1.6; return .* and 1.5 \(t_max\)"),
        (
            "    def __init__",
            "    def scalars(self):\n        return {'seen': np.nan}\n\n    def __init__",
            "scalars.. cannot be saved as JSON",
        ),
    ],
)
def test_a_file_that_is_no_schedule_is_refused_in_one_sentence(tmp_path, old, new, message):
    path = tmp_path / "mine.py"
    config = {"name": "Mine", "path": str(path)}
    path.write_text(GOOD)
    TrackerConfig.from_dict(config)
    assert GOOD.count(old) >= 1
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(TrackerError, match=message) as caught:
        TrackerConfig.from_dict(config)
    assert "\n" not in str(caught.value)


def test_temperatures_that_go_wrong_later_are_refused_too(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD.replace("rows.shape, self.t_base", "rows.shape, np.inf if len(history) else 1.0"))
    subject = PromptTracker(TrackerConfig("Mine", path=str(path)))
    observe(subject, [1.0], np.ones(1))
    with pytest.raises(TrackerError, match=r"temperatures\(\) gave inf"):
        subject.temperatures_for(KEYS)
