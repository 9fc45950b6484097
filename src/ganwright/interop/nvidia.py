"""What a pickle of NVIDIA's StyleGAN repositories says, once it has been read: which networks, how built, what weights.

Their networks are stored with the arguments they were constructed with, but only those that were given: what a missing
one means depends on the repository, which is told by attributes the other one does not have. Whatever the file says of
a layer is compared with the layer we build, so that a changed network is refused and not quietly taken for the
official one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganwright.interop.arguments import check_filters, check_sizes, plain_arguments, plain_values, shown
from ganwright.interop.module_trees import check_state, entries, tensors, walk
from ganwright.interop.restricted import CheckpointImportError, Inert
from ganwright.networks import stylegan2, stylegan3
from ganwright.networks.stylegan2.plans import Repository

Kind = Literal["stylegan2", "stylegan3", "discriminator"]
Plan = stylegan2.GeneratorPlan | stylegan2.DiscriminatorPlan | stylegan3.StyleGAN3Plan


@dataclass(frozen=True)
class OfficialNetwork:
    """One network of a file.

    Attributes:
        kind: Which of ours it is.
        repository: Whose defaults it was built with.
        plan: Its sizes and choices.
        state: Weights and buffers, as our network of this plan takes them.
    """

    kind: Kind
    repository: Repository
    plan: Plan
    state: dict[str, Tensor]

    def build(self) -> nn.Module:
        """Our network with its weights, in `eval` mode."""
        network = _construct(self.kind, self.plan)
        network.load_state_dict(self.state)
        return network.eval()


@dataclass(frozen=True)
class OfficialCheckpoint:
    """What a file holds.

    Attributes:
        average: G_ema, the averaged generator.
        generator: G, as it was trained last.
        discriminator: D.
        data: What is said of the training data (`training_set_kwargs`): plain values.
    """

    average: OfficialNetwork
    generator: OfficialNetwork | None
    discriminator: OfficialNetwork | None
    data: dict[str, Any]


def understand(content: Any) -> OfficialCheckpoint:
    """The networks of a file that `read_checkpoint_file` has read.

    Raises:
        CheckpointImportError: It is no StyleGAN2 or StyleGAN3 of NVIDIA's PyTorch repositories, or a changed one.
        ImportRefusedError: Its networks are nested without end, or claim more numbers than the file has.
    """
    if isinstance(content, Inert):  # a network alone
        content = {"G_ema": content}
    if not isinstance(content, dict) or not any(isinstance(content.get(key), Inert) for key in ("G_ema", "G")):
        raise CheckpointImportError(
            "The file holds no generator where NVIDIA's files have one (G_ema or G).",
            fix="give a network pickle of stylegan2-ada-pytorch or stylegan3; a state dict alone does not say how its "
            "network was built",
        )
    networks = {key: content[key] for key in ("G_ema", "G", "D") if isinstance(content.get(key), Inert)}
    found = {key: _network(key, tree) for key, tree in networks.items()}
    data = content.get("training_set_kwargs")
    average = found["G_ema"] if "G_ema" in found else found["G"]
    discriminator = found.get("D")
    if average.kind == "discriminator" or (discriminator is not None and discriminator.kind != "discriminator"):
        raise CheckpointImportError("The file's generator is a discriminator, or the reverse.")
    return OfficialCheckpoint(average, found.get("G"), discriminator, plain_values(data))


def _network(key: str, tree: Inert) -> OfficialNetwork:
    modules = dict(walk(tree))
    kind = _kind(key, tree, modules)
    repository = _repository(modules)
    arguments = plain_arguments(_init_arguments(tree))
    try:
        plan = _plan(kind, arguments, repository)
        with torch.device("meta"):  # sizes first: what a file says must not make us allocate
            shapes = {name: tensor.shape for name, tensor in _construct(kind, plan).state_dict().items()}
    except Exception as error:  # arguments can be wrong in any way
        raise CheckpointImportError(
            f"{key} was built in a way that is not the official network's: {getattr(error, 'what', error)}".rstrip(".")
            + ".",
            fix="only StyleGAN2 and StyleGAN3 of NVIDIA's own PyTorch repositories can be imported",
        ) from error
    state = dict(tensors(modules))
    check_state(key, state)
    _check_shapes(key, shapes, state)
    network = OfficialNetwork(kind, repository, plan, state)
    _check_attributes(key, modules, network.build())
    return network


def _kind(key: str, tree: Inert, modules: Mapping[str, Inert]) -> Kind:
    if tree.name.rsplit(".", 1)[-1] == "Discriminator":
        return "discriminator"
    if tree.name.rsplit(".", 1)[-1] == "Generator" and "synthesis" in modules and "mapping" in modules:
        return "stylegan3" if "synthesis.input" in modules else "stylegan2"
    raise CheckpointImportError(f"{key} is a {tree.name[:100]!a}, which is no network of StyleGAN2 or StyleGAN3.")


def _repository(modules: Mapping[str, Inert]) -> Repository:
    """Whose code built it: stylegan3's fully connected layers remember their sizes, the older ones do not."""
    linear = [module for module in modules.values() if module.name == "FullyConnectedLayer"]
    return "stylegan3" if linear and "in_features" in linear[0].state else "stylegan2-ada-pytorch"


