# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the seeds of the fuzz targets: what each of them takes, small and of every kind.

Kept in the tree, so that tests need no torch; written again by: python tests/fuzz/seeds.py
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent / "seeds"


def write(target: str, **seeds: bytes) -> None:
    folder = HERE / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (folder / name.replace("_", "-")).write_bytes(data)


# -- models ----------------------------------------------------------------------------

ONE = {"tds_model": 1, "name": "m", "version": "1", "scale": 2}
TWO = {
    **ONE,
    "tds_model": 2,
    "references": ["full-before", "full-after", "-1", "+1"],
    "halo": 32,
    "cpu_precision": "float32",
}


def tensor(record: str, elements: int, offset: int, sizes: tuple[int, ...]) -> bytes:
    """What torch writes of one tensor, as a pickle."""

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"J" + value.to_bytes(4, "little")

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    strides = [1]
    for size in reversed(sizes[1:]):
        strides.insert(0, strides[0] * size)
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(record) + text("cpu")
    storage += number(elements) + b"tQ"
    shape = (
        b"(" + b"".join(map(number, sizes)) + b"t" + b"(" + b"".join(map(number, strides)) + b"t"
    )
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + shape + b"\x89"
    return rebuilt + b"}tR"


def archive(about: dict[str, object], method: int, data: bytes = b"\x80\x02).") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in (
            ("m/data.pkl", data),
            ("m/code/a.py", b"def forward(self):\n    pass\n" * 4),
            ("m/data/0", bytes(64)),
            ("m/constants.pkl", b"\x80\x02)."),
            ("m/extra/tds.json", json.dumps(about).encode()),
        ):
            file.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def models() -> None:
    whole = b"\x80\x02" + tensor("0", 16, 0, (4, 4)) + b"."
    write(
        "archive",
        stored=archive(ONE, zipfile.ZIP_STORED),
        deflated=archive(TWO, zipfile.ZIP_DEFLATED),
        tensor=archive(ONE, zipfile.ZIP_STORED, whole),
        empty=b"PK\x05\x06" + bytes(18),
        beyond=b"PK\x05\x06" + bytes(4) + b"\x01\0\x01\0" + bytes(4) + b"\xf0\xff\xff\xff\0\0",
    )
    write(
        "metadata",
        one=json.dumps({**ONE, "bit_depths": [8, 10], "features": True}).encode(),
        two=json.dumps({**TWO, "alignment": 16, "torch": "2.13.0", "no_reference": False}).encode(),
        nested=b"[" * 70 + b"]" * 70,
        no_text=b'{"tds_model":1,"name":"\xff\xfe"}',
    )
    write(
        "pickle",
        tensor=whole,
        two=b"\x80\x02(" + tensor("0", 8, 8, (2, 2, 2)) + tensor("1", 0, 0, (0, 3)) + b"t.",
        beyond=b"\x80\x02" + tensor("0", 16, 1, (4, 4)) + b".",
        dictionary=pickle.dumps({"a": [1, 2, 300, 70000], "b": (None, True, 0.5)}, 2),
        long=b"\x80\x02\x8a\x08" + bytes(8) + b"q\x00h\x00\x86.",
        objects=b"\x80\x02c__torch__.m\nM\n)\x81}(X\x01\x00\x00\x00aK\x01ub.",
    )
    packed = {}
    for level in (0, 1, 9):
        raw = zlib.compressobj(level, zlib.DEFLATED, -15)
        text = b"tds " * 200 + bytes(range(256))
        packed[f"level_{level}"] = (
            len(text).to_bytes(2, "little") + raw.compress(text) + raw.flush()
        )
    raw = zlib.compressobj(9, zlib.DEFLATED, -15, strategy=zlib.Z_FIXED)
    packed["fixed"] = b"\x10\x00" + raw.compress(b"abcdabcdabcdabcd") + raw.flush()
    write("inflate", **packed)


# -- tags --------------------------------------------------------------------------------


def tag(frames: int, groups: list[list[int]], boundaries: str, **more: object) -> bytes:
    timeline = {"time_base": "1/1000", "start": 0, "frames": frames, "rate": "30000/1001"}
    timeline.update(more.pop("timeline", {}))  # type: ignore[call-overload]
    return json.dumps(
        {
            "tds": 1, "scale": 2, "width": 64, "height": 48, "bit_depth": 8, "codec": "hevc",
            "config": "ra", "hr_qp": 32, "lr_qp": -1, "group": 5, "boundaries": boundaries,
            "groups": groups, "timeline": timeline, **more,
        },
        separators=(",", ":"),
    ).encode()  # fmt: skip


def tags() -> None:
    write(
        "tag",
        shared=tag(17, [[-5, 1], [5, 3]], "shared", leads=[[0, 1], [8, 2]]),
        independent=tag(12, [[5, 2], [2, 1]], "independent", strengths=[[2, 6], [1, 3], [0, 3]]),
        uneven=tag(5, [[5, 1]], "independent", timeline={"deltas": [[33, 1], [34, 3]]}),
        unknown=tag(5, [[5, 1]], "independent", timeline={"known": False}),
        model=tag(5, [[5, 1]], "shared", model="fast", model_sha256="a" * 64, hr="refine"),
        ones=tag(9, [[-1, 1], [1, 3], [-5, 1], [1, 2], [4, 1]], "shared"),
        plain=tag(9, [[1, 9]], "independent", encoder="x265", preset="fast", choice={"a": [1.5]}),
        long=tag(5_000_001, [[-5, 1], [5, 1_249_999]], "shared"),
        wrong=tag(11, [[5, 2]], "independent"),
    )


