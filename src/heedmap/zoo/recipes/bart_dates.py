"""``zoo/bart-dates``: dates as people write them, to ISO 8601."""

from heedmap.zoo.recipe import Recipe, Stage

RECIPE = Recipe(
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
