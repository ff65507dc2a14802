"""The golden cases of ``--golden DIR``, for the tests here."""

from __future__ import annotations

import pytest

from parity import cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``case`` runs on every case; with ``group``, on every explanation of every case."""
    if "case" not in metafunc.fixturenames:
        return
    found = cases.load(metafunc.config.getoption("golden"))
    if "group" in metafunc.fixturenames:
        pairs = [(case, group) for case in found for group in dict.fromkeys(k.group for k in case.expected())]
        metafunc.parametrize(("case", "group"), pairs, ids=[f"{case}-{group}" for case, group in pairs])
    else:
        metafunc.parametrize("case", found, ids=str)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The largest difference of each method on each family, relative to the largest value of the map."""
    table: dict[tuple[str, str], float] = {}
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        for name, value in getattr(report, "user_properties", ()):
            if name == "worst" and report.when == "call":
                family, method, difference = value
                table[method, family] = max(difference, table.get((method, family), 0.0))
    if table:
        terminalreporter.section("largest relative difference from the authors' numbers")
    for (method, family), difference in sorted(table.items()):
        terminalreporter.write_line(f"{method:24}{family:14}{difference:.1e}")
