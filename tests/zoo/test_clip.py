"""CLIP's task: what it learns from, how it is scored, and where the shipped model looks."""

import numpy as np
import pytest
import torch
from torch.nn import Linear
from torch.nn.functional import avg_pool2d

import heedmap
from heedmap.models.names import shipped
from heedmap.zoo.tasks import BESIDE, NOTHING, PATCH, SIDE, WINDOW, captions, look_aside, pixel_values, scenes, waves
from heedmap.zoo.tasks.captions import CHOICES, HARD, LONGEST, LOOKS, PHRASES, WORDS
from heedmap.zoo.world import COLOURS, SHAPES, Shapes, caption, judge

TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
SETTINGS = {"vision": TOWER, "text": TOWER, "projection_dim": 8, "patches": 1.0, "outlines": 4.0}


def test_the_image_processor_gives_what_the_training_had():
    scene = scenes(0, "test", 0, 1)[0]
    processor = captions.processors()[1]
    found = processor(images=scene.image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found, pixel_values([scene]), atol=1e-5, rtol=0)


def test_a_token_is_a_word_and_the_end_has_the_highest_id():
    text = "a red star, a blue ring and an orange cross"
    made = captions.tokenizer()(text)["input_ids"]
    words = text.replace(",", " ,").split()
    assert captions.tokenizer().convert_ids_to_tokens(made) == ["<s>", *words, "</s>"]
    assert made[-1] == max(made) == len(WORDS) - 1
    texts = [caption(scene).text for scene in Shapes("val", length=200)]
    ids = captions.tokenizer()(texts)["input_ids"]
    assert max(map(len, ids)) <= LONGEST
    assert not any(captions.tokenizer().unk_token_id in row for row in ids)


def test_batches_are_windows_of_one_stream():
    whole, part = captions.batch(0, "train", 4, 5), captions.batch(0, "train", 6, 2)
    assert all(torch.equal(part[name], whole[name][2:4]) for name in ("pixel_values", "looks", "outlines"))
    assert torch.equal(part["fitting"], whole["fitting"][2:4, 2:4])


def test_a_batch_tells_which_captions_fit_and_what_patches_show():
    made = captions.batch(0, "val", 0, 8)
    assert made["fitting"].diagonal().all()
    middle = WINDOW // 2
    for row, scene in enumerate(scenes(0, "val", 0, 8)):
        shown = {LOOKS[look] for look in made["looks"][row].tolist() if look != NOTHING}
        assert shown <= {(one.colour, one.shape) for one in scene.objects}
        covered = made["outlines"][row].view(-1, WINDOW, WINDOW)[:, middle - 1 : middle + 1, middle - 1 : middle + 1]
        assert (covered.mean((1, 2)) >= 0.25 - 1e-6).eq(made["looks"][row] != NOTHING).all()


def test_phrases_name_every_look():
    assert len(PHRASES) == len(COLOURS) * len(SHAPES)
    assert "an orange star" in PHRASES


def test_there_is_one_right_choice():
    scene = scenes(0, "val", 0, 1)[0]
    choices = captions._choices(0, "val", 0)
    assert choices[0] == caption(scene).text
    assert len(choices) == CHOICES + HARD
    assert judge(caption(scene), scene)


def test_the_second_stage_goes_on_without_what_draws():
    torch.manual_seed(0)
    first = captions.model(SETTINGS, None).train()
    made = captions.batch(0, "train", 0, 4)
    captions.loss(first, made).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in first.parameters())
    second = captions.model({**SETTINGS, "outlines": 0.0}, first)
    assert set(first.state_dict()) - set(second.state_dict()) == {"outlines.weight", "outlines.bias"}
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in second.state_dict().items())
    assert captions.loss(second, made).isfinite()


def test_heads_look_at_neighbours():
    width, places = 80, 12
    query, key = Linear(width, width, bias=False), Linear(width, width, bias=False)
    for linear in (query, key):
        torch.nn.init.zeros_(linear.weight)
    look_aside(query, key, BESIDE)
    codes = waves(width, places)
    for head, (down, right) in enumerate(BESIDE):
        part = slice(head * 20, head * 20 + 20)
        likeness = query(codes)[:, part] @ key(codes)[:, part].T
        row, column = 5, 6
        assert likeness[row * places + column].argmax() == (row + down) * places + column + right


@pytest.mark.skipif("clip-shapes" not in shipped(), reason="not shipped")
def test_the_shipped_model_looks_at_what_the_caption_tells_of():
    subject = heedmap.load("zoo/clip-shapes")
    shares, areas = [], []
    for scene in Shapes("test", length=12):
        right = caption(scene)
        mask = np.any([scene.objects[o].mask for o in right.objects], axis=0)
        cover = avg_pool2d(torch.from_numpy(mask).float()[None, None], PATCH).flatten()
        found = subject.explain(image=scene.image, text=right.text)
        assert found["text"].shape[1] == len(captions.tokenizer()(right.text)["input_ids"])
        shares.append(float((found["image"][0] * cover).sum() / found["image"][0].sum()))
        areas.append(float(cover.mean()))
    assert found.segments["image"].grid[0] == SIDE // PATCH
    assert np.mean(shares) > 2 * np.mean(areas)
