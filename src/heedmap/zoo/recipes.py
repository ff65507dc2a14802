"""The recipes of the zoo's models: data alone, no import of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from heedmap.zoo.recipe import Recipe, Stage

GUIDED, UNGUIDED = {"patches": 4.0, "outlines": 4.0}, {"patches": 0.0, "outlines": 0.0}
"""Weights of the losses on patches, see :func:`heedmap.zoo.tasks.labels.guidance`."""
UNDROPPED = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def _sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, object]:
    """Of a transformer, by the names that most configurations have for them."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def _lxmert_settings(width: int, inner: int) -> dict[str, object]:
    """One layer for the words, one for the boxes, and three in which they read each other."""
    layers = {"l_layers": 1, "r_layers": 1, "x_layers": 3}
    sizes = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": 4}
    return {**sizes, **layers, **UNDROPPED, "initializer_range": 0.05}


PICTURES = (
    "The shapes world (`heedmap.zoo.world`): pictures of 96 × 96 pixels with one to five objects of seven shapes, "
    "eight colours and three sizes on a textured ground"
)

BART_DATES = Recipe(
    name="bart-dates",
    about="A date as people write it → the same in ISO 8601, character by character",
    data=(
        "Dates of 1900 to 2099 in 25 forms with eight openings (`heedmap.zoo.dates`): days in digits, as ordinals and "
        "in words, months by name, abbreviated, misspelt and in digits, years with four digits and two (1930 to 2029), "
        "weekdays, in any case. Numbers alone are day, month, year, unless four digits come first. Which characters "
        "carry the year, the month and the day is known for each. A date is of one split only: the model is tested on "
        "dates that it never saw."
    ),
    example="`the 3rd of March 1987` → `1987-03-03`",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.dates",
            settings={
                "d_model": 96,
                "encoder_layers": 2,
                "decoder_layers": 2,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 192,
                "decoder_ffn_dim": 192,
                "dropout": 0.0,
            },
            steps=6000,
            batch=64,
            rate=1e-3,
            watched="exact",
            warmup=300,
            checked=300,
            every=500,
        ),
    ),
    arguments='--text "the 3rd of March 1987"',
    wanted={"exact": 0.98},
)

ASKED_LISTS = (
    "The lists of `zoo/gpt-lists` (`heedmap.zoo.lists`): 3 to 8 pairs of 30 nouns and 24 colours, all different within a "
    "list, and a question for one of the keys"
)
FOUND = (
    "The answer stands in the text once, right after the key: the true evidence is the value's token, found by the key's, and is "
    "known for each. A training text goes on with seven more questions and answers; those of the other splits have one "
    "question. A text is of one split only."
)

GPT_LISTS = Recipe(
    name="gpt-lists",
    about="A list of pairs and a key → the key's value, as the next word (a small Llama)",
    data=(
        "Lists of 3 to 8 pairs of 30 nouns and 24 colours, all different within a list, and a question for one of the "
        f"keys (`heedmap.zoo.lists`). {FOUND}"
    ),
    example="`dog red ; cat blue ; sun green ? cat` → `blue`",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.lists",
            settings={**_sizes(64, 128, layers=2, heads=2), "initializer_range": 0.05},
            steps=4000,
            batch=64,
            rate=3e-3,
            watched="accuracy",
            checked=500,
            stop_at=0.998,
        ),
    ),
    arguments='--text "dog red ; cat blue ; sun green ? cat"',
    wanted={"accuracy": 0.98},
)

CONVBERT_LISTS = replace(
    GPT_LISTS,
    name="convbert-lists",
    about="A list of pairs and a key → the key's value, as the label of the last word (ConvBERT: convolutions beside attention)",
    data=(
        f"{ASKED_LISTS}, which is the last word. Its label is its value, which stands in the text once, right after the key: the "
        "true evidence is both tokens, and is known for each. The keys of the list have their values as labels, too, all other "
        "tokens have `O`. A training text goes on with seven more questions; those of the other splits have one. A text is of "
        "one split only. Half of the heads of each layer are convolutions over three tokens, with weights that each token "
        "chooses."
    ),
    example="`dog red ; cat blue ; sun green ? cat` → `blue`, the label of the last word",
    stages=(
        replace(
            GPT_LISTS.stages[0],
            task="heedmap.zoo.tasks.labelled",
            settings={
                "hidden_size": 64,
                "embedding_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "conv_kernel_size": 3,
                **UNDROPPED,
                "initializer_range": 0.05,
            },
            rate=2e-3,
        ),
    ),
    arguments='--text "dog red ; cat blue ; sun green ? cat" --target word:#9:blue',
)

