"""Advice of messages, as a shell and a page have it."""

import pytest

from heedmap.advice import PAGE, SHELL, said_for


@pytest.mark.parametrize(
    ("ways", "message", "said"),
    [
        (SHELL, "no boxes was given; give boxes=…", "no boxes was given; give --boxes"),
        (
            SHELL,
            "use occlusion: method=occlusion, random, or 'auto'",
            "use occlusion: --method occlusion, random, or auto",
        ),
        (SHELL, "which mixers=False turns off: leave it out", "which --option mixers=false turns off: leave it out"),
        (SHELL, "generate={'max_new_tokens': …} gives it more", "--generate max_new_tokens=N gives it more"),
        (SHELL, "the answer='x' stays", "the answer='x' stays"),
        (PAGE, "no text was given; give text=…", "no text was given; fill in its field (text)"),
    ],
)
def test_advice_is_what_the_reader_can_do(ways, message: str, said: str) -> None:
    assert said_for(ways, message) == said


def test_a_function_of_the_output_is_for_python_alone() -> None:
    message = "the output has no logits; pass target=callable(output) -> (batch,) tensor"
    assert "--target" in said_for(SHELL, message)
    assert "choose another answer" in said_for(PAGE, message)
    assert "callable(output)" not in said_for(SHELL, message) + said_for(PAGE, message)
