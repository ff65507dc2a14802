import re

import pytest
import torch
from hand_made import patches, segment
from PIL import Image

from heedmap.render.page import explanation_page, token_to_token


def _radios(html):
    return re.findall(r'<input type="radio" name="([^"]+)"[^>]*>', html)


@pytest.fixture
def pair(make_explanation):
    """Two words and six patches; the stream of the patches has one token of its own before them."""
    text = segment([0.2, 0.8], labels=(("red", "cat"),), boundaries=("ww",))
    image = patches(2, 3, {(1, 2): 1.0})
    positions = torch.arange(1, 7)[None]
    image = type(image)(**{**vars(image), "positions": positions})
    there, back = torch.zeros(1, 2, 7), torch.zeros(1, 7, 2)
    there[0, 1, 6], there[0, 0, 1], there[0, :, 0] = 0.5, 0.25, 9.0
    back[0, 6, 1], back[0, 0] = 0.125, 9.0
    return make_explanation(text, image, maps={("text", "image"): there, ("image", "text"): back})


def test_a_block_leaves_out_what_is_no_token_of_the_segment(pair):
    assert pair.block("text", "image").tolist() == [[0.25, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0.5]]
    assert pair.block("image", "text")[5].tolist() == [0, 0.125]
    assert pair.block("text", "text") is None


def test_every_token_can_be_chosen_and_one_is(pair):
    html = token_to_token(pair, 0, 2, seen=False)
    names = _radios(html)
    assert len(names) == 2 + 6
    assert len(set(names)) == 2
    assert html.count(" checked>") == 2
    assert "cat draws 0.5 in all; most from row 2, column 3 0.5" in html
    assert "row 2, column 3 draws 0.125 in all; most from cat 0.125" in html


def test_one_scale_for_all_choices_of_a_pair(pair):
    html = token_to_token(pair, 0, 2, seen=False)
    assert "one scale for every choice; min–max: 0 … 0.5" in html
    assert "from 0: 0 … 0.125" in html


def test_without_whole_maps_there_is_nothing(make_explanation):
    assert token_to_token(make_explanation(segment([1.0])), 0, 2, seen=False) == ""


def test_a_single_part_draws_from_itself_without_its_own_share(make_explanation):
    text = segment([0.2, 0.8], labels=(("red", "cat"),))
    html = token_to_token(make_explanation(text, maps={("text", "text"): torch.eye(2)[None] + 0.25}), 0, 2, seen=False)
    assert "red draws 0.25 in all" in html
    assert "a token’s share of itself is left out" in html


def test_large_maps_offer_the_most_relevant_tokens_only(make_explanation):
    text = segment([float(i) for i in range(600)])
    html = token_to_token(make_explanation(text, maps={("text", "text"): torch.ones(1, 600, 600)}), 0, 2, seen=False)
    offered = len(_radios(html))
    assert 1 < offered < 600
    assert f"of 600 tokens the {offered} most relevant can be chosen" in html
    assert len(html) < 1_000_000


def test_the_picture_is_in_the_page_once(pair):
    photo = Image.new("RGB", (60, 40), (0, 200, 0))
    html = explanation_page(pair, 0, photo)
    assert html.count("--seen:url(data:image/svg+xml,") == 1
    assert html.count('class="stack seen"') == 2
    assert "<script" not in html
