"""Exploring the latent space of a trained run: truncation, mixing, walks, directions, edits and projection."""

from ganwright.exploring.directions import Directions
from ganwright.exploring.editing import Edit
from ganwright.exploring.explorer import Explorer, explore
from ganwright.exploring.latents import Latents
from ganwright.exploring.result import Projection
from ganwright.exploring.sheet import Sheet
from ganwright.exploring.video import Clip

__all__ = ["Clip", "Directions", "Edit", "Explorer", "Latents", "Projection", "Sheet", "explore"]
