import json
import subprocess
import sys
import types
import wave
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import heedmap
from heedmap.cli import main as cli
from heedmap.data.flow import AttentionInfo, Flow, StreamInfo
from heedmap.data.picture import Geometry, Picture
from heedmap.data.segments import Segment
from heedmap.errors import InputError
from heedmap.explanation import Explanation
from heedmap.methods.cards import CARDS, evidence
from heedmap.targets import DetectionQuery, NextToken

FLOW = Flow(
    (StreamInfo("text", 3, ("text",), ((0,),)),),
    tuple(AttentionInfo(i, "self", "text", "text", 2, 3, 3, "sdpa", (), True) for i in range(4)),
)


def _explanation(image: bool = False, words: tuple[str, ...] = ("a", "\x1b[31mcat", "[red]sat")) -> Explanation:
    text = Segment("text", "text", "text", torch.tensor([[0.1, 0.9, 0.3]]), torch.arange(3)[None], None, (words,))
    patches = Segment("image", "image", "image", torch.tensor([[0.0, 1.0]]), torch.arange(2)[None], (1, 2))
    return Explanation(
        {"text": text, **({"image": patches} if image else {})},
        ("class 1 (cat)",),
        torch.tensor([2.5]),
        torch.tensor([1]),
        ("cat",),
        "generic",
        {"normalize": True},
        FLOW,
    )


class _Subject:
    """Stands for a model: keeps what it was called with."""

    kind_row = types.SimpleNamespace(takes=("text", "image", "boxes", "audio"))

    def __init__(self):
        self.calls = []
        self.raises = None

    def explain(self, **arguments):
        self.calls.append(arguments)
        if self.raises is not None:
            raise self.raises
        return _explanation(arguments["image"] is not None)

    def inspect(self, **arguments):
        self.calls.append(arguments)
        return FLOW

    def compare(self, *texts, **arguments):
        self.calls.append((texts, arguments))
        return _explanation(), _explanation(words=("b", "dog", "ran"))

    def picture(self, image, boxes):
        return Picture(image, Geometry.whole(image.size))


@pytest.fixture
def subject(monkeypatch) -> _Subject:
    made = _Subject()
    method = types.SimpleNamespace(
        name="generic", summary="The paper's [rules].", source="ICCV 2021", options={"normalize": True}
    )

    def load(name, *, device=None, dtype=None):
        made.calls.append((name, device, dtype))
        return made

    monkeypatch.setattr(heedmap, "load", load)
    monkeypatch.setattr(heedmap, "METHODS", {"generic": method})
    return made


def _run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


# -- explain ---------------------------------------------------------------------------------------------------------


def test_heat_and_summary_in_the_terminal(subject):
    output = _run("explain", "m", "--text", "a cat sat").stdout
    assert "prediction cat\n" in output
    assert "score      2.5" in output
    assert "␛[31mcat(0.9)" in output
    assert "top  ␛[31mcat 0.9 · [red]sat 0.3 · a 0.1" in output
    assert subject.calls[0] == ("m", None, None)


def test_everything_is_handed_on(subject, tmp_path):
    np.savez(tmp_path / "b.npz", features=np.ones((2, 3)))
    Image.new("RGB", (8, 4)).save(tmp_path / "i.png")
    with wave.open(str(tmp_path / "s.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 5)
    files = ["--image", f"{tmp_path}/i.png", "--boxes", f"{tmp_path}/b.npz", "--audio", f"{tmp_path}/s.wav"]
    options = ["--option", "start_layer=2", "--option", "cam=lrp", "--option", "normalize=false"]
    _run("explain", "m", "--text", "t", *files, *options, "--target", "7", "--device", "cpu", "--dtype", "bfloat16")
    assert subject.calls[0] == ("m", "cpu", "bfloat16")
    call = subject.calls[1]
    assert (call["text"], call["image"].size, call["boxes"]["features"].shape) == ("t", (8, 4), (2, 3))
    assert (len(call["audio"][0]), call["audio"][1]) == (5, 8000)
    assert (call["target"], call["method"]) == (7, "generic")
    assert (call["start_layer"], call["cam"], call["normalize"]) == (2, "lrp", False)


@pytest.mark.parametrize(
    ("given", "target"),
    [
        (None, None),
        ("3", 3),
        ("-1", -1),
        ("tabby cat", "tabby cat"),
        ("note: cat", "note: cat"),
        ("query:4", DetectionQuery(query=4)),
        ("query:4:17", DetectionQuery(query=4, label=17)),
        ("query:4:traffic light", DetectionQuery(query=4, label="traffic light")),
        ("token:Paris", NextToken(token="Paris")),
        ("token:12", NextToken(token="12")),
        ("token: a:b", NextToken(token=" a:b")),
        ("position:2", NextToken(position=2)),
        ("position:-3:Paris", NextToken(token="Paris", position=-3)),
    ],
)
def test_targets(subject, given, target):
    _run("explain", "m", "--text", "t", *([] if given is None else ["--target", given]))
    assert subject.calls[1]["target"] == target


def test_json_is_all_there_is_on_stdout(subject):
    data = json.loads(_run("explain", "m", "--text", "t", "--json").stdout)
    assert data["target"] == ["class 1 (cat)"]
    assert data["segments"]["text"]["relevance"] == [[0.1, 0.9, 0.3]]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "html", "json", "safetensors"])
