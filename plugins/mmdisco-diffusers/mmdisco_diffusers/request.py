"""Turn a recipe's request into what a model can make, with a note on every change."""

from dataclasses import dataclass, field

from mmdisco_cli.diffusion.backbone import ModalityPlan, Request

GAP = 1e-6


@dataclass
class Notes:
    """Collect a line for each requested value that was changed."""

    modality: str
    lines: list[str] = field(default_factory=list)

    def snap(self, name: str, requested: float | None, made: float, why: str) -> None:
        """Add a note where the requested value is not what will be made."""
        if requested is not None and abs(requested - made) > GAP:
            self.lines.append(f"{self.modality}: {name} {requested:g} becomes {made:g}: {why}")

    def add(self, text: str) -> None:
        """Add any other note."""
        self.lines.append(f"{self.modality}: {text}")


def seconds_of(request: Request, default: float) -> float:
    """Return the requested length in seconds, else that of the requested frames, else the default."""
    if request.seconds is not None:
        return request.seconds
    return request.frames / request.fps if request.frames and request.fps else default


@dataclass(frozen=True)
class VideoRules:
    """What a video model can make: frames are `first` plus a multiple of `group`, sizes multiples of `cell` pixels.

    `default` is frames, height and width; `most` bounds the frames.
    """

    fps: float
    default: tuple[int, int, int]
    first: int = 1
    group: int = 1
    cell: int = 8
    most: int | None = None
    why: str = ""


def video_shape(request: Request, rules: VideoRules) -> tuple[tuple[int, int, int], float, tuple[str, ...]]:
    """Return the frames, height and width that a model will make, its frame rate, and notes on what was changed."""
    notes = Notes("video")
    fps = request.fps or rules.fps
    if abs(fps - rules.fps) > GAP:
        notes.add(f"played at {fps:g} frames a second, but trained at {rules.fps:g}")
    frames = _frames(request, fps, rules, notes)
    height, width = (_size(name, getattr(request, name), rules, i, notes) for i, name in ((1, "height"), (2, "width")))
    return (frames, height, width), fps, tuple(notes.lines)


def video_cells(shape: tuple[int, int, int], group: int, factor: int) -> tuple[int, int, int]:
    """Return the latent cells of frames, height and width, for a codec of one frame, then groups of `group` frames."""
    frames, height, width = shape
    return (frames - 1) // group + 1, height // factor, width // factor


def grouped_plan(
    request: Request,
    fps: float,
    default: tuple[int, int, int],
    channels: int,
    factors: tuple[int, int],
    patch: int = 1,
) -> ModalityPlan:
    """Return the plan of a model of one frame, then groups; `factors` are the frames and pixels of one latent cell.

    The transformer takes whole patches of `patch` x `patch` cells.
    """
    group, factor = factors
    rules = VideoRules(fps, default, 1, group, factor * patch, why=f"one frame, then groups of {group}")
    shape, rate, notes = video_shape(request, rules)
    return video_plan((channels, *video_cells(shape, group, factor)), shape, rate, notes)


def video_plan(
    latent: tuple[int, ...], shape: tuple[int, int, int], fps: float, notes: tuple[str, ...]
) -> ModalityPlan:
    """Return the plan of RGB frames (frames, height, width) from a latent."""
    return ModalityPlan(latent, (3, *shape), fps, shape[0] / fps, notes)


def _frames(request: Request, fps: float, rules: VideoRules, notes: Notes) -> int:
    requested = request.frames or (round(request.seconds * fps) if request.seconds else None)
    wanted = requested or rules.default[0]
    # A single image is made only where one frame is requested.
    groups = 0 if wanted <= rules.first else max(int((wanted - rules.first) / rules.group + 0.5), 1)
    if rules.most is not None:
        groups = min(groups, (rules.most - rules.first) // rules.group)
    made = rules.first + groups * rules.group
    notes.snap("frames", requested, made, rules.why)
    if request.frames and request.seconds:
        notes.snap("seconds", request.seconds, made / fps, f"{made} frames at {fps:g} frames a second")
    return made


def _size(name: str, requested: int | None, rules: VideoRules, axis: int, notes: Notes) -> int:
    made = max((requested or rules.default[axis]) // rules.cell, 1) * rules.cell
    notes.snap(name, requested, made, f"a multiple of {rules.cell} pixels")
    return made
