# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The documentation builds without a warning, and what is broken in it is one."""

import re
import shutil

import pytest
from docs_pages import DOCS, ROOT, build, described_metrics

from erpo import tracker

inventory = pytest.importorskip("sphinx.util.inventory", reason="the extra docs is not installed")

pytestmark = pytest.mark.slow


def test_it_builds_and_has_every_page_setting_metric_and_public_name(tmp_path):
    built = build(ROOT, tmp_path)
    assert built.returncode == 0, built.stderr
    objects = inventory.InventoryFile.loads((tmp_path / "objects.inv").read_bytes(), uri="").data
    assert {"erpo.groups.drop", "erpo.schedule.linear.dt", "erpo.poll_interval"} <= objects["std:setting"].keys()
    assert objects["std:metric"].keys() == set(described_metrics())
    names = {name for kind, found in objects.items() if kind.startswith("py:") for name in found}
    assert {f"erpo.tracker.{name}" for name in tracker.__all__} <= names
    # Formulas are drawn, and nothing is fetched from elsewhere.
    assert "<mfrac>" in (tmp_path / "methods.html").read_text()
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//', page.read_text())
        assert not fetched, page


# Each: file, its present text, what takes its place, and what the warning that follows must name.
BROKEN = [
    ("docs/start.md", "[Methods](methods.md)", "[Methods](method.md)", "method.md"),
    ("docs/start.md", "[Benchmarks](benchmarks.md)", "[Benchmarks](benchmarks.md#nowhere)", "nowhere"),
    ("docs/methods.md", "{setting}`erpo.ra.scale`", "{setting}`erpo.ra.size`", "erpo.ra.size"),
    ("docs/methods.md", "{metric}`erpo/raised/frac_truncated`", "{metric}`erpo/raised/cut`", "erpo/raised/cut"),
    ("docs/methods.md", r"\frac{r_i", r"\fract{r_i", "fract"),
    # A setting without a description, one that is not in the YAML, and one that is only there.
    ("erpo/trainer/config.py", "        method: Name of the method, for folders and plots.\n", "", "erpo.method"),
    (
        "erpo/trainer/config.py",
        "    cap_decay: float = 1.0\n",
        "    cap_decay: float = 1.0\n    more: int = 1\n",
        "ra.more",
    ),
    ("configs/erpo/default.yaml", "poll_interval: null", "poll_interval: null\nunknown: 1", "erpo.unknown"),
    # A public function and a public method without docstrings.
    (
        "erpo/tracker/outcome.py",
        '    """Whether a response is correct: its accuracy reaches the threshold, rounding aside."""\n',
        "",
        "erpo.tracker.is_correct is public and on no page",
    ),
    (
        "erpo/tracker/tracker.py",
        '        """End a batch that was observed in parts."""\n',
        "",
        "erpo.tracker.PromptTracker.finish_batch is public and on no page",
    ),
]


def test_what_is_broken_fails(tmp_path):
    root = tmp_path / "checkout"
    for folder in ("docs", "erpo", "configs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "base_model"))
    for folder in ("recipe", "benchmarks"):
        (root / folder).symlink_to(ROOT / folder)
    for name, present, broken, _ in BROKEN:
        text = (root / name).read_text()
        assert present in text, f"{name} no longer holds {present!r}: choose another place to break"
        (root / name).write_text(text.replace(present, broken, 1))
    (root / "docs" / "lost.md").write_text("# A page that no other one leads to\n")
    built = build(root, tmp_path / "out")
    assert built.returncode != 0
    for warning in [*(warning for *_, warning in BROKEN), "lost.md"]:
        assert any("WARNING" in line and warning in line for line in built.stderr.splitlines()), (
            f"{warning} is not in\n{built.stderr}"
        )


def test_read_the_docs_builds_the_same():
    text = (ROOT / ".readthedocs.yaml").read_text()
    assert "configuration: docs/conf.py" in text and "fail_on_warning: true" in text
    assert (DOCS / "conf.py").exists() and "extra_requirements: [docs]" in text
    assert re.search(r'^docs = \["docstring-parser', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
