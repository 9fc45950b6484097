"""Features, uncertainty, IoU and medoids against formulas written in another way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
import torch.nn.functional as F

from ganwright.errors import MetricError
from ganwright.metrics.estimate import Provenance
from ganwright.segmenting import iou
from ganwright.segmenting.ensemble import PixelEnsemble
from ganwright.segmenting.features import features_at, projected_rows, taps
from ganwright.segmenting.pictures import k_medoids
from ganwright.segmenting.segmenter import SmallUNet
from ganwright.segmenting.uncertainty import image_uncertainty, js_divergence


def maps(generator: torch.Generator, shapes: list[tuple[int, int, int]]) -> list[torch.Tensor]:
    return [torch.randn(*shape, generator=generator) for shape in shapes]


SHAPES = [(3, 4, 4), (5, 8, 8), (2, 32, 32), (4, 16, 24)]


def upsampled(fmaps: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """(C, H, W) by torch's own interpolation."""
    return torch.cat([F.interpolate(f[None], size, mode="bilinear", align_corners=False)[0] for f in fmaps])


@pytest.mark.parametrize("size", [(32, 32), (48, 24), (33, 57)])
def test_features_of_pixels_are_those_of_interpolated_maps(size: tuple[int, int]) -> None:
    fmaps = maps(torch.Generator().manual_seed(0), SHAPES)
    whole = upsampled(fmaps, size).flatten(1).T
    pixels = torch.randperm(size[0] * size[1], generator=torch.Generator().manual_seed(1))[:100]
    torch.testing.assert_close(features_at(fmaps, size, pixels), whole[pixels], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [range(32), range(5), range(7, 20), range(31, 32)])
def test_projecting_before_interpolating_is_projecting_after(rows: range) -> None:
    generator = torch.Generator().manual_seed(2)
    fmaps = maps(generator, SHAPES)
    weights = [torch.randn(f.shape[0], 6, generator=generator) for f in fmaps]
    expected = torch.einsum("chw,co->ohw", upsampled(fmaps, (32, 40)), torch.cat(weights))[:, rows.start : rows.stop]
    torch.testing.assert_close(projected_rows(fmaps, weights, (32, 40), rows), expected, rtol=1e-4, atol=1e-5)


def test_a_coarse_edge_lies_where_the_fine_edge_does() -> None:
    """A ramp in image coordinates, pooled 8 times, comes back as itself: nothing is shifted by half a pixel."""
    ramp = (torch.arange(64) + 0.5).expand(1, 64, 64)
    coarse = F.avg_pool2d(ramp[None], 8)[0]
    inner = torch.arange(4, 60)  # beyond the outermost coarse centres the value is held
    back = features_at([coarse], (64, 64), 64 * 32 + inner)
    torch.testing.assert_close(back[:, 0], inner + 0.5)
    low, high, t = taps(8, 64)
    centre = low + t * (high - low)
    torch.testing.assert_close(centre[4:60], ((inner + 0.5) / 8 - 0.5).to(torch.float32))


def test_an_ensemble_labels_an_image_as_it_labels_its_pixels() -> None:
    generator = torch.Generator().manual_seed(3)
    fmaps = maps(generator, SHAPES)
    ensemble = PixelEnsemble(3, [s[0] for s in SHAPES], 4, hidden=(16, 8), seed=5)
    ensemble.scale_like(3 + 2 * torch.randn(500, 14, generator=generator))
    ensemble.train()(torch.randn(3, 64, 14, generator=generator))  # running statistics that are not the first ones
    ensemble.eval()
    pixels = features_at(fmaps, (32, 32), torch.arange(32 * 32))
    expected = ensemble(pixels.expand(3, -1, -1)).softmax(-1).transpose(1, 2).view(3, 4, 32, 32)
    found = torch.cat([ensemble.probabilities(fmaps, (32, 32), r) for r in (range(10), range(10, 32))], 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_each_member_is_an_mlp_of_its_own() -> None:
    """A member's output is that of linear layers, ReLU and batch norm with its weights, and of no other's."""
    ensemble = PixelEnsemble(3, [5], 2, hidden=(6, 4), seed=1).double().train()
    x = torch.randn(3, 40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = ensemble(x)
    for m in range(3):
        h = x[m]
        for layer in (ensemble.first, ensemble.second):
            h = torch.relu(h @ layer.weight[m] + layer.bias[m])
            h = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(found[m], h @ ensemble.third.weight[m] + ensemble.third.bias[m])


def test_a_class_that_no_mask_shows_is_never_said() -> None:
    ensemble = PixelEnsemble(2, [3], 4, hidden=(4, 4)).eval()
    ensemble.rule_out_unseen(torch.tensor([0, 3, 3]))
    fmap = 5 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    said = ensemble.probabilities([fmap], (16, 16), range(16))
    assert not said[:, 1:3].any() and torch.isfinite(js_divergence(said)).all()
    torch.testing.assert_close(said.sum(1), torch.ones(2, 16, 16))


def test_scaling_takes_constant_inputs_out() -> None:
    ensemble = PixelEnsemble(1, [3], 2, hidden=(4, 4))
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 0.01, 0.0]) + 7
    ensemble.scale_like(x)
    scaled = (x - ensemble.mean) * ensemble.scale
    torch.testing.assert_close(scaled.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), rtol=1e-3, atol=1e-3)


