"""`--dry-run`: what a run would do, as plain data and as lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmdisco_cli.devices import process_mb
from mmdisco_cli.diffusion.backbone import TEXT, count_parameters, memory_lines
from mmdisco_cli.recipes.missing import missing_files
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.sampling.draw import resampled_modalities
from mmdisco_cli.sampling.given_texts import number_of
from mmdisco_cli.sampling.job import SampleJob
from mmdisco_cli.sampling.memory import memory_mb, operations
from mmdisco_cli.sampling.outputs import sample_stem


def dry_run_record(job: SampleJob) -> dict[str, Any]:
    """Return what a run would do, as plain data."""
    assembly, config, options = job.assembly, job.config, job.options
    loaded = assembly.discriminator
    return {
        "recipe": job.recipe.name,
        "out": str(job.directory),
        "samples": len(job.indices),
        "complete": len(job.done()),
        "first": sample_stem(job.indices[0], options.seed) if job.indices else None,
        "sampler": config.sampler,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "device": str(assembly.device),
        "dtype": job.settings["sample.dtype"],
        "independent": options.independent,
        "guidance": {m: config.guidance.get(m, 1.0) for m in assembly.shapes} if not options.independent else None,
        "guidance_form": config.guidance_form,
        **_repeats(config),
        "gibbs": list(resampled_modalities(config, assembly.shapes, job.sources)),
        "gibbs_steps": config.gibbs_steps,
        **_repeats(config.while_resampled(), "gibbs_"),
        "window": list(config.window),
        "modalities": {
            m: {
                "latent": list(plan.latent_shape),
                "media": list(plan.media_shape),
                "rate": plan.rate,
                "seconds": plan.seconds,
                "kind": job.kinds[m].name,
                "file": next(part.ending for part in job.parts if m in part.labels),
                "given": list(job.sources[m].names) if m in job.sources else None,
            }
            for m, plan in assembly.modalities.items()
        },
        "backbones": {
            label: {
                "fingerprint": base.backbone.info.fingerprint,
                "parameters": count_parameters(base.backbone),
                "memory": list(memory_lines(base.backbone)),
            }
            for label, base in assembly.models.items()
        },
        "discriminator": loaded
        and {
            "name": loaded.about["name"],
            "weights": str(loaded.path),
            "fingerprint": loaded.fingerprint,
            "parameters": sum(p.numel() for p in loaded.module.parameters()),
        },
        # Without guidance there is no backward pass.
        "memory_mb": memory_mb(assembly, config.batch_size) | ({"guidance": 0} if options.independent else {}),
        **process_mb(assembly.device),
        "operations": operations(assembly),
        "missing": [str(entry) for entry in missing_files(job.recipe, not options.independent)],
        "notes": list(job.notes),
    }


def dry_run_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `dry_run_record` returned as lines of text."""
    yield f"recipe {plan['recipe']}: {plan['samples']} samples, {plan['complete']} of them complete, in {plan['out']}"
    for modality, shapes in plan["modalities"].items():
        rate = f" at {shapes['rate']:g} Hz" if shapes["rate"] else ""
        latent = _by(shapes["latent"])
        length = f", {shapes['seconds']:g} s" if shapes["rate"] or shapes["seconds"] else ""
        yield f"{modality}: {_by(shapes['media'])}{rate}{length}, from a latent of {latent}, as {shapes['kind']}"
        if shapes["given"]:
            given = number_of(shapes["given"], "text" if shapes["kind"] == TEXT else "file")
            yield f"{modality}: given by {given}, the first {shapes['given'][0]}"
    for label, backbone in plan["backbones"].items():
        yield f"backbone {label}: {_count(backbone['parameters'])}, fingerprint {backbone['fingerprint']}"
        yield from (f"memory {label}: {line}" for line in backbone["memory"])
    if found := plan["discriminator"]:
        yield f"discriminator {found['name']}: {_count(found['parameters'])}, {found['weights']}"
    how = f"batches of {plan['batch_size']}, {plan['dtype']} on {plan['device']}"
    yield f"{plan['sampler']}: {plan['steps']} steps{_repeated(plan)}, {how}"
    if plan["gibbs"]:
        again = f"{plan['gibbs_steps']} steps each{_repeated(plan, 'gibbs_')}"
        yield f"then {', '.join(plan['gibbs'])} resampled given all others, {again}"
    yield f"guidance: {_guidance(plan)}"
    memory, reported = plan["memory_mb"], any(backbone["memory"] for backbone in plan["backbones"].values())
    if not reported or any(memory.values()):
        what = f"{memory['weights']} MB of {'further ' if reported else ''}weights"
        guided = f", {memory['guidance']} MB to guide a batch" if plan["guidance"] is not None else ""
        yield f"memory: about {what}{guided}, in float32"
    if "process_mb" in plan:
        yield f"process: about {plan['process_mb']} MB of Python and its libraries, beside that"
    if any(plan["operations"].values()):
        shown = ", ".join(f"{name} {_operations(number)}" for name, number in plan["operations"].items())
        yield f"operations of a sample and step: {shown}"
    yield from (f"missing: {line}" for line in plan["missing"])


def _repeats(config: SampleConfig, run: str = "") -> dict[str, Any]:
    return {f"{run}joint_steps": config.joint_steps, f"{run}joint_window": list(config.joint_window)}


def _repeated(plan: Mapping[str, Any], run: str = "") -> str:
    times, (low, high) = plan[f"{run}joint_steps"], plan[f"{run}joint_window"]
    return f", those between log-SNR {low:g} and {high:g} taken {times} times" if times > 1 else ""


def _guidance(plan: Mapping[str, Any]) -> str:
    if plan["guidance"] is None:
        return "none, each model alone"
    weights = ", ".join(f"{modality} {weight:g}" for modality, weight in plan["guidance"].items())
    form = " as released" if plan["guidance_form"] == "released" else ""
    return f"{weights}{form} for log-SNR between {plan['window'][0]:g} and {plan['window'][1]:g}"


def _by(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _operations(number: int | None) -> str:
    return (
        "unknown" if number is None else f"{number / 1e12:.3g} TFLOP" if number > 1e11 else f"{number / 1e9:.3g} GFLOP"
    )


def _count(parameters: int | None) -> str:
    return "parameters unknown" if parameters is None else f"{parameters:,} parameters"
