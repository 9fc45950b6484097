"""Linear probe: how well classes can be read from features by a linear classifier (Chen et al. 2019, section 4.3).

It judges a representation, such as what a discriminator has learned; labels are used here alone, never in training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.errors import MetricError
from ganwright.metrics.class_accuracy import wilson_interval
from ganwright.metrics.estimate import Estimate, Provenance

Array = npt.NDArray[np.floating] | Tensor


def linear_probe(
    features_train: Array,
    labels_train: npt.ArrayLike,
    features_test: Array,
    labels_test: npt.ArrayLike,
    *,
    weight_decay: float = 1e-3,
    extractor: str = "features",
) -> Estimate:
    """Accuracy on the test rows of multinomial logistic regression fitted to the training rows.

    Features are standardised by the training rows. The regression minimises, by L-BFGS in float64 on the CPU, the mean
    cross-entropy + `weight_decay` / 2 · ‖W‖² (the bias is free): a convex problem, so nothing is random.

    Args:
        features_train: (N, F).
        labels_train: Classes, integers (N,).
        features_test: (M, F), of images that neither the features' network nor the probe was trained on.
        labels_test: Classes (M,).
        weight_decay: Strength of the penalty; above 0.
        extractor: Names the features in the result.

    Returns:
        The estimate "linear-probe" with a Wilson interval over the test rows (it does not cover the training of the
        network).

    Raises:
        MetricError: Shapes do not match, features are not finite, or there are fewer than two classes.
    """
    x, y = _checked(features_train, labels_train, "train")
    x_test, y_test = _checked(features_test, labels_test, "test")
    if x.shape[1] != x_test.shape[1]:
        raise MetricError(f"Training features have {x.shape[1]} numbers, test features {x_test.shape[1]}.")
    if not weight_decay > 0:
        raise MetricError(f"weight_decay is {weight_decay}.", where="weight_decay", fix="give more than 0")
    classes, y = torch.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise MetricError("A probe needs at least two classes.", where="labels_train")
    mean, spread = x.mean(0), x.std(0, correction=0)
    spread = torch.where(spread > 1e-12, spread, 1.0)
    weights, bias = fit_logistic((x - mean) / spread, y, len(classes), weight_decay)
    predicted = classes[((x_test - mean) / spread @ weights.T + bias).argmax(1)]
    hits, n = int((predicted == y_test).sum()), len(y_test)
    low, high = wilson_interval(hits, n)
    provenance = Provenance(extractor, "standardised", f"{len(y)} labelled rows", len(y))
    return Estimate("linear-probe", "linear probe", hits / n, low, high, n, provenance, "95 %, Wilson", True)


def fit_logistic(x: Tensor, y: Tensor, classes: int, weight_decay: float) -> tuple[Tensor, Tensor]:
    """Weights (K, F) and biases (K,) that minimise mean cross-entropy + weight_decay / 2 · ‖W‖²; x float64 (N, F)."""
    weights = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights, bias], max_iter=500, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(x @ weights.T + bias, y) + 0.5 * weight_decay * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(objective)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()


def _checked(features: Array, labels: npt.ArrayLike, which: str) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(features).detach().cpu().double()
    y = torch.as_tensor(np.array(labels)).long()
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y) or not len(x):
        raise MetricError(
            f"Features {tuple(x.shape)} and labels {tuple(y.shape)} do not fit.",
            where=which,
            fix="give (N, F) and (N,)",
        )
    if not x.isfinite().all():
        raise MetricError("Features are not finite.", where=which)
    return x, y
