# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The process in which a reward function runs, so that one that hangs or dies costs one response.

Two processes: a keeper, forked before vLLM starts (a process with a running engine is not safely forked), and the judge
that it forks, kills when a response takes too long, and forks anew.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn

from erpo.evaluation.config import EvaluationError

# Seconds in which a reward function must be loaded.
_LOADING = 600.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Failure:
    """Why there is no answer to a request."""

    reason: str


class JudgeProcess:
    """Runs a function in a process of its own.

    Args:
        load: Makes the function, in that process: first its description, then the function itself.
        timeout: Seconds that one call may take.
    """

    def __init__(self, load: Callable[[], tuple[Any, Callable[[Any], Any]]], timeout: float) -> None:
        self._connection, theirs = Pipe()
        # What is not written yet would be written twice.
        sys.stdout.flush()
        self._pid = _fork(_keep, theirs, self._connection, load, timeout)
        theirs.close()
        # What `load` said, or why it failed.
        self.description: Any = self._receive()

    def __call__(self, request: Any) -> Any:
        """The function's result, or a :class:`Failure`.

        Raises:
            EvaluationError: The keeper was ended, so that nothing can be judged any more.
        """
        with suppress(OSError):
            self._connection.send(request)
        return self._receive()

    def close(self) -> None:
        """End both processes."""
        self._connection.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise EvaluationError(
                "the process that judges responses was killed (out of memory?); repeat the command, which "
                "samples nothing again."
            ) from None


def _keep(mine: Connection, foreign: Connection, load: Any, timeout: float) -> None:
    """The keeper: passes requests on, and replaces a judge that does not answer."""
    foreign.close()
    # Ctrl-C is for the parent, whose end ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    judge = _Judge(mine, load)
    try:
        mine.send(judge.answer(_LOADING, "loading"))
        while True:
            request = mine.recv()
            if judge.ended:
                judge = _Judge(mine, load)
                loaded = judge.answer(_LOADING, "loading")
                if isinstance(loaded, Failure):
                    judge.end()
                    mine.send(loaded)
                    continue
            mine.send(judge.ask(request, timeout))
    except (EOFError, OSError, _ParentEnded):
        judge.end()


class _ParentEnded(Exception):
    pass


class _Judge:
    def __init__(self, foreign: Connection, load: Any) -> None:
        self._connection, theirs = Pipe()
        self._parent = foreign
        self._pid = _fork(_judge, theirs, (self._connection, foreign), load)
        theirs.close()
        self.ended = False

    def ask(self, request: Any, timeout: float) -> Any:
        with suppress(OSError):
            self._connection.send(request)
        return self.answer(timeout, "judging")

    def answer(self, timeout: float, what: str) -> Any:
        ready = wait([self._connection, self._parent], timeout)
        if self._parent in ready:
            # It sends nothing before it has its answer: this is its end.
            raise _ParentEnded
        try:
            if ready:
                return self._connection.recv()
            status = None
        except (EOFError, OSError):
            status = self.end()
        if status is None:
            self.end()
            return Failure(f"TimeoutError: {what} took more than {timeout:g} s")
        code = os.waitstatus_to_exitcode(status)
        return Failure(f"its process ended while {what}, with {f'signal {-code}' if code < 0 else f'code {code}'}")

    def end(self) -> int:
        """Kill the judge and the processes that it started; returns its status."""
        if self.ended:
            return 0
        self.ended = True
        self._connection.close()
        # It may have ended by itself; its exit status is then that of its end.
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        return status if pid else os.waitpid(self._pid, 0)[1]


def _judge(mine: Connection, foreign: tuple[Connection, ...], load: Any) -> None:
    # A group of its own, so that what the reward function starts is killed with it.
    os.setsid()
    for connection in foreign:
        connection.close()
    try:
        description, function = load()
    except BaseException as error:
        mine.send(Failure(describe(error)))
        return
    mine.send(description)
    while True:
        try:
            request = mine.recv()
        except EOFError:
            return
        try:
            answer = function(request)
        except BaseException as error:  # also what is no Exception: a reward function may call sys.exit()
            answer = Failure(describe(error))
        # Alarms that it left behind would hit the next response.
        signal.setitimer(signal.ITIMER_REAL, 0)
        mine.send(answer)


def describe(error: BaseException) -> str:
    """Class and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _fork(target: Callable[..., None], *arguments: Any) -> int:
    pid = os.fork()
    if pid == 0:
        _run(target, *arguments)
    return pid


def _run(target: Callable[..., None], *arguments: Any) -> NoReturn:
    try:
        with suppress(OSError, AttributeError):
            # Linux: whatever happens to the parent, nothing is left behind.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        target(*arguments)
    finally:
        # No handlers, buffers or threads of the process that this is a copy of.
        os._exit(0)
