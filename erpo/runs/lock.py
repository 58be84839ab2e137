# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One process in a run's folder at a time."""

import errno
import fcntl
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from erpo.runs.errors import RunFolderError

_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def locked(folder: str | Path, name: str = "lock", patience: float = 0.0) -> Iterator[None]:
    """Hold a folder while the block runs.

    The kernel releases the lock when the process ends, however it ends; the file stays and means nothing by itself. On
    NFS it holds across machines with NFSv4, or with NFSv3 and a lock daemon; a file system without locks is warned of.

    Args:
        folder: Folder of a run; made if needed.
        name: Name of the lock file.
        patience: Seconds to wait for another process that is about to end.

    Raises:
        RunFolderError: Another process holds it, or it cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunFolderError(
            f"{folder} cannot be written ({error.strerror}); set another trainer.default_local_dir."
        ) from error
    try:
        _acquire(descriptor, folder, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{socket.gethostname()} process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise RunFolderError(
                f"{folder} is in use by {holder}; stop it, or set another trainer.default_local_dir."
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            warnings.warn(f"{folder} is on a file system without locks: start one run at a time in it.", stacklevel=3)
            return
