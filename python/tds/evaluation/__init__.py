# SPDX-License-Identifier: LGPL-2.1-or-later
"""Evaluation: see docs/evaluation.md."""