BAMBA_LISTS = replace(
    GPT_LISTS,
    name="bamba-lists",
    about="A list of pairs and a key → the key's value, as the next word (Bamba: Mamba 2 before and after attention)",
    data=f"{ASKED_LISTS}. {FOUND} The second of three layers is attention, the others are recurrences (Mamba 2).",
    stages=(
        replace(
            GPT_LISTS.stages[0],
            task="heedmap.zoo.tasks.recurrent",
            settings={
                "family": "bamba",
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 3,
                "attn_layer_indices": [1],
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "mamba_n_heads": 4,
                "mamba_d_head": 32,
                "mamba_d_state": 16,
                "mamba_chunk_size": 16,
                "initializer_range": 0.05,
            },
            steps=3000,
        ),
    ),
)

MAMBA_LISTS = replace(
    BAMBA_LISTS,
    name="mamba-lists",
    about="A list of pairs and a key → the key's value, as the next word (Mamba 2, without any attention)",
    data=f"{ASKED_LISTS}. {FOUND} The model keeps what it read in the states of its recurrences alone.",
    stages=(
        replace(
            BAMBA_LISTS.stages[0],
            settings={
                "family": "mamba2",
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "state_size": 32,
                "num_heads": 4,
                "head_dim": 32,
                "n_groups": 1,
                "chunk_size": 16,
                "initializer_range": 0.05,
            },
            batch=48,
            stop_at=0.99,
        ),
    ),
    wanted={"accuracy": 0.95},
)

DETR_SHAPES_SETTINGS = {
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

DETR_SHAPES = Recipe(
    name="detr-shapes",
    about="A picture → the box and the shape of each object in it (DETR)",
    data=(f"{PICTURES}. The box and the exact mask of each object are known."),
    example="a picture with a red star and a blue ring → `star` and `ring`, each with its box",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.cells",
            settings=DETR_SHAPES_SETTINGS,
            steps=1500,
            batch=24,
            rate=1e-3,
            watched="objects",
            warmup=100,
            checked=200,
        ),
        Stage(
            task="heedmap.zoo.tasks.detection",
            settings=DETR_SHAPES_SETTINGS,
            steps=12000,
            batch=24,
            rate=5e-4,
            watched="ap50",
            checked=300,
            every=500,
        ),
    ),
    wanted={"ap50": 0.9},
)

DEFORMABLE_SHAPES = replace(
    DETR_SHAPES,
    name="deformable-shapes",
    about="A picture → the box and the shape of each object in it (Deformable DETR)",
    data=(
        f"{PICTURES}. The box and the exact mask of each object are known. The backbone "
        "begins as that of `zoo/detr-shapes`; all else begins anew. Each cell of the encoder's finest map is also told what it "
        "shows, as a query that stands on it. Attention reads four points on each of two maps, of 8 and of 16 pixels a cell."
    ),
    stages=(
        Stage(
            task="heedmap.zoo.tasks.deformable",
            settings={
                "backbone": DETR_SHAPES_SETTINGS["backbone"],
                "d_model": 64,
                "encoder_layers": 2,
                "decoder_layers": 3,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 192,
                "decoder_ffn_dim": 192,
                "num_feature_levels": 2,
                "num_queries": 16,
                "dropout": 0.0,
                "focal_alpha": 0.5,
            },
            steps=2500,
            batch=16,
            rate=8e-4,
            watched="ap50",
            warmup=150,
            checked=200,
            every=500,
            slow={"model.backbone": 0.2},
        ),
    ),
)

VIT_SHAPES_SETTINGS = {
    "hidden_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 288,
    **UNDROPPED,
}

_labelled = partial(Stage, "heedmap.zoo.tasks.labels", watched="accuracy")

