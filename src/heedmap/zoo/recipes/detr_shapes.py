"""``zoo/detr-shapes``: the objects of a picture, each with its box and shape."""

from heedmap.zoo.recipe import Recipe, Stage

SETTINGS = {
    "backbone": {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [2, 2]},
    "d_model": 64,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
    "num_queries": 12,
    "dropout": 0.0,
    "eos_coefficient": 0.2,
}

RECIPE = Recipe(
    name="detr-shapes",
    about="A picture → the box and the shape of each object in it (DETR)",
    data=(
        "The shapes world (`heedmap.zoo.world`): pictures of 96 × 96 pixels with one to five objects of seven shapes, "
        "eight colours and three sizes on a textured ground. The box and the exact mask of each object are known."
    ),
    example="a picture with a red star and a blue ring → `star` and `ring`, each with its box",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.cells",
            settings=SETTINGS,
            steps=1500,
            batch=24,
            rate=1e-3,
            watched="objects",
            warmup=100,
            checked=200,
            every=250,
        ),
        Stage(
            task="heedmap.zoo.tasks.detection",
            settings=SETTINGS,
            steps=12000,
            batch=24,
            rate=5e-4,
            watched="ap50",
            warmup=200,
            checked=300,
            every=500,
            clip=1.0,
        ),
    ),
    wanted={"ap50": 0.9},
    tested=1000,
)
