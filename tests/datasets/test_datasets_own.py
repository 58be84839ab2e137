# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Sets of the user's own: any file, any columns, lists of answers, ids, held-out problems, and what is refused."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

from erpo.datasets import own, own_source
from erpo.datasets.layouts import cell_text
from erpo.datasets.prepare import prompt_id
from erpo.datasets.rewards import check_rewards
from erpo.tasks.arithmetic.model import build_tokenizer
from erpo.trainer.rows import check_rows
from recipe.erpo.prepare_data import main

ROWS = [{"q": f"{n}+{n}=", "gold": str(2 * n), "key": f"k{n}"} for n in range(1, 11)]
COLUMNS = ["--problem", "q", "--answer", "gold", "--data-source", "math_dapo"]
# A folder with gsm8k_test.jsonl, math500_first250.jsonl and aime24.jsonl, as their authors have them.
REAL = os.environ.get("ERPO_BENCHMARK_ROWS")


@pytest.fixture
def prepared(tmp_path, capsys):
    """Calls the command line for the set `mine`; its files by their names, and what it printed."""

    def call(*arguments, name="mine"):
        main([name, *map(str, arguments), "--out", str(tmp_path / "out")])
        files = {path.stem: pq.read_table(path).to_pylist() for path in sorted((tmp_path / "out").glob("*.parquet"))}
        return files, capsys.readouterr().out

    return call


def golds(rows):
    return [row["reward_model"]["ground_truth"] for row in rows]


def as_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_json(path, rows):
    path.write_text(json.dumps(rows))


def as_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(("ending", "save"), [(".jsonl", as_jsonl), (".json", as_json), (".parquet", as_parquet)])
def test_every_kind_of_file_alone_and_several_at_once(tmp_path, prepared, ending, save):
    one, two = tmp_path / f"one{ending}", tmp_path / f"two{ending}"
    save(one, ROWS[:4])
    save(two, ROWS[4:])
    files, printed = prepared("--source", one, *COLUMNS)
    assert list(files) == ["mine"] and golds(files["mine"]) == ["2", "4", "6", "8"]
    assert printed.startswith(f"{tmp_path}/out/mine.parquet: 4 prompts from 4 rows, dropped 0 repeated rows\n")
    files, _ = prepared("--source", one, "--source", two, *COLUMNS, "--template", "{problem}")
    assert golds(files["mine"]) == [row["gold"] for row in ROWS]
    assert files["mine"][9] == {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": "10+10="}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "20"},
        "extra_info": {
            "index": 9,
            "split": "train",
            "prompt_id": prompt_id("mine", "10+10="),
            "set": "mine",
            "answer_form": "answer",
        },
    }


def test_nested_columns_ids_and_a_system_message(tmp_path, prepared):
    rows = [
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f"Problem {n}?"}],
            "reward_model": {"ground_truth": n},
            "meta.id": 70 + n,
        }
        for n in range(3)
    ]
    for source, save in ((tmp_path / "rows.jsonl", as_jsonl), (tmp_path / "rows.parquet", as_parquet)):
        save(source, rows)
        columns = ["--problem", "prompt.1.content", "--answer", "reward_model.ground_truth", "--id", "meta.id"]
        system = ["--system", "Put it into \\boxed{}.", "--template", "{problem}"]
        files, _ = prepared("--source", source, *columns, "--data-source", "lighteval/MATH", *system)
        row = files["mine"][2]
        assert row["prompt"] == [
            {"role": "system", "content": "Put it into \\boxed{}."},
            {"role": "user", "content": "Problem 2?"},
        ]
        assert row["reward_model"]["ground_truth"] == "2"
        assert row["extra_info"]["prompt_id"] == "mine:72" and row["extra_info"]["answer_form"] == "boxed"
    assert check_rewards(tmp_path / "out" / "mine.parquet").passed


def test_a_system_message_for_the_sets_that_are_known(tmp_path, write, prepared):
    source = write({"problem": "p", "answer": "1"})
    files, _ = prepared("--source", source, "--system", "Be brief.", name="math500")
    assert [message["role"] for message in files["math500"][0]["prompt"]] == ["system", "user"]
    files, _ = prepared("--source", source, name="math500")
    assert [message["role"] for message in files["math500"][0]["prompt"]] == ["user"]


def test_answers_stay_as_they_are_written(tmp_path, prepared):
    (tmp_path / "rows.json").write_text(
        '[{"q": "a", "gold": "0.50"}, {"q": "b", "gold": 0.50}, {"q": "c", "gold": 27.0}, {"q": "d", "gold": "025"}]'
    )
    files, _ = prepared("--source", tmp_path / "rows.json", *COLUMNS)
    assert golds(files["mine"]) == ["0.50", "0.50", "27", "025"]