def _init_arguments(tree: Inert) -> dict[str, Any]:
    arguments = tree.state.get("_init_kwargs")
    if not isinstance(arguments, dict) or tree.state.get("_init_args", ()) not in ((), []):
        raise CheckpointImportError(
            "A network does not say what it was constructed with.",
            fix="give a file written by stylegan2-ada-pytorch or stylegan3",
        )
    return arguments


def _plan(kind: Kind, arguments: dict[str, Any], repository: Repository) -> Plan:
    # Whoever builds the network by name (dnnlib.util.construct_class_by_name) passes only the other arguments on.
    arguments = {name: value for name, value in arguments.items() if name != "class_name"}
    check_sizes(arguments)
    if kind == "stylegan3":
        plan = stylegan3.stylegan3_plan(arguments)
        check_filters(plan)
        return plan
    make = stylegan2.discriminator_plan if kind == "discriminator" else stylegan2.generator_plan
    return make(arguments, repository)


def _construct(kind: Kind, plan: Plan) -> nn.Module:
    if isinstance(plan, stylegan3.StyleGAN3Plan):
        return stylegan3.Generator(plan)
    if isinstance(plan, stylegan2.GeneratorPlan):
        return stylegan2.Generator(plan)
    return stylegan2.Discriminator(plan)


def _check_shapes(key: str, wanted: Mapping[str, torch.Size], state: dict[str, Tensor]) -> None:
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    other = [name for name in sorted(wanted.keys() & state.keys()) if wanted[name] != state[name].shape]
    for what, names in (("lacks", missing), ("has besides", extra), ("has in another size", other)):
        if names:
            shown = ", ".join(ascii(name)[1:-1][:80] for name in names[:3])
            raise CheckpointImportError(
                f"{key} is not the official network: it {what} {shown}{' …' if len(names) > 3 else ''}.",
                fix="a fork of the official code has changed its network; it cannot be imported",
            )


_COMPARED = {
    "conv_clamp": "clamp",
    "up": "up",
    "down": "down",
    "up_factor": "up",
    "down_factor": "down",
    "weight_gain": "weight_gain",
    "bias_gain": "bias_gain",
    "magnitude_ema_beta": "beta",
    "w_avg_beta": "w_avg_beta",
    "group_size": "group",
}
"""Attributes of official layers that change results, and what our layers call them."""


def _check_attributes(key: str, modules: Mapping[str, Inert], network: nn.Module) -> None:
    """Compare what the file says of each layer with the layer that was built.

    Raises:
        CheckpointImportError: They differ.
    """
    ours = dict(network.named_modules())
    for name, module in modules.items():
        for theirs, own in _COMPARED.items():
            value = module.state.get(theirs)
            if theirs not in module.state or not hasattr(ours.get(name), own):
                continue
            if theirs == "w_avg_beta" and "w_avg" not in dict(entries(module, "_buffers")):
                continue  # a discriminator's mapping keeps no mean
            built = getattr(ours[name], own)
            if not _equal(value, built):
                raise CheckpointImportError(
                    f"{key} is not the official network: {theirs} of {ascii(name)[1:-1]} is {shown(value)}, where "
                    f"its construction arguments give {built}.",
                    fix="a fork of the official code has changed its network; it cannot be imported",
                )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        if isinstance(a, int) and a.bit_length() > 64:
            return False
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
    return bool(a is None and b is None)
