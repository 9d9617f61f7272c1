# SPDX-License-Identifier: LGPL-2.1-or-later
"""The launcher: what it gives is what tds enhance gives, and every way a decoder
can fail ends it cleanly.

push_y4m stands where a patched decoder does (it reads y4m and speaks through the
same header); cat, head and ffmpeg stand where unpatched ones do.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from postdec_helpers import MakePair, Pair, Planes, child_with, running_with

import tds
import tools
from tds.errors import ExternalError, InputError, MissingError
from tds.media.programs import find_ffmpeg
from tds.plan import Boundaries, Role
from tds.postdec import PostdecSettings, postdec
from tds.two_files import lr_counts

NothingLeft = Callable[[Pair], None]
BICUBIC = tds.EnhanceSettings(backend="bicubic")


def settings(pair: Pair, decoder: str, **more: object) -> PostdecSettings:
    options: dict[str, object] = {"sidecar": pair.metadata, "timeout": 20.0, **more}
    return PostdecSettings(decoder=decoder, enhance=BICUBIC, **options)  # type: ignore[arg-type]


def drain(decoder: tds.Decoder) -> list[tuple[Planes, int, str]]:
    with decoder:
        return [(tuple(p.copy() for p in x.planes), x.pts, x.status) for x in decoder]


def run(pair: Pair, decoder: str, **more: object) -> list[tuple[Planes, int, str]]:
    return drain(postdec(str(pair.hr), str(pair.lr), settings(pair, decoder, **more)))


def reference(pair: Pair) -> list[tuple[Planes, int, str]]:
    return drain(tds.enhance(str(pair.hr), str(pair.lr), sidecar=pair.metadata, settings=BICUBIC))


def assert_same(a: list[tuple[Planes, int, str]], b: list[tuple[Planes, int, str]]) -> None:
    assert [(pts, status) for _, pts, status in a] == [(pts, status) for _, pts, status in b]
    for (x, pts, _), (y, _, _) in zip(a, b, strict=True):
        for p, q in zip(x, y, strict=True):
            assert np.array_equal(p, q), f"picture at {pts} differs"


# -- the same pictures --------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("boundaries", list(Boundaries))
@pytest.mark.parametrize("lead", [False, True])
def test_patched_decoders_give_what_enhance_gives(
    pusher: str,
    make_pair: MakePair,
    nothing_left: NothingLeft,
    depth: int,
    scale: int,
    boundaries: Boundaries,
    lead: bool,
) -> None:
    pair = make_pair(frames=14, depth=depth, scale=scale, boundaries=boundaries, lead=lead)
    got = run(pair, pusher)
    assert_same(got, reference(pair))
    assert len(got) == pair.frames
    for (planes, _, status), source, role in zip(got, pair.source, pair.roles, strict=True):
        assert (status == "passed") == (role is Role.HR)
        if role is Role.HR:
            assert all(np.array_equal(p, q) for p, q in zip(planes, source, strict=True))
    nothing_left(pair)


@pytest.mark.parametrize("size", [(66, 50), (100, 34), (18, 16)])
def test_sizes_that_are_no_multiple_of_k(
    pusher: str, make_pair: MakePair, size: tuple[int, int]
) -> None:
    pair = make_pair(size=size, scale=4)
    assert_same(run(pair, pusher), reference(pair))


@pytest.mark.parametrize(
    "command",
    [
        "cat {input}",
        "sh -c 'cat {input} > {output}'",
        "ffmpeg",
        "dd if={input} bs=1000 status=none",
    ],
)
@pytest.mark.parametrize("depth", [8, 10])
def test_unpatched_decoders_join_by_pipes_and_descriptors(
    make_pair: MakePair, nothing_left: NothingLeft, command: str, depth: int
) -> None:
    pair = make_pair(depth=depth)
    assert_same(run(pair, command), reference(pair))
    nothing_left(pair)


def test_a_decoder_that_writes_raw_yuv_is_read_by_the_sidecar(
    make_pair: MakePair,
) -> None:
    pair = make_pair()
    decoder = f"{find_ffmpeg()} -loglevel error -i {{input}} -f rawvideo -y {{output}}"
    assert_same(run(pair, decoder), reference(pair))


@pytest.mark.parametrize("sidecar", [None, 8, 10])
@pytest.mark.parametrize("depth", [8, 10])
def test_an_unpatched_decoder_is_told_the_depth_of_the_stream(
    make_pair: MakePair, tmp_path: Path, depth: int, sidecar: int | None
) -> None:
    """Its raw output says nothing of it: without -d, 10 bits were read as twice the pictures."""
    pair = make_pair(depth=depth)
    streams = []
    for source in (pair.hr, pair.lr):
        streams.append(source.with_suffix(".265"))
        tools.ffmpeg(
            *("-i", source, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params"),
            *("lossless=1:log-level=none", "-f", "hevc", streams[-1]),
        )
    program = tmp_path / "TAppDecoder"
    program.write_text(
        "#!/bin/sh\n[ $1 = --help ] && exit\n"
        "case $6 in 8) format=yuv420p;; 10) format=yuv420p10le;; *) exit 2;; esac\n"
        f'exec {tools.FFMPEG} -loglevel error -i "$2" -f rawvideo -pix_fmt $format -y "$4"\n'
    )
    program.chmod(0o755)
    times: dict[str, object] = {"plan": tds.RegularPlan(5), "size": (64, 48), "sidecar": None}
    if sidecar is not None:
        times = {"sidecar": dataclasses.replace(pair.metadata, bit_depth=sidecar)}
    options = settings(pair, "hm", decoder_path=str(program), **times)
    assert_same(drain(postdec(*map(str, streams), options)), reference(pair))


def test_raw_yuv_of_another_depth_is_told_so(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair(depth=10)
    sidecar = dataclasses.replace(pair.metadata, bit_depth=8)
    decoder = f"{find_ffmpeg()} -loglevel error -i {{input}} -f rawvideo -y {{output}}"
    with pytest.raises(InputError, match=r"raw yuv of another depth.*`bit_depth`"):
        run(pair, decoder, sidecar=sidecar)
    assert_same(run(pair, decoder, sidecar=sidecar, bit_depth=10), reference(pair))


def test_an_error_s_own_line_is_what_is_told_of_a_log(make_pair: MakePair, tmp_path: Path) -> None:
    """VTM and HM end with their use of time and memory, whatever happened."""
    pair = make_pair()
    program = tmp_path / "decoder"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'POC    0 LId:  0 TId: 0 ( IDR_W_RADL, I-SLICE, QP 32 )'\n"
        "echo\n"
        "echo \"ERROR: In function 'decode' in DecApp.cpp:88: bitstream file not read\" >&2\n"
        "echo ' finished @ Thu Jan  1'\n"
        "echo ' Total Time:  0.1 sec. [user]  0.2 sec. [elapsed]'\n"
        "echo ' Used memory (peak): 10 MB'\n"
        "exit 1\n"
    )
    program.chmod(0o755)
    with pytest.raises(ExternalError, match=r"its last words: ERROR: In function.*not read$"):
        run(pair, f"{program} {{input}} {{output}}")


def test_more_arguments_may_name_the_stream(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair()
    program = tmp_path / "cat_and_note"
    program.write_text(f'#!/bin/sh\ncat "$1"; shift; echo "$@" > {tmp_path}/noted.$1\n')
    program.chmod(0o755)
    arguments = ("{role}", "log-of-{role}", "{input}.txt")
    run(pair, f"{program} {{input}}", decoder_arguments=arguments)
    for role, source in (("hr", pair.hr), ("lr", pair.lr)):
        noted = (tmp_path / f"noted.{role}").read_text().strip()
        assert noted == f"{role} log-of-{role} {source}.txt"


def test_fifos_fed_by_someone_else(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair(frames=20)
    fifos = [tmp_path / "a.fifo", tmp_path / "b.fifo"]
    for fifo, source in zip(fifos, (pair.hr, pair.lr), strict=True):
        os.mkfifo(fifo)
        subprocess.Popen(["sh", "-c", f"sleep 0.3; cat {source} > {fifo}"])
    got = drain(postdec(str(fifos[0]), str(fifos[1]), settings(pair, "none")))
    assert_same(got, reference(pair))


def test_decoders_started_by_someone_else_connect_to_a_socket(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft
) -> None:
    pair = make_pair()
    path = pair.folder / "s"
    program = pusher.split()[0]

    def start() -> None:
        while not path.exists():
            time.sleep(0.02)
        for role, source in (("lr", pair.lr), ("hr", pair.hr)):
            subprocess.Popen([program, f"unix:{path}", role, str(source)])

    thread = threading.Thread(target=start)
    thread.start()
    got = drain(postdec(settings=settings(pair, "none", listen=str(path))))
    thread.join()
    assert_same(got, reference(pair))
    assert not path.exists()


def test_nobody_who_connects_is_an_error_and_leaves_no_socket(
    make_pair: MakePair,
) -> None:
    pair = make_pair()
    path = pair.folder / "s"
    with pytest.raises(ExternalError, match="no two decoders connected"):
        postdec(settings=settings(pair, "none", listen=str(path), timeout=0.3))
    assert not path.exists()


def test_what_lies_at_the_socket_path_is_left_alone(make_pair: MakePair) -> None:
    pair = make_pair()
    path = pair.folder / "sock.txt"
    path.write_text("mine")
    with pytest.raises(InputError, match="something at that path"):
        postdec(settings=settings(pair, "none", listen=str(path)))
    assert path.read_text() == "mine"


def test_a_regular_plan_stands_in_for_the_sidecar(pusher: str, make_pair: MakePair) -> None:
    pair = make_pair(frames=13)
    plan = tds.RegularPlan(5, Boundaries.INDEPENDENT)
    got = run(pair, pusher, sidecar=None, plan=plan)
    assert [x[2] for x in got] == [x[2] for x in reference(pair)]
    assert [x[1] for x in got] == list(range(13))


# -- order and back-pressure --------------------------------------------------


def with_plan(pair: Pair, **plan: object) -> PostdecSettings:
    return PostdecSettings(
        decoder="none",
        plan=tds.RegularPlan(**{"group": 5, **plan}),  # type: ignore[arg-type]
        enhance=BICUBIC,
    )


SHARED, INDEPENDENT = Boundaries.SHARED, Boundaries.INDEPENDENT


@pytest.mark.parametrize(
    "coded, given, says",
    [
        (
            {"frames": 25, "lead": True},
            {},
            "10 HR pictures make 12 to 15 LR in groups of 5 with independent boundaries, and 16 "
            "came; is `lead=True` missing?",
        ),
        ({"frames": 23}, {"group": 7}, "20 to 25 LR in groups of 7.* and 13 came; is it `group` 5"),
        (
            {"frames": 21, "boundaries": SHARED},
            {},
            "6 HR pictures make 6 to 9 LR .*, and 15 came; are the boundaries shared?",
        ),
        (
            {"frames": 25},
            {"boundaries": SHARED},
            "10 HR pictures make 24 to 27 LR in groups of 5 with shared .* are the boundaries "
            "independent?",
        ),
        ({"frames": 26}, {"lead": True}, "11 HR pictures make 16 LR, .*15 came; is there no lead?"),
        ({"frames": 4}, {"group": 3, "boundaries": SHARED}, "2 HR pictures make 0 to 1 LR"),
    ],
)
def test_a_plan_that_the_streams_are_not_of_is_refused(
    make_pair: MakePair, coded: dict[str, object], given: dict[str, object], says: str
) -> None:
    """Such a run used to give a video of the wrong times and to say nothing."""
    pair = make_pair(**coded)
    with pytest.raises(InputError, match=says):
        drain(postdec(str(pair.hr), str(pair.lr), with_plan(pair, **given)))
    options = {k: v for k, v in coded.items() if k != "frames"}
    right = drain(postdec(str(pair.hr), str(pair.lr), with_plan(pair, **options)))
    assert [pts for _, pts, _ in right] == list(range(pair.frames))
    plan = tds.RegularPlan(**{"group": 5, **given})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=says):
        drain(tds.enhance(str(pair.hr), str(pair.lr), plan=plan, settings=BICUBIC))


@pytest.mark.parametrize("boundaries", [SHARED, INDEPENDENT])
@pytest.mark.parametrize("frames", range(3, 18))
def test_streams_of_every_length_are_of_their_plan(
    make_pair: MakePair, frames: int, boundaries: Boundaries
) -> None:
    for lead in (False, True):
        pair = make_pair(frames=frames, boundaries=boundaries, lead=lead)
        least, most = lr_counts(
            pair.roles.count(Role.HR), tds.RegularPlan(5, boundaries, lead=lead)
        )
        assert least <= pair.roles.count(Role.LR) + lead <= most


@pytest.mark.parametrize("slow", [Role.HR, Role.LR])
def test_one_stream_may_end_before_the_other_starts(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft, slow: Role
) -> None:
    pair = make_pair(frames=20)
    delay = f"sh -c 'if [ {{role}} = {slow.value} ]; then sleep 1; fi; exec {pusher}'"
    assert_same(run(pair, delay), reference(pair))
    nothing_left(pair)


def test_both_streams_slow_lose_nothing(pusher: str, make_pair: MakePair) -> None:
    pair = make_pair(frames=15)
    assert_same(run(pair, f"{pusher} slow=10"), reference(pair))


def test_a_slow_reader_of_the_output_stops_the_decoders_not_the_run(
    pusher: str, make_pair: MakePair
) -> None:
    pair = make_pair(frames=400, size=(256, 256))
    with postdec(str(pair.hr), str(pair.lr), settings(pair, pusher, timeout=2.0)) as decoder:
        first = next(decoder)
        assert first.pts == 0
        time.sleep(4)  # longer than the time-out: waiting for us is no hanging
        assert sum(1 for _ in decoder) == 399


# -- what can go wrong --------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("die=1", "was killed by signal 9 (SIGKILL)"),
        ("die=0", "before its first picture was whole"),
        ("exit=1", "exited with status 3; its last words: push_y4m: asked to give up"),
        ("half=1", "in the middle of picture 1"),
        ("hang=1", "wrote nothing for 3 s, after 1 picture"),
        ("hang=0", "wrote nothing for 3 s, before its first picture"),
        ("fail=1", "gave up: asked to give up"),
        ("late=0", "exited with status 4"),
    ],
)
def test_a_decoder_that_fails_is_named_and_everything_ends(
    pusher: str,
    make_pair: MakePair,
    nothing_left: NothingLeft,
    role: Role,
    fault: str,
    what: str,
) -> None:
    pair = make_pair(frames=20)
    other = f"if [ {{role}} = {role.value} ]; then exec {pusher} {fault}; else exec {pusher}; fi"
    begun = time.monotonic()
    with pytest.raises(ExternalError) as e:
        run(pair, f'sh -c "{other}"', timeout=3.0 if "hang" in fault else 20.0)
    assert time.monotonic() - begun < 20
    assert f"the {role.name} decoder" in str(e.value)
    assert what in str(e.value)
    nothing_left(pair)


@pytest.mark.parametrize("role", list(Role))
def test_a_decoder_killed_from_outside_is_named(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft, role: Role
) -> None:
    pair = make_pair(frames=60)
    with postdec(str(pair.hr), str(pair.lr), settings(pair, f"{pusher} slow=30")) as decoder:
        next(decoder)
        os.kill(child_with(f" {role.value} "), signal.SIGKILL)
        with pytest.raises(ExternalError, match=rf"the {role.name} decoder .*SIGKILL"):
            list(decoder)
    nothing_left(pair)


def test_ctrl_c_while_a_decoder_is_being_started_leaves_none_running(
    make_pair: MakePair, nothing_left: NothingLeft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the program runs already, and who started it has not been told of it."""
    real, started = subprocess.Popen, []

    class Interrupted(real):  # type: ignore[valid-type,misc]
        def __init__(self, *words: object, **options: object) -> None:
            super().__init__(*words, **options)
            started.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    pair = make_pair(frames=9)
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    # Who starts tests in the background may have told them to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            postdec(str(pair.hr), str(pair.lr), settings(pair, "sh -c 'exec sleep 600' {input}"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(started) == 1 and not Path(f"/proc/{started[0]}").exists()
    nothing_left(pair)


