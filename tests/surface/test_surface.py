# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What others build on: names, settings and file formats. A change of them must be meant.

``python tests/surface/test_surface.py`` writes them anew; CONTRIBUTING says which changes are breaking.
"""

import importlib
import json
import pkgutil
import re
from pathlib import Path

from omegaconf import OmegaConf

import erpo
from erpo.runs import group_log, sample_log
from erpo.tracker import PromptTracker, TrackerConfig
from recipe.erpo.main_erpo import CONFIG_FOLDER

RECORDED = Path(__file__).with_name("surface.json")
PACKAGES = ("erpo.tracker", "erpo.runs", "erpo.report")
ROOT = CONFIG_FOLDER.parent


def surface() -> dict[str, object]:
    """Everything that is promised, by kind."""
    settings = OmegaConf.load(CONFIG_FOLDER / "erpo" / "default.yaml")
    meta = PromptTracker(TrackerConfig("linear")).state_dict()["meta"]
    return {
        "exports": {name: sorted(importlib.import_module(name).__all__) for name in PACKAGES},
        "commands": sorted(module.name for module in pkgutil.iter_modules([str(ROOT / "recipe" / "erpo")])),
        "methods": sorted(path.stem for path in (CONFIG_FOLDER / "method").glob("*.yaml")),
        "experiments": sorted(path.stem for path in (CONFIG_FOLDER / "experiment").glob("*.yaml")),
        "settings": sorted(leaves(OmegaConf.to_container(settings, resolve=False))),
        "tracker state": sorted(meta),
        "group log": [f"{column.name}: {column.type}" for column in group_log.SCHEMA],
        "sample log": [f"{column.name}: {column.type}" for column in sample_log.SCHEMA],
        "formats": {
            "group log": group_log.SCHEMA.metadata[b"erpo_group_log"].decode(),
            "sample log": sample_log.SCHEMA.metadata[b"erpo_sample_log"].decode(),
            "tracker state": meta["format_version"],
        },
    }


def leaves(node: object, name: str = "") -> list[str]:
    if isinstance(node, dict) and node:
        return [leaf for key, value in node.items() for leaf in leaves(value, f"{name}.{key}" if name else str(key))]
    return [name]


def test_nothing_that_others_build_on_changed_by_accident():
    recorded = json.loads(RECORDED.read_text())
    found = surface()
    assert found.keys() == recorded.keys()
    for kind, names in recorded.items():
        assert found[kind] == names, f"{kind}: if the change is meant, run python {Path(__file__).name}"


def test_the_version_is_the_same_everywhere():
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert project and citation
    assert erpo.__version__ == project[1] == citation[1]


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(surface(), indent=2) + "\n")
