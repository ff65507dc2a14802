"""Method cards: what each method computes, needs and costs, and where it is known to fail. Data.

Forwards and backwards are those of one target, beside the mixing probe's (once for a model and image size). In the equations
A is an attention matrix of one layer, (heads, queries, keys), E_h the mean over its heads, r the row that the target reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.common.printable import counted
from heedmap.methods.supported import ALL, percent, ranks, table

if TYPE_CHECKING:
    from heedmap.methods.method import Method

PAPER = "generic"
"""The paper's method, which the others are compared with."""
CHANCE = "random"
"""The method that knows nothing; never recommended."""
EDGES = "edges"
"""What evaluations set beside chance where there is a picture: its edges, by no model, so that it is no method."""
MEMORY = "keeps every attention matrix's relevance: heads × N² an attention"
RULES = (
    "an operation without a rule is refused (a loss, a quotient of two activations, an autograd function of the model)"
)
HELD = (
    "attention is held constant, so what decides where the model looks gets nothing (of a way of six hops the last token "
    "alone is found: the compiled programs of docs/known-truth.md)"
)
ALL_ROWS = "knows no row: every token that is read gets the same map"

EVERY_FLOW = "self-, cross- and co-attention, towers, pictures among words, and what is refused (the conformance tests)"
PATENT = (
    "the README of LXT, the AttnLRP authors' package, says that LRP is patented and free for personal and scientific use only; "
    "whether that touches your use you have to check for yourself"
)


@dataclass(frozen=True)
class Card:
    """A method's card.

    Attributes:
        equation: what it computes.
        needs: what of the model.
        forwards, backwards: how many passes; a word where it is an option or depends on the input.
        fails: known failures and limits.
        flows: which it is tested on.
        licence: what users have to check for themselves.
    """

    equation: str
    needs: str
    forwards: int | str
    backwards: int | str
    fails: str
    flows: str = EVERY_FLOW
    licence: str = ""

    @property
    def is_slow(self) -> bool:
        """Whether it takes more passes than one can count on."""
        return not isinstance(self.forwards, int)