def test_a_decoder_stopped_by_sigstop_counts_as_hanging(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft
) -> None:
    pair = make_pair(frames=200)
    wanted = settings(pair, f"{pusher} slow=30", timeout=3.0)
    with postdec(str(pair.hr), str(pair.lr), wanted) as decoder:
        next(decoder)
        os.kill(child_with(" hr "), signal.SIGSTOP)
        with pytest.raises(ExternalError, match=r"the HR decoder .* wrote nothing for 3 s"):
            list(decoder)
    nothing_left(pair)


def test_half_a_y4m_picture_names_the_decoder(
    make_pair: MakePair, nothing_left: NothingLeft
) -> None:
    pair = make_pair()
    with pytest.raises(ExternalError, match=r"the HR decoder \(head\) ended in the middle"):
        run(pair, "head -c 6000 {input}")
    nothing_left(pair)


def test_a_decoder_that_gives_nothing(make_pair: MakePair, nothing_left: NothingLeft) -> None:
    pair = make_pair()
    with pytest.raises(ExternalError, match=r"the HR decoder \(true\)"):
        run(pair, "true {input}")
    nothing_left(pair)


def test_children_of_a_decoder_end_with_it(make_pair: MakePair, nothing_left: NothingLeft) -> None:
    pair = make_pair()
    with pytest.raises(ExternalError, match="wrote nothing"):
        run(pair, "sh -c 'tail -f {input} | sleep 100'", timeout=0.5)
    nothing_left(pair)


