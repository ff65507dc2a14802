"""Makes the table behind ``method="auto"`` and its page, from the figures of the documents.

These are docs/zoo.json, docs/depth.json, docs/results.json and docs/known-truth.json; docs/validation.json is shown alone.

    python bench/which_method.py            # writes src/heedmap/methods/supported.json and docs/which-method.md

A table is one segment of one model under one experiment, with all its columns. In a table a method beats others by the share of
them whose figure is worse (the same: half), the mean over the columns; a method that the model refuses is behind all that it has.
The interval: 1,000 times tables are drawn with replacement, and each figure from the normal distribution of its own interval.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from heedmap.methods.cards import CARDS, CHANCE
from heedmap.methods.supported import ALL, CO, CROSS, MIXERS, ONE, TABLE, TOWERS, percent

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DRAWS, SEED, WIDTH = 1000, 0, 2 * 1.96
TAKING_PART = tuple(name for name, card in CARDS.items() if not card.is_slow and name != CHANCE)
"""Methods of a pass or two, but for chance."""
BLIND = ("raw_attention", "rollout")
"""Whose map is the same whatever the target is: ``auto``, which is asked about a target, does not take them."""

KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "zoo/bamba-lists": (MIXERS, ("text",)),
    "zoo/bart-dates": (CROSS, ("text",)),
    "zoo/clip-shapes": (TOWERS, ("image", "text")),
    "zoo/convbert-lists": (MIXERS, ("text",)),
    "zoo/deformable-shapes": (MIXERS, ("image",)),
    "zoo/detr-shapes": (CROSS, ("image",)),
    "zoo/gpt-lists": (ONE, ("text",)),
    "zoo/idefics-shapes": (MIXERS, ("image", "text")),
    "zoo/lxmert-shapes": (CO, ("boxes", "text")),
    "zoo/mamba-lists": (MIXERS, ("text",)),
    "zoo/swin-shapes": (MIXERS, ("image",)),
    "zoo/visualbert-shapes": (ONE, ("boxes", "text")),
    "zoo/vit-shapes": (ONE, ("image",)),
    "LXMERT on easy-VQA": (CO, ("boxes", "text")),
    "rxnfp": (ONE, ("text",)),
    "whisper-base": (CROSS, ("audio",)),
    "DECIMER": (CROSS, ("image",)),
    "smollm2": (ONE, ("text",)),
    "minilm": (ONE, ("text",)),
    "vit-shapes-12": (ONE, ("image",)),
    "bart-dates-6": (CROSS, ("text",)),
}
"""Model → kind of its flow, and what it reads; of the zoo's a test sees that it is so."""
TRUTHS = {
    "reactions": "rxnfp",
    "speech": "whisper-base",
    "letters": "DECIMER",
    "corners": "DECIMER",
    "likeness": "minilm",
    "capitals": "smollm2",
}
"""Table of docs/known-truth.json → its model."""
PART = {"letters": "drawings", "corners": "drawings"}
"""Table → the part of the run that it is of, where that has another name."""
BESIDE = ("metrics-", "fidelity-", "sanity-")
"""Starts of the names of runs that set other metrics beside: on few samples, or of few methods."""
LOWER = ("centre", "peak", "distance")
"""Columns of these in which less is better."""

DATES = (("zoo", "bart-dates"), ("depth", "bart-dates-6"))
"""File of figures and model, shallow and deep, of what is told of depth."""

Column = Mapping[str, tuple[float, float]]
"""Method → figure, the more the better, and its standard error."""


@dataclass(frozen=True)
class Measured:
    """One table.

    Attributes:
        title: for people.
        model: a key of :data:`KINDS`.
        columns: the figures.
        refused: methods that the model refuses.
    """

    title: str
    model: str
    columns: Sequence[Column]
    refused: tuple[str, ...] = ()

    @cached_property
    def methods(self) -> list[str]:
        """Those that take part here."""
        return [m for m in TAKING_PART if m in self.refused or any(m in column for column in self.columns)]

    @cached_property
    def figures(self) -> np.ndarray:
        """(columns, 2, methods): the figures and their standard errors; a method that a column lacks is behind all."""
        return np.array([[column.get(m, (-np.inf, 0.0)) for m in self.methods] for column in self.columns]).swapaxes(
            1, 2
        )


