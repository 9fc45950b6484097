"""StyleGAN3's generator (Karras et al. 2021, "Alias-free generative adversarial networks") in plain torch."""

from ganwright.networks.stylegan3.generator import Generator
from ganwright.networks.stylegan3.plan import StyleGAN3Plan, stylegan3_plan

__all__ = ["Generator", "StyleGAN3Plan", "stylegan3_plan"]
