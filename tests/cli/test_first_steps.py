"""What somebody meets who uses the command line for the first time: samples, slips, figures, and what is refused at once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import heedmap
from heedmap.cli import evaluate
from heedmap.evaluate import evidence, masking
from heedmap.evaluate.experiments import perturbation, rationales, sanity, segmentation

LIGHT = """
import io, json, sys
from contextlib import redirect_stderr
from heedmap.cli.main import main
for arguments in json.load(sys.stdin):
    sys.argv, code = ["heedmap", *arguments], None
    with redirect_stderr(io.StringIO()) as told:
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
    print(json.dumps([code, sorted({"torch", "transformers", "matplotlib"} & set(sys.modules)), told.getvalue()]))
"""
"""Runs one command after the other: its code, what heavy was imported by then, and what was told."""


SLIPS = {
    (
        "evaluate",
        "perturbation",
        "zoo/vit-shapes",
        "--out",
        "run",
        "--preset",
        "vti",
    ): "--preset is 'vti' (did you mean 'vit'?)",
    (
        "evaluate",
        "perturbation",
        "zoo/vit-shapes",
        "--out",
        "run",
        "--segment",
        "text",
        "--segment",
        "imag",
    ): "mean 'image'?",
    (
        "evaluate",
        "perturbation",
        "zoo/vit-shapes",
        "--out",
        "run",
        "--remove",
        "dorp",
    ): "'drop'?); expected drop, mask or replace",
    ("evaluate", "segmentation", "zoo/vit-shapes", "--out", "run", "--threshold", "ostu"): "did you mean 'otsu'?",
    ("evaluate", "segmentation", "zoo/vit-shapes", "--out", "run", "--target", "labels"): "did you mean 'label'?",
    (
        "evaluate",
        "rationales",
        "zoo/gpt-lists",
        "--out",
        "run",
        "--data",
        "eraser:x",
        "--join",
        "som",
    ): "expected sum or max",
    ("evaluate", "sanity", "zoo/vit-shapes", "--out", "run", "--check", "sako"): "did you mean 'saco'?",
}
"""Words of one command's options → what is told."""


EARLY = [
    ["explain", "zoo/vit-shapes", "--image", "none.png", "--target", "query:2"],
    ["compare", "zoo/gpt-lits", "--text", "dog"],
    ["compare", "zoo/gpt-lists", "--text", "dog", "--method", "rolout"],
    ["recommend", "zoo/vit-shapes", "--data", "folder:none"],
    ["evaluate", "perturbation", "zoo/vit-shapes", "--out", "run", "--data", "folder:none"],
    ["evaluate", "segmentation", "zoo/vit-shapes", "--out", "run", "--data", "imagenet-segmentation:none"],
    ["evaluate", "detection", "zoo/detr-shapes", "--out", "run", "--data", "coco:none"],
    ["evaluate", "rationales", "zoo/gpt-lists", "--out", "run", "--data", "eraser:none"],
    ["evaluate", "sanity", "zoo/vit-shapes", "--out", "run", "--data", "fodler:none"],
    ["evaluate", "sanity", "zoo/vit-shapes", "--out", "run", "--method", "rolout:start_layer=1"],
    ["evaluate", "detection", "zoo/detr-shaps", "--out", "run"],
    *map(list, SLIPS),
]
"""Commands that fail at once."""
OF_FIGURES: list[Any] = [
    ("explain", "--width", "0", 2, "greater than or equal to 0.5"),
    ("compare", "--width", "nan", 2, "'--width'"),
    ("explain", "--theme", "drak", 1, "no theme 'drak' (did you mean 'dark'?); known themes: light, dark"),
    ("heads", "--theme", "dusk", 1, "no theme 'dusk'; known themes: light, dark"),
    ("heads", "--dpi", "0", 2, "greater than or equal to 20"),
    ("explain", "--widht", "3", 2, "--width"),
    ("compare", "--alpha", "2", 2, "less than or equal to 1"),
    ("explain", "--compare", "another text", 2, "heedmap edit zoo/gpt-lists --sample 0"),
]
"""A command of a sample of the zoo and an option, its code, and what is told."""


