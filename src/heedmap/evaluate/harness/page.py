"""The report of an evaluation: one HTML file that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from heedmap.render.html import data_url, document, render

CLEAR = 0.05
"""A difference with a smaller p is called clear."""


def report(summary: Mapping[str, Any], pictures: Mapping[str, bytes], seconds: float) -> str:
    """The page.

    Args:
        summary: of the run.
        pictures: key of a curve → PNG file.
        seconds: that the measurements took.
    """
    name = f"{summary['evaluation']} of {summary['model']['name']}"
    body = render(
        "report.html",
        name=name,
        facts=_facts(summary, seconds),
        reference=summary["reference"],
        measures=summary["measures"],
        leaderboard=[_line(entry, summary) for entry in summary["leaderboard"]],
        curves=[{**curve, "url": data_url(pictures[curve["key"]])} for curve in summary["curves"]],
        refused=summary["refused"],
        skipped=summary["skipped"],
    )
    return document(body, f"heedmap: {name}", "wide")


def verdict(row: Mapping[str, Any], measure: Mapping[str, Any]) -> str:
    """``"better"`` or ``"worse"`` than the paper's method, where the difference is clear (p < 0.05), else ``""``."""
    if row.get("p") is None or row["p"] >= CLEAR or not row["difference"]:
        return ""
    return "better" if (row["difference"] > 0) == (measure["better"] == "higher") else "worse"


def _facts(summary: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    skipped = summary["skipped"]["count"]
    return {
        "model": f"{summary['model']['name']} (weights {summary['model']['weights']})",
        "data": ", ".join(f"{key}: {value}" for key, value in summary["data"].items()),
        "samples": f"{summary['samples']:,}" + (f", {skipped:,} skipped" if skipped else ""),
        "settings": ", ".join(f"{key}: {json.dumps(value)}" for key, value in summary["settings"].items()),
        "seed": summary["seed"],
        "measured in": f"{seconds / 60:.1f} min",
    }


def _line(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry, "cells": [_cell(entry["method"], measure) for measure in summary["measures"]]}


def _cell(method: str, measure: Mapping[str, Any]) -> dict[str, Any]:
    """A value with its interval and the classes that say how good it is; nothing where it was not measured."""
    row = next((row for row in measure["rows"] if row["method"] == method), None)
    if row is None or row["value"] is None:
        return {}
    best = "best" if row["value"] == measure["rows"][0]["value"] else ""
    return {**row, "kind": f"{verdict(row, measure)} {best}".strip()}
