# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The verl hooks that ERPO relies on, by signature: a verl that changes one of them fails here and not in training."""

import inspect
from pathlib import Path

import pytest
from ray._private import state as ray_state
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.experimental.agent_loop import AgentLoopManager, agent_loop
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.reward_loop import RewardLoopManager
from verl.single_controller.base.worker import Worker
from verl.single_controller.ray import RayWorkerGroup
from verl.trainer import main_ppo
from verl.trainer.ppo import ray_trainer
from verl.trainer.ppo.v1 import agent_loop_tq, replay_buffer, trainer_base
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.utils import import_utils, reward_score
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.rollout import utils as rollout_utils
from verl.workers.rollout.llm_server import LLMServerManager
from verl.workers.rollout.replica import RolloutReplica

from erpo.trainer.early import AGENT_LOOPS
from erpo.trainer.trainer import TRAINERS, ErpoTrainerMixin

HOOKS = [
    (trainer_base.PPOTrainer, "__init__", ["self", "config"]),
    (trainer_base.PPOTrainer, "_build_replay_buffer", ["self"]),
    (trainer_base.PPOTrainer, "_init_dataloader", ["self"]),
    (trainer_base.PPOTrainer, "_submit_batch_to_rollout", ["self", "batch"]),
    (trainer_base.PPOTrainer, "on_sample_end", ["self"]),
    (trainer_base.PPOTrainer, "_compute_old_log_prob", ["self", "batch", "metrics"]),
    (trainer_base.PPOTrainer, "_compute_advantage", ["self", "batch", "metrics"]),
    (
        trainer_base.PPOTrainer,
        "_compute_metrics",
        ["self", "batch", "metrics", "timing_raw", "global_steps", "epoch"],
    ),
    (trainer_base.PPOTrainer, "step", ["self", "metrics", "timing_raw"]),
    (trainer_base.PPOTrainer, "_validate", ["self"]),
    (
        trainer_base.PPOTrainer,
        "_val_metrics_update",
        ["self", "data_sources", "sample_uids", "reward_extra_infos_dict", "sample_turns", "expected_acc_counts"],
    ),
    (trainer_base.PPOTrainer, "_save_checkpoint", ["self"]),
    (trainer_base.PPOTrainer, "_load_checkpoint", ["self"]),
    (trainer_base.PPOTrainer, "on_train_begin", ["self"]),
    (trainer_base.PPOTrainer, "on_train_end", ["self"]),
    (trainer_base.PPOTrainer, "on_step_end", ["self"]),
    (replay_buffer.ReplayBuffer, "_dapo_filtered_keys", ["self", "partition_id"]),
    (replay_buffer.ReplayBuffer, "_clear_groups", ["self", "partition_id", "uids"]),
    (
        replay_buffer.ReplayBuffer,
        "_materialize_batch",
        ["self", "partition_id", "selected_prompt_uids", "partition_snapshot"],
    ),
    (replay_buffer.ReplayBuffer, "_wait_for_next_poll", ["self", "partition_id", "last_debug_time"]),
    (trainer_base.PPOTrainer, "_rollout_server_managers", ["self"]),
    (LLMServerManager, "get_replicas", ["self"]),
    (RayWorkerGroup, "workers", ["self"]),
    (ray_state, "actors", ["actor_id", "job_id", "actor_state_name"]),
    (trainer_base.PPOTrainer, "on_init_end", ["self"]),
    (FSDPEngineWithLMHead, "forward_backward_batch", ["self", "data", "loss_function", "forward_only"]),
    (FSDPEngineWithLMHead, "prepare_model_inputs", ["self", "micro_batch"]),
    (
        FSDPEngineWithLMHead,
        "prepare_model_outputs",
        ["self", "output", "output_args", "micro_batch", "logits_processor_func"],
    ),
    (EngineRegistry, "get_engine_cls", ["model_type", "backend"]),
    (Worker, "execute_with_func_generator", ["self", "func", "args", "kwargs"]),
    (RayWorkerGroup, "execute_all_sync", ["self", "method_name", "args", "kwargs"]),
    (rollout_utils, "get_vision_placeholder_token_ids", ["processor"]),
    (rollout_utils, "qwen2_5_vl_dedup_image_tokens", ["prompt_ids", "processor"]),
    (RLHFDataset, "_build_messages", ["self", "example", "key"]),
    (RLHFDataset, "process_multi_modal_info", ["messages", "image_patch_size", "config"]),
    (
        agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class,
        "_run_prompt",
        ["self", "prompt", "sampling_params", "trajectory", "trace"],
    ),
    (
        reward_score,
        "default_compute_score",
        [
            "data_source",
            "solution_str",
            "ground_truth",
            "extra_info",
            "sandbox_fusion_url",
            "concurrent_semaphore",
            "memory_limit_mb",
            "kwargs",
        ],
    ),
    (import_utils, "load_extern_object", ["module_path", "object_name"]),
    (
        ray_trainer,
        "compute_advantage",
        ["data", "adv_estimator", "gamma", "lam", "num_repeat", "norm_adv_by_std_in_grpo", "config"],
    ),
    (main_ppo.TaskRunnerV1.__ray_metadata__.modified_class, "run", ["self", "config"]),
]