def measured() -> list[Measured]:
    """All tables."""
    zoo, deep = (_evidence(_read(name)["models"], before) for name, before in (("zoo", "zoo/"), ("depth", "")))
    return [*zoo, *deep, *_results(_read("results")), *_truths(_read("known-truth"))]


def _read(name: str) -> Any:
    return json.loads((DOCS / f"{name}.json").read_text(encoding="utf-8"))


def _column(figures: Mapping[str, Sequence[float]], sign: float = 1.0) -> Column:
    """Of method → figure and both ends of its interval."""
    return {m: (sign * v, (high - low) / WIDTH) for m, (v, low, high) in figures.items() if m in TAKING_PART}


def _evidence(models: Mapping[str, Any], before: str) -> Iterator[Measured]:
    """Of a file of known evidence; ``before`` stands before the models' names."""
    for name, entry in models.items():
        for segment, found in entry["segments"].items():
            rows = found["rows"]
            columns = [_column({m: row[f] for m, row in rows.items()}) for f in next(iter(rows.values()))]
            known = {row for other in entry["segments"].values() for row in other["rows"]}
            refused = {*entry.get("refused", ()), *(known - rows.keys())}
            named = tuple(m for m in TAKING_PART if m in refused)
            yield Measured(f"{before}{name}, {segment}: known evidence", f"{before}{name}", columns, named)


def _results(runs: Mapping[str, Any]) -> Iterator[Measured]:
    """Runs over the same samples of one model are one table."""
    joined: dict[tuple[str, ...], dict[tuple[str, str], dict[str, Sequence[float]]]] = {}
    refused: dict[tuple[str, ...], set[str]] = {}
    for key, run in runs.items():
        if key.startswith(BESIDE):
            continue
        name = run["model"]["name"]
        model = name if name in KINDS else "LXMERT on easy-VQA"
        for measure in run["measures"]:
            if not measure.get("ranks", True):  # made of others that are columns already
                continue
            part = measure["key"].split("/")[0] if run["evaluation"] == "perturbation" else ""
            table = joined.setdefault((run["evaluation"], model, part), {}).setdefault(
                (measure["key"], measure["better"]), {}
            )
            refused.setdefault((run["evaluation"], model, part), set()).update(run["refused"])
            for row in measure["rows"]:
                table.setdefault(row["method"], (row["value"], row["low"], row["high"]))
    for (evaluation, model, part), columns in joined.items():
        made = [_column(rows, 1.0 if better == "higher" else -1.0) for (_, better), rows in columns.items()]
        named = tuple(m for m in TAKING_PART if m in refused[evaluation, model, part])
        yield Measured(f"{model}{', ' if part else ''}{part}: {evaluation}", model, made, named)


def _truths(data: Mapping[str, Any]) -> Iterator[Measured]:
    for name, model in TRUTHS.items():
        rows = data["tables"][name]
        refused = data[PART.get(name, name)].get("refused", {})
        columns = [
            _column({m: row[f] for m, row in rows.items()}, -1.0 if f in LOWER else 1.0)
            for f in next(iter(rows.values()))
        ]
        yield Measured(f"{model}, {name}: known truth", model, columns, tuple(m for m in TAKING_PART if m in refused))


def beaten(table: Measured, random: np.random.Generator | None = None) -> dict[str, float]:
    """Method → the share of the others that it is before; ``random``: each figure drawn from its own interval."""
    return dict(zip(table.methods, _shares(table, random), strict=True))


def _shares(table: Measured, random: np.random.Generator | None = None) -> np.ndarray:
    values, errors = table.figures.swapaxes(0, 1)
    if random is not None:
        values = values + errors * random.standard_normal(values.shape)
    behind, level = (values[:, :, None] > values[:, None]).sum(2), (values[:, :, None] == values[:, None]).sum(2)
    before = (behind + 0.5 * (level - 1)) / (values.shape[1] - 1)
    return before.sum(0) / len(table.columns)


