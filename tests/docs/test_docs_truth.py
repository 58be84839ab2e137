# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the pages name exists: files, settings, columns, methods; and the code on them runs."""

import re
import sys

import numpy as np
import pytest
from docs_pages import DOCS, ROOT, pages
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from erpo.evaluation import store
from erpo.runs import group_log, sample_log
from erpo.tracker import PromptTracker, TrackerConfig
from erpo.tracker.history import PromptHistory
from erpo.tracker.outcome import GroupOutcomes
from erpo.trainer.config import ErpoConfig
from recipe.erpo.main_erpo import CONFIG_FOLDER

sys.path.insert(0, str(DOCS / "_ext"))
erpo_settings = pytest.importorskip("erpo_settings", reason="the extra docs is not installed", exc_type=ImportError)

PAGES = pages()
# verl's sections, and how the pages shorten their names.
_SECTIONS = {
    **{name: name for name in ("actor_rollout_ref", "algorithm", "data", "reward", "trainer", "transfer_queue")},
    "rollout": "actor_rollout_ref.rollout",
    "actor": "actor_rollout_ref.actor",
}
# Columns of the data, files of a run and modules: of these names but no settings.
_OTHERS = re.compile(r"data\.pt|trainer\.lock|erpo\.(tracker|trainer|runs|report|arithmetic|smollm2)\b.*")
_FILES = re.compile(r"(?<![\w/])(?:erpo|configs|recipe|tests|docs|benchmarks|docker)/[\w./-]*(?:\.\w+|/)(?![\w*@])")


def code_spans(page: str) -> list[str]:
    """Code of a page in single backticks, outside of blocks; roles are the build's business."""
    text = re.sub(r"^(```+|~~~+).*?^\1$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"(?<![`}])`([^`\n]+)`(?!`)", text)


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    for span in code_spans(page):
        for path in _FILES.findall(span):
            assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_lines_and_paragraphs_are_short(path):
    """120 characters, where no table or block needs more, and five lines: a wall of text is not read."""
    text = re.sub(r"^ *(```+|~~~+).*?^ *\1$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "#"))]
    assert [line for line in lines if len(line) > 120 and " " in line] == []
    paragraphs = re.split(r"\n\n|^ *(?:[-*:]|\d+\.) ", "\n".join(lines), flags=re.MULTILINE)
    assert [text for text in paragraphs if text.strip().count("\n") >= 5] == []


@pytest.fixture(scope="module")
def settings():
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        return compose("erpo_trainer", overrides=["experiment=qwen2_5_3b", "method=erpo"])


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_names_exist(page, settings):
    for span in code_spans(page):
        for name in re.findall(r"(?<![\w./])[a-z_]+(?:\.[a-z_0-9]+)+(?==|$|\s|,)", span):
            section, _, rest = name.partition(".")
            if _OTHERS.fullmatch(name) or (section != "erpo" and section not in _SECTIONS):
                continue
            full = f"{_SECTIONS.get(section, section)}.{rest}"
            parent, _, leaf = full.rpartition(".")
            node = OmegaConf.select(settings, parent)
            assert node is not None and leaf in node, f"{page} names {name}"


def test_settings_of_the_page_are_those_of_the_yaml():
    parts = list(erpo_settings.sections(ErpoConfig, "erpo"))
    found = {setting.name: setting.text for part in parts for setting in part.settings}
    known = erpo_settings.defaults(CONFIG_FOLDER / "erpo" / "default.yaml", "erpo").keys()
    # The settings of a schedule of the user's own are its own.
    known = {name.split(".own.")[0] + ".own" if ".own." in name else name for name in known}
    assert found.keys() == known
    assert [name for name, text in found.items() if not text] == []
    assert "::: {setting}" not in PAGES["settings.md"], "the page is made from the dataclasses"


def test_choices_that_set_a_setting_are_those_that_hydra_composes():
    chosen = erpo_settings.chosen_by("method", {"erpo.schedule.name", "erpo.groups.drop", "erpo.ra.enable"})
    for method in ("grpo", "dapo", "erpo_band"):
        with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
            config = compose("erpo_trainer", overrides=[f"method={method}"])
        for name, default in (("erpo.schedule.name", "none"), ("erpo.groups.drop", []), ("erpo.ra.enable", False)):
            assert OmegaConf.select(config, name) == chosen.get(name, {}).get(method, default)


def test_every_method_has_its_section():
    methods = {path.stem for path in (CONFIG_FOLDER / "method").glob("*.yaml")}
    headings = re.findall(r"^## (\w+)$", PAGES["methods.md"], re.MULTILINE)
    assert set(headings) == methods
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["methods.md"], re.MULTILINE)
    assert sorted(rows) == sorted(methods)


def columns_of(heading: str) -> list[str]:
    """First column of the last table below a heading of docs/files.md."""
    section = PAGES["files.md"].split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = section.rpartition("|---|---|---|\n")[2]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_columns_of_the_formats():
    assert columns_of("Group log") == group_log.SCHEMA.names
    assert columns_of("Sample log") == sample_log.SCHEMA.names
    assert columns_of("Tracker state") == list(PromptHistory().column_names)


def test_versions_of_the_formats():
    text = PAGES["files.md"]
    version = {name: value.decode() for name, value in (group_log.SCHEMA.metadata | sample_log.SCHEMA.metadata).items()}
    assert f"schema version {version[b'erpo_group_log']} (metadata `erpo_group_log`)" in text
    assert f"schema version {version[b'erpo_sample_log']} (metadata `erpo_sample_log`)" in text
    assert f"folder format {store.FORMAT};" in text
    meta = PromptTracker(TrackerConfig()).state_dict()["meta"]
    assert f"format version {meta['format_version']}" in text
    assert set(meta) <= set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_the_code_of_the_page_on_extending_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loop, schedule = re.findall(r"^```python\n(.*?)^```$", PAGES["extend.md"], re.MULTILINE | re.DOTALL)
    exec(compile(loop, "extend.md, loop", "exec"), ran := {"__name__": "loop"})
    assert ran["tracker"].metrics()["erpo/temperature/prompts_frac_raised"] > 0
    exec(compile(schedule, "extend.md, schedule", "exec"), made := {"__name__": __name__})
    cooling = made["CoolingSchedule"](made["CoolingConfig"](dt=0.1))
    history = PromptHistory(cooling.columns)
    keys = ran["keys"][:3]
    rows = history.add(keys)
    before = cooling.temperatures(history, rows)
    outcomes = [0, 0, 2]
    elsewhere = np.where([False, True, False], 1.1, before)
    cooling.observe(history, rows, GroupOutcomes(keys, outcomes, [0, 0, 1], [8] * 3, elsewhere, [1] * 3))
    assert before.tolist() == [1.2] * 3 and cooling.temperatures(history, rows) == pytest.approx([1.1, 1.2, 1.2])
