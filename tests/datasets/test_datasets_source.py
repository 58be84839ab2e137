# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Sources: layouts of the public sets, folders as the hub's repositories, and the command line."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erpo.datasets.catalog import SETS
from erpo.datasets.errors import DataError
from erpo.datasets.prepare import prepare
from erpo.datasets.source import load
from erpo.datasets.templates import TEMPLATES, fill
from recipe.erpo.prepare_data import main

CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train-*}
  - {split: test, path: main/test-*}
- config_name: socratic
  data_files:
  - {split: train, path: socratic/train-*}
---
"""


def answers(path: Path) -> list[str]:
    return [row["reward_model"]["ground_truth"] for row in pq.read_table(path).to_pylist()]


def gsm8k_repository(folder: Path) -> Path:
    for part, number in (("main/train", 1), ("main/test", 2), ("socratic/train", 3)):
        path = folder / f"{part}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"question": [f"{part}?"], "answer": [f"One <<1>> two.\n#### {number}"]}), path)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.mark.parametrize(
    ("name", "row", "gold"),
    [
        ("gsm8k", {"question": "q", "answer": "First #### then\n#### 1,234"}, "1234"),
        ("gsm8k", {"question": "q", "answer": "No minus.\n#### -5"}, "-5"),
        ("math", {"problem": "p", "solution": "So $\\boxed{3}$, or $\\boxed{\\frac{1}{2}}$."}, "\\frac{1}{2}"),
        ("math", {"problem": "p", "solution": "It is $\\boxed 7$."}, "7"),
        ("math", {"problem": "p", "answer": "x"}, "x"),
        ("amc23", {"question": "q", "answer": 27.0}, "27"),
        ("amc23", {"question": "q", "answer": 0.5}, "0.5"),
        ("aime25", {"problem": "p", "answer": "025"}, "25"),
        ("aime24", {"problem": "p", "answer": "000"}, "0"),
        ("math500", {"problem": "p", "answer": "025"}, "025"),
        ("dapo_math_17k", {"prompt": "p", "solution": "9", "reward_model": {"ground_truth": "9"}}, "9"),
    ],
)
def test_gold_answers_of_every_layout(tmp_path, write, name, row, gold):
    split = "test" if len(SETS[name].splits) > 1 else None
    [prepared] = prepare(name, tmp_path / "out", write(row), "{problem}", split)
    assert answers(prepared.path) == [gold]
    assert pq.read_table(prepared.path).to_pylist()[0]["prompt"][0]["content"] in ("p", "q")


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("gsm8k", {"question": "q", "answer": "5"}, "without '####'"),
        ("gsm8k", {"question": "q", "answer": "five ####"}, "empty answer"),
        ("math", {"problem": "p", "solution": "It is 5."}, "without .boxed"),
        ("math", {"problem": "p", "solution": "It is \\fbox{5}."}, "without .boxed"),
        (
            "aime24",
            {"prompt": [{"role": "user", "content": "p"}], "reward_model": {"ground_truth": "1"}},
            "DAPO's template",
        ),
        (
            "aime24",
            {
                "prompt": [{"role": "user", "content": fill(TEMPLATES["dapo"], "p")}] * 2,
                "reward_model": {"ground_truth": "1"},
            },
            "one user message",
        ),
    ],
)
def test_rows_of_another_layout_are_refused(tmp_path, write, name, row, message):
    split = "test" if len(SETS[name].splits) > 1 else None
    with pytest.raises(DataError, match=f"row 1 of .*{message}"):
        prepare(name, tmp_path / "out", write(row), split=split)


def test_a_downloaded_repository_gives_both_splits(tmp_path):
    prepared = prepare("gsm8k", tmp_path / "out", str(gsm8k_repository(tmp_path / "gsm8k")))
    assert [one.path.name for one in prepared] == ["gsm8k_train.parquet", "gsm8k_test.parquet"]
    assert [answers(one.path) for one in prepared] == [["1"], ["2"]]
    [only] = prepare("gsm8k", tmp_path / "out", str(tmp_path / "gsm8k"), split="test")
    assert only.reused


def test_the_hub_s_way_of_loading(tmp_path):
    """A folder where the repository's name would be: the same call as for the hub."""
    gsm8k = dataclasses.replace(SETS["gsm8k"], hub=str(gsm8k_repository(tmp_path / "gsm8k")))
    assert load(gsm8k, "test", "hub")["question"][:] == ["main/test?"]
    (tmp_path / "aime25").mkdir()
    (tmp_path / "aime25" / "test.jsonl").write_text('{"problem": "p", "answer": "7", "id": "0"}\n')
    aime25 = dataclasses.replace(SETS["aime25"], hub=str(tmp_path / "aime25"))
    assert load(aime25, "test", "hub")["answer"][:] == ["7"]


def test_a_repository_without_the_configuration_is_refused(tmp_path):
    folder = gsm8k_repository(tmp_path / "gsm8k")
    (folder / "README.md").write_text(CARD.replace("config_name: main", "config_name: other"))
    with pytest.raises(DataError, match=r"has the configurations other, socratic; it needs main"):
        prepare("gsm8k", tmp_path / "out", str(folder))


def test_a_repository_without_the_split_is_refused(tmp_path):
    folder = gsm8k_repository(tmp_path / "gsm8k")
    (folder / "README.md").write_text(CARD.replace("split: test", "split: dev"))
    with pytest.raises(DataError, match=r"has the splits train, dev; gsm8k needs 'test'"):
        prepare("gsm8k", tmp_path / "out", str(folder), split="test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gsm9k"], "'gsm9k' is not a set; did you mean 'gsm8k'?"),
        (["nonsense"], "'nonsense' is not a set; choose from dapo_math_17k, aime24"),
        (["math500", "--source", "nowhere.jsonl"], "the source nowhere.jsonl is not there"),
        (["math500", "aime25", "--source", "rows.jsonl"], "a local --source holds one set"),
        (["gsm8k", "--source", "{rows}"], "say which with --split"),
        (["gsm8k", "--source", "{rows}", "--split", "dev"], "gsm8k has no split 'dev'"),
        (["math500", "--source", "{broken}"], "cannot read math500 from"),
        (["math500", "--source", "{text}"], "must end in one of .jsonl, .json, .parquet"),
    ],
)
def test_command_line_errors_are_one_sentence(tmp_path, write, capsys, arguments, message):
    files = {
        "rows": write({"problem": "p", "answer": "1"}),
        "broken": write(name="broken.parquet"),
        "text": write(name="rows.txt"),
    }
    with pytest.raises(SystemExit) as caught:
        main([*(argument.format(**files) for argument in arguments), "--out", str(tmp_path / "out")])
    assert str(caught.value.code).startswith("error: ")
    assert message in str(caught.value.code) and "\n" not in str(caught.value.code)
    assert not (tmp_path / "out").exists()


def test_command_line_prints_what_it_wrote(tmp_path, write, capsys):
    main(["math500", "--source", write({"problem": "p", "answer": "1"}), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.startswith(f"{tmp_path}/out/math500.parquet: 1 prompts from 1 rows")


def test_without_a_connection_the_way_out_is_named(tmp_path):
    """The library's own offline switch, in a fresh process because it is read at import."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "recipe.erpo.prepare_data", "math500", "--out", str(tmp_path / "out")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("error: cannot load HuggingFaceH4/MATH-500 from the Hugging Face hub")
    assert "--revision 6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be --local-dir FOLDER" in line
    assert not (tmp_path / "out").exists()
