# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Group log and metrics log: what is written is read, a resumed run moves what it repeats out of the way."""

import pytest

from erpo.report.data import load_runs
from erpo.runs import GroupLog, MetricsLog, read_groups, read_metrics
from erpo.runs.metrics_log import held_out_names
from erpo.runs.summary import print_summary, summarize
from erpo.runs.superseded import supersede
from erpo.trainer.metrics import step_line


def row(step, key="a" * 32, outcome="mixed", temperature=1.0, revived=False, dropped=False):
    return {
        "step": step,
        "key": key,
        "temperature": temperature,
        "n": 2,
        "correct": 2 if outcome == "all_correct" else 1,
        "accuracy": 1.0 if outcome == "all_correct" else 0.5,
        "lengths": [3, 5],
        "truncated": 0,
        "outcome": outcome,
        "revived": revived,
        "dropped": dropped,
    }


def test_groups_come_back_in_order_of_steps(tmp_path):
    log = GroupLog(tmp_path)
    for step in (2, 1, 10):
        log.write(step, [row(step), row(step, outcome="all_wrong", dropped=True)])
    groups = read_groups(tmp_path)
    assert groups["step"].tolist() == [1, 1, 2, 2, 10, 10]
    assert groups["lengths"].map(list).tolist()[0] == [3, 5]
    assert groups["dropped"].tolist() == [False, True] * 3


def test_a_step_without_groups_is_a_file_without_rows(tmp_path):
    GroupLog(tmp_path).write(1, [])
    assert len(read_groups(tmp_path)) == 0


def test_resume_moves_later_steps_and_a_repeated_step_replaces_the_old_one(tmp_path):
    log = GroupLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, [row(step)])
    superseded = supersede(tmp_path, after=1)
    assert read_groups(tmp_path)["step"].tolist() == [1]
    assert read_groups(superseded)["step"].tolist() == [2, 3]
    log.write(1, [row(1), row(1)])
    assert len(read_groups(tmp_path)) == 2


def test_a_half_written_file_of_a_killed_run_is_not_read(tmp_path):
    log = GroupLog(tmp_path)
    log.write(1, [row(1)])
    (tmp_path / "groups" / "step_000002.tmp").write_bytes(b"PAR1 half")
    assert len(read_groups(tmp_path)) == 1


def test_metrics_survive_a_resume_and_a_half_written_line(tmp_path):
    log = MetricsLog(tmp_path)
    log.append(1, {"a": 1, "text": "not a number", "list": [1]})
    log.append(2, {"a": 2.5})
    with log.path.open("a") as file:
        file.write('{"step": 3, "a"')
    superseded = supersede(tmp_path, after=1)
    assert read_metrics(superseded)["a"].tolist() == [2.5]
    log.append(2, {"a": 7})
    metrics = read_metrics(tmp_path)
    assert metrics["a"].tolist() == [1.0, 7.0]
    assert "text" not in metrics


