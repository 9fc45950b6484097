"""What keeps a discriminator smooth: penalties on its gradient with respect to images, and weight clipping.

Spectral normalisation is a property of a network and lives in `networks.blocks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Critic = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) -> outputs (N,); each output may depend on its own image only (no batch norm)."""


def image_gradients(critic: Critic, images: Tensor) -> Tensor:
    """∇ₓD(x) of each image, (N, C·H·W), differentiable with respect to the critic's weights."""
    x = images.detach().requires_grad_(True)
    with _QuickSecondDerivatives(x) as layers:
        outputs = critic(x)
        layers.only_images = True
        # One backward pass gives every image's own gradient, since D(x_i) depends on x_i alone.
        (gradients,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
        layers.only_images = False
    return gradients.flatten(1)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    """E[(‖∇D(x̂)‖₂ - 1)²] at x̂ = u·x + (1 - u)·G(z) (Gulrajani et al. 2017, eq. 3, without λ).

    Args:
        critic: The critic.
        real: Real images (N, C, H, W).
        fake: As many generated ones.
        u: Uniform numbers in [0, 1), (N, 1, 1, 1).
    """
    x_hat = u * real + (1 - u) * fake
    # The gradient of a norm is undefined at 0; the addend moves no norm that matters.
    norms = (image_gradients(critic, x_hat).square().sum(1) + 1e-16).sqrt()
    return (norms - 1).square().mean()


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """½ E[‖∇D(x)‖²] on real images (Mescheder et al. 2018, eq. 9, without γ)."""
    return 0.5 * image_gradients(critic, real).square().sum(1).mean()


def r2_penalty(critic: Critic, fake: Tensor) -> Tensor:
    """½ E[‖∇D(G(z))‖²] on generated images (Mescheder et al. 2018, eq. 10, without γ)."""
    return r1_penalty(critic, fake)


@dataclass(frozen=True)
class Penalty:
    """A gradient penalty.

    Attributes:
        value: (critic, reals, fakes, u) -> unweighted scalar.
        needs_u: Whether it uses the uniform numbers u.
        source: Paper and equation.
    """

    value: Callable[[Critic, Tensor, Tensor, Tensor], Tensor]
    needs_u: bool
    source: str


PENALTIES: dict[str, Penalty] = {
    "gradient": Penalty(gradient_penalty, True, "Gulrajani et al. 2017, eq. 3"),
    "r1": Penalty(lambda critic, real, fake, u: r1_penalty(critic, real), False, "Mescheder et al. 2018, eq. 9"),
    "r2": Penalty(lambda critic, real, fake, u: r2_penalty(critic, fake), False, "Mescheder et al. 2018, eq. 10"),
}
"""All gradient penalties by the name used in settings."""


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Clip every parameter to [-bound, bound] in place (Arjovsky et al. 2017, algorithm 1, line 7)."""
    for parameter in network.parameters():
        parameter.clamp_(-bound, bound)


# Layers whose gradient is differentiated. ---------------------------------------------------------------------
#
# The numbers of torch's own derivatives with less work. Torch computes a weight gradient of the second derivative as
# a convolution with a kernel as large as the map, where the routine of ordinary training is faster; and although a
# rectifier's second derivative is nought, it sends zeros back through the whole forward pass.


class _QuickSecondDerivatives(TorchFunctionMode):
    """Inside the block, convolutions and rectifiers that `x` passes differentiate twice more quickly.

    Attributes:
        only_images: Whether the present backward pass wants gradients of `x` and not of weights.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x
        self.only_images = False
        self.usable = not torch.is_autocast_enabled(x.device.type)  # the functions below cast nothing

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.usable and func in (F.relu, F.leaky_relu, torch.relu):
            found = _rectified(func is F.leaky_relu, *args, **kwargs)
        elif self.usable and func is F.conv2d:
            found = self._convolved(*args, **kwargs)
        else:
            found = None
        return func(*args, **kwargs) if found is None else found

    def _convolved(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if groups != 1 or isinstance(padding, str) or input.ndim != 4:
            return None
        if _depends(weight, self.x) or (bias is not None and _depends(bias, self.x)):
            return None
        geometry = tuple([n, n] if isinstance(n, int) else list(n) for n in (stride, padding, dilation))
        y: Tensor = _convolution(input, weight, bias, geometry, self)
        return y


def _depends(tensor: Tensor, x: Tensor) -> bool:
    """Whether a weight is computed from `x`; then it passes gradients on to `x`."""
    stack, seen = [tensor.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", None) is x:
            return True
        stack += [following for following, _ in node.next_functions]
    return tensor is x


def _gradient(gy: Tensor, x: Tensor, weight: Tensor, geometry: Any, *, of_weight: bool) -> Tensor:
    """Gradient of a convolution's input or weight by the kernels of ordinary training."""
    mask = [not of_weight, of_weight, False]
    found = torch.ops.aten.convolution_backward(gy, x, weight, None, *geometry, False, [0, 0], 1, mask)
    gradient: Tensor = found[of_weight]
    return gradient


class _Convolution(torch.autograd.Function):
    """y = x * w + b."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any, layers: _QuickSecondDerivatives | None
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.layers = geometry, layers
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gy,), (x, weight) = gradients, ctx.saved_tensors
        if gy is None:
            return None, None, None, None, None
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        if ctx.layers is not None and ctx.layers.only_images:
            of_weight = of_bias = False
        gx = _input_gradient(gy, weight, x.detach(), ctx.geometry) if of_x else None
        gw = _weight_gradient(gy, x, weight.detach(), ctx.geometry) if of_weight else None
        gb = gy.sum((0, 2, 3)) if of_bias else None
        return gx, gw, gb, None, None


class _InputGradient(torch.autograd.Function):
    """∂(gy · y)/∂x; of `x` only the shape matters."""

    @staticmethod
    def forward(ctx: Any, gy: Tensor, weight: Tensor, x: Tensor, geometry: Any) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gy, weight)
        ctx.geometry = geometry
        return _gradient(gy, x, weight, geometry, of_weight=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (ggx,), (gy, weight) = gradients, ctx.saved_tensors
        if ggx is None:
            return None, None, None, None
        of_gy, of_weight, *_ = ctx.needs_input_grad
        ggy = _convolution(ggx, weight, None, ctx.geometry, None) if of_gy else None
        gw = _weight_gradient(gy, ggx, weight.detach(), ctx.geometry) if of_weight else None
        return ggy, gw, None, None


class _WeightGradient(torch.autograd.Function):
    """∂(gy · y)/∂w; of `weight` only the shape matters."""

    @staticmethod
    def forward(ctx: Any, gy: Tensor, x: Tensor, weight: Tensor, geometry: Any) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gy, x)
        ctx.geometry = geometry
        return _gradient(gy, x, weight, geometry, of_weight=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (ggw,), (gy, x) = gradients, ctx.saved_tensors
        if ggw is None:
            return None, None, None, None
        of_gy, of_x, *_ = ctx.needs_input_grad
        ggy = _convolution(x, ggw, None, ctx.geometry, None) if of_gy else None
        gx = _input_gradient(gy, ggw, x.detach(), ctx.geometry) if of_x else None
        return ggy, gx, None, None


def _rectified(leaky: bool, input: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
    options = dict(zip(("negative_slope", "inplace") if leaky else ("inplace",), args, strict=False)) | kwargs
    slope = options.get("negative_slope", 0.01) if leaky else 0.0
    if slope < 0:  # the sign of y must tell the sign of x
        return None
    y: Tensor = _rectifier(input, slope, options.get("inplace", False))
    return y


class _Rectifier(torch.autograd.Function):
    """max(x, slope · x) for a slope in [0, 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, inplace: bool) -> Tensor:
        ctx.set_materialize_grads(False)
        y = F.leaky_relu(x, slope, inplace) if slope else F.relu(x, inplace)
        if inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gy,), (y,) = gradients, ctx.saved_tensors
        if gy is None:
            return None, None, None
        # detach(): the slope does not change with x, and so nothing flows back through the forward pass
        if ctx.slope:
            return torch.ops.aten.leaky_relu_backward(gy, y.detach(), ctx.slope, True), None, None
        return torch.ops.aten.threshold_backward(gy, y.detach(), 0), None, None


_convolution: Any = _Convolution.apply
_input_gradient: Any = _InputGradient.apply
_weight_gradient: Any = _WeightGradient.apply
_rectifier: Any = _Rectifier.apply