def test_lists_of_answers(tmp_path, write, prepared):
    source = write(
        {"q": "a", "gold": ["1/2", "0.5", "1/2"]}, {"q": "b", "gold": "3"}, {"q": "a", "gold": ["0.5", "1/2"]}
    )
    files, printed = prepared("--source", source, *COLUMNS)
    # Texts become lists too: a column has one type.
    assert golds(files["mine"]) == [["1/2", "0.5"], ["3"]]
    assert "dropped 1 repeated rows; answers are lists: set reward.custom_reward_function.path=pkg://erpo" in printed
    assert "(up to date); answers are lists" in prepared("--source", source, *COLUMNS)[1]


def test_lists_of_answers_in_parquet(tmp_path, prepared):
    as_parquet(tmp_path / "rows.parquet", [{"q": "a", "gold": [0.5, 2.0]}, {"q": "b", "gold": [3.0]}])
    assert golds(prepared("--source", tmp_path / "rows.parquet", *COLUMNS)[0]["mine"]) == [["0.5", "2"], ["3"]]


def test_lists_of_one_answer_each_are_texts(write, prepared):
    files, printed = prepared("--source", write({"q": "a", "gold": ["1"]}, {"q": "b", "gold": [2, "2"]}), *COLUMNS)
    assert golds(files["mine"]) == ["1", "2"] and "answers are lists" not in printed


def test_held_out_problems_depend_on_the_seed_and_not_on_the_order(tmp_path, prepared):
    def held_out(rows, *more):
        as_jsonl(tmp_path / "rows.jsonl", rows)
        files, _ = prepared("--source", tmp_path / "rows.jsonl", *COLUMNS, "--held-out", 3, *more)
        train, test = (
            [row["extra_info"]["prompt_id"] for row in files[f"mine_{split}"]] for split in ("train", "test")
        )
        assert (len(train), len(test)) == (7, 3) and not set(train) & set(test)
        assert {row["extra_info"]["split"] for row in files["mine_test"]} == {"test"}
        assert [row["extra_info"]["index"] for row in files["mine_train"]] == list(range(7))
        return set(test)

    first = held_out(ROWS)
    assert held_out(random.Random(1).sample(ROWS, 10)) == first
    # Rows that are added later move no held-out problem into the training file.
    assert held_out([*ROWS, ROWS[0]]) == first
    assert any(held_out(ROWS, "--seed", seed) != first for seed in (1, 2, 3))


def test_a_list_in_either_part_makes_both_files_alike(tmp_path, write, prepared):
    rows = [{**row, "gold": [row["gold"], "x"] if number == 0 else row["gold"]} for number, row in enumerate(ROWS)]
    files, _ = prepared("--source", write(*rows), *COLUMNS, "--held-out", 5)
    assert all(isinstance(gold, list) for rows in files.values() for gold in golds(rows))


def test_finished_files_are_left_until_something_changes(tmp_path, write, prepared):
    source = write(*ROWS)

    def again(*more):
        lines = prepared("--source", source, *COLUMNS, "--held-out", 2, *more)[1].splitlines()
        assert len(lines) == 2
        return [line.endswith("(up to date)") for line in lines]

    assert again() == [False, False]
    assert again() == [True, True]
    assert again("--seed", "5") == [False, False]
    assert again("--seed", "5", "--id", "key") == [False, False]
    assert again("--seed", "5", "--id", "key", "--system", "s") == [False, False]
    (tmp_path / "out" / "mine_test.parquet").write_bytes(b"harmed")
    assert again("--seed", "5", "--id", "key", "--system", "s") == [False, False]


def test_verl_reads_the_file_and_the_trainer_knows_its_prompts(tmp_path, write, prepared):
    prepared("--source", write(*ROWS, {"q": "5*5=", "gold": ["25", "1"]}), *COLUMNS, "--template", "{problem}")
    config = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path / "verl")})
    dataset = RLHFDataset(str(tmp_path / "out" / "mine.parquet"), build_tokenizer(), config)
    assert dataset[10]["reward_model"]["ground_truth"] == ["25", "1"]
    assert check_rows(dataset).prompts == 11


def repository(folder, *splits):
    """A downloaded repository of JSON files."""
    folder.mkdir()
    for split in splits:
        as_jsonl(folder / f"{split}.jsonl", [{"q": f"{split}?", "gold": 0.5}])
    return folder


