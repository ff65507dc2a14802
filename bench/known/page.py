"""The page of the documentation, from the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedmap.methods.cards import CARDS
from known.hearing import METHODS, SLOW
from known.summary import TITLES, Table, best, called, verdict

HEAD = """# Known truth on real weights

<!-- Written by `python bench/known_truth.py --out docs`; do not edit. -->

Models that were trained elsewhere, for a purpose of their own, on inputs whose evidence is known: reactions made from templates,
so that it is known which atoms react, speech put together from single words, so that it is known when each is said, and
drawings of molecules by a program, so that it is known where each atom is, and texts in which it is known which words make
the difference. Last, transformers whose weights were compiled from
[programs](#programs-that-were-compiled-tracr), so that it is known what they compute.
(For heedmap's own small models see [Evidence that is known](zoo.md); for what else was looked at, [Real models](real-models.md).)
Means with 95 % bootstrap intervals (1,000 resamples); what is resampled is the class of reactions, the sentence or
the molecule, as the members of one are much alike. Only right answers are explained. The best figure of a column is bold.
"""

REACTIONS = """## Which atoms react (`rxnfp`)

![A Suzuki coupling under six methods, the reaction centre framed](img/known-reaction.png)

{right} of {made} reactions of {classes} classes are classified rightly. The reaction centre is every atom that gains or loses a
bond to an atom other than hydrogen or whose bond changes its order, every atom that leaves, and the bonds between these where
SMILES writes them: {tokens:.0%} of the tokens. Counted are the reaction's own tokens, without `[CLS]` and `[SEP]`.

- **share inside**: the part of the (positive) relevance on the centre;
- **atoms and bonds**: the same where the brackets, dots,
  arrows and ring numbers of SMILES, which are no part of a molecule, are left out;
- **with =O**: the share where also the oxygens count that have a double bond to an atom of the centre, with bond and
  brackets: they do not change, but with the centre they make the group that gives a reaction its name (acid, amide);
- **pointing game**: how often the most relevant token is in the centre;
- **ROC-AUC**: how well relevance tells the tokens of the centre from the others.
"""

SPEECH = """## When a word is said (`whisper-base`)

![Maps of each word of a sentence over time, its true time framed](img/known-speech.png)

The middle words of {words} sentences that Whisper writes down rightly, said by eSpeak NG word by word, with silences of 0.05 to
0.8 s between them. A word's time is when it is said and 0.1 s before and after. The sentences are the first of {sentences}, for
time: one takes some minutes. Each word is said by a library that has said nothing yet, as eSpeak NG says a word otherwise the
second time; so the sound is the same in every run (`espeakng-loader` {version}; a test compares its digest, {digest}).

- **share inside**, **pointing game**: of the word's time, among all 30 seconds that Whisper listens to;
- **centre off by**, **peak off by**: seconds between the middle of the word and the map's centre of mass, or its peak.

Three maps that have heard nothing stand beside: one even over 30 seconds, one even over the speech (it knows when the speech
begins and ends, as no method does), and *the word's turn*, even over the word's place in a row of equally long words
(it also knows how many words there are, and which this one is).
"""

WORDS = """### Every word of what it writes

The same figures of all {words} words of {sentences} such sentences, each sentence explained as one answer by
`heedmap.explain_answer` (`heedmap answer`): the map of a word is that of its tokens together, also where it has several.
"""

DRAWINGS = """## Where an atom is drawn (`DECIMER`)

![Maps of each atom of aspirin on its drawing under three methods, the atom in a ring](img/known-drawing.png)

DECIMER reads the drawing of a molecule and writes its SMILES, token by token: a CNN makes 16 × 16 cells of the picture, and a
decoder of six layers looks at them. Its weights are in packages, as a TensorFlow checkpoint; here they run in plain torch
(`bench/known/decimer.py`), which heedmap follows as it is. RDKit draws {made} molecules that many have heard of, and knows where
each atom is drawn. {right} are read rightly. Of these answers every token that is an atom is asked about, as
`heedmap.explain_answer` explains a whole answer, but for the atoms that a symmetry of the molecule exchanges: which of them a
token is cannot be known. The cells are the tokens, also of the methods that go back to the input; of `generic` the map of the
picture is the same (a test).

An atom's own cells are the four around it.

- **share inside**, **pointing game**: of its own cells;
- **nearest atom**: how often, of all atoms of the molecule, this one is nearest to the peak;
- **mean distance**: of the relevance from the atom, in cells.

*Against the runner-up* explains by how much the token's logit is above that of the most probable other token
(`contrast="runner-up"`). Of the maps that have read nothing one is even over all cells, one over those in which anything is
drawn; *of the other atoms* is the sum of a method's maps of the molecule's other atoms: what it shows whichever atom is said.

This was not planned in one piece. The rows against the runner-up were added after the first maps of `generic` had been
measured, and the list of molecules was cut for time, from 86 to 62 and to {made}, when some figures were known; none was left
out for its figures. Read the differences as found here, not as foretold.

{letters} atoms that are drawn as letters (all but carbon):
"""

CORNERS = """{corners} carbon atoms, which are drawn as corners and ends of lines:
"""

FEW = """Further methods, most of which take longer, on the letters of {few} molecules only: too few to rank them. Left out,
as they take dozens of passes: `integrated_gradients`, `smoothgrad`, `gradient_shap`, `occlusion`.{refused}
"""

LIKENESS = """## What makes texts alike (`minilm`)

A text of three sentences that have nothing to do with each other is compared with one more sentence, which says in other words
what one of the three says: "A man is playing a guitar. The train to London was cancelled. She baked a chocolate cake." with
"Someone plays a musical instrument". The evidence is that sentence: with another one in its place the cosine falls, in {right} of
{made} texts (each pair of sentences twice, first and last in its text; resampled are the pairs). The cosine is explained, by
MiniLM's mean of its six layers' token states.

- **share inside**: of all tokens; *but for the first*: without `[CLS]`, as the two other figures are too.
"""

CAPITALS = """## Which country is asked about (`smollm2`)

"My friend comes from Italy. The capital of France is" → " Paris", by thirty layers. The evidence is the country that is asked
about: where the two countries change places, the answer must become the other's capital. {right} of {made} countries are answered
so; of these the answer's logit is explained.

- **share inside**: of all tokens; *but for the first*: without the first token, at which attention rests in language models;
  the two other figures are without it too.
"""

PROGRAMS = """## Programs that were compiled (`tracr`)

tracr (Lindner et al., NeurIPS 2023, arXiv 2301.05062) compiles a program into the weights of a transformer. What an answer
rests on is then known from the program, and that the transformer runs it is tested: on random sequences it gives the
program's answer, and no change of a token outside the truth changes it. The weights are a file beside
`bench/known/programs.py`, in plain torch with real softmax attention, residual connections and networks of ReLU, without
norms; the programs are in `bench/known/compile_programs.py`. {sequences} random sequences of each:

- **1, 2, 4, 6 hops** (as many layers; ten tokens): each token names a place; the answer is the token at the end of the way
  from the one that is asked. It rests on every token of the way.
- **lookup** (two layers, causal): keys and values, then a key; the answer is its value. It rests on that key, where it stood
  first, and on the value.
- **sum** (one layer of two heads, and a table in the network; causal): the last digit of the sum of the two tokens before.
- **fraction** (two layers, causal): the part of the tokens so far that are marked; it rests on the marked ones.

The token at which the answer is read is left out, of map and truth. *Share inside*, and below it the ROC-AUC, which asks whether
**all** tokens of the truth are found.

These programs are no trained models, so the table behind `auto` leaves them out.
"""

REFUSED = """Left out, as each pass of the model takes seconds: {slow}.{refused}
"""


def page(tables: Mapping[str, Table], facts: Mapping[str, Any], found: Mapping[str, str]) -> str:
    """The text of ``known-truth.md``.

    Args:
        tables: ``reactions``; ``speech``, and ``output``, the speech's rows of the encoder's output; ``words``, of
            whole sentences; ``letters``, ``corners`` and
            ``few`` of the drawings; ``likeness``; ``capitals``; ``programs, share`` and ``programs, auc``.
        facts: the counts.
        found: what was found behind surprising figures, for ``reactions``, ``speech``, ``drawings``, ``likeness``,
            ``capitals`` and ``programs``.
    """
    not_had = facts["speech"]["refused"]
    slow = ", ".join(f"`{name}` ({CARDS[name].forwards} forward passes)" for name in SLOW if name not in not_had)
    unmeasured = ", ".join(f"`{n}`" for n in METHODS if n not in tables["speech"] and n not in not_had)
    refused = _refused(not_had)
    refused += f" Not measured here: {unmeasured}." if unmeasured else ""
    parts = (
        HEAD,
        REACTIONS.format(**facts["reactions"]),
        _table(tables["reactions"]),
        found["reactions"],
        _speech(facts["speech"]),
        _table(tables["speech"]),
        REFUSED.format(slow=slow, refused=refused),
        found["speech"],
        _table(tables["output"], verdicts=False),
        WORDS.format(**facts["words"]),
        _table(tables["words"], verdicts=False),
        DRAWINGS.format(**facts["drawings"]),
        _table(tables["letters"]),
        CORNERS.format(**facts["drawings"]),
        _table(tables["corners"], verdicts=False),
        FEW.format(**{**facts["drawings"], "refused": _refused(facts["drawings"]["refused"])}),
        _table(tables["few"], verdicts=False),
        found["drawings"],
        LIKENESS.format(**facts["likeness"]),
        _table(tables["likeness"]),
        _refused(facts["likeness"]["refused"]),
        found["likeness"],
        CAPITALS.format(**facts["capitals"]),
        _table(tables["capitals"]),
        _refused(facts["capitals"]["refused"]),
        found["capitals"],
        PROGRAMS.format(**facts["programs"]),
        "Share inside:\n",
        _table(tables["programs, share"], verdicts=False),
        "ROC-AUC:\n",
        _table(tables["programs, auc"], verdicts=False),
        found["programs"],
    )
    return "\n".join(part.strip("\n") + "\n" for part in parts if part)


def _refused(methods: Mapping[str, str]) -> str:
    return "".join(f" `{name}` is refused: {why}." for name, why in methods.items())


def _speech(facts: Mapping[str, Any]) -> str:
    speaker = facts["speaker"]
    return SPEECH.format(**facts, version=speaker["espeakng-loader"], digest=f"`{speaker['sha256'][:12]}`")


def _table(table: Table, verdicts: bool = True) -> str:
    figures = list(next(iter(table.values())))
    head = f"| | {' | '.join(TITLES.get(figure, figure) for figure in figures)} |\n|---|{'---|' * len(figures)}"
    tops = {figure: best(table, figure) for figure in figures}
    rows = [
        f"| {called(name)} | {' | '.join(_cell(entry[figure], tops[figure]) for figure in figures)} |"
        for name, entry in table.items()
    ]
    told = [f"- {verdict(table, figure)}" for figure in figures] if verdicts else []
    return "\n".join((head, *rows, "", *told))


def _cell(values: Any, top: float) -> str:
    mean = f"**{values[0]:.3f}**" if values[0] == top else f"{values[0]:.3f}"
    return f"{mean} ({values[1]:.3f}–{values[2]:.3f})"
