# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Files of this folder as processes of their own, in an environment that sees."""

import os
import subprocess
import sys
from pathlib import Path


def run_script(name: str, environment: dict[str, str], *arguments: str) -> str:
    """Run a file of this folder in a process of its own; its output."""
    here = Path(__file__)
    command = [sys.executable, str(here.with_name(name)), *arguments]
    # What is common to scripts of verl's engine lies there.
    path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(here.parents[1] / "trainer")]))
    whole = {**os.environ, **environment, "PYTHONPATH": path}
    done = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


# The CPU platform with the tiny model: eight prompts of four responses a step.
TINY_RUN = (
    "experiment=cpu",
    "erpo.schedule.linear.t_max=2.0",
    "data.train_batch_size=8",
    "data.max_prompt_length=64",
    "data.max_response_length=16",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.actor.optim.lr=1.0e-4",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
    # Hot from the first step on, so that a temperature of 1 in its place is seen at once.
    "actor_rollout_ref.rollout.temperature=1.3",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.rollout.val_kwargs.n=1",
    "actor_rollout_ref.rollout.max_model_len=96",
    "actor_rollout_ref.rollout.max_num_seqs=64",
    "actor_rollout_ref.rollout.max_num_batched_tokens=1024",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=16",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=1",
    "trainer.total_epochs=100",
    "ray_kwargs.ray_init.log_to_driver=true",
)
# What a reader of the samples sees of them.
PROMPTS = ("<image>How many?", "<image>What is it?", "<image><image>Which one?", "How many?")
