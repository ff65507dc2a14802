"""What was found behind figures that surprise, with the numbers of the tables."""

from __future__ import annotations

from collections.abc import Mapping

from known.hearing import LESS_SILENCE
from known.reading import AGAINST, INK, OTHERS
from known.summary import Table

REACTIONS = """Behind the figures:

- *Why no more than {share:.0%} of the relevance of the paper's method lies on the centre.* The rest is not far:
  {signs:.0%} of all is on brackets, dots, arrows and ring numbers ({chance:.0%} of the tokens), much of it on those
  beside the centre. Of the relevance on atoms and bonds {atoms:.0%} is in the centre. `raw_attention` ({raw:.0%} on
  such signs) and `rollout` ({rollout:.0%}) do the same, `occlusion` ({occlusion:.0%}) and `attn_lrp` ({lrp:.0%}) do
  not. So it is what this model's attention does, and no slip of the method: the attention goes to signs that, taken
  away, hardly matter. It seems that they hold what was gathered around them. Methods that weigh attention show where
  it goes.
- *ROC-AUC below chance* of `attention_x_gradient` ({axg:.2f}) and `input_x_gradient` ({ixg:.2f}): these have a sign,
  and tokens of the centre have large values of either. Of the absolute values the ROC-AUC is {unsigned_axg:.2f} and
  {unsigned_ixg:.2f}.
- `attention_gradcam` is empty, with no token above zero, for {empty:.0%} of the reactions (the mean of the classes).
- `occlusion` has the largest share, and takes as many passes as there are tokens. It is near to how this evidence is
  defined: without the atom that reacts there is no reaction.
"""

SPEECH = """Behind the figures:

- *Why `attn_lrp`, `full_lrp`, `input_x_gradient` and `libra_input_x_gradient` do badly here*, and well elsewhere: they multiply
  with the spectrogram, in which silence is not 0 but negative, and most of the 30 seconds are silence. The propagation is
  not at fault: asked for the relevance of the encoder's output, which the decoder listens to, the first three find most
  words (table below). And where silence counts as nothing, (x − silence) ⊙ ∂y/∂x, the share of `input_x_gradient`
  rises from {ixg:.0%} to {less:.0%}.
- *Why the centre of the paper's map is off by {centre:.1f} s* and its peak by {peak:.1f} s: {rest:.0%} of the relevance is
  outside the word, spread thinly over 30 seconds, the middle of which is far away. Without the normalisation of rules
  8 and 9, which gives what the keys took in from each other half of the weight, the share inside is {ablated:.0%}
  instead of {share:.0%}. The same was seen on the small models with cross-attention ([Evidence that is
  known](zoo.md)).
- `attention_x_gradient` and `transformer_attribution` show the last cross-attention only. The encoder's tokens hold
  mostly what is heard at their own time, so nothing is lost by leaving the encoder out.
"""

DRAWINGS = """Behind the figures:

- *Why the logit alone is a poor question here.* What attention to an atom's own cells does to the token's logit, by
  A ⊙ ∂y/∂A of the last cross-attention (`attention_x_gradient`), is {own:+.3f}, and to the logit of the runner-up
  {runner:+.3f} (means over the letters): it seems that seeing an atom rules the others out, rather than raising its logit.
  Methods by gradient find the atom when they are asked why this token and not the runner-up: the share of `generic` rises
  from {generic:.0%} to {against:.0%}, that of `attention_x_gradient` from {axg:.0%} to {axg_against:.0%}, that of
  `input_x_gradient` from {ixg:.0%} to {ixg_against:.0%}. Of a whole answer, `contrast="runner-up"` is worth a try.
- *Why `raw_attention` has the best peaks*: {nearest:.0%} of its peaks on letters are nearest to the atom that is said.
  The last cross-attention of this model does the looking up by itself, and it needs no target. Its share is {raw:.0%}.
- *The topmost row of cells*, in which nothing is ever drawn, has {border:.0%} of the relevance of `generic`,
  {raw_border:.0%} of that of `raw_attention`. It seems to be where attention goes that is not needed, as the first token
  in language models.
- The maps tell atoms apart: on an atom's own cells the maps of the other atoms have {others:.1%} (`generic`) and
  {raw_others:.1%} (`raw_attention`) of their relevance, less than an even map over the drawing ({ink:.1%}).
- *Why shares are far from 1.* The truth here is where the atom is, not all that a model may rightly read: an atom is
  told by its bonds too, and its turn by the neighbours that are already said.
"""


