"""Series of metrics in Prometheus' text form, as values."""

import re

SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse(page: str) -> list[tuple[str, dict[str, str], float]]:
    """Names, labels and values of all series of a page."""
    found = [SERIES.match(line) for line in page.splitlines() if not line.startswith("#")]
    return [(m[1], dict(LABEL.findall(m[2] or "")), float(m[3])) for m in found if m]


def values(page: str, name: str, /, **labels: str) -> list[float]:
    """The values of the series of this name that have these labels."""
    return [v for n, found, v in parse(page) if n == name and labels.items() <= found.items()]