CARDS: Mapping[str, Card] = {
    "generic": Card(
        "Ā = E_h[(A ⊙ ∂y/∂A)⁺] (eq. 5), carried from layer to layer by eqs. 6–11",
        "attention and its gradient (cam=lrp: relevance of A too, one pass more each way)",
        1, 1,
        "on cross-attention, its normalisation (eqs. 8, 9) gives what the keys took in from each other half of the weight; "
        "see the evidence page",
    ),
    "raw_attention": Card(
        "r E_h[A] of the last layer", "attention", 1, 1, "knows neither the target nor the layers below the last"
    ),
    "rollout": Card(
        "r Π (E_h[A] + I), rows normalised", "attention", 1, 1, "knows no target: every class gets the same map"
    ),
    "attention_gradcam": Card(
        "r (E_h[w_h A_h])⁺ of the last layer, w_h the mean of ∂y/∂A_h",
        "attention and its gradient",
        1, 1,
        "zero where all heads' mean gradients are negative",
    ),
    "partial_lrp": Card("r E_h[R_A] of the last layer, R by LRP", "a relevance rule for every operation", 2, 2,
                        f"{RULES}; {MEMORY}",
        licence=PATENT),
    "transformer_attribution": Card(
        "r Π (E_h[(∂y/∂A ⊙ R_A)⁺] + I), R by LRP; from another stream the last cross-attention's alone",
        "a relevance rule for every operation, and the gradient of attention",
        2, 2,
        f"of an encoder it shows the last cross-attention only; {RULES}; {MEMORY}",
        licence=PATENT,
    ),
    "full_lrp": Card(
        "R of the input's features by z⁺, summed over each token's",
        "a relevance rule for every operation",
        2, 2,
        f"{RULES}; the part that falls on learned tokens ([CLS], object queries) is not shown",
        licence=PATENT,
    ),
    "random": Card("uniform numbers", "nothing", 1, 1, "knows nothing, which is its use"),
    "attn_lrp": Card(
        "R of the input's features by the ε-rule, softmax by its Taylor expansion, products half and half",
        "a relevance rule for every operation",
        2, 2,
        f"biases take a share, so the sum may be far from the score; numbers grow where activations cancel; {RULES}",
        licence=PATENT,
    ),
    "attention_x_gradient": Card(
        "r E_h[A ⊙ ∂y/∂A] of one layer", "attention and its gradient", 1, 1, "one layer knows little of the others"
    ),
    "legrad": Card("Σ over layers of the mean over heads and rows of (∂y/∂A)⁺", "the gradient of attention", 1, 1,
                   ALL_ROWS),
    "input_x_gradient": Card("x ⊙ ∂y/∂x", "gradients to the input", 2, 2, "noisy: the gradient at one point only"),
    "integrated_gradients": Card(
        "(x − x₀) ⊙ ∫ ∂y/∂x (x₀ + t (x − x₀)) dt, `steps` points",
        "gradients to the input; captum",
        "2 + steps", "2 + steps",
        "depends on the baseline x₀: what is like it gets nothing",
    ),
    "smoothgrad": Card("x ⊙ mean of ∂y/∂x at x + noise", "gradients to the input", "2 + samples", "2 + samples",
                       "depends on the size of the noise"),
    "gradient_shap": Card(
        "mean of (x + noise − x₀) ⊙ ∂y/∂x at random points on the way",
        "gradients to the input",
        "2 + samples", "2 + samples",
        "random: few samples are noisy",
    ),
    "occlusion": Card("y(x) − y(x without token i)", "forward passes alone", "2 + tokens", 2,
                      "slow; of tokens that stand for each other, each is worth nothing"),
    "token_tm": Card(
        "C⁰ = diag ‖E⁰‖, C ← (I + W_F)(I + E_h[(∂y/∂A)⁺ ⊙ A W_h]) C for each block, r C; W = diag of "
        "‖Ẽ‖/‖E‖ · exp cos(E, Ẽ) / Σ over tokens of exp cos(E, Ẽ). Ẽ with `reading=\"heads\"`: v_h W_O of each head (v with its "
        "bias), and what the feed-forward network adds; with `\"stream\"`: the tokens after each residual connection, and the "
        "means over heads of A and of (∂y/∂A)⁺ are multiplied",
        "attention and its gradient, and the residual connections (one pass more)",
        2, 1,
        "the abstract leaves open what Ẽ is, and two reimplementations differ: the default is the reading that fits the "
        "abstract, so it may not be the authors' numbers; each token's W is a share of all tokens' sum, so long inputs weigh "
        "attention less; only for streams that ask themselves alone, one block after the other (no cross-attention, no picture "
        "among words, no parallel branches), elsewhere it is refused",
        flows="streams that ask themselves alone, one block after the other (the conformance tests)",
    ),
    "value_zeroing": Card(
        "r C_L … C_1, C of a layer: row i has, for each token j, 1 − cos(x_i, x_i without v_j), x what the layer hands on; each "
        "row is scaled to sum to 1. A and what enters the layer stay as they are, only the values of token j are zero",
        "the residual connections (one pass more), and a pass for each token, for all samples and layers at once; keeps C: N² a "
        "layer",
        "2 + tokens", 1,
        "knows no target: every class gets the same map; slow; a token that turns no other way but grows or shrinks counts as "
        "unchanged; its rollout knows of no residual connection, so where a layer looks elsewhere only, what a token was before "
        "is lost (share 0.33 where two hops are to be found: the compiled programs of docs/known-truth.md); only for streams "
        "that ask themselves alone, one block after the other (no cross-attention, no picture among words, no parallel "
        "branches, no windows), elsewhere it is refused",
        flows="streams that ask themselves alone, one block after the other (the conformance tests)",
    ),
    "grad_eclip": Card(
        "r [(Σ_c ∂y/∂o_c v_c)⁺ ⊙ m(cos(q, k))] of one layer, c all heads' features, m each row's cosines from 0 (least) to 1 "
        "(greatest) over the keys that the row may look at, itself left out",
        "q, k, v and the gradient of attention",
        1, 1,
        "made for CLIP: one layer knows little of the others; the authors run that layer with one head and compare after its "
        "output projection, here the model's own heads stand side by side; attention in windows and other mixers are refused",
    ),
    "libra_generic": Card(
        "as `generic`, with Libra's ∂y/∂o: on the way back A, norms' deviations and the gates of activations are constants, and "
        "each factor of a product takes half",
        "attention, and a rule for every operation between it and the target",
        2, 2,
        f"{HELD}; {RULES}; its authors measured it on pictures only",
    ),
    "libra_input_x_gradient": Card(
        "x ⊙ ∂y/∂x by Libra gradients; summed over the input, y less what the biases add",
        "a rule for every operation",
        2, 2,
        f"A is a constant, so what decides where the model looks gets nothing; {RULES}; the part that falls on learned tokens "
        "and positions is not shown",
    ),
    "attcat": Card(
        "Σ over self-attentions of (Σ_c x_c ∂y/∂x_c) ⊙ the mean over heads and rows of A, x the tokens that enter the layer "
        "(what its residual connection passes by); Libra's ∂y/∂x, or with `gradients=\"plain\"`, as in its paper, the gradient",
        "attention, the residual connections, a rule for every operation (plain: gradients alone)",
        2, 2,
        f"{ALL_ROWS}; signs vary; by Libra gradients {HELD}; refused where an attention has no residual connection of its own "
        f"(pooling queries, parallel branches, features before tokens); {RULES}",
        flows="as all, but for attention without a residual connection of its own",
    ),
    "fullgrad_plus": Card(
        "Σ over attentions of Σ_c x_c ∂y/∂x_c, x the tokens that enter the layer (what its residual connection passes by); "
        "Libra's ∂y/∂x, or with `gradients=\"plain\"` the gradient",
        "the residual connections, a rule for every operation (plain: gradients alone)",
        2, 2,
        "what biases add is left out; layers are the attentions' inputs alone, so it may not be the authors' numbers; refused "
        "where an attention has no residual connection of its own (pooling queries, parallel branches, features before tokens); "
        f"{ALL_ROWS}; by Libra gradients {HELD}; {RULES}",
        flows="as all, but for attention without a residual connection of its own",
    ),
    "tam": Card(
        "(z_j[t])⁺ at the picture's tokens j, z the model's logits at every place, t the token that is said; less s times the"
        " mean of the same maps of the earlier words k after the picture (of the first one: of what the model says there), "
        "weighted by (z_k[t])⁺, t's own repetitions left out, s by least squares; (…)⁺; scaled with the earlier words' "
        "(z_k[t])⁺ to 0 … 1; then the rank-Gaussian filter of 3 × 3",
        "the model's logits at every place, which are its final states times its head; no attention, no gradient of the model",
        2, 1,
        "shows where the model would say the token too, which need not be why it says it here; of the authors' code it "
        "differs in this: a word of the answer is weighted at its own place (theirs: at the place that says it), all words "
        "after the picture count (theirs: the person's and the answer's), the answer's first token is explained as any other,"
        " and maps are not rounded to 8 bits; a picture whose rows and columns are not known is taken as square, or not "
        "filtered, and a note says so; on zoo/idefics-shapes it is at chance, as the model's head does not read there what is "
        "seen: nothing in training asks it to. ROC-AUC of z_j[t] for the object's tokens 0.479 (0.458–0.503); by a head that "
        "ridge regression taught on the same states 0.880 (0.865–0.895), so they do know it (python bench/spoken.py)",
        flows="pictures among words, in one stream with them; all else is refused",
    ),
    "dex_ar": Card(
        "Σ over the last layers and their heads of w_h (∂s/∂A_h)⁺ at the row that says the token, s the layer's own score of "
        "it: the model's last norm and head on that layer's state; w_h = (the greatest of these at the picture − the greatest"
        " at words)⁺",
        "a residual connection around each attention and each feed-forward network, and modules for last norm and head, by "
        "which the model's logits of its last states come out (tested in each call)",
        2, "1 a layer",
        "by the authors' code (the paper was not at hand), and tested against differences of A in float64, without autograd: "
        "s is the logit, not its probability. It differs from that code in this: maps are not scaled to 0 … 1, all that is no "
        "picture counts as words (theirs: all but the first word after the picture), the last layer's states go through the "
        "last norm once, and the weights of whole tokens of an answer, which fold its maps into one, are left out; refused "
        "where the model scales or caps its logits (Gemma 2); where tokens are merged before the language model the map stops "
        "at what that reads; empty where no head answers more to the picture than to words",
        flows="pictures among words, in one stream with them; all else is refused",
    ),
    "heedmap": Card(
        "Ā = E_h[(A ⊙ ∂y/∂A)⁺] of Libra's ∂y/∂A, carried by eqs. 6, 7 and 11; of a stream that another one asks, rule 10 adds Ā "
        "alone, not (R̄)ᵀ Ā R̄: each token stands for itself",
        "attention, and a rule for every operation between it and the target (else the model's own gradient, which a note says)",
        2, 2,
        f"{HELD}; what the tokens of another stream took in from each other is left out, so a model that moves all to one of "
        "them before it is asked (a pooled token) is shown at that one; the map depends on the scale of the target, as that of "
        "`generic`",
    ),
}  # fmt: skip
"""By the method's name."""

