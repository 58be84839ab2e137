# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The steps of a warm-up: next-token training on worked answers, at a rate that rises and then stays."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

# Label of a token that counts in no loss.
IGNORED = -100
MAX_GRADIENT_NORM = 1.0


def supervised_steps(
    model: PreTrainedModel,
    add_gradients: Callable[[], float],
    steps: int,
    ramp_steps: int,
    seconds: float,
    **optimizer_settings: Any,
) -> Iterator[tuple[int, float, tqdm]]:
    """Trains a model in place with AdamW.

    Args:
        model: The model; it is in training mode between two steps, and afterwards.
        add_gradients: Adds the gradients of a batch of its own, and returns the loss.
        steps: Number of steps.
        ramp_steps: Steps over which the learning rate rises.
        seconds: Least time between two lines of progress in a file, which would fill with them.
        **optimizer_settings: AdamW's.

    Yields:
        After every step its number, from 1; its loss; and the bar of progress, which can show more.
    """
    optimizer = torch.optim.AdamW(model.parameters(), fused=True, **optimizer_settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / ramp_steps))
    model.train()
    interval = 0.1 if sys.stderr.isatty() else seconds
    with tqdm(total=steps, desc="warm-up", unit="step", mininterval=interval) as progress:
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss = add_gradients()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            progress.update()
            yield step, loss, progress
