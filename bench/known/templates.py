"""Reactions of known classes, made from templates, so that what changes in them is known by construction.

Marked, between braces: every atom that gains or loses a bond to an atom other than hydrogen, or whose bond changes its
order; every atom of what leaves; and the bonds between marked atoms where SMILES writes them. Brackets and ring numbers
are not marked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Fragments = Sequence[tuple[str, str]]
Template = Callable[[str, str], str]

ATOM_OR_BOND = re.compile(r"\[[^\]]+\]|Br|Cl|[BCNOSPFI]|[bcnops]|[=#-]")
TRIFLUOROACETIC = "O=C(O)C(F)(F)F"
CARBONATE = "O=C([O-])[O-].[K+].[K+]"
TRIETHYLAMINE = "CCN(CC)CC"
TRIACETOXY = "[BH-](OC(C)=O)(OC(C)=O)OC(C)=O.[Na+]"
ALUMINIUM_HYDRIDE = "[Al+3].[H-].[H-].[H-].[H-].[Li+]"
CARBODIIMIDE = "CCN=C=NCCCN(C)C"


def marked(fragment: str) -> str:
    """All atoms and bonds of a fragment marked."""
    return ATOM_OR_BOND.sub(lambda piece: "{" + piece[0] + "}", fragment)


def put(into: str, group: str) -> str:
    """A group in the place of ``*``; the numbers of its rings are made different from those around it."""
    return into.replace("*", group.replace("1", "2"))


OXYGEN = re.compile(r"(?<=\})(\(=O\)|=O)")


def with_oxygen(reaction: str) -> str:
    """A marked reaction where the oxygens with a double bond to a marked atom are marked too, with bond and brackets.

    They do not change, but with the centre they make the group that chemists name a reaction by: acid, amide, sulfonamide.
    """
    while (grown := OXYGEN.sub(r"{\1}", reaction)) != reaction:
        reaction = grown
    return reaction


BOC = marked("CC(C)(C)OC(=O)")
BOC_ANHYDRIDE = "CC(C)(C)O{C}(=O)" + marked("OC(=O)OC(C)(C)C")
CBZ = marked("O=C(OCc2ccccc2)")

RINGS = ("Cc1ccc(*)cc1", "COc1ccc(*)cc1", "Fc1cccc(*)c1")
"""What a group can be put on; the star is its place."""
ACTIVE = ("Cc1cc{c}(*)cc1", "COc1cc{c}(*)cc1", "Fc1ccc{c}(*)c1")
"""The same, where the atom with the star changes too."""
AMINES = ("{N}1CCOCC1", "{N}Cc1ccccc1", "{N}C1CCCCC1")
ARYLS = ("{c}1ccc(C(C)=O)cc1", "{c}1ccccc1", "{c}1ccc(Cl)nc1")
ALKYLS = ("CCC{C}", "COCC{C}", "CC(C)C{C}")
ALCOHOLS = ("{O}CC", "{O}CCC", "{O}CC(C)C")
ALKYNES = ("CCCCC#{C}", "OCCC#{C}", "C[Si](C)(C)C#{C}")


def _pairs(first: Sequence[str], second: Sequence[str]) -> Fragments:
    return tuple(zip(first, second, strict=True))


def _acid_to(ring: str, leaving: str, nucleophile: str, agent: str) -> str:
    """Acyl substitution: the carbonyl carbon changes its partner."""
    before, after = put(ring, "{C}(=O)" + leaving), put(ring, "{C}(=O)" + nucleophile)
    return f"{before}.{nucleophile}{agent}>>{after}"


def _coupling(halide: str) -> Template:
    def reaction(ring: str, aryl: str) -> str:
        boronic = put(ring, "{B}({O}){O}")
        return f"{halide}{aryl}.{boronic}.{CARBONATE}>>{put(ring, '{-}' + aryl)}"

    return reaction


def _change(before: str, after: str, agent: str) -> Template:
    """One group becomes another."""
    return lambda ring, _: f"{put(ring, before)}.{agent}>>{put(ring, after)}"


def _from_nitrogen(group: str, agent: str) -> Template:
    """A group on a nitrogen leaves it."""
    return lambda amine, _: f"{group}{amine}.{agent}>>{amine}"


TEMPLATES: dict[str, tuple[Template, Fragments]] = {
    "carboxylic acid + amine to amide": (
        lambda ring, amine: _acid_to(ring, "{O}", amine, f".{CARBODIIMIDE}"),
        _pairs(RINGS, AMINES),
    ),
    "amide Schotten-Baumann": (
        lambda ring, amine: _acid_to(ring, "{Cl}", amine, f".{TRIETHYLAMINE}"),
        _pairs(RINGS, AMINES),
    ),
    "Fischer-Speier esterification": (
        lambda ring, alcohol: _acid_to(ring, "{O}", alcohol, ".O=S(=O)(O)O"),
        _pairs(RINGS, ALCOHOLS),
    ),
    "sulfonamide Schotten-Baumann": (
        lambda ring, amine: (
            f"{put(ring, '{S}(=O)(=O){Cl}')}.{amine}.{TRIETHYLAMINE}>>{put(ring, '{S}(=O)(=O)' + amine)}"
        ),
        _pairs(RINGS, AMINES),
    ),
    "isocyanate + amine to urea": (
        lambda ring, amine: f"{put(ring, '{N=C}=O')}.{amine}>>{put(ring, '{N}{C}(=O)' + amine)}",
        _pairs(RINGS, AMINES),
    ),
    "bromo Suzuki-type coupling": (_coupling("{Br}"), _pairs(ACTIVE, ARYLS)),
    "chloro Suzuki-type coupling": (
        _coupling("{Cl}"),
        _pairs(ACTIVE, ("{c}1ccccn1", "{c}1ccc(C#N)cn1", "{c}1ncccn1")),
    ),
    "Sonogashira coupling": (
        lambda alkyne, aryl: f"{{Br}}{aryl}.{alkyne}.[Cu]I>>{alkyne}{aryl}",
        _pairs(ALKYNES, ("{c}1ccc(C)cc1", "{c}1ccccc1", "{c}1ccc(F)cc1")),
    ),
    "Williamson ether synthesis": (
        lambda ring, alkyl: f"{put(ring, '{O}')}.{alkyl}{{I}}.{CARBONATE}>>{put(ring, '{O}' + _reversed(alkyl))}",
        _pairs(RINGS, ("{C}", "C{C}", "CC{C}")),
    ),
    "bromo N-alkylation": (
        lambda alkyl, amine: f"{alkyl}{{Br}}.{amine}.{CARBONATE}>>{alkyl}{amine}",
        _pairs(ALKYLS, ("{N}1CCOCC1", "{N}1CCC(c2ccccc2)CC1", "{N}1CCCCC1")),
    ),
    "aldehyde reductive amination": (
        lambda ring, amine: f"{put(ring, '{C=O}')}.{amine}.{TRIACETOXY}>>{put(ring, '{C}' + amine)}",
        _pairs(RINGS, AMINES),
    ),
    "N-Boc protection": (
        lambda amine, _: f"{BOC_ANHYDRIDE}.{amine}>>CC(C)(C)O{{C}}(=O){amine}",
        _pairs(AMINES, AMINES),
    ),
    "N-Boc deprotection": (_from_nitrogen(BOC, TRIFLUOROACETIC), _pairs(AMINES, AMINES)),
    "N-Cbz deprotection": (_from_nitrogen(CBZ, "[H][H].[Pd]"), _pairs(AMINES, AMINES)),
    "methyl ester to acid": (_change("{C}(=O){O}{C}", "{C}(=O){O}", "[Na+].[OH-]"), _pairs(RINGS, RINGS)),
    "tert-butyl ester to acid": (
        _change("C(=O){O}" + marked("C(C)(C)C"), "C(=O){O}", TRIFLUOROACETIC),
        _pairs(RINGS, RINGS),
    ),
    "O-benzyl deprotection": (
        _change("{O}" + marked("Cc1ccccc1"), "{O}", "[H][H].[Pd]"),
        _pairs(RINGS, RINGS),
    ),
    "nitro to amino": (_change(marked("[N+](=O)[O-]"), "{N}", "[Fe]"), _pairs(RINGS, RINGS)),
    "nitrile reduction": (_change("{C#N}", "{C}{N}", ALUMINIUM_HYDRIDE), _pairs(RINGS, RINGS)),
    "alcohol to ketone oxidation": (
        _change("{C}(C){O}", "{C}(C){=O}", "O=[Mn]=O"),
        _pairs(RINGS, RINGS),
    ),
    "sulfide to sulfoxide": (
        _change("{S}C", "{S}(C){=O}", "O=C({O}{O})c1cccc(Cl)c1"),
        _pairs(RINGS, RINGS),
    ),
    "carboxylic acid to acid chloride": (
        _change("{C}(=O){O}", "{C}(=O){Cl}", "O={S}(Cl){Cl}"),
        _pairs(RINGS, RINGS),
    ),
}
"""Class → template, and the fragments that it is filled with."""


def _reversed(alkyl: str) -> str:
    """A chain written from its marked end."""
    return "{C}" + alkyl.removesuffix("{C}")


def reactions() -> list[tuple[str, str]]:
    """(class, marked reaction) of every template and every filling, in order."""
    return [(name, template(*fragments)) for name, (template, fillings) in TEMPLATES.items() for fragments in fillings]
