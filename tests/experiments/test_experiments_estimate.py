# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The calculation of memory and time: against real modules where they can run here, else against arithmetic by hand."""

import dataclasses
import re

import pytest
import torch
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2ForCausalLM, Qwen2RotaryEmbedding
from verl.utils.config import validate_config

from erpo.estimate import Assumptions, EstimateError, ModelShape, RunSettings, make_plan
from erpo.estimate.measured import measured_by
from erpo.estimate.memory import estimate_memory, saved_by_layer
from erpo.estimate.settings import GIB
from erpo.estimate.timing import estimate_timing
from erpo.runs.metrics_log import MetricsLog
from erpo.trainer.checks import check_settings
from recipe.erpo import estimate
from recipe.erpo.main_erpo import CONFIG_FOLDER

TINY = Qwen2Config(
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=128,
    tie_word_embeddings=True,
)
MACHINES = ["4xh100-80gb", "8xh100-80gb", "1xh200-141gb"]


@pytest.fixture(scope="session")
def shape():
    """The shape of a named model, counted once."""
    shapes: dict[str, ModelShape] = {}
    return lambda name: shapes.setdefault(name, ModelShape.of(name))


@pytest.mark.parametrize(
    ("name", "parameters", "embedding"),
    # The models' own cards: 0.49 B, 1.54 B, 3.09 B, 7.61 B and 32.5 B (31.0 B without embeddings) parameters.
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768, 151936 * 896),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304, 151936 * 1536),
        ("Qwen/Qwen2.5-3B", 3_085_938_688, 151936 * 2048),
        ("Qwen/Qwen2.5-7B", 7_615_616_512, 152064 * 3584),
        ("Qwen/Qwen2.5-32B", 32_763_876_352, 152064 * 5120),
        ("Qwen/Qwen3-4B", 4_022_468_096, 151936 * 2560),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824, 128256 * 3072),
    ],
)
def test_known_models_have_their_published_size(shape, name, parameters, embedding):
    found = shape(name)
    assert (found.parameters, found.embedding) == (parameters, embedding)
    assert found.tied == (parameters < 5e9)
    inside = found.vocabulary_parameters + found.layers * found.layer_parameters
    assert inside == pytest.approx(parameters)


def test_a_folder_with_a_configuration_is_read(tmp_path):
    TINY.save_pretrained(tmp_path)
    found = ModelShape.of(str(tmp_path))
    # Embedding, two layers (four projections with three biases, three of the MLP, two norms) and the last norm.
    layer = 2 * 64 * 64 + 2 * 64 * 32 + (64 + 32 + 32) + 3 * 64 * 160 + 2 * 64
    assert found.parameters == 128 * 64 + 2 * layer + 64
    assert (found.layers, found.heads, found.kv_heads, found.head_dim, found.vocab) == (2, 4, 2, 16, 128)


def test_a_layer_saves_what_autograd_saves():
    shape, tokens = ModelShape.from_config(TINY), 256
    TINY._attn_implementation = "sdpa"
    layer = Qwen2DecoderLayer(TINY, 0).to(torch.bfloat16)
    rotary = Qwen2RotaryEmbedding(TINY)
    inputs = torch.randn(1, tokens, 64, dtype=torch.bfloat16, requires_grad=True)
    positions = rotary(inputs, torch.arange(tokens)[None])
    known = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    known |= {position.untyped_storage().data_ptr() for position in positions}
    saved: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = layer(inputs, position_embeddings=positions)
    assert kept is not None
    assert sum(saved.values()) / tokens == pytest.approx(saved_by_layer(shape), rel=0.1)


def run_settings(composed, experiment, *overrides):
    return RunSettings.from_config(composed(f"experiment={experiment}", *overrides))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["qwen2_5_3b", "qwen2_5_7b", "qwen2_5_32b"])
@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("share", [0.6, 0.75])
def test_what_is_added_to_the_command_is_what_was_calculated(composed, shape, experiment, name, share):
    base = composed(f"experiment={experiment}")
    base.actor_rollout_ref.rollout.gpu_memory_utilization = share
    found = shape(base.actor_rollout_ref.model.path)
    plan = make_plan(found, RunSettings.from_config(base), estimate.machine(name), Assumptions())
    more = f"actor_rollout_ref.rollout.gpu_memory_utilization={share}"
    config = composed(f"experiment={experiment}", more, *plan.overrides)
    assert RunSettings.from_config(config) == plan.settings
    assert plan.timing is not None
    assert plan.memory.fits(plan.hardware, plan.settings)
    check_settings(config)
    validate_config(config, use_reference_policy=False, use_critic=False)


