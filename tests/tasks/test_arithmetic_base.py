# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The base model that comes with the package, and the command that makes it anew."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from erpo.tasks.arithmetic import base
from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.tasks.arithmetic.task import make_pools, reserved_pools
from erpo.tasks.arithmetic.warmup import WarmupConfig

torch.set_num_threads(1)


@dataclass(frozen=True)
class Short(WarmupConfig):
    """One step."""

    target_accuracy: float = 0.0
    max_steps: int = 1
    evaluate_every: int = 1
    batch_size: int = 2


def test_the_base_model_is_the_architecture_of_this_version() -> None:
    model, tokenizer = base.load_base()
    expected = build_model(build_tokenizer(), seed=0)
    shapes = {name: value.shape for name, value in expected.state_dict().items()}
    assert {name: value.shape for name, value in model.state_dict().items()} == shapes
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """transformers would draw them at random."""
    model, tokenizer = base.load_base()
    lacking = "model.layers.1.mlp.up_proj.weight"
    model.save_pretrained(tmp_path, state_dict={k: v for k, v in model.state_dict().items() if k != lacking})
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"lacks {lacking}; save the model again"):
        base.load_base(tmp_path)


def test_the_warm_up_meets_no_prompt_of_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    excluded = []
    warm_up = base.warm_up

    def record(model, tokenizer, validation, exclude, config):
        excluded.append(exclude)
        return warm_up(model, tokenizer, validation[:4], exclude, config)

    monkeypatch.setattr(base, "warm_up", record)
    base.make_base(tmp_path / "model", Short(), exclude={"one more"})
    assert make_pools(300, 700, 1).prompts | reserved_pools().prompts | {"one more"} == excluded[0]


def test_the_command_says_how_the_new_model_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(base, "WarmupConfig", Short)
    monkeypatch.setattr(base, "RESERVED_TEST_PROMPTS", 40)
    base.main(["--out", str(tmp_path / "model"), "--seed", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 steps") and lines[3] == "greedy answers that are the same: 0.0% of 40"
    assert float(lines[1].split(":")[1]) > 0.1
    # A folder that holds anything is not touched.
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit):
        base.main(["--out", str(tmp_path)])
    assert "is not an empty folder; choose another" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert base.describe_difference(base.BASE_FOLDER)[::2] == [
        "largest difference of a weight: 0",
        "greedy answers that are the same: 100.0% of 40",
    ]
