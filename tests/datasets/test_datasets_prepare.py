# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Files that `prepare` writes: schema, ids, de-duplication, reuse, interruption. All sources are real files."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

from erpo.datasets import prepare as module
from erpo.datasets.errors import DataError
from erpo.datasets.prepare import prepare
from erpo.datasets.source import file_sha256
from erpo.datasets.templates import TEMPLATES, fill
from erpo.tasks.arithmetic.model import build_tokenizer
from erpo.tracker.keys import check_prompts

ONE = {"problem": "What is $1+1$?", "answer": "2"}
TWO = {"problem": "Find $\\frac{1}{2} \\cdot 6$.", "answer": "3"}


def rows_of(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def test_rows_are_in_verl_s_schema(tmp_path, write):
    [prepared] = prepare("math500", tmp_path / "new" / "out", write(ONE, TWO))
    assert prepared.path == tmp_path / "new" / "out" / "math500.parquet"
    first, second = rows_of(prepared.path)
    prompt_id = first["extra_info"].pop("prompt_id")
    assert first == {
        "data_source": "math",
        "prompt": [
            {
                "role": "user",
                "content": "Solve the following math problem step by step. The last line of your response should be of "
                "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
                'What is $1+1$?\n\nRemember to put your answer on its own line after "Answer:".',
            }
        ],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 0, "split": "test", "set": "math500", "answer_form": "answer"},
    }
    assert prompt_id.startswith("math500:") and len(prompt_id) == len("math500:") + 32
    assert "Find $\\frac{1}{2} \\cdot 6$." in second["prompt"][0]["content"]
    assert second["extra_info"]["index"] == 1


def test_manifest_says_what_the_file_is(tmp_path, write):
    source = write(ONE, TWO, ONE)
    [prepared] = prepare("math500", tmp_path / "out", source, "{problem}")
    manifest = json.loads((tmp_path / "out" / "math500.manifest.json").read_text())
    assert (manifest["rows_read"], manifest["rows"], manifest["repeated"]) == (3, 2, 1)
    assert manifest["sha256"] == file_sha256(prepared.path)
    assert manifest["settings"]["template"] == "{problem}"
    assert manifest["settings"]["source"]["path"] == source
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["math500.manifest.json", "math500.parquet"]


def test_prompt_ids_survive_another_template_order_and_source(tmp_path, write):
    ids = {}
    for number, (rows, template) in enumerate([((ONE, TWO), "dapo"), ((TWO, ONE), "boxed"), ((TWO,), "{problem}")]):
        [prepared] = prepare("math500", tmp_path / str(number), write(*rows, name=f"{number}.jsonl"), template)
        ids[number] = {
            row["reward_model"]["ground_truth"]: row["extra_info"]["prompt_id"] for row in rows_of(prepared.path)
        }
    assert ids[0] == ids[1]
    assert ids[2]["3"] == ids[0]["3"] != ids[0]["2"]


def test_repeated_rows_are_dropped_and_counted(tmp_path, write):
    spaced = {**ONE, "problem": f"\n {ONE['problem']} "}
    [prepared] = prepare("math500", tmp_path, write(ONE, TWO, spaced, ONE))
    assert (prepared.rows_read, prepared.rows, prepared.repeated, prepared.conflicting) == (4, 2, 2, 0)
    assert "2 prompts from 4 rows, dropped 2 repeated rows" in str(prepared)
    assert [row["reward_model"]["ground_truth"] for row in rows_of(prepared.path)] == ["2", "3"]
    summary = check_prompts(
        (row["data_source"], row["prompt"], row["extra_info"]["prompt_id"]) for row in rows_of(prepared.path)
    )
    assert summary.rows == summary.prompts == 2


def test_a_problem_with_contradicting_answers_is_dropped_and_named(tmp_path, write):
    [prepared] = prepare("math500", tmp_path, write(ONE, TWO, {**ONE, "answer": "3"}))
    assert (prepared.rows, prepared.repeated, prepared.conflicting) == (1, 1, 1)
    assert "1 problems with contradicting answers" in str(prepared)
    manifest = json.loads((tmp_path / "math500.manifest.json").read_text())
    assert manifest["dropped_for_contradicting_answers"] == [module.prompt_id("math500", ONE["problem"])]
    assert [row["reward_model"]["ground_truth"] for row in rows_of(prepared.path)] == ["3"]


