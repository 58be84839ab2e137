# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the data files of a run can be read and rewarded."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from erpo.environment.finding import Finding, Level

# Of each file; all are checked by recipe.erpo.check_rewards.
_ROWS = 50


def image_findings(config: DictConfig) -> Iterator[Finding]:
    """A finding for each data file with images: for what reads them, and for how vLLM starts."""
    if OmegaConf.select(config, "data.custom_cls.path"):
        return  # a data set of the user's own reads images as it likes
    missing = [name for name in ("qwen_vl_utils", "torchvision") if importlib.util.find_spec(name) is None]
    load_format = str(OmegaConf.select(config, "actor_rollout_ref.rollout.load_format"))
    for setting in ("train_files", "val_files"):
        files = config.data[setting] or []
        for file in [files] if isinstance(files, str) else files:
            if not _holds_images(Path(file).expanduser(), config.data.get("image_key", "images")):
                continue
            check = f"data.{setting}"
            if missing:
                # Without them verl finds no processor, and drops every such row as one that is too long.
                yield Finding(
                    check,
                    Level.ERROR,
                    f"{file} holds images, which verl reads by {' and '.join(missing)}, not installed",
                    "pip install qwen-vl-utils, and the torchvision that belongs to this torch",
                )
            elif load_format.startswith("dummy"):
                yield Finding(
                    check,
                    Level.ERROR,
                    f"{file} holds images, and actor_rollout_ref.rollout.load_format={load_format} overwrites the "
                    "numbers by which vLLM 0.28 normalizes them, so that it samples by other images than training",
                    "set it to auto",
                )
            else:
                yield Finding(check, Level.OK, f"{file} holds images, and what reads them is installed")


def _holds_images(path: Path, column: str) -> bool:
    """Whether one of the first rows of a Parquet file holds an image."""
    import pyarrow.parquet as pq

    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        with pq.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                return False
            first = next(file.iter_batches(batch_size=_ROWS, columns=[column]), None)
    # The data set's own reader says what is wrong with such a file.
    except (OSError, ValueError):
        return False
    return first is not None and any(bool(cell) for cell in first.column(0).to_pylist())


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
                wrong, ra = report.rewards["wrong"], config.erpo.ra
                if setting == "train_files" and ra.enable and wrong and ra.pseudo_reward not in wrong:
                    yield Finding(
                        check,
                        Level.WARNING,
                        f"{file}: a wrong answer is rewarded {min(wrong):g}, and erpo.ra.pseudo_reward is "
                        f"{ra.pseudo_reward:g}",
                        f"erpo.ra.pseudo_reward={min(wrong):g}",
                    )
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
