"""What a person says in a chat, told apart from the template and the system prompt."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

import heedmap
from heedmap.errors import InputError

TEMPLATE = (
    "{% for m in messages %}{{ 'sun ' if m.role == 'system' else 'moon ' }}{{ m.content }} ; {% endfor %}"
    "{% if add_generation_prompt %}? moon{% endif %}"
)


@pytest.fixture(scope="module")
def chatty() -> heedmap.Model:
    subject = heedmap.load("zoo/gpt-lists")
    tokenizer = copy.deepcopy(subject.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return replace(subject, processors=replace(subject.processors, tokenizer=tokenizer))


def test_the_words_of_the_person_and_of_the_system_are_told_apart(chatty: heedmap.Model) -> None:
    found = chatty.explain_answer(text=["dog red", "cat"], system="cat blue", generate={"max_new_tokens": 2})
    assert found.segments["text"].roles == ("tssttppttt", "_tssttpttt")
    assert " ".join(found.segments["text"].labels[0]) == "sun cat blue ; moon dog red ; ? moon"
    own = found.without("system", "template")
    assert torch.equal(own["text"][0, :, 5:7], found["text"][0, :, 5:7])
    assert not own["text"][0, :, :5].any()
    with pytest.raises(heedmap.HeedmapError, match="no token has the role 'sys'"):
        found.without("sys")


def test_a_prompt_as_it_is(chatty: heedmap.Model) -> None:
    found = chatty.explain_answer(text="dog red ? dog", chat=False, generate={"max_new_tokens": 2})
    assert found.segments["text"].roles == ("pppp",)


def test_without_a_template_there_is_no_chat() -> None:
    with pytest.raises(InputError, match="no chat template"):
        heedmap.load("zoo/gpt-lists").explain_answer(text="dog red ? dog", system="cat")


def test_roles_go_to_a_file(chatty: heedmap.Model, tmp_path: object) -> None:
    found = chatty.explain_answer(text="dog red", generate={"max_new_tokens": 1})
    path = f"{tmp_path}/chat.safetensors"
    found.save(path)
    assert heedmap.Explanation.load(path).segments["text"].roles == found.segments["text"].roles
