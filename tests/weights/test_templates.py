"""The reactions made from templates, without their model: nothing is lost, and what is not marked does not change."""

import re
from collections import Counter

import numpy as np
import pytest

from known.reactions import unmarked
from known.summary import best, summary, verdict
from known.templates import ATOM_OR_BOND, TEMPLATES, marked, put, reactions, with_oxygen


def atoms(smiles):
    """The atoms, in capitals: a double bond to nothing is no atom."""
    return Counter(piece.upper() for piece in ATOM_OR_BOND.findall(smiles) if piece not in "=#-")


@pytest.mark.parametrize(("name", "reaction"), reactions())
def test_no_atom_comes_from_nowhere_and_both_sides_are_marked(name, reaction):
    before, after = reaction.split(">>")
    assert not atoms(re.sub(r"\[N\+\]", "N", unmarked(after))) - atoms(re.sub(r"\[N\+\]", "N", unmarked(before)))
    assert "{" in before
    assert "{" in after


@pytest.mark.parametrize(("name", "reaction"), reactions())
def test_atoms_that_are_not_marked_are_the_same_before_and_after(name, reaction):
    before, after = (atoms(re.sub(r"\{[^}]*\}", "", side)) for side in reaction.split(">>"))
    assert not after - before


def test_every_class_has_three_reactions_and_no_two_are_alike():
    made = [unmarked(reaction) for _, reaction in reactions()]
    assert len(set(made)) == len(made) == 3 * len(TEMPLATES)


def test_marks_are_on_atoms_and_bonds_only():
    assert marked("C(=O)OCc1ccccc1") == "{C}({=}{O}){O}{C}{c}1{c}{c}{c}{c}{c}1"
    assert put("Cc1ccc(*)cc1", "{N}1CC1") == "Cc1ccc({N}2CC2)cc1"
    for _, reaction in reactions():
        for inside in re.findall(r"\{([^}]*)\}", reaction):
            assert "".join(ATOM_OR_BOND.findall(inside)) == inside


def test_oxygens_with_a_double_bond_to_the_centre_are_found():
    assert with_oxygen("C{S}(=O)(=O){Cl}.{N=C}=O>>C(=O){N}") == "C{S}{(=O)}{(=O)}{Cl}.{N=C}{=O}>>C(=O){N}"


def test_a_unit_counts_once_however_many_rows_it_has():
    rows = [{"method": "generic", "unit": unit, "share": value} for unit, value in (("a", 0.0), ("a", 0.5), ("b", 1.0))]
    mean, low, high = summary(rows, ["share"])["generic"]["share"]
    assert mean == pytest.approx(0.625)
    assert (low, high) == (0.25, 1.0)


def test_the_verdict_knows_of_which_figures_less_is_better():
    table = {
        "generic": {"share": [0.5, 0.4, 0.6], "centre": [0.5, 0.4, 0.6]},
        "rollout": {"share": [0.9, 0.8, 1.0], "centre": [0.9, 0.8, 1.0]},
        "chance": {"share": [0.1, 0.1, 0.1], "centre": [0.45, 0.3, 0.55]},
    }
    assert (
        verdict(table, "share")
        == "share inside: **the paper's method does not win**, 0.500 against `rollout` 0.900 (intervals apart)."
    )
    assert "against chance 0.450 (intervals overlap)" in verdict(table, "centre")
    assert np.allclose([best(table, "share"), best(table, "centre")], [0.9, 0.45])
