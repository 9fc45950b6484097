"""Weight initialisation by name, as in the papers; done before spectral norm is attached."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from ganwright.networks.blocks import ConditionalNorm

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def _torch_default(weight: Tensor) -> None:
    """Leave what the layer's constructor drew."""


INITIALISERS: dict[str, Callable[[Tensor], object]] = {
    "normal": lambda weight: nn.init.normal_(weight, 0.0, 0.02),
    "xavier": lambda weight: nn.init.xavier_uniform_(weight, math.sqrt(2.0)),
    "he": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
    "torch": _torch_default,
}
"""How convolutions and linear layers are drawn: `normal` N(0, 0.02²) (Radford et al. 2016, section 4);
`xavier` uniform with gain √2 (Miyato et al. 2018); `he` uniform (Gulrajani et al. 2017); `orthogonal` (Brock
et al. 2019); `torch`."""


def initialise(network: nn.Module, name: str) -> None:
    """Draw the weights of all convolutions and linear layers, from torch's global generator.

    Biases become 0 and gains of norms keep 1, but for `normal`, whose gains are N(1, 0.02²) as in DCGAN's
    released code; `torch` touches nothing.

    Args:
        network: Any network.
        name: A key of `INITIALISERS`.
    """
    if name == "torch":
        return
    draw = INITIALISERS[name]
    for module in network.modules():
        if isinstance(module, _WEIGHTED):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine and name == "normal":
            nn.init.normal_(module.weight, 1.0, 0.02)
        elif isinstance(module, ConditionalNorm) and name == "normal":
            nn.init.normal_(module.gain.weight, 1.0, 0.02)
