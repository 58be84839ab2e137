# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a run leaves in its folder besides verl's checkpoints: the group log, the metrics and the settings."""

from erpo.runs.group_log import GroupLog, read_groups
from erpo.runs.metrics_log import MetricsLog, read_metrics

__all__ = ["GroupLog", "MetricsLog", "read_groups", "read_metrics"]