def test_slips_are_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    given = [(arguments, 1, SLIPS.get(tuple(arguments), "")) for arguments in EARLY]
    drawn = ["--sample", "0", "--out", "map.png"]
    given += [([command, "zoo/gpt-lists", *drawn, *option], code, told) for command, *option, code, told in OF_FIGURES]
    command, asked = [sys.executable, "-c", LIGHT], json.dumps([arguments for arguments, *_ in given])
    done = subprocess.run(command, input=asked, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stderr, done.returncode) == ("", 0)
    for (arguments, code, told), line in zip(given, done.stdout.splitlines(), strict=True):
        found, heavy, said = json.loads(line)
        assert (found, heavy) == (code, []), (arguments, said)
        assert told in " ".join(said.replace("│", " ").split()), arguments
    assert list(tmp_path.iterdir()) == []


def test_the_words_of_options_are_those_of_the_experiments() -> None:
    assert (
        tuple(perturbation.PRESETS),
        tuple(perturbation.PRESETS["tenths"].steps),
    ) == (evaluate.PRESETS, evaluate.SEGMENTS)
    assert (evaluate.WAYS, evaluate.CUTS, evaluate.TARGETS) == (masking.WAYS, evidence.CUTS, segmentation.TARGETS)
    assert sanity.Sanity(evaluate.CHECKS).parts == evaluate.CHECKS  # all are known
    assert (evaluate.FILLS, evaluate.PUTS) == (masking.FILLS, rationales.REMOVES)
    assert set(evaluate.CHECKS) >= set(sanity.PARTS)
    for join in evaluate.JOINS:
        rationales.Rationales(join=join)


def _line(result) -> str:
    """What was told, as one line without the frame."""
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["explain", "zoo/gpt-lits", "--text", "dog"], "did you mean 'zoo/gpt-lists'?"),
        (["explain", "zoo/gpt-lists", "--text", "dog", "--method", "rolout"], "did you mean 'rollout'?"),
        (["explain", "zoo/vit-shapes", "--sample", "0", "--target", "heard"], "did you mean 'heart'?"),
        (
            ["explain", "zoo/gpt-lists", "--text", "dog", "--option", "start_laier=1"],
            "did you mean 'start_layer'?",
        ),
        (["explain", "zoo/gpt-lists", "--sample", "0", "--out", "a.png", "--theme", "darc"], "did you mean 'dark'?"),
        (
            ["explain", "zoo/gpt-lists", "--sample", "0", "--out", "a.png", "--cmap", "viridos"],
            "did you mean 'viridis'?",
        ),
        (["explain", "zoo/lxmert-easy-vqa", "--text", "dog"], "heedmap zoo train lxmert-easy-vqa"),
        (["explain", "zoo/lxmert-easy-vqa", "--sample", "0"], "heedmap zoo train lxmert-easy-vqa"),
        (["compare", "zoo/lxmert-easy-vqa", "--sample", "0"], "heedmap zoo train lxmert-easy-vqa"),
        (["explain", "zoo/gpt-lists", "--text", "dog", "--device", "cuda:99"], "there is no device 'cuda:99' here"),
        (["explain", "zoo/lxmert-shapes", "--text", "dog"], "give --boxes"),
        (["explain", "./nothing", "--text", "dog"], "there is no folder './nothing'"),
    ],
)
def test_a_slip_is_answered_with_what_to_do(run, arguments: list[str], told: str) -> None:
    assert told in _line(run(*arguments, code=1))


def test_options_and_commands_are_guessed_too(run) -> None:
    assert "--method" in run("explain", "zoo/gpt-lists", "--methd", "rollout", code=2).stderr
    assert "explain" in run("explian", "zoo/gpt-lists", code=2).stderr


