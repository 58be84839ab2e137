# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands of the evaluation share: the way from settings to a model, and how they end."""

import sys
from collections.abc import Callable

from omegaconf import DictConfig

from erpo.evaluation.checkpoint import ModelSource, find_model
from erpo.evaluation.config import Config, EvaluationError, fill_from_run, read_settings


def find(settings_class: type[Config], config: DictConfig) -> tuple[Config, ModelSource]:
    """Check composed settings, find their model, and take from its run what they leave open.

    Raises:
        EvaluationError: A setting or the model cannot be used.
    """
    settings = read_settings(settings_class, config)
    source = find_model(settings.model)
    return fill_from_run(settings, source.run), source


def run(command: Callable[[DictConfig], None], config: DictConfig) -> None:
    """Run a command; what cannot be used, and an interruption, end the process with one sentence."""
    try:
        command(config)
    except EvaluationError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues from here")