@pytest.mark.parametrize(("owner", "name", "parameters"), HOOKS, ids=[f"{o.__name__}.{n}" for o, n, _ in HOOKS])
def test_hook_has_the_signature_we_override(owner, name, parameters):
    hook = getattr(owner, name)
    hook = hook.fget if isinstance(hook, property) else hook
    found = [name for name in inspect.signature(hook).parameters if name != "_ray_trace_ctx"]
    assert found == parameters


def test_verls_own_agent_loops_are_those_that_the_checks_know():
    from verl.experimental.agent_loop.agent_loop import _agent_loop_registry

    assert set(_agent_loop_registry) == set(AGENT_LOOPS)


def test_tools_are_called_by_the_agent_loop_and_not_by_a_setting():
    # multi_turn.enable is read by the trainer before V1 alone.
    for module in (agent_loop_tq, trainer_base, agent_loop):
        assert "multi_turn.enable" not in inspect.getsource(module)


def test_main_ppo_runs_a_given_task_runner():
    assert list(inspect.signature(main_ppo.run_ppo).parameters) == ["config", "task_runner_class"]
    assert callable(main_ppo.pprint)


def test_fit_asks_for_the_end_saves_and_records_in_the_order_that_we_rely_on():
    source = inspect.getsource(trainer_base.PPOTrainer.fit)
    order = [
        'if self.config.trainer.get("val_before_train", True):',
        "self.on_train_begin()",
        "self.global_steps <= self.total_training_steps:",
        "is_last_step = self.global_steps >= self.total_training_steps",
        "batch = self.step(metrics, self.timing_raw)",
        "self._save_checkpoint()",
        "self.on_step_end()",
        "val_metrics: dict = self._validate()",
        "self._compute_metrics(",
        "tq.kv_clear(keys=batch.keys",
        "self.on_train_end()",
    ]
    places = [source.index(text) for text in order]
    assert places == sorted(places)


def test_the_loader_takes_up_a_loaded_position_when_it_is_first_asked():
    assert hasattr(StatefulDataLoader([1]), "next_iter_state")
    assert "_restored_tq_prompt_count" in inspect.getsource(trainer_base.PPOTrainer._add_async_warmup_batches)


def test_manager_starts_the_workers_it_names():
    assert "agent_loop_workers_class" in inspect.getsource(AgentLoopManager._init_agent_loop_workers)


def test_processes_that_the_watchdog_looks_at_are_where_it_looks():
    for owner, attribute in (
        (AgentLoopManager._init_agent_loop_workers, "self.agent_loop_workers.append"),
        (RewardLoopManager._init_reward_loop_workers, "self.reward_loop_workers.append"),
        (RolloutReplica.__init__, "self.servers: list[ActorHandle]"),
        (replay_buffer.ReplayBuffer.sample, "self._wait_for_next_poll("),
        (replay_buffer.ReplayBufferAsync.wait_for_sampleable, "self._wait_for_next_poll("),
    ):
        assert attribute in inspect.getsource(owner)


def test_every_mode_of_verl_has_an_erpo_trainer():
    assert TRAINERS.keys() == trainer_base.TRAINER_REGISTRY.keys()
    for mode, trainer in TRAINERS.items():
        plain = trainer_base.TRAINER_REGISTRY[mode]
        assert issubclass(trainer, plain)
        # The mixin's hooks come first, the mode's own next, the base's last.
        order = trainer.__mro__
        assert order.index(ErpoTrainerMixin) < order.index(plain) < order.index(trainer_base.PPOTrainer)


