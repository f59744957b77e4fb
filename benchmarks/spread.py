"""Mean and standard deviation of runs' numbers: python benchmarks/spread.py [PREFIX] RUN RUN ...

Reads what evaluate.py left in each run's metrics.json; PREFIX chooses numbers whose names begin so.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

asked = sys.argv[1:]
prefix = asked.pop(0) if asked and not Path(asked[0]).exists() else ""
values: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
for run in asked:
    for entry in json.loads((Path(run) / "metrics.json").read_text()):
        if entry["name"].startswith(prefix):
            values[entry["name"]].append((entry["value"], entry["real"]))


def spread(numbers: list[float]) -> str:
    if not numbers:
        return ""
    return f"{mean(numbers):.4f}" + (f" +- {stdev(numbers):.4f}" if len(numbers) > 1 else "")


print(f"{'':28s} {'samples':>18s} {'real':>18s}  runs")
for name, pairs in values.items():
    real = [line for _, line in pairs if line is not None]
    print(f"{name:28s} {spread([value for value, _ in pairs]):>18s} {spread(real):>18s}  {len(pairs)}")
