"""What the models of a recipe will make of one request, so that they fit each other in length."""

from collections.abc import Mapping
from dataclasses import replace

from mmdisco_cli.diffusion.backbone import JointBackbone, Plan, Request


def plan_together(backbones: Mapping[str, JointBackbone], request: Request) -> dict[str, Plan]:
    """Return every model's plan; where their lengths differ, those that can follow the one of the coarsest steps."""
    plans = {label: backbone.plan(request) for label, backbone in backbones.items()}
    timed = [(p.rate, p.seconds) for plan in plans.values() for p in plan.modalities.values() if p.rate]
    if not timed:
        return plans
    seconds = min(timed)[1]
    return {label: _following(backbones[label], plan, request, seconds) for label, plan in plans.items()}


def _following(backbone: JointBackbone, plan: Plan, request: Request, seconds: float) -> Plan:
    """Return the plan for this length, if the model comes closer to it so."""
    if not any(p.rate for p in plan.modalities.values()) or _gap(plan, seconds) == 0:
        return plan
    other = backbone.plan(replace(request, seconds=seconds))
    if _gap(other, seconds) >= _gap(plan, seconds):
        return plan
    names = " and ".join(other.modalities)
    return replace(other, notes=(*other.notes, f"{names}: {seconds:g} s long, to fit the other models"))


def _gap(plan: Plan, seconds: float) -> float:
    return max(abs(p.seconds - seconds) for p in plan.modalities.values() if p.rate)
