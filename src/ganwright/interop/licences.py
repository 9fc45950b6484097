"""What to tell people about the terms of networks they import. Facts in our words; no legal advice."""

from __future__ import annotations

_NVIDIA = (
    "Licence: {code} is under the NVIDIA Source Code License, which allows research and evaluation only, not "
    "commercial use (section 3.3), and networks that NVIDIA published with it come under the same terms. If somebody "
    "else trained this network, ask them for theirs. The training images have terms of their own (FFHQ: "
    "CC BY-NC-SA 4.0). Importing changes none of this: it holds for the imported run and what is fine-tuned from it."
)

_NOTICES = {
    "stylegan2-ada-pytorch": _NVIDIA.format(code="stylegan2-ada-pytorch"),
    "stylegan3": _NVIDIA.format(code="stylegan3"),
    "R3GAN": (
        "Licence: ask the publisher of this network for its terms; the code it was trained with is partly under the "
        "NVIDIA Source Code License (research and evaluation only). The training images have terms of their own. "
        "Importing changes none of this: it holds for the imported run and what is fine-tuned from it."
    ),
}


def notice_for(origin: str) -> str:
    """The notice for files of this origin: "stylegan2-ada-pytorch", "stylegan3" or "R3GAN"."""
    return _NOTICES[origin]
