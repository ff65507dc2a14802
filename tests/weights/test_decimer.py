"""DECIMER: the reader of its checkpoint, on hand-made tables; what it reads; and where its answer's atoms are drawn."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heedmap
from heedmap.errors import FileFormatError, ModelLoadError
from heedmap.targets import NextToken

pytest.importorskip("rdkit", reason="rdkit, of the dev extra, draws the molecules")

from known import decimer as port
from known.bundle import MAGIC, VALUE, read_bundle
from known.drawn import atoms_said, draw, drawn_at, inked, offsets
from known.molecules import MOLECULES
from known.reading import Reading, figures, maps_alone, maps_of

weights = pytest.mark.weights
ASPIRIN = "CC(=O)OC1=CC=CC=C1C(=O)O"
READ = {
    "aspirin": ASPIRIN,
    "caffeine": "CN1C=NC2=C1C(=O)N(C)C(=O)N2C",
    "4-bromochlorobenzene": "C1=C(C=CC(=C1)Cl)Br",
}


def number(value: int) -> bytes:
    low = value & 127
    return bytes([low]) if value < 128 else bytes([low | 128]) + number(value >> 7)


def block(entries: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A block whose keys share what they have in common with the key before; its kind and checksum follow."""
    data, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        data += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        before = key
    return data + struct.pack("<II", 0, 1) + bytes([kind]) + b"\0\0\0\0"


def entry(start: int, shape: tuple[int, ...], size: int | None = None, dtype: int = 1) -> bytes:
    sizes = b"".join(b"\x12" + number(len(s)) + s for s in (b"\x08" + number(n) for n in shape))
    size = 4 * int(np.prod(shape)) if size is None else size
    told = (
        b"\x08"
        + number(dtype)
        + b"\x12"
        + number(len(sizes))
        + sizes
        + b"\x20"
        + number(start)
        + b"\x28"
        + number(size)
    )
    return told + b"\x35\1\2\3\4"  # a checksum


