# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""From what a user names as the model to a folder that vLLM can load; FSDP checkpoints go through verl's merger."""

import contextlib
import hashlib
import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from erpo.evaluation.config import EvaluationError

MERGED_FOLDER = "merged"
STAMP_FILE = "merged_from.json"
_SHARDS_CONFIG = "fsdp_config.json"
_ADAPTER_FOLDER = "lora_adapter"
_STEP_FOLDER = re.compile(r"global_step_(\d+)")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = ("*.safetensors", "*.bin")
_BLOCK = 1 << 24


@dataclass(frozen=True)
class ModelSource:
    """Where a model is.

    Attributes:
        path: Folder for `from_pretrained`, or hub id; of a checkpoint it exists once :func:`merge` was called.
        name: Name for folders and tables.
        run: Folder of the run that it was trained in, if any.
        step: Training step, if it is a checkpoint of a run.
        shards: Folder of FSDP shards that are to be merged into ``path``, if any.
    """

    path: str
    name: str
    run: Path | None = None
    step: int | None = None
    shards: Path | None = None


def find_model(model: str) -> ModelSource:
    """Find what ``model`` names: a Hugging Face folder, a run, a checkpoint of a run, or a model on the hub.

    Raises:
        EvaluationError: It is none of these, or incomplete.
    """
    path = Path(model).expanduser()
    if not path.is_dir():
        if not path.exists() and _HUB_ID.fullmatch(model):
            return ModelSource(model, model.split("/")[1])
        raise EvaluationError(
            f"model {model} is not a folder; name a Hugging Face folder, a run folder or its global_step_N."
        )
    path = path.resolve()
    marker = path / "latest_checkpointed_iteration.txt"
    if marker.is_file():
        path = path / f"global_step_{marker.read_text().strip()}"
    elif path.name in ("actor", MERGED_FOLDER) and _STEP_FOLDER.fullmatch(path.parent.name):
        path = path.parent
    if match := _STEP_FOLDER.fullmatch(path.name):
        return _checkpoint(path, int(match.group(1)))
    if not (path / "config.json").is_file():
        raise EvaluationError(
            f"{path} holds neither a Hugging Face model (config.json) nor a checkpoint of a run "
            "(latest_checkpointed_iteration.txt); name another folder."
        )
    if not _weight_files(path):
        raise EvaluationError(f"{path} holds a config.json but no weights; name the folder of the whole model.")
    return ModelSource(str(path), path.name)


def merge(source: ModelSource) -> None:
    """Merge the shards of a checkpoint with verl's merger, and a LoRA adapter with them; anything else is left alone.

    A merged folder carries a stamp of the shards that it was made from: it is made anew when the checkpoint was written
    again, and kept when the shards are gone. verl's merger writes bfloat16, whatever the run trained in. The folder is
    written beside its place and renamed, so an interrupted merge leaves nothing that looks whole.

    Raises:
        EvaluationError: verl's merger refuses the checkpoint.
    """
    target = Path(source.path)
    if source.shards is None or (target.is_dir() and not (source.shards / _SHARDS_CONFIG).is_file()):
        return
    stamp = _stamp(source.shards)
    if target.is_dir() and _read_stamp(target) == stamp:
        return
    # They import torch and transformers.
    from verl.model_merger.base_model_merger import ModelMergerConfig
    from verl.model_merger.fsdp_model_merger import FSDPModelMerger

    workshop = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    print(f"merging {source.shards} into {target}")
    config = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(source.shards),
        hf_model_config_path=str(source.shards / "huggingface"),
        target_dir=str(workshop),
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            FSDPModelMerger(config).merge_and_save()
            _merge_adapter(workshop)
        (workshop / STAMP_FILE).write_text(stamp)
        shutil.rmtree(target, ignore_errors=True)
        workshop.rename(target)
    except Exception as error:
        # Whatever a half-written or foreign checkpoint makes torch, transformers or verl raise.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EvaluationError(f"verl's merger cannot merge {source.shards}: {reason}") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def identity(source: ModelSource) -> str:
    """Name the weights: 32 hexadecimal digits of all weight files, or the hub id."""
    folder = Path(source.path)
    if not folder.is_dir():
        return source.path
    digest = hashlib.blake2b(digest_size=16)
    for file in _weight_files(folder):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _checkpoint(folder: Path, step: int) -> ModelSource:
    target, shards, run = folder / MERGED_FOLDER, folder / "actor", folder.parent
    source = ModelSource(str(target), f"{run.name}-step{step}", run, step, shards)
    if not (shards / _SHARDS_CONFIG).is_file():
        if target.is_dir():
            return source
        raise EvaluationError(
            f"{folder} holds no FSDP checkpoint (actor/fsdp_config.json); name another checkpoint of the run, or a "
            "Hugging Face folder."
        )
    return source


def _merge_adapter(folder: Path) -> None:
    """Add a LoRA adapter, which verl's merger writes beside the base model, to the weights of that."""
    adapter = folder / _ADAPTER_FOLDER
    if not adapter.is_dir():
        return
    import torch
    import transformers
    from peft import PeftModel

    if not json.loads((adapter / "adapter_config.json").read_text()).get("lora_alpha"):
        raise ValueError("the checkpoint has no lora_train_meta.json, so that the adapter's lora_alpha is unknown")
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    base = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    merged.to(torch.bfloat16).save_pretrained(folder)
    shutil.rmtree(adapter)


def _stamp(shards: Path) -> str:
    """Names, sizes and times of the files of a checkpoint."""
    files = [*shards.glob("model_world_size_*.pt"), shards / _SHARDS_CONFIG, *shards.glob("huggingface/*")]
    found = {str(file.relative_to(shards)): file.stat() for file in sorted(files)}
    return json.dumps({name: [stat.st_size, stat.st_mtime_ns] for name, stat in found.items()}, indent=2) + "\n"


def _read_stamp(merged: Path) -> str | None:
    try:
        return (merged / STAMP_FILE).read_text()
    except (OSError, ValueError):
        return None


def _weight_files(folder: Path) -> list[Path]:
    return sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))
