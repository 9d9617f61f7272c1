# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an evaluation runs: a YAML file, checked whole before any work is done.

Reference of the keys: docs/evaluation.md.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..codecs import ADAPTERS, DEFAULT, Codec, Config, EncoderAdapter
from ..errors import InputError, MissingError
from ..media.pictures import SCENE_CUT
from ..media.sources import check_even, parse_size
from ..plan import Boundaries, PlanSettings

T = TypeVar("T")

TDS, LR_ONLY, FULL = "tds", "lr-only", "full"
KINDS = (TDS, LR_ONLY, FULL)
BASELINES = ("bicubic", "lanczos")
ALL_MODELS = "all"
PRECISIONS = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Coding:
    """A codec as it is run. encoder: an adapter's name. preset: that encoder's own."""

    codec: Codec
    encoder: str
    preset: str

    @property
    def adapter(self) -> type[EncoderAdapter]:
        return ADAPTERS[self.encoder]

    @property
    def label(self) -> str:
        return f"{self.codec.value.upper()} ({self.encoder} {self.preset})"


@dataclass(frozen=True)
class Plan:
    """How the frames are divided and down-sampled.

    kind: ``tds``, HR and LR frames by groups; ``lr-only``, every frame is LR and there is
    no HR stream; ``full``, k = 1: one plain full-size stream, of which the frames between
    the groups' boundaries are enhanced. group, boundaries: as in plan.PlanSettings.
    scale: k, of LR against HR. base_scale: of HR against the source; at 2 the boundaries
    are down-sampled too (the paper's second scheme, Table 4) and everything is up-sampled
    at the end. lr_qp_offset: added to the QP for the LR stream.
    """

    kind: str = TDS
    group: int = 5
    boundaries: Boundaries = Boundaries.INDEPENDENT
    scale: int = 2
    base_scale: int = 1
    lr_qp_offset: int = 0
    name: str = ""

    @property
    def label(self) -> str:
        if self.name:
            return self.name
        if self.kind == FULL:
            return f"k=1, N={self.group} {self.boundaries.value}"
        parts = [f"LR only, k={self.scale}"]
        if self.kind == TDS:
            parts = [f"N={self.group} {self.boundaries.value}, k={self.scale}"]
        if self.base_scale != 1:
            parts.append(f"HR at 1/{self.base_scale}")
        if self.lr_qp_offset:
            parts.append(f"LR QP{self.lr_qp_offset:+d}")
        return ", ".join(parts)

    def settings(self, restart: int) -> PlanSettings:
        return PlanSettings(self.group, self.boundaries, restart)


@dataclass(frozen=True)
class ClipEntry:
    """One file or folder of the configuration. group: the class averages are made in."""

    path: Path
    group: str | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """A whole evaluation. Every field is a key of the YAML file.

    frames: of each clip at most, 0: all. qps: at least two. models: names as in
    ``tds.models`` or files; ``bicubic`` and ``lanczos`` are always run too; ``all`` stands
    for every model that is installed. crops: clips of which crops at equal bits are drawn.
    complexity: pictures' sizes at which the models are timed too, empty: not.
    exclude_seen: leave clips a model was trained on out of that model's means.
    ms_ssim: work out MS-SSIM, which takes about five times as long as VMAF and SSIM together.
    """

    title: str
    clips: tuple[ClipEntry, ...]
    codecs: tuple[Coding, ...]
    configs: tuple[Config, ...]
    qps: tuple[int, ...]
    plans: tuple[Plan, ...]
    models: tuple[str, ...] = ()
    frames: int = 0
    intra_period: int = 64
    scene_cut: float = SCENE_CUT
    device: str = "auto"
    precision: str = "auto"
    crops: int = 2
    complexity: tuple[str, ...] = ()
    exclude_seen: bool = True
    ms_ssim: bool = True
    description: str = ""
    source: Path | None = field(default=None, compare=False)