LIKENESS = """Behind the figures:

- *Why the shares of `generic`, `transformer_attribution`, `libra_generic` and `heedmap` are those of chance*: the mean over all
  tokens reads every row, and by the identity of R each token carries 1/N, beside which all else is small. Only the order speaks:
  the most relevant token is of the sentence in {generic:.0%} by `generic`, in {heedmap:.0%} by `heedmap`.
- *Methods that multiply with what is there* (`attention_x_gradient`, `grad_eclip`, `attn_lrp`, `attcat`, `fullgrad_plus`,
  `libra_input_x_gradient`) have no such identity: {axg:.0%} to {attcat:.0%} of their relevance lies on the sentence.
  `input_x_gradient` alone, through all layers' own gradients, is below chance ({ixg:.0%}).
"""

CAPITALS = """Behind the figures:

- *`heedmap` and `libra_generic` point at the country every time, `generic` hardly*: through thirty layers' own gradients the
  ROC-AUC of `generic` is {generic:.2f}, by Libra's {heedmap:.2f}. `raw_attention` of the last layer points at it as well.
- *The first token* has more than half of the relevance of several: of `raw_attention`, `attcat` and `attention_gradcam` the share
  inside is {raw:.2f}, {attcat:.2f} and {cam:.2f} with it and {raw_rest:.2f}, {attcat_rest:.2f} and {cam_rest:.2f} without.
- *`occlusion` fails here* (its most relevant token is the country in {occlusion:.0%}): it asks the logit. Where this was
  looked at, taking the country away hardly lowered the logit, or raised it, while the probability fell to next to nothing:
  other words gained more.
"""

PROGRAMS = """Behind the figures:

- *The share is 1 for most methods*, as attention is all but hard here and what is not looked at gets nothing. What tells them
  apart is whether the whole way is found.
- *Methods that hold attention constant see what is brought, not why it was looked up.* On the way of six hops only the last
  token's value reaches the answer; the tokens before decide where the next attention looks, through q and k alone. Libra
  gradients hold A constant, so `libra_generic`, `libra_input_x_gradient`, `attcat`, `fullgrad_plus` and `heedmap` find the
  last token alone (ROC-AUC {libra:.2f} at six hops, {libra_lookup:.2f} at the lookup), and so do methods of one layer
  (`raw_attention` {raw:.2f}, `partial_lrp` {partial:.2f}). `generic` goes by the gradient, to which q and k belong:
  {generic:.2f}. `full_lrp` ({full:.2f}) and `occlusion` ({occlusion:.2f}) find all.
- *Every hop back from the last brings `generic` next to nothing of what the next brings*, as the softmax is nearly hard: the
  order is right, and a picture would show the last one only.
- *`value_zeroing` goes astray at two hops* ({zeroed:.2f} inside): its rollout multiplies what each layer took in and knows of no
  residual connection, so where a layer looks elsewhere only, what the token itself was before is lost.
"""


