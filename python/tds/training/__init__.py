# SPDX-License-Identifier: LGPL-2.1-or-later
"""Training sets from real bitstreams, and training on them. See docs/training.md."""