def test_training_state_is_sixteen_bytes_for_each_parameter_over_all_gpus(composed, shape):
    found, settings = shape("Qwen/Qwen2.5-7B"), run_settings(composed, "qwen2_5_7b")
    memory = estimate_memory(found, settings, estimate.machine("8xh100-80gb"), Assumptions())
    update = memory.training["update"]
    assert update["parameters"] + update["gradients"] + update["Adam"] == 16 * found.parameters / 8
    assert memory.rollout["parameters and Adam"] == 12 * found.parameters / 8
    # Keys and values, bf16, 28 layers, 4 heads of 128 over 2 GPUs.
    assert memory.cache_per_token == 2 * 2 * 28 * 2 * 128
    assert memory.host == 0


@pytest.mark.parametrize(
    ("method", "overrides", "training", "log_probs"),
    [
        ("grpo", [], 4, 6),
        ("grpo", ["actor_rollout_ref.rollout.temperature=1.2"], 6, 8),
        ("grpo", ["+actor_rollout_ref.model.override_config.attn_implementation=sdpa"], 8, 6),
        ("erpo", [], 2, 2),
        ("erpo", ["+actor_rollout_ref.model.override_config.attn_implementation=sdpa"], 2, 2),
    ],
)
def test_bytes_of_the_logits(composed, shape, method, overrides, training, log_probs):
    settings = run_settings(composed, "qwen2_5_7b", f"method={method}", *overrides)
    memory = estimate_memory(shape("Qwen/Qwen2.5-7B"), settings, estimate.machine("8xh100-80gb"), Assumptions())
    for part, tokens, size in (("update", 20480, training), ("log-probs", settings.infer_tokens, log_probs)):
        pieces = 0.4 * GIB if method == "erpo" else 0
        assert memory.training[part]["logits"] == size * tokens * 152064 + pieces


@pytest.mark.parametrize(
    ("changes", "training", "rollout", "host"), [({"offload": True}, 16, 0, 12), ({"offload_policy": True}, 0, 0, 16)]
)
def test_offloading_moves_state_to_the_host(composed, shape, changes, training, rollout, host):
    found = shape("Qwen/Qwen2.5-7B")
    settings = dataclasses.replace(run_settings(composed, "qwen2_5_7b"), **changes)
    memory = estimate_memory(found, settings, estimate.machine("8xh100-80gb"), Assumptions())
    update = memory.training["update"]
    on_gpu = update["parameters"] + update["gradients"] + update["Adam"]
    assert on_gpu == training * found.parameters / 8
    assert memory.rollout["parameters and Adam"] == rollout
    assert memory.host == host * found.parameters


def test_a_machine_that_is_too_small_gets_no_time(composed, shape):
    small = dataclasses.replace(estimate.machine("1xh200-141gb"), memory=40 * GIB)
    plan = make_plan(shape("Qwen/Qwen2.5-32B"), run_settings(composed, "qwen2_5_32b"), small, Assumptions())
    assert plan.timing is None
    assert plan.settings.offload_policy


def test_training_time_is_ten_operations_for_each_parameter_and_token_plus_attention(composed, shape):
    found, settings = shape("Qwen/Qwen2.5-7B"), run_settings(composed, "qwen2_5_7b")
    hardware, assumptions = estimate.machine("8xh100-80gb"), Assumptions(response_tokens=1000, prompt_tokens=100)
    memory = estimate_memory(found, settings, hardware, assumptions)
    timing = estimate_timing(found, settings, hardware, assumptions, memory)
    tokens = 256 * 8 * 1100
    # Forward, recomputed forward, backward (two) and log-probs: five passes of 2 N and attention's 2 x 28 x 3584 x s.
    operations = 5 * tokens * (2 * (7_615_616_512 - 152064 * 3584) + 2 * 28 * 3584 * 1100)
    assert timing.training == pytest.approx(operations / (8 * 989e12 * 0.35))


