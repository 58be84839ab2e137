# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""How long a run trains: the least of steps, epochs and token budget, whose last step is saved and validated."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo.runs.console import LINES_FILE
from erpo.tasks.arithmetic.model import build_tokenizer
from erpo.trainer.checks import check_settings
from erpo.trainer.metrics import Totals
from erpo.trainer.trainer import ErpoTrainerSync


@pytest.fixture
def load(cpu_config, tmp_path):
    """A trainer that has read data of two steps an epoch."""
    rows = [
        {
            "data_source": "arithmetic",
            "prompt": [{"role": "user", "content": f"{number}+1="}],
            "reward_model": {"style": "rule", "ground_truth": str(number + 1)},
        }
        for number in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")

    def loaded(*overrides):
        trainer = object.__new__(ErpoTrainerSync)
        files = [f"data.{split}_files={tmp_path}/rows.parquet" for split in ("train", "val")]
        trainer.config = cpu_config("erpo", *files, *overrides)
        trainer.erpo = check_settings(trainer.config)
        trainer.tokenizer, trainer.processor, trainer.trainer_mode = build_tokenizer(), None, "sync"
        trainer.global_steps, trainer.parameter_sync_step, trainer.log_folder = 0, 1, tmp_path
        trainer._init_dataloader()
        return trainer

    return loaded


@pytest.mark.parametrize(
    ("steps", "epochs", "expected"),
    [("5", 3, 5), ("7", 3, 6), ("null", 3, 6)],
    ids=["steps-end-it", "epochs-end-it", "epochs-alone"],
)
def test_the_last_step_is_one_that_verls_loop_reaches(load, tmp_path, steps, epochs, expected):
    trainer = load(f"trainer.total_training_steps={steps}", f"trainer.total_epochs={epochs}")
    # verl's loop ends after this many steps, and saves and validates at the end of total_training_steps only.
    assert trainer.steps_per_epoch * epochs >= expected
    assert trainer.total_training_steps == trainer.longest_training == expected
    lines = tmp_path / LINES_FILE
    said = lines.read_text().splitlines() if lines.exists() else []
    assert len(said) == (steps == "7")
    assert all("ends after 6 steps" in line and "raise trainer.total_epochs" in line for line in said)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        # 16 prompts a step, of 40.
        (["trainer.total_training_steps=4"], "a prompt is visited 1.6 times in this run"),
        (["trainer.total_training_steps=5"], None),
        (["erpo.schedule.name=rising", "trainer.total_training_steps=4"], None),
        (
            ["erpo.schedule.name=rising", "trainer.total_training_steps=4", "erpo.schedule.rising.steps=5"],
            "the run ends after 4 steps, and the temperature rises over 5; set erpo.schedule.rising.steps",
        ),
    ],
)
def test_a_run_that_is_too_short_for_its_schedule_says_so(load, tmp_path, settings, sentence):
    load(*settings)
    lines = tmp_path / LINES_FILE
    said = lines.read_text() if lines.exists() else ""
    assert said == "" if sentence is None else sentence in said and said.count("\n") == 1


def test_validation_rows_that_repeat_a_prompt_are_said(load, tmp_path):
    rows = pq.read_table(tmp_path / "rows.parquet")
    pq.write_table(pa.concat_tables([rows, rows]), tmp_path / "twice.parquet")
    load("trainer.total_training_steps=5", f"data.val_files={tmp_path}/twice.parquet")
    assert "data.val_files hold 80 rows of 40 prompts, and the intervals" in (tmp_path / LINES_FILE).read_text()


def test_a_budget_tells_no_last_step_before_a_token_is_generated(load):
    trainer = load("trainer.total_training_steps=5", "erpo.token_budget=100")
    trainer.global_steps, trainer.totals = 1, Totals()
    trainer._end_at_budget(least=1)
    assert trainer.total_training_steps == 5
    trainer.totals.tokens = 50
    trainer._end_at_budget(least=1)
    assert trainer.total_training_steps == 2
