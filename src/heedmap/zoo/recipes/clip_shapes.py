"""``zoo/clip-shapes``: how well a caption fits a picture."""

from heedmap.zoo.recipe import Recipe, Stage

SETTINGS = {
    "vision": {
        "hidden_size": 80,
        "intermediate_size": 240,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "text": {
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
    "projection_dim": 64,
}

RECIPE = Recipe(
    name="clip-shapes",
    about="A picture and a caption → how well they fit (CLIP)",
    data=(
        "The shapes world (`heedmap.zoo.world`): pictures of 96 × 96 pixels with one to five objects of seven shapes, "
        "eight colours and three sizes on a textured ground, and captions that mention one to three of them, their "
        "size now and then, and how two of them lie to each other. The mask of each object and the words that tell of "
        "it are known. In training a picture's caption is told from those of the other pictures of the step and from one "
        "with something changed; each patch of an object finds its object's look among all 56 looks and, in the first "
        "stage, draws its object's mask around itself."
    ),
    example="a picture with a red star and a blue ring, and `a red star and a blue ring` → a high similarity",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.captions",
            settings={**SETTINGS, "patches": 1.0, "outlines": 4.0},
            steps=7000,
            batch=32,
            rate=1.5e-3,
            watched="retrieval",
            warmup=100,
            checked=150,
            every=500,
        ),
        Stage(
            task="heedmap.zoo.tasks.captions",
            settings={**SETTINGS, "patches": 1.0, "outlines": 0.0},
            steps=1000,
            batch=32,
            rate=3e-4,
            watched="retrieval",
            warmup=20,
            checked=300,
            every=200,
        ),
    ),
    wanted={"retrieval": 0.9},
    tested=500,
)