def test_decoding_reads_weights_and_cache(composed, shape):
    found, settings = shape("Qwen/Qwen2.5-7B"), run_settings(composed, "qwen2_5_7b")
    hardware, assumptions = estimate.machine("8xh100-80gb"), Assumptions()
    memory = estimate_memory(found, settings, hardware, assumptions)
    timing = estimate_timing(found, settings, hardware, assumptions, memory)
    weights, cache = 2 * found.parameters / 2, (200 + 1024) * memory.cache_per_token
    alone = (weights + cache) / (3.35e12 * 0.7) + 0.005
    assert timing.tail == pytest.approx((8192 - 2048) * alone)
    # Four replicas with 256 responses each at once: two rounds of the mean length, and the prompts.
    assert timing.concurrent == 256
    together = (weights + 256 * cache) / (3.35e12 * 0.7) + 0.005
    prefill = 2 * found.matmul_parameters * 256 * 200 / (8 * 989e12 * 0.5)
    assert timing.generation == pytest.approx(2 * 2048 * together + prefill)


def test_dropped_groups_cost_generation_only(composed, shape):
    settings = dataclasses.replace(run_settings(composed, "qwen2_5_7b"), test_freq=-1)
    plan = make_plan(shape("Qwen/Qwen2.5-7B"), settings, estimate.machine("8xh100-80gb"), Assumptions())
    more = plan.timing.hours(settings, 0.75) - plan.timing.hours(settings)
    assert more == pytest.approx(175 * 3 * plan.timing.generation / 3600)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_fused_kernels_take_less_than_the_logits(composed, shape, backend):
    found, machine = shape("Qwen/Qwen2.5-3B"), estimate.machine("8xh100-80gb")
    settings = run_settings(composed, "qwen2_5_3b")
    fused = dataclasses.replace(settings, fused=backend)
    for phase in ("update", "log-probs"):
        logits, instead = (
            estimate_memory(found, one, machine, Assumptions()).training[phase]["logits"] for one in (settings, fused)
        )
        assert instead < logits
    # The head's gradient, a second time while it is summed up, and ours without the rows that are no token.
    plain = dataclasses.replace(fused, own_log_probs=False)
    of_ours, of_verl = (
        estimate_memory(found, one, machine, Assumptions()).training["update"]["logits"] for one in (fused, plain)
    )
    assert of_ours - of_verl == 2 * found.embedding


def test_lora_trains_the_adapters_that_peft_makes(composed, shape):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(Qwen2ForCausalLM(TINY), LoraConfig(r=4, target_modules="all-linear"))
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert ModelShape.from_config(TINY).lora_parameters(4) == trained
    found, machine = shape("Qwen/Qwen2.5-7B"), estimate.machine("8xh100-80gb")
    settings = run_settings(composed, "qwen2_5_7b", "actor_rollout_ref.model.lora_rank=32")
    update = estimate_memory(found, settings, machine, Assumptions()).training["update"]
    assert update["gradients"] + update["Adam"] == 12 * found.lora_parameters(32) / 8
    assert update["parameters"] == 4 * found.parameters / 8


