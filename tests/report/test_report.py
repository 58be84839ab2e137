# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The report's command line, its figures, and runs that are not finished."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import report_runs as runs
from omegaconf import OmegaConf

from erpo.report import write_report
from erpo.report.__main__ import main
from erpo.report.data import Steps, load_runs
from erpo.report.figures import flow, outcomes, share_axes, temperature_edges, temperatures
from erpo.report.learning import agreement, heat, raised_and_base, tolerance
from erpo.report.prompts import any_with_samples, most_revived, stubborn
from erpo.runs import GroupLog, MetricsLog
from erpo.runs.sample_log import SampleLog, read_samples
from erpo.runs.superseded import supersede
from erpo.tracker import key_hex, prompt_key


def test_command_writes_the_page_and_names_it(tmp_path, capsys):
    run, out = runs.write_run(tmp_path / "run"), tmp_path / "out"
    main([str(run), "--out", str(out)])
    assert capsys.readouterr().out == f"{out / 'index.html'}\n"
    assert "http" not in (out / "index.html").read_text().replace("http-equiv", "")
    assert (out / "kinds-erpo.png").read_bytes().startswith(b"\x89PNG")
    assert not list(out.glob("*.tmp"))


def test_bad_input_is_one_sentence(tmp_path, capsys):
    run = runs.write_run(tmp_path / "run", steps=1)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    broken = runs.write_run(tmp_path / "broken", steps=1)
    (broken / "config.yaml").write_text("a: [1,\n b: }")
    cases = {
        (str(broken), "--out", str(tmp_path / "out")): "broken/config.yaml cannot be read",
        (str(tmp_path / "missing"), "--out", str(tmp_path / "out")): "is not the folder of an ERPO run",
        (str(run), str(tmp_path / "empty"), "--out", str(tmp_path / "out")): "is not the folder of an ERPO run",
        (str(run), str(run), "--out", str(tmp_path / "out")): "named twice",
        (str(run), "--out", str(tmp_path / "file")): "cannot write",
        (str(run), "--out", str(tmp_path / "out"), "--watch", "0"): "--watch is 0",
    }
    for arguments, message in cases.items():
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        error = capsys.readouterr().err
        assert exit_.value.code == 1
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_watch_waits_for_the_first_step_and_ends_at_an_interrupt(tmp_path):
    run, page = tmp_path / "run", tmp_path / "out" / "index.html"
    runs.write_settings(run)
    command = [sys.executable, "-m", "erpo.report", str(run), "--out", str(page.parent), "--watch", "1"]
    watch = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that a shell started in the background hands on an interrupt that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        _wait_for(page, "no finished step yet")
        assert 'http-equiv="refresh" content="1"' in page.read_text()
        GroupLog(run).write(1, runs.groups_of(1))
        MetricsLog(run).append(1, runs.metrics_of(1))
        _wait_for(page, 'id="kinds"')
    finally:
        watch.send_signal(signal.SIGINT)
        try:
            _, error = watch.communicate(timeout=60)
        finally:
            watch.kill()
    assert watch.returncode == 0
    assert "Traceback" not in error


def _wait_for(page, text):
    end = time.monotonic() + 60
    while not (page.exists() and text in page.read_text()):
        assert time.monotonic() < end, f"{text!r} never came"
        time.sleep(0.1)


def test_a_run_in_the_middle_of_writing_is_read(tmp_path):
    """The newest step has groups but no metrics yet, a line is half-written, and so is a checkpoint."""
    folder = runs.write_run(tmp_path / "run", steps=6)
    GroupLog(folder).write(7, runs.groups_of(7))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "actor/ent')
    half = folder / "global_step_7" / "erpo"
    half.mkdir(parents=True)
    (half / "tracker.json").write_text("{")
    # A user's copies, and JSON that is no state.
    shutil.copytree(folder / "global_step_6", folder / "global_step_6.bak")
    shutil.copytree(half, folder / "global_step_8" / "erpo")
    (folder / "global_step_8" / "erpo" / "tracker.json").write_text("[]")
    (run,) = load_runs([folder])
    assert (run.last_step, run.tracker_step) == (7, 6)
    assert run.groups.groupby("step")["epoch"].first().tolist() == [1, 1, 2, 2, 3, 3, 3]
    write_report([folder], tmp_path / "out")