def cell(tables: Sequence[Measured]) -> dict[str, Any]:
    """What tables together say: method → share with interval, best first."""
    exact = [beaten(table) for table in tables]
    random = np.random.default_rng(SEED)
    places = [np.array([TAKING_PART.index(method) for method in table.methods]) for table in tables]
    total, count = np.zeros((2, DRAWS, len(TAKING_PART)))
    for draw in range(DRAWS):
        for i in random.integers(len(tables), size=len(tables)):
            total[draw, places[i]] += _shares(tables[i], random)
            count[draw, places[i]] += 1
    beats = {}
    for method, sums, counts in zip(TAKING_PART, total.T, count.T, strict=True):
        values = [shares[method] for shares in exact if method in shares]
        if values:
            low, high = np.quantile(sums[counts > 0] / counts[counts > 0], [0.025, 0.975])
            mean = float(np.mean(values))
            beats[method] = [round(mean, 3), round(min(float(low), mean), 3), round(max(float(high), mean), 3)]
    ordered = dict(sorted(beats.items(), key=lambda item: -item[1][0]))
    counts = {m: sum(m in shares for shares in exact) for m in ordered}
    models = sorted({table.model for table in tables})
    return {"models": models, "tables": len(tables), "beats": ordered, "measured_in": counts}


def cells(tables: Sequence[Measured]) -> dict[str, Any]:
    """Cell → what its tables say, with the order in which ``auto`` takes methods.

    First those that cannot be told from the cell's best (their intervals overlap; both are measured in half of its tables or
    more), the one before by all tables first; then the others, by the cell.
    """
    whole = cell(tables)
    groups: dict[str, list[Measured]] = {}
    for table in tables:
        kind, segments = KINDS[table.model]
        groups.setdefault(kind, []).append(table)
        groups.setdefault(f"{kind}: {' and '.join(segments)}", []).append(table)
    found = {ALL: whole} | {name: cell(group) for name, group in sorted(groups.items())}
    for entry in found.values():
        beats = entry["beats"]
        chosen = [m for m in beats if m not in BLIND]
        often = [m for m in chosen if 2 * entry["measured_in"][m] >= entry["tables"]]
        bar = beats[often[0]][1]
        level = [m for m in often if beats[m][2] >= bar]
        entry["order"] = sorted(level, key=lambda m: -whole["beats"][m][0]) + [m for m in chosen if m not in level]
    return found


def main() -> None:
    """Write the table and the page."""
    found = cells(measured())
    TABLE.write_text(packed(found), encoding="utf-8")
    (DOCS / "which-method.md").write_text(page(found), encoding="utf-8")


def packed(found: Mapping[str, Any]) -> str:
    """``supported.json``."""
    return json.dumps({"made_by": "bench/which_method.py", "cells": found, "ranks": ranks()}, indent=1) + "\n"


@cache
def ranks() -> dict[str, Any]:
    """Method → its mean rank, with interval, over the tables in which all methods take part: those of the zoo."""
    tables, others = list(_evidence(_read("zoo")["models"], "zoo/")), len(TAKING_PART) - 1
    mean = {
        method: [round(1 + (1 - share) * others, 1) for share in (mean, high, low)]
        for method, (mean, low, high) in cell(tables)["beats"].items()
    }
    return {"tables": len(tables), "methods": len(TAKING_PART), "mean": mean}


HEAD = """# Which method?

<!-- Written by `python bench/which_method.py` from the figures of the documents; do not edit. -->

`method="auto"` (on the command line `--method auto`) takes the method that heedmap's own measurements speak for most on a
model like yours, and says so: in `Explanation.choice`, in the notes of its flow, in pictures, pages and the terminal.

```python
import heedmap

subject = heedmap.load("zoo/bart-dates")
explanation = subject.explain(text="the 3rd of may 1987", method="auto")
print(explanation.method, "|", explanation.choice)
```

Where the model cannot have the first method (an operation without a rule, another flow), the next is taken, and the note
says which were passed over. Without `method` you get `generic`, the paper's method, as ever.

## What `auto` takes

*Kind* is how attention flows: one stream that asks itself; a stream that asks another one (encoder and decoder); two that
ask each other (co-attention); two side by side (towers: CLIP); or tokens that also mix in what is no softmax attention
(windows, convolutions, recurrences). A kind that reads something else than what is in the table takes the row of its kind
alone; what is not in the table at all takes the last row. A method *beats* others by the share of them whose figure is
worse, mean over the columns of a table and over tables. A table is a segment of one model in one experiment. `raw_attention`
and `rollout` are measured, but not taken: their map is the same whatever is asked.
"""