BAD = [
    (["experiment=qwen2_5_9b"], "Could not find 'experiment/qwen2_5_9b'"),
    (["method=grpo"], "name an experiment"),
    (["experiment=qwen2_5_3b", "--machine", "8xtpu"], "'8xtpu' is not a machine"),
    (["experiment=qwen2_5_3b", "--assume", "speed=2"], "'speed' is not an assumption"),
    (["experiment=qwen2_5_3b", "--assume", "mfu=fast"], "needs a positive number"),
    (["experiment=qwen2_5_3b", "actor_rollout_ref.model.path=someone/model"], "shape of someone/model is not known"),
    (
        ["experiment=qwen2_5_3b", "actor_rollout_ref.model.use_remove_padding=false"],
        "covers actor_rollout_ref.model.use_r",
    ),
    (["experiment=qwen2_5_3b", "data.val_files=[nowhere.parquet]"], "nowhere.parquet, which does not exist"),
    (["experiment=qwen2_5_3b", "actor_rollout_ref.rollout.tensor_model_parallel_size=3"], "must divide the 4 GPUs"),
    (["experiment=qwen2_5_3b", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192"], "longest sequence, 10240"),
    (["experiment=qwen2_5_3b", "--machine", "3xh100-80gb"], "divide the 3 GPUs"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[arguments[-1] for arguments, _ in BAD])
def test_bad_input_ends_in_one_sentence(monkeypatch, arguments, message):
    monkeypatch.setattr("sys.argv", ["estimate", *arguments])
    with pytest.raises(SystemExit) as error:
        estimate.main()
    assert error.value.code.startswith("error: ")
    assert message in error.value.code
    assert "\n" not in error.value.code


def test_table_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["estimate", "experiment=qwen2_5_7b", "--machine", "1xh200-141gb", "--assume", "mfu=0.2", "--parts"]
    )
    estimate.main()
    out = capsys.readouterr().out
    assert "7,615,616,512 parameters, 175 steps of 256 prompts x 8 responses. Calculated, not measured." in out
    assert "a: trainer.nnodes=1 trainer.n_gpus_per_node=1" in out
    assert all(len(line) <= 200 or line.startswith("a:") for line in out.splitlines())
    assert "| mfu             |   0.2 |" in out


def test_a_run_replaces_assumptions(tmp_path, monkeypatch, capsys):
    log = MetricsLog(tmp_path)
    for step, length in enumerate((900, 900, 300, 310, 320), start=1):
        timing = {
            "timing_s/step": 50.0,
            "timing_s/gen": 20.0,
            "timing_s/old_log_prob": 5.0,
            "timing_s/update_actor": 18.0,
        }
        memory = {"actor/perf/max_memory_allocated_gb": 30.0 + step, "perf/mfu/actor": 0.25}
        log.append(step, {"response_length/mean": length, "prompt_length/mean": 120.0, **timing, **memory})
    measured = measured_by(tmp_path)
    assert measured.values == {"response_tokens": 310, "prompt_tokens": 120, "mfu": 0.25, "step_overhead": 7.0}
    assert (measured.steps, measured.peak_gib) == (3, 35.0)
    command = ["estimate", "experiment=qwen2_5_3b", "--machine", "4xh100-80gb", "--from", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*command, "--assume", "mfu=0.4", "--parts"])
    estimate.main()
    out = capsys.readouterr().out
    assert "response_tokens=310" in out and "had 35 GiB at most" in out
    rows = dict(re.findall(r"^\| (\w+) +\| +([\d.]+) \|", out, re.MULTILINE))
    assert (rows["response_tokens"], rows["mfu"], rows["step_overhead"]) == ("310", "0.4", "7")


def test_a_run_on_a_cpu_measures_lengths_only(tmp_path):
    for step in range(1, 5):
        MetricsLog(tmp_path).append(step, {"response_length/mean": 20.0, "perf/mfu/actor": 0.0, "timing_s/step": 9.0})
    assert measured_by(tmp_path).values == {"response_tokens": 20, "step_overhead": 9.0}
    assert measured_by(tmp_path).peak_gib is None


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(EstimateError, match="name a run's folder"):
        measured_by(tmp_path)
    MetricsLog(tmp_path).append(1, {"timing_s/step": 9.0})
    with pytest.raises(EstimateError, match="no step after the first 2"):
        measured_by(tmp_path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("actor_rollout_ref.model.path=null", "actor_rollout_ref.model.path is not set"),
        ("data.max_response_length=null", "data.max_response_length is None; set a number above 0"),
        ("actor_rollout_ref.rollout.n=???", "actor_rollout_ref.rollout.n is None"),
        ("actor_rollout_ref.rollout.n=0", "actor_rollout_ref.rollout.n is 0"),
        ("trainer.n_gpus_per_node=null", "trainer.n_gpus_per_node is None"),
        ("data.train_batch_size=abc", "data.train_batch_size is abc"),
        ("trainer.test_freq=null", "trainer.test_freq is None; set a number$"),
    ],
)
def test_settings_that_are_no_numbers_are_refused(override, words):
    with pytest.raises(EstimateError, match=words):
        RunSettings.from_config(estimate.compose_experiment(["experiment=qwen2_5_3b", override]))


@pytest.mark.parametrize("experiment", ["qwen2_5_3b", "qwen2_5_7b"])
def test_documentation_shows_what_the_command_prints(monkeypatch, capsys, experiment):
    documented = (CONFIG_FOLDER.parent / "docs" / "reproduce.md").read_text()
    monkeypatch.setattr("sys.argv", ["estimate", f"experiment={experiment}", "--parts"])
    estimate.main()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if "hours" in line or " min " in line or line.startswith("| mfu")]
    assert len(rows) == 7
    assert [row for row in rows if row not in documented] == []
