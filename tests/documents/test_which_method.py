"""The table behind ``method="auto"`` is made of the figures of the documents, and its page of it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

import heedmap
from heedmap.attention.at_rest import recording_state
from heedmap.engine.engine import Engine
from heedmap.methods.cards import CARDS, evidence
from heedmap.methods.supported import ALL, CO, CROSS, MIXERS, ONE, TABLE, TOWERS, cell_of, kind_of, ranking, table
from heedmap.models.names import shipped

ROOT = Path(__file__).parent.parent.parent
BENCH = runpy.run_path(str(ROOT / "bench" / "which_method.py"))
Measured = BENCH["Measured"]


@pytest.fixture(scope="module")
def found():
    return BENCH["cells"](BENCH["measured"]())


def test_the_table_is_that_of_the_figures(found):
    """Written by ``python bench/which_method.py``."""
    assert TABLE.read_text(encoding="utf-8") == BENCH["packed"](found)
    assert (ROOT / "docs" / "which-method.md").read_text(encoding="utf-8") == BENCH["page"](found)
    assert table() == json.loads(TABLE.read_text(encoding="utf-8"))["cells"]


def test_every_cell_ranks_methods_that_there_are(found):
    for entry in found.values():
        assert sorted([*entry["order"], *BENCH["BLIND"]]) == sorted(entry["beats"]) == sorted(entry["measured_in"])
        assert set(entry["order"]) <= set(CARDS)
        assert "generic" in entry["order"]
        assert all(0 <= low <= mean <= high <= 1 for mean, low, high in entry["beats"].values())
        assert max(entry["measured_in"].values()) == entry["tables"]
    assert {*found[ALL]["order"], *BENCH["BLIND"]} == {n for n, c in CARDS.items() if not c.is_slow and n != "random"}


def test_columns_in_which_a_method_is_level_with_the_first():
    reached, columns = BENCH["level"]("generic")
    assert 0 < reached < columns
    each = [BENCH["level"](name)[0] for name in CARDS]
    assert sum(each) >= columns  # in each column somebody is first
    assert BENCH["level"]("random") == (0, columns)


def test_shares_are_counted_by_hand():
    column = {"generic": (0.5, 0.0), "rollout": (0.9, 0.0), "raw_attention": (0.5, 0.0)}
    shares = BENCH["beaten"](Measured("t", "zoo/vit-shapes", [column], ("attn_lrp",)))
    assert shares == {"generic": 0.5, "raw_attention": 0.5, "rollout": 1.0, "attn_lrp": 0.0}
    two = [{"generic": (1.0, 0.0), "rollout": (0.0, 0.0)}, {"generic": (0.0, 0.0), "rollout": (1.0, 0.0)}]
    assert BENCH["beaten"](Measured("t", "zoo/vit-shapes", two)) == {"generic": 0.5, "rollout": 0.5}


def test_intervals_are_of_tables_and_of_figures():
    sure = Measured("t", "zoo/vit-shapes", [{"generic": (0.6, 0.0), "rollout": (0.5, 0.0)}])
    unsure = Measured("t", "zoo/vit-shapes", [{"generic": (0.6, 0.2), "rollout": (0.5, 0.2)}])
    against = Measured("t", "zoo/vit-shapes", [{"generic": (0.4, 0.0), "rollout": (0.5, 0.0)}])
    assert BENCH["cell"]([sure])["beats"] == {"generic": [1.0, 1.0, 1.0], "rollout": [0.0, 0.0, 0.0]}
    assert BENCH["cell"]([unsure])["beats"]["generic"] == [1.0, 0.0, 1.0]
    assert BENCH["cell"]([sure, against])["beats"]["generic"] == [0.5, 0.0, 1.0]
    assert BENCH["cell"]([sure] * 9)["beats"]["generic"] == [1.0, 1.0, 1.0]


def test_of_those_that_are_level_the_one_that_is_best_over_all_comes_first():
    better = {"generic": (0.9, 0.0), "legrad": (0.05, 0.0), "attn_lrp": (0.1, 0.0), "rollout": (0.95, 0.0)}
    level = {"generic": (0.50, 0.2), "legrad": (0.51, 0.2), "attn_lrp": (0.1, 0.0), "rollout": (0.95, 0.0)}
    tables = [Measured("a", "zoo/vit-shapes", [better]), Measured("b", "zoo/bart-dates", [level])]
    made = BENCH["cells"](tables)
    assert next(iter(made[f"{CROSS}: text"]["beats"])) == "rollout"
    assert list(made[f"{CROSS}: text"]["beats"])[1] == "legrad"
    assert made[f"{CROSS}: text"]["order"] == ["generic", "legrad", "attn_lrp"]


@pytest.mark.parametrize("name", shipped())
def test_the_kind_of_each_model_is_as_the_table_says(name):
    subject, sample = heedmap.load(f"zoo/{name}"), heedmap.zoo_sample(name)
    engine = Engine(subject, subject.inputs(**sample.inputs), None, True)
    with recording_state(engine.model):
        engine.settled()
        recording, named = engine.record()
    segments = [segment for of_stream in named.values() for segment, _ in of_stream]
    kind, content = BENCH["KINDS"][f"zoo/{name}"]
    assert kind_of(recording.graph, recording.live is not None) == kind
    assert cell_of(kind, segments) == f"{kind}: {' and '.join(content)}"


def test_a_flow_that_was_not_measured_takes_the_row_of_its_kind_or_of_all():
    assert ranking(ONE, ["text"])[0].cell == "one stream: text"
    assert ranking(CO, ["audio"])[0].cell == "co-attention"
    assert ranking("another", ["text"])[0].cell == ALL
    assert {CO, CROSS, MIXERS, ONE, TOWERS} < table().keys()
    first = ranking(ONE, ["image"])[0]
    assert list(first.beats) == table()["one stream: image"]["beats"][first.name]


def test_cards_tell_what_speaks_for_a_method():
    assert evidence("integrated_gradients").startswith("too slow for the table")
    assert evidence("random") == "chance, beside which every table stands"
    share = table()[ALL]["beats"]["generic"][0]
    assert evidence("generic").startswith(f"before {100 * share:.0f} % (")
    page = (Path(__file__).parents[2] / "docs" / "which-method.md").read_text()
    for name in table()[ALL]["beats"]:
        rank = evidence(name).partition("mean rank ")[2].partition(" of ")[0]
        assert f"| `{name}` | {rank} |" in page
    lrp = [name for name, card in CARDS.items() if card.licence]
    assert lrp == ["partial_lrp", "transformer_attribution", "full_lrp", "attn_lrp"]
