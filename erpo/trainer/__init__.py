# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""ERPO inside verl: the only package that knows verl.

The way of a prompt, one module a step: :mod:`~erpo.trainer.stages` attaches the temperature at dispatch,
:mod:`~erpo.trainer.agent_loop` samples with it, :mod:`~erpo.trainer.replay_buffer` observes the finished group,
:mod:`~erpo.trainer.engine` and :mod:`~erpo.trainer.log_probs` compute log-probs at the same temperature,
:mod:`~erpo.trainer.tripwire` watches that both are the same, :mod:`~erpo.trainer.advantage` adds RA.
"""

#: Name of a tensor column (prompts,), float32, of the temperature at which a prompt's group is sampled. It is not named
#: "temperature": verl writes a scalar of that name into every call, and the scalar silently replaces a column.
ROLLOUT_TEMPERATURE = "rollout_temperature"

#: Name of a column (prompts,) of the prompts' keys in hexadecimal, made at dispatch, because an agent loop may edit its
#: messages.
PROMPT_KEY = "prompt_key"

#: Name of the tag of every response, written by the worker that sampled it (see erpo.trainer.agent_loop).
RESPONSE_TAG = "erpo"

#: Name of a tensor column (prompts,), float32, of the temperature of the training log-probs where it is another one.
TRAIN_TEMPERATURE = "train_temperature"