def test_a_finished_file_is_reused_until_something_changes(tmp_path, write):
    def again(template="dapo"):
        return prepare("math500", tmp_path / "out", write(*rows), template)[0].reused

    rows = [ONE]
    assert not again()
    before = (tmp_path / "out" / "math500.parquet").stat().st_mtime_ns
    assert again()
    assert (tmp_path / "out" / "math500.parquet").stat().st_mtime_ns == before
    assert not again("boxed")
    rows.append(TWO)
    assert not again("boxed")
    assert again("boxed")
    (tmp_path / "out" / "math500.parquet").write_bytes(b"harmed")
    assert not again("boxed")
    (tmp_path / "out" / "math500.manifest.json").write_text("{")
    assert not again("boxed")
    assert len(rows_of(tmp_path / "out" / "math500.parquet")) == 2


def test_preparing_twice_gives_the_same_bytes(tmp_path, write):
    paths = [prepare("math500", tmp_path / folder, write(ONE, TWO))[0].path for folder in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path, write, monkeypatch):
    [prepared] = prepare("math500", tmp_path / "out", write(ONE))
    old = prepared.path.read_bytes()

    def interrupted(table, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.pq, "write_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare("math500", tmp_path / "out", write(ONE, TWO))
    assert prepared.path.read_bytes() == old
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["math500.manifest.json", "math500.parquet"]
    [prepared] = prepare("math500", tmp_path / "out", write(ONE, TWO))
    assert not prepared.reused and prepared.rows == 2


def test_dapo_s_own_parquet(tmp_path):
    """1,000 rows of 10 prompts as DAPO-Math-17k has them: template inside, a random id for each, in data/."""
    schema = pa.schema(
        {
            "data_source": pa.string(),
            "prompt": pa.list_(pa.struct({"content": pa.string(), "role": pa.string()})),
            "ability": pa.string(),
            "reward_model": pa.struct({"ground_truth": pa.string(), "style": pa.string()}),
            "extra_info": pa.struct({"index": pa.string()}),
        }
    )
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": fill(TEMPLATES["dapo"], f"Compute ${n % 10}+1$."), "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(n % 10 + 1), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": f"uuid-{n}"},
        }
        for n in range(1000)
    ]
    (tmp_path / "repository" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "repository" / "data" / "dapo-math-17k.parquet")
    [prepared] = prepare("dapo_math_17k", tmp_path / "out", str(tmp_path / "repository"), "{problem}")
    assert (prepared.rows, prepared.repeated) == (10, 990)
    written = rows_of(prepared.path)
    assert [row["prompt"][0]["content"] for row in written] == [f"Compute ${n}+1$." for n in range(10)]
    assert {row["data_source"] for row in written} == {"math_dapo"}


def test_verl_loads_prepared_files_together(tmp_path, write):
    """The train data of the CPU experiment's 17-character model, and two sets in one file list."""
    sums = write({"problem": "63-9*8+3=", "answer": "35"}, {"problem": "1+1=", "answer": "02"})
    [first] = prepare("math500", tmp_path / "out", sums, "{problem}")
    [second] = prepare("aime25", tmp_path / "out", write({"problem": "2+2=", "answer": 4}), "{problem}")
    config = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path / "verl")})
    dataset = RLHFDataset([str(first.path), str(second.path)], build_tokenizer(), config)
    items = [dataset[number] for number in range(len(dataset))]
    assert [item["raw_prompt"][0]["content"] for item in items] == ["63-9*8+3=", "1+1=", "2+2="]
    # Only AIME's integers lose their leading zeros.
    assert [item["reward_model"]["ground_truth"] for item in items] == ["35", "02", "4"]
    assert [item["data_source"] for item in items] == ["math", "math", "aime25"]
    assert items[0]["extra_info"]["prompt_id"] == module.prompt_id("math500", "63-9*8+3=")


@pytest.mark.parametrize(
    ("rows", "template", "message"),
    [
        ([{"problem": "p", "gold": "1"}], "dapo", "has the columns gold, problem; it needs 'problem' and 'answer'"),
        ([ONE, {"problem": "p", "answer": " "}], "dapo", "row 2 of .* has an empty answer"),
        ([ONE, {"problem": "p", "answer": None}], "dapo", "row 2 of .* has an empty answer"),
        ([{"problem": "", "answer": "1"}], "dapo", "row 1 of .* has an empty problem"),
        ([{"problem": "p", "answer": ["1"]}], "dapo", "row 1 of .* type list"),
        ([ONE, {**ONE, "answer": "3"}], "dapo", "holds no rows that can be used"),
        ([ONE], "gpt", "'gpt' is neither one of dapo, boxed, gsm8k nor a text with {problem}"),
        ([ONE], "{problem}{problem}", "once"),
        ([ONE], "gsm8k", "only gsm8k takes such a template"),
        ([], "dapo", "holds no rows; give a file"),
    ],
)
def test_what_cannot_be_prepared_is_refused_and_leaves_nothing(tmp_path, write, rows, template, message):
    with pytest.raises(DataError, match=message) as caught:
        prepare("math500", tmp_path / "out", write(*rows), template)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
