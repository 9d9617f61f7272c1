# SPDX-License-Identifier: LGPL-2.1-or-later
"""The engine for pictures from a decoder of your own: ``Session`` and ``Picture``.

with tds.Session(1920, 1080, 2, model="fast.pt") as session:
    while not session.ended:
        for role in session.wants:          # "hr" or "lr": what it needs next
            frame = next(streams[role], None)
            if frame is None:
                session.end(role)
            else:
                session.send(role, frame)   # av.VideoFrame, or numpy planes and pts=
        for picture in session:             # what can go out now
            y, u, v = picture.planes

A plain stream, one that is no TDS video, has the one role "hr":

with tds.Session(1920, 1080, 1, model="fast-k1.pt", kind="plain") as session:
    ...
"""

from __future__ import annotations

from ._tds import Info, Picture, Session, native_dir

__all__ = ["Info", "Picture", "Session", "native_dir"]
