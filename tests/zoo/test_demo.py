"""``heedmap demo``: the page stands alone, every picture opens, and bad input is told."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import tiny_shapes
from PIL import Image
from typer.testing import CliRunner

import heedmap
from browsing import CHROMIUM
from heedmap.cli import zoo as commands
from heedmap.cli.main import app
from heedmap.models.names import shipped
from heedmap.zoo import gallery, samples
from heedmap.zoo.evidence import weights
from heedmap.zoo.gallery import METHODS, MOST, show
from heedmap.zoo.samples import MATERIALS

in_a_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser {CHROMIUM}")
TEXTS = ("bart-dates", "gpt-lists")


def invoke(*arguments):
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


class Page(HTMLParser):
    """The tags of a page with their attributes, and its visible words."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data

    def values(self, name):
        return [attributes[name] for _, attributes in self.tags if attributes.get(name)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the command wrote, from an empty folder, and what it printed."""
    empty = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(empty)
        patch.setenv("HF_HUB_OFFLINE", "1")
        done = invoke("--out", "made", "--only", TEXTS[0], "--only", f"zoo/{TEXTS[1]}")
    assert done.exit_code == 0, done.output
    return empty / "made", done


def test_the_page_stands_alone(written):
    folder, _ = written
    text = (folder / "index.html").read_text()
    shown = Page(text)
    assert shown.open == []
    assert "script" not in {tag for tag, _ in shown.tags}
    assert not re.search(r"https?:|//", re.sub(r"base64,[^\"]*", "", text))
    assert all(link.startswith("#") for link in shown.values("href"))
    assert all(source.startswith("data:image/svg+xml,") for source in shown.values("src"))
    assert "url(" not in text


def test_the_page_names_models_methods_scaling_and_truth(written):
    words = Page((written[0] / "index.html").read_text()).words
    assert all(f"zoo/{name}" in words for name in TEXTS)
    assert all(words.count(method) == 3 + 1 for method in METHODS)
    assert words.count("true evidence") >= 3 + 1
    assert "coloured from 0, patches min–max" in words
    assert words.count("evidencefrom 0: ") >= 3 + 1
    assert re.search(r"words: \d+% on evidence", words)


def test_the_true_words_are_marked_for_each_answer(written):
    text = (written[0] / "index.html").read_text()
    truths = re.findall(r'<div class="plain">(.*?)</div>', text, re.DOTALL)
    marked = ["".join(re.findall(r'class="token marked"[^>]*>([^<]*)<', one)) for one in truths]
    date = samples.MATERIALS["bart-dates"].make(samples.MATERIALS["bart-dates"].shown).truth
    parts = [date.text[slice(*date.spans[part])] for part in ("year", "month", "day")]
    pair = samples.MATERIALS["gpt-lists"].make(samples.MATERIALS["gpt-lists"].shown).truth
    assert marked == [*parts, pair.text.split()[pair.key] + pair.answer]


def test_every_picture_opens(written):
    folder, done = written
    files = sorted(folder.glob("*.png"))
    assert {path.name for path in files} == {
        f"{name}-{n}-{method}.png"
        for name, n in (*((TEXTS[0], n) for n in (1, 2, 3)), (TEXTS[1], 1))
        for method in METHODS
    }
    for path in files:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 100
    assert f"{len(files)} pictures" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(path.name for path in files), "index.html"])


def test_it_tells_where_the_page_is_and_what_to_try_next(written, tmp_path):
    _, done = written
    assert "made/index.html" in done.stdout
    (line,) = re.findall(r"try next: heedmap (.*)", done.stdout)
    again = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]
    tried = CliRunner().invoke(app, again)
    assert tried.exit_code == 0, tried.output
    assert "blue" in tried.output


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    done = invoke("--out", tmp_path / "made", "--only", "nothing")
    assert done.exit_code == 1
    assert "no model 'nothing'" in done.stderr
    assert all(name in done.stderr for name in shipped())
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(heedmap, "load", lambda name: pytest.fail("loaded a model"))
    (tmp_path / "file").write_text("")
    done = invoke("--out", tmp_path / "file" / "below")
    assert done.exit_code == 1
    assert "cannot write the folder" in done.stderr
    assert "--out" in done.stderr


def test_every_shipped_model_has_samples():
    assert set(shipped()) <= set(MATERIALS)


def test_the_command_imports_nothing_heavy():
    code = "import sys, heedmap.cli.main; print({'torch', 'transformers', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -- the models that see, as small random ones ----------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny_shapes.MODELS)
def test_a_model_that_sees_is_shown(name, subjects, lenient, tmp_path, monkeypatch):
    monkeypatch.setattr(heedmap, "load", lambda wanted: subjects[wanted.removeprefix("zoo/")])
    count = commands.write_gallery([name], tmp_path)
    text = (tmp_path / "index.html").read_text()
    shown, answers = Page(text), text.count("<b>true evidence</b>")
    files = sorted(tmp_path.glob("*.png"))
    assert len(files) == count == len(METHODS) * answers > 0
    assert f"zoo/{name}" in shown.words
    assert len(shown.values("src")) == (len(METHODS) + 1) * answers
    for path in files:
        with Image.open(path) as picture:
            assert picture.size == (gallery.SIDE, gallery.SIDE)
            assert len(set(picture.convert("L").tobytes())) > 20


@in_a_browser
def test_thumbnails_of_a_row_stand_at_one_height(subjects, lenient, tmp_path, monkeypatch, browser):
    monkeypatch.setattr(heedmap, "load", lambda wanted: subjects[wanted.removeprefix("zoo/")])
    commands.write_gallery(["vit-shapes"], tmp_path)
    for width in (390, 1280):
        shown = browser.new_page(viewport={"width": width, "height": 900})
        shown.goto((tmp_path / "index.html").as_uri())
        places = """[...document.querySelector('.pictures').querySelectorAll('img')].map((image) => {
            const {left, top, height} = image.getBoundingClientRect();
            return [left, top, height];
        })"""
        rows = {}
        for left, top, height in shown.evaluate(places):
            rows.setdefault(round(top), []).append((left, height))
        assert [len(row) for row in rows.values()] == ([2, 2, 2] if width == 390 else [6]), width
        assert len({round(height) for row in rows.values() for _, height in row}) == 1, width
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        shown.close()


def test_two_objects_have_a_target_and_a_mask_each(subjects):
    shown = show(subjects["vit-shapes"], "vit-shapes")
    assert 2 <= len(shown.answers) <= MOST
    first, second = shown.answers[:2]
    assert first.asked.title != second.asked.title
    assert not (first.asked.evidence.mask & second.asked.evidence.mask).any()
    assert not np.array_equal(first.maps["generic"]["image"], second.maps["generic"]["image"])


def test_a_target_is_the_score_at_its_place(subjects):
    shown = show(subjects["vit-shapes"], "vit-shapes")
    inputs = subjects["vit-shapes"].inputs(image=shown.sample.picture)
    logits = subjects["vit-shapes"].model(**inputs).logits[0].detach()
    for answer in shown.answers:
        label = subjects["vit-shapes"].config.label2id[answer.asked.title]
        assert answer.maps["generic"].scores[0] == pytest.approx(float(logits[label]), abs=1e-5)


def test_boxes_and_words_of_a_question_are_its_evidence(subjects):
    shown = show(subjects["lxmert-shapes"], "lxmert-shapes")
    (answer,) = shown.answers
    question, regions = shown.sample.truth
    found = weights(subjects["lxmert-shapes"], shown.sample, answer.asked.evidence, answer.maps["generic"].segments)
    assert {int(i) for i in regions.objects[found["boxes"] > 0]} == set(question.objects)
    words = question.text.split()
    assert [words[i].strip("?,") for i in np.flatnonzero(found["text"])] == [word.text for word in question.words]


def test_hostile_names_are_escaped(subjects, monkeypatch):
    shown = show(subjects["vit-shapes"], "vit-shapes")
    hostile = '<script src="http://x">'
    object.__setattr__(shown.answers[0].asked, "title", hostile)
    object.__setattr__(shown, "about", hostile)
    text = gallery.gallery_page([shown], {})
    assert hostile not in text
    assert "script" not in {tag for tag, _ in Page(text).tags}


def test_the_outline_follows_the_mask():
    mask = np.zeros((96, 96), dtype=bool)
    mask[24:48, 24:72] = True
    drawn = np.asarray(gallery._outlined(Image.new("RGB", (240, 240), (9, 99, 9)), mask))
    white = (drawn == 255).all(-1)
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (60, 119, 60, 179)
    assert not white[70:110, 70:170].any()


def test_a_model_that_is_never_right_is_told(subjects, monkeypatch):
    monkeypatch.setattr("heedmap.zoo.gallery.TRIED", 2)
    monkeypatch.setattr(samples, "SURE", 1.0)
    with pytest.raises(heedmap.errors.ModelLoadError, match="wrong about every test sample"):
        show(subjects["detr-shapes"], "detr-shapes")
