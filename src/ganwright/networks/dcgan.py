"""DCGAN's convolutional generator and discriminator, for any resolution in `conditional.RESOLUTIONS`.

At 64x64 with depth 1 and batch norm these are the networks of Radford et al. 2016 as released: no biases, no
norm after D's first layer and G's last, 3,576,704 and 2,765,568 parameters at width 64 and 100 latents.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import Dropout, NoNorm
from ganwright.networks.conditional import HEADS, Discriminator, Generator, NetworkPlan, halvings


class DCGANGenerator(Generator):
    """Transposed 4x4 convolutions from one position to the image, doubling each time, rectified.

    `depth` > 1 adds 3x3 convolutions at each resolution.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__(plan)
        base, k = halvings(plan.resolution)
        maps = [plan.maps(i) for i in reversed(range(k))]  # at base, 2·base, …, resolution / 2
        layers: list[nn.Module] = [nn.ConvTranspose2d(self.input_size, maps[0], base, bias=plan.bias)]
        for before, after in zip(maps, [*maps[1:], None], strict=True):
            layers += [nn.Conv2d(before, before, 3, padding=1, bias=plan.bias) for _ in range(plan.depth - 1)]
            if after is not None:
                layers.append(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=plan.bias))
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(plan.make_norm(_outputs(layer)) for layer in layers)
        self.to_image = nn.ConvTranspose2d(maps[-1], plan.channels, 4, 2, 1, bias=plan.bias)

    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Images (N, C, H, W) before the final tanh."""
        x = z[:, :, None, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x), labels), inplace=True)
        return self.to_image(x)  # type: ignore[no-any-return]


class DCGANDiscriminator(Discriminator):
    """4x4 convolutions of stride 2, leaky rectified, down to 4..7 positions a side, all of which are
    features.

    `depth` > 1 adds 3x3 convolutions at each resolution.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__(plan)
        base, k = halvings(plan.resolution)
        inputs = plan.channels + self.label_maps
        layers: list[nn.Module] = []
        for i in range(k):
            layers.append(nn.Conv2d(inputs, plan.maps(i), 4, 2, 1, bias=plan.bias))
            inputs = plan.maps(i)
            layers += [nn.Conv2d(inputs, inputs, 3, padding=1, bias=plan.bias) for _ in range(plan.depth - 1)]
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(
            [
                NoNorm(),
                *(plan.make_norm(_outputs(layer)) for layer in layers[1:]),
            ]  # not after the first layer
        )
        self.dropout = Dropout(plan.dropout)
        self.head = HEADS[plan.head](inputs * base**2, plan)

    def features(self, x: Tensor) -> Tensor:
        """Features (N, F)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(F.leaky_relu(norm(layer(x), None), 0.2, inplace=True))
        return x.flatten(1)


def _outputs(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    return layer.out_channels
