# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of an evaluation: what it keeps, and whom it refuses."""

import pytest

from erpo.evaluation.config import EvaluationError
from erpo.evaluation.store import SampleStore

SETTINGS = {"model": "m", "seed": 0}
VERDICT = {
    "data_source": "s",
    "ground_truth": "1",
    "score": 1.0,
    "accuracy": 1.0,
    "correct": True,
    "answer": None,
    "error": None,
    "judge": "j",
}


def rows(count, key="a"):
    return [{"key": key, "sample": index, "seed": index, "response": "x", "length": 1} for index in range(count)]


def test_a_part_is_complete_with_its_last_chunk_and_another_part_joins(tmp_path):
    folder = tmp_path / "out"
    store = SampleStore(folder, SETTINGS, {"one": {"n": 2}})
    assert not folder.exists()
    store.write_chunk("one", 0, rows(2))
    # The next start of the same command.
    store = SampleStore(folder, SETTINGS, {"one": {"n": 2}})
    assert store.has_chunk("one", 0) and not store.has_chunk("one", 1) and not store.is_complete("one")
    store.write_chunk("one", 1, rows(2, "b"))
    store.complete("one", 2)
    assert store.is_complete("one") and not store.has_chunk("one", 0)
    other = SampleStore(folder, SETTINGS, {"two": {"n": 1}})
    other.write_chunk("two", 0, rows(1))
    other.complete("two", 1)
    # What was not judged yet is kept, and not shown.
    assert len(other.read()) == 0 and other.judges("one") == {None}
    for part, count in (("one", 4), ("two", 1)):
        other.write_verdicts(part, [VERDICT] * count, {"how": 1})
        assert other.judges(part) == {"j"}
    assert other.judged_otherwise({"how": 1}) == [] and other.judged_otherwise({"how": 2}) == ["one", "two"]
    assert other.read()[["part", "key", "sample"]].values.tolist() == [
        ["one", "a", 0],
        ["one", "a", 1],
        ["one", "b", 0],
        ["one", "b", 1],
        ["two", "a", 0],
    ]
    with pytest.raises(EvaluationError, match="one with n=2, not 4"):
        SampleStore(folder, SETTINGS, {"one": {"n": 4}})


def test_a_half_written_chunk_is_none(tmp_path):
    store = SampleStore(tmp_path / "out", SETTINGS, {"one": {}})
    store.write_chunk("one", 0, rows(1))
    (tmp_path / "out" / "chunks" / "one" / "000001.parquet.tmp").write_bytes(b"PAR1 half")
    assert not store.has_chunk("one", 1)


def test_other_settings_are_refused_and_nothing_is_lost(tmp_path):
    store = SampleStore(tmp_path / "out", SETTINGS, {"one": {"n": 2}, "later": {"n": 2}})
    store.write_chunk("one", 0, rows(2))
    held = (tmp_path / "out" / "settings.json").read_text()
    with pytest.raises(EvaluationError, match=r"holds an evaluation of seed=0, not 1; set out= to another folder"):
        SampleStore(tmp_path / "out", {**SETTINGS, "seed": 1}, {"one": {"n": 2}})
    with pytest.raises(EvaluationError, match=r"one with n=2, not 4"):
        SampleStore(tmp_path / "out", SETTINGS, {"one": {"n": 4}})
    # Nothing was sampled for it yet.
    SampleStore(tmp_path / "out", SETTINGS, {"later": {"n": 4}})
    assert (tmp_path / "out" / "settings.json").read_text() == held


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("thesis.txt", "mine", "holds other files"),
        ("settings.json", "{", "cannot be read"),
        ("settings.json", "{}", "belongs to something else"),
    ],
)
def test_foreign_folders_are_refused_and_kept(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(EvaluationError, match=words):
        SampleStore(tmp_path, SETTINGS, {"one": {}})
    assert (tmp_path / name).read_text() == content