def table(entries: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """An index of two blocks of data."""
    half = len(entries) // 2
    data, handles = b"", []
    for part in (entries[:half], entries[half:]):
        made = block(part, kind)
        handles.append((part[-1][0], number(len(data)) + number(len(made) - 5)))
        data += made
    index = block(handles)
    footer = number(0) + number(0) + number(len(data)) + number(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + MAGIC


VALUES = torch.arange(206, dtype=torch.float32)
ENTRIES = [
    (b"", b"\x08\1"),
    (b"a/kernel" + VALUE.encode(), entry(0, (2, 3))),
    (b"a/kernel_2" + VALUE.encode(), entry(24, (200,))),
    (b"graph", entry(0, (1,), dtype=7)),
]


def test_a_checkpoint_is_read_back() -> None:
    read = read_bundle(table(ENTRIES), VALUES.numpy().tobytes())
    assert list(read) == ["a/kernel", "a/kernel_2"]
    assert read["a/kernel"].equal(VALUES[:6].reshape(2, 3))
    assert read["a/kernel_2"].equal(VALUES[6:])


@pytest.mark.parametrize(
    ("index", "told"),
    [
        (table(ENTRIES)[:-1], "does not end as a sorted table"),
        (table(ENTRIES, kind=1), "compressed"),
        (table(ENTRIES)[100:], "index"),
        (table([*ENTRIES, (b"z" + VALUE.encode(), entry(800, (7,)))]), "z.* is at 800 to 828; there are 824 bytes"),
        (table([*ENTRIES, (b"z" + VALUE.encode(), entry(0, (7,), size=24))]), r"24 bytes; its shape \[7\] needs 28"),
        (table([*ENTRIES, (b"z" + VALUE.encode(), entry(0, (7,), dtype=2))]), "type 2"),
    ],
)
def test_a_damaged_checkpoint_is_an_error(index: bytes, told: str) -> None:
    with pytest.raises(FileFormatError, match=told):
        read_bundle(index, VALUES.numpy().tobytes())


class Running:
    """What would write a file, if it was unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_vocabulary_is_read_without_running_its_pickle(tmp_path: Path) -> None:
    words = {1: "C", 2: "Cl", 0: "<pad>"}
    tokenizer = {"counts": {"C": 5, "Cl": 6}, "run": Running(tmp_path / "ran"), "index_word": words, "filters": ""}
    assert port.vocabulary(pickle.dumps(tokenizer, 4)) == ["<pad>", "C", "Cl"]
    assert not (tmp_path / "ran").exists()
    for wrong in ({"index_word": {1: "C", 3: "N"}}, {"word_index": {"C": 1}}, {}):
        with pytest.raises(FileFormatError, match="index_word"):
            port.vocabulary(pickle.dumps(wrong, 4))


def test_a_checkpoint_of_another_model_is_an_error() -> None:
    with torch.device("meta"):
        model = port.Decimer()
    with pytest.raises(ModelLoadError, match="the encoder has 1 variables; expected 956"):
        list(port.parameters(model, {"DECIMER/encoder/variables/0": torch.ones(1)}))


def test_every_atom_has_one_token() -> None:
    assert atoms_said(["C", "[", "C", "@", "H", "]", "(", "Cl", ")", "[", "N", "+", "]", "=", "O", "1"]) == [
        0,
        2,
        7,
        10,
        14,
    ]
    assert atoms_said(["[", "H", "]", "[", "O", "H", "2", "]"]) == [1, 4]


def test_what_a_symmetry_exchanges_is_left_out() -> None:
    drawing = draw("Clc1ccc(Br)cc1")
    tokens = [*"C1=C(C=CC(=C1)", "Cl", ")", "Br"]
    places = drawn_at(tokens, drawing)
    assert places is not None
    assert {tokens[place]: drawing.molecule.GetAtomWithIdx(atom).GetSymbol() for place, atom in places.items()} == {
        "C": "C",
        "Cl": "Cl",
        "Br": "Br",
    }
    assert len(places) == 4  # the halogens and their carbons
    for other in (["C", "C"], ["C", "("], [*"C1=C(C=CC(=C1)", "Cl", ")", "Cl"]):
        assert drawn_at(other, drawing) is None


def test_atoms_are_where_ink_is() -> None:
    """The letters and the ends of bonds: each atom's cell, or one beside it, has something drawn in it."""
    for smiles in list(MOLECULES.values())[:20]:
        drawing = draw(smiles)
        ink = inked(drawing)
        for atom in drawing.atoms:
            assert ink[(np.abs(offsets(atom)) < 1).all(1)].any()


def test_figures_of_a_map_that_is_right_and_of_one_that_is_not() -> None:
    place = draw(MOLECULES["aspirin"]).atoms[0]
    right = (np.linalg.norm(offsets(place), axis=1) < 1).astype(float)
    row = {"unit": "aspirin", "token": 0, "atom": 0, "letter": False}
    rows = [
        {**row, "method": "rollout", "relevance": right.tolist()},
        {**row, "method": "legrad", "relevance": right[::-1].tolist()},
    ]
    good, bad = figures(rows)
    assert (good["share"], good["pointing"], good["nearest"], bad["share"], bad["pointing"], bad["nearest"]) == (
        1,
        1,
        1,
        0,
        0,
        0,
    )
    assert good["distance"] < 1 < bad["distance"]


@pytest.fixture(scope="module")
def seen(decimer: Any) -> Callable[[str], Any]:
    """What the CNN makes of the drawing of a molecule, once."""

    @cache
    @torch.no_grad()
    def cells(name: str) -> Any:
        return decimer[0].cells(port.pixels(draw(MOLECULES[name]).picture))

    return cells


@weights
@pytest.mark.parametrize("name", READ)
def test_decimer_reads_a_drawing(decimer: Any, seen: Callable[[str], Any], name: str) -> None:
    model, vocabulary = decimer
    drawing = draw(MOLECULES[name])
    tokens = port.read(model, vocabulary, seen(name))
    assert "".join(tokens) == READ[name]
    assert drawn_at(tokens, drawing) is not None


@pytest.fixture(scope="module")
def reader(decimer: Any) -> Reading:
    """What reads the cells, one for all tests, which is proved once."""
    return Reading(decimer[0]).eval()


@pytest.fixture(scope="module")
def aspirin(decimer: Any, seen: Callable[[str], Any]) -> Any:
    """The vocabulary, the drawing's cells, and the answer with its first token."""
    vocabulary = decimer[1]
    return vocabulary, seen("aspirin"), torch.tensor([[vocabulary.index(t) for t in (port.START, *ASPIRIN)]])


@weights
def test_each_step_of_an_answer_is_that_of_its_prefix_alone(reader: Reading, aspirin: Any) -> None:
    _, cells, ids = aspirin
    reader.double()
    try:
        found = heedmap.explain_answer(
            reader, {"cells": cells.double(), "decoder_input_ids": ids[:, :1]}, answer=ids[:, 1:]
        )
        for step in (0, 7, 23):
            inputs = {"cells": cells.double(), "decoder_input_ids": ids[:, : step + 1]}
            alone = heedmap.explain(reader, inputs, target=NextToken(int(ids[0, step + 1])))
            torch.testing.assert_close(found["cells"][:, step], alone["cells"], rtol=0, atol=1e-9)
            before = torch.cat([found["decoder"][:, step], found["answer"][:, step, :step]], 1)
            torch.testing.assert_close(before[:, :-1], alone["decoder"][:, :-1], rtol=0, atol=1e-9)
    finally:
        reader.float()


@pytest.fixture(scope="module")
def whole(reader: Reading, aspirin: Any) -> Callable[[str], Any]:
    """The maps of all tokens of the answer by a method, once."""
    vocabulary, cells, _ = aspirin
    return cache(lambda method: maps_of(reader, vocabulary, cells, list(ASPIRIN), method))


@weights
@pytest.mark.parametrize("method", ["generic", "generic, against the runner-up"])
def test_a_token_asked_alone_has_its_map_of_the_whole_answer(
    reader: Reading, aspirin: Any, whole: Callable[[str], Any], method: str
) -> None:
    vocabulary, cells, _ = aspirin
    alone = maps_alone(reader, vocabulary, cells, list(ASPIRIN), [4, 21], method)
    np.testing.assert_allclose(alone, whole(method)[[4, 21]], rtol=1e-3, atol=1e-6)


@weights
def test_attention_goes_to_the_atom_that_is_said(whole: Callable[[str], Any]) -> None:
    drawing = draw(MOLECULES["aspirin"])
    atoms = drawn_at(ASPIRIN, drawing)
    assert atoms is not None
    rows = [
        {"unit": "aspirin", "method": method, "token": token, "atom": atom, "relevance": whole(method)[token]}
        for method in ("raw_attention", "generic", "generic, against the runner-up")
        for token, atom in atoms.items()
    ]
    share = {}
    for row in figures(rows):
        share.setdefault(row["method"], []).append(row["share"])
    mean = {method: float(np.mean(values)) for method, values in share.items()}
    assert mean["raw_attention"] > 2 * mean["chance, of the drawing"]
    assert mean["generic, against the runner-up"] > 1.5 * mean["generic"] > 1.5 * mean["generic, of the other atoms"]


@weights
def test_the_map_of_the_picture_is_that_of_the_cells(decimer: Any, reader: Reading, aspirin: Any) -> None:
    """The picture's tokens are the cells that the CNN makes of it, whose squeezed weights are taken as given."""
    _, cells, ids = aspirin
    pixels = port.pixels(draw(MOLECULES["aspirin"]).picture)
    start, answer = ids[:, :1], ids[:, 1:6]
    whole = heedmap.explain_answer(decimer[0], {"pixel_values": pixels, "decoder_input_ids": start}, answer=answer)
    alone = heedmap.explain_answer(reader, {"cells": cells, "decoder_input_ids": start}, answer=answer)
    assert whole.segments["image"].grid == (16, 16)
    torch.testing.assert_close(whole["image"], alone["cells"], rtol=1e-3, atol=1e-6)