def test_reading_no_run_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no group log"):
        read_groups(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no metrics\.jsonl"):
        read_metrics(tmp_path)


def test_summary_counts_prompts_not_groups(tmp_path, capsys):
    log, metrics = GroupLog(tmp_path), MetricsLog(tmp_path)
    metrics.append(0, {"val-core/x/acc/mean@4": 0.5})
    for step in range(1, 31):
        hot = {"temperature": 1.2, "revived": True, "outcome": "mixed"}
        log.write(step, [row(step, key="a" * 32, outcome="all_correct"), row(step, key="b" * 32, **hot)])
        metrics.append(step, {"x": 1})
    metrics.append(30, {"val-core/x/acc/mean@4": 0.75})
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("30")
    summary = summarize(tmp_path)
    assert summary.held_out == [("held-out accuracy", "0.500", "0.750")]
    assert (summary.prompts_seen, summary.prompts_raised, summary.prompts_revived) == (2, 1, 1)
    assert summary.all_correct_end == 0.5
    assert (summary.responses, summary.tokens) == (120, 480)
    assert summary.checkpoint == tmp_path / "global_step_30"
    print_summary(tmp_path)
    assert "0.500 -> 0.750" in capsys.readouterr().out


def test_summary_shows_each_set_with_its_interval_and_pass_at_k(tmp_path, capsys):
    GroupLog(tmp_path).write(1, [row(1)])
    metrics = MetricsLog(tmp_path)
    for step, mean in ((0, 0.5), (1, 0.25)):
        own = {"mean@8": mean, "mean_low": mean - 0.1, "mean_high": mean + 0.1, "pass@8": mean + 0.3}
        metrics.append(step, {f"erpo/val/openai/gsm8k/{name}": value for name, value in own.items()})
        metrics.append(step, {"val-core/openai/gsm8k/acc/mean@8": mean, "erpo/val/aime/mean@32": 0.0625})
    for name in ("mean_low", "mean_high", "pass@32"):
        metrics.append(1, {f"erpo/val/aime/{name}": 0.125})
    assert summarize(tmp_path).held_out[:2] == [
        ("openai/gsm8k, mean@8 (95 % interval)", "50.0% (40.0% to 60.0%)", "25.0% (15.0% to 35.0%)"),
        ("openai/gsm8k, pass@8", "80.0%", "55.0%"),
    ]
    print_summary(tmp_path)
    assert "50.0% (40.0% to 60.0%) -> 25.0% (15.0% to 35.0%)" in capsys.readouterr().out


def test_one_validation_is_no_end_of_a_run(tmp_path):
    metrics = MetricsLog(tmp_path)
    own = {"mean@8": 0.35, "mean_low": 0.3, "mean_high": 0.4, "pass@8": 0.6}
    metrics.append(0, {f"erpo/val/x/{name}": value for name, value in own.items()})
    for step in (1, 2):
        # An incomplete group is of no kind.
        GroupLog(tmp_path).write(step, [row(step, outcome="all_correct"), row(step, outcome="incomplete")])
        metrics.append(step, {"x": 1})
    summary = summarize(tmp_path)
    assert summary.held_out[0][1:] == ("35.0% (30.0% to 40.0%)", "not measured after step 0")
    assert summary.held_out[1][1:] == ("60.0%", "not measured after step 0")
    assert (summary.all_correct_start, summary.all_correct_end) == (1.0, 1.0)


@pytest.mark.parametrize(("steps", "window"), [(1, 1), (5, 2), (40, 10)])
def test_the_two_shares_of_a_short_run_do_not_overlap(tmp_path, steps, window):
    metrics = MetricsLog(tmp_path)
    for step in range(1, steps + 1):
        GroupLog(tmp_path).write(step, [row(step, outcome="all_correct" if step <= window else "mixed")])
        metrics.append(step, {"x": 1})
    summary = summarize(tmp_path)
    assert summary.window == window
    assert (summary.all_correct_start, summary.all_correct_end) == (1.0, 1.0 if steps == 1 else 0.0)


def test_held_out_accuracy_is_no_mean_reward(tmp_path, capsys):
    # Rewards of -1 and 1 without `acc`: verl's metric is their mean, 0 where half of the responses are right.
    metrics = {"val-core/x/reward/mean@8": 0.0, "erpo/val/x/mean@8": 0.5, "erpo/val/x/mean_low": 0.4}
    assert held_out_names(metrics) == ["erpo/val/x/mean@8"]
    assert held_out_names(["val-core/x/acc/mean@8"]) == ["val-core/x/acc/mean@8"]
    assert "held-out accuracy 0.500" in step_line(metrics, step=1, total_steps=2)
    MetricsLog(tmp_path).append(0, metrics)
    print_summary(tmp_path)
    assert "held-out accuracy 0.500" in capsys.readouterr().out
    [run] = load_runs([tmp_path])
    assert run.held_out_accuracy().tolist() == [0.5]
