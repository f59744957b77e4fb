"""From measures to scores: each number with its calibration line and all that has to be known to compare it."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from oakleaf.errors import UserError
from oakleaf.metrics.evaluation_data import EvaluationData
from oakleaf.metrics.metric import Better, Metric
from oakleaf.runtime.run_dir import atomic_write

log = logging.getLogger(__name__)

SHOWN = 100  # samples in the picture that stands beside the numbers


@dataclass
class Score:
    """real: the same measure of held-out real images in place of samples; None if that failed or was not asked for."""

    name: str
    value: float
    real: float | None
    better: Better
    protocol: dict[str, Any]


@dataclass
class EvaluationResults:
    """failures: by measure, what is missing. pictures: by file name."""

    scores: list[Score] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, Image.Image] = field(default_factory=dict)


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Products and convolutions of fp32 in fp32: a GPU's convolutions are in TF32 unless it is told otherwise."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    _set("highest", False)
    try:
        yield
    finally:
        _set(*before)


def _set(products: str, convolutions: bool) -> None:
    if products != torch.get_float32_matmul_precision():  # said again, compiled graphs would take it for something new
        torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions


@exact_fp32()
def evaluate_metrics(
    measures: Mapping[str, Metric], evaluation: EvaluationData, with_baseline: bool = True
) -> EvaluationResults:
    """All numbers, of samples drawn and features seen in fp32; a measure that can't be taken is told of and leaves the
    others alone."""
    findings = EvaluationResults()
    ready = {}
    if any(one.uses_extractor for one in measures.values()):
        evaluation.prepare()
    for name, one in measures.items():
        try:
            one.prepare(evaluation)
            ready[name] = one
        except UserError as error:
            findings.failures[name] = str(error)
    for name, one in ready.items():
        try:
            _take(one, evaluation, with_baseline, findings)
        except UserError as error:
            findings.failures[name] = str(error)
    return findings


def sample_count(fake: int, measures: Mapping[str, Metric]) -> int:
    """So many samples, or as many as the protocol of one of the measures wants; if none is of samples, some to look
    at."""
    if not any(one.of_samples for one in measures.values()):
        return min(fake, SHOWN)
    return max([fake, *(one.samples for one in measures.values())])


def _take(one: Metric, evaluation: EvaluationData, with_baseline: bool, findings: EvaluationResults) -> None:
    if one.uses_extractor:
        evaluation.require_features()
    numbers = one(evaluation.real, evaluation.fake)
    lines = _calibrated(one, evaluation) if with_baseline and one.compares else {}
    suffix = evaluation.extractor.suffix if one.uses_extractor else ""
    protocol = {**evaluation.protocol(one.uses_extractor, with_baseline and one.compares), **one.protocol()}
    if not one.of_samples:
        protocol["fake"] = None
    for name, value in numbers.items():
        findings.scores.append(Score(name + suffix, value, lines.get(name), one.better[name], protocol))
    if with_baseline:
        findings.pictures.update(one.pictures(evaluation.real, evaluation.fake))


def _calibrated(one: Metric, evaluation: EvaluationData) -> dict[str, float]:
    try:
        return one.baseline(evaluation)
    except UserError as error:
        log.info("no calibration line: %s", error)
        return {}


def table(findings: EvaluationResults) -> str:
    """What the terminal shows."""
    width = max([len(score.name) for score in findings.scores] + [len(name) for name in findings.failures] + [7])
    lines = [f"{'':{width}s} {'samples':>12s} {'real':>12s}  better"] if findings.scores else []
    for score in findings.scores:
        real = "" if score.real is None else _number(score.real)
        lines.append(f"{score.name:{width}s} {_number(score.value):>12s} {real:>12s}  {score.better}".rstrip())
    lines += [f"{name:{width}s} {reason}" for name, reason in findings.failures.items()]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) < 1e6 and value == int(value) else f"{value:.4g}"


def write(findings: EvaluationResults, folder: Path, about: Mapping[str, Any]) -> None:
    """`metrics.json` and the pictures, in a folder that need not be there. Scores of an earlier evaluation stay, unless
    these were made by the same protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "metrics.json"
    new = [{**asdict(score), "protocol": {**about, **score.protocol}} for score in findings.scores]
    old = _read(file) if file.is_file() else []
    same = [(entry["name"], entry["protocol"]) for entry in new]
    text = json.dumps([e for e in old if (e["name"], e["protocol"]) not in same] + new, indent=1, default=float)
    with atomic_write(file) as part:
        part.write_text(text + "\n")
    for name, picture in findings.pictures.items():
        with atomic_write(folder / f"{name}.png") as part:
            picture.save(part)


def _read(file: Path) -> list[dict[str, Any]]:
    """Earlier scores; a damaged file is put aside, not overwritten."""
    try:
        return list(json.loads(file.read_text()))
    except ValueError:
        aside = file.with_suffix(".damaged")
        log.warning("%s is damaged: put aside as %s", file, aside.name)
        file.replace(aside)
        return []


def versions() -> dict[str, str]:
    import oakleaf

    return {"oakleaf": oakleaf.__version__, "torch": torch.__version__}
