"""``zoo/gpt-lists``: the value of a key in a list of pairs."""

from heedmap.zoo.recipe import Recipe, Stage

RECIPE = Recipe(
    name="gpt-lists",
    about="A list of key–value pairs and a key → its value, as the next word",
    data=(
        "Lists of 3 to 8 pairs of 30 nouns and 24 colours, all different within a list, and a question for one of the "
        "keys (`heedmap.zoo.lists`). The answer stands in the text once, right after the key: the true evidence is the "
        "value's token, found by the key's, and is known for each. A text is of one split only."
    ),
    example="`dog red ; cat blue ; sun green ? cat ->` → `blue`",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.lists",
            settings={
                "n_embd": 96,
                "n_layer": 3,
                "n_head": 4,
                "n_inner": 192,
                "resid_pdrop": 0.0,
                "embd_pdrop": 0.0,
                "attn_pdrop": 0.0,
            },
            steps=6000,
            batch=128,
            rate=1e-3,
            watched="accuracy",
            warmup=300,
            checked=500,
            every=250,
            stop_at=0.998,
        ),
    ),
    wanted={"accuracy": 0.98},
)