def test_leaving_early_ends_the_decoders(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft
) -> None:
    pair = make_pair(frames=400, size=(256, 256))
    begun = time.monotonic()
    with postdec(str(pair.hr), str(pair.lr), settings(pair, pusher)) as decoder:
        next(decoder)
    assert time.monotonic() - begun < 10
    nothing_left(pair)


def test_closing_twice_is_closing_once(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft
) -> None:
    pair = make_pair(frames=20)
    decoder = postdec(str(pair.hr), str(pair.lr), settings(pair, pusher))
    with decoder:
        next(decoder)
    decoder.close()
    decoder.close()
    nothing_left(pair)


def test_streams_the_wrong_way_round(pusher: str, make_pair: MakePair) -> None:
    pair = make_pair()
    with pytest.raises(InputError, match="the wrong way round"):
        drain(postdec(str(pair.lr), str(pair.hr), settings(pair, pusher)))


def test_a_sidecar_of_another_video(pusher: str, make_pair: MakePair) -> None:
    other = make_pair(frames=7).metadata
    pair = make_pair(frames=20)
    with pytest.raises(InputError, match="do not belong together"):
        run(pair, pusher, sidecar=other)


@pytest.mark.parametrize(
    ("decoder", "error", "what"),
    [
        ("nothing", InputError, "no decoder 'nothing'"),
        ("no-such-program {input}", MissingError, "no such program"),
        ("cat '{input}", InputError, "`decoder` cat '.*: no closing quotation"),
    ],
)
def test_decoders_that_are_none(
    make_pair: MakePair, decoder: str, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        run(make_pair(), decoder)


def test_no_times_at_all(pusher: str, make_pair: MakePair) -> None:
    with pytest.raises(InputError, match="`sidecar`"):
        run(make_pair(), pusher, sidecar=None)


# -- the command line ---------------------------------------------------------


def command(pair: Pair, decoder: str, output: str, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tds", "postdec", "--decoder", decoder),
        *("--hr", str(pair.hr), "--lr", str(pair.lr), "--sidecar", str(pair.sidecar)),
        *("--backend", "bicubic", "-q", *more, output),
    ]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("depth", [8, 10])
def test_files_and_pipes_have_the_same_bytes(pusher: str, make_pair: MakePair, depth: int) -> None:
    pair = make_pair(depth=depth)
    out = pair.folder / "out.y4m"
    subprocess.run(command(pair, pusher, str(out)), check=True, timeout=60)
    piped = subprocess.run(
        command(pair, pusher, "-"), check=True, timeout=60, stdout=subprocess.PIPE
    ).stdout
    assert piped == out.read_bytes()
    subprocess.run(command(pair, pusher, str(pair.folder / "out.yuv")), check=True, timeout=60)
    size = 64 * 48 * 3 // 2 * (1 if depth == 8 else 2)
    assert (pair.folder / "out.yuv").stat().st_size == size * pair.frames


def test_a_line_is_logged_for_each_picture(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair(frames=12)
    log = tmp_path / "log.csv"
    out = str(tmp_path / "out.y4m")
    subprocess.run([*command(pair, "none", out), "--log", str(log)], check=True)
    with log.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["frame"]) for line in lines] == list(range(12))
    assert [float(line["seconds"]) for line in lines] == [i / 25 for i in range(12)]
    ways = ["passed" if role is Role.HR else "upsampled" for role in pair.roles]
    assert [line["status"] for line in lines] == ways
    done = subprocess.run(
        [*command(pair, "none", out), "--overwrite", "--log", out], capture_output=True, text=True
    )
    assert done.returncode == 1 and "out.y4m is the" in done.stderr


