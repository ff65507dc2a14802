"""``zoo/gpt-lists``: the value of a key in a list of pairs."""

from heedmap.zoo.recipe import Recipe, Stage

RECIPE = Recipe(
    name="gpt-lists",
    about="A list of pairs and a key → the key's value, as the next word (a small Llama)",
    data=(
        "Lists of 3 to 8 pairs of 30 nouns and 24 colours, all different within a list, and a question for one of the "
        "keys (`heedmap.zoo.lists`). The answer stands in the text once, right after the key: the true evidence is the "
        "value's token, found by the key's, and is known for each. A training text goes on with seven more questions and "
        "answers; those of the other splits have one question. A text is of one split only."
    ),
    example="`dog red ; cat blue ; sun green ? cat` → `blue`",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.lists",
            settings={
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "initializer_range": 0.05,
            },
            steps=4000,
            batch=64,
            rate=3e-3,
            watched="accuracy",
            warmup=200,
            checked=500,
            every=250,
            stop_at=0.998,
        ),
    ),
    arguments='--text "dog red ; cat blue ; sun green ? cat"',
    wanted={"accuracy": 0.98},
)
