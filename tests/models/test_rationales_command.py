"""From ERASER's files to a report of rationales, by the command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heedmap.cli.main import app

REVIEWS = {"a": "the cat sat in this", "b": "what is in this the", "c": "is the cat in ?"}


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    """Three reviews; of the third the reasons are in a document that is not there."""
    data = tmp_path / "movies"
    (data / "docs").mkdir(parents=True)
    lines = []
    for number, (name, text) in enumerate(REVIEWS.items()):
        if name != "c":
            (data / "docs" / name).write_text(text)
        evidence = {"docid": name, "start_token": 1, "end_token": 3, "text": " ".join(text.split()[1:3])}
        label = "POS" if number % 2 else "NEG"
        lines.append({"annotation_id": name, "classification": label, "evidences": [[evidence]]})
    (data / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return data


def test_rationales_of_movie_reviews(folder, movies: Path, tmp_path: Path) -> None:
    command = [
        "evaluate",
        "rationales",
        str(folder("bert")),
        "--data",
        f"eraser:{movies}",
        "--out",
        str(tmp_path / "run"),
    ]
    labels = ["--label", "NEG=0", "--label", "POS=1", "--truth"]
    result = CliRunner().invoke(app, [*command, *labels, "--method", "rollout", "--json"])
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["data"]["kind"] == "eraser"
    assert summary["skipped"]["count"] == 1
    keys = {measure["key"]: {row["method"]: row["value"] for row in measure["rows"]} for measure in summary["measures"]}
    assert set(keys["f1_mean"]) == {"generic", "rollout"}
    assert all(0 <= value <= 1 for value in keys["f1_mean"].values())


def test_a_label_that_is_no_number_is_told(movies: Path, tmp_path: Path) -> None:
    command = ["evaluate", "rationales", "zoo/gpt-lists", "--data", f"eraser:{movies}", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*command, "--label", "NEG"])
    assert result.exit_code == 2
    assert "LABEL=INDEX" in result.stderr
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "rationales need a classifier of text alone" in " ".join(result.stderr.split())
