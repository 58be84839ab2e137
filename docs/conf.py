# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Sphinx's settings of the documentation; ``make docs`` builds it, and a warning is an error there."""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import MockFinder, _MockObject

# The sources beside this file are documented, wherever an installed erpo lies.
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "_ext")]

project = "ERPO on verl"
author = "The ERPO authors"
copyright = f"2026 {author}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "erpo_metrics",
    "erpo_settings",
    "mathml",
    "public_names",
]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

# Docstrings write code in single backticks.
default_role = "code"
# Blocks are commands, where they do not say otherwise.
highlight_language = "text"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_attr_annotations = False
# The packages of training take half a minute to import, and a host of documentation does not have them; the pages need
# only the signatures of what stands on them. For the whole build, because autodoc's own setting ends with each import.
sys.meta_path.insert(0, MockFinder(["psutil", "ray", "tensordict", "torch", "transfer_queue", "verl"]))
# An annotation such as AgentLoopOutput | list[AgentLoopOutput] is evaluated when the module is imported.
_MockObject.__or__ = lambda self, other: self

# Every name in these modules' __all__ must be on a page, with a docstring, and so must what their classes offer.
public_modules = ["erpo.tracker", "erpo.runs"]

# Names of other projects, which have no page here.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|numpy|omegaconf|pandas|pathlib|pd|ray|tensordict|torch|typing|verl)\..*"),
    ("py:.*", r"(Any|ArrayLike|DictConfig|NDArray|Path|TensorDict|bool|float64|int32|int64|int8|optional|void)"),
]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["erpo.css"]
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#9a5b00", "color-brand-content": "#0a5fa8"},
    "dark_css_variables": {"color-brand-primary": "#f0b04a", "color-brand-content": "#6cb6ff"},
}


_ARRAY = re.compile(
    r"(~?numpy\.)?ndarray\[(~?typing\.)?tuple\[\S*Any, \.\.\.\], (~?numpy\.)?dtype\[(~?numpy\.)?(\w+)\]\]"
)


_ARRAY_LIKE = re.compile(r"[~\w.]*_Buffer \|.*?bytes \| str\]")


def _short_arrays(*event: Any) -> tuple[str | None, ...]:
    """Write arrays in signatures as the code does: NDArray[int64], ArrayLike."""
    return tuple(text and _ARRAY_LIKE.sub("ArrayLike", _ARRAY.sub(r"NDArray[\5]", text)) for text in event[-2:])


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-signature", _short_arrays)
