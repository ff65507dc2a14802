"""``zoo/vit-shapes``: the shapes and colours that a picture shows."""

from heedmap.zoo.recipe import Recipe, Stage

SETTINGS = {
    "hidden_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 288,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}

RECIPE = Recipe(
    name="vit-shapes",
    about="A picture → which of seven shapes and eight colours it shows (ViT, a yes or no for each label)",
    data=(
        "The shapes world (`heedmap.zoo.world`): pictures of 96 × 96 pixels with one to five objects of seven shapes, "
        "eight colours and three sizes on a textured ground. The exact mask of each object is known. In the first stage each "
        "patch is also told what it shows, and draws its object's mask around itself; in the last stage only [CLS] learns."
    ),
    example="a picture with a red star and a blue ring → `star`, `ring`, `red`, `blue`",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.labels",
            settings={**SETTINGS, "patches": 4.0, "outlines": 4.0},
            steps=4000,
            batch=32,
            rate=1e-3,
            watched="accuracy",
            warmup=150,
            checked=256,
            every=250,
        ),
        Stage(
            task="heedmap.zoo.tasks.labels",
            settings={**SETTINGS, "patches": 0.0, "outlines": 0.0},
            steps=2500,
            batch=32,
            rate=5e-4,
            watched="accuracy",
            warmup=100,
            checked=512,
            every=250,
        ),
    ),
    wanted={"accuracy": 0.95},
    tested=1000,
)
