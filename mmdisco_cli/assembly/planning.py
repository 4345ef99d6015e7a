"""The plans of all models of a recipe for one request, of matching lengths."""

from collections.abc import Mapping
from dataclasses import replace

from mmdisco_cli.diffusion.backbone import JointBackbone, Plan, Request


def plan_together(backbones: Mapping[str, JointBackbone], request: Request) -> dict[str, Plan]:
    """Return every model's plan; where lengths differ, models that can take that of the model with the lowest rate."""
    plans = {label: backbone.plan(request) for label, backbone in backbones.items()}
    timed = [(p.rate, p.seconds) for plan in plans.values() for p in plan.modalities.values() if p.rate]
    if not timed:
        return plans
    seconds = min(timed)[1]
    return {label: _following(backbones[label], plan, request, seconds) for label, plan in plans.items()}


def _following(backbone: JointBackbone, plan: Plan, request: Request, seconds: float) -> Plan:
    """Return the plan for this length where that comes closer to it, else the plan as it was."""
    if not any(p.rate for p in plan.modalities.values()) or _gap(plan, seconds) == 0:
        return plan
    other = backbone.plan(replace(request, seconds=seconds))
    if _gap(other, seconds) >= _gap(plan, seconds):
        return plan
    names = " and ".join(other.modalities)
    return replace(other, notes=(*other.notes, f"{names}: {seconds:g} s long, to fit the other models"))


def _gap(plan: Plan, seconds: float) -> float:
    return max(abs(p.seconds - seconds) for p in plan.modalities.values() if p.rate)
