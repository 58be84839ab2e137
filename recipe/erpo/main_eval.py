# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model or a run: ``python -m recipe.erpo.main_eval model=PATH sets=[aime24,math500] n=32``."""

import hydra
from omegaconf import DictConfig

from erpo.evaluation.command import find, run
from erpo.evaluation.config import EvalConfig
from recipe.erpo.main_erpo import CONFIG_FOLDER


def evaluate(config: DictConfig) -> None:
    """Sample, judge, write Parquet, JSON and Markdown, and print the table.

    Args:
        config: The composed settings, see :class:`erpo.evaluation.config.EvalConfig`.

    Raises:
        EvaluationError: Something cannot be used.
    """
    from erpo.evaluation.collect import Part, collect, folder_of
    from erpo.evaluation.data import find_sets, load_problems, training_differs
    from erpo.evaluation.summary import write_summary

    settings, source = find(EvalConfig, config)
    assert settings.n is not None and settings.temperature is not None
    files = find_sets(settings.sets, settings.data_folder)
    parts = [Part(name, load_problems(file), settings.n, settings.temperature) for name, file in files.items()]
    if warning := training_differs(source.run, files.values(), settings.reward_function):
        print(f"warning: {warning}")
    out = folder_of(source, settings, "eval")
    samples = collect(source, settings, parts, out)
    print(f"\n{write_summary(samples, source, out, warning)}\n{out}")


@hydra.main(config_path=str(CONFIG_FOLDER), config_name="eval", version_base=None)
def main(config: DictConfig) -> None:
    """Command line."""
    run(evaluate, config)


if __name__ == "__main__":
    main()