HEAD = """# Methods

<!-- Written by `heedmap methods --markdown docs/reference/methods.md`; do not edit. -->

`heedmap.explain(…, method=NAME, **options)`. Passes are those of one target; the recording is one of the forward passes, and
several targets share it. They also share the further forward passes of `input_x_gradient`, `smoothgrad`, `gradient_shap` and
`occlusion` (but for `baseline="mean"`, which each target has of its own). The mixing probe comes once for a model and image
size. In the equations A is an attention matrix of one layer, E_h the mean over its heads, r the row that the target reads, y
the target, x the input's features, R relevance.
"""


TABLES = "[which method](../which-method.md); in [zoo](../zoo.md), [results](../results.md), [known truth](../known-truth.md)"
"""Where the figures are, from the page of the methods."""


TAIL = """## What is not here

A method that people ask for, and why heedmap has no such name:

- **PA-LRP** (Bakish, Zimerman, Chefer, Wolf, NeurIPS 2025, arXiv 2506.02138), which gives relevance to position encodings
  too. The paper itself could not be read. Its authors' code (PE-AWARE-LRP) has the rules on the way down: embeddings of
  positions take their share of the sum by the ε-rule; where q and k are rotated, q cos and rotated q sin share by the ε-rule,
  and half of each share is cos's or sin's. But what a token is given at last differs from place to place in that code (a norm,
  a signed sum, sums of absolute values, each scaled or not), and others quote a fourth from the paper (positive parts). So any
  choice would be one more method under its name. What is needed: the paper's equation for this sum, and its rule for distances
  added to scores (ALiBi, T5, Swin), of which the code has none. What `attn_lrp` and `full_lrp` give to learned positions is not
  shown.
"""


