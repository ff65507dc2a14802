import base64

import pytest
from hand_made import HOSTILE, patches, segment


def test_a_notebook_gets_html_a_picture_and_text(all_kinds):
    bundle = all_kinds._repr_mimebundle_()
    assert list(bundle) == ["text/html", "image/png", "text/plain"]
    assert bundle["text/html"] == all_kinds._repr_html_()
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/plain"] == repr(all_kinds)


def test_a_figure_shows_itself_without_pyplot(all_kinds):
    assert all_kinds.plot()._repr_png_().startswith(b"\x89PNG")


def test_what_is_not_wanted_is_not_made(all_kinds):
    assert list(all_kinds._repr_mimebundle_(include={"text/plain"})) == ["text/plain"]
    assert list(all_kinds._repr_mimebundle_(exclude={"image/png", "text/html"})) == ["text/plain"]


@pytest.mark.parametrize(
    "given",
    [
        patches(16, 16, {(3, 3): 1.0}),
        segment([0.001 * i for i in range(1000)], labels=(tuple(f"word{i}" for i in range(1000)),)),
    ],
    ids=["ViT", "1000 tokens"],
)
def test_usual_cases_are_small_and_load_nothing(make_explanation, given):
    html = make_explanation(given)._repr_html_()
    assert len(html.encode()) < 200_000
    assert "http" not in html
    assert "<script" not in html
    assert "@import" not in html


def test_two_in_one_notebook_do_not_share_their_choices(make_explanation):
    import torch

    labels = (HOSTILE,)
    pages = [
        make_explanation(
            segment([v] * 9, labels=labels), maps={("text", "text"): torch.full((1, 9, 9), v)}
        )._repr_html_()
        for v in (0.5, 0.25)
    ]
    names = [{part.split('"')[0] for part in page.split('type="radio" name="')[1:]} for page in pages]
    assert all(len(group) == 1 for group in names)
    assert not names[0] & names[1]