def test_a_downloaded_repository(tmp_path, prepared):
    one, two = repository(tmp_path / "one", "train"), repository(tmp_path / "two", "train", "test")
    assert golds(prepared("--source", one, *COLUMNS)[0]["mine"]) == ["0.5"]
    files, _ = prepared("--source", two, *COLUMNS, "--split", "test", "--template", "{problem}")
    assert files["mine"][0]["prompt"][0]["content"] == "test?"
    for arguments, message in (
        ([two], "two has the splits train, test; name one of them with --split"),
        ([two, "--split", "dev"], "two has the splits train, test; name one of them with --split"),
        ([one, "--split", "test"], "one has the splits train; name one of them with --split"),
        ([one, "--config", "main"], "one has the configurations default; name one of them with --config"),
    ):
        with pytest.raises(SystemExit, match=message):
            prepared("--source", *arguments, *COLUMNS)


def test_the_hub_s_way_of_loading(tmp_path):
    """A folder where the repository's name would be: the same calls as for the hub."""
    folder = repository(tmp_path / "two", "train", "test")
    assert own_source._own_from_hub(str(folder), None, "test", None)["q"][:] == ["test?"]
    assert own_source._is_on_hub(["owner/name"]) and not own_source._is_on_hub(["owner/name.jsonl"])
    assert not own_source._is_on_hub([str(folder)]) and not own_source._is_on_hub(["a/b", "c/d"])


