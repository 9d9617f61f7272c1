# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pairs as HLS and DASH (docs/streaming.md): written by `tds package`, played from files and over
HTTP by `tds decode`; what a plain player shows; servers and folders with faults."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import av
import pytest

import tds
import tools
from tds.media import manifests, opening

MANIFESTS = ("master.m3u8", "manifest.mpd")


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder. Whoever asks for what is in ``stuck`` waits."""

    stuck: str = ""
    free = threading.Event()
    begun = 0.0
    """When the playlists of media began to be written, a segment a second; 0: they are whole."""

    def do_GET(self) -> None:
        if self.stuck and self.stuck in self.path:
            self.free.wait(60)
        if self.begun and self.path.endswith(("hr.m3u8", "lr.m3u8", "sound0.m3u8")):
            self._so_far()
            return
        with contextlib.suppress(ConnectionError):  # the reader has left
            super().do_GET()

    def _so_far(self) -> None:
        text = Path(self.translate_path(self.path)).read_text().replace(":VOD", ":EVENT")
        segments = re.findall(r"#EXTINF.*\n.*\n", text)
        there = segments[: 1 + int(time.monotonic() - self.begun)]
        end = "#EXT-X-ENDLIST\n" if len(there) == len(segments) else ""
        data = (text.partition("#EXTINF")[0] + "".join(there) + end).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """``serve(folder)``: the address of a web server of it."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(Handler, directory=str(folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    Handler.free.set()
    for server in servers:
        server.shutdown()
        server.server_close()
    Handler.stuck, Handler.begun = "", 0.0
    Handler.free.clear()


