import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import heedmap
from heedmap.cli.choosing import table
from heedmap.cli.main import app
from heedmap.common.ranks import spearman
from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.errors import InputError
from heedmap.evaluate.evaluation import contenders
from heedmap.evaluate.experiments.choosing import compare
from heedmap.zoo import world

RUN = CliRunner()
LIST = "dog red ; cat blue ; sun green ? cat"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    Image.fromarray(world.make_scene(0, "test", 4).image).save(path)
    return path


def test_all_methods_explain_the_same_answer() -> None:
    subject = heedmap.load("zoo/gpt-lists")
    found = compare(subject, {"text": LIST, "image": None}, contenders(["rollout", "random"], False))
    assert list(found.explanations) == ["generic", "rollout", "random"]
    assert {one.target for one in found.explanations.values()} == {subject.explain(text=LIST).target}
    ours, other = (found.explanations[name]["text"][0].double().numpy() for name in ("generic", "rollout"))
    assert found.figures["generic"]["text"]["agreement"] == 1.0
    assert found.figures["rollout"]["text"]["agreement"] == pytest.approx(spearman(ours, other), abs=1e-5)
    assert found.figures["generic"]["text"]["insertion"] > found.figures["random"]["text"]["insertion"]
    curve = found.curves["generic"]["text"]
    assert curve.shape == (2, 11)
    assert curve[0, 0] == curve[1, 0] == pytest.approx(1, abs=0.01)
    assert np.isclose(curve[0, -1], curve[1, -1]), "in the end all words are gone"


def test_what_is_taken_away_may_be_replaced(picture: Path) -> None:
    vit, gpt = heedmap.load("zoo/vit-shapes"), heedmap.load("zoo/gpt-lists")
    seen = {"image": Image.open(picture)}
    plain, blurred = (
        compare(vit, seen, ["generic"], remove=way).curves["generic"]["image"] for way in ("mask", "replace")
    )
    assert plain[0, 0] == blurred[0, 0]
    assert not np.allclose(plain, blurred)
    with pytest.raises(InputError, match="no text of another sample than input"):
        compare(gpt, {"text": LIST}, ["generic"], remove="replace")
    other = Sample("other", {"text": "sun green ; cat red ? sun"}, RightAnswers({}))
    found = compare(gpt, {"text": LIST}, ["generic"], remove="replace", donors=[other])
    assert found.curves["generic"]["text"][0, 0] > 0.9
    for model, given in (("zoo/gpt-lists", ["--text", LIST]), ("zoo/vit-shapes", ["--image", str(picture)])):
        command = ["compare", model, *given, "--method", "rollout", "--json"]
        masked, replaced = (
            json.loads(RUN.invoke(app, [*command, "--remove", way]).stdout) for way in ("mask", "replace")
        )
        assert masked["methods"]["rollout"]["relevance"] == replaced["methods"]["rollout"]["relevance"]
        assert masked["methods"]["rollout"]["curves"] != replaced["methods"]["rollout"]["curves"]


def test_a_target_can_be_chosen() -> None:
    subject = heedmap.load("zoo/gpt-lists")
    found = compare(subject, {"text": LIST}, contenders((), False)[:1], target="green")
    assert "green" in found.explanations["generic"].target[0]


def test_methods_that_do_not_fit_are_told() -> None:
    subject = heedmap.load("zoo/gpt-lists")
    found = compare(subject, {"text": LIST}, contenders(["rollout", "generic:start_layer=99"], False))
    assert "generic, start_layer=99" in found.refused
    assert list(found.explanations) == ["generic", "rollout"]
    with pytest.raises(InputError, match="no method fits"):
        compare(subject, {"text": LIST}, contenders(["generic:start_layer=99"], False)[1:])


