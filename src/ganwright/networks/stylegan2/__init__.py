"""StyleGAN2 (Karras et al. 2020), in plain torch, with the parameter names of NVIDIA's stylegan2-ada-pytorch."""

from ganwright.networks.stylegan2.discriminator import Discriminator
from ganwright.networks.stylegan2.generator import Generator
from ganwright.networks.stylegan2.plans import (
    DiscriminatorPlan,
    GeneratorPlan,
    MappingPlan,
    discriminator_plan,
    generator_plan,
)

__all__ = [
    "Discriminator",
    "DiscriminatorPlan",
    "Generator",
    "GeneratorPlan",
    "MappingPlan",
    "discriminator_plan",
    "generator_plan",
]
