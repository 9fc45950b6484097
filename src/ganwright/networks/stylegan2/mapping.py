"""The mapping network: from a latent z and a label to the style w (Karras et al. 2019, section 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import mean_over_processes
from ganwright.networks.stylegan2.layers import FullyConnected, full_precision
from ganwright.networks.stylegan2.plans import MappingPlan


def normalise_second_moment(x: Tensor) -> Tensor:
    """Each row of x (N, D) divided by the root of its mean square."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def as_vectors(labels: Tensor, c_dim: int) -> Tensor:
    """Classes int64 (N,) as one-hot vectors (N, c_dim); vectors are left as they are."""
    return F.one_hot(labels, c_dim) if labels.ndim == 1 else labels


class Mapping(nn.Module):
    """From z and labels to w. Names of parameters and buffers are those of NVIDIA's stylegan2-ada-pytorch.

    Args:
        z_dim: Numbers in z; 0: w follows from the label alone.
        c_dim: Numbers in a label; 0: none.
        w_dim: Numbers in w.
        plan: Layers.
        track: Whether a running mean of w is kept.
    """

    w_avg: Tensor
    embed: FullyConnected
    fc0: FullyConnected

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, plan: MappingPlan, *, track: bool = True) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.w_avg_beta = z_dim, c_dim, w_dim, plan.w_avg_beta
        embedded = 0 if c_dim == 0 else w_dim if plan.embed_features is None else plan.embed_features
        hidden = w_dim if plan.layer_features is None else plan.layer_features
        sizes = [z_dim + embedded] + [hidden] * (plan.layers - 1) + [w_dim]
        if c_dim:
            self.embed = FullyConnected(c_dim, embedded)
        for i in range(plan.layers):
            layer = FullyConnected(sizes[i], sizes[i + 1], activation=plan.activation, lr_multiplier=plan.lr_multiplier)
            setattr(self, f"fc{i}", layer)
        self.layers = plan.layers
        self.tracks = track and plan.w_avg_beta is not None
        if self.tracks:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Styles w (N, w_dim) from z (N, z_dim), if there is one, and labels.

        Args:
            z: Standard normal.
            labels: Classes int64 (N,), or vectors (N, c_dim).
        """
        parts = []
        if self.z_dim:
            if z is None or z.shape[1] != self.z_dim:
                raise ValueError(f"z must be (N, {self.z_dim})")
            parts.append(normalise_second_moment(z.to(self.fc0.weight.dtype)))
        with full_precision(self.fc0.weight):
            if self.c_dim:
                if labels is None:
                    raise ValueError("a conditional network needs labels")
                vectors = as_vectors(labels, self.c_dim).to(self.fc0.weight.dtype)
                parts.append(normalise_second_moment(self.embed(vectors)))
            w = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
            for i in range(self.layers):
                w = getattr(self, f"fc{i}")(w)
        return w

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Move the running mean towards the mean of w (N, w_dim) over all processes."""
        if self.tracks and self.w_avg_beta is not None:
            mean = mean_over_processes(w.detach().to(self.w_avg.dtype).mean(0))
            self.w_avg.copy_(mean.lerp(self.w_avg, self.w_avg_beta))

    def truncate(self, ws: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
        """w̄ + ψ·(w - w̄) (Karras et al. 2019, appendix B).

        Args:
            ws: Styles (N, layers, w_dim).
            psi: ψ: 1 changes nothing, 0 gives the mean.
            cutoff: Only the first so many layers are truncated; None: all.
        """
        if psi == 1:
            return ws
        truncated = self.w_avg.lerp(ws, psi)
        return truncated if cutoff is None else torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)