# -- programs ----------------------------------------------------------------------------


def programs() -> None:
    # Of times: a step, then what is done (tests/fuzz/times.cpp).
    push_hr, push_lr, ask_hr, ask_lr, show = 0x06, 0x07, 0x40, 0x41, 0x30
    group = bytes([push_hr, push_lr, push_lr, push_lr, 0x08, ask_hr, ask_lr, ask_lr, ask_lr])
    write(
        "times",
        **{f"tag_{t}": bytes([t]) + group * 4 + bytes([0x78, 0x79]) for t in range(5)},
        shown=bytes([0, show, show + 8, show + 9]) + group * 2,
        moved=bytes([0x30, 0x40, 0x01]) + group * 3,
        alone=bytes([7]) + bytes([push_hr, 0x08, 0x08, ask_hr, 0x78, ask_hr, ask_lr]),
        anywhere=bytes([0, 0xF0, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 0xF1, 0, 0, 0, 1]) + group,
    )
    # Of sessions: which, how, sizes; then role and what, in the low four bits.
    hr, lr, lost_lr, lost_hr, receive, drain, flush = 0x00, 0x01, 0x07, 0x06, 0x08, 0x0C, 0x0E
    group = bytes([hr, lr | 0x20, lr, lr, hr | 0x30, drain])
    for kind in range(8):
        write(
            "session",
            **{
                f"kind_{kind}": bytes([kind, 0, 0x1F]) + group * 3,
                f"owned_{kind}": bytes([kind, kind, 0x0B])
                + bytes(b | 0x80 if b & 0xE < 6 else b for b in group * 3),
                f"lost_{kind}": bytes([kind, 1, 2, hr, lost_lr, lr, lost_hr, receive, lr, drain])
                + group,
                f"flush_{kind}": bytes([kind, 8, 1]) + group + bytes([flush, 0x4E, 0x2E, 0x1E])
                + group + bytes([0x3E, 0x5E, 0x6E, 0x7E, 0x3C, 0x3D, lr, drain]),
            },
        )  # fmt: skip
    write(
        "push",
        hr=bytes([8, 0x40, 17, 17, 0, 9, 5, 0x80, 3, 3, 7]),
        lr=bytes([2, 0x40, 17, 17, 7, 0]),
        pipe=bytes([1, 0x40, 65, 65, 0x50, 3, 3]),
        failed=bytes([8, 0x40, 17, 17, 5]) + b"no memory",
        gone=bytes([8, 0x40, 17, 17, 0x16, 0x40, 17, 17]),
        nobody=bytes([4, 0x40, 17, 17]),
        odd=bytes([8, 0x40, 16, 17, 0x78, 17, 17]),
    )


# -- what Python reads ---------------------------------------------------------------------


def texts() -> None:
    pair = json.loads(tag(17, [[-5, 1], [5, 3]], "shared", leads=[[0, 1], [8, 2]]))
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in pair.items())
    write(
        "sidecar",
        json=json.dumps(pair).encode(),
        yaml=lines.encode(),
        block=b"tds: 1\nscale: 2\nwidth: 64\nheight: 48\nboundaries: independent\ngroups:\n- - 5\n"
        b"  - 2\ntimeline:\n  time_base: 1/25\n  start: 0\n  frames: 10\n  rate: 25\n",
    )
    configs = HERE.parents[2] / "configs"
    write(
        "configuration",
        evaluation=(configs / "quick.yaml").read_bytes(),
        training=(configs / "training" / "family-fast-k2.yaml").read_bytes(),
    )


def decoders() -> None:
    def message(kind: int, payload: bytes) -> bytes:
        return struct.pack("<4sBBHQ", b"TDSP", 1, kind, 0, len(payload)) + payload

    def picture(number: int) -> bytes:
        return message(2, struct.pack("<IIIIqq", 16, 16, 8, 0, number, 0) + bytes(384))

    hello = message(1, b"\0" + b"VTM".ljust(63, b"\0"))
    write(
        "decoder",
        protocol=hello + picture(0) + picture(1) + message(3, struct.pack("<Q", 2)),
        failed=hello + picture(0) + message(4, b"no memory"),
        y4m=b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C420jpeg\n" + (b"FRAME\n" + bytes(384)) * 2,
        y4m_10=b"YUV4MPEG2 W16 H16 F30000:1001 C420p10\nFRAME\n" + bytes(768),
        yuv=bytes(range(256)) * 3,
    )


def containers() -> None:
    """Needs tds and its encoders: a pair of 9 frames, and of 5 in fragments and in Matroska."""
    import tempfile

    import av
    import numpy as np

    import tds

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with av.open(str(folder / "source.mkv"), "w") as out:
            stream = out.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for i in range(9):
                array = np.full((96, 64), 16 + 20 * i, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(array, "yuv420p")))
            out.mux(stream.encode(None))
        for form in ("mp4", "mkv", "ts"):
            tds.encode(
                folder / "source.mkv", folder / f"pair.{form}", codec="hevc", config="ai", qp=40,
                plan="tds", group=5, preset="ultrafast",
            )  # fmt: skip
            write("container", **{form: (folder / f"pair.{form}").read_bytes()})


if __name__ == "__main__":
    models()
    tags()
    programs()
    texts()
    decoders()
    containers()
