# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Python callers send and get: frames of every kind, without copies; errors; lifetimes."""

from __future__ import annotations

import gc
import json
import logging
import threading
import warnings
import weakref
from pathlib import Path

import av
import numpy as np
import pytest

import tds
from tds import Picture, Session, _tds
from tds.plan import Role


def arrays(width: int, height: int, seed: int = 0, depth: int = 8) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if depth == 8 else np.uint16
    half = (height // 2, width // 2)
    return [rng.integers(0, 1 << depth, s).astype(dtype) for s in ((height, width), half, half)]


def av_frame(planes: list[np.ndarray], name: str) -> av.VideoFrame:
    flat = np.concatenate([p.reshape(-1) for p in planes])
    height, width = planes[0].shape
    return av.VideoFrame.from_ndarray(flat.reshape(height * 3 // 2, width), format=name)


def passed(frame: object, depth: int = 8, pts: int | None = 0) -> Picture:
    with Session(64, 48, 2, depth) as session:
        assert session.send("hr", frame, pts)  # type: ignore[arg-type]
        session.end("lr")
        picture = session.receive()
        assert picture is not None
        return picture


def same(picture: Picture, planes: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(picture.planes, planes, strict=True))


def test_numpy_planes_are_not_copied() -> None:
    planes = arrays(64, 48)
    picture = passed(planes)
    assert same(picture, planes)
    for got, sent in zip(picture.planes, planes, strict=True):
        assert np.shares_memory(got, sent)
        assert not got.flags.writeable


def test_strided_planes() -> None:
    big = arrays(96, 70)
    planes = [big[0][5:53, 7:71], big[1][::-1][3:27, 1:33], big[2][:24, :32]]
    assert same(passed(planes), planes)


def test_one_array_as_pyav_lays_it_out() -> None:
    planes = arrays(64, 48)
    whole = np.concatenate([p.reshape(-1) for p in planes]).reshape(72, 64)
    picture = passed(whole)
    assert same(picture, planes)
    assert np.array_equal(picture.to_ndarray(), whole)


def test_one_array_of_a_height_that_4_does_not_divide() -> None:
    """The LR height of 1080p at k = 4 is 270, which makes 405 rows."""
    with Session(96, 72, 4) as session:
        planes = arrays(24, 18)
        whole = np.concatenate([p.reshape(-1) for p in planes]).reshape(27, 24)
        assert session.send("lr", whole, 0)
        session.end("lr")
        session.end("hr")
        from_array = session.receive()
        session.flush()
        assert session.send("lr", planes, 0)
        session.end("lr")
        session.end("hr")
        from_planes = session.receive()
    assert from_array is not None and from_planes is not None
    assert same(from_array, list(from_planes.planes))


@pytest.mark.parametrize(("name", "depth"), [("yuv420p", 8), ("yuv420p10le", 10)])
def test_av_frames_go_in_and_out(name: str, depth: int) -> None:
    planes = arrays(64, 48, depth=depth)
    frame = av_frame(planes, name)
    frame.pts = 1234
    picture = passed(frame, depth, None)
    assert picture.pts == 1234
    assert same(picture, planes)
    back = picture.to_av()
    assert (back.format.name, back.pts, back.width, back.height) == (name, 1234, 64, 48)
    assert np.array_equal(back.to_ndarray(), frame.to_ndarray())


@pytest.mark.parametrize(("semi", "planar"), [("nv12", "yuv420p"), ("p010le", "yuv420p10le")])
def test_interleaved_chroma_gives_the_same_pictures(semi: str, planar: str) -> None:
    depth = 8 if semi == "nv12" else 10
    lr = av_frame(arrays(32, 24, depth=depth), planar)
    out = []
    for name in (semi, planar):
        with Session(64, 48, 2, depth) as session:
            assert session.send("lr", lr.reformat(format=name), 0)
            session.end("hr")
            picture = session.receive()
            assert picture is not None
            out.append(picture.to_ndarray())
    assert np.array_equal(*out)


def test_torch_tensors_go_in_and_out_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    planes = [torch.from_numpy(p) for p in arrays(64, 48)]
    picture = passed(planes)
    assert picture.planes[0].ctypes.data == planes[0].data_ptr()
    with Session(64, 48, 2) as session:
        session.end("hr")
        session.send("lr", [torch.from_numpy(p) for p in arrays(32, 24)], 0)
        enhanced = session.receive()
    assert enhanced is not None
    tensor = torch.from_dlpack(enhanced.planes[0])
    assert tensor.shape == (48, 64)
    assert tensor.data_ptr() == enhanced.planes[0].ctypes.data


class OnlyDLPack:
    """An array of a library that speaks DLPack and no buffer protocol."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_anything_with_dlpack() -> None:
    planes = arrays(64, 48)
    picture = passed([OnlyDLPack(p[:, ::1]) for p in planes])
    assert same(picture, planes)
    assert np.shares_memory(picture.planes[2], planes[2])
    wide = arrays(64, 48, depth=10)
    assert same(passed([OnlyDLPack(p) for p in wide], 10), wide)


def test_a_frame_lives_as_long_as_it_is_used_and_no_longer() -> None:
    planes = arrays(64, 48)
    watch = [weakref.ref(p) for p in planes]
    session = Session(64, 48, 2)
    session.send("hr", planes, 0)
    session.end("lr")
    del planes
    gc.collect()
    assert all(w() is not None for w in watch)
    picture = session.receive()
    assert picture is not None
    plane = picture.planes[1]
    del picture
    session.close()
    gc.collect()
    assert plane.shape == (24, 32)
    assert int(plane.sum()) >= 0
    assert watch[1]() is not None
    del plane
    gc.collect()
    assert all(w() is None for w in watch)


def test_a_refused_frame_is_let_go() -> None:
    with Session(64, 48, 2) as session:
        assert session.send("hr", arrays(64, 48), 0)
        assert session.send("hr", arrays(64, 48), 1)
        planes = arrays(64, 48)
        watch = weakref.ref(planes[0])
        assert not session.send("hr", planes, 2)
        del planes
        gc.collect()
        assert watch() is None
        assert session.wants == {"lr"}


def test_pictures_stay_valid_after_the_session() -> None:
    with Session(64, 48, 2) as session:
        session.end("hr")
        session.send("lr", [np.full(s, 9, np.uint8) for s in ((24, 32), (12, 16), (12, 16))], 0)
        picture = session.receive()
    assert picture is not None
    planes = picture.planes
    del picture, session
    gc.collect()
    assert all((p == 9).all() for p in planes)


def test_opaque_comes_out_with_its_picture_and_is_let_go() -> None:
    class Token:
        pass

    with Session(64, 48, 2) as session:
        dropped, kept = Token(), Token()
        watch = weakref.ref(dropped)
        session.send("lr", arrays(32, 24), 0, opaque=dropped)
        session.send("lr", arrays(32, 24), 1, opaque="lr")
        session.send("hr", arrays(64, 48), 0, opaque=kept)
        session.end("hr")
        del dropped
        assert [p.opaque for p in session] == [kept, "lr"]
        gc.collect()
        assert watch() is None
        assert session.info.dropped_lr == 1


def test_opaques_of_two_threads_do_not_mix() -> None:
    times = {"hr": [0, 40], "lr": list(range(1, 40))}
    for _ in range(20):
        session = Session(64, 48, 2)
        start = threading.Barrier(3)

        def feed(role: str, session: Session = session, start: threading.Barrier = start) -> None:
            planes = arrays(64, 48) if role == "hr" else arrays(32, 24)
            start.wait()
            for pts in times[role]:
                assert session.send(role, planes, pts, opaque=(role, pts))
            session.end(role)

        feeders = [threading.Thread(target=feed, args=(role,)) for role in times]
        for t in feeders:
            t.start()
        start.wait()
        out = []
        while not session.ended:
            if (picture := session.receive()) is not None:
                out.append((picture.pts, picture.opaque))
        for t in feeders:
            t.join()
        assert out == [(t, ("lr" if t % 40 else "hr", t)) for t in range(41)]


def test_what_a_session_calls_may_not_call_it() -> None:
    """It would wait for itself."""
    session = Session(64, 48, 2)
    told: list[str] = []

    class Planes(list):  # type: ignore[type-arg]
        def __del__(self) -> None:
            try:
                session.info  # noqa: B018
            except RuntimeError as e:
                told.append(str(e))

    assert session.send("hr", Planes(arrays(64, 48)), 0)
    session.flush()
    gc.collect()
    assert len(told) == 1 and "the session is at work" in told[0]
    assert session.send("hr", arrays(64, 48), 0)
    assert session.info.passed == 0


def test_roles_may_be_the_enumeration() -> None:
    with Session(64, 48, 2) as session:
        session.send(Role.HR, arrays(64, 48), 0)
        session.end(Role.LR)
        assert [p.status for p in session] == ["passed"]
        with pytest.raises(ValueError, match='"hr" or "lr"'):
            session.send("middle", arrays(64, 48), 0)
        with pytest.raises(TypeError):
            session.send(3, arrays(64, 48), 0)  # type: ignore[arg-type]


def test_none_ends_a_stream_and_a_lost_picture_is_repeated() -> None:
    with Session(64, 48, 2) as session:
        planes = arrays(64, 48)
        session.send("hr", planes, 0)
        session.send_lost("hr", 1)
        session.send("hr", None)
        session.send("lr", None)
        out = list(session)
        assert [(p.pts, p.status) for p in out] == [(0, "passed"), (1, "repeated")]
        assert out[1].reason == {"lost"}
        assert same(out[1], planes)
        assert not np.shares_memory(out[1].planes[0], planes[0])
        assert session.receive() is None
        assert session.ended
        session.flush()
        assert not session.ended
        assert session.wants == {"hr", "lr"}


def test_corrupt_frames_say_so() -> None:
    picture = passed(arrays(64, 48))
    assert not picture.corrupt
    with Session(64, 48, 2) as session:
        session.send("hr", arrays(64, 48), 0, corrupt=True)
        session.end("lr")
        (picture,) = session
        assert picture.corrupt
        assert picture.reason == {"corrupt"}
        assert "corrupt" in repr(picture)


def test_errors_are_pythons_own_and_name_the_fault() -> None:
    with pytest.raises(ValueError, match="odd"):
        Session(63, 48, 2)
    with pytest.raises(ValueError, match="scale is 3"):
        Session(64, 48, 3)
    with pytest.raises(ValueError, match="bit_depth"):
        Session(64, 48, 2, 12)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        Session(64, 48, 2, model="nowhere.pt")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        _tds.model_metadata("nowhere.pt")
    with pytest.raises(RuntimeError, match="CPU only"):
        Session(64, 48, 2, device="cuda")
    with pytest.raises(ValueError, match="output_memory"):
        Session(64, 48, 2, output_memory="disk")
    with pytest.raises(NotImplementedError, match="CUDA"):
        Session(64, 48, 2, output_memory="cuda")
    with pytest.raises(NotImplementedError, match=r"libtds_tensorrt\.so"):
        _tds.backend_available("tensorrt")
    session = Session(64, 48, 2)
    with pytest.raises(ValueError, match="this session takes 64x48"):
        session.send("hr", arrays(32, 24), 0)
    with pytest.raises(ValueError, match="of 10 bits"):
        session.send("hr", arrays(64, 48, depth=10), 0)
    with pytest.raises(ValueError, match="does not fit"):
        session.send("hr", [*arrays(64, 48)[:2], np.zeros((24, 30), np.uint8)], 0)
    with pytest.raises(ValueError, match="uint8 or uint16"):
        session.send("hr", [p.astype(np.float32) for p in arrays(64, 48)], 0)
    with pytest.raises(ValueError, match="gaps"):
        session.send("hr", [np.zeros((48, 128), np.uint8)[:, ::2], *arrays(64, 48)[1:]], 0)
    with pytest.raises(ValueError, match="1 dimensions"):
        session.send("hr", [p.reshape(-1) for p in arrays(64, 48)], 0)
    with pytest.raises(ValueError, match="4 planes"):
        session.send("hr", [*arrays(64, 48), *arrays(64, 48)[:1]], 0)
    with pytest.raises(TypeError, match=r"av\.VideoFrame"):
        session.send("hr", "picture", 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rgb24"):
        session.send("hr", av.VideoFrame(64, 48, "rgb24"), 0)
    with pytest.raises(ValueError, match="give pts"):
        session.send("hr", arrays(64, 48))
    session.send("hr", arrays(64, 48), 5)
    with pytest.raises(ValueError, match="must increase"):
        session.send("hr", arrays(64, 48), 5)
    session.end("hr")
    with pytest.raises(ValueError, match="after the end"):
        session.send("hr", arrays(64, 48), 6)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.receive()


def test_times_are_whole_numbers_of_64_bits() -> None:
    """Whatever Python takes for an index is a time, and the ends of the range are too."""
    session = Session(64, 48, 2)
    for time in (1.5, "1", 2.0, np.float64(3)):
        with pytest.raises(TypeError, match="whole number"):
            session.send("hr", arrays(64, 48), time)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="whole number"):
            session.send_lost("hr", time)  # type: ignore[arg-type]
    for time in (1 << 70, -(1 << 63) - 1):
        with pytest.raises(OverflowError, match="64 bits"):
            session.send("hr", arrays(64, 48), time)
        with pytest.raises(OverflowError, match="64 bits"):
            session.send_lost("hr", time)
    assert session.send("hr", arrays(64, 48), np.int32(-5))
    assert session.send_lost("hr", np.int64(-4))
    assert session.send("hr", arrays(64, 48), (1 << 63) - 1)


def test_model_files_that_do_not_fit(tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("no model")
    for call in (lambda: Session(64, 48, 2, model=text), lambda: _tds.model_metadata(text)):
        with pytest.raises(ValueError, match=r"text\.pt: not a TorchScript archive"):
            call()
    with pytest.raises(ValueError, match=str(tmp_path)):
        _tds.model_metadata(tmp_path)


def test_metadata_of_what_torch_writes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    about = {"tds_model": 1, "name": "é", "version": "1", "scale": 4, "training": {"n": [1, None]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(torch.nn.Conv2d(3, 3, 3))
        path = tmp_path / "some model.pt"
        torch.jit.save(module, str(path), _extra_files={"tds.json": json.dumps(about)})
        assert _tds.model_metadata(path) == about
        bare = tmp_path / "bare.pt"
        torch.jit.save(module, str(bare))
        torch.save(module.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"without tds\.json"):
        _tds.model_metadata(bare)
    with pytest.raises(ValueError, match="not a TorchScript archive"):
        _tds.model_metadata(tmp_path / "weights.pt")


def test_log_messages_reach_the_caller(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    try:
        _tds.backend_available("torchscript")
    except NotImplementedError as e:
        pytest.skip(str(e))

    class First(torch.nn.Module):
        def forward(
            self,
            first: torch.Tensor,
            target: torch.Tensor,
            last: torch.Tensor,
            side: torch.Tensor,
        ) -> torch.Tensor:
            return first

    path = tmp_path / "first.pt"
    about = {"tds_model": 1, "name": "first", "version": "1", "scale": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(
            torch.jit.script(First()), str(path), _extra_files={"tds.json": json.dumps(about)}
        )
    said: list[tuple[str, str]] = []
    Session(64, 48, 2, 10, model=path, device="cpu", log=lambda *a: said.append(a)).close()
    assert said == [
        ("warning", "model first was not trained for 10-bit video: it runs, and may gain less")
    ]
    with caplog.at_level(logging.WARNING, "tds"):
        Session(64, 48, 2, 10, model=path, device="cpu").close()
    assert "not trained for 10-bit" in caplog.text


def test_a_log_function_that_raises_breaks_nothing(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    del recwarn

    def bad(level: str, message: str) -> None:
        raise KeyError(level)

    with Session(64, 48, 2, log=bad) as session:
        assert session.info.backend == "bicubic"


def test_threads_may_share_a_session() -> None:
    """Two feed, one receives: the order of calls is anyone's, every picture comes out once."""
    session = Session(64, 48, 2)
    streams = {"hr": range(0, 400, 4), "lr": [t for t in range(400) if t % 4]}
    room = threading.Condition()
    out: list[int] = []

    def feed(role: str) -> None:
        planes = arrays(64, 48) if role == "hr" else arrays(32, 24)
        for pts in streams[role]:
            with room:
                while not session.send(role, planes, pts):
                    room.wait(1)
                room.notify_all()
        with room:
            session.end(role)
            room.notify_all()

    feeders = [threading.Thread(target=feed, args=(role,)) for role in streams]
    for t in feeders:
        t.start()
    while not session.ended:
        picture = session.receive()
        with room:
            if picture is not None:
                out.append(picture.pts)
            elif not session.ended:
                room.wait(0.05)
            room.notify_all()
    for t in feeders:
        t.join()
    assert out == list(range(400))


def test_memory_does_not_grow_with_the_stream() -> None:
    """Frames that were sent are let go while the stream runs."""
    watched: list[weakref.ref[np.ndarray]] = []
    most = 0
    with Session(64, 48, 2) as session:
        for t in range(200):
            role = "lr" if t % 4 else "hr"
            planes = arrays(32, 24) if t % 4 else arrays(64, 48)
            watched.append(weakref.ref(planes[0]))
            assert session.send(role, planes, t)
            del planes
            for picture in session:
                del picture
            most = max(most, sum(w() is not None for w in watched))
    assert most <= 8


def test_sizes() -> None:
    assert tds._tds.lr_size(1080, 2) == 540
    assert tds._tds.scale_of(1920, 1080, 480, 270) == 4
    assert tds._tds.scale_of(1920, 1080, 480, 272) == 0
