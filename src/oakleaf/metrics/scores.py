"""Compute metrics, and store each number with its real-data baseline and its protocol."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from oakleaf.errors import UserError
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.image_set import ImageSet
from oakleaf.metrics.metric import Better, Metric
from oakleaf.metrics.standard_errors import difference_interval, standard_errors
from oakleaf.metrics.truncation import truncation_curve
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.runtime.version import VERSION
from oakleaf.sampling.truncation import truncated

log = logging.getLogger(__name__)

SHOWN = 100  # samples in the sample grid of an evaluation
Z = 1.96  # standard deviations around the mean that hold 95 % of a normal distribution


@dataclass
class Score:
    """One number of a metric.

    Attributes:
        name: the number's name, with the extractor's suffix.
        value: the number for the samples.
        error: its standard error over samples; None if it was not computed.
        baseline: the real-data baseline, or what the protocol says under "baseline"; None if it does not exist, could
            not be computed, or was not requested.
        interval: the 95 % interval of `value - baseline`; None without standard errors.
        better: what is best; see `Metric.better`.
        protocol: what is needed to compare the number with others.
    """

    name: str
    value: float
    error: float | None
    baseline: float | None
    interval: tuple[float, float] | None
    better: Better
    protocol: dict[str, Any]

    @property
    def resolution(self) -> float | None:
        """The smallest difference between two runs, each with as many samples, that 95 % of pairs do not exceed."""
        return None if self.error is None else Z * 2**0.5 * self.error


@dataclass
class EvaluationResults:
    """The results of an evaluation.

    Attributes:
        scores: all numbers.
        failures: for each metric that could not be computed, the reason.
        notes: for each metric without a real-data baseline, the reason, or what its baseline is.
        pictures: pictures by file name without its ending.
    """

    scores: list[Score] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
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
def evaluate_metrics(metrics: Mapping[str, Metric], evaluation: EvaluationData) -> EvaluationResults:
    """Compute all metrics in fp32; one that cannot be computed becomes a failure and does not affect the others.

    Args:
        metrics: the metrics by their configuration names.
        evaluation: the model, the data and the extractor; whether baselines and standard errors are computed too.
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
            _compute(name, metric, evaluation, results)
        except UserError as error:
            results.failures[name] = str(error)
    return results


def truncated_results(
    metrics: Mapping[str, Metric], evaluation: EvaluationData, truncations: Sequence[float | None]
) -> EvaluationResults:
    """Compute all metrics for samples of each truncation, and the pictures for the first.

    With several truncations, precision and recall are plotted in the picture `truncation`.

    Args:
        metrics: the metrics by their configuration names.
        evaluation: the model, the data and the extractor, with the first truncation.
        truncations: see `oakleaf.sampling.truncation`; None: none.

    Raises:
        UserError: the samples of the model cannot be truncated.
    """
    results = EvaluationResults()
    for number, truncation in enumerate(truncations):
        truncated(evaluation.module.game, evaluation.module.game.sample_inputs(1), truncation)  # raises if it cannot be
        part = evaluate_metrics(metrics, evaluation.truncated(truncation) if number else evaluation)
        results.scores += part.scores
        results.failures |= part.failures
        results.notes |= part.notes
        results.pictures = part.pictures | results.pictures
    if curve := truncation_curve(results.scores):
        results.pictures["truncation"] = curve
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


def _compute(name: str, metric: Metric, evaluation: EvaluationData, results: EvaluationResults) -> None:
    """Add the scores and pictures of one metric to the results."""
    if metric.uses_extractor:
        evaluation.require_features()
    fake, numbers, baseline = _compare(name, metric, evaluation, results)
    errors = _errors(metric, evaluation, fake)
    baseline_errors = _errors(metric, evaluation, evaluation.held_out) if errors and baseline else {}
    common = evaluation.protocol(metric.uses_extractor, len(fake))
    if baseline:
        common["baseline"] = metric.baseline_is or held_out_description(evaluation)
    protocol = {**common, **metric.protocol()}
    if not metric.uses_samples:
        protocol["fake"] = None
    for number, value in numbers.items():
        other, interval = baseline.get(number), None
        if other is not None and number in errors and number in baseline_errors:
            both = errors[number], baseline_errors[number]
            interval = difference_interval(value - other, *both, evaluation.resamples)
        full_name = evaluation.extractor.number_name(number) if metric.uses_extractor else number
        score = Score(full_name, value, errors.get(number), other, interval, metric.better[number], protocol)
        results.scores.append(score)
    if evaluation.with_baseline:
        results.pictures.update(metric.pictures(evaluation.real, fake))


