"""What the gallery of a bounce run marks: impacts seen and strikes heard, as its protocol detects them."""

from mmdisco_cli.assembly import request_of
from mmdisco_cli.errors import UsageError
from mmdisco_cli.measures.clip import MeasuredClip
from mmdisco_cli.page.marking import Marking, Marks
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.toys.bounce.clip_events import event_analysis, events_of
from mmdisco_cli.toys.bounce.dataset import build
from mmdisco_cli.toys.bounce.options import BounceOptions


def marking_of(recipe: Recipe) -> Marking:
    """Return the marks of a recipe's clips; raise UsageError where its data are not bounce."""
    if recipe.data is None or not isinstance(recipe.data.options, BounceOptions):
        raise UsageError(f"eval.protocol: {recipe.eval.protocol} needs the data set bounce")
    lanes = build(recipe.data.options, request_of(recipe)).options.objects
    return Marking("impacts seen", "strikes heard", _marks, event_analysis(lanes))


def _marks(clip: MeasuredClip) -> Marks:
    match = events_of(clip).match
    seen, heard = ([event.time for event in events] for events in (match.video, match.audio))
    counts = {"events_seen": float(len(seen)), "events_heard": float(len(heard))}
    return Marks(seen, heard, {"event_iou": match.iou, **counts})
