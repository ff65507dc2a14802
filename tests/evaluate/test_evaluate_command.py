import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from heedmap.cli.main import app
from heedmap.zoo import world

RUN = CliRunner()
SMALL = ("--method", "rollout", "--batch", "8")


def _json(*arguments: str) -> dict:
    result = RUN.invoke(app, ["evaluate", *arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def vqa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shapes world as a VQA v2 folder with box features beside it, and one picture without features."""
    folder = tmp_path_factory.mktemp("vqa")
    world.write_vqa(folder, "test", 6)
    (folder / "features").mkdir()
    for index in range(5):
        found = world.regions(world.make_scene(0, "test", index))
        pixels = found.positions * 96
        np.savez(folder / "features" / f"{index}.npz", features=found.features, boxes=pixels, image_w=96, image_h=96)
    return folder


def test_perturbation_on_a_vqa_folder(vqa: Path, tmp_path: Path) -> None:
    data = ("--data", f"vqa:{vqa}", "--file", "split=test", "--file", f"features={vqa / 'features'}")
    summary = _json("perturbation", "zoo/lxmert-shapes", "--out", str(tmp_path / "run"), *data, *SMALL)
    assert summary["data"]["kind"] == "vqa"
    assert summary["settings"]["preset"] == "lxmert"
    assert summary["skipped"]["count"] > 0
    assert all("features" in why for why in summary["skipped"]["why"].values())
    whole = next(curve for curve in summary["curves"] if curve["key"] == "boxes/positive/accuracy")
    assert whole["lines"]["generic"]["y"][0] > 0.9, "the model knows the answers"
    assert str(vqa) not in json.dumps(summary), "a summary does not depend on where the data lie"


def test_perturbation_on_a_folder_of_pictures(tmp_path: Path) -> None:
    for index in range(6):
        scene = world.make_scene(0, "test", index)
        path = tmp_path / "data" / scene.objects[0].shape / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(path)
    damaged = next((tmp_path / "data").iterdir()) / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n")
    summary = _json(
        "perturbation",
        "zoo/vit-shapes",
        "--out",
        str(tmp_path / "run"),
        "--data",
        f"folder:{tmp_path / 'data'}",
        *SMALL,
    )
    assert summary["settings"]["preset"] == "vit"
    assert summary["samples"] == 7
    assert [key.endswith("damaged.png") for key in summary["skipped"]["why"]] == [True]
    first = next(curve for curve in summary["curves"] if curve["key"] == "image/positive/accuracy")
    assert first["lines"]["generic"]["y"][0] > 0.8


def test_the_leaderboard_is_printed_and_the_files_named(tmp_path: Path) -> None:
    command = [
        "evaluate",
        "perturbation",
        "zoo/visualbert-shapes",
        "--out",
        str(tmp_path),
        "--samples",
        "4",
        "--segment",
        "text",
        *SMALL,
    ]
    result = RUN.invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert "A: text, positive: accuracy AUC (lower is better)" in result.stdout
    assert f"wrote {tmp_path / 'report.html'}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("zoo/bart-dates",), 1, "no samples of our own for zoo/bart-dates"),
        (("zoo/lxmert-shapes", "--data", "folder"), 2, "KIND:FOLDER"),
        (("zoo/lxmert-shapes", "--data", "vqa:nowhere"), 1, "nowhere"),
        (("zoo/lxmert-shapes", "--data", "imagenet:nowhere"), 1, "known are vqa, coco"),
        (("zoo/lxmert-shapes", "--file", "split=test"), 2, "give --data too"),
        (("zoo/lxmert-shapes", "--data", "vqa:x", "--file", "split"), 2, "NAME=VALUE"),
        (("zoo/lxmert-shapes", "--method", "magic"), 1, "no method 'magic'"),
        (("zoo/lxmert-shapes", "--preset", "vit"), 1, "cannot perturb its"),
        (("zoo/nothing",), 1, "no model zoo/nothing"),
    ],
)
def test_what_is_wrong_is_told(arguments: tuple[str, ...], code: int, told: str, tmp_path: Path) -> None:
    result = RUN.invoke(app, ["evaluate", "perturbation", *arguments, "--out", str(tmp_path / "run"), "--samples", "2"])
    assert result.exit_code == code
    words = " ".join(result.stderr.replace("│", " ").split())
    assert told in words, words
    assert not (tmp_path / "run").exists() or not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("segmentation", "zoo/vit-shapes"), "miou"),
        (("detection", "zoo/detr-shapes"), "ap"),
        (("sanity", "zoo/lxmert-shapes", "--check", "saco", "--check", "agreement"), "saco"),
    ],
)
def test_the_other_evaluations_run_on_the_zoo(command: tuple[str, ...], key: str, tmp_path: Path) -> None:
    summary = _json(*command, "--out", str(tmp_path), "--samples", "3", *SMALL)
    assert any(key in measure["key"].lower() for measure in summary["measures"])
    assert {row["method"] for row in summary["measures"][0]["rows"]} == {"generic", "rollout"}
    assert "Leaderboard" in (tmp_path / "report.html").read_text()


def test_detection_reads_coco(tmp_path: Path) -> None:
    world.write_coco(tmp_path / "coco", "val", 4)
    data = ("--data", f"coco:{tmp_path / 'coco'}", "--file", "split=val2014")
    summary = _json("detection", "zoo/detr-shapes", "--out", str(tmp_path / "run"), *data, *SMALL)
    assert summary["data"]["kind"] == "coco"
    assert summary["measures"][0]["samples"] == 4
