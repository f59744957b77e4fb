"""Compute metrics, and store each number with its real-data baseline and its protocol."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from oakleaf.errors import UserError
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.metric import Better, Metric
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.runtime.version import VERSION
from oakleaf.sampling.truncation import truncated

log = logging.getLogger(__name__)

SHOWN = 100  # samples in the sample grid of an evaluation


@dataclass
class Score:
    """One number of a metric.

    Attributes:
        name: the number's name, with the extractor's suffix.
        value: the number for the samples.
        real: the real-data baseline; None if it does not exist, could not be computed, or was not requested.
        better: "lower" or "higher", whichever is better, or "".
        protocol: what is needed to compare the number with others.
    """

    name: str
    value: float
    real: float | None
    better: Better
    protocol: dict[str, Any]


@dataclass
class EvaluationResults:
    """The results of an evaluation.

    Attributes:
        scores: all numbers.
        failures: for each metric that could not be computed, the reason.
        pictures: pictures by file name without its ending.
    """

    scores: list[Score] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, Image.Image] = field(default_factory=dict)


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Compute matrix products and convolutions of fp32 in fp32; by default a GPU uses TF32 for convolutions."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    _set_precision("highest", False)
    try:
        yield
    finally:
        _set_precision(*before)


def _set_precision(matmul: str, cudnn_tf32: bool) -> None:
    if matmul != torch.get_float32_matmul_precision():  # setting the same value again would recompile compiled graphs
        torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn_tf32


@exact_fp32()
def evaluate_metrics(
    metrics: Mapping[str, Metric], evaluation: EvaluationData, with_baseline: bool = True
) -> EvaluationResults:
    """Compute all metrics in fp32; one that cannot be computed becomes a failure and does not affect the others.

    Args:
        metrics: the metrics by their configuration names.
        evaluation: the model, the data and the extractor.
        with_baseline: compute the real-data baseline and the pictures too.
    """
    results = EvaluationResults()
    prepared = {}
    if any(metric.uses_extractor for metric in metrics.values()):
        evaluation.prepare()
    for name, metric in metrics.items():
        try:
            metric.prepare(evaluation)
            prepared[name] = metric
        except UserError as error:
            results.failures[name] = str(error)
    for name, metric in prepared.items():
        try:
            _compute(metric, evaluation, with_baseline, results)
        except UserError as error:
            results.failures[name] = str(error)
    return results


def truncated_results(
    metrics: Mapping[str, Metric], evaluation: EvaluationData, truncations: Sequence[float | None]
) -> EvaluationResults:
    """Compute all metrics for samples of each truncation; the real-data baseline and the pictures for the first.

    Args:
        metrics: the metrics by their configuration names.
        evaluation: the model, the data and the extractor, with the first truncation.
        truncations: see `oakleaf.sampling.truncation`; None: none.

    Raises:
        UserError: the samples of the model cannot be truncated.
    """
    results = EvaluationResults()
    baseline: dict[str, float | None] = {}
    for number, truncation in enumerate(truncations):
        truncated(evaluation.module.game, evaluation.module.game.sample_inputs(1), truncation)  # raises if it cannot be
        part = evaluate_metrics(metrics, evaluation.truncated(truncation) if number else evaluation, number == 0)
        baseline = {score.name: score.real for score in part.scores} if number == 0 else baseline
        results.scores += [replace(score, real=baseline.get(score.name)) for score in part.scores]
        results.failures |= part.failures
        results.pictures = part.pictures | results.pictures
    return results


def sample_count(fake: int, metrics: Mapping[str, Metric]) -> int:
    """Return how many samples to generate.

    Args:
        fake: the number requested.
        metrics: the metrics by their configuration names.

    Returns:
        The number requested, or more if the protocol of a metric requires more; at most `SHOWN` if no metric uses the
        samples.
    """
    if not any(metric.uses_samples for metric in metrics.values()):
        return min(fake, SHOWN)
    return max([fake, *(metric.samples for metric in metrics.values())])


def _compute(metric: Metric, evaluation: EvaluationData, with_baseline: bool, results: EvaluationResults) -> None:
    """Add the scores and pictures of one metric to the results."""
    if metric.uses_extractor:
        evaluation.require_features()
    numbers = metric(evaluation.real, evaluation.fake)
    baseline = _baseline(metric, evaluation) if with_baseline and metric.has_baseline else {}
    suffix = evaluation.extractor.suffix if metric.uses_extractor else ""
    common = evaluation.protocol(metric.uses_extractor, with_baseline and metric.has_baseline)
    protocol = {**common, **metric.protocol()}
    if not metric.uses_samples:
        protocol["fake"] = None
    for name, value in numbers.items():
        results.scores.append(Score(name + suffix, value, baseline.get(name), metric.better[name], protocol))
    if with_baseline:
        results.pictures.update(metric.pictures(evaluation.real, evaluation.fake))


def _baseline(metric: Metric, evaluation: EvaluationData) -> dict[str, float]:
    """The real-data baseline, empty if it cannot be computed."""
    try:
        return metric.baseline(evaluation)
    except UserError as error:
        log.info("no real-data baseline: %s", error)
        return {}


def table(results: EvaluationResults) -> str:
    """Format the scores and failures as a table for the terminal; a row for each truncation, if there are several."""
    truncations = list(dict.fromkeys(score.protocol["truncation"] for score in results.scores))
    if len(truncations) > 1:
        return _truncation_table(results, truncations)
    width = max([len(score.name) for score in results.scores] + [len(name) for name in results.failures] + [7])
    lines = [f"{'':{width}s} {'samples':>12s} {'real':>12s}  better"] if results.scores else []
    for score in results.scores:
        real = "" if score.real is None else _format(score.real)
        lines.append(f"{score.name:{width}s} {_format(score.value):>12s} {real:>12s}  {score.better}".rstrip())
    lines += [f"{name:{width}s} {reason}" for name, reason in results.failures.items()]
    return "\n".join(lines)


def _truncation_table(results: EvaluationResults, truncations: Sequence[float | None]) -> str:
    names = list(dict.fromkeys(score.name for score in results.scores))
    values = {(score.protocol["truncation"], score.name): score.value for score in results.scores}
    rows = {"none" if t is None else f"{t:g}": [values.get((t, name)) for name in names] for t in truncations}
    real = {score.name: score.real for score in results.scores}
    rows["real"] = [real[name] for name in names]
    widths = [max(12, len(name)) for name in names]
    lines = ["truncation " + " ".join(f"{name:>{width}s}" for name, width in zip(names, widths))]
    for title, row in rows.items():
        cells = ("" if value is None else _format(value) for value in row)
        lines.append(f"{title:10s} " + " ".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths)))
    return "\n".join(lines + [f"{name} {reason}" for name, reason in results.failures.items()])


def _format(value: float) -> str:
    return f"{value:.0f}" if abs(value) < 1e6 and value == int(value) else f"{value:.4g}"


def write(results: EvaluationResults, folder: Path, about: Mapping[str, Any]) -> None:
    """Write `metrics.json` and the pictures.

    Scores of earlier evaluations stay in the file, unless a new score has the same name and the same protocol.

    Args:
        results: what to write.
        folder: created if it does not exist.
        about: added to the protocol of each score.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "metrics.json"
    new = [{**asdict(score), "protocol": {**about, **score.protocol}} for score in results.scores]
    old = _read_scores(file) if file.is_file() else []
    replaced = [(entry["name"], entry["protocol"]) for entry in new]
    entries = [entry for entry in old if (entry["name"], entry["protocol"]) not in replaced] + new
    text = json.dumps(entries, indent=1, default=float)
    with atomic_write(file) as part:
        part.write_text(text + "\n")
    for name, picture in results.pictures.items():
        with atomic_write(folder / f"{name}.png") as part:
            picture.save(part)


def _read_scores(file: Path) -> list[dict[str, Any]]:
    """The scores in a file; a damaged file is renamed, not overwritten."""
    try:
        return list(json.loads(file.read_text()))
    except ValueError:
        renamed = file.with_suffix(".damaged")
        log.warning("%s is damaged and was renamed to %s", file, renamed.name)
        file.replace(renamed)
        return []


def versions() -> dict[str, str]:
    """Return the versions of Oakleaf and torch, for protocols."""
    return {"oakleaf": VERSION, "torch": torch.__version__}