HOW = """
## How sure is that

- The interval (95 %): 1,000 times, tables are drawn with replacement, and each figure from the normal distribution of its
  own interval. Few tables are little evidence, and methods of one table share its samples. In a cell, methods whose
  intervals overlap with that of its best count as level, if they are measured in half of its tables or more; of these
  `auto` takes the one that beats most over *all* tables. So a method is not taken for having been lucky on one model.
- Most tables are of heedmap's own small models, two to six layers deep. There methods that read one layer (`raw_attention`,
  `partial_lrp`, `grad_eclip`) look better than they can be trusted to be in a model of twelve or more
  ([seen in one](#does-depth-change-it)).
- What a method is refused for counts as behind all that are not. Methods that take dozens of passes take no part; where
  time does not matter, see `occlusion` and `integrated_gradients` in [the results](results.md) and [known
  truth](known-truth.md).
- Tables: every segment of [evidence that is known](zoo.md) (`heedmap zoo evidence`), every part of [the paper's
  experiments](results.md) (`make results`), most tables of [known truth on real weights](known-truth.md) (`python
  bench/known_truth.py`). No method was chosen or tuned on them. But `auto` takes what did best on them, so expect a little
  less than its share on other data.
- On your own data, `heedmap recommend` measures your model; that says more about it than any table.

## All methods, over all tables
"""


def page(found: Mapping[str, Any]) -> str:
    """docs/which-method.md."""
    return "\n".join((HEAD, *_taken(found), HOW, *_all(found), "", *_ranks(), "", *_depth(), "", *_own()))


