# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The sample log: a few responses to read, of every few training steps."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from erpo.runs.step_log import StepLog

# One row per response. `key` and `step` are the group log's, `outcome` is the kind of the response's group, `length` is
# in tokens; `prompt` and `response` are text without special tokens.
SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("key", pa.string()),
        ("prompt", pa.string()),
        ("temperature", pa.float32()),
        ("response", pa.string()),
        ("correct", pa.bool_()),
        ("truncated", pa.bool_()),
        ("length", pa.int32()),
        ("outcome", pa.string()),
    ],
    metadata={"erpo_sample_log": "1"},
)


class SampleLog(StepLog):
    """The sample log of one run.

    Args:
        run_folder: Folder of the run; the log lies in its sub-folder ``samples``.
    """

    name = "sample log"
    sub_folder = "samples"
    schema = SCHEMA


def read_samples(run_folder: str | Path) -> pd.DataFrame:
    """Read the sample log of a run, one row per response, ordered by step.

    Raises:
        FileNotFoundError: The folder holds no sample log.
    """
    return SampleLog(run_folder).read()
