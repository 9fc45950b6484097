"""Layers whose gradient is differentiated again, as gradient penalties need it: torch's own numbers with less work.

Torch computes a weight gradient of the second derivative as a convolution with a kernel as large as the map, where the
routine of ordinary training is faster; and although a rectifier's second derivative is nought, it sends zeros back
through the whole forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class QuickSecondDerivatives(TorchFunctionMode):
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
        if isinstance(padding, str) or input.ndim != 4:
            return None
        if _depends(weight, self.x) or (bias is not None and _depends(bias, self.x)):
            return None
        pairs = [[n, n] if isinstance(n, int) else list(n) for n in (stride, padding, dilation)]
        geometry = (*pairs, groups)
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
    *pairs, groups = geometry
    found = torch.ops.aten.convolution_backward(gy, x, weight, None, *pairs, False, [0, 0], groups, mask)
    gradient: Tensor = found[of_weight]
    return gradient


class _Convolution(torch.autograd.Function):
    """y = x * w + b."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any, layers: QuickSecondDerivatives | None
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
