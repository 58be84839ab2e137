# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""For the tests of the documentation: its pages as text, and the build."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def pages() -> dict[str, str]:
    """Text of every page by its path below docs/."""
    return {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.rglob("*.md"))}


def described_metrics() -> list[str]:
    """Keys that docs/metrics.md describes; SET and K stand for a set and a number of responses."""
    directives = re.findall(r"^```\{metric\} (.+)$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    return [key for directive in directives for key in directive.split()]


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the documentation of a checkout as ``make docs`` does."""
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    return subprocess.run(
        [*command, "-d", out / "doctrees", root / "docs", out], cwd=root, capture_output=True, text=True, timeout=600
    )
