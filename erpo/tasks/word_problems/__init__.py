# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Word problems, and SmolLM2-135M-Instruct: a real language model that a laptop's CPU can train on them."""