def test_divergence_of_two_is_scipys_and_of_many_the_entropies() -> None:
    p = torch.randn(5, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(3).softmax(1)
    two = js_divergence(p[:2]).numpy()
    np.testing.assert_allclose(two, scipy.spatial.distance.jensenshannon(p[0].numpy(), p[1].numpy(), axis=0) ** 2)
    many = scipy.stats.entropy(p.mean(0).numpy(), axis=0) - scipy.stats.entropy(p.numpy(), axis=1).mean(0)
    np.testing.assert_allclose(js_divergence(p).numpy(), many)


def test_divergence_at_its_bounds() -> None:
    certain = torch.eye(4)[:, :, None]  # four networks, each sure of another class
    assert js_divergence(certain).item() == pytest.approx(math.log(4))
    assert js_divergence(certain[:1].expand(4, -1, -1)).item() == 0


def test_an_images_uncertainty_is_that_of_its_worst_tenth() -> None:
    values = torch.arange(100.0).view(10, 10)
    assert image_uncertainty(values[torch.randperm(10)]) == np.arange(90, 100).mean()


def naive_mean_iou(truth: np.ndarray, predicted: np.ndarray, k: int) -> float:
    """Pixel by pixel."""
    found = []
    for c in range(k):
        both = either = present = 0
        for t, p in zip(truth.ravel(), predicted.ravel(), strict=True):
            if t == 255:
                continue
            both += t == c and p == c
            either += t == c or p == c
            present += t == c
        if present:
            found.append(both / either)
    return float(np.mean(found))


@pytest.mark.parametrize("absent", [(), (2,), (0, 3)])
def test_mean_iou_is_the_naive_one(absent: tuple[int, ...]) -> None:
    random = np.random.default_rng(len(absent))
    present = [c for c in (0, 1, 2, 3, 255) if c not in absent]
    truth = random.choice(np.array(present, np.uint8), (3, 20, 20))
    predicted = np.where(random.random((3, 20, 20)) < 0.5, truth % 255, random.integers(0, 4, (3, 20, 20)))
    predicted = predicted.astype(np.uint8)
    counts = np.stack([iou.confusion(t, p, 4) for t, p in zip(truth, predicted, strict=True)])
    assert float(iou.mean_iou(counts.sum(0))) == pytest.approx(naive_mean_iou(truth, predicted, 4), rel=1e-12)
    assert counts.sum() == (truth != 255).sum()


def test_an_absent_class_is_left_out_though_it_is_predicted() -> None:
    truth, predicted = np.array([0, 0, 1, 1], np.uint8), np.array([0, 2, 1, 1], np.uint8)
    each = iou.iou_per_class(iou.confusion(truth, predicted, 3))
    assert each[0] == 0.5 and each[1] == 1 and np.isnan(each[2])
    assert float(iou.mean_iou(iou.confusion(truth, predicted, 3))) == 0.75


def test_interval_of_the_mean_iou() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (30, 64)).astype(np.uint8)
    wrong = random.random((30, 64)) < random.uniform(0.05, 0.3, (30, 1))  # images differ in difficulty
    counts = np.stack([iou.confusion(t, t ^ w, 2) for t, w in zip(truth, wrong.astype(np.uint8), strict=True)])
    found = iou.mean_iou_estimate(counts[None], "mIoU", Provenance())
    assert found.low < found.value < found.high and found.n == 30
    spread = [float(iou.mean_iou(counts[random.integers(30, size=30)].sum(0))) for _ in range(4000)]
    assert (found.low, found.high) == pytest.approx(np.quantile(spread, [0.025, 0.975]), abs=0.006)
    with pytest.raises(MetricError, match="no pixel"):
        iou.mean_iou_estimate(np.zeros((1, 2, 3, 3), np.int64), "mIoU", Provenance())


def test_medoids_are_the_best_of_all_subsets() -> None:
    points = np.random.default_rng(4).normal(size=(14, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    best = min(distances[list(c)].min(0).sum() for c in itertools.combinations(range(14), 3))
    assert distances[k_medoids(distances, 3)].min(0).sum() <= best * 1.02
    assert k_medoids(distances, 14).tolist() == list(range(14))


def test_medoids_find_clusters_and_avoid_the_outlier() -> None:
    random = np.random.default_rng(0)
    centres = np.array([[0, 0], [20, 0], [0, 20], [20, 20]])
    points = np.concatenate([centres.repeat(25, 0) + random.normal(size=(100, 2)), [[40.0, 40.0]]])
    chosen = k_medoids(np.linalg.norm(points[:, None] - points[None], axis=-1), 4)
    assert sorted(chosen // 25) == [0, 1, 2, 3]


def test_the_segmenter_takes_any_size_and_sees_each_pixel() -> None:
    network = SmallUNet(1, 3, 8).eval()
    x = torch.randn(2, 1, 21, 30, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = network(x)
    assert logits.shape == (2, 3, 21, 30)
    gradient = torch.autograd.grad(logits[0, :, 10, 10].sum(), x)[0]
    assert gradient[0, 0, 10, 10] != 0 and not gradient[1].any()