def test_without_a_connection_the_way_out_is_named(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "recipe.erpo.prepare_data", "mine", "--source", "nobody/nothing", *COLUMNS]
    command += ["--revision", "abc", "--out", str(tmp_path / "out")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("error: cannot load nobody/nothing from the Hugging Face hub")
    assert "--revision abc --local-dir FOLDER" in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"p": "a", "gold": "1"}], "has no column 'q', only p, gold; name one of them with --problem"),
        ([{"q": "a", "golds": "1"}], "has no column 'gold', only q, golds; did you mean 'golds'?"),
        ([*ROWS[:2], {"q": "c", "gold": " "}], "row 3 of .* has an empty answer .column 'gold'.; fix or remove it"),
        ([{"q": "a", "gold": []}], "row 1 of .* has an empty answer"),
        ([{"q": "a", "gold": ["1", ""]}], "row 1 of .* has an empty answer in its list"),
        ([*ROWS[:1], {"q": "b"}], "row 2 of .* has an empty answer"),
        ([{"q": "  ", "gold": "1"}], "row 1 of .* has an empty problem .column 'q'."),
        ([*ROWS[:1], {"q": None, "gold": "1"}], "row 2 of .* has an empty problem"),
        ([{"q": 5, "gold": "1"}], "row 1 of .* has a problem of type int .column 'q'.; name a column of texts"),
        ([{"q": 5.5, "gold": "1"}], "row 1 of .* has a problem of type float"),
        ([{"q": [{"role": "user", "content": "a"}], "gold": "1"}], "problem of type list .*as in prompt.0.content"),
        ([{"q": "a", "gold": True}], "holds a value of type bool where a text or a number should be .column 'gold'."),
        ([{"q": "a", "gold": {"value": "1"}}], "value of type dict .*; name what is inside by dots"),
        ([{"q": "a", "gold": [["1"]]}], "value of type list where a text"),
        ([{"q": "a", "gold": float("inf")}], "has the answer inf"),
        (
            [*ROWS[:2], {**ROWS[0], "gold": "3"}],
            "rows 1 and 3 of .* give one problem the answers '2' and '3'; fix or remove one of them",
        ),
        ([{"q": "a", "gold": ["1", "2"]}, {"q": "a", "gold": "1"}], "the answers '1' or '2' and '1'"),
        ([], "holds no rows"),
    ],
)
def test_rows_that_cannot_be_used_are_named_in_one_sentence(tmp_path, write, prepared, rows, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
        prepared("--source", write(*rows), *COLUMNS)
    assert "\n" not in str(caught.value.code)
    assert not (tmp_path / "out").exists()


NESTED = {"q": {"text": "a", "parts": ["b"]}, "gold": "1"}


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        (NESTED, "q.txt", "row 1 of .* has no 'txt' in 'q', only text, parts; change --problem or fix the row"),
        (NESTED, "q.parts.1", "row 1 of .* has a list of 1 in 'q.parts', which has no place '1'"),
        (NESTED, "q.parts.first", "which has no place 'first'"),
        (NESTED, "q.text.deep", "has a value of type str in 'q.text', which has no 'deep' inside"),
        (NESTED, "qq.text", "has no column 'qq', only q, gold; did you mean 'q'?"),
        ({**NESTED, "q": None}, "q.text", "row 1 of .* has an empty problem"),
        ({**NESTED, "q": '{"text": "a"}'}, "q.text", "has a value of type str in 'q', which has no 'text' inside"),
    ],
)
def test_places_inside_of_cells_that_are_not_there(tmp_path, write, prepared, row, column, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
        prepared("--source", write(row), "--problem", column, *COLUMNS[2:])
    assert "\n" not in str(caught.value.code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine", "--source", "{rows}"], "'mine' is not a set; choose from .*, or give --problem, --answer and"),
        (["mine", "--source", "{rows}", "--problem", "q"], "also needs --answer and --data-source; add them, or leave"),
        (["math500", "--source", "{rows}", "--id", "key"], "--id is for a set of your own, which also needs --problem"),
        (["math500", "--source", "{rows}", *COLUMNS], "math500 is the name of a known set .*choose another NAME"),
        (["mine", "other", "--source", "{rows}", *COLUMNS], "one NAME and its own --source; call once for each"),
        (["mine", *COLUMNS], "one NAME and its own --source"),
        (["a/b", "--source", "{rows}", *COLUMNS], "'a/b' cannot name a file here"),
        (["mine", "--source", "{rows}", *COLUMNS[:4], "--data-source", ""], "--data-source is empty"),
        (
            ["mine", "--source", "nowhere.jsonl", *COLUMNS],
            "the source nowhere.jsonl is not there; give a file that ends",
        ),
        (["mine", "--source", "{text}", *COLUMNS], "the source .*rows.txt cannot be read; give a file that ends in"),
        (["mine", "--source", "{broken}", *COLUMNS], "cannot read .*broken.parquet .*; give files with rows"),
        (["mine", "--source", "{garbled}", *COLUMNS], "line 1 of .*garbled.jsonl is not JSON .*; give one row a line"),
        (
            ["mine", "--source", "{rows}", "--source", "{broken}", *COLUMNS],
            "are not of one kind; give files that are all",
        ),
        (["mine", "--source", "{folder}", "--source", "{rows}", *COLUMNS], "are not of one kind"),
        (["mine", "--source", "{rows}", *COLUMNS, "--split", "test"], "--config and --split are for a folder or a set"),
        (["mine", "--source", "{rows}", *COLUMNS, "--revision", "x"], "--revision is for a set on the hub"),
        (
            ["mine", "--source", "{rows}", *COLUMNS, "--held-out", "10"],
            "--held-out is 10, but .* has 10 problems; hold",
        ),
        (
            ["mine", "--source", "{rows}", *COLUMNS, "--held-out", "0"],
            "--held-out is 0; set a number of problems above",
        ),
        (
            ["mine", "--source", "{rows}", *COLUMNS, "--seed", "1"],
            "--seed chooses the held-out problems; set --held-out",
        ),
        (
            ["mine", "--source", "{rows}", *COLUMNS, "--id", "kex"],
            "has no column 'kex', only q, gold, key; did you mean",
        ),
        (["mine", "--source", "{rows}", *COLUMNS, "--id", "same"], "rows 1 and 2 of .* have the same 'same' .x. and"),
        (["mine", "--source", "{rows}", *COLUMNS, "--id", "none"], "row 1 of .* has an empty id .column 'none'."),
        (["mine", "--source", "{rows}", *COLUMNS, "--template", "gpt"], "'gpt' is neither one of dapo, boxed, gsm8k"),
        (["mine", "--source", "{lists}", *COLUMNS[:4], "--data-source", "apps"], "gives lists of answers, but verl's"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_sentence(tmp_path, write, prepared, arguments, message):
    extra = {"same": "x", "none": None} if "same" in arguments or "none" in arguments else {}
    (tmp_path / "folder").mkdir()
    files = {
        "rows": write(*({**row, **extra} for row in ROWS)),
        "broken": write(name="broken.parquet"),
        "garbled": str(tmp_path / "garbled.jsonl"),
        "lists": write({"q": "a", "gold": ["1", "2"]}, name="lists.jsonl"),
        "text": write(name="rows.txt"),
        "folder": str(tmp_path / "folder"),
    }
    (tmp_path / "garbled.jsonl").write_text("q,gold\n1+1=,2\n")
    name, *more = (argument if argument == "{problem}" else argument.format(**files) for argument in arguments)
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
        prepared(*more, name=name)
    assert "\n" not in str(caught.value.code)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(REAL is None, reason="ERPO_BENCHMARK_ROWS names no folder with rows of public sets")
@pytest.mark.parametrize(
    ("file", "problem", "rows"),
    [("aime24", "problem", 30), ("math500_first250", "problem", 250)],
)
def test_real_rows_as_a_set_of_ones_own_are_those_of_the_set_that_is_known(tmp_path, prepared, file, problem, rows):
    source = Path(str(REAL)) / f"{file}.jsonl"
    files, _ = prepared("--source", source, "--problem", problem, "--answer", "answer", "--data-source", "math_dapo")
    assert len(files["mine"]) == rows
    report = check_rewards(tmp_path / "out" / "mine.parquet")
    known = file.partition("_")[0]
    expected = prepared("--source", source, name=known)[0][known]
    assert [row["prompt"] for row in files["mine"]] == [row["prompt"] for row in expected]
    # AIME's "025" stays what it is in a set of one's own, and verl's scorer still accepts it in that spelling.
    assert [gold.lstrip("0") or "0" for gold in golds(files["mine"])] == [
        gold.lstrip("0") or "0" for gold in golds(expected)
    ]
    assert report.passed and report.rows == rows


@pytest.mark.skipif(REAL is None, reason="ERPO_BENCHMARK_ROWS names no folder with rows of public sets")
def test_real_solutions_are_no_answers_and_the_check_says_so(tmp_path, prepared):
    source = Path(str(REAL)) / "gsm8k_test.jsonl"
    prepared("--source", source, "--problem", "question", *COLUMNS[2:3], "answer", *COLUMNS[4:])
    assert len(check_rewards(tmp_path / "out" / "mine.parquet", limit=50).rejected) == 50


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), None),
        (0.1, "0.1"),
        (0.5, "0.5"),
        (1 / 3, str(1 / 3)),
        (2.0**40, str(2**40)),
        (0.00001, "0.00001"),
        (-1.5e-7, "-0.00000015"),
        (2.0**53 - 1, str(2**53 - 1)),
        (2.0**53, None),
        (-1e23, None),
    ],
)
def test_a_float_is_written_out_or_refused_where_it_has_lost_digits(value, text):
    if text is None:
        with pytest.raises(ValueError, match=r"a float(32)?, which has lost digits"):
            cell_text(float(value))
    else:
        assert cell_text(float(value)) == text


