# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""GPU acceptance: ``python -m benchmarks.gpu --out FILE.json`` (``make gpu-check``), without any download.

On one GPU, with random weights at Qwen2.5's shapes: what is installed; rollout and training log-probs in bf16 by
temperature; attention and log-probs, seconds and peak memory; four steps of ERPO with every prompt hot from the first
step, after it was killed and resumed by the same command, and of verl's own ``main_ppo``. Parts that this machine
cannot run are skipped, and the file says why. Without a GPU, ``--toy`` does the same at toy shapes on the CPU
platform, so that the script is known to work where it meets a GPU.
"""

import argparse
import json
import multiprocessing
import random
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import OmegaConf

from benchmarks import overhead

COMMITTED = Path(__file__).parent / "results" / "gpu.json"
STEPS = 4
# The killed run makes as many steps after its first checkpoint: the first after a start is no measure.
KILLED_AT = 1
_PARTS = ("step", "gen", "old_log_prob", "update_actor", "update_weights")
TEMPERATURES = (1.0, 1.1015625, 1.203125, 1.296875, 1.5)
# A final norm that is so much wider gives random weights the entropy of a language model, some nats.
_SHARPEN = 6.0
_SEQUENCE = 2048
# Characters of an error.
_SHOWN = 3000


class Lacking(Exception):
    """What this machine lacks for a part."""


@dataclass(frozen=True)
class Setting:
    """What the acceptance runs with.

    Attributes:
        toy: Toy shapes on the CPU platform.
        shapes: Hub names of the models whose shapes are taken.
        folder: Scratch folder.
    """

    toy: bool
    shapes: tuple[str, ...]
    folder: Path


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> float:
    """Reward of the training runs, a coin, so that random weights give mixed groups."""
    return float(random.random() < 0.5)


def packages(setting: Setting) -> dict[str, Any]:
    """The environment check of the machine."""
    from erpo.environment import Level
    from erpo.environment.examination import examine_machine

    found = list(examine_machine())
    errors = [finding.sentence() for finding in found if finding.level is Level.ERROR]
    if errors:
        raise RuntimeError(" ".join(errors))
    return {finding.check: finding.found for finding in found}


def agreement(setting: Setting) -> dict[str, Any]:
    """Difference of rollout and training log-probs in bf16, by shape and temperature."""
    return {shape: _in_process(_agreement, setting, shape) for shape in setting.shapes}


def _agreement(setting: Setting, shape: str) -> list[dict[str, float]]:
    from erpo.evaluation.sampler import prepare_process

    prepare_process()
    import torch

    from benchmarks.bf16 import disagreement

    model = _write_model(setting, shape)
    prompts = torch.randint(10, (8 if setting.toy else 64, 16), generator=torch.Generator().manual_seed(0)).tolist()
    temperatures = (TEMPERATURES[0], TEMPERATURES[-1]) if setting.toy else TEMPERATURES
    engine: dict[str, Any] = {} if setting.toy else {"gpu_memory_utilization": 0.3}
    length = 8 if setting.toy else 128
    return disagreement(str(model), prompts, temperatures, length, skip_tokenizer_init=True, **engine)


def attention(setting: Setting) -> dict[str, Any]:
    """Seconds and peak memory of a forward and backward pass by attention, at the first shape."""
    from erpo.environment.attention import flash_problem

    results: dict[str, Any] = {"sdpa": _in_process(_attention, setting, "sdpa")}
    problem = flash_problem()
    if problem is None:
        results["flash_attention_2"] = flash = _in_process(_attention, setting, "flash_attention_2")
        results["flash_to_sdpa_seconds"] = flash["seconds"] / results["sdpa"]["seconds"]
    else:
        results["flash_attention_2"] = {"skipped": problem}
    return results


def _attention(setting: Setting, implementation: str) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    device = "cpu" if setting.toy else "cuda"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            _model_config(setting, setting.shapes[0]), attn_implementation=implementation, dtype=torch.bfloat16
        )
    tokens = torch.randint(10, (1, 64 if setting.toy else _SEQUENCE), device=device)
    seconds = []
    for _ in range(2 if setting.toy else 8):
        begin = time.perf_counter()
        model(tokens, use_cache=False).logits.float().logsumexp(-1).mean().backward()
        if not setting.toy:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    peak = 0.0 if setting.toy else torch.cuda.max_memory_allocated() / 2**30
    return {"seconds": median(seconds[1:]), "peak_gib": peak}


def log_probs(setting: Setting) -> dict[str, Any]:
    """The benchmark of log-probs at Qwen2.5's widths: T = 1, one T for all, one for each response; verl's and ours."""
    if setting.toy:
        raise Lacking("Qwen2.5's widths take minutes on a CPU; `python -m benchmarks run --only log_probs` has them")
    return _in_process(_log_probs)


def _log_probs() -> dict[str, Any]:
    from benchmarks.log_probs import measure

    return measure()


def training(setting: Setting) -> dict[str, Any]:
    """Steps of ERPO, which is killed and resumed, and of verl's main_ppo with GRPO's settings."""
    model = _in_process(_write_model, setting, setting.shapes[0])
    data = _write_data(setting.folder)
    runs = {}
    for method in ("erpo", "verl"):
        folder = setting.folder / method
        folder.mkdir()
        marker = folder / "run" / "latest_checkpointed_iteration.txt"
        arguments = _arguments(setting, model, data, folder, "grpo" if method == "verl" else method)
        command = ["recipe.erpo.main_erpo", *arguments]
        if method == "verl":
            OmegaConf.save(overhead.plain_settings(arguments), folder / "plain.yaml")
            command = ["verl.trainer.main_ppo", "--config-path", str(folder), "--config-name", "plain"]
        environment = overhead.ON_CPU if setting.toy else {}
        if method == "erpo":
            overhead.kill_when(partial(_saved, marker), command, folder, **environment)
        runs[method] = overhead.run(command, folder, **environment)
    steps = {method: [line.metrics for line in lines] for method, lines in runs.items()}
    found = [int(values["training/global_step"]) for values in steps["erpo"]]
    after_kill = list(range(KILLED_AT + 1, KILLED_AT + STEPS + 1))
    raised = median(values["erpo/temperature/frac_raised"] for values in steps["erpo"])
    if found != after_kill or raised != 1:
        raise RuntimeError(f"after kill and resume ERPO logged the steps {found}, with {raised:.0%} of prompts raised")
    for values in (one for lines in steps.values() for one in lines):
        # ERPO alone saves, in every step.
        values["timing_s/step"] -= values.get("timing_s/save_checkpoint", 0.0)
    seconds = {
        method: {part: median(values[f"timing_s/{part}"] for values in lines[1:]) for part in _PARTS}
        for method, lines in steps.items()
    }
    return {
        **{f"{method}_{part}_seconds": value for method, parts in seconds.items() for part, value in parts.items()},
        **{
            f"{method}_{name}": values[-1][metric]
            for method, values in steps.items()
            for name, metric in (
                ("response_tokens", "response_length/mean"),
                ("probs_diff_mean", "training/rollout_probs_diff_mean"),
                ("probs_diff_max", "training/rollout_probs_diff_max"),
                ("peak_gib", "actor/perf/max_memory_allocated_gb"),
            )
        },
        "erpo_to_verl_step": seconds["erpo"]["step"] / seconds["verl"]["step"],
    }


def _saved(marker: Path) -> bool:
    """Whether the run has saved the checkpoint at which it is killed, one each step."""
    return marker.exists() and marker.read_text().strip() == str(KILLED_AT)


def _arguments(setting: Setting, model: Path, data: Path, folder: Path, method: str) -> list[str]:
    shared = [
        f"method={method}",
        f"data.train_files={data}",
        f"data.val_files={data}",
        f"actor_rollout_ref.model.path={model}",
        # Random weights end a response at once or never.
        "actor_rollout_ref.rollout.ignore_eos=true",
        f"reward.custom_reward_function.path={Path(__file__).resolve()}",
        f"trainer.total_training_steps={STEPS if method != 'erpo' else KILLED_AT + STEPS}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        f"trainer.save_freq={1 if method == 'erpo' else -1}",
        "trainer.logger=[file]",
        f"trainer.default_local_dir={folder}/run",
    ]
    if method == "erpo":
        shared += ["erpo.schedule.name=constant", "erpo.schedule.constant.temperature=1.2", "erpo.groups.drop=[]"]
        shared += ["algorithm.filter_groups.enable=false"]
    if setting.toy:
        shrunk = ["data.train_batch_size=8", "actor_rollout_ref.actor.ppo_mini_batch_size=8"]
        return ["experiment=cpu_arithmetic", "~arithmetic", *shared, *shrunk, "actor_rollout_ref.rollout.n=4"]
    return ["experiment=qwen2_5_0_5b", *shared, "data.train_batch_size=64", "data.max_response_length=256"]


def _write_data(folder: Path) -> Path:
    import pandas as pd

    rows = [
        {
            "data_source": "acceptance",
            "prompt": [{"role": "user", "content": f"{10 + i // 80}+{10 + i % 80}="}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "0"},
            "extra_info": {"index": i, "prompt_id": f"acceptance-{i}"},
        }
        for i in range(512)
    ]
    pd.DataFrame(rows).to_parquet(folder / "data.parquet")
    return folder / "data.parquet"


def _model_config(setting: Setting, shape: str) -> Any:
    from transformers import AutoConfig

    from erpo.estimate.shapes import SHAPES
    from erpo.tasks.arithmetic.model import build_model, build_tokenizer

    tokenizer = build_tokenizer()
    if setting.toy:
        return build_model(tokenizer, seed=0).config
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return AutoConfig.for_model(**SHAPES[shape], **special, max_position_embeddings=32768)


def _write_model(setting: Setting, shape: str) -> Path:
    """Random weights at a shape; the tokenizer of the CPU experiment, with a word for every further token."""
    import torch
    from tokenizers.models import BPE
    from transformers import AutoModelForCausalLM

    from erpo.tasks.arithmetic.model import build_tokenizer

    folder = setting.folder / shape.replace("/", "--")
    if not folder.exists():
        torch.manual_seed(0)
        with torch.device("cpu" if setting.toy else "cuda"):
            model = AutoModelForCausalLM.from_config(_model_config(setting, shape), dtype=torch.bfloat16)
        with torch.no_grad():
            model.model.norm.weight.mul_(_SHARPEN)
        model.save_pretrained(folder)
        tokenizer = build_tokenizer()
        words = {f"w{token}": token for token in range(len(tokenizer), model.config.vocab_size)}
        tokenizer.backend_tokenizer.model = BPE(vocab=tokenizer.get_vocab() | words, merges=[])
        tokenizer.save_pretrained(folder)
    return folder


def _in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a process of its own, which gives the GPU's memory back."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_call, (function, arguments))


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    # Not every error of torch and vLLM can be sent to another process.
    except Exception:
        raise RuntimeError(traceback.format_exc()[-_SHOWN:]) from None


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "packages": packages,
    "agreement": agreement,
    "attention": attention,
    "log_probs": log_probs,
    "training": training,
}


def accept(setting: Setting, out: Path, parts: list[str]) -> bool:
    """Run the parts and write what they gave after each.

    Returns:
        Whether none failed.
    """
    from benchmarks.__main__ import machine
    from erpo.environment.attention import flash_problem
    from erpo.environment.machine import gpus

    listed = [f"{gpu.name}, {gpu.memory / 2**30:.0f} GiB, driver {gpu.driver}" for gpu in gpus()]
    own = {"gpus": listed, "flash_attn": flash_problem() is None}
    results: dict[str, Any] = {"machine": {**machine(), **own}, "toy": setting.toy}
    for name in parts:
        print(f"==> {name}", flush=True)
        begin = time.perf_counter()
        try:
            results[name] = PARTS[name](setting)
        except Lacking as reason:
            results[name] = {"skipped": str(reason)}
        # One part that fails must not cost the figures of the others.
        except Exception as error:
            results[name] = {"failed": f"{type(error).__name__}: {error}"}
        results[name]["took_seconds"] = time.perf_counter() - begin
        print(json.dumps(results[name], indent=2), flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=2) + "\n")
    return not any("failed" in results[name] for name in parts)


def main() -> None:
    """Command line; exit code 1 if a part failed, or a ratio is worse than the committed one on the same GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="GPU acceptance.")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--toy", action="store_true", help="toy shapes on the CPU platform")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    options = parser.parse_args()
    from erpo.environment.machine import gpus

    if not options.toy and not gpus():
        sys.exit("error: nvidia-smi lists no GPU; --toy runs the same script at toy shapes on the CPU platform")
    if options.toy:
        from erpo.platform.cpu import activate

        activate()
    shapes = ("toy",) if options.toy else ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-3B")
    with TemporaryDirectory() as folder:
        passed = accept(Setting(options.toy, shapes, Path(folder)), options.out, options.only)
    sys.exit(_compare(json.loads(options.out.read_text())) if passed else 1)


def _compare(results: dict[str, Any]) -> str | int:
    from benchmarks.__main__ import regressions

    if not COMMITTED.exists():
        print("no committed figures to compare with")
        return 0
    committed = json.loads(COMMITTED.read_text())
    # Without flash-attn verl's own log-probs, by which ours are divided, are many times as slow.
    for name in ("gpus", "flash_attn"):
        if committed["machine"][name] != results["machine"][name]:
            print(f"not compared: the committed figures are of {name}={committed['machine'][name]}")
            return 0
    return "\n".join(regressions(committed, results)) or 0


if __name__ == "__main__":
    main()
