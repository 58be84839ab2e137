# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Weights from a trainer of two processes to two of a vLLM server's, as verl drives it, update by update."""

import asyncio

import torch
import torch.multiprocessing as mp

from erpo.platform.gloo import GlooCheckpointEngine

TRAINERS, SERVERS, UPDATES = 2, 2, 2


def weights_of(update):
    torch.manual_seed(update)
    yield "embedding", torch.randn(7, 5)
    yield "head", torch.randn(3, 4).bfloat16().T  # not contiguous
    yield "scale", torch.tensor(float(update))


def work(place, to_all, prepared, received):
    """One process: prepares, joins, sends or receives, and reports what it received."""
    engine = GlooCheckpointEngine(bucket_size=1, **({"is_master": place == 0} if place < TRAINERS else {}))
    for update in range(UPDATES):
        prepared.put((place, engine.prepare()))
        engine.init_process_group(**to_all.get())
        if place < TRAINERS:
            asyncio.run(engine.send_weights(weights_of(update)))
        else:
            received.put(asyncio.run(receive(engine)))
        engine.finalize()


async def receive(engine):
    return [(name, weight.float().numpy(), str(weight.dtype)) async for name, weight in engine.receive_weights()]


def test_every_server_process_gets_every_weight():
    context = mp.get_context("spawn")
    prepared, received = context.Queue(), context.Queue()
    to_all = [context.Queue() for _ in range(TRAINERS + SERVERS)]
    processes = [
        context.Process(target=work, args=(i, to_all[i], prepared, received), daemon=True)
        for i in range(TRAINERS + SERVERS)
    ]
    for process in processes:
        process.start()
    for update in range(UPDATES):
        metadata = dict(prepared.get(timeout=120) for _ in processes)
        of_actor, of_rollout = GlooCheckpointEngine.build_topology(
            TRAINERS, SERVERS, [metadata[i] for i in range(TRAINERS + SERVERS)]
        )
        for i, queue in enumerate(to_all):
            group, place = (of_actor, i) if i < TRAINERS else (of_rollout, i - TRAINERS)
            queue.put({name: values[place] for name, values in group.items()})
        expected = list(weights_of(update))
        for _ in range(SERVERS):
            found = received.get(timeout=120)
            for (name, weight, dtype), (expected_name, expected_weight) in zip(found, expected, strict=True):
                assert name == expected_name and dtype == str(expected_weight.dtype)
                assert torch.equal(torch.from_numpy(weight), expected_weight.float())
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
