"""Reactions of known classes, with what changes in them between braces: the evidence that a map should find."""

from __future__ import annotations

from typing import Any

REACTIONS = {
    "aldehyde reductive amination": (
        "{O=C}c1ccccc1.C1CC{N}CC1.[BH-](OC(C)=O)(OC(C)=O)OC(C)=O.[Na+]>>c1ccc({CN}2CCCCC2)cc1"
    ),
    "Williamson ether synthesis": "{O}c1ccccc1.{IC}C.O=C([O-])[O-].[K+].[K+]>>C{CO}c1ccccc1",
    "bromination": "COc1cc{c}cc1.O=C1CCC(=O){N}1{Br}>>COc1ccc({Br})cc1",
    "nitration": "Clc1cc{c}cc1.O={[N+]}([O-]){O}>>{O=[N+]([O-])c}1ccc(Cl)cc1",
    "amide Schotten-Baumann": "O={C(Cl)}c1ccccc1.{N}C1CCCCC1>>O={C(N}C1CCCCC1)c1ccccc1",
    "carboxylic acid + amine to amide": "CC(=O){O}.{N}CCc1ccccc1>>C{C(=O)N}CCc1ccccc1",
    "sulfonamide Schotten-Baumann": "CCC{S(=O)(=O)Cl}.{N}c1ccccc1>>CCC{S(=O)(=O)N}c1ccccc1",
    "isocyanate + amine to urea": "O={C=N}c1ccccc1.{N}C1CCCCC1>>O={C(N}c1ccccc1){N}C1CCCCC1",
    "bromo Suzuki-type coupling": "{Br}{c}1ccccc1.O{B}(O){c}1ccc(C)cc1>>Cc1cc{c(-c}2ccccc2)cc1",
    "chloro Suzuki-type coupling": "{Clc}1ccccn1.O{B}(O){c}1ccc(C)cc1>>Cc1cc{c(-c}2ccccn2)cc1",
    "Sonogashira coupling": "{Brc}1ccccc1.{C}#Cc1ccc(C)cc1.[Cu]I>>Cc1ccc(C#{Cc}2ccccc2)cc1",
    "N-Boc protection": ("CC(C)(C)O{C(=O)O}C(=O)OC(C)(C)C.c1ccc(C2CC{N}CC2)cc1>>{CC(C)(C)OC(=O)N}1CCC(c2ccccc2)CC1"),
    "N-Boc deprotection": "{CC(C)(C)OC(=O)N}1CCC(c2ccccc2)CC1.O=C(O)C(F)(F)F>>c1ccc(C2CC{N}CC2)cc1",
    "methyl ester to acid": "{CO}C(=O)c1ccc(Br)cc1.[Na+].[OH-]>>O=C({O})c1ccc(Br)cc1",
    "nitro to amino": "{O=[N+]([O-])}c1ccc(Cl)cc1.[Fe]>>{N}c1ccc(Cl)cc1",
    "nitrile reduction": "{N#C}c1ccccc1.[Al+3].[H-].[H-].[H-].[H-].[Li+]>>{NC}c1ccccc1",
    "alcohol to ketone oxidation": "{OC}(C)c1ccccc1.O=[Mn]=O>>C{C(=O)}c1ccccc1",
    "sulfide to sulfoxide": "C{S}c1ccccc1.O=C(O{O})c1cccc(Cl)c1>>C{S(=O)}c1ccccc1",
    "hydroxy to chloro": "{OC}c1ccccc1.O=S(Cl){Cl}>>{ClC}c1ccccc1",
    "carboxylic acid to acid chloride": "O=C({O})c1ccccc1.O=S(Cl){Cl}>>O=C({Cl})c1ccccc1",
}
"""Class → reaction. Marked: atoms whose bonds change, what leaves, and the bonds between them that break or form."""


def unmarked(reaction: str) -> str:
    """The reaction SMILES."""
    return reaction.replace("{", "").replace("}", "")


def centre(reaction: str, tokenizer: Any) -> list[bool]:
    """For each token of the reaction SMILES, [CLS] and [SEP] included, whether it is marked."""
    marks, marked = [], False
    for letter in reaction:
        if letter in "{}":
            marked = letter == "{"
        else:
            marks.append(marked)
    spans = tokenizer(unmarked(reaction), return_offsets_mapping=True)["offset_mapping"]
    return [any(marks[start:end]) for start, end in spans]
