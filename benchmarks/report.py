"""The results of all machines into docs/performance.md: python benchmarks/report.py"""

import json
from typing import Any

from contest import HERE, RESULTS

PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- results: benchmarks/report.py writes what follows -->", "<!-- end of results -->"


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(shown(row.get(name)) for name in columns)} |" for row in rows]


def main() -> None:
    lines: list[str] = [BEGIN, ""]
    for file in sorted(RESULTS.glob("*.json")):
        lines += [f"### {file.stem}", ""]
        for result in json.loads(file.read_text()).values():
            made = f"`{result['command']}`, commit {result['commit']}, torch {result['torch']}, {result['date']}"
            lines += [f"**{result['title']}** ({made})", "", *table(result["rows"]), ""]
    text = PAGE.read_text()
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text(before + "\n".join(lines) + "\n" + after)


if __name__ == "__main__":
    main()
