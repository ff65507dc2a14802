"""Methods ranked by several tests on the same samples, with what can be said of it in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from string import ascii_uppercase
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.common.printable import counted
from heedmap.errors import InputError
from heedmap.evaluate.statistics import draws, ends
from heedmap.methods.cards import CHANCE

if TYPE_CHECKING:
    from jaxtyping import Float
    from rich.table import Table

UNCHANGED = 0.9
"""A map whose rank correlation is above this when all weights are random does not depend on the model."""
ALIKE = 0.5
"""A map whose rank correlation is above this when all weights are random owes more to the input than to what was learned; maps of
methods that no test tells apart, and whose mean rank correlation is below this, disagree."""
GATE = "randomisation"
"""The test that a method passes or not: a correlation near 0 is no better than one of 0.3, so it does not rank."""
CHEAPER = 1.5
"""From this ratio on a cost is worth telling."""
FEW = 5
"""With fewer samples an interval says little."""
TESTS = {
    "srg": ("SRG", True),
    "joint": ("joint SRG", True),
    "saco": ("SaCo", True),
    "sensitivity": ("sensitivity", False),
    GATE: ("random weights", False),
}
"""Test → its heading, whether more is better."""
FAITHFUL = ("srg", "joint", "saco")
"""The tests that ask the model about the tokens of the map."""

ByTest = Mapping[str, "Float[np.ndarray, ' samples']"]


@dataclass(frozen=True)
class Ranked:
    """One method.

    Attributes:
        method: its name.
        rank: mean over tests and samples of its rank among the methods (1 is best; equal ones share).
        low, high: bootstrap interval of that over the samples.
        tests: test → mean figure.
        cost: seconds of an explanation, as a multiple of a forward pass.
        verdict: ``"best"``, ``"as good"`` (the difference to the best is within its interval), ``"worse"``, ``"chance"``, or
            ``"unchanged"``: its map does not change when the weights are random, so it is out.
    """

    method: str
    rank: float
    low: float
    high: float
    tests: Mapping[str, float]
    cost: float
    verdict: str


@dataclass(frozen=True)
class Recommendation:
    """What was found on a model.

    Attributes:
        model: its name.
        samples: how many inputs it was found on.
        rows: the methods, best first; those that are out at the end.
        sentence: what to do.
        refused: methods that cannot explain the model → why.
        agreement: mean rank correlation of the maps of any two methods that are best or as good; None: there are not two.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> advice = heedmap.recommend(subject, [{"text": "dog red ; cat blue ? cat"}], methods=["generic"])
        >>> advice.best, advice.samples, advice.refused
        ('generic', 1, {})
        >>> print(advice.sentence)
        On zoo/gpt-lists, `generic` ranks best over 1 input (mean rank 1.3 of 2); so few inputs tell little, give more.
    """

    model: str
    samples: int
    rows: tuple[Ranked, ...]
    sentence: str
    refused: Mapping[str, str] = field(default_factory=dict)
    agreement: float | None = None

    @property
    def best(self) -> str | None:
        """The method to use; None: none can be trusted."""
        return next((row.method for row in self.rows if row.verdict == "best"), None)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data."""
        return {**asdict(self), "best": self.best, "rows": [asdict(row) for row in self.rows]}

    def table(self) -> Table:
        """For rich's console, 80 columns wide: a lettered column a test, what the letters are, and the sentence."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        letters = dict(zip(self._tests(), ascii_uppercase, strict=False))
        named = [(letter, *TESTS[test]) for test, letter in letters.items()]
        told = [f"{letter}: {name} ({'higher' if higher else 'lower'} is better)" for letter, name, higher in named]
        told.append("cost: time of an explanation, as a multiple of a forward pass")
        table = Table(
            title=f"{self.model}, {counted(self.samples, 'input')}",
            title_justify="left",
            caption=Text("\n".join(("", *told, "", self.sentence))),
            caption_justify="left",
            caption_style="",
            box=SIMPLE_HEAD,
            show_edge=False,
            padding=0,
        )
        table.add_column("method", overflow="fold")
        for heading in ("rank", "interval", *letters.values(), "cost"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for row in self.rows:
            figures = [f"{row.tests[test]:.2f}" if test in row.tests else "" for test in letters]
            cells = [
                f"{row.rank:.1f}",
                f"{row.low:.1f}–{row.high:.1f}",
                *figures,
                f"{row.cost:.{int(row.cost < 100)}f}",
                row.verdict,
            ]
            table.add_row(Text(row.method), *cells, style="bold" if row.verdict == "best" else "")
        return table

    def to_markdown(self) -> str:
        """A table, the sentence, and what was refused."""
        arrows = [f"{TESTS[test][0]} {'↑' if TESTS[test][1] else '↓'}" for test in self._tests()]
        headings = ["method", "mean rank", "interval", *arrows, "cost", "verdict"]
        lines = [headings, ["---"] * len(headings), *map(self._cells, self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        refused = "".join(f"- `{name}` cannot be used: {why}\n" for name, why in self.refused.items())
        return f"{self.sentence}\n\n{table}\n" + (f"\n{refused}" if refused else "")

    def _tests(self) -> list[str]:
        return [test for test in TESTS if any(test in row.tests for row in self.rows)]

    def _cells(self, row: Ranked) -> list[str]:
        figures = [f"{row.tests[test]:.3f}" if test in row.tests else "" for test in self._tests()]
        ends = f"{row.low:.2f}–{row.high:.2f}"
        return [row.method, f"{row.rank:.2f}", ends, *figures, f"{row.cost:.1f} ×", row.verdict]


def recommendation(
    model: str,
    figures: Mapping[str, ByTest],
    costs: Mapping[str, float],
    seed: int = 0,
    agreements: Mapping[frozenset[str], float] | None = None,
) -> Recommendation:
    """Rank methods and say which to use.

    In each test but that of random weights each sample ranks the methods; a sample's rank of a method is the mean over its
    tests. The samples are drawn again, all methods alike, for the intervals of the mean rank and of its difference to the
    best. Methods whose correlation on random weights is over :data:`UNCHANGED` are out, whatever their rank; they are ranked
    with the others for the record. Of equals the one that is given first stands first: times differ between runs.

    Args:
        model: its name.
        figures: method → test, of :data:`TESTS` → a figure for each sample; all methods have the same tests and samples.
        costs: method → seconds of an explanation, as a multiple of a forward pass.
        seed: of the draws.
        agreements: two methods → the mean rank correlation of their maps. None: it is not known, and nothing is said of it.

    Raises:
        InputError: no methods, or unequal tests or samples.
        MissingLibraryError: there is no scipy.
    """
    names, tests, samples = _checked(figures)
    ranking = [test for test in tests if test != GATE] or tests
    ranks = np.mean([_places(figures, names, test) for test in ranking], axis=0)
    drawn = ranks[:, draws(samples, seed)].mean(-1)
    means = ranks.mean(-1)
    out = {name for name in names if name != CHANCE and _unchanged(figures[name])}
    order = sorted(range(len(names)), key=lambda n: (names[n] in out, means[n], n))
    best = next((n for n in order if names[n] not in out and names[n] != CHANCE), None)
    rows = []
    for n in order:
        low, high = ends(drawn[n]).tolist()
        averages = {test: float(figures[names[n]][test].mean()) for test in tests}
        verdict = _verdict(n, best, names, out, drawn)
        rows.append(Ranked(names[n], float(means[n]), low, high, averages, float(costs[names[n]]), verdict))
    beaten = best is None or CHANCE not in names or ends(drawn[names.index(CHANCE)] - drawn[best])[0] > 0
    limits = [] if beaten else ["but it is not told from chance there"]
    if samples < FEW:
        limits.append("so few inputs tell little, give more")
    if not set(tests) & set(FAITHFUL):
        limits.append("its tokens cannot be masked, so whether maps say what the model does was not tested")
    agreement, doubts = _doubts(rows, agreements or {})
    sentence = _sentence(model, samples, rows, [*limits, *doubts])
    return Recommendation(model, samples, tuple(rows), sentence, agreement=agreement)


def _doubts(rows: Sequence[Ranked], agreements: Mapping[frozenset[str], float]) -> tuple[float | None, list[str]]:
    """How alike the maps are between which the tests do not choose, and what makes the best one doubtful."""
    best = next((row for row in rows if row.verdict == "best"), None)
    doubts = []
    if best is not None and best.tests.get(GATE, 0.0) > ALIKE:
        doubts.append(
            f"but `{best.method}` gives much the same map when the weights are random (rank correlation {best.tests[GATE]:.2f}), "
            "so it shows the input more than what the model learned"
        )
    good = [row.method for row in rows if row.verdict in ("best", "as good")]
    pairs = {pair: agreements[pair] for pair in map(frozenset, combinations(good, 2)) if pair in agreements}
    if not pairs:
        return None, doubts
    agreement = float(np.mean(list(pairs.values())))
    if agreement < ALIKE:
        first, second = sorted(min(pairs.items(), key=lambda pair: pair[1])[0], key=good.index)
        doubts.append(
            "the methods between which the tests do not choose disagree (mean rank correlation of their maps "
            f"{agreement:.2f}, least between `{first}` and `{second}`), so look at more than one"
        )
    return agreement, doubts


def _checked(figures: Mapping[str, ByTest]) -> tuple[list[str], list[str], int]:
    shapes = {tuple((test, len(values)) for test, values in sorted(by_test.items())) for by_test in figures.values()}
    if len(shapes) != 1 or not next(iter(shapes)):
        raise InputError(
            f"the methods have unequal tests, or none: {sorted(shapes)}; give each the same tests and samples"
        )
    (shape,) = shapes
    samples = {count for _, count in shape}
    if len(samples) != 1 or 0 in samples:
        raise InputError(
            f"the tests have unequal numbers of samples, or none: {dict(shape)}; give each the same samples"
        )
    known = [test for test in TESTS if test in dict(shape)]
    return list(figures), known, samples.pop()


def _places(figures: Mapping[str, ByTest], names: Sequence[str], test: str) -> Float[np.ndarray, "methods samples"]:
    rankdata = library("scipy.stats", "eval", "ranks need").rankdata
    values = np.stack([figures[name][test] for name in names])
    return rankdata(-values if TESTS[test][1] else values, axis=0)


def _unchanged(figures: ByTest) -> bool:
    return GATE in figures and float(figures[GATE].mean()) > UNCHANGED


def _verdict(
    number: int, best: int | None, names: Sequence[str], out: set[str], drawn: Float[np.ndarray, "methods resamples"]
) -> str:
    if names[number] == CHANCE:
        return "chance"
    if names[number] in out:
        return "unchanged"
    if number == best:
        return "best"
    return "as good" if best is None or ends(drawn[number] - drawn[best])[0] <= 0 else "worse"


def _sentence(model: str, samples: int, rows: Sequence[Ranked], limits: Sequence[str]) -> str:
    best = next((row for row in rows if row.verdict == "best"), None)
    inputs = counted(samples, "input")
    if best is None:
        told = f"On {model}, no map of a method that was tried can be trusted"
    else:
        told = f"On {model}, `{best.method}` ranks best over {inputs} (mean rank {best.rank:.1f} of {len(rows)})"
        told += _alike(best, [row for row in rows if row.verdict == "as good"])
    out = [row.method for row in rows if row.verdict == "unchanged"]
    if out:
        whose = "its map does" if len(out) == 1 else "their maps do"
        limits = [*limits, f"don't trust {_listed(out)}: {whose} not change when the weights are random"]
    return f"{'; '.join([told, *limits])}."


def _alike(best: Ranked, alike: Sequence[Ranked]) -> str:
    """What is as good, and how much cheaper the cheapest of that is."""
    if not alike:
        return ""
    cheapest = min(alike, key=lambda row: row.cost)
    ratio = best.cost / cheapest.cost
    if ratio >= CHEAPER:
        others = [row.method for row in alike if row is not cheapest]
        more = f" (as good too: {_listed(others)})" if others else ""
        return f"; `{cheapest.method}` is statistically as good and {ratio:.1f} × cheaper{more}"
    return f"; {_listed([row.method for row in alike])} {'is' if len(alike) == 1 else 'are'} statistically as good"


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
