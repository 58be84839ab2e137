# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The directive ``metric``, which describes one or several keys that share a meaning, and the role that links to it."""

from typing import Any

from docutils import nodes
from sphinx.addnodes import desc_signature
from sphinx.application import Sphinx
from sphinx.directives import ObjectDescription
from sphinx.util.nodes import make_id

ROLE = "metric"


class Metric(ObjectDescription[str]):
    """Describes the metrics that its argument names, separated by blanks."""

    def get_signatures(self) -> list[str]:
        """One entry for each key."""
        return self.arguments[0].split()

    def handle_signature(self, sig: str, signode: desc_signature) -> str:
        """Show the key."""
        signode += nodes.literal(sig, sig)
        return sig

    def add_target_and_index(self, name: str, sig: str, signode: desc_signature) -> None:
        """Let the role find it."""
        node_id = make_id(self.env, self.state.document, ROLE, name)
        signode["ids"].append(node_id)
        self.state.document.note_explicit_target(signode)
        self.env.domains.standard_domain.note_object(ROLE, name, node_id, location=signode)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register directive and role."""
    app.add_object_type(ROLE, ROLE, objname="metric")
    app.add_directive_to_domain("std", ROLE, Metric, override=True)
    return {"parallel_read_safe": True}