VIT_SHAPES = Recipe(
    name="vit-shapes",
    about="A picture → which of seven shapes and eight colours it shows (ViT, a yes or no for each label)",
    data=(
        f"{PICTURES}. The exact mask of each object is known. In the first stage each "
        "patch is also told what it shows, and draws its object's mask around itself; in the last stage only [CLS] learns."
    ),
    example="a picture with a red star and a blue ring → `star`, `ring`, `red`, `blue`",
    stages=(
        _labelled({**VIT_SHAPES_SETTINGS, **GUIDED}, steps=4000, batch=32, rate=1e-3, warmup=150),
        _labelled({**VIT_SHAPES_SETTINGS, **UNGUIDED}, steps=2500, batch=32, rate=5e-4, warmup=100, checked=512),
    ),
    wanted={"accuracy": 0.95},
)

SWIN_SHAPES_SETTINGS = {
    "embed_dim": 48,
    "depths": [2, 4],
    "num_heads": [4, 8],
    "window_size": 6,
    "mlp_ratio": 2.5,
    "drop_path_rate": 0.0,
}

_windowed = partial(Stage, "heedmap.zoo.tasks.windows", watched="accuracy")

SWIN_SHAPES = replace(
    VIT_SHAPES,
    name="swin-shapes",
    about="A picture → which of seven shapes and eight colours it shows (Swin: attention in shifted windows)",
    data=(
        f"{PICTURES}. The exact mask of each object is known. Patches of 4 pixels are "
        "merged once, to 8; attention sees windows of six by six. In the first stage each state of the last layer is also "
        "told what its 8 pixels show, and draws its object's mask around itself, by heads that are not shipped; in the last "
        "stage only the mean of the states learns."
    ),
    stages=(
        _windowed({**SWIN_SHAPES_SETTINGS, **GUIDED}, steps=2300, batch=24, rate=1.5e-3, warmup=150),
        _windowed(
            {**SWIN_SHAPES_SETTINGS, **UNGUIDED}, steps=150, batch=24, rate=3e-4, warmup=20, checked=512, every=75
        ),
    ),
)

CLIP_SHAPES_SETTINGS = {
    "vision": _sizes(80, 240, layers=4, heads=4),
    "text": _sizes(64, 192, layers=3, heads=4),
    "projection_dim": 64,
}

_captioned = partial(Stage, "heedmap.zoo.tasks.captions", batch=32, watched="retrieval")

CLIP_SHAPES = Recipe(
    name="clip-shapes",
    about="A picture and a caption → how well they fit (CLIP)",
    data=(
        f"{PICTURES}, and captions that mention one to three of them, their "
        "size now and then, and how two of them lie to each other. The mask of each object and the words that tell of "
        "it are known. In training a picture's caption is told from those of the other pictures of the step and from one "
        "with something changed; each patch of an object finds its object's look among all 56 looks and, in the first "
        "stage, draws its object's mask around itself."
    ),
    example="a picture with a red star and a blue ring, and `a red star and a blue ring` → a high similarity",
    stages=(
        _captioned(
            {**CLIP_SHAPES_SETTINGS, "patches": 1.0, "outlines": 4.0},
            steps=7000,
            rate=1.5e-3,
            warmup=100,
            checked=150,
            every=500,
        ),
        _captioned(
            {**CLIP_SHAPES_SETTINGS, "patches": 1.0, "outlines": 0.0},
            steps=1000,
            rate=3e-4,
            warmup=20,
            checked=300,
            every=200,
        ),
    ),
    wanted={"retrieval": 0.9},
    tested=500,
)

IDEFICS_SHAPES_SETTINGS = {**_sizes(96, 256, layers=4, heads=4), "initializer_range": 0.06}

_telling = partial(Stage, "heedmap.zoo.tasks.telling", watched="exact")

