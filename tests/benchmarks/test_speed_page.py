"""The table of `docs/speed.md` says what the file of benchmarks says."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_ratio_and_rate_of_the_page_is_one_of_the_file_and_none_is_left_out() -> None:
    file = ROOT / "results" / "benchmarks-cpu.jsonl"
    rows = [row for line in file.read_text().splitlines() for row in json.loads(line)["rows"]]
    measured = [(row["ratio"], *row["ratio_range"]) for row in rows]
    (table,) = re.findall(r"<!-- tables: .*?-->\n(.*?)<!-- end", (ROOT / "docs" / "speed.md").read_text(), re.DOTALL)
    ratios = re.findall(r"\| ([\d.]+) \(([\d.]+) to ([\d.]+)\) \|", table)
    assert sorted(ratios) == sorted(tuple(f"{value:.1f}" for value in row) for row in measured)
    shown = {float(rate.replace(",", "")) for rate in re.findall(r"\| ([\d,.]+) (?:views|images)", table)}
    rates = {row["our_rate"] for row in rows if row["our_rate"] < 1e9}
    assert all(any(abs(rate - given) < 0.005 * rate for given in shown) for rate in rates)
    assert len(shown) == len(rates)