@pytest.mark.parametrize("name", ["gpt-lists", "lxmert-shapes"])
def test_a_sample_of_the_zoo_is_an_input(run, name: str) -> None:
    data = json.loads(run("explain", f"zoo/{name}", "--sample", "3", "--json").stdout)
    sample = heedmap.zoo_sample(name, 3)
    found = heedmap.load(f"zoo/{name}").explain(**sample.inputs)
    assert data["target"] == list(found.target)
    for key, segment in found.segments.items():
        assert data["segments"][key]["relevance"][0] == pytest.approx(segment.relevance[0].tolist())


def test_a_sample_stands_alone(run) -> None:
    told = _line(run("explain", "zoo/gpt-lists", "--sample", "0", "--text", "a", code=2))
    assert "leave the others out" in told
    assert "of the models zoo/" in _line(run("inspect", "somebody/model", "--sample", "0", code=2))


def test_boxes_are_drawn_on_the_picture_that_is_given_with_them(run, tmp_path: Path) -> None:
    run("explain", "zoo/lxmert-shapes", "--sample", "0", "--out", "sample.png", "--width", "9")
    sample = heedmap.zoo_sample("lxmert-shapes", 0)
    import numpy as np

    boxes = sample.inputs["boxes"]
    np.savez(tmp_path / "boxes.npz", features=boxes["features"], boxes=boxes["boxes"])
    Image.fromarray(sample.picture).save(tmp_path / "scene.png")
    given = ["--text", sample.inputs["text"], "--boxes", "boxes.npz"]
    run("explain", "zoo/lxmert-shapes", *given, "--image", "scene.png", "--out", "given.png", "--width", "9")
    run("explain", "zoo/lxmert-shapes", *given, "--out", "without.png", "--width", "9")
    drawn, without = (_colours(tmp_path / f"{name}.png") for name in ("given", "without"))
    assert len(_colours(tmp_path / "sample.png")) > 1.2 * len(without)
    assert len(drawn) > 1.2 * len(without)


def _colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as picture:
        return {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}


def test_figures_are_as_they_are_asked_for(run, tmp_path: Path) -> None:
    plain = ["explain", "zoo/vit-shapes", "--sample", "0", "--out"]
    run(*plain, "own.png", "--no-title")
    look = ["--width", "3", "--dpi", "100", "--cmap", "viridis", "--alpha", "0.5", "--theme", "dark", "--no-title"]
    run(*plain, "asked.png", *look)
    with Image.open(tmp_path / "asked.png") as asked, Image.open(tmp_path / "own.png") as own:
        assert asked.width == 300
        assert asked.height / asked.width == pytest.approx(own.height / own.width, rel=0.02)
        assert asked.convert("RGB").getpixel((0, 0)) == (0x14, 0x15, 0x1A)
    for wrong in (["--width", "0"], ["--dpi", "5"], ["--alpha", "2"]):
        assert wrong[0] in run(*plain, "a.png", *wrong, code=2).stderr
    assert "for figures alone" in _line(run(*plain, "a.json", "--width", "3", code=2))


@pytest.mark.parametrize(
    ("command", "model", "words"),
    [
        ("objects", "zoo/detr-shapes", ("rests on: image", "%")),
        ("alignment", "zoo/bart-dates", ("rests on: text", "answer")),
    ],
)
def test_several_answers_at_once(run, tmp_path: Path, command: str, model: str, words: tuple[str, ...]) -> None:
    shown = run(command, model, "--sample", "0").stdout
    assert all(word in shown for word in words)
    for ending in ("png", "html", "json"):
        run(command, model, "--sample", "0", "--out", f"it.{ending}")
    entries = json.loads((tmp_path / "it.json").read_text())
    assert len(entries) > 1
    assert all(entry["name"] in (tmp_path / "it.html").read_text() for entry in entries)
    with Image.open(tmp_path / "it.png") as picture:
        assert picture.width > 500


def test_what_saves_people_is_told(run) -> None:
    shown = run("explain", "zoo/gpt-lists", "--text", "zebra red ? zebra", "--target", "blue").stdout
    assert "the model does not know what is written there" in shown
    assert "the map shows what speaks for it" in shown
    assert "class" not in shown
