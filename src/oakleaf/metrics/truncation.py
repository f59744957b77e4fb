"""The picture of precision and recall as functions of the truncation of the samples."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from PIL import Image


def truncation_curve(scores: Sequence[Any]) -> Image.Image | None:
    """Plot precision against recall, a point for each truncation; the held-out real images are a point too.

    Truncation exchanges variety for quality: precision rises and recall falls.

    Args:
        scores: of `oakleaf.metrics.scores`, from one or several truncations.

    Returns:
        The picture; None if there are less than two truncations, or no precision and recall.

    Reference: Kynkaanniemi 2019, arXiv:1904.06991, figure 4.
    """
    by_name = {name: [one for one in scores if one.name.startswith(name)] for name in ("precision", "recall")}
    if min(map(len, by_name.values())) < 2:
        return None
    figure = Figure((5, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel=by_name["recall"][0].name, ylabel=by_name["precision"][0].name)
    axes.set_title("Precision and recall of truncated samples")
    points = list(zip(by_name["recall"], by_name["precision"]))
    axes.plot(*zip(*[(recall.value, precision.value) for recall, precision in points]), "o-", label="samples")
    for recall, precision in points:
        label = "none" if recall.protocol["truncation"] is None else f"{recall.protocol['truncation']:g}"
        axes.annotate(label, (recall.value, precision.value), textcoords="offset points", xytext=(6, 4))
    recall, precision = points[0]
    if recall.baseline is not None and precision.baseline is not None:
        axes.plot(recall.baseline, precision.baseline, "k*", markersize=12, label="held-out real images")
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file)