@pytest.mark.parametrize("depth, wanted", [(10, 8), (8, 10), (8, 8)])
@pytest.mark.parametrize("suffix", [".yuv", ".mkv"])
def test_the_output_has_the_depth_that_is_asked_for(
    make_pair: MakePair, tmp_path: Path, depth: int, wanted: int, suffix: str
) -> None:
    """As VTM's and HM's -d: a source of 8 bits is coded at 10 by the common test conditions."""
    pair = make_pair(depth=depth, scale=1)
    out = tmp_path / f"out{suffix}"
    codec = ["--vcodec", "ffv1"] if suffix == ".mkv" else []
    more = ["--output-bit-depth", str(wanted), *codec]
    subprocess.run([*command(pair, "none", str(out)), *more], check=True)
    name = "yuv420p" if wanted == 8 else "yuv420p10le"
    raw = () if suffix == ".mkv" else ("-f", "rawvideo", "-pix_fmt", name, "-s", "64x48")
    back = tmp_path / "back.yuv"
    tools.ffmpeg(*raw, "-i", out, "-f", "rawvideo", "-pix_fmt", name, back)
    got = np.fromfile(back, np.uint8 if wanted == 8 else np.uint16)
    samples = np.concatenate([p.ravel() for planes in pair.source for p in planes]).astype(int)
    if wanted < depth:
        samples = np.minimum((samples + 2) >> 2, 255)
    elif wanted > depth:
        samples = samples << 2
    assert np.array_equal(got, samples)


