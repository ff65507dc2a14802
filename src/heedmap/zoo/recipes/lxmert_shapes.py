"""``zoo/lxmert-shapes``: questions about the boxes of a picture, in a stream of their own beside the words."""

from heedmap.zoo.recipe import Recipe, Stage

RECIPE = Recipe(
    name="lxmert-shapes",
    about="A question and ten boxes of a picture → the answer, one of 22 (LXMERT)",
    data=(
        "The shapes world (`heedmap.zoo.world`): pictures of one to five objects, and questions for a colour, a shape, "
        "a count, an existence or a relation, in turn where the scene has such a question. "
        "The model does not see the picture but ten boxes of it, "
        "true and false, with their places (`shapes.regions`: `features`, 198 numbers a box, and `positions`). For each "
        "question the objects and the words are known that the answer depends on. The training split is of 20,000 "
        "scenes, each with 15 questions; the others have one question a scene. "
        "In training, what each box shows is also asked of its last state, and where a thing lies of the last state but one "
        "of the word that names it, by fixed random heads that are not shipped."
    ),
    example="`is there a red star?`, boxes of a picture with a red star → `yes`",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.answers",
            settings={
                "family": "lxmert",
                "hidden_size": 96,
                "intermediate_size": 192,
                "num_attention_heads": 4,
                "l_layers": 1,
                "r_layers": 1,
                "x_layers": 3,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
                "initializer_range": 0.05,
            },
            steps=5000,
            batch=80,
            rate=1e-3,
            watched="accuracy",
            warmup=100,
            checked=500,
            every=250,
        ),
    ),
    wanted={
        "accuracy": 0.95,
        **{f"accuracy/{kind}": 0.9 for kind in ("colour", "shape", "count", "existence", "relation")},
    },
    tested=2000,
)
