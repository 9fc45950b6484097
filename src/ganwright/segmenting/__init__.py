"""Segmentation from a handful of annotated generated pictures (Zhang et al. 2021, DatasetGAN).

Pictures to annotate (`pictures.py`), a label head that reads classes from the generator's features (`ensemble.py`,
`fitting.py`, `head.py`), pairs of image and mask without end (`making.py`), and whether they are any good
(`segmenter.py`, `comparing.py`). The user's side of it is docs/segmentation.md.
"""

from ganwright.segmenting.classes import SegmentClasses
from ganwright.segmenting.comparing import Verdict, evaluate_dataset
from ganwright.segmenting.fitting import HeadSettings
from ganwright.segmenting.head import LabelHead, train_head
from ganwright.segmenting.making import make_dataset, read_manifest
from ganwright.segmenting.masks import read_mask, write_mask
from ganwright.segmenting.pairs import Pairs, open_pairs
from ganwright.segmenting.pictures import make_pictures
from ganwright.segmenting.segmenter import SegmenterSettings, SmallUNet, load_segmenter, train_segmenter

__all__ = [
    "HeadSettings",
    "LabelHead",
    "Pairs",
    "SegmentClasses",
    "SegmenterSettings",
    "SmallUNet",
    "Verdict",
    "evaluate_dataset",
    "load_segmenter",
    "make_dataset",
    "make_pictures",
    "open_pairs",
    "read_manifest",
    "read_mask",
    "train_head",
    "train_segmenter",
    "write_mask",
]