@pytest.mark.parametrize("ending", ["png", "svg", "html", "json"])
def test_a_comparison_is_written(picture: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"compared.{ending}"
    command = ["compare", "zoo/vit-shapes", "--image", str(picture), "--method", "rollout", "--out", str(out)]
    result = RUN.invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert "image" in result.stdout
    assert "rank correlation with the first method" in result.stdout
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "html": b"<!DOCTYPE html>", "json": b"{"}
    assert out.read_bytes().startswith(begins[ending])
    if ending == "html":
        assert all(
            f"<br>{head}</th>" in out.read_text() for head in ("agreement", "deletion ↓", "insertion ↑", "saco ↑")
        )
    if ending == "json":
        data = json.loads(out.read_text())
        assert set(data["methods"]) == {"generic", "rollout"}
        assert len(data["methods"]["rollout"]["relevance"]["image"]) == 144


def test_markup_in_a_text_stays_text(tmp_path: Path) -> None:
    out = tmp_path / "compared.html"
    text = "<script>alert(1)</script> red ; cat blue ? cat"
    result = RUN.invoke(app, ["compare", "zoo/gpt-lists", "--text", text, "--method", "rollout", "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert "<script>" not in out.read_text()


def test_the_table_of_a_pair_fits_80_columns(picture: Path) -> None:
    found = compare(
        heedmap.load("zoo/clip-shapes"),
        {"text": "a red circle", "image": Image.open(picture)},
        contenders(["transformer_attribution"], True),
    )
    stream = StringIO()
    Console(file=stream, width=80).print(table(found))
    lines = [line.split() for line in stream.getvalue().splitlines()]
    for name, parts in found.figures.items():
        for part, figures in parts.items():
            own = [f"{value:.3f}" for value in figures.values()]
            cells = [*([part] if name == "generic" else []), name, *own, f"{found.seconds[name]:.2f}"]
            assert cells in lines
    assert set(found.figures["generic"]) == {"text", "image"}


def test_recommend_answers_in_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "answer.md"
    command = [
        "recommend",
        "zoo/gpt-lists",
        "--text",
        LIST,
        "--text",
        "sun green ; cat red ? sun",
        "--method",
        "rollout",
    ]
    result = RUN.invoke(app, [*command, "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert "On zoo/gpt-lists," in out.read_text()
    assert "| generic |" in out.read_text()
    as_json = RUN.invoke(app, [*command, "--json"])
    data = json.loads(as_json.stdout)
    assert data["samples"] == 2
    assert {row["method"] for row in data["rows"]} == {"generic", "rollout", "random"}


def test_recommend_takes_a_data_set(picture: Path, tmp_path: Path) -> None:
    for label in ("circle", "star"):
        (tmp_path / label).mkdir()
        Image.open(picture).save(tmp_path / label / "a.png")
    (tmp_path / "star" / "b.png").write_bytes(b"no picture")
    command = ["recommend", "zoo/vit-shapes", "--data", f"folder:{tmp_path}", "--method", "rollout", "--json"]
    result = RUN.invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["samples"] == 2


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["compare", "zoo/gpt-lists", "--text", LIST, "--out", "x.gif"], 1, ".svg"),
        (["compare", "zoo/gpt-lists"], 2, "at least one of --text"),
        (["compare", "zoo/gpt-lists", "--text", LIST, "--method", "magic"], 1, "no method 'magic'"),
        (["recommend", "zoo/gpt-lists", "--text", LIST, "--budget", "huge"], 1, "quick, thorough"),
        (["recommend", "zoo/gpt-lists", "--out", "x.pdf"], 1, ".json"),
        (
            [
                "recommend",
                "zoo/clip-shapes",
                "--text",
                "a",
                "--text",
                "b",
                "--image",
                "x.png",
                "--image",
                "y.png",
                "--image",
                "z.png",
            ],
            2,
            "2 × --text, 3 × --image: give as many of each, or one for all",
        ),
    ],
)
def test_what_is_wrong_is_told_at_once(command: list[str], code: int, told: str) -> None:
    result = RUN.invoke(app, command)
    assert result.exit_code == code
    assert told in " ".join(result.stderr.replace("│", " ").split())