def test_a_run_with_nothing_but_half_a_metrics_line(tmp_path):
    runs.write_settings(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 0, "v')
    assert "no finished step yet" in write_report([tmp_path / "run"], tmp_path / "out").read_text()


def test_runs_of_one_method_are_told_apart(tmp_path):
    folders = [runs.write_run(tmp_path / name, steps=1) for name in ("a/x", "b/x", "c")]
    other = runs.write_run(tmp_path / "d", "grpo", steps=1)
    assert [run.name for run in load_runs([*folders, other])] == ["erpo (x) #1", "erpo (x) #2", "erpo (c)", "grpo"]


def test_a_run_that_went_on_from_another_one_counts_its_own_tokens(tmp_path):
    whole = load_runs([runs.write_run(tmp_path / "whole")])[0]
    for step in range(1, 5):
        (tmp_path / "whole" / "groups" / f"step_{step:06d}.parquet").unlink()
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "whole" / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] > 4))
    (continued,) = load_runs([tmp_path / "whole"])
    assert continued.tokens().tolist() == [whole.tokens()[step] - whole.tokens()[4] for step in range(5, 9)]
    assert continued.tokens_at(pd.Series([6], index=[6]))[6] == whole.tokens()[6] - whole.tokens()[4]


def test_one_validation_is_not_the_last_one_too(tmp_path):
    write_report([runs.write_run(tmp_path / "short", steps=3)], tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "25.0% at step 0, not measured again" in text and "25.0% to 25.0%" not in text


def test_figures_of_two_runs_have_the_same_axes(tmp_path):
    both = load_runs([runs.write_run(tmp_path / "long"), runs.write_run(tmp_path / "short", "grpo", steps=3)])
    steps, edges = Steps.of(both), temperature_edges(both)
    for panels in ([outcomes(run, steps) for run in both], [temperatures(run, steps, edges) for run in both]):
        assert panels[0].figure.axes[0].get_xlim() != panels[1].figure.axes[0].get_xlim()
        share_axes(panels)
        limits = [(panel.figure.axes[0].get_xlim(), panel.figure.axes[0].get_ylim()) for panel in panels]
        assert limits[0] == limits[1] and limits[0][0] == (0.5, 8.5)


def test_steps_are_taken_together_in_a_long_run(tmp_path):
    folder = runs.write_run(tmp_path / "run", steps=1)
    for step in range(2, 64):
        row = runs.groups_of(1)[0] | {"step": step, "outcome": "mixed" if step > 60 else "all_correct"}
        GroupLog(folder).write(step, [row])
    (run,) = load_runs([folder])
    steps = Steps.of([run])
    table = outcomes(run, steps).table
    assert steps.width == 4 and table["steps"].tolist()[-1] == "61-63"
    assert table["mixed"].tolist()[-2:] == ["0.0%", "100.0%"]
    # The first point has the four groups of step 1 and one of each step from 2 to 4.
    assert table["groups"].tolist()[:2] == ["7", "4"]


def test_a_prompt_flows_with_its_last_group_of_an_epoch(tmp_path):
    folder = runs.write_run(tmp_path / "run", steps=2)
    # Prompt 0, all-correct in step 1, comes again in the same epoch; in the next epoch only prompt 1 is sampled.
    again = runs.groups_of(1)[0] | {"step": 2, "outcome": "mixed"}
    GroupLog(folder).write(2, [*runs.groups_of(2), again])
    GroupLog(folder).write(3, [runs.groups_of(3)[1]])
    MetricsLog(folder).append(3, runs.metrics_of(3))
    (run,) = load_runs([folder])
    table = flow(run).table
    moves = dict(zip(table["prompts that went from"], table["epoch 1 to 2"], strict=True))
    assert moves == {
        "all-correct to mixed": "1",
        "all-correct to not sampled": "1",
        "mixed to not sampled": "4",
        "all-wrong to not sampled": "2",
    }


@pytest.mark.parametrize(
    "values, cap, bins",
    [
        ([1.0], None, [1.0]),
        ([1.0, 1.05, 1.2], 1.2, [1.0, 1.05, 1.1, 1.15, 1.2]),
        ([1.0, 1.2], 1.6, [1.0, 1.2, 1.4, 1.6]),
    ],
)
def test_a_temperature_and_the_cap_lie_in_the_middle_of_a_bin(tmp_path, values, cap, bins):
    (run,) = load_runs([runs.write_run(tmp_path / "run", "grpo", steps=1)])
    groups = run.groups.iloc[: len(values)].assign(temperature=values)
    edges = temperature_edges([replace(run, groups=groups, cap=cap)])
    middles = (edges[:-1] + edges[1:]) / 2
    assert np.allclose(middles[: len(bins)], bins) and len(middles) <= len(bins) + 1


def test_continuous_temperatures_are_put_into_few_bins(tmp_path):
    (run,) = load_runs([runs.write_run(tmp_path / "run")])
    groups = run.groups.assign(temperature=1 + 0.9 * np.linspace(0, 1, len(run.groups)) ** 2)
    edges = temperature_edges([replace(run, groups=groups, cap=2.0)])
    assert 10 <= len(edges) <= 16
    assert edges[0] < 1.0 and edges[-1] > 2.0


def test_agreement_and_entropy_by_temperature_where_the_group_log_has_them(tmp_path):
    (run,) = load_runs([runs.write_run(tmp_path / "run")])
    hot = run.groups["temperature"]
    # Groups that the trainer dropped have none.
    trained = ~run.groups["dropped"]
    groups = run.groups.assign(entropy=hot, probs_diff_mean=hot * 1e-8, probs_diff_max=hot * 1e-6)
    groups.loc[~trained, ["entropy", "probs_diff_mean", "probs_diff_max"]] = np.nan
    run = replace(run, groups=groups)
    panel = agreement(run, Steps.of([run]), temperature_edges([run]))
    assert panel.table["T"].tolist() == ["1.00", "1.20", "1.40", "1.60"]
    assert panel.table["largest difference"].tolist() == ["1.0e-06", "1.2e-06", "1.4e-06", "1.6e-06"]
    assert panel.table["groups"].astype(int).sum() == trained.sum()
    table = raised_and_base(run, Steps.of([run])).table
    assert table["entropy (nats), base"].tolist()[0] == "1.00"
    assert table["entropy (nats), raised"].tolist()[6] == "1.40"


def test_raised_groups_are_beside_the_last_visit_of_their_prompts_at_the_base(tmp_path):
    (run,) = load_runs([runs.write_run(tmp_path / "run")])
    table = tolerance(run, temperature_edges([run])).table
    assert table["T"].tolist() == ["1.20", "1.40", "1.60"]
    # At 1.2: prompts 0, 1, 1, 2, 2 and 5, all of which were all-correct at the base, prompt 2 after a mixed visit.
    assert table["groups"].tolist() == ["6", "4", "1"]
    assert table["accuracy, raised"].tolist() == ["75.0%", "75.0%", "100.0%"]
    assert table["accuracy, same prompts at the base before"].tolist() == ["100.0%"] * 3
    assert table["share truncated, raised"].tolist() == ["12.5%", "12.5%", "0.0%"]
    (plain,) = load_runs([runs.write_run(tmp_path / "plain", "grpo")])
    assert tolerance(plain, temperature_edges([plain])) is None


def test_heat_is_shown_where_it_was_logged(tmp_path):
    folder = runs.write_run(tmp_path / "run")
    (run,) = load_runs([folder])
    assert heat(run, Steps.of([run])) is None
    assert "No heat was logged" in write_report([folder], tmp_path / "out").read_text()
    for_mixed = pd.Series([0.25, 0.5], index=[3, 8])
    run = replace(run, metrics=run.metrics.assign(**{"erpo/heat/broken_wrong": for_mixed}))
    panel = heat(run, Steps.of([run]))
    assert panel.table.to_dict("list") == {"steps": ["3", "8"], "broken, wrong responses": ["25.0%", "50.0%"]}
    assert len(panel.figure.axes) == 1 and panel.text == "At last: wrong responses 50.0%."
    run = replace(run, metrics=run.metrics.assign(**{"erpo/heat/tail_mass": for_mixed / 10}))
    panel = heat(run, Steps.of([run]))
    assert panel.table["tail, at each response's T"].tolist() == ["2.5%", "5.0%"] and len(panel.figure.axes) == 2


def test_a_run_without_log_probs_says_how_to_get_them(tmp_path):
    folder = runs.write_run(tmp_path / "run", "grpo", steps=1)
    (folder / "metrics.jsonl").unlink()
    MetricsLog(folder).append(1, {"training/epoch": 0})
    text = write_report([folder], tmp_path / "out").read_text()
    assert "set actor_rollout_ref.rollout.calculate_log_probs=true" in text
    assert "No shares of responses with gradient were logged yet" in text


def test_where_nothing_is_raised_the_stubborn_ones_are_all_correct_most_often(tmp_path):
    (run,) = load_runs([runs.write_run(tmp_path / "run", "grpo")])
    assert [prompt.key for prompt in stubborn(run)][:2] == [runs.key(0), runs.key(5)]
    assert stubborn(run)[0].facts.startswith("4 all-correct groups, up to T 1, in 4 visits")


def test_of_equal_prompts_those_with_responses_to_read_come_first(tmp_path):
    folder = runs.write_run(tmp_path / "run", "grpo", samples=False)
    (bare,) = load_runs([folder])
    assert [prompt.key for prompt in stubborn(bare)][-2:] == [runs.key(2), runs.key(6)]
    assert [prompt.key for prompt in most_revived(bare)] == [runs.key(1), runs.key(2), runs.key(5)]
    row = runs.groups_of(2)[0]
    SampleLog(folder).write(2, [runs.sample(row | {"key": runs.key(prompt)}) for prompt in (5, 6)])
    (run,) = load_runs([folder])
    assert [prompt.key for prompt in stubborn(run)][-2:] == [runs.key(6), runs.key(2)]
    assert [prompt.key for prompt in most_revived(run)] == [runs.key(1), runs.key(5), runs.key(2)]


def test_samples_come_back_in_order_and_a_resumed_run_forgets(tmp_path):
    log = SampleLog(tmp_path)
    for step in (3, 1):
        log.write(step, [runs.sample(row) for row in runs.groups_of(step)])
    samples = read_samples(tmp_path)
    assert samples["step"].tolist() == [1] * 4 + [3] * 4
    assert samples["response"].tolist() == [runs.RESPONSE] * 8
    assert samples["correct"].tolist() == [True, True, False, False, True, False, True, False]
    supersede(tmp_path, after=1)
    assert read_samples(tmp_path)["step"].tolist() == [1] * 4
    with pytest.raises(FileNotFoundError, match="holds no sample log"):
        read_samples(tmp_path / "other")


def test_prompts_with_samples_are_shown_where_the_listed_ones_have_none(tmp_path):
    folder = runs.write_run(tmp_path / "run", steps=7, samples=False)
    SampleLog(folder).write(2, [runs.sample(row) for row in runs.groups_of(2) if row["key"] == runs.key(4)])
    (run,) = load_runs([folder])
    assert [(prompt.key, list(prompt.responses)) for prompt in any_with_samples(run)] == [(runs.key(4), ["1"])]
    assert "With responses to read" in write_report([folder], tmp_path / "out").read_text()


def test_a_prompt_without_samples_is_named_by_its_text_in_the_training_file(tmp_path):
    folder = runs.write_run(tmp_path / "run", samples=False)
    rows = [
        {"data_source": "own", "prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": text}]}
        for text in ("How many shells\nhas Dan?", "Never sampled?")
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    config = OmegaConf.load(folder / "config.yaml")
    OmegaConf.update(config, "data.train_files", [str(tmp_path / "gone.parquet"), str(tmp_path / "train.parquet")])
    OmegaConf.save(config, folder / "config.yaml")
    key = key_hex(prompt_key("own", rows[0]["prompt"]))
    row = {**runs.groups_of(7)[0], "step": 9, "key": key, "temperature": 1.6, "outcome": "all_correct"}
    GroupLog(folder).write(9, [row])
    (run,) = load_runs([folder])
    assert run.texts == {key: "How many shells\nhas Dan?"}
    headings = {prompt.key: prompt.heading for prompt in stubborn(run)}
    assert headings[key] == "How many shells has Dan?"
    assert headings[runs.key(0)] == f"prompt {runs.key(0)[:8]}"