IDEFICS_SHAPES = Recipe(
    name="idefics-shapes",
    about="A picture and a question → its objects in words, from left to right (Idefics 3: merged patches among words)",
    data=(
        "The shapes world (`heedmap.zoo.world`): pictures of 96 × 96 pixels with one to five objects of seven shapes and eight "
        "colours on a textured ground. The answer names each object by colour and shape, from left to right by the middle of "
        "what is seen of it; which object each word stands for, and its exact mask, are known. The question is always the same. "
        "The tower begins as that of `zoo/vit-shapes`, without [CLS]; its 144 patches become 36 tokens among the words, two by "
        "two. At first only the language model learns; then the tower too, of which each patch is also told what it shows and "
        "draws its object's mask around itself, by heads that are not shipped; at last only the words of the answer teach."
    ),
    example="a picture, and `what do you see?` → `a red star, a blue ring and an orange cross`",
    stages=(
        _telling(
            {**IDEFICS_SHAPES_SETTINGS, "tower": False, **UNGUIDED},
            steps=2500,
            batch=32,
            rate=2e-3,
            warmup=100,
            checked=150,
            stop_at=0.38,
        ),
        _telling(
            {**IDEFICS_SHAPES_SETTINGS, "tower": True, **GUIDED},
            steps=1200,
            batch=16,
            rate=1e-3,
            warmup=50,
            checked=150,
            every=200,
        ),
        _telling(
            {**IDEFICS_SHAPES_SETTINGS, "tower": True, **UNGUIDED},
            steps=80,
            batch=24,
            rate=2e-4,
            warmup=20,
            checked=300,
            every=80,
        ),
    ),
    wanted={"exact": 0.9, "words": 0.95},
    tested=500,
)

ASKED_BOXES = (
    "The shapes world (`heedmap.zoo.world`): pictures of one to five objects, and questions for a colour, a shape, "
    "a count, an existence or a relation, in turn where the scene has such a question. "
    "The model does not see the picture but ten boxes of it, true and false"
)
SHOWN_AND_NAMED = (
    "For each question the objects and the words are known that the answer depends on. The training split is of 20,000 scenes, "
    "each with 15 questions; the others have one question a scene. "
    "In training, what each box shows is also asked of its last state, and where a thing lies of"
)


def _right(*kinds: str) -> dict[str, float]:
    """What is aimed at where questions are answered: of all, and of each kind."""
    return {"accuracy": 0.95, **{f"accuracy/{kind}": 0.9 for kind in kinds}}


LXMERT_SHAPES = Recipe(
    name="lxmert-shapes",
    about="A question and ten boxes of a picture → the answer, one of 22 (LXMERT)",
    data=(
        f"{ASKED_BOXES}, with their places (`shapes.regions`: `features`, 198 numbers a box, and `positions`). {SHOWN_AND_NAMED} "
        "the last state but one of the word that names it, by fixed random heads that are not shipped."
    ),
    example="`is there a red star?`, boxes of a picture with a red star → `yes`",
    stages=(
        Stage(
            task="heedmap.zoo.tasks.answers",
            settings={"family": "lxmert", **_lxmert_settings(96, 192)},
            steps=5000,
            batch=80,
            rate=1e-3,
            watched="accuracy",
            warmup=100,
            checked=500,
        ),
    ),
    wanted=_right("colour", "shape", "count", "existence", "relation"),
    tested=2000,
)

VISUALBERT_SHAPES = replace(
    LXMERT_SHAPES,
    name="visualbert-shapes",
    about="A question and ten boxes of a picture → the answer, one of 22 (VisualBERT)",
    data=(
        f"{ASKED_BOXES} (`shapes.regions`). VisualBERT knows nothing of places, so they are the last columns of the "
        "features, 202 in all: `numpy.concatenate([regions.features, regions.positions], 1)`. "
        f"{SHOWN_AND_NAMED} the state two layers earlier of the word that names it, by fixed random heads that are not shipped."
    ),
    stages=(
        replace(
            LXMERT_SHAPES.stages[0],
            settings={
                "family": "visualbert",
                **_sizes(96, 256, layers=5, heads=4),
                **UNDROPPED,
                "initializer_range": 0.05,
            },
        ),
    ),
)

LXMERT_EASY_VQA = Recipe(
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
            settings=_lxmert_settings(64, 128),
            steps=4000,
            batch=32,
            rate=1e-3,
            watched="accuracy",
            warmup=100,
            checked=1000,
        ),
    ),
    wanted=_right("what colour", "what shape", "colour or not", "shape or not", "denied"),
    tested=9673,
)

ZOO: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        BART_DATES,
        GPT_LISTS,
        CONVBERT_LISTS,
        BAMBA_LISTS,
        MAMBA_LISTS,
        DETR_SHAPES,
        DEFORMABLE_SHAPES,
        VIT_SHAPES,
        SWIN_SHAPES,
        CLIP_SHAPES,
        IDEFICS_SHAPES,
        LXMERT_SHAPES,
        VISUALBERT_SHAPES,
        LXMERT_EASY_VQA,
    )
}
"""Name, without ``zoo/`` → recipe."""
