"""The page of performance, from the file of its numbers."""

from __future__ import annotations

import json

from benchmarks import run


def test_the_stored_page_is_current():
    results = json.loads(run.RESULTS.read_text())
    assert run.PAGE.read_text() == run.page(results), "run python benchmarks/run.py --page"


def test_a_section_that_another_machine_measured_says_so():
    rows = [["what", "1.0", "aim"]]
    mine, other = {"processor": "A", "cores": "2"}, {"processor": "B", "cores": "64"}
    results = {"machines": {"step": mine, "memory": mine}, "step": rows, "memory": rows}
    text = run.page(results)
    assert text.count("Machine: ") == 1
    assert "Machine: processor A, cores 2.\n\n## Time of one mutual step" in text
    results["machines"]["memory"] = other
    first, second = run.page(results).split("## Memory")
    assert "`python benchmarks/run.py step`\n\nMachine: processor A, cores 2.\n\n| " in first
    assert "Machine: processor B, cores 64." in second
    assert first.count("Machine: ") == 1
