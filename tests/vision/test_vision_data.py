# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Rows with images: keys, histories, and what is said of rows that cannot be used. Nothing here needs to see."""

import copy

import datasets
import numpy as np
import pytest
from omegaconf import OmegaConf
from pictures import picture, row, rows
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

from erpo.environment.data import image_findings
from erpo.evaluation.config import EvaluationError
from erpo.evaluation.data import fingerprint, holds_images, load_problems
from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, TrackerError, key_hex, keys_array
from erpo.tracker.schedules.linear import LinearConfig
from erpo.trainer.config import ConfigError
from erpo.trainer.rows import check_rows, prompt_key_of_row, prompt_text, rows_of

# Row 7 is row 0 again.
DISTINCT = 7


def write(path, made, marked=False):
    """A Parquet file, whose images may be marked as Hugging Face's data sets mark theirs."""
    table = datasets.Dataset.from_list(made)
    if marked:
        table = table.cast_column("images", datasets.Sequence(datasets.Image()))
    table.to_parquet(str(path))
    return path


def dataset_of(path, tmp_path):
    """verl's data set; that there is a processor is all that it wants to know for messages."""
    settings = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path / "cache")})
    return RLHFDataset(str(path), tokenizer=None, config=settings, processor=object())


@pytest.fixture(params=[False, True], ids=["bytes", "marked-as-images"])
def file(request, tmp_path):
    return write(tmp_path / "train.parquet", rows(), marked=request.param)


def test_an_image_belongs_to_the_prompt(file, tmp_path):
    dataset = dataset_of(file, tmp_path)
    assert check_rows(dataset).prompts == DISTINCT
    keys = [prompt_key_of_row(dataset[number]) for number in range(len(dataset))]
    # One text under three pictures; two pictures in both orders; text alone; and the first row again.
    assert len({*keys[:3], keys[4], keys[5], keys[6]}) == 6
    assert keys[7] == keys[0] and keys[3] not in keys[:3]


def test_a_dispatched_batch_has_the_keys_of_its_rows(file, tmp_path):
    dataset = dataset_of(file, tmp_path)
    batch = tu.get_tensordict(collate_fn([dataset[number] for number in range(len(dataset))]))
    # What was sent and came back is a copy.
    for one in (batch, copy.deepcopy(batch), batch[[5, 0, 7]]):
        keys = [prompt_key_of_row(found) for found in rows_of(one)]
        assert len(keys) == len(one)
    assert [prompt_key_of_row(found) for found in rows_of(batch)] == [prompt_key_of_row(one) for one in dataset]
    assert keys == [prompt_key_of_row(dataset[number]) for number in (5, 0, 7)]


def test_a_reader_sees_text_and_where_the_images_are(file, tmp_path):
    dataset = dataset_of(file, tmp_path)
    shown = [prompt_text(dataset[number]["raw_prompt"]) for number in (0, 4, 6)]
    assert shown == ["<image>How many?", "<image><image>Which one?", "How many?"]


def test_one_text_under_two_images_has_two_histories(file, tmp_path):
    dataset = dataset_of(file, tmp_path)
    tracker = PromptTracker(TrackerConfig(name="linear", linear=LinearConfig(dt=0.5, t_max=2.0)))
    keys = keys_array([prompt_key_of_row(dataset[number]) for number in range(2)])
    tracker.observe(
        GroupOutcomes(
            keys=keys,
            outcomes=np.array([Outcome.ALL_CORRECT, Outcome.MIXED]),
            accuracies=np.array([1.0, 0.5]),
            sizes=np.array([4, 4]),
            temperatures=np.array([1.0, 1.0]),
            steps=np.array([1, 1]),
        )
    )
    again = keys_array([prompt_key_of_row(dataset[number]) for number in (0, 1, 2, 7)])
    assert tracker.temperatures_for(again).tolist() == [1.5, 1.0, 1.0, 1.5]


def test_the_evaluation_reads_the_same_prompts(file, tmp_path):
    dataset = dataset_of(file, tmp_path)
    problems = load_problems(file)
    trained = dict.fromkeys(key_hex(prompt_key_of_row(one)) for one in dataset)
    assert [problem.key for problem in problems] == list(trained)
    assert [holds_images(problem) for problem in problems] == [True] * 6 + [False]
    # An evaluation that was cut off goes on by it.
    assert fingerprint(problems) == fingerprint(load_problems(file))
    assert len({fingerprint([problem]) for problem in problems}) == DISTINCT


def test_pictures_are_in_what_an_evaluation_goes_on_by(tmp_path):
    prints = []
    for number in (1, 2):
        made = [row("How many?", number, kind="right", prompt_id="one")]
        prints.append(fingerprint(load_problems(write(tmp_path / f"{number}.parquet", made))))
    assert prints[0] != prints[1]


def broken(change):
    made = row("How many?", 1, kind="right")
    change(made)
    return made


def cut(made):
    made["images"] = [{"bytes": picture(1)["bytes"][:200], "path": None}]


BROKEN = [
    pytest.param(cut, "image file is truncated", id="half-a-file"),
    pytest.param(lambda made: made.update(images=[{"bytes": b"x", "path": None}]), "cannot identify", id="no-picture"),
    pytest.param(lambda made: made["images"].append(picture(2)), "as many|image_offset", id="more-images-than-places"),
    pytest.param(
        lambda made: made["prompt"][0].update(content="<image><image>"),
        "as many|image_offset",
        id="more-places-than-images",
    ),
]


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_images_that_cannot_be_used_are_named_at_the_start(tmp_path, change, words):
    file = write(tmp_path / "a.parquet", [row("How many?", 1, kind="right"), broken(change)])
    with pytest.raises(EvaluationError, match=f"row 1 of .*({words})") as caught:
        load_problems(file)
    assert "\n" not in str(caught.value)
    with pytest.raises((ConfigError, TrackerError), match=f"row 1: .*({words})") as caught:
        check_rows(dataset_of(file, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("installed", "load_format", "words"),
    [
        (None, "auto", "holds images, which verl reads by qwen_vl_utils and torchvision, not installed"),
        ("there", "dummy", "normalizes them, so that it samples by other images than training; set it to auto"),
        ("there", "auto", "what reads them is installed"),
    ],
)
def test_what_images_need_is_missed_at_the_start(tmp_path, monkeypatch, installed, load_format, words):
    file = write(tmp_path / "a.parquet", rows())
    text = write(tmp_path / "b.parquet", [row("How many?", kind="right")])
    config = OmegaConf.create({"data": {"train_files": [str(file)], "val_files": str(text), "image_key": "images"}})
    OmegaConf.update(config, "actor_rollout_ref.rollout.load_format", load_format, force_add=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: installed)
    [finding] = image_findings(config)
    assert words in finding.sentence()
    config.data.train_files = str(text)
    assert not list(image_findings(config))


def test_media_that_the_evaluation_does_not_know_are_refused(tmp_path):
    for name in ("videos", "audios"):
        made = {**row("How many?", kind="right"), name: [b"x"]}
        with pytest.raises(EvaluationError, match=f"row 0 of .* holds {name}"):
            load_problems(write(tmp_path / f"{name}.parquet", [made]))
