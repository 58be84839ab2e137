# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Who imports whom: no circles, and verl and torch only in the rooms that need them.

Imports inside functions and those of type checkers count as any other: they are where circles hide. So does the import
of our plug-in by verl, which makes it: a module that imports verl at its top imports the plug-in.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ("erpo", "recipe", "benchmarks")
    for path in sorted((ROOT / room).rglob("*.py"))
}

# Rooms that are made of verl, and the modules outside them that import it, with the reason.
OF_VERL = ("erpo.trainer", "erpo.platform", "benchmarks")
ALSO_OF_VERL = {
    "erpo.datasets.any_answer": "scores each gold answer as verl's scorer does",
    "erpo.datasets.layouts": "finds the boxed answer where verl's scorer finds it",
    "erpo.datasets.rewards": "checks gold answers with the reward that training uses",
    "erpo.environment.attention": "asks verl whether there is a critic",
    "erpo.environment.late": "asks whether there is a reference, and which sources its scorers know",
    "erpo.environment.model": "loads the tokenizer as the run does",
    "erpo.evaluation.checkpoint": "merges the shards that verl saved",
    "erpo.evaluation.data": "reads images as training does",
    "erpo.evaluation.sampler": "makes prompts as the rollout does",
    "erpo.evaluation.scorer": "scores as training does",
    "erpo.tasks.word_problems.reward": "is verl's scorer of GSM8K",
    "recipe.erpo.main_erpo": "starts verl's trainer",
}


def imported(module: str) -> Iterator[str]:
    """Full names of what a module imports anywhere in its text."""
    yield from names_in(ast.walk(tree(module)))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


def names_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import, which this test cannot follow"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def module_of(name: str) -> str | None:
    """The module of ours that holds a name; None for a name of others."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name or None


def importers(package: str) -> set[str]:
    """Modules of ours that import a package of others."""
    return {module for module in FILES if any(is_of(name, package) for name in imported(module))}


def is_of(name: str, *packages: str) -> bool:
    """Whether a name is one of these packages, or lies in one."""
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def needs() -> dict[str, set[str]]:
    """The modules of ours that each module of ours imports, itself or through verl."""
    graph = {module: {module_of(name) for name in imported(module)} - {module, None} for module in FILES}
    (plugin,) = {entry.module for entry in entry_points(group="verl.plugins")} & FILES.keys()
    for module in FILES.keys() - {plugin}:
        if any(is_of(name, "verl") for name in names_in(tree(module).body)):
            graph[module].add(plugin)
    return graph


def test_no_module_needs_itself():
    TopologicalSorter(needs()).prepare()


def test_the_tracker_needs_nothing_of_ours_and_neither_verl_nor_torch():
    of_tracker = {module for module in FILES if is_of(module, "erpo.tracker")}
    assert of_tracker
    assert not of_tracker & (importers("verl") | importers("torch") | importers("ray"))
    needed = {module_of(name) for module in of_tracker for name in imported(module)} - {None}
    assert needed <= of_tracker


def test_verl_is_imported_where_it_is_needed_and_nowhere_else():
    elsewhere = {module for module in importers("verl") if not is_of(module, *OF_VERL)}
    assert elsewhere == set(ALSO_OF_VERL)
