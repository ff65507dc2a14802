"""``lxmert-easy-vqa``: questions and pictures that others made, for a check on data that are not ours. Not shipped."""

from heedmap.zoo.recipe import Recipe, Stage

RECIPE = Recipe(
    name="lxmert-easy-vqa",
    about="A question and a picture of one shape as 8 × 8 boxes of raw pixels → the answer, one of 13 (LXMERT)",
    data=(
        "easy-VQA (https://github.com/vzhou842/easy-VQA, MIT), from the package `easy-vqa`, which is fetched into a cache: "
        "5,000 pictures of 64 × 64 pixels, each of one coloured shape, and 48,248 questions for the colour, the shape, or "
        "whether there is one or none of a colour or shape. The model sees the picture as 64 boxes: 192 raw values each, "
        "and their places. Training takes the kinds of questions in turn, those whether something is there parted by whether it "
        "is and by whether they deny it; it mirrors the pictures and moves the shapes about. The last 400 of the 4,000 training "
        "pictures validate. All that tells an answer is the shape: the boxes that it touches are known. In training, what each "
        "box shows is also asked of its last state, and whether and where the picture has what a word names of the last state "
        "but one of the word, by fixed random heads that are not stored; what a picture shows is known from the questions."
    ),
    example="`what color is the triangle?`, a picture of a red triangle → `red`",
    stages=(
        Stage(
            task="heedmap.packaged.lxmert_easy_vqa",
            settings={
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_attention_heads": 4,
                "l_layers": 1,
                "r_layers": 1,
                "x_layers": 3,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
                "initializer_range": 0.05,
            },
            steps=4000,
            batch=32,
            rate=1e-3,
            watched="accuracy",
            warmup=100,
            checked=1000,
            every=250,
        ),
    ),
    wanted={
        "accuracy": 0.95,
        **{
            f"accuracy/{kind}": 0.9 for kind in ("what colour", "what shape", "colour or not", "shape or not", "denied")
        },
    },
    tested=9673,
)