def page(methods: Iterable[Method]) -> str:
    """The cards as a page of the documentation."""
    return "\n".join([HEAD, *(_section(method, CARDS[method.name]) for method in methods), TAIL])


def evidence(name: str) -> str:
    """How much speaks for a method, for people."""
    whole = table()[ALL]
    if name == CHANCE:
        return "chance, beside which every table stands"
    if name not in whole["beats"]:
        return "too slow for the table; measured beside the others, with intervals, where the pages have it"
    share, count = percent(whole["beats"][name]), whole["measured_in"][name]
    first = [cell for cell, entry in table().items() if cell != ALL and ":" in cell and entry["order"][0] == name]
    taken = f"; `auto` takes it for {', '.join(first)}" if first else ""
    mean, low, high = ranks()["mean"][name]
    rank = f"mean rank {mean:.1f} ({low:.1f}–{high:.1f}) of {ranks()['methods']} in the {ranks()['tables']} tables of the zoo"
    return f"before {share} of the other methods in {counted(count, 'table')}; {rank}{taken}"


def _section(method: Method, card: Card) -> str:
    options = ", ".join(f"`{name}={value!r}`" for name, value in method.options.items()) or "none"
    choices = "; ".join(f"`{name}`: {', '.join(f'`{c}`' for c in known)}" for name, known in method.choices.items())
    rows = {
        "computes": card.equation,
        "from": method.source,
        "needs": card.needs,
        "passes": f"{card.forwards} forward, {card.backwards} backward",
        "mind": card.fails,
        "flows": card.flows,
        "evidence": f"{evidence(method.name)} ({TABLES})",
        **({"licence": card.licence} if card.licence else {}),
        "options": options + (f" ({choices})" if choices else ""),
    }
    table = "\n".join(f"| {name} | {words.replace('|', chr(92) + '|')} |" for name, words in rows.items())
    return f"## `{method.name}`\n\n{method.summary[0].upper()}{method.summary[1:]}.\n\n| | |\n|---|---|\n{table}\n"
