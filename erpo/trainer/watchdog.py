# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Ending a run that waits for responses that can no longer come.

verl hands prompts to its agent-loop workers without waiting for an answer, and then looks for finished groups for ever.
The groups of a worker that was killed, for memory say, never finish.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import psutil
import ray
from ray._private import state as ray_state
from ray.exceptions import RayActorError

# Seconds between two looks at the processes; one look asks Ray's control store and takes some 20 ms.
_LOOK_EVERY = 5.0
_GIB = 2**30
_GO_ON = (
    "If it was killed for memory, give it more (fewer workers, a lower rollout.gpu_memory_utilization or batch); "
    "the same command continues from the last checkpoint."
)


class StalledError(RuntimeError):
    """The run waits for responses that do not come; the message says what was seen."""


class Watchdog:
    """Watches the trainer's waits for responses, one after the other.

    Only time that the trainer spends waiting counts, so that a long update or checkpoint is no silence.

    Args:
        seconds: So long the trainer waits without a response that finishes, in seconds.
        workers: Gives the processes without which responses are lost: Ray's actor id (hex) -> what it is.
    """

    def __init__(self, seconds: float, workers: Callable[[], Mapping[str, str]]) -> None:
        self.seconds = seconds
        self.workers = workers
        self.waited = 0.0
        self.responses: set[str] = set()
        self.last_response: str | None = None
        self.next_look = 0.0
        self.least_free = float("inf")

    def reset(self) -> None:
        """A batch is complete: the next wait is another one."""
        self.waited = 0.0

    def waiting(self, seconds: float, responses: Iterable[str], groups: str) -> None:
        """Note that the trainer waited.

        Args:
            seconds: How long, since the last call or the last batch.
            responses: Keys of the responses that finished and are still in TransferQueue.
            groups: The groups that are waited for, for the message.

        Raises:
            StalledError: A process is dead whose responses are waited for, or nothing finished for too long.
        """
        self.waited += seconds
        self.least_free = min(self.least_free, psutil.virtual_memory().available)
        present = set(responses)
        if present - self.responses:
            self.waited = 0.0
            self.last_response = time.strftime("%H:%M:%S")
        self.responses = present
        if time.monotonic() >= self.next_look:
            self._look_for_dead(groups)
            self.next_look = time.monotonic() + _LOOK_EVERY
        if self.waited >= self.seconds:
            raise StalledError(
                f"No response finished in {self.waited:.0f} s of waiting, and the {len(self.workers())} processes that "
                f"work on them are alive: see what they do (py-spy dump), or raise erpo.watchdog.seconds, which is "
                f"{self.seconds:g}, if responses take this long. {self._seen(groups)}"
            )

    def _look_for_dead(self, groups: str) -> None:
        workers = self.workers()
        dead = [f"{workers[actor]} {describe(found)}" for actor, found in dead_actors(workers).items()]
        if dead:
            raise StalledError(
                f"{len(dead)} of {len(workers)} processes that work on responses died, so the batch can never be "
                f"complete: {'; '.join(dead)}. {_GO_ON} {self._seen(groups)}"
            )

    def _seen(self, groups: str) -> str:
        memory = psutil.virtual_memory()
        return (
            f"Waited for: {groups}; last response: {self.last_response or 'none since the start'}; memory of the "
            f"trainer's node: {memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free, "
            f"at least {self.least_free / _GIB:.1f} free while waiting."
        )


def dead_actors(actors: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Those of ``actors`` (ids, hex) that are dead and that Ray will not start again, with Ray's description."""
    # By the control store: Ray's public list of actors needs its dashboard, which a run can do without. An actor's id
    # ends in its job's, which keeps other jobs of a shared cluster out.
    jobs = {bytes.fromhex(actor)[-ray.JobID.size() :] for actor in actors}
    found = [ray_state.actors(job_id=ray.JobID(job), actor_state_name="DEAD") for job in jobs]
    return {actor: described for of_job in found for actor, described in of_job.items() if actor in actors}


def describe(actor: Mapping[str, Any]) -> str:
    """Where a dead actor ran, and why Ray says that it died."""
    cause = actor["DeathCause"]
    kind = cause.WhichOneof("context")
    reason = "for a reason that Ray does not know"
    if kind is not None:
        context = getattr(cause, kind)
        reason = _without_advice(getattr(context, "error_message", str(context)))
    return f"(process {actor['Pid']} on {actor['Address']['IPAddress']}): {reason}"


def death_message(error: RayActorError) -> str:
    """The sentence for a call that failed because the process it went to is dead."""
    # Out of an actor, the error comes as one of the same class whose text is the actor's traceback.
    died = _without_advice(str(getattr(error, "cause", error)))
    return f"A process of the run died. {died}. {_GO_ON}"


def _without_advice(text: str) -> str:
    """Ray's message on one line, without the paragraph of advice at its end."""
    return " ".join(text.split()).split(" Some common causes")[0].rstrip(".")
