# SPDX-License-Identifier: LGPL-2.1-or-later
"""The engine: sessions that pair HR and LR pictures by time and enhance them."""

import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, SupportsIndex

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor

from .display import Colors

class _DLPack(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class _Role(Protocol):
    """An enumeration member whose value is "hr" or "lr", such as ``tds.plan.Role.HR``."""

    @property
    def value(self) -> str: ...

Plane = NDArray[np.uint8] | NDArray[np.uint16]
Frame = VideoFrame | Sequence[Plane | _DLPack] | Plane
Role = Literal["hr", "lr", "HR", "LR"] | str | _Role
Status = Literal["passed", "enhanced", "upsampled", "repeated", "refined"]
Reason = Literal[
    "no-first",
    "no-last",
    "no-model",
    "lost",
    "long-group",
    "ref-lost",
    "corrupt",
    "cut",
    "strength",
]

TORCH_VERSION: str
"""Of the torch that the package was built with, as in "2.13.0"; "" for none."""

MIN_SIZE: int
"""Least width and height of full-size pictures, luma samples."""
MAX_SIZE: int
"""Greatest width and height of any picture, luma samples."""
MAX_GROUP: int
"""Greatest ``max_group`` and one less than the greatest ``max_batch`` of a session."""
MAX_QP: int
MAX_THREADS: int
MAX_LOOK_AHEAD: int
"""Pictures after its target that a model sees in a plain stream, at most."""
DEFAULT_MAX_GROUP: int
DEFAULT_MAX_BATCH: int
"""What a session has that is not told otherwise."""

class CudaPlane:
    """A plane in CUDA memory. ``torch.from_dlpack(plane)`` views it without a copy; its
    samples are ready on any stream."""

    @property
    def shape(self) -> tuple[int, int]: ...
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class Picture:
    """A picture at full size, in display order.

    Its planes are views of the engine's memory, which lives as long as any of
    them. Those of a passed picture are the very samples that were sent: they
    cannot be written to, since they serve as references.
    """

    @property
    def planes(self) -> tuple[Any, ...]:
        """Y [height, width], Cb and Cr [height / 2, width / 2] (4:2:2: [height, width / 2],
        4:4:4: [height, width]): numpy arrays, uint8 at 8 bits and uint16 (values up to 1023)
        at 10. In CUDA memory: ``CudaPlane``. A passed
        NV12 or P010 picture has two: Y, and CbCr interleaved [height / 2, width]."""

    @property
    def pts(self) -> int:
        """Display time, in the unit the pictures were sent with."""

    @property
    def width(self) -> int:
        """Luma samples."""

    @property
    def height(self) -> int:
        """Luma samples."""

    @property
    def bit_depth(self) -> int:
        """8 or 10."""

    @property
    def chroma(self) -> int:
        """420, 422 or 444."""

    @property
    def memory(self) -> str:
        """ "host" or "cuda:N"."""

    @property
    def status(self) -> Status:
        """How it was made: "passed" (a full-size picture, bit for bit), "enhanced" (an LR picture,
        by the model), "upsampled" (by bicubic), "repeated" (none arrived: the nearest one again)
        or "refined" (a full-size picture that a model changed)."""

    @property
    def reason(self) -> frozenset[Reason]:
        """Why it is not simply passed, or made from all that its model could see; empty when
        it is."""

    @property
    def references(self) -> tuple[int | None, int | None]:
        """Times of the nearest reference before it and of the nearest after it that it was made
        from, None where there was none."""

    @property
    def corrupt(self) -> bool:
        """The sender marked this HR picture as damaged."""

    @property
    def opaque(self) -> Any:
        """What ``send`` was given with it; None for a repeated picture."""

    @property
    def colors(self) -> Colors | None:
        """Of the session that made it."""

    def to_rgb(self) -> NDArray[np.uint8]:
        """RGB [height, width, 3], uint8, by the matrix and range of ``colors`` (by the size
        where they are not known: BT.709 from 720 rows on, BT.601 below).
        NotImplementedError in CUDA memory."""

    def to_tensor(self) -> Tensor:
        """``to_rgb`` as a torch tensor [3, height, width], uint8, on the CPU.
        MissingError (a FileNotFoundError) without torch."""

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""

    def to_ndarray(self) -> NDArray[Any]:
        """A copy, [height * 3 / 2, width] (4:2:2: height * 2 rows, 4:4:4: height * 3): Y, Cb and
        Cr below each other, as in a file of raw video. NotImplementedError in CUDA memory."""

    def to_av(self) -> VideoFrame:
        """A copy as an ``av.VideoFrame`` (yuv420p, yuv420p10le, yuv422p, ...) with ``pts`` set and
        without a time base. NotImplementedError in CUDA memory."""

class Info:
    """What a session runs on, and what it has handed out so far."""

    @property
    def backend(self) -> str:
        """ "bicubic" or "torchscript"."""

    @property
    def device(self) -> str:
        """ "cpu", "cuda:0", ..."""

    @property
    def precision(self) -> str:
        """ "float32", "float16", "bfloat16"; "integer" for bicubic."""

    @property
    def model_name(self) -> str:
        """From the model's metadata; "" without a model."""

    @property
    def model_sha256(self) -> str:
        """Of the file that was loaded; "" without a model."""

    @property
    def passed(self) -> int: ...
    @property
    def enhanced(self) -> int: ...
    @property
    def upsampled(self) -> int: ...
    @property
    def repeated(self) -> int: ...
    @property
    def refined(self) -> int: ...
    @property
    def dropped_lr(self) -> int:
        """LR pictures at the time of an HR picture, which are dropped."""

    @property
    def references(self) -> int:
        """Pictures the backend prepared, each once for every model that sees it."""

    @property
    def batches(self) -> int:
        """Calls of the backend."""

    @property
    def hr_model_name(self) -> str:
        """Of the model that refines HR pictures; "" without one."""

    @property
    def hr_model_sha256(self) -> str:
        """Of its file; "" without one."""

    @property
    def contract(self) -> int:
        """Version of the model contract (docs/model.md) that the model follows, 1 or 2; 0
        without a model."""

    @property
    def latency(self) -> int | None:
        """The most pictures that must be sent after one before it comes out; None for a pair,
        which waits for the end of a run of LR pictures."""

class Session:
    """Pairs HR and LR pictures by time alone and hands all out at full size, in order; or makes
    the pictures of a plain stream better.

    width, height: of HR pictures, luma samples, even, 16 to 16384. scale: k, 1, 2 or
    4; LR pictures are ``lr_size(width, scale)`` x ``lr_size(height, scale)``.
    bit_depth: 8 or 10. chroma: 420, 422 or 444, of both streams and of the output; other than
    420 in host memory alone. backend: "bicubic", "torchscript" or "auto" (torchscript when a
    model is given). model: path of a TorchScript archive (docs/model.md); model_sha256:
    64 hex digits it must have. device: "auto" (the first CUDA device that works, else
    the CPU), "cpu", "cuda", "cuda:N". precision: "auto" (float32 on the CPU, the
    model's own on CUDA), "float32", "float16", "bfloat16". threads: of the backend on
    the CPU, 0: all. max_group: the longest run of LR pictures enhanced as one group,
    1 to 255. max_batch: pictures given to the model at once. hr_qp, lr_qp: 0 to 63, -1:
    not known.

    kind: "pair", or "plain": one stream of full-size pictures, sent as "hr"; scale is 1 and
    model, of contract 2, one for k = 1. hr_model: path of a model of contract 2 for k = 1
    that refines the HR pictures of a pair, before LR pictures are made from them; None: they
    are passed; hr_model_sha256 as model_sha256. causal: make each picture from those before
    it, at once. strength: 0 to 1, of the models' changes, for pictures that do not say; 0
    leaves full-size pictures as they are, bit for bit, and up-samples LR pictures. Models of
    contract 1 know 0 and 1. picture_facts: tell models of contract 2 pictures' own QPs and
    types, where known. output_memory: "host" or "cuda". log: called with (level, message),
    level "error", "warning", "info" or "debug"; None: the logger "tds" of ``logging``.

    Raises ValueError for a bad argument or a model that does not fit,
    FileNotFoundError for a model that is not there, NotImplementedError for what this
    build cannot do, RuntimeError for a device that is not there, MemoryError.

    A context manager. Iterating yields the pictures that can go out now. Calls on
    one session take turns; the GIL is released while the engine works.
    """

    def __init__(
        self,
        width: int,
        height: int,
        scale: int,
        bit_depth: int = 8,
        backend: str = "auto",
        model: str | os.PathLike[str] | None = None,
        model_sha256: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        max_group: int = 64,
        max_batch: int = 4,
        hr_qp: int = -1,
        lr_qp: int = -1,
        kind: str = "pair",
        hr_model: str | os.PathLike[str] | None = None,
        hr_model_sha256: str | None = None,
        causal: bool = False,
        strength: float = 1.0,
        picture_facts: bool = False,
        output_memory: str = "host",
        log: Callable[[str, str], object] | None = None,
        chroma: int = 420,
    ) -> None: ...
    def send(
        self,
        role: Role,
        frame: Frame | None,
        pts: SupportsIndex | None = None,
        opaque: object = None,
        corrupt: bool | None = None,
        strength: float | None = None,
        qp: int = -1,
        type: str | None = None,
    ) -> bool:
        """Sends the next picture of the "hr" or "lr" stream. None ends the stream. A plain
        session has the stream "hr" alone.

        frame: an ``av.VideoFrame`` (yuv420p, yuv422p, yuv444p, these with 10le behind, nv12,
        p010le, or a CUDA frame of 4:2:0); three planes Y, Cb, Cr, or two (Y, interleaved CbCr,
        10 bits in the high bits as in P010), each a numpy array or an object with
        ``__dlpack__`` (torch on the CPU or CUDA), uint8 or uint16, rows dense; or one array
        [height * 3 / 2, width], of other chroma as ``Picture.to_ndarray`` gives it. Nothing is
        copied: the samples must stay unchanged until the frame is no
        longer held. pts: display time, a whole number in any unit both streams share,
        increasing within a stream; None: the frame's own. opaque: comes out with the picture.
        corrupt: the decoder reported damage; None: the frame's ``is_corrupt``. strength: of
        the model's change to this picture, 0 to 1; None: the session's. qp: 0 to 63, -1: not
        known; type: "I", "P", "B", None: not known; used only with ``picture_facts``.

        Returns False when the session is full and took nothing: receive, or send the
        other stream, then send it again. Raises ValueError for a picture that does not
        fit or a time that does not increase, OverflowError for a time of over 64 bits,
        TypeError, NotImplementedError.
        """

    def send_lost(self, role: Role, pts: SupportsIndex) -> bool:
        """Says that the stream's picture at ``pts`` exists but was lost: the nearest one is
        repeated, or the other stream's picture of that time is used. Returns as send."""

    def end(self, role: Role) -> None:
        """Ends a stream. May be called again."""

    def receive(self) -> Picture | None:
        """The next picture in display order, or None: send more, or all is done (``ended``).

        Raises RuntimeError when the backend fails, MemoryError."""

    @property
    def wants(self) -> frozenset[str]:
        """The streams ("hr", "lr") that must be sent or ended before receive can go on;
        empty when a picture is ready or all has ended."""

    colors: Colors | None
    """What the samples mean, for who shows them; goes on to every picture received. None at
    first, and the engine has no use for it."""

    @property
    def ended(self) -> bool:
        """Both streams have ended and ``receive`` has given every picture and then None."""

    @property
    def info(self) -> Info: ...
    def flush(self) -> None:
        """Drops all pictures, as after a seek; both streams start anew."""

    def close(self) -> None:
        """Frees the session. Pictures received stay valid. May be called again."""

    def __iter__(self) -> Iterator[Picture]: ...
    def __next__(self) -> Picture: ...
    def __enter__(self) -> Session: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

def lr_size(hr_size: int, scale: int) -> int:
    """The LR width or height that belongs to an HR one: 2 * ceil(hr_size / (2 * scale)); 0 when
    an argument is out of range."""

def scale_of(width: int, height: int, lr_width: int, lr_height: int) -> int:
    """The k (1, 2 or 4) for which the two sizes belong together, 0 when there is none."""

def backend_available(backend: str) -> Literal[True]:
    """True, or NotImplementedError whose text says what is missing for it."""

def backend_devices(backend: str) -> list[str]:
    """Devices a backend sees: ["cpu", "cuda:0"]."""

def model_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tds.json of a model file; no code of the model is run and torch is not needed.

    Raises FileNotFoundError, or ValueError when it is no TDS model."""

def version() -> str:
    """Of the engine and of the distribution, as in "0.1.0"."""

def native_dir() -> str:
    """The prefix with the engine's include, lib, lib/pkgconfig and lib/cmake folders."""

MAX_TAG: int
"""Bytes of a tag's JSON at most; MAX_FRAMES, MAX_RUNS: source frames of one tag and entries of
one of its run-length lists."""
MAX_FRAMES: int
MAX_RUNS: int
RATE_PICTURES: int
"""How many times ``frame_rate`` looks at."""

class Tag:
    """The JSON that pairs two streams (docs/container.md), read and checked.

    json: its text. where: names the file in messages. Raises ValueError for what is damaged
    or beyond the limits, NotImplementedError for another version, each with one sentence.
    What the attributes mean is said in tds.h, tds_tag_values; fractions are (num, den), run
    lengths (value, count)."""

    def __init__(self, json: str | bytes, where: str) -> None: ...
    @property
    def scale(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def bit_depth(self) -> int: ...
    @property
    def codec(self) -> str: ...
    @property
    def config(self) -> str: ...
    @property
    def encoder(self) -> str: ...
    @property
    def preset(self) -> str: ...
    @property
    def hr_qp(self) -> int: ...
    @property
    def lr_qp(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def shared(self) -> bool: ...
    @property
    def model(self) -> str | None: ...
    @property
    def model_sha256(self) -> str | None: ...
    @property
    def refine_hr(self) -> bool: ...
    @property
    def has_strengths(self) -> bool: ...
    @property
    def times_known(self) -> bool: ...
    @property
    def regular(self) -> bool: ...
    @property
    def time_base(self) -> tuple[int, int]: ...
    @property
    def rate(self) -> tuple[int, int]: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int:
        """The last frame's time, in ticks."""

    @property
    def n_frames(self) -> int: ...
    @property
    def n_hr(self) -> int: ...
    @property
    def n_lr(self) -> int: ...
    @property
    def n_leads(self) -> int: ...
    @property
    def groups(self) -> list[tuple[int, int]]: ...
    @property
    def leads(self) -> list[tuple[int, int]]: ...
    @property
    def deltas(self) -> list[tuple[int, int]]: ...
    @property
    def strengths(self) -> list[tuple[int, int]]: ...
    def frames(
        self, first: int = 0, count: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]:
        """Of ``count`` source frames (None: all) from ``first`` on: times in ticks (the lowest
        int64 when not known), whether it is LR, whether the LR stream has a small copy of it,
        strength (0, 0.5, 1). Memory is what is asked for: a tag may tell of 10 million."""

class Times:
    """The times of two tracks against the plan of their tag (tds.h, tds_times): says what to
    send to a session. All times are in ``unit`` seconds; ``hr_clock`` and ``lr_clock`` are the
    tracks' time bases. offset: what is known to have been added to the plan's times to give
    those of both tracks, as by a seek; None: nothing is."""

    def __init__(
        self,
        tag: Tag | None,
        unit: tuple[int, int],
        hr_clock: tuple[int, int],
        lr_clock: tuple[int, int],
        offset: int | None = None,
    ) -> None: ...
    def show(self, role: Role, pts: int) -> None:
        """The track has a picture at this time, whether it decodes or not; before any next."""

    def push(self, role: Role, pts: int) -> None:
        """The next decoded picture of a track. Raises ValueError when times do not increase."""

    def end(self, role: Role) -> None: ...
    def next(self, role: Role) -> tuple[bool, int, int, float] | tuple[()] | None:
        """What to send next for a stream: (lost, pts, frame, strength), where not lost means the
        oldest picture that was pushed and not given; frame: of the plan, -1: none; strength: -1
        when the tag says none. (): push more, of ``wants(role)``. None: the stream has ended."""

    def wants(self, role: Role) -> frozenset[str]: ...
    def report(self) -> dict[str, int]:
        """lost_hr, lost_lr, unplanned_hr, unplanned_lr, shift_hr, shift_lr, late, early,
        planned: as in tds_times_report."""

    @property
    def notices(self) -> list[str]:
        """What is to be said, complete once both streams have ended."""

def frame_rate(times: Sequence[int], time_base: tuple[int, int]) -> tuple[int, int]:
    """The nominal rate, as (num, den), of pictures at these times (tds.h, tds_frame_rate): give
    the first pictures of both streams, in any order."""

class ModelChoice:
    """path: of an archive, or of weights where they were allowed. name: "" for a file. hr_path:
    of the k = 1 model of that name. of_tag: its name and hash are those of the tag."""

    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def hr_path(self) -> str | None: ...
    @property
    def of_tag(self) -> bool: ...
    @property
    def notices(self) -> list[str]: ...

def choose_model(
    scale: int,
    model: str | None = None,
    *,
    sha256: str | None = None,
    tag: Tag | None = None,
    device: str = "auto",
    folders: Sequence[str] = (),
    weights: bool = False,
    refine_hr: bool = False,
) -> ModelChoice:
    """Which model is used (tds.h, tds_model_choose): ``model`` as a person named it, else the
    tag's, else the default for k and device.

    Raises FileNotFoundError when there is none, ValueError when a file does not fit."""
