# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the engine measures of the tail of the vocabulary, in the pass of the old log-probs and nowhere else.

The trainer asks for it by an entry of the batch, :data:`HEAT_TOKENS`, and gets the column :data:`HEAT` back, as verl
gets entropies. The cost is bounded: of a micro-batch at most ``erpo.heat.tokens`` places are looked at for their tail,
two softmaxes each; log-probs at T = 1 take one more softmax over all places, where any response has another T.
"""

import torch

from erpo.trainer.log_probs import log_softmax, pieces

#: Entry of a batch: most places of a micro-batch whose tail is measured; absent or 0: nothing is measured.
HEAT_TOKENS = "erpo_heat_tokens"
#: Name of the column (responses, 4), float32: tokens whose tail was measured, the sum of their tail masses at T, the
#: same at T + HOTTER, and the lowest log-prob at T = 1 of a token that the model wrote.
HEAT = "erpo_heat"
#: The tail is what lies outside so many most probable tokens.
TOP = 20
#: How much hotter the second tail mass is.
HOTTER = 0.2

_GOLDEN = (5**0.5 - 1) / 2


def spread(places: int, limit: int, device: torch.device | None = None) -> torch.Tensor:
    """At most ``limit`` of ``places``, spread evenly: all of them, or every one that a golden step hits.

    Steps of equal length could fall on the same place of every response, where all are equally long.
    """
    if places <= limit:
        return torch.arange(places, device=device)
    steps = torch.arange(limit, dtype=torch.float64) * _GOLDEN % 1
    return (steps * places).long().unique().to(device)


def tail_masses(
    logits: torch.Tensor, temperatures: torch.Tensor, *, vocabulary: int, banned: tuple[int, ...] = ()
) -> torch.Tensor:
    """1 - sum of the :data:`TOP` largest of softmax(z / T), at T and at T + :data:`HOTTER`, in float32 and in pieces.

    Args:
        logits: z, shape (places, rows of the head), any dtype.
        temperatures: T, shape (places,).
        vocabulary: Rows of the head from this one on are no token; the rollout never samples them.
        banned: Tokens that the rollout never samples.

    Returns:
        Float32, shape (2, places).
    """
    temperatures, vocabulary = temperatures.float(), min(vocabulary, logits.shape[-1])
    found = temperatures.new_empty(2, len(logits))
    for rows in pieces(logits):
        for masses, hotter in zip(found, (0.0, HOTTER), strict=True):
            log_p = log_softmax(logits[rows], temperatures[rows] + hotter, vocabulary, banned)
            top = log_p.topk(min(TOP, vocabulary), dim=-1).values
            masses[rows] = (1 - top.exp().sum(-1)).clamp(min=0)
    return found


def at_places(values: torch.Tensor, places: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Values of some places, (k, places), in the shape of all of them, (k, *shape); NaN where nothing was measured."""
    whole = values.new_full((len(values), shape.numel()), torch.nan)
    whole[:, places] = values
    return whole.view(-1, *shape)


def of_responses(
    tail: torch.Tensor, hotter: torch.Tensor, at_one: torch.Tensor, response_mask: torch.Tensor
) -> torch.Tensor:
    """The column :data:`HEAT` from values at the places of a micro-batch.

    Args:
        tail: Tail masses at T, nested (responses, prompt and response), NaN where not measured. The value of a token
            stands at the place before it, as verl's log-probs do.
        hotter: The same at T + HOTTER.
        at_one: Log-probs at T = 1, likewise.
        response_mask: Nested (responses, tokens of the response), 0 for what the model did not write.

    Returns:
        Nested (responses, 4).
    """
    rows = []
    for masses, hot, log_probs, mask in zip(
        tail.unbind(), hotter.unbind(), at_one.unbind(), response_mask.unbind(), strict=True
    ):
        written = slice(len(masses) - len(mask) - 1, len(masses) - 1)
        mask = mask.bool()
        masses, hot, log_probs = masses[written][mask], hot[written][mask], log_probs[written][mask]
        known = ~masses.isnan()
        lowest = log_probs.min() if len(log_probs) else log_probs.new_zeros(())
        rows.append(torch.stack([known.sum().float(), masses[known].sum(), hot[known].sum(), lowest.float()]))
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)
