# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The reward check, with verl's own scorers."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from verl.utils.reward_score import default_compute_score

from erpo.datasets.catalog import SETS
from erpo.datasets.errors import DataError
from erpo.datasets.prepare import prepare
from erpo.datasets.rewards import check_rewards, compare_scorers, wrong_answer
from recipe.erpo.check_rewards import main

# Of the kinds that occur in MATH-500.
LATEX = [
    "\\left( 3, \\frac{\\pi}{2} \\right)",
    "p - q",
    "x=5",
    "\\text{Evelyn}",
    "4210_{5}",
    "90^\\circ",
    "1,\\!000",
    "-2",
]


@pytest.fixture
def file_of(tmp_path, write):
    """Writes a prepared file with these gold answers."""

    def make(name, golds, template="dapo"):
        rows = [
            {
                "question": f"Problem {n}",
                "problem": f"Problem {n}",
                "answer": f"Steps.\n#### {gold}" if name == "gsm8k" else gold,
            }
            for n, gold in enumerate(golds)
        ]
        split = "test" if len(SETS[name].splits) > 1 else None
        [prepared] = prepare(name, tmp_path / "out", write(*rows), template, split)
        return prepared.path

    return make


@pytest.mark.parametrize(
    ("name", "template", "golds", "wrong_reward"),
    [
        ("math500", "dapo", LATEX, -1.0),
        ("math500", "boxed", LATEX, 0.0),
        ("math", "dapo", LATEX, -1.0),
        ("math", "boxed", LATEX, 0.0),
        ("aime24", "dapo", ["025", "204"], -1.0),
        ("aime25", "boxed", ["025", "204"], -1.0),
        ("amc23", "{problem}", ["27"], -1.0),
        ("dapo_math_17k", "boxed", ["34"], -1.0),
        ("gsm8k", "dapo", ["1,234", "-5"], -1.0),
        ("gsm8k", "boxed", ["1,234", "-5"], -1.0),
        ("gsm8k", "gsm8k", ["1,234", "-5"], 0.0),
    ],
)
def test_every_set_and_template_reaches_its_scorer(file_of, name, template, golds, wrong_reward):
    report = check_rewards(file_of(name, golds, template))
    assert report.passed
    assert report.rows == len(golds)
    assert report.rewards == {"right": {1.0}, "wrong": {wrong_reward}}


def test_an_aime_answer_as_a_model_writes_it_is_right(file_of):
    [row] = pq.read_table(file_of("aime24", ["025"])).to_pylist()
    gold = row["reward_model"]["ground_truth"]
    assert default_compute_score(row["data_source"], "So.\n\nAnswer: 25", gold)["acc"]
    # The reason for taking the zeros away.
    assert not default_compute_score(row["data_source"], "So.\n\nAnswer: 25", "025")["acc"]


def test_unreachable_gold_answers_are_listed(file_of, capsys):
    # verl's GSM8K scorer reads digits only, and its other scorers read one line.
    path = file_of("gsm8k", ["18", "1/2", "7 dollars"], "gsm8k")
    report = check_rewards(path)
    assert [(score.answer, score.reward) for score in report.rejected] == [("1/2", 0.0), ("7 dollars", 0.0)]
    with pytest.raises(SystemExit) as caught:
        main([str(path)])
    assert str(caught.value.code).startswith("error: 2 gold answers are rejected and 0 wrong ones accepted")
    printed = capsys.readouterr().out
    assert report.rejected[0].prompt_id in printed and "7 dollars" in printed
    assert report.rejected[0].prompt_id.startswith("gsm8k:")


def test_a_template_that_does_not_fit_the_scorer_is_found(file_of):
    """The trap: MATH-500's own data source reads boxed answers, and DAPO's template asks for none."""
    path = file_of("math500", ["1", "2"])
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        row["data_source"] = "HuggingFaceH4/MATH-500"
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert len(check_rewards(path).rejected) == 2


def test_accepted_wrong_answers_are_found(file_of):
    # Not wrong at all, but the one way to make verl's scorer accept the number that stands for a wrong answer.
    report = check_rewards(file_of("math500", ["\\text{1234567}", "5"]))
    assert not report.rejected and not report.passed
    assert [score.answer for score in report.fooled] == ["1234567"]


@pytest.mark.parametrize(
    ("gold", "wrong"),
    [("35", "36"), ("-1", "0"), ("\\frac12", "1234567"), ("1.5", "1234567"), ("1" * 5000, "1234567")],
)
def test_wrong_answers_are_wrong(gold, wrong):
    assert wrong_answer(gold) == wrong


def test_comparison_counts_by_scorer_and_spelling(file_of):
    accepted = compare_scorers(file_of("math500", ["5", "x=5"]))
    assert accepted["math_dapo"]["Answer: X"] == accepted["math_dapo"]["Answer: $X$"] == 2
    # verl's scorer takes what follows the last "=" of the gold answer, and a brace too much of this response.
    assert accepted["math_dapo"]["Answer: \\boxed{X}"] == 1
    assert accepted["math_dapo"]["Answer: \\(X\\)"] == accepted["math_dapo"]["Answer: X."] == 0
    assert accepted["math_reward"]["\\boxed{X}"] == 2 and accepted["math_reward"]["Answer: X"] == 0
    assert accepted["gsm8k"]["#### X"] == 1


def test_command_line_shows_the_table(file_of, capsys):
    path = file_of("aime24", ["204"])
    main([str(path)])
    [line] = [line for line in capsys.readouterr().out.splitlines() if "aime24.parquet" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "aime24.parquet",
        "aime24",
        "1",
        "1",
        "0",
        "0",
        "1",
        "-1",
    ]
    main([str(path), "--compare"])
    assert "math_reward" in capsys.readouterr().out


def test_files_of_others_are_refused(tmp_path, file_of):
    with pytest.raises(DataError, match="is not there; write it with"):
        check_rewards(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(DataError, match="is not a Parquet file"):
        check_rewards(tmp_path / "text.parquet")
    pq.write_table(pa.table({"data_source": ["math"], "extra_info": [{"index": 0}]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"row 0 of .*has no struct reward_model"):
        check_rewards(tmp_path / "other.parquet")
    path = file_of("aime24", ["1"])
    rows = pq.read_table(path).to_pylist()
    rows[0]["data_source"] = "arithmetic"
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(DataError, match="no scorer for the data source 'arithmetic'"):
        check_rewards(path)


@pytest.mark.parametrize("value", ["float('nan')", "{'score': 1.0, 'acc': float('inf')}"])
def test_a_reward_that_is_no_number_is_a_failure(tmp_path, file_of, value):
    (tmp_path / "reward.py").write_text(
        "def compute_score(solution_str, ground_truth, **row):\n"
        f"    return 1.0 if solution_str.endswith(ground_truth) else {value}\n"
    )
    with pytest.raises(SystemExit, match=r"the reward function fails on .* its reward is"):
        main([str(file_of("math500", ["27"])), "--reward-function", str(tmp_path / "reward.py")])
