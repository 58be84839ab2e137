# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the data files of a run can be read and rewarded."""

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from erpo.environment.finding import Finding, Level

# Of each file; all are checked by recipe.erpo.check_rewards.
_ROWS = 50


def data_findings(config: DictConfig) -> Iterator[Finding]:
    """A finding for each data file."""
    from erpo.datasets import any_answer
    from erpo.datasets.errors import DataError
    from erpo.datasets.rewards import check_rewards

    custom = config.reward.custom_reward_function.path
    ours = custom == any_answer.PATH
    for setting in ("train_files", "val_files"):
        files = config.data[setting] or []
        for file in [files] if isinstance(files, str) else files:
            check = f"data.{setting}"
            path = Path(file).expanduser()
            if "://" in file:
                yield Finding(check, Level.SKIPPED, f"{file} is not looked at")
            elif not path.exists():
                yield Finding(
                    check, Level.ERROR, f"{file} does not exist", "name another file, or recipe.erpo.prepare_data"
                )
            elif (custom and not ours) or config.reward.reward_model.enable:
                yield Finding(check, Level.OK, f"{file}, whose rewards are your own function's")
            elif path.suffix != ".parquet":
                yield Finding(check, Level.OK, f"{file}: gold answers are checked in Parquet files only")
            else:
                try:
                    report = check_rewards(path, _ROWS, any_answer.compute_score if ours else None)
                except DataError as error:
                    yield Finding(check, Level.ERROR, str(error), "fix the file")
                    continue
                if report.passed:
                    yield Finding(
                        check, Level.OK, f"{file}: {report.rows} gold answers are rewarded, and wrong ones are not"
                    )
                else:
                    yield Finding(
                        check,
                        Level.WARNING,
                        f"{file}: of {report.rows} rows {len(report.rejected)} gold answers are rejected, "
                        f"{len(report.fooled)} wrong ones accepted",
                        f"python -m recipe.erpo.check_rewards {file}",
                    )