def _compare(
    name: str, metric: Metric, evaluation: EvaluationData, results: EvaluationResults
) -> tuple[ImageSet, dict[str, float], dict[str, float]]:
    """Compute the numbers and their baseline; if there is none, for all samples, and note the reason.

    Returns:
        The samples that were compared, the numbers, and the baseline, empty if there is none.
    """
    if evaluation.with_baseline and metric.has_baseline:
        fake = evaluation.fake if metric.fixed_count or not metric.uses_samples else evaluation.matched
        try:
            baseline = metric.baseline(evaluation)
            numbers = metric(evaluation.real, fake)
            if metric.baseline_is:
                results.notes[name] = f"the baseline is {metric.baseline_is}"
            return fake, numbers, baseline
        except UserError as error:
            numbers = metric(evaluation.real, evaluation.fake)
            results.notes[name] = f"no baseline: {error}"
            return evaluation.fake, numbers, {}
    return evaluation.fake, metric(evaluation.real, evaluation.fake), {}


def _errors(metric: Metric, evaluation: EvaluationData, fake: ImageSet) -> dict[str, float]:
    """The standard errors of the numbers over the images of `fake`, empty if they cannot be computed."""
    if not (evaluation.resamples and metric.has_errors and metric.uses_samples):
        return {}
    try:
        errors = standard_errors(metric.resampler(evaluation.real, fake), len(fake), evaluation.resamples)
    except UserError:  # half of the samples are too few
        return {}
    return {name: error for name, error in errors.items() if metric.better[name]}


def held_out_description(evaluation: EvaluationData) -> str:
    """Say which images stand in place of the samples in the real-data baseline."""
    count, reference = f"{len(evaluation.held_out):,}", f"{len(evaluation.real):,}"
    return f"{count} real images, held out of the extractor's training, against the same {reference} as the samples"


def table(results: EvaluationResults) -> str:
    """Format scores, missing baselines and failures for the terminal; several truncations as a row for each."""
    truncations = list(dict.fromkeys(score.protocol["truncation"] for score in results.scores))
    if len(truncations) > 1:
        return _truncation_table(results, truncations)
    width = max([len(score.name) for score in results.scores] + [len(name) for name in results.failures] + [7])
    header = f"{'':{width}s} {'samples':>10s} {'+-':>8s} {'baseline':>10s} {'difference, 95 %':>24s}  best"
    lines = [header] if results.scores else []
    for score in results.scores:
        cells = [_format(score.value), _format(score.error), _format(score.baseline), _interval(score)]
        padded = " ".join(f"{cell:>{size}s}" for cell, size in zip(cells, (10, 8, 10, 24)))
        lines.append(f"{score.name:{width}s} {padded}  {score.better}".rstrip())
    lines += [f"{name:{width}s} {reason}" for name, reason in results.failures.items()]
    lines += [f"{name}: {reason}" for name, reason in results.notes.items()]
    return "\n".join(lines + _warnings(results))


def _warnings(results: EvaluationResults) -> list[str]:
    """Name the numbers for which two equally good runs can be further apart than this run is from the baseline."""
    coarse = {
        score.name: score.resolution
        for score in results.scores
        if score.resolution and score.baseline is not None and abs(score.value - score.baseline) < score.resolution
    }
    if not coarse:
        return []
    listing = ", ".join(f"{name} {_format(resolution)}" for name, resolution in coarse.items())
    count = max(score.protocol["fake"] or 0 for score in results.scores if score.name in coarse)
    return [
        f"{count:,} samples do not tell this run from real images, nor two such runs apart, by these numbers if they "
        f"differ by less than: {listing}"
    ]


def _truncation_table(results: EvaluationResults, truncations: Sequence[float | None]) -> str:
    names = list(dict.fromkeys(score.name for score in results.scores))
    values = {(score.protocol["truncation"], score.name): score.value for score in results.scores}
    rows = {"none" if t is None else f"{t:g}": [values.get((t, name)) for name in names] for t in truncations}
    baseline = {score.name: score.baseline for score in results.scores}
    rows["baseline"] = [baseline[name] for name in names]
    widths = [max(12, len(name)) for name in names]
    lines = ["truncation " + " ".join(f"{name:>{width}s}" for name, width in zip(names, widths))]
    for title, row in rows.items():
        cells = ("" if value is None else _format(value) for value in row)
        lines.append(f"{title:10s} " + " ".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths)))
    return "\n".join(lines + [f"{name} {reason}" for name, reason in results.failures.items()])


def _interval(score: Score) -> str:
    if score.interval is None:
        return ""
    low, high = (f"{end:+.3g}" for end in score.interval)
    return f"[{low}, {high}]"


def _format(value: float | None) -> str:
    if value is None:
        return ""
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
