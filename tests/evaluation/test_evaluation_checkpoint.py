# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Models that a user may name; a checkpoint is written by verl's checkpoint manager from two FSDP2 processes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from erpo.evaluation.checkpoint import find_model, identity, merge
from erpo.evaluation.config import EvaluationError
from erpo.tasks.arithmetic.model import build_model, build_tokenizer

# No Ray in it, but two FSDP2 processes: too long for `make test-fast`.
slow = pytest.mark.ray

SAVE = """
import sys
import torch
import torch.multiprocessing as mp
from omegaconf import OmegaConf
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from peft import LoraConfig, get_peft_model
from transformers import Qwen2ForCausalLM
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from erpo.tasks.arithmetic.model import build_tokenizer


def save(rank, folder, store, lora):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    tokenizer = build_tokenizer()
    model = Qwen2ForCausalLM.from_pretrained(folder + "-start", dtype=torch.float32)
    if lora:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear"))
        torch.manual_seed(5)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        if rank == 0:
            torch.save(model(torch.arange(10).unsqueeze(0)).logits, folder + "-logits.pt")
    fully_shard(model, mesh=init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",)))
    contents = OmegaConf.create({"save_contents": ["model"], "load_contents": ["model"]})
    FSDPCheckpointManager(model, processing_class=tokenizer, checkpoint_config=contents).save_checkpoint(folder)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    # Forked: verl is imported once, which is nearly all of the time.
    mp.start_processes(save, args=(*sys.argv[1:3], "lora" in sys.argv), nprocs=2, start_method="fork")
"""


def save(folder, *arguments):
    """The checkpoint in `folder`/actor, of a model with random weights."""
    (folder / "save.py").write_text(SAVE)
    actor = folder / "actor"
    build_model(build_tokenizer(), seed=3).save_pretrained(folder / "actor-start")
    subprocess.run([sys.executable, folder / "save.py", actor, folder / "store", *arguments], check=True, timeout=300)
    assert (actor / "model_world_size_2_rank_1.pt").exists()
    return actor


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def run(saved, tmp_path):
    """A run with the checkpoint as its step 20, and an older step 10 of which nothing is left."""
    folder = tmp_path / "run"
    (folder / "global_step_10" / "actor").mkdir(parents=True)
    shutil.copytree(saved, folder / "global_step_20" / "actor")
    (folder / "latest_checkpointed_iteration.txt").write_text("20")
    return folder


@slow
def test_a_run_is_its_newest_checkpoint_merged_once(run):
    source = find_model(str(run))
    assert (source.name, source.run, source.step) == ("run-step20", run, 20)
    merge(source)
    model = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)
    expected = build_model(build_tokenizer(), seed=3)
    for name, tensor in expected.state_dict().items():
        # verl's merger writes bfloat16.
        assert torch.equal(model.state_dict()[name], tensor.bfloat16().float()), name
    assert len(AutoTokenizer.from_pretrained(source.path)) == len(build_tokenizer())
    first = identity(source)
    # Merged already: the shards are not needed any more.
    shutil.rmtree(run / "global_step_20" / "actor")
    for name in (run, run / "global_step_20", run / "global_step_20" / "merged"):
        again = find_model(str(name))
        merge(again)
        assert (again.path, again.step, identity(again)) == (source.path, 20, first)


@slow
def test_the_actor_s_folder_names_the_checkpoint_too(run):
    assert find_model(str(run / "global_step_20" / "actor")) == find_model(str(run))


@slow
def test_a_merge_that_fails_leaves_nothing(run):
    (run / "global_step_20" / "actor" / "model_world_size_2_rank_1.pt").write_bytes(b"half")
    source = find_model(str(run))
    with pytest.raises(EvaluationError, match="cannot merge"):
        merge(source)
    assert sorted(path.name for path in (run / "global_step_20").iterdir()) == ["actor"]


@slow
def test_a_lora_adapter_is_merged_into_its_base_model(tmp_path):
    step = tmp_path / "run" / "global_step_3"
    step.mkdir(parents=True)
    save(tmp_path, "lora").rename(step / "actor")
    source = find_model(str(step))
    merge(source)
    assert not list(Path(source.path).glob("*adapter*"))
    model = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)
    logits, base = (
        one(torch.arange(10).unsqueeze(0)).logits for one in (model, build_model(build_tokenizer(), seed=3))
    )
    expected = torch.load(tmp_path / "actor-logits.pt")
    # The merged model is bfloat16, as verl's merger writes it.
    assert (logits - expected).abs().max() < 0.05 * (base - expected).abs().max()


def test_a_hugging_face_folder_and_other_weights_in_it(tmp_path):
    folder = tmp_path / "model"
    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=1).save_pretrained(folder)
    source = find_model(str(folder))
    assert (source.path, source.name, source.run) == (str(folder), "model", None)
    before = identity(source)
    build_model(tokenizer, seed=2).save_pretrained(folder)
    assert identity(source) != before
    (folder / "model.safetensors").unlink()
    with pytest.raises(EvaluationError, match="no weights"):
        find_model(str(folder))


def test_a_hub_id_is_left_to_transformers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model("Qwen/Qwen2.5-3B").name == "Qwen2.5-3B"


@slow
def test_what_is_no_model_is_refused(run, tmp_path):
    (tmp_path / "file").write_text("")
    for name, words in (
        (tmp_path / "nothing", "is not a folder"),
        (tmp_path / "file", "is not a folder"),
        (tmp_path, "neither a Hugging Face model"),
        (run / "global_step_10", "holds no FSDP checkpoint"),
        (run / "global_step_20" / "actor" / "huggingface", "no weights"),
    ):
        with pytest.raises(EvaluationError, match=words):
            find_model(str(name))