def told(tables: Mapping[str, Table]) -> dict[str, str]:
    """The text after each table."""
    reactions, behind, speech, output = (tables[name] for name in ("reactions", "behind", "speech", "output"))
    chemical = {
        "share": reactions["generic"]["share"][0],
        "atoms": reactions["generic"]["atoms"][0],
        "signs": behind["generic"]["signs"][0],
        "chance": behind["chance"]["signs"][0],
        "raw": behind["raw_attention"]["signs"][0],
        "rollout": behind["rollout"]["signs"][0],
        "occlusion": behind["occlusion"]["signs"][0],
        "lrp": behind["attn_lrp"]["signs"][0],
        "axg": reactions["attention_x_gradient"]["auc"][0],
        "ixg": reactions["input_x_gradient"]["auc"][0],
        "unsigned_axg": behind["attention_x_gradient"]["unsigned"][0],
        "unsigned_ixg": behind["input_x_gradient"]["unsigned"][0],
        "empty": behind["attention_gradcam"]["empty"][0],
    }
    spoken = {
        "ixg": speech["input_x_gradient"]["share"][0],
        "less": output[LESS_SILENCE]["share"][0],
        "centre": speech["generic"]["centre"][0],
        "peak": speech["generic"]["peak"][0],
        "share": speech["generic"]["share"][0],
        "rest": 1 - speech["generic"]["share"][0],
        "ablated": speech["generic, normalize=False"]["share"][0],
    }
    return {
        "drawings": _drawn(tables),
        "reactions": REACTIONS.format(**chemical),
        "speech": SPEECH.format(**spoken),
        "likeness": _alike(tables["likeness"]),
        "capitals": _asked(tables["capitals"]),
        "programs": _run(tables),
    }


def _alike(table: Table) -> str:
    return LIKENESS.format(
        generic=table["generic"]["pointing"][0],
        heedmap=table["heedmap"]["pointing"][0],
        axg=table["attention_x_gradient"]["share"][0],
        attcat=table["attcat"]["share"][0],
        ixg=table["input_x_gradient"]["share"][0],
    )


def _asked(table: Table) -> str:
    return CAPITALS.format(
        generic=table["generic"]["auc"][0],
        heedmap=table["heedmap"]["auc"][0],
        raw=table["raw_attention"]["share"][0],
        raw_rest=table["raw_attention"]["rest"][0],
        attcat=table["attcat"]["share"][0],
        attcat_rest=table["attcat"]["rest"][0],
        cam=table["attention_gradcam"]["share"][0],
        cam_rest=table["attention_gradcam"]["rest"][0],
        occlusion=table["occlusion"]["pointing"][0],
    )


def _run(tables: Mapping[str, Table]) -> str:
    share, auc = tables["programs, share"], tables["programs, auc"]
    return PROGRAMS.format(
        libra=auc["heedmap"]["hops-6"][0],
        libra_lookup=auc["heedmap"]["lookup"][0],
        raw=auc["raw_attention"]["hops-6"][0],
        partial=auc["partial_lrp"]["hops-6"][0],
        generic=auc["generic"]["hops-6"][0],
        full=auc["full_lrp"]["hops-6"][0],
        occlusion=auc["occlusion"]["hops-6"][0],
        zeroed=share["value_zeroing"]["hops-2"][0],
    )


def _drawn(tables: Mapping[str, Table]) -> str:
    letters = {name: entry["share"][0] for name, entry in tables["letters"].items()}
    signed = {name: entry["inside"][0] for name, entry in tables["signed"].items()}
    against = {name: letters[AGAINST.format(name)] for name in ("generic", "attention_x_gradient", "input_x_gradient")}
    own = signed["attention_x_gradient"]
    return DRAWINGS.format(
        own=own,
        runner=own - signed[AGAINST.format("attention_x_gradient")],
        generic=letters["generic"],
        against=against["generic"],
        axg=letters["attention_x_gradient"],
        axg_against=against["attention_x_gradient"],
        ixg=letters["input_x_gradient"],
        ixg_against=against["input_x_gradient"],
        nearest=tables["letters"]["raw_attention"]["nearest"][0],
        raw=letters["raw_attention"],
        others=letters[OTHERS.format("generic")],
        raw_others=letters[OTHERS.format("raw_attention")],
        ink=letters[INK],
        border=tables["signed"]["generic"]["border"][0],
        raw_border=tables["signed"]["raw_attention"]["border"][0],
    )
