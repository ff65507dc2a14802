"""The documents as a site: it builds strictly, its pictures and links are there, and no page asks another host for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import heedmap
from heedmap import targets

pytest.importorskip("zensical", reason="the site is built by zensical; pip install -e '.[dev]'")
pytest.importorskip("mkdocstrings", reason="its reference is made by mkdocstrings; pip install -e '.[dev]'")
ROOT = Path(__file__).parent.parent.parent
SOURCES = ("zensical.toml", "README.md", "CHANGELOG.md")
READ = ("src", "scripts")


class _Built(HTMLParser):
    """What a page of the site has and asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or given.get("name") or "")
        if given.get("href"):
            (self.links if tag == "a" else self.loaded).append(given["href"] or "")
        if given.get("src"):
            self.loaded.append(given["src"] or "")


@cache
def read(path: Path) -> _Built:
    return _Built(path)


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a copy of what it is made of: zensical writes beside what it reads."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    for name in READ:
        (folder / name).symlink_to(ROOT / name)
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "griffe:" not in done.stdout + done.stderr  # a docstring tells of a parameter that there is not
    return folder / "site"


@pytest.fixture
def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def place(site: Path, page: Path, link: str) -> Path:
    """The file that a link of this page means."""
    path = unquote(urlsplit(link).path)
    if not path:
        return page
    return (site / path.lstrip("/") if path.startswith("/") else page.parent / path).resolve()


def is_foreign(link: str) -> bool:
    return bool(urlsplit(link).netloc)


def test_every_document_is_a_page_in_the_navigation(site: Path) -> None:
    listed = {
        place(site, site / "index.html", link) for link in read(site / "index.html").links if not is_foreign(link)
    }
    documents = (ROOT / "docs").rglob("*.md")
    expected = {site / path.relative_to(ROOT / "docs").with_suffix(".html") for path in documents}
    assert expected <= listed


def test_links_and_pictures_are_there(site: Path, pages: list[Path]) -> None:
    for page in pages:
        for link in (*read(page).links, *read(page).loaded):
            if is_foreign(link) or link.startswith("data:"):
                continue
            found = place(site, page, link)
            assert found.is_file(), f"{page.relative_to(site)}: {link}"
            name = unquote(urlsplit(link).fragment)
            if name and found.suffix == ".html":
                assert name in read(found).ids, f"{page.relative_to(site)}: {link}"


def test_nothing_comes_from_another_host(site: Path, pages: list[Path]) -> None:
    assert [link for page in pages for link in read(page).loaded if is_foreign(link)] == []
    sheets = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//[^)]*", sheets) == []
    assert "@import" not in sheets


def test_the_reference_has_every_public_name(site: Path) -> None:
    had = {name for page in (site / "reference").glob("*.html") for name in read(page).ids}
    elsewhere = {"__version__", "targets", "HeedmapError", "Subject"}
    public = {f"heedmap.{name}" for name in heedmap.__all__ if name not in elsewhere} | {"heedmap.errors.HeedmapError"}
    kinds = {
        f"heedmap.targets.{name}"
        for name, value in vars(targets).items()
        if isinstance(value, type) and issubclass(value, targets.Target)
    }
    assert public | kinds <= had


def test_the_reference_has_no_mark_of_a_docstring_left(site: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    assert re.findall(r":\w+:<code>|<autoref|&gt;&gt;&gt; .*# doctest", text) == []
    assert 'href="explanation.html#heedmap.Explanation"' in text


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("::: heedmap.errors.HeedmapError", ""),
        ("::: heedmap.errors.explained", "Could not collect 'heedmap.errors.explained'"),
        ("[`explain`][heedmap.explained]", "unresolved autoref"),
    ],
)
def test_a_name_that_does_not_exist_is_an_error(tmp_path: Path, written: str, told: str) -> None:
    """On a site of one page, of a package of one module; all else is as it is."""
    settings = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    (tmp_path / "zensical.toml").write_text(re.sub(r"^nav = \[.*?^\]$", "", settings, flags=re.DOTALL | re.MULTILINE))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n{written}\n", encoding="utf-8")
    (tmp_path / "src" / "heedmap").mkdir(parents=True)
    for name in ("__init__.py", "errors.py"):
        shutil.copy(ROOT / "src" / "heedmap" / name, tmp_path / "src" / "heedmap")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    done = build(tmp_path)
    assert (done.returncode != 0) == bool(told), done.stdout + done.stderr
    assert told in done.stdout + done.stderr


def test_what_the_readme_has_stands_on_the_first_page_too(site: Path) -> None:
    first = re.sub(r"<[^>]+>", "", (site / "index.html").read_text(encoding="utf-8"))
    assert "make demo" in first
    assert "heedmap.explain(model" in first
    assert "--8&lt;--" not in first


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a driver's pipes, closed late
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 420)])
@pytest.mark.parametrize("name", ["index", "tutorial", "results", "reference/methods", "reference/explain"])
def test_a_browser_asks_no_other_host_and_only_tables_scroll(
    site: Path, opened: Callable[..., Any], name: str, theme: str, width: int
) -> None:
    page = opened(site / f"{name}.html", theme, width)
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 384) == (theme == "light"), ground
