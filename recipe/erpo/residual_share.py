# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Residual share by temperature: ``python -m recipe.erpo.residual_share model=PATH data=FILE.parquet``.

What a user looks at before choosing temperatures: which share of the training prompts is all-correct, mixed and
all-wrong at each, what higher ones do to the all-correct prompts and to the hard ones, and responses to read.
"""

from dataclasses import asdict

import hydra
from omegaconf import DictConfig

from erpo.evaluation.command import find, run
from erpo.evaluation.config import ResidualConfig
from recipe.erpo.main_erpo import CONFIG_FOLDER


def measure(config: DictConfig) -> None:
    """Sample, judge, write samples and report, and print table and suggestion.

    Args:
        config: The composed settings, see :class:`erpo.evaluation.config.ResidualConfig`.

    Raises:
        EvaluationError: Something cannot be used.
    """
    from erpo.evaluation.collect import Part, collect, folder_of
    from erpo.evaluation.data import draw, find_set, load_problems, training_differs
    from erpo.evaluation.residual import part_name, residual_rows, suggest
    from erpo.evaluation.residual_report import REPORT_FILE, write_report
    from erpo.evaluation.tolerance import suggest_for_all
    from erpo.trainer.config import AccuracyConfig

    settings, source = find(ResidualConfig, config)
    assert settings.n is not None
    _, file = find_set(settings.data, settings.data_folder)
    problems = draw(load_problems(file), settings.prompts, settings.seed)
    temperatures = sorted(settings.temperatures)
    visits = [(temperatures[0], False), (temperatures[0], True), *((value, False) for value in temperatures[1:])]
    names = [part_name(*visit) for visit in visits]
    # The name goes into the seeds: the groups of two visits are independent, as those of training are.
    parts = [
        Part(name, problems, settings.n, temperature, label=name, tail=True)
        for name, (temperature, _) in zip(names, visits, strict=True)
    ]
    if warning := training_differs(source.run, [file], settings.reward_function):
        print(f"warning: {warning}")
    out = folder_of(source, settings, "residual_share")
    samples = collect(source, settings, parts, out)
    # The folder may hold further temperatures of an earlier call.
    samples = samples[samples["part"].isin(names)]
    rows = residual_rows(samples, temperatures, settings.seed, AccuracyConfig(**asdict(settings.accuracy)))
    prompts = samples["key"].nunique()
    suggestions = suggest(rows, prompts), suggest_for_all(rows, prompts)
    report = write_report(samples, rows, *suggestions, source, out, warning)
    print(f"\n{report}\n{out / REPORT_FILE}")


@hydra.main(config_path=str(CONFIG_FOLDER), config_name="residual_share", version_base=None)
def main(config: DictConfig) -> None:
    """Command line."""
    run(measure, config)


if __name__ == "__main__":
    main()
