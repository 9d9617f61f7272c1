# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one pair costs and how good it is, against its plain stream: ``--measure`` and the demo.

``measure``: bits and PSNR of both. ``psnr``: as the field counts it. ``comparison``: pictures to
look at. Many pairs, curves and BD-rates are ``tds.evaluation``.
"""
