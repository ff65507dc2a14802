"""A small folder like easy-VQA's: three pictures a split, drawn here, and questions about them."""

import json

from PIL import Image, ImageDraw

PLACES = {"rectangle": (8, 16, 23, 31), "circle": (34, 4, 58, 28), "triangle": (20, 40, 40, 60)}
COLOURS = {"rectangle": (255, 0, 0), "circle": (0, 128, 128), "triangle": (255, 255, 0)}
QUESTIONS = [
    ["what shape is present?", "rectangle", 0],
    ["what color is the shape?", "red", 0],
    ["is there not a circle in the image?", "no", 1],
    ["does the image contain a teal shape?", "yes", 1],
    ["what is the yellow shape?", "triangle", 2],
]


def draw(shape):
    picture = Image.new("RGB", (64, 64), (240, 250, 245))
    pen, box = ImageDraw.Draw(picture), PLACES[shape]
    if shape == "triangle":
        pen.polygon([(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) // 2, box[1])], fill=COLOURS[shape])
    else:
        {"circle": pen.ellipse, "rectangle": pen.rectangle}[shape](box, fill=COLOURS[shape])
    return picture


def write(folder, pictures=3):
    """Write the folder; picture n is of the n-th shape, over and over."""
    for split in ("train", "test"):
        (folder / split / "images").mkdir(parents=True)
        for number in range(pictures):
            draw(tuple(PLACES)[number % 3]).save(folder / split / "images" / f"{number}.png")
        (folder / split / "questions.json").write_text(json.dumps(QUESTIONS))
    return folder
