# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The directive ``settings``: a page of settings from their dataclass, its docstring and the YAML that mirrors it.

A setting that the docstring does not describe, or that stands in only one of dataclass and YAML, is a warning.
"""

import dataclasses
import importlib
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docstring_parser
from docutils import nodes
from docutils.parsers.rst import directives
from omegaconf import DictConfig, OmegaConf
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id

logger = logging.getLogger(__name__)
ROLE = "setting"
CONFIGS = Path(__file__).parents[2] / "configs"

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", types.NoneType: "null"}


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: Its full name.
        kind: Its type in words.
        text: Its description in the docstring; None if there is none.
    """

    name: str
    kind: str
    text: str | None


@dataclass(frozen=True)
class Section:
    """The settings of one dataclass.

    Attributes:
        name: Prefix of their names; empty at the top of settings without one.
        text: What the docstring says before its list of attributes.
        settings: The settings, without those of the sections below.
    """

    name: str
    text: str
    settings: list[Setting]


def sections(settings_class: type, name: str) -> Iterator[Section]:
    """The sections of a dataclass of settings, itself first."""
    described = _described(settings_class)
    hints = typing.get_type_hints(settings_class)
    own, below = [], []
    for field in dataclasses.fields(settings_class):
        full = f"{name}.{field.name}" if name else field.name
        if dataclasses.is_dataclass(hints[field.name]):
            below.append((hints[field.name], full))
        else:
            own.append(Setting(full, _in_words(hints[field.name]), described.get(field.name)))
    docstring = docstring_parser.parse(settings_class.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
    text = "\n\n".join(filter(None, (docstring.short_description, docstring.long_description)))
    yield Section(name, text, own)
    for section_class, full in below:
        yield from sections(section_class, full)


def _load(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    loaded: type = getattr(importlib.import_module(module), attribute)
    return loaded


def _described(settings_class: type) -> dict[str, str]:
    """Attribute -> description, from the docstrings of the class and of those that it is derived from."""
    found: dict[str, str] = {}
    for base in reversed(settings_class.__mro__):
        docstring = docstring_parser.parse(base.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
        found |= {entry.arg_name: entry.description or "" for entry in docstring.params if entry.args[0] == "attribute"}
    return found


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), [a for a in typing.get_args(hint) if a is not Ellipsis]
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_in_words(argument) for argument in arguments)
    if origin in (tuple, list):
        return f"list of {_in_words(arguments[0])}s".replace("texts", "names")
    return _WORDS.get(hint, "mapping")


def defaults(file: Path, section: str) -> dict[str, Any]:
    """Full name -> value of all settings of a YAML file, as they are written there."""
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    assert isinstance(content, dict)
    # Hydra's own.
    values = {name: value for name, value in content.items() if name not in ("defaults", "hydra")}
    return dict(_leaves(values, section))


def chosen_by(group: str, names: set[str]) -> dict[str, dict[str, Any]]:
    """Setting -> {choice: value}, for the choices of a group of settings files that set it."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((CONFIGS / group).glob("*.yaml")):
        values = OmegaConf.to_container(_with_defaults(file), resolve=False)
        assert isinstance(values, dict)
        for name, value in _leaves(values, ""):
            if name in names:
                found.setdefault(name, {})[file.stem] = value
    return found


def _with_defaults(file: Path) -> DictConfig:
    """A file on top of the files that its list of defaults names; Hydra itself would compose verl's settings too."""
    own = OmegaConf.load(file)
    assert isinstance(own, DictConfig)
    base = OmegaConf.create()
    for entry in own.pop("defaults", []):
        if entry != "_self_":
            named = CONFIGS / entry[1:] if entry.startswith("/") else file.parent / entry
            base = OmegaConf.merge(base, _with_defaults(named.with_suffix(".yaml")))  # type: ignore[assignment]
    return OmegaConf.merge(base, own)  # type: ignore[return-value]


def _leaves(values: dict[Any, Any], where: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{where}.{key}" if where else str(key)
        if isinstance(value, dict) and value:
            yield from _leaves(value, name)
        else:
            yield name, value


def _show(value: Any) -> str:
    if isinstance(value, str) and value.startswith("${") and value.endswith("}") and value.count("{") == 1:
        return f"the value of `{value[2:-1]}`"
    if value == "???":
        return "none, it must be set"
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return f"`{words[value]}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


class Settings(SphinxDirective):
    """Shows the settings of the dataclass that its argument names.

    Its options: ``file`` below configs/ that holds the defaults; ``section`` in which they stand, and without which no
    page can link to them; ``groups`` of choices that set them; ``unlike`` another dataclass, whose settings are left
    out where they mean the same.
    """

    required_arguments = 1
    option_spec: typing.ClassVar = {
        "file": directives.unchanged_required,
        "section": directives.unchanged,
        "groups": directives.unchanged,
        "unlike": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Write the section as Markdown and let MyST read it."""
        section = self.options.get("section", "")
        file = CONFIGS / self.options["file"]
        for path in (file, *CONFIGS.rglob("*.yaml")):
            self.env.note_dependency(str(path))
        found = list(sections(_load(self.arguments[0]), section))
        values = defaults(file, section)
        names = {setting.name for part in found for setting in part.settings}
        self._compare(names, values, file)
        if "unlike" in self.options:
            others = sections(_load(self.options["unlike"]), section)
            known = {setting.name: setting.text for part in others for setting in part.settings}
            found = [
                dataclasses.replace(part, settings=[one for one in part.settings if known.get(one.name) != one.text])
                for part in found
            ]
            found = [part for part in found if part.settings]
        groups = {group: chosen_by(group, names) for group in self.options.get("groups", "").split()}
        return self._nested(found, lambda part: self._lines(part, values, groups))

    def _compare(self, names: set[str], values: dict[str, Any], file: Path) -> None:
        for name in sorted(names - values.keys()):
            # A mapping whose keys are the user's.
            if any(value.startswith(f"{name}.") for value in values):
                continue
            self._warn(f"the setting {name} of {self.arguments[0]} is not in {file.name}")
        for name in sorted(values.keys() - names):
            if not any(known.startswith(f"{name}.") or name.startswith(f"{known}.") for known in names):
                self._warn(f"{file.name} has {name}, which {self.arguments[0]} does not know")

    def _nested(self, parts: list[Section], lines: Callable[[Section], Iterator[str]]) -> list[nodes.Node]:
        """The first section as it is, the others below headings, each inside the one that its name begins with."""
        top = nodes.section()
        open_sections = [("", top)]
        for part in parts:
            content = self.parse_text_to_nodes("\n".join(lines(part)))
            if part is parts[0]:
                top += content
                continue
            section = nodes.section("", nodes.title(part.name, "", nodes.literal(part.name, part.name)), *content)
            section["ids"].append(make_id(self.env, self.state.document, "settings", part.name))
            while not f"{part.name}.".startswith(open_sections[-1][0]):
                open_sections.pop()
            open_sections[-1][1].append(section)
            open_sections.append((f"{part.name}.", section))
        return list(top.children)

    def _lines(
        self, part: Section, values: dict[str, Any], groups: dict[str, dict[str, dict[str, Any]]]
    ) -> Iterator[str]:
        """A section as Markdown."""
        if part.name != self.options.get("section", ""):
            yield from (part.text, "")
        for setting in part.settings:
            if not setting.text:
                self._warn(f"the setting {setting.name} is not described in the docstring of its dataclass")
                continue
            directive = ROLE if self.options.get("section") else "describe"
            yield from (f"::::{{{directive}}} {setting.name}", *setting.text.split("\n"), "")
            yield f":Default: {_show(values.get(setting.name))} ({setting.kind})"
            for group, by_setting in groups.items():
                chosen = by_setting.get(setting.name, {})
                differing = {c: v for c, v in chosen.items() if v not in (values.get(setting.name), c)}
                if differing:
                    yield f":By {group}: " + ", ".join(f"{c} {_show(v)}" for c, v in differing.items())
            yield from ("::::", "")

    def _warn(self, message: str) -> None:
        logger.warning(message, location=self.get_location())


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and a role that links to a setting."""
    app.add_object_type(ROLE, ROLE, objname="setting")
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
