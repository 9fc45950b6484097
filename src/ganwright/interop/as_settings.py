"""From the plans of official networks to a recipe and the settings that build exactly the same networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ganwright.data.spec import DataKind, DataSpec
from ganwright.errors import SettingsError
from ganwright.interop.foreign import Foreign, Format
from ganwright.interop.nvidia import OfficialCheckpoint, understand
from ganwright.interop.restricted import CheckpointImportError
from ganwright.interop.state_dicts import plain_state
from ganwright.networks.stylegan2 import DiscriminatorPlan, GeneratorPlan, MappingPlan
from ganwright.networks.stylegan3 import StyleGAN3Plan
from ganwright.recipes.stylegan2_settings import StyleGAN2Settings, network_plans
from ganwright.recipes.stylegan3_settings import StyleGAN3Settings, discriminator_plan, generator_plan
from ganwright.training.settings import RunSettings, resolve


def data_spec(checkpoint: OfficialCheckpoint, name: str, fingerprint: str) -> DataSpec:
    """What is known of the data the networks were trained on; classes are numbered."""
    plan = checkpoint.average.plan
    count = checkpoint.data.get("max_size")
    return DataSpec(
        DataKind.LABELLED_IMAGES if plan.c_dim else DataKind.IMAGES,
        name,
        count if type(count) is int and count > 0 else 0,
        fingerprint,
        plan.resolution,
        plan.channels,
        tuple(str(k) for k in range(plan.c_dim)),
    )


def run_settings(checkpoint: OfficialCheckpoint, data: DataSpec) -> tuple[RunSettings, str]:
    """The recipe with its settings, and why the discriminator cannot be taken over ("" if it can, or there is none).

    Raises:
        CheckpointImportError: No settings of ours build the generator.
    """
    g = checkpoint.average.plan
    d = checkpoint.discriminator.plan if checkpoint.discriminator else None
    last = checkpoint.generator.plan if checkpoint.generator else g
    differ = "kind" if type(last) is not type(g) else _differences(_plain(last), _plain(g))
    if differ:
        raise CheckpointImportError(f"G and G_ema are not built alike: {differ}.", fix="the file was changed by hand")
    assert not isinstance(g, DiscriminatorPlan) and not isinstance(d, GeneratorPlan | StyleGAN3Plan)
    recipe = "stylegan3" if isinstance(g, StyleGAN3Plan) else "stylegan2"
    layers: list[dict[str, Any]] = [_of_generator(g), {"resolution": g.resolution, "channels": str(g.channels)}]
    settings = _resolved(recipe, layers, data)
    built = _built(settings, data)[0]
    differ = _differences(_plain(g), _plain(built))
    if differ:
        raise CheckpointImportError(
            f"No settings build this generator: {differ}.",
            fix="only networks that NVIDIA's own training scripts make can be imported",
        )
    if d is None:
        return settings, ""
    try:
        with_d = _resolved(recipe, [*layers, _of_discriminator(g, d)], data)
    except CheckpointImportError as error:
        return settings, error.what
    return (settings, differ) if (differ := _differences(_plain(d), _plain(_built(with_d, data)[1]))) else (with_d, "")


def _resolved(recipe: str, layers: list[dict[str, Any]], data: DataSpec) -> RunSettings:
    try:
        settings = resolve(recipe, *layers)
        _built(settings, data)
    except SettingsError as error:
        raise CheckpointImportError(f"No settings build these networks: {error.what}", fix=error.fix) from error
    return settings


def _built(settings: RunSettings, data: DataSpec) -> tuple[GeneratorPlan | StyleGAN3Plan, DiscriminatorPlan]:
    s = settings.recipe
    if isinstance(s, StyleGAN3Settings):
        return generator_plan(s, data), discriminator_plan(s, data)
    assert isinstance(s, StyleGAN2Settings)
    return network_plans(s, data)


def _of_generator(g: GeneratorPlan | StyleGAN3Plan) -> dict[str, Any]:
    found: dict[str, Any] = {
        "z_dim": g.z_dim,
        "w_dim": g.w_dim,
        "mapping_layers": g.mapping.layers,
        "channel_base": g.channel_base,
        "channel_max": g.channel_max,
        "conv_clamp": g.conv_clamp or 0.0,
        "half_blocks": g.half_blocks,
        "conditional": g.c_dim > 0,
    }
    if g.mapping.w_avg_beta is not None:
        found["w_avg_beta"] = g.mapping.w_avg_beta
    if isinstance(g, GeneratorPlan):
        return found | {"architecture_g": g.architecture, "use_noise": g.use_noise}
    return found | {
        "synthesis_layers": g.layers,
        "critical_layers": g.critical,
        "first_cutoff": g.first_cutoff,
        "first_stopband": g.first_stopband,
        "last_stopband_rel": g.last_stopband_rel,
        "layer_margin": g.margin,
        "output_scale": g.output_scale,
        "conv_kernel": g.kernel,
        "filter_size": g.filter_size,
        "lrelu_upsampling": g.lrelu_upsampling,
        "radial_filters": g.radial_filters,
        "magnitude_beta": g.magnitude_beta,
    }


def _of_discriminator(g: GeneratorPlan | StyleGAN3Plan, d: DiscriminatorPlan) -> dict[str, Any]:
    found = {
        "architecture_d": d.architecture,
        "mbstd_group": d.mbstd_group or 0,
        "mbstd_channels": d.mbstd_channels,
    }
    if isinstance(g, GeneratorPlan):
        return found
    return found | {"channel_base_d": d.channel_base, "channel_max_d": d.channel_max}


def _plain(plan: Any) -> dict[str, Any]:
    """A plan's values, without what changes no result, and with what is left open filled in."""
    values = dict(vars(plan))
    for name in ("half_blocks", "operations"):
        values.pop(name)
    mapping: MappingPlan = values["mapping"]
    if isinstance(plan, DiscriminatorPlan):
        mapping = replace(mapping, w_avg_beta=None) if plan.c_dim else MappingPlan()
        values["cmap_dim"] = (plan.cmap_dim or plan.maps(4)) if plan.c_dim else None
        size = values["cmap_dim"]
    else:
        size = plan.w_dim
    if plan.c_dim == 0 or mapping.embed_features == size:
        mapping = replace(mapping, embed_features=None)
    if mapping.layer_features == size or mapping.layers <= 1:
        mapping = replace(mapping, layer_features=None)
    return {**values, "mapping": None, **{f"mapping {name}": value for name, value in vars(mapping).items()}}


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """What the file has and no settings give, for people; "" if nothing."""
    found = [f"{name} is {theirs[name]}, not {ours[name]}" for name in theirs if theirs[name] != ours[name]]
    return "; ".join(found)


def _claims(content: Any) -> bool:
    return plain_state(content) is None  # what is no such file is told so by `understand`


def _read(content: Any, name: str, fingerprint: str, *, eval_mode: bool) -> Foreign:
    checkpoint = understand(content)
    data = data_spec(checkpoint, name, fingerprint)
    settings, misfit = run_settings(checkpoint, data)
    notes = []
    if checkpoint.generator is None:
        notes.append("The file holds one generator only; it stands for the last one and the averaged one.")
    if checkpoint.discriminator is None:
        notes.append("The file holds no discriminator; fine-tuning begins with a fresh one.")
    elif misfit:
        notes.append(f"The discriminator is left out, as no settings build it ({misfit}); fine-tuning begins afresh.")
    kept = None if misfit or checkpoint.discriminator is None else checkpoint.discriminator.state
    live = checkpoint.generator or checkpoint.average
    return Foreign(
        checkpoint.average.repository, settings, data, checkpoint.average.state, live.state, kept, tuple(notes)
    )


FORMAT = Format(_claims, _read, {})