def test_out(subject, tmp_path, ending):
    out = tmp_path / "new folder" / f"x.{ending}"
    output = _run("explain", "m", "--text", "t", "--out", str(out)).stdout
    assert output.replace("\n", "") == f"wrote {out}"
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    if ending == "safetensors":
        assert Explanation.load(out) == _explanation()


def test_out_and_json_together(subject, tmp_path):
    output = _run("explain", "m", "--text", "t", "--json", "--out", f"{tmp_path}/x.html").stdout
    assert json.loads(output)["score"] == [2.5]
    assert (tmp_path / "x.html").is_file()


def test_the_map_lies_on_the_original_picture(subject, tmp_path):
    Image.new("RGB", (100, 100), "blue").save(tmp_path / "i.png")
    _run("explain", "m", "--image", f"{tmp_path}/i.png", "--out", f"{tmp_path}/o.png")
    with Image.open(tmp_path / "o.png") as picture:
        red, _, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
    assert (blue > red + 15).mean() > 0.1, "muted, and still blue"


def test_an_image_that_the_model_cuts_up_is_drawn_as_a_grid(subject, tmp_path, monkeypatch):
    def cut_up(image, boxes):
        raise InputError("cut to pieces")

    monkeypatch.setattr(subject, "picture", cut_up)
    Image.new("RGB", (8, 8)).save(tmp_path / "i.png")
    result = _run("explain", "m", "--image", f"{tmp_path}/i.png", "--out", f"{tmp_path}/o.png")
    assert "without the image: cut to pieces" in result.stderr
    assert (tmp_path / "o.png").stat().st_size > 1000


def test_an_image_without_out_is_a_grid_of_letters(subject, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "i.png")
    assert "  @@" in _run("explain", "m", "--image", f"{tmp_path}/i.png").stdout.splitlines()


# -- compare ---------------------------------------------------------------------------------------------------------


def test_compare(subject, tmp_path):
    output = _run("explain", "m", "--text", "one", "--compare", "two", "--option", "normalize=false").stdout
    texts, options = subject.calls[1]
    assert callable(options.pop("progress"))
    assert (texts, options) == (("one", "two"), {"method": "generic", "normalize": False})
    assert output.index("cat(0.9)") < output.index("dog(0.9)")
    both = json.loads(_run("explain", "m", "--text", "one", "--compare", "two", "--json").stdout)
    assert [e["segments"]["text"]["labels"][0][0] for e in both] == ["a", "b"]
    _run("explain", "m", "--text", "one", "--compare", "two", "--out", f"{tmp_path}/x.html")
    assert "dog" in (tmp_path / "x.html").read_text()
    _run("explain", "m", "--text", "one", "--compare", "two", "--out", f"{tmp_path}/x.svg", "--width", "4")
    assert 'width="288pt"' in (tmp_path / "x.svg").read_text()


def test_compare_wants_two_texts_and_nothing_else(subject):
    assert "--text" in _run("explain", "m", "--compare", "two", code=2).stderr
    beside = " ".join(_run("explain", "zoo/gpt-lists", "--sample", "0", "--compare", "two", code=2).stderr.split())
    assert "give a text no embedding" in beside
    assert "heedmap edit zoo/gpt-lists" in beside
    _run("explain", "m", "--text", "one", "--compare", "two", "--target", "1", code=2)
    _run("explain", "m", "--text", "one", "--compare", "two", "--image", "i.png", code=2)
    output = _run("explain", "m", "--text", "one", "--compare", "two", "--out", "x.gif", code=1).stderr
    assert ".png, .svg, .pdf, .html, .json" in output
    assert subject.calls == []


# -- inspect, methods, version ---------------------------------------------------------------------------------------