def test_a_killed_division_leaves_no_file_of_another(tmp_path, write, monkeypatch):
    rows = write(*({"q": f"{i} + 1 = ?", "gold": str(i + 1)} for i in range(20)))
    arguments = ["mine", "--source", rows, "--problem", "q", "--answer", "gold", "--data-source", "math_dapo"]
    arguments += ["--held-out", "8", "--out", str(tmp_path / "out")]
    main([*arguments, "--seed", "0"])

    def killed(path, *_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(own, "write", killed)
    with pytest.raises(SystemExit):
        main([*arguments, "--seed", "1"])
    assert not list((tmp_path / "out").glob("mine_*"))


@pytest.mark.parametrize(
    ("number", "gold"),
    [
        ("12345678901234567890.5", "12345678901234567890.5"),
        ("9007199254740993.0", "9007199254740993"),
        ("1e23", "1" + 23 * "0"),
        ("1.00000000000000000001", "1.00000000000000000001"),
        ("1.5e-5", "0.000015"),
        ("-0.0", "0"),
        ("1e999", "1e999"),
        ("1e99999999999999999999", "1e99999999999999999999"),
    ],
)
def test_numbers_of_json_files_keep_their_digits(tmp_path, prepared, number, gold):
    (tmp_path / "rows.jsonl").write_text(f'{{"q": "a", "gold": {number}}}\n')
    files, _ = prepared("--source", tmp_path / "rows.jsonl", *COLUMNS)
    assert golds(files["mine"]) == [gold]


@pytest.mark.parametrize("row", ['{"q": "a\\ud83d", "gold": "1"}', '{"q": "a", "gold": "1\\ud83d"}'])
@pytest.mark.parametrize("known", [True, False])
def test_half_a_character_is_named_by_its_row(tmp_path, prepared, row, known):
    rows = row.replace("q", "problem").replace("gold", "answer") if known else row
    (tmp_path / "rows.jsonl").write_text(rows + "\n")
    with pytest.raises(SystemExit, match=r"error: row 1 of .* half of a character \('.ud83d'\)"):
        prepared("--source", tmp_path / "rows.jsonl", *([] if known else COLUMNS), name="math500" if known else "mine")
