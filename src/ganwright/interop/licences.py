"""What to tell people about the terms of networks they import. Facts in our words; no legal advice."""

from __future__ import annotations

from ganwright.interop.junyanz import RESNET, UNET

_NVIDIA = (
    "Licence: {code} is under the NVIDIA Source Code License, which allows research and evaluation only, not "
    "commercial use (section 3.3), and networks that NVIDIA published with it come under the same terms. If somebody "
    "else trained this network, ask them for theirs. The training images have terms of their own (FFHQ: "
    "CC BY-NC-SA 4.0). Importing changes none of this: it holds for the imported run and what is fine-tuned from it."
)

_PUBLISHER = (
    "Licence: ask the publisher of these weights for their terms; the code of {code} is under {licence}, which says "
    "nothing of weights that somebody else trained. The training images have terms of their own. Importing changes "
    "none of this: it holds for the imported run and what is fine-tuned from it."
)

_NOTICES = {
    "stylegan2-ada-pytorch": _NVIDIA.format(code="stylegan2-ada-pytorch"),
    "stylegan3": _NVIDIA.format(code="stylegan3"),
    "R3GAN": (
        "Licence: ask the publisher of this network for its terms; the code it was trained with is partly under the "
        "NVIDIA Source Code License (research and evaluation only). The training images have terms of their own. "
        "Importing changes none of this: it holds for the imported run and what is fine-tuned from it."
    ),
    "SRGAN (leftthomas)": _PUBLISHER.format(code="leftthomas/SRGAN", licence="the MIT licence"),
    "MSRResNet (BasicSR)": _PUBLISHER.format(code="BasicSR", licence="the Apache licence 2.0"),
    "RRDBNet (BasicSR)": _PUBLISHER.format(code="BasicSR", licence="the Apache licence 2.0"),
    "RRDBNet (ESRGAN)": _PUBLISHER.format(code="ESRGAN", licence="the Apache licence 2.0"),
    "RRDBNet (ESRGAN, old)": _PUBLISHER.format(code="ESRGAN", licence="the Apache licence 2.0"),
    **dict.fromkeys(
        (RESNET, UNET), _PUBLISHER.format(code="pytorch-CycleGAN-and-pix2pix", licence="the BSD 2-clause licence")
    ),
}


def notice_for(origin: str) -> str:
    """The notice for files of this origin: `Foreign.origin`."""
    return _NOTICES[origin]
