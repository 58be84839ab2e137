# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Entry point of group ``verl.plugins``: verl imports this module in every process that imports verl."""

from erpo.platform import is_chosen
from erpo.trainer import default_folder

# Here, because whoever composes our settings imports verl for its own: the default folder's name needs it.
default_folder.register()

if is_chosen():
    from erpo.platform import cpu, patches

    cpu.register()
    patches.patch_verl()
