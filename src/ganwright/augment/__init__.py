"""What the discriminator sees instead of bare images, so that it cannot learn a small data set by heart.

`AugmentSettings` are the flags, `make_augmenter` builds the `Augmenter` they ask for: nothing, DiffAugment
(Zhao et al. 2020, arXiv:2006.10738) or ADA (Karras et al. 2020, arXiv:2006.06676).
"""

from ganwright.augment.augmenter import Augmenter, Randomness
from ganwright.augment.making import make_augmenter
from ganwright.augment.settings import AugmentSettings

__all__ = ["AugmentSettings", "Augmenter", "Randomness", "make_augmenter"]
