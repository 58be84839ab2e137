# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""verl's checkpoint engine ``gloo``: weights from trainer to separate vLLM servers where there is no accelerator.

``actor_rollout_ref.rollout.checkpoint_engine.custom_backend_module=erpo.platform.gloo`` makes it known to verl, and
``backend=gloo`` chooses it. verl's own engines move weights between accelerators.
"""

import pickle
from collections.abc import AsyncIterator, Generator
from datetime import timedelta
from typing import Any, NamedTuple

import ray
import torch
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore
from verl.checkpoint_engine import CheckpointEngine, CheckpointEngineRegistry

_TIMEOUT = timedelta(minutes=10)


class Meeting(NamedTuple):
    """Where the processes of an update meet.

    Attributes:
        host: Address of the trainer's first process.
        port: Port of its store.
        update: Number of the update, so that no two use the same keys.
    """

    host: str
    port: int
    update: int


@CheckpointEngineRegistry.register("gloo")
class GlooCheckpointEngine(CheckpointEngine):
    """Broadcasts weight by weight from the trainer's first process to every process of a vLLM server.

    Args:
        bucket_size: verl's limit for what is on its way at once; here that is one weight.
        is_master: Whether this is the trainer's first process.
    """

    def __init__(self, bucket_size: int, is_master: bool = False) -> None:
        self._store: TCPStore | None = None
        self._is_master = is_master
        self._updates = 0
        self._rank = -1
        # A ProcessGroupGloo; torch's stubs do not know what it can do.
        self._group: Any = None

    def prepare(self) -> Meeting | None:
        if not self._is_master:
            return None
        host = ray.util.get_node_ip_address().strip("[]")
        if self._store is None:
            self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)
        self._updates += 1
        return Meeting(host, self._store.port, self._updates)

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[Any]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        size = rollout_world_size + 1
        # The other processes of the trainer have no part: every weight is whole in the first.
        ranks = ([0] + [-1] * (actor_wg_world_size - 1), list(range(1, size)))
        of_actor, of_rollout = (
            {"rank": of_group, "world_size": [size] * len(of_group), "meeting": metadata[:1] * len(of_group)}
            for of_group in ranks
        )
        return of_actor, of_rollout

    def init_process_group(self, rank: int, world_size: int, meeting: Meeting) -> None:
        self._rank = rank
        if rank < 0:
            return
        store = self._store or TCPStore(meeting.host, meeting.port, is_master=False, timeout=_TIMEOUT)
        self._group = ProcessGroupGloo(PrefixStore(str(meeting.update), store), rank, world_size, _TIMEOUT)

    def finalize(self) -> None:
        self._group = None

    async def send_weights(
        self, weights: Generator[tuple[str, torch.Tensor], None, None], global_steps: int | None = None
    ) -> None:
        for name, weight in weights:
            if self._rank == 0:
                self._announce((name, weight.shape, weight.dtype))
                self._broadcast(weight.detach().contiguous().view(-1).view(torch.uint8))
        if self._rank == 0:
            self._announce(None)

    async def receive_weights(self, global_steps: int | None = None) -> AsyncIterator[tuple[str, torch.Tensor]]:
        while (announced := self._announce(None)) is not None:
            name, shape, dtype = announced
            weight = torch.empty(shape, dtype=dtype)
            self._broadcast(weight.view(-1).view(torch.uint8))
            yield name, weight

    def _announce(self, what: tuple[str, torch.Size, torch.dtype] | None) -> Any:
        """Send what comes next, None at the end; every process gets what the first one sent."""
        message = torch.frombuffer(bytearray(pickle.dumps(what)), dtype=torch.uint8)
        length = torch.tensor([len(message)])
        self._broadcast(length)
        if self._rank != 0:
            message = torch.empty(int(length), dtype=torch.uint8)
        self._broadcast(message)
        return pickle.loads(message.numpy().tobytes())

    def _broadcast(self, tensor: torch.Tensor) -> None:
        self._group.broadcast(tensor, 0).wait()
