# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What an asynchronous run's checkpoint brings back into TransferQueue, with a real one."""

import copy
import types

import pytest
import ray
import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from tensordict import TensorDict

from erpo.trainer.trainer import ErpoTrainerColocateAsync

pytestmark = pytest.mark.ray

PROMPT = {"is_prompt": True, "status": "running", "global_steps": 3}


@pytest.fixture(scope="module")
def queue():
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
        yield
        tq.close()
    finally:
        ray.shutdown()


@pytest.mark.parametrize(
    ("trained_only", "left"),
    [
        pytest.param(True, {"b", "b_0_0", "c"}, id="trajectories-of-trained-groups-have-no-prompt"),
        pytest.param(False, set(), id="other-training-data"),
    ],
)
def test_a_checkpoint_brings_back_no_orphans(queue, tmp_path, trained_only, left):
    # Of "a" the prompt is cleared and the batch not yet, as where verl saves; "b" is finished, "c" was dispatched.
    keys = ["a_0_0", "a_1_0", "b_0_0"]
    fields = TensorDict({"responses": torch.arange(6).reshape(3, 2)}, batch_size=3)
    tq.kv_batch_put(keys=keys, partition_id="train", fields=fields, tags=[{"status": "success"}] * 3)
    tq.kv_batch_put(keys=["b", "c"], partition_id="train", tags=[copy.copy(PROMPT), copy.copy(PROMPT)])
    tq.save_checkpoint(tmp_path / "transfer_queue")
    tq.kv_clear(keys=[*keys, "b", "c"], partition_id="train")
    tq.load_checkpoint(tmp_path / "transfer_queue")
    assert set(tq.kv_list("train")["train"]) == {*keys, "b", "c"}
    trainer = types.SimpleNamespace()
    ErpoTrainerColocateAsync._clear_train(trainer, of_trained_groups_only=trained_only)
    assert set(tq.kv_list("train").get("train", {})) == left
    if left:
        data = tq.kv_batch_get(keys=["b_0_0"], partition_id="train", select_fields=["responses"])
        assert [row.tolist() for row in data["responses"].unbind()] == [[4, 5]]
        tq.kv_clear(keys=sorted(left), partition_id="train")
