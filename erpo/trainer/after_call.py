# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Working on what verl holds in memory inside one of its methods, in place of moving it a second time.

verl's trainer fetches log-probs, entropies, masks and rewards of a whole batch to the driver, works on them in one
method and lets them go. A batch of 1024 groups of 16 responses of 8192 tokens is gigabytes of each, so that fetching
them again in an override would cost as much as verl's own work. Written for verl 0.9.1, whose trainer calls the two
functions that are extended this way by their names in ``verl.trainer.ppo.v1.trainer_base``
(``tests/trainer/test_trainer_hooks.py`` holds that).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def after_call(module: ModuleType, name: str, then: Callable[..., None]) -> Iterator[None]:
    """While the block runs, let every call of a module's function be followed by another function.

    Args:
        module: Where the function is called by its name.
        name: The function.
        then: Called with the function's result and then its arguments.
    """
    function = getattr(module, name)

    def extended(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        then(result, *args, **kwargs)
        return result

    setattr(module, name, extended)
    try:
        yield
    finally:
        setattr(module, name, function)
