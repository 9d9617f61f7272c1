# SPDX-License-Identifier: LGPL-2.1-or-later
"""From running decoders straight to the enhancer, with no file in between.

``protocol``: the pictures a patched decoder sends (csrc/include/tds/push.h).
``streams``: pictures from a descriptor, in that protocol, as y4m or as raw yuv.
``decoders``: which program is started how, and what became of it. ``launcher``:
two decoders and the enhancer, joined. The workflow is described in docs/vtm.md.
"""

from .launcher import PostdecSettings, postdec, postdec_plain

__all__ = ["PostdecSettings", "postdec", "postdec_plain"]
