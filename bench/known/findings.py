"""What was found behind figures that surprise, with the numbers of the tables."""

from __future__ import annotations

from collections.abc import Mapping

from known.hearing import LESS_SILENCE
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

- *Why `attn_lrp`, `full_lrp` and `input_x_gradient` do badly here*, and well elsewhere: they multiply with the
  spectrogram, in which silence is not 0 but -0.8 or so, and most of the 30 seconds are silence. The propagation is
  not at fault: asked for the relevance of the encoder's output, which the decoder listens to, all of them find the
  word (table below). And where silence counts as nothing, (x − silence) ⊙ ∂y/∂x, the share of `input_x_gradient`
  rises from {ixg:.0%} to {less:.0%}.
- *Why the centre of the paper's map is off by {centre:.1f} s* while its peak is right: {rest:.0%} of the relevance is
  outside the word, spread thinly over 30 seconds, the middle of which is far away. Without the normalisation of rules
  8 and 9, which gives what the keys took in from each other half of the weight, the share inside is {ablated:.0%}
  instead of {share:.0%}. The same was seen on the small models with cross-attention ([Evidence that is
  known](zoo.md)).
- `attention_x_gradient` and `transformer_attribution` show the last cross-attention only. The encoder's tokens hold
  mostly what is heard at their own time, so nothing is lost by leaving the encoder out.
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
        "share": speech["generic"]["share"][0],
        "rest": 1 - speech["generic"]["share"][0],
        "ablated": speech["generic, normalize=False"]["share"][0],
    }
    return {"reactions": REACTIONS.format(**chemical), "speech": SPEECH.format(**spoken)}