def _taken(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| kind, and what it reads | `auto` takes | which beats | tables | models | next |"
    yield "|---|---|---|---|---|---|"
    for name, entry in [*((n, e) for n, e in found.items() if n != ALL), ("everything else", found[ALL])]:
        first, *rest = entry["order"]
        models = f"{len(entry['models'])} models" if name == "everything else" else ", ".join(entry["models"])
        tables = f"{entry['measured_in'][first]} of {entry['tables']}"
        yield f"| {name} | `{first}` | {percent(entry['beats'][first])} | {tables} | {models} | `{rest[0]}` |"


def _all(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| method | beats | tables that it is measured in |"
    yield "|---|---|---|"
    for method, share in found[ALL]["beats"].items():
        yield f"| `{method}` | {percent(share)} | {found[ALL]['measured_in'][method]} of {found[ALL]['tables']} |"


def _ranks() -> Iterator[str]:
    """Of the tables in which all methods take part."""
    found = ranks()
    yield "## Mean rank where every method is measured"
    yield ""
    yield (
        f"The {found['tables']} tables of [evidence that is known](zoo.md) have all {found['methods']} methods (one that is "
        "refused shares the last places). The mean rank over them, 1 the best:"
    )
    yield ""
    yield "| method | mean rank |"
    yield "|---|---|"
    for method, (mean, low, high) in found["mean"].items():
        yield f"| `{method}` | {mean:.1f} ({low:.1f}–{high:.1f}) |"


def _depth() -> Iterator[str]:
    """The deep models beside the zoo's of the same tasks."""
    yield DEPTH
    zoo = _read("zoo")["models"]
    for name, entry in _read("depth")["models"].items():
        shallow = name.rpartition("-")[0]
        about, (whole, *without) = entry["about"], entry["without"].values()
        scores = ", ".join(f"{score} {value:.3f}" for score, value in about["scores"].items() if "/" not in score)
        yield f"### `{name}`, beside `zoo/{shallow}`"
        yield ""
        yield (
            f"{about['parameters']:,} parameters, {about['steps']:,} steps; on the test split {scores}. With one layer left out, "
            f"the score of {whole:.3f} falls to {min(without):.3f}–{max(without):.3f} (mean {np.mean(without):.3f}). "
            f"{entry['right']} of {entry['samples']} samples, {entry['answers']} answers explained."
        )
        for segment, measured_ in entry["segments"].items():
            yield from ("", *_beside(measured_["rows"], zoo[shallow]["segments"][segment]["rows"]), "")
    yield _deeper(*(_read(n)["models"][m]["segments"]["text"]["rows"] for n, m in DATES))


def _deeper(shallow: Mapping[str, Any], deep: Mapping[str, Any]) -> str:
    fallen = {"partial": "partial_lrp", "raw": "raw_attention", "one": "transformer_attribution"}
    stayed = {"full": "fullgrad_plus", "attcat": "attcat", "lrp": "attn_lrp", "libra": "libra_input_x_gradient"}
    return DEEPER.format(
        **{
            key: [rows[method]["share"][0] for rows in (shallow, deep)]
            for key, method in {**fallen, "paper": "generic", "ours": "heedmap"}.items()
        },
        **{key: deep[method]["share"][0] for key, method in {**stayed, "own": "heedmap"}.items()},
        ablated=deep["generic, normalize=False"]["share"][0],
        pointed=deep["generic"]["pointing"][0],
        own_pointed=deep["heedmap"]["pointing"][0],
    )


def _beside(deep: Mapping[str, Any], shallow: Mapping[str, Any]) -> Iterator[str]:
    """A table of both, and how alike they order the methods."""
    figures = {"share": "share inside", "pointing": "pointing game"}
    yield f"| | {' | '.join(f'{title}, deep | shallow' for title in figures.values())} |"
    yield f"|---|{'---|' * 2 * len(figures)}"
    tops = {figure: max(row[figure][0] for row in deep.values()) for figure in figures}
    for method, row in deep.items():
        cells_ = []
        for figure in figures:
            bold = "**" if row[figure][0] == tops[figure] else ""
            cells_ += [f"{bold}{row[figure][0]:.3f}{bold} ({row[figure][1]:.3f}–{row[figure][2]:.3f})"]
            cells_ += [f"{shallow[method][figure][0]:.3f}" if method in shallow else "–"]
        yield f"| {method if method in ('chance', 'centre prior') else f'`{method}`'} | {' | '.join(cells_)} |"
    yield ""
    both = [m for m in TAKING_PART if m in deep and m in shallow]
    alike = [spearmanr(*([rows[m][f][0] for m in both] for rows in (deep, shallow))).statistic for f in figures]
    yield (
        f"The methods' orders, deep and shallow, are alike by Spearman's ρ = {alike[0]:.2f} (share inside) and {alike[1]:.2f} "
        f"(pointing game), of {len(both)} methods."
    )


def level(method: str) -> tuple[int, int]:
    """In how many columns of the zoo's tables a method is first, or level with it (intervals overlap); and of how many."""
    columns = [
        {m: row[figure] for m, row in found["rows"].items() if m in TAKING_PART}
        for entry in _read("zoo")["models"].values()
        for found in entry["segments"].values()
        for figure in found["rows"]["generic"]
    ]
    firsts = [max(column.values(), key=lambda figure: figure[0]) for column in columns]
    reached = sum(method in c and c[method][2] >= first[1] for c, first in zip(columns, firsts, strict=True))
    return reached, len(columns)


def _own() -> Iterator[str]:
    """What was found on the validation split, and what was made of it."""
    yield OWN
    models = _read("validation")["models"]
    segments = [(model, segment) for model, entry in models.items() for segment in entry["segments"]]
    yield f"| share inside | {' | '.join(f'{model}, {segment}' for model, segment in segments)} |"
    yield f"|---|{'---|' * len(segments)}"
    for method in models["bart-dates"]["segments"]["text"]["rows"]:
        rows = [models[model]["segments"][segment]["rows"].get(method) for model, segment in segments]
        cells_ = ["–" if r is None else "{:.2f} ({:.2f}–{:.2f})".format(*r["share"]) for r in rows]
        yield f"| {method if method == 'chance' else f'`{method}`'} | {' | '.join(cells_)} |"
    own, paper, (last, count) = level("heedmap")[0], level("generic")[0], level("attn_lrp")
    yield ""
    yield (
        f"Of the {count} columns of test data in [evidence that is known](zoo.md) `heedmap` is first, or level with the first "
        f"(their intervals overlap), in {own}, `generic` in {paper}, `attn_lrp` in {last}: first in the mean, not everywhere."
    )
    ways = _read("known-truth")["tables"]["programs, auc"]
    yield BLIND_TO.format(**{method: ways[method]["hops-6"][0] for method in ("heedmap", "generic", "full_lrp")})
    yield TRIED


DEPTH = """## Does depth change it?

The zoo's models have two to six layers. Two of its tasks were learned by deeper models, which are not shipped (`python
bench/depth.py train NAME`, then `measure NAME`): `bart-dates-6`, an encoder and a decoder of six layers each, from nothing, and
`vit-shapes-12`, twelve layers, which began as `zoo/vit-shapes` with each layer cut into two or three smaller steps and was then
trained by the zoo's recipe, with fewer steps. The figures are of the first samples of the test split; those of the shallow
models are of [evidence that is known](zoo.md).
"""

DEEPER = """What this says, and what not:

- Where a shallow decoder looks up in its last cross-attention, a deep one shares the work among its layers. On the dates, methods
  that read that one attention lose most: the share of `partial_lrp` falls from {partial[0]:.2f} to {partial[1]:.2f}, that of
  `raw_attention` from {raw[0]:.2f} to {raw[1]:.2f}, that of `transformer_attribution` from {one[0]:.2f} to {one[1]:.2f};
  `rollout` falls to chance. Methods that follow relevance through all layers stay ahead: `fullgrad_plus` {full:.2f}, `attcat`
  {attcat:.2f}, `attn_lrp` {lrp:.2f}, `libra_input_x_gradient` {libra:.2f}, `heedmap` {own:.2f}.
- The paper's method falls from {paper[0]:.2f} to {paper[1]:.2f}, `heedmap` from {ours[0]:.2f} to {ours[1]:.2f}: eqs. 8 and 9
  still cost (`normalize=False` has {ablated:.2f}). They point at the evidence in {pointed:.0%} and {own_pointed:.0%}.
- On the shapes the intervals overlap with those of the shallow model, method by method. But this model is the shallow one's
  way in more steps, and most of its layers can be left out at little cost, so it shows that twelve layers by themselves harm no
  method, and not what a model would do that had learned with twelve. One task of six and six layers is one task.
- Beside these, [MiniLM's six layers, rxnfp's twelve and SmolLM2's thirty](known-truth.md) are known truth on real weights.
"""

OWN = """## heedmap's own method, and why

Why does the paper's method lose where it loses? Asked of the *validation* split of the same worlds (no figure of this
section is of the data that the tables above are of; `python bench/validation.py`), two causes were found.

1. **The gradient.** ∂y/∂A passes through norms, gates and softmaxes, whose own slopes change signs and sizes along the way.
   With Libra gradients (A, the norms' deviations and the gates held constant, the factors of a product halved) what a row
   brings is a share of one sum, ⟨∂y/∂o, A v⟩, and the eqs. 5 to 7 add shares of the same thing.
2. **The half weight.** Where a stream asks another one, eqs. 8 and 9 give what its tokens took in from each other half of
   the weight of each, however little of it the answer used. What a residual stream holds at a place is mostly of that
   place: leaving that part out of rule 10 altogether is better than half of it, and better than all of it
   (`normalize=False`).

So `method="heedmap"` is eqs. 5, 6, 7 and 11 on Libra gradients, Ā = E_h[(A ⊙ ∂y/∂A)⁺], with

    R^{sq} ← R^{sq} + Ā        in place of        R^{sq} ← R^{sq} + (R̄^{ss})ᵀ Ā R̄^{qq}

as rule 10. It has no parameter. That the half weight costs something was first seen in the tables of test data;
what to put in its place was decided on the validation split. Where Libra's pass is not defined it takes the model's own
gradients, and a note says so.
"""

BLIND_TO = """
What it cannot see is why a token was looked up, as A is held constant: only what was brought counts. In [programs that were
compiled](known-truth.md#programs-that-were-compiled-tracr), whose answer stands at the end of a way from token to token,
its ROC-AUC for the whole way is {heedmap:.2f} at six hops, where `generic` has {generic:.2f} and `full_lrp` {full_lrp:.2f}.
Where the question is what the model goes by, and not what it passes on, ask one of these too.
"""

TRIED = """
What was tried there as well by code that was not kept, with the validation samples of the same models, and left: the shares
that each token's own content and what it took in have of what is read of it, in place of the half (nearer to the truth in
`bart-dates` than eqs. 8 and 9, behind leaving it out; behind in co-attention); heads summed before the positive part is
taken (level); signed sums (better shares, worse peaks); the product of paths alone, without the carrying of eq. 6 (level
where models are two layers deep, far behind on the words of VisualBERT); the geometric mean of two methods' maps (better
shares, worse peaks; two methods' costs); the last layers alone (behind, but on words of VisualBERT). On the words of the
questions to LXMERT and VisualBERT nothing that looks at gradients is before chance by much: the models look at the
question's word for what it asks, not at the words that the truth names.

What stands in the way of being first everywhere: where the last attention looks up by itself (`bart-dates`, `gpt-lists`),
reading that one layer cannot be beaten; and the map still depends on the scale of the target, because eq. 6 adds products
of shares to the identity.
"""


if __name__ == "__main__":
    main()