def load(path: Path, clips: list[Path] | None = None) -> Evaluation:
    """Reads and checks a configuration; paths in it are relative to its folder.

    clips: replace those of the file. Raises MissingError or InputError, which names the
    key at fault."""
    if not path.is_file():
        raise MissingError(f"{path}: there is no such configuration")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        where = getattr(e, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise InputError(f"{path} is not YAML{line}") from e
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a list of KEY: VALUE")
    if clips:
        value["clips"] = [str(c.absolute()) for c in clips]
    try:
        return _parse(value, path)
    except InputError as e:
        raise InputError(f"{path}: {e}") from e


def _parse(v: dict[str, Any], path: Path) -> Evaluation:
    _only(v, {f.name for f in fields(Evaluation)} - {"source"}, "key")
    for name in ("clips", "codecs", "configs", "qps", "plans"):
        if not isinstance(v.get(name), list) or not v[name]:
            raise InputError(f"{name} is not a list with something in it")
    qps = tuple(_int(q, "qps", 0, 63) for q in v["qps"])
    if len(set(qps)) != len(qps) or len(qps) < 2:
        raise InputError("qps is two or more different numbers; a BD-rate by cubic takes four")
    codings = tuple(_coding(c) for c in v["codecs"])
    for coding in codings:
        if max(qps) > coding.codec.max_qp:
            raise InputError(
                f"qps: {coding.codec.value.upper()} has QPs up to {coding.codec.max_qp}"
            )
    plans = tuple(_plan(p) for p in v["plans"])
    labels = [p.label for p in plans]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"plans: two are {label!r}; give one of them a name")
    for plan in plans:
        for coding in codings:
            worst = [q + plan.lr_qp_offset for q in qps]
            if not 0 <= min(worst) <= max(worst) <= coding.codec.max_qp:
                raise InputError(f"plans: {plan.label} brings QPs out of the codec's range")
    models = v.get("models", [ALL_MODELS])
    if not isinstance(models, list) or not all(isinstance(m, str) and m for m in models):
        raise InputError("models is not a list of names")
    sizes = v.get("complexity", [])
    if not isinstance(sizes, list):
        raise InputError("complexity is not a list of sizes, as in [416x240, 1920x1080]")
    for size in sizes:
        check_even(f"complexity: the size {size}", *parse_size(str(size)))
    device, precision = str(v.get("device", "auto")), str(v.get("precision", "auto"))
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"device is auto, cpu, cuda or cuda:N, not {device!r}")
    if precision not in PRECISIONS:
        raise InputError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
    return Evaluation(
        title=str(v.get("title", path.stem)),
        clips=tuple(_clip(c, path.parent) for c in v["clips"]),
        codecs=codings,
        configs=tuple(_enum(Config, c, "configs") for c in v["configs"]),
        qps=tuple(sorted(qps)),
        plans=plans,
        models=tuple(dict.fromkeys(m for m in models if m not in BASELINES)),
        frames=_int(v.get("frames", 0), "frames", 0, 1 << 30),
        intra_period=_int(v.get("intra_period", 64), "intra_period", 1, 1 << 20),
        scene_cut=_number(v.get("scene_cut", SCENE_CUT), "scene_cut", 0, 100),
        device=device,
        precision=precision,
        crops=_int(v.get("crops", 2), "crops", 0, 100),
        complexity=tuple(str(s) for s in sizes),
        exclude_seen=_bool(v.get("exclude_seen", True), "exclude_seen"),
        ms_ssim=_bool(v.get("ms_ssim", True), "ms_ssim"),
        description=str(v.get("description", "")),
        source=path,
    )


def _only(value: dict[str, Any], known: set[str], what: str) -> None:
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise InputError(f"no {what} {key!r}; {hint}")


def _clip(value: Any, folder: Path) -> ClipEntry:
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict) or "path" not in value:
        raise InputError("clips: an entry is a file, a folder, or a map with path")
    _only(value, {"path", "class", "frames"}, "key of a clip")
    frames = value.get("frames")
    return ClipEntry(
        folder / Path(str(value["path"])).expanduser(),
        str(value["class"]) if "class" in value else None,
        None if frames is None else _int(frames, "clips: frames", 0, 1 << 30),
    )


def _coding(value: Any) -> Coding:
    if isinstance(value, str):
        value = {"codec": value}
    if not isinstance(value, dict) or "codec" not in value:
        raise InputError("codecs: an entry is vvc, hevc, or a map with codec")
    _only(value, {"codec", "encoder", "preset"}, "key of a codec")
    codec = _enum(Codec, value["codec"], "codecs")
    name = value.get("encoder", DEFAULT[codec].name)
    adapter = ADAPTERS.get(name)
    if adapter is None or adapter.codec is not codec:
        known = ", ".join(a.name for a in ADAPTERS.values() if a.codec is codec)
        raise InputError(f"codecs: no {codec.value} encoder {name!r}; there are {known}")
    preset = str(value.get("preset", adapter.default_preset))
    if preset not in adapter.presets:
        raise InputError(
            f"codecs: {name} has no preset {preset!r}; it has {', '.join(adapter.presets)}"
        )
    return Coding(codec, name, preset)


def _plan(value: Any) -> Plan:
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, dict):
        raise InputError(f"plans: an entry is a map, or one of {', '.join(KINDS)}")
    _only(value, {f.name for f in fields(Plan)}, "key of a plan")
    kind = value.get("kind", TDS)
    if kind not in KINDS:
        raise InputError(f"plans: no kind {kind!r}; there are {', '.join(KINDS)}")
    plan = Plan(
        kind,
        _int(value.get("group", 5), "plans: group", 3, 65),
        _enum(Boundaries, value.get("boundaries", "independent"), "plans: boundaries"),
        _int(value.get("scale", 1 if kind == FULL else 2), "plans: scale", 1, 4),
        _int(value.get("base_scale", 1), "plans: base_scale", 1, 2),
        _int(value.get("lr_qp_offset", 0), "plans: lr_qp_offset", -63, 63),
        str(value.get("name", "")),
    )
    plan.settings(0)  # checks the group
    if kind == FULL and (plan.scale, plan.base_scale, plan.lr_qp_offset) != (1, 1, 0):
        raise InputError("plans: full has one stream, so no scale, base_scale or lr_qp_offset")
    if kind != FULL and plan.scale not in (2, 4):
        raise InputError(f"plans: scale is 2 or 4 (1 is the kind full), not {plan.scale}")
    if plan.base_scale * plan.scale > 4:
        raise InputError("plans: base_scale times scale is 4 at most")
    if kind == LR_ONLY and plan.base_scale != 1:
        raise InputError("plans: lr-only has no HR stream, so no base_scale")
    return plan


def _enum(kind: Callable[[Any], T], value: Any, name: str) -> T:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(k.value) for k in kind)  # type: ignore[attr-defined]
        raise InputError(f"{name}: no {value!r}; there are {known}") from None


def _int(value: Any, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} is a whole number from {low} to {high}, not {value!r}")
    return value


def _number(value: Any, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} is a number from {low} to {high}, not {value!r}")
    return float(value)


def _bool(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} is true or false, not {value!r}")
    return value
