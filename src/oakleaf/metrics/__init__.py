"""Metrics: numbers that compare generated samples with real images.

- `metric.py`: `Metric`, the base class; each metric is one subclass in its own module.
- `evaluation_data.py`: `EvaluationData` draws the samples, selects the real images and extracts the features of both
  once, for all metrics of an evaluation.
- `extractors.py`, `descriptors.py`: the feature extractors (`extractor=` on the command line).
- `scores.py`: `evaluate_metrics` computes all numbers and `write` stores them in `metrics.json`, each with the protocol
  that is needed to compare it with others.

A metric is computed twice: for the samples, and for held-out real images in their place. The second number is the
real-data baseline; it stands in the column `real`.
"""