def test_no_mode_overrides_a_hook_without_calling_the_next():
    # separate_async has hooks of its own in the chain; they must still end in the base's.
    for name in ("_compute_old_log_prob", "prepare_step", "_init_resource_pool_mgr"):
        assert "super()" in inspect.getsource(getattr(PPOTrainerSeparateAsync, name))


def test_rollout_masks_what_the_engine_masks():
    # Ours has no share of the probability for these either: the tail of the head, and the placeholders of images.
    # verl's vLLM modules cannot be imported without a vLLM that verl knows by name, so their text is read.
    folder = Path(rollout_utils.__file__).with_name("vllm_rollout")
    masked = (folder / "utils.py").read_text()
    assert "logits[..., vocab_size:] = " in masked and "logits.index_fill_(-1, banned_index" in masked
    server = (folder / "vllm_async_server.py").read_text()
    assert '"vocab_size": len(self.model_config.tokenizer)' in server
    assert "get_vision_placeholder_token_ids(self.model_config.processor)" in server


def test_engine_has_a_way_for_log_probs_that_were_computed_already():
    for attribute in ("output.log_probs", "output.entropy", '"use_fused_kernels"', '"temperature_rmpad"'):
        assert attribute in inspect.getsource(FSDPEngineWithLMHead)


def test_the_functions_that_the_trainer_extends_are_called_by_name_with_what_we_read():
    compared = inspect.getsource(trainer_base.PPOTrainer._compute_old_log_prob)
    assert (
        "calculate_debug_metrics(data)" in compared and 'fields.extend(["responses", "rollout_log_probs"])' in compared
    )
    advantages = inspect.getsource(trainer_base.PPOTrainer._compute_advantage)
    assert (
        "compute_advantage_for_multi_trajectories(\n            data,\n            batch_keys=batch.keys," in advantages
    )
    assert callable(trainer_base.calculate_debug_metrics)
    # RA hands compute_advantage what follows the batch and its keys.
    handed = list(inspect.signature(trainer_base.compute_advantage_for_multi_trajectories).parameters)
    assert handed[:2] == ["data", "batch_keys"]
    assert set(handed[2:]) <= set(inspect.signature(ray_trainer.compute_advantage).parameters)


def test_what_the_observer_reads_of_verls_replay_buffer_is_there():
    buffer = replay_buffer.ReplayBuffer("sync", {}, 1, "drop", {})
    for name in ("pending_keys", "running_keys", "finished_keys", "failure_keys", "partitions"):
        assert getattr(buffer, name)["train"] is not None
    assert buffer.refill_fn is None and buffer.trainer_mode == "sync" and buffer.poll_interval > 0


def test_what_the_worker_reads_and_tags_of_a_response_is_there():
    fields = {"prompt_ids", "response_ids", "response_mask", "reward_score", "extra_fields"}
    assert fields <= AgentLoopOutput.model_fields.keys()
    worker = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    stored = inspect.getsource(worker._agent_loop_postprocess)
    # Our tags are written under these keys, into the same row.
    assert 'keys.append(f"{uid}_{session_id}_{i}")' in stored
    assert 'uid, session_id = kwargs["uid"], kwargs["session_id"]' in stored
    # The columns of the prompt, its messages and temperature among them, become columns of each of its responses.
    assert "field.update(kwargs)" in stored and 'partition_id="train" if not validate else "val"' in stored
    assert 'trajectory["validate"]' in inspect.getsource(worker._run_prompt)
    assert 'row_dict["raw_prompt"]' in inspect.getsource(RLHFDataset.__getitem__)
    assert '"responses"' in inspect.getsource(AgentLoopOutput.as_dict)


def test_the_engines_are_looked_up_in_the_order_that_our_replacement_covers():
    source = inspect.getsource(EngineRegistry.get_engine_cls)
    order = ["if vendor_key in registry:", "if device in registry:", 'nvidia_key = (device, "nvidia")']
    assert [source.index(text) for text in order] == sorted(source.index(text) for text in order)
