"""Measuring generated images: extractors, distances, scores, and estimates that say how they were obtained."""

from ganwright.metrics.estimate import Estimate, Evaluation, Provenance

__all__ = ["Estimate", "Evaluation", "Provenance"]
