# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The artefact on disk: contents, reuse, and recovery. The warm-up is one step, enough to write real files."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from erpo.tasks.arithmetic import base
from erpo.tasks.arithmetic import prepare as module
from erpo.tasks.arithmetic.prepare import PrepareConfig, main, prepare
from erpo.tasks.arithmetic.task import make_pools
from erpo.tasks.arithmetic.warmup import WarmupConfig, WarmupResult

torch.set_num_threads(1)
WARMUP = WarmupConfig(target_accuracy=0.0, max_steps=1, evaluate_every=1, batch_size=2)
CONFIG = PrepareConfig(train_prompts=6, test_prompts=2, warmup=WARMUP)


class Builds:
    """Counts the warm-ups, and can interrupt the next one."""

    def __init__(self, warm_up: Callable[..., WarmupResult]) -> None:
        self.count = 0
        self.interrupt = False
        self._warm_up = warm_up

    def __call__(self, *arguments: Any) -> WarmupResult:
        self.count += 1
        if self.interrupt:
            raise KeyboardInterrupt
        return self._warm_up(*arguments)


@pytest.fixture(autouse=True)
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    counter = Builds(base.warm_up)
    monkeypatch.setattr(base, "warm_up", counter)
    monkeypatch.setattr(base, "reserved_pools", lambda: make_pools(6, 2, 4))
    return counter


def test_files_are_in_verl_s_schema_and_the_model_loads(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "new" / "arithmetic", CONFIG)
    pools = make_pools(6, 2, 4)
    for file, pool, split in ((prepared.train_file, pools.train, "train"), (prepared.test_file, pools.test, "test")):
        rows = pd.read_parquet(file).to_dict("records")
        assert len(rows) == len(pool)
        for index, (row, problem) in enumerate(zip(rows, pool, strict=True)):
            assert row["data_source"] == "arithmetic"
            assert list(row["prompt"]) == [{"role": "user", "content": problem.prompt}]
            assert row["ability"] == "math"
            assert row["reward_model"] == {"style": "rule", "ground_truth": problem.answer}
            assert row["extra_info"] == {
                "index": index,
                "split": split,
                "prompt_id": f"arithmetic:{problem.prompt}",
                "operations": problem.operations,
            }
    tokenizer = AutoTokenizer.from_pretrained(prepared.model_path)
    model = AutoModelForCausalLM.from_pretrained(prepared.model_path)
    assert len(tokenizer) == model.config.vocab_size
    assert 0.0 <= prepared.base_accuracy <= 1.0


def test_the_base_model_of_the_package_needs_no_warm_up(tmp_path: Path, builds: Builds) -> None:
    prepared = prepare(tmp_path / "a", PrepareConfig(train_prompts=6, test_prompts=64))
    assert builds.count == 0
    assert {path.name for path in prepared.model_path.iterdir()} == {path.name for path in base.BASE_FOLDER.iterdir()}
    # Right about half of the time, so that a run has something to learn and something to learn from.
    assert 0.35 < prepared.base_accuracy < 0.65
    with pytest.raises(ValueError, match="may have met test prompts after the first 1024"):
        PrepareConfig(test_prompts=1025)
    assert PrepareConfig(test_prompts=1025, warmup=WARMUP).test_prompts == 1025


def test_a_finished_artefact_is_reused_and_says_so(
    tmp_path: Path, builds: Builds, caplog: pytest.LogCaptureFixture
) -> None:
    first = prepare(tmp_path / "a", CONFIG)
    written = (tmp_path / "a" / "manifest.json").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        assert prepare(tmp_path / "a", CONFIG) == first
    assert "reusing" in caplog.text
    assert builds.count == 1
    assert (tmp_path / "a" / "manifest.json").stat().st_mtime_ns == written
    # As on a disk that can only be read: there is no lock to be had.
    (tmp_path / ".a.lock").unlink()
    (tmp_path / ".a.lock").mkdir()
    assert prepare(tmp_path / "a", CONFIG) == first


def test_changed_settings_rebuild(tmp_path: Path, builds: Builds) -> None:
    prepare(tmp_path / "a", CONFIG)
    bigger = prepare(tmp_path / "a", PrepareConfig(train_prompts=8, test_prompts=2, warmup=WARMUP))
    assert builds.count == 2
    assert len(pd.read_parquet(bigger.train_file)) == 8
    assert [path.name for path in tmp_path.iterdir() if "building" in path.name] == []


def test_another_format_version_rebuilds(tmp_path: Path, builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "a", CONFIG)
    monkeypatch.setattr(module, "FORMAT_VERSION", module.FORMAT_VERSION + 1)
    prepare(tmp_path / "a", CONFIG)
    assert builds.count == 2


def test_an_interrupted_build_leaves_nothing_and_is_repeated(tmp_path: Path, builds: Builds) -> None:
    builds.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "a", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]
    builds.interrupt = False
    # As a killed process leaves it, which cannot clean up.
    (tmp_path / ".a.building" / "new" / "model").mkdir(parents=True)
    (tmp_path / ".a.building" / "new" / "train.parquet").write_text("half")
    prepared = prepare(tmp_path / "a", CONFIG)
    assert len(pd.read_parquet(prepared.train_file)) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.lock", "a"]


def test_an_interrupted_rebuild_leaves_the_old_artefact(tmp_path: Path, builds: Builds) -> None:
    first = prepare(tmp_path / "a", CONFIG)
    builds.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "a", PrepareConfig(train_prompts=8, test_prompts=2, warmup=WARMUP))
    assert prepare(tmp_path / "a", CONFIG) == first


@pytest.mark.parametrize(
    ("damage", "how"),
    [("train.parquet", "removed"), ("model/model.safetensors", "truncated"), ("manifest.json", "truncated")],
)
def test_a_damaged_artefact_is_rebuilt(tmp_path: Path, builds: Builds, damage: str, how: str) -> None:
    first = prepare(tmp_path / "a", CONFIG)
    path = tmp_path / "a" / damage
    content = path.read_bytes()
    path.unlink()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    assert prepare(tmp_path / "a", CONFIG) == first
    assert builds.count == 2
    assert path.read_bytes() == content


def test_the_manifest_names_settings_accuracy_and_steps(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "a", CONFIG)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["settings"]["train_prompts"] == 6
    assert manifest["settings"]["warmup"]["target_accuracy"] == 0.0
    assert manifest["base_accuracy"] == prepared.base_accuracy
    assert manifest["warmup"]["steps"] == 1


def test_of_two_at_once_one_builds(tmp_path: Path, builds: Builds) -> None:
    # The lock belongs to an open file, so threads exclude each other as processes do.
    results = []
    threads = [threading.Thread(target=lambda: results.append(prepare(tmp_path / "a", CONFIG))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds.count == 1
    assert len(results) == 2 and results[0] == results[1]


def test_a_folder_with_other_files_is_refused_and_kept(tmp_path: Path, builds: Builds) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"thesis\.txt.*choose another folder"):
        prepare(tmp_path, CONFIG)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert builds.count == 0


def test_errors_of_the_command_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for arguments, words in (
        (["--out", str(tmp_path / "a"), "--train-prompts", "0"], "train_prompts must be positive, got 0"),
        (["--out", str(tmp_path / "a"), "--test-prompts", "1000000"], "take fewer"),
        (["--out", str(tmp_path / "a"), "--test-prompts", "1000000", "--seed", "1"], "too many"),
        (["--out", str(tmp_path / "file" / "a")], "cannot write"),
        (["--out", str(tmp_path / "file")], "not a folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1 and words in errors[0]
