# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Entry point of group ``vllm.general_plugins``: vLLM calls :func:`register` in every engine process."""

from erpo.platform import is_chosen


def register() -> None:
    """Prepare vLLM's CPU linears for weight updates, on the CPU platform only."""
    if is_chosen():
        from erpo.platform import patches

        patches.patch_vllm()