def test_inspect(subject):
    assert "0–3" in _run("inspect", "m", "--text", "t").stdout
    assert Flow.from_dict(json.loads(_run("inspect", "m", "--text", "t", "--json").stdout)) == FLOW
    assert subject.calls[1] == {"text": "t", "image": None, "boxes": None, "audio": None, "target": None}
    _run("inspect", "m", "--text", "t", "--target", "query:2")
    assert subject.calls[-1]["target"] == DetectionQuery(query=2)


def test_methods(subject):
    output = _run("methods").stdout
    assert "The paper's [rules]." in output
    assert "normalize=True" in output
    (entry,) = json.loads(_run("methods", "--json").stdout)
    assert entry == {
        "name": "generic",
        "summary": "The paper's [rules].",
        "source": "ICCV 2021",
        "options": {"normalize": True},
        **asdict(CARDS["generic"]),
        "evidence": evidence("generic"),
    }
    assert f"evidence: {evidence('generic')} (docs/which-method.md)" in " ".join(output.split())
    assert _run("methods", "generic").stdout == output


def test_one_method_alone():
    (entry,) = json.loads(_run("methods", "tam", "--json").stdout)
    assert entry["name"] == "tam"
    printed = _run("methods", "rollout", "attcat").stdout.splitlines()
    assert [line for line in printed if line and not line.startswith(" ")] == ["rollout", "attcat"]
    assert "did you mean 'rollout'" in _run("methods", "rolout", code=1).stderr


def test_version():
    assert _run("--version").stdout == f"heedmap {heedmap.__version__}\n"


# -- errors ----------------------------------------------------------------------------------------------------------


def test_an_unknown_ending_is_found_before_the_model_is_loaded(subject):
    result = _run("explain", "m", "--text", "t", "--out", "x.gif", code=1)
    assert "known endings: .png, .svg, .pdf, .html, .json, .safetensors" in result.stderr
    assert result.stdout == ""
    assert subject.calls == []


def test_missing_files_and_unknown_methods_too(subject):
    assert "no image file missing.png" in _run("explain", "m", "--image", "missing.png", code=1).stderr
    assert "no audio file missing.wav" in _run("inspect", "m", "--audio", "missing.wav", code=1).stderr
    assert "known methods: generic" in _run("explain", "m", "--text", "t", "--method", "magic", code=1).stderr
    assert subject.calls == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "m"],
        ["explain"],
        ["inspect", "m"],
        ["explain", "m", "--text", "t", "--nonsense"],
        ["explain", "m", "--text", "t", "--option", "normalize"],
        ["explain", "m", "--text", "t", "--option", "=1"],
        ["explain", "m", "--text", "t", "--option", "a=1", "--option", "a=2"],
        ["explain", "m", "--text", "t", "--option", "target=1"],
        ["explain", "m", "--text", "t", "--target", "query:x"],
        ["explain", "m", "--text", "t", "--target", "position:"],
        ["nonsense"],
    ],
)
def test_a_wrong_command_line_is_2(subject, arguments):
    _run(*arguments, code=2)
    assert subject.calls == []


def test_an_error_of_heedmap_is_one_message(subject):
    subject.raises = InputError("the [text] is\nwrong: " + "long " * 40)
    result = _run("explain", "m", "--text", "t", code=1)
    assert result.stderr == "heedmap: the [text] is\nwrong: " + "long " * 39 + "long \n"
    assert result.stdout == ""


def test_an_internal_error_suggests_debug(subject):
    subject.raises = RuntimeError("boom")
    stderr = _run("explain", "m", "--text", "t", code=3).stderr
    assert "internal error: RuntimeError: boom" in stderr
    assert "--debug" in stderr


def test_debug_lets_it_through(subject):
    subject.raises = RuntimeError("boom")
    result = CliRunner().invoke(cli.app, ["--debug", "explain", "m", "--text", "t"])
    assert isinstance(result.exception, RuntimeError)


def test_a_file_that_cannot_be_written(subject, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in _run("explain", "m", "--text", "t", "--out", f"{tmp_path}/file/x.json", code=1).stderr


def test_main_exits_with_the_code(subject, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["heedmap", "explain", "m", "--image", "missing.png"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("heedmap: there is no image file missing.png")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['heedmap', '--help']\n"
        "from heedmap.cli.main import main\n"
        "try: main()\n"
        "finally: sys.exit(bool({'torch', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "explain" in run.stdout


def test_the_package_is_run_as_a_module():
    run = subprocess.run([sys.executable, "-m", "heedmap", "--version"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert heedmap.__version__ in run.stdout
