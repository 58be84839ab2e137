# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""`erpo.tracker` in a training loop of your own: plain PyTorch, no verl; seconds on one core.

    python examples/own_loop.py           # temperatures by the tracker's linear schedule
    python examples/own_loop.py none      # the control: every prompt at temperature 1

A small network learns to add two digits. A prompt is a pair of digits; a response is the last digit of their sum,
sampled at the prompt's own temperature. The tracker gives that temperature, and is told what became of the group.
Compare the shares of residual groups (all_wrong, all_correct) of the two runs, and then the accuracies: here the
control ends higher.
"""

import sys

import numpy as np
import torch

from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, classify, keys_array, prompt_key

PROMPTS, N, STEPS, EVERY = 25, 8, 600, 50
LINEAR = {"dt": 0.1, "t_max": 2.0}


def train(schedule: str, steps: int = STEPS, seed: int = 0) -> tuple[PromptTracker, list[dict[str, float]]]:
    """Train a policy with REINFORCE.

    Args:
        schedule: Name of the tracker's schedule, or "none".
        steps: Training steps, of PROMPTS prompts with N responses each.
        seed: Seed of weights, order and sampling.

    Returns:
        The tracker, and a row of numbers for every EVERY steps: accuracy over all prompts at temperature 1, shares of
        the kinds of groups since the row before, and the mean temperature of the last batch.
    """
    torch.manual_seed(seed)
    digits = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    inputs = torch.nn.functional.one_hot(digits, 10).flatten(1).float()  # (100, 20)
    answers = digits.sum(1) % 10  # (100,)
    keys = keys_array([prompt_key("sums", f"{a}+{b}=") for a, b in digits.tolist()])
    policy = torch.nn.Sequential(torch.nn.Linear(20, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    tracker = PromptTracker(TrackerConfig.from_dict({"name": schedule, "linear": LINEAR}))
    rows: list[dict[str, float]] = []
    kinds: list[Outcome] = []
    for step in range(1, steps + 1):
        batch = torch.randperm(len(inputs))[:PROMPTS]
        # Prompts without history, and every prompt under the schedule "none", have the temperature 1.
        heat = tracker.temperatures_for(keys[batch]) if tracker.attaches_temperatures else np.ones(PROMPTS)
        # The distribution that is sampled from is the one that is trained: logits / T, in both.
        logits = policy(inputs[batch]) / torch.tensor(heat, dtype=torch.float32)[:, None]  # (PROMPTS, 10)
        sampler = torch.distributions.Categorical(logits=logits)
        responses = sampler.sample((N,))  # (N, PROMPTS)
        rewards = (responses == answers[batch]).float()
        advantages = rewards - rewards.mean(0)  # zero in residual groups
        loss = -(advantages * sampler.log_prob(responses)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        outcomes = [classify(group, N) for group in rewards.T.tolist()]
        sizes, at = np.full(PROMPTS, N), np.full(PROMPTS, step)
        tracker.observe(GroupOutcomes(keys[batch], np.array(outcomes), rewards.mean(0).numpy(), sizes, heat, at))
        kinds += outcomes
        if step % EVERY == 0:
            with torch.no_grad():
                chances = policy(inputs).softmax(-1).gather(-1, answers[:, None])
            shares = {kind.name.lower(): kinds.count(kind) / len(kinds) for kind in list(Outcome)[:3]}
            rows.append({"step": step, "accuracy": float(chances.mean()), **shares, "T": float(heat.mean())})
            kinds = []
    return tracker, rows


if __name__ == "__main__":
    for row in train(sys.argv[1] if len(sys.argv) > 1 else "linear")[1]:
        print("  ".join(f"{name} {value:.2f}" if name != "step" else f"step {value:3d}" for name, value in row.items()))