def test_a_reader_of_our_pipe_that_goes_away_ends_everything(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft
) -> None:
    pair = make_pair(frames=400, size=(256, 256))
    process = subprocess.Popen(command(pair, pusher, "-"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(100_000)
    process.stdout.close()
    assert process.wait(20) == 141  # as a shell says it of a program ended by SIGPIPE
    nothing_left(pair)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ending_the_launcher_ends_the_decoders(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft, sent: signal.Signals
) -> None:
    pair = make_pair(frames=100)
    out = pair.folder / "out.y4m"
    process = subprocess.Popen(
        command(pair, f"{pusher} slow=100", str(out)), preexec_fn=tools.interruptible
    )
    deadline = time.monotonic() + 20
    while len(running_with(f"hr {pair.hr} slow")) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(sent)
    assert process.wait(20) in (130, 143)
    assert not out.exists()
    nothing_left(pair)


def test_killing_the_launcher_ends_the_decoders(pusher: str, make_pair: MakePair) -> None:
    pair = make_pair(frames=2000)
    process = subprocess.Popen(command(pair, f"{pusher} slow=20", "-"), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not running_with(f"hr {pair.hr} slow") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    while running_with(str(pair.hr)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running_with(str(pair.hr)) == []


def test_a_failure_is_one_sentence_and_leaves_no_output(
    pusher: str, make_pair: MakePair, nothing_left: NothingLeft
) -> None:
    pair = make_pair(frames=20)
    out = pair.folder / "out.y4m"
    done = subprocess.run(
        command(pair, f"{pusher} die=2", str(out)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "decoder (push_y4m) ended after" in done.stderr
    assert not out.exists()
    nothing_left(pair)


def test_faults_of_the_command_line_are_named(make_pair: MakePair) -> None:
    pair = make_pair()
    out = str(pair.folder / "out.y4m")
    for decoder, more, says in (
        ("none", ("--hr", str(pair.folder)), f"{pair.folder} is a folder"),
        ("ffmpeg", ("--lr", str(pair.folder)), f"{pair.folder} is a folder"),
        ("ffmpeg", ("--decoder-args", "'x"), "--decoder-args 'x: no closing quotation"),
    ):
        done = subprocess.run(
            [*command(pair, decoder, out), *more], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert says in done.stderr