@pytest.fixture(scope="module")
def pair(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All-intra, with sound, and with a cut to another scene within what would be a group."""
    folder = tmp_path_factory.mktemp("pair")
    source, out = folder / "in.mp4", folder / "pair.mp4"
    tools.ffmpeg(
        *("-i", small, "-f", "lavfi", "-i", "sine=d=1", "-vf"),
        *("negate=enable='gte(n,10)',hflip=enable='gte(n,10)'", "-c:v", "libx264", "-qp", 10),
        *("-c:a", "aac", source),
    )
    tds.encode(source, out, codec="hevc", preset="ultrafast", qp=37, plan="tds")
    return out


@pytest.fixture(scope="module")
def web(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "web"
    tools.tds("package", pair, folder, "--seconds", 0.3)
    return folder


def shown(path: Path | str) -> list[tuple[Fraction, str, frozenset[str], str]]:
    with tds.decode(path, backend="bicubic") as pictures:
        unit = pictures.time_base
        return [(p.pts * unit, p.status, p.reason, tools.digest(list(p.planes))) for p in pictures]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_every_picture_is_that_of_the_file_from_a_folder_and_over_http(
    pair: Path, web: Path, serve: Callable[[Path], str], manifest: str
) -> None:
    expected = shown(pair)
    assert len(expected) == 25
    assert shown(web / manifest) == expected
    assert shown(f"{serve(web)}/{manifest}") == expected


@pytest.mark.parametrize(("codec", "config"), [("hevc", "ra"), ("vvc", "ai"), ("av1", "ra")])
def test_codecs_and_configurations(
    coded: Callable[..., tds.EncodeResult], tmp_path: Path, codec: str, config: str
) -> None:
    source = coded(codec=codec, config=config, intra_period=8).path
    tools.tds("package", source, tmp_path / "web", "--seconds", 0.2)
    expected = shown(source)
    for manifest in MANIFESTS:
        assert shown(tmp_path / "web" / manifest) == expected
    assert len(list((tmp_path / "web" / "hr").glob("*.m4s"))) > 1


def test_a_playlist_of_this_machine_may_name_segments_of_the_web(
    coded: Callable[..., tds.EncodeResult], serve: Callable[[Path], str], tmp_path: Path
) -> None:
    """Of VVC, which another program decodes where PyAV's FFmpeg does it wrongly."""
    source = coded(codec="vvc", config="ai", intra_period=8).path
    tools.tds("package", source, tmp_path / "web", "--seconds", 0.2)
    here = tmp_path / "here"
    here.mkdir()
    address = serve(tmp_path / "web")
    for playlist in (tmp_path / "web").glob("*.m3u8"):
        text = re.sub("(hr|lr)/", f"{address}/\\1/", playlist.read_text())
        (here / playlist.name).write_text(text)
    assert shown(here / "master.m3u8") == shown(source)


def test_one_stream_and_transport_streams_are_packaged_too(
    coded: Callable[..., tds.EncodeResult], small: Path, tmp_path: Path
) -> None:
    plain = coded(codec="hevc", plan="plain", config="ai").path
    tools.tds("package", plain, tmp_path / "plain", "--seconds", 0.4)
    assert shown(tmp_path / "plain/master.m3u8") == shown(plain)
    stream = tmp_path / "pair.ts"
    tds.encode(small, stream, codec="h264", preset="ultrafast", qp=37, plan="tds")
    tools.tds("package", stream, tmp_path / "ts", "--seconds", 0.4)
    assert shown(tmp_path / "ts/manifest.mpd") == shown(stream)


def segment(web: Path, track: str, number: int, folder: Path) -> list[av.Packet[object]]:
    """The packets of one segment, as a player has them that begins with it."""
    alone = folder / "alone.mp4"
    alone.write_bytes(
        (web / track / "init.mp4").read_bytes()
        + (web / track / f"segment_{number:05d}.m4s").read_bytes()
    )
    with av.open(str(alone)) as container:
        return [p for p in container.demux() if p.size]


def test_segments_of_both_tracks_begin_where_a_group_does(
    pair: Path, web: Path, tmp_path: Path
) -> None:
    with tds.PairedFile(pair) as file:
        assert file.metadata is not None
        roles = list(file.metadata.roles())
    groups = {
        i
        for i, role in enumerate(roles)
        if role is tds.Role.HR and roles[i + 1 : i + 2] == [tds.Role.LR]
    }
    assert len({b - a for a, b in zip(sorted(groups), sorted(groups)[1:], strict=False)}) > 1
    numbers = range(1, 1 + len(list((web / "hr").glob("*.m4s"))))
    assert len(numbers) == len(list((web / "lr").glob("*.m4s"))) >= 3
    for number in numbers:
        hr, lr = (segment(web, track, number, tmp_path)[0] for track in ("hr", "lr"))
        assert hr.is_keyframe
        assert lr.is_keyframe
        frame = hr.pts * hr.time_base * 25
        assert frame in groups
        assert lr.pts * lr.time_base * 25 == frame + 1


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_plain_player_shows_hr_at_its_times_with_its_sound(
    pair: Path, web: Path, manifest: str
) -> None:
    # FFmpeg's DASH gives the last segment twice of what it has read to the end while looking at it.
    short = ("-analyzeduration", 1000) if manifest == "manifest.mpd" else ()
    at = ("-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "1:12800")
    once = [*short, "-i", web / manifest]
    coded = ("-f", "framemd5", "-")
    assert tools.ffmpeg(*once, *at, *coded) == tools.ffmpeg("-i", pair, *at, *coded)
    # But for the packet before the first picture, of which there is no place in a segment.
    sound = ("-map", "0:a", "-c", "copy", "-f", "framemd5", "-")
    packets = [
        [s.split(",")[:6] for s in tools.ffmpeg(*source, *sound).splitlines() if s[0] == "0"]
        for source in (once, ("-i", pair))
    ]
    assert packets[0] == [fields for fields in packets[1] if "-1024" not in "".join(fields)]


def test_manifests_say_that_lr_depends_on_hr(web: Path) -> None:
    names, each = {"": "urn:mpeg:dash:schema:mpd:2011"}, ".//Representation"
    root = ElementTree.parse(web / "manifest.mpd").getroot()
    depends = {r.get("id"): r.get("dependencyId") for r in root.iterfind(each, names)}
    assert depends == {"hr": None, "lr": "hr", "sound0": None}
    # A player that does not know the property leaves the whole set out.
    marked = root.findall(".//AdaptationSet/EssentialProperty/../Representation", names)
    assert [r.get("id") for r in marked] == ["lr"]
    for r in root.iterfind(each, names):
        assert re.match(r"hvc1\.1\.6\.L\d+\.|mp4a\.40\.2", r.get("codecs", ""))
    master = (web / "master.m3u8").read_text()
    assert len(re.findall("^#EXT-X-STREAM-INF", master, re.M)) == 1
    assert re.search(r'NAME="TDS LR",DEFAULT=NO,AUTOSELECT=NO,URI="lr.m3u8"', master)


def test_sound_comes_along_out_of_a_playlist(
    web: Path, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    tools.tds("decode", f"{serve(web)}/master.m3u8", out, "--backend", "bicubic")
    with av.open(str(out)) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]
        sound = container.streams.audio[0]
        assert sound.duration is not None
        assert sound.time_base is not None
        assert abs(sound.duration * sound.time_base - 1) < 0.05


def test_a_playlist_that_is_still_written_is_followed_to_its_end(
    web: Path, serve: Callable[[Path], str]
) -> None:
    address = f"{serve(web)}/master.m3u8"
    Handler.begun = time.monotonic()
    assert shown(address) == shown(web / "master.m3u8")


def test_its_sound_comes_along(web: Path, serve: Callable[[Path], str], tmp_path: Path) -> None:
    address = f"{serve(web)}/master.m3u8"
    outs = [tmp_path / "live.mkv", tmp_path / "whole.mkv"]
    tools.tds("decode", address, outs[1], "--backend", "bicubic")
    Handler.begun = time.monotonic()
    tools.tds("decode", address, outs[0], "--backend", "bicubic")
    sound = ("-map", "0:a", "-c", "copy", "-f", "framemd5", "-")
    live, whole = (tools.ffmpeg("-copyts", "-i", out, *sound) for out in outs)
    assert live == whole
    assert tools.pictures(outs[0]) == tools.pictures(outs[1])


def test_one_that_is_no_longer_written_is_waited_for_so_long(web: Path, tmp_path: Path) -> None:
    left = shutil.copytree(web, tmp_path / "left")
    for name in ("hr.m3u8", "lr.m3u8"):
        text = (left / name).read_text()
        (left / name).write_text(text.replace("#EXT-X-ENDLIST\n", ""))
    with tds.decode(left / "master.m3u8", backend="bicubic", timeout=3) as pictures:
        assert sum(1 for _ in pictures) == 25
        assert any("nothing came from there for 3 s" in notice for notice in pictures.notices)
    tds.media.opening.wait_at_most(30)


def test_who_leaves_while_the_next_segment_is_waited_for_takes_nothing_from_the_reader(
    coded: Callable[..., tds.EncodeResult], tmp_path: Path
) -> None:
    """In a process of its own, since FFmpeg would end it."""
    web = tmp_path / "web"
    tools.tds("package", coded(codec="hevc", plan="plain", config="ai").path, web)
    playlist = web / "hr.m3u8"
    playlist.write_text(playlist.read_text().replace("#EXT-X-ENDLIST\n", ""))
    script = (
        "import sys, threading, time, tds\n"
        "from tds import arrivals\n"
        "arrivals._Feed.join = lambda feed: feed._thread.join(0.1)\n"
        "pictures = tds.decode(sys.argv[1], backend='bicubic', timeout=5)\n"
        "threading.Thread(target=list, args=(pictures,), daemon=True).start()\n"
        "time.sleep(2)\n"
        "reader = next(t for t in threading.enumerate() if t.name == 'decode hr')\n"
        "pictures.close()\n"
        "assert reader.is_alive()\n"
        "reader.join(20)\n"
        "assert not reader.is_alive()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(web / "master.m3u8")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("plan", ["tds", "plain-enhanced"])
def test_pictures_that_do_not_come_are_not_waited_for_with_each_packet_of_sound(
    pair: Path, tmp_path: Path, plan: str
) -> None:
    """Silence is the end, of one stream as of two."""
    coded, left, out = tmp_path / "coded.mp4", tmp_path / "left", tmp_path / "o.mkv"
    options = ("--codec", "hevc", "--preset", "ultrafast", "--qp", 37, "--plan", plan)
    strength = ("--strength", 0) if plan == "plain-enhanced" else ()
    tools.tds("encode", pair.with_name("in.mp4"), coded, *options, *strength)
    tools.tds("package", coded, left, "--seconds", 0.3)
    for playlist in {left / "hr.m3u8", *left.glob("lr.m3u8")}:
        text = playlist.read_text()
        playlist.write_text(text.rpartition("#EXTINF")[0])
    begun = time.monotonic()
    master = left / "master.m3u8"
    said = tools.tds("decode", master, out, "--backend", "bicubic", "--timeout", 1).stderr
    assert "nothing came from there for 1 s" in said and "what came before is shown" in said
    assert time.monotonic() - begun < 15
    last = int(re.findall(r"segment_0*(\d+)", (left / "hr.m3u8").read_text())[-1])
    assert len(tools.times(out)) >= 25 * 0.3 * last - 1


def test_what_is_in_it_is_told_by_info(web: Path) -> None:
    said = tools.tds("info", web / "manifest.mpd").stdout
    assert "25 frames, k = 2" in said
    assert "decodes whole" in said


# ------------------------------------------------------------------ bad input --


@pytest.mark.parametrize("manifest", MANIFESTS)
@pytest.mark.parametrize("track", ["hr", "lr"])
def test_a_segment_that_is_gone_costs_its_pictures(
    web: Path, tmp_path: Path, manifest: str, track: str
) -> None:
    bad = shutil.copytree(web, tmp_path / "bad")
    (bad / track / "segment_00002.m4s").unlink()
    whole, got = shown(web / manifest), shown(bad / manifest)
    assert [time for time, *_ in got] == [time for time, *_ in whole]
    hurt = [time for time, _, reason, _ in got if reason & {"lost", "ref-lost"}]
    assert hurt
    assert Fraction(1, 5) <= min(hurt) <= max(hurt) < Fraction(3, 4)
    said = tools.tds("decode", bad / manifest, tmp_path / "o.y4m", "--backend", "bicubic").stderr
    assert "pictures of the plan are missing" in said


def test_a_track_out_of_step_costs_what_is_missing(web: Path, tmp_path: Path) -> None:
    bad = shutil.copytree(web, tmp_path / "bad")
    playlist = bad / "lr.m3u8"
    playlist.write_text(re.sub(r"#EXTINF.*\n.*00001.m4s\n", "", playlist.read_text()))
    whole, got = shown(web / "master.m3u8"), shown(bad / "master.m3u8")
    assert [time for time, *_ in got] == [time for time, *_ in whole]
    assert [entry for entry in got if entry[0] > 0.5] == [
        entry for entry in whole if entry[0] > 0.5
    ]


@pytest.mark.parametrize(
    ("gone", "manifest", "sentence"),
    [
        ("lr.m3u8", "master.m3u8", "one of its two video tracks cannot be read"),
        ("lr", "master.m3u8", "cannot be read"),
        ("lr/init.mp4", "manifest.mpd", "cannot be read"),
        ("master.m3u8", "master.m3u8", "there is no such file"),
    ],
)
def test_what_is_missing_is_said(
    web: Path, serve: Callable[[Path], str], tmp_path: Path, gone: str, manifest: str, sentence: str
) -> None:
    bad = shutil.copytree(web, tmp_path / "bad")
    target = bad / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    done = tools.tds("decode", bad / manifest, tmp_path / "o.y4m", status=1)
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    done = tools.tds("decode", f"{serve(bad)}/{manifest}", tmp_path / "o.y4m", status=1)
    assert "cannot be read" in done.stderr
    assert not (tmp_path / "o.y4m").exists()


@pytest.mark.parametrize("stuck", ["master.m3u8", "hr.m3u8", "lr/segment_00003"])
def test_a_server_that_does_not_answer_is_waited_for_so_long(
    web: Path, serve: Callable[[Path], str], tmp_path: Path, stuck: str
) -> None:
    Handler.stuck = stuck
    begun = time.monotonic()
    done = tools.tds(
        *("decode", f"{serve(web)}/master.m3u8", tmp_path / "o.y4m", "--timeout", 0.5, "-q"),
        status=1,
    )
    assert time.monotonic() - begun < 30
    assert "nothing came from there for 0.5 s" in done.stderr
    assert "--timeout" in done.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<MPD", "is no DASH manifest"),
        ("<html/>", "is no DASH manifest"),
        ('<MPD type="dynamic"><Period/></MPD>', "live DASH manifest"),
        ("<MPD><Period/><Period/></MPD>", "2 periods"),
        (
            '<MPD><Period><AdaptationSet mimeType="video/mp4"><Representation id="a"><SegmentBase/>'
            "</Representation></AdaptationSet></Period></MPD>",
            "SegmentTemplate",
        ),
    ],
)
def test_manifests_that_are_not_understood(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "a.mpd"
    path.write_text(text)
    with pytest.raises(tds.InputError, match=sentence):
        tds.decode(path)


def test_a_manifest_from_elsewhere_opens_no_file_of_this_machine(
    web: Path, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    bad = shutil.copytree(web, tmp_path / "bad")
    for name in ("hr.m3u8", "manifest.mpd"):
        text = (bad / name).read_text()
        text = re.sub("hr/|\\$RepresentationID\\$/", f"file://{web}/hr/", text)
        (bad / name).write_text(text)
    address = serve(bad)
    for manifest in MANIFESTS:
        with pytest.raises(tds.InputError, match=r"cannot be read|is not read"):
            tds.decode(f"{address}/{manifest}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("<Period", "<BaseURL>file:///etc/</BaseURL><Period"), "not at an address of the web"),
        (("$RepresentationID$/", "http://x/&#10;file:///etc/"), "at no address"),
        (("$RepresentationID$/", "x" * 3000), "at no address"),
        (('d="', 'd="' + "9" * 400), "not understood"),
    ],
)
def test_a_hostile_manifest_is_refused(web: Path, change: tuple[str, str], sentence: str) -> None:
    text = (web / "manifest.mpd").read_text()
    assert change[0] in text
    with pytest.raises(tds.InputError, match=sentence):
        manifests.representations(text.replace(*change), "m.mpd", "https://example.org/m.mpd")


def test_a_playlist_that_leads_in_circles_is_refused(tmp_path: Path) -> None:
    """At once: FFmpeg would go on for minutes, with one file or with two that name each other."""
    one = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
    for name, leads in (("a", "a.m3u8"), ("b", "c.m3u8"), ("c", f"file://{tmp_path}/b.m3u8")):
        (tmp_path / f"{name}.m3u8").write_text(one.format(leads))
    (tmp_path / "d.m3u8").write_text("#EXTM3U\n" + "".join(map(one[8:].format, range(2000))))
    begun = time.monotonic()
    for name in "abc":
        with pytest.raises(tds.InputError, match="which names playlists in turn"):
            tds.decode(tmp_path / f"{name}.m3u8")
    with pytest.raises(tds.InputError, match="names 2000 tracks, and at most 256 are read"):
        tds.decode(tmp_path / "d.m3u8")
    assert time.monotonic() - begun < 20
    many = "<Representation/>" * 300
    text = f'<MPD><Period><AdaptationSet mimeType="video/mp4">{many}</AdaptationSet></Period></MPD>'
    with pytest.raises(tds.InputError, match="names 300 tracks"):
        manifests.representations(text, "m.mpd", "http://a/m.mpd")


def test_segments_are_counted_over_all_representations() -> None:
    text = (
        '<MPD><Period><AdaptationSet mimeType="video/mp4"><SegmentTemplate media="$Number$">'
        '<SegmentTimeline><S d="1" r="999"/></SegmentTimeline></SegmentTemplate>{}</AdaptationSet>'
        "</Period></MPD>"
    )
    found = manifests.representations(text.format("<Representation/>" * 9), "m", "http://a/m.mpd")
    assert sum(len(one.segments) for one in found) == 9000
    with pytest.raises(tds.InputError, match="not understood"):
        manifests.representations(text.format("<Representation/>" * 200), "m", "http://a/m.mpd")


def test_a_playlist_from_elsewhere_is_not_asked_about_files(
    web: Path, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    text = (web / "hr.m3u8").read_text().replace("#EXT-X-ENDLIST", "")
    (tmp_path / "hr.m3u8").write_text(text)
    for where, answer in ((f"file://{tmp_path}/hr.m3u8", False), ("hr.m3u8", True)):
        (tmp_path / "master.m3u8").write_text(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{where}\n")
        assert opening.is_live_playlist(f"{serve(tmp_path)}/master.m3u8") is answer


def test_folders_may_have_any_name(web: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(web, tmp_path / "a b%ü")
    assert shown(folder / "manifest.mpd") == shown(web / "manifest.mpd")


def test_a_link_to_a_folder_leads_to_the_new_one(pair: Path, web: Path, tmp_path: Path) -> None:
    shutil.copytree(web, tmp_path / "first")
    (tmp_path / "current").symlink_to("first")
    tools.tds("package", pair, tmp_path / "current", "--overwrite", "--seconds", 5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "first"]
    assert len(list((tmp_path / "current" / "hr").glob("*.m4s"))) == 1


def test_a_folder_is_written_whole_or_not_at_all(
    pair: Path, web: Path, small: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "own.txt").write_text("mine")
    said = tools.tds("package", pair, full, status=1).stderr
    assert "--overwrite" in said
    said = tools.tds("package", pair, full, "--overwrite", status=1).stderr
    assert "other files" in said
    said = tools.tds("package", small, tmp_path / "new", status=1).stderr
    assert "two, HR and LR" in said
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
    again = shutil.copytree(web, tmp_path / "again")
    tools.tds("package", pair, again, "--overwrite", "--seconds", 5)
    assert len(list((again / "hr").glob("*.m4s"))) == 1
