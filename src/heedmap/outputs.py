"""What a model's output is: its parts by name, its kind of head, and which of its places are real.

Everything here is decided from the output's shapes, the names of the labels and the configuration, never by a model's class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heedmap.common.printable import closest
from heedmap.data.segments import Top
from heedmap.errors import TargetError, UnknownNameError

LOGITS = ("logits", "question_answering_score", "logits_per_image", "itm_score", "class_queries_logits")
"""Names under which models return class scores, in the order in which they are looked for."""
SEVERAL_LABELS = "multi_label_classification"
"""What transformers calls it where each class is right or wrong by itself."""
MOST = 5
"""The most probable answers that are told."""
INFERRED = "inferred"
"""``no_object``: found from the number of logits and of names."""
BACKGROUND = ("o", "outside", "background", "blank", "<blank>")
"""Names of labels, in lower case, that say of a token that it is nothing."""
NOTHING = ("no object", "no-object", "no_object", "nothing", "background", "∅")
"""Names, in lower case, of a detector's last class where "no object" is among the names."""
SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
"""Settings that name tokens which are no part of the text."""
SOUND = ("input_values", "input_features")
"""Inputs of sound: the places of an output over them are frames."""


@dataclass(frozen=True)
class Context:
    """What a target may know besides the output: the model's inputs, its label names, its configuration.

    Attributes:
        inputs: keyword arguments of the forward pass.
        labels: class index → name; empty where the model has no names.
        exclusive: whether one class is right; False: each by itself (``problem_type="multi_label_classification"``).
        config: of the model, where it has one.
        returns: names of the parts of its output, in order, where ``forward`` says; to read a tuple by.
        special: ids of the tokens that are no part of the text; None: those that the configuration names.
        text: ids of tokens → their text, to name them.
    """

    inputs: Mapping[str, object] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)
    exclusive: bool = True
    config: object = None
    returns: tuple[str, ...] = ()
    special: frozenset[int] | None = None
    text: Callable[[Sequence[int]], str] | None = None

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, object],
        config: object,
        labels: Mapping[int, str] | None = None,
        forward: Callable[..., object] | None = None,
        subject: object = None,
    ) -> Context:
        """As a configuration has it.

        Args:
            inputs: keyword arguments of the forward pass.
            config: of the model, or None.
            labels: class index → name, where they are not those of ``subject`` or in ``config.id2label``.
            forward: of the model, whose annotation says what it returns.
            subject: the ``heedmap.Model`` that has a tokenizer, for ``special`` and ``text``, and maybe labels.
        """
        classes = getattr(subject, "labels", None) if labels is None else labels
        classes = getattr(config, "id2label", None) or {} if classes is None else classes
        names = {int(index): str(name) for index, name in classes.items()}
        exclusive = getattr(config, "problem_type", None) != SEVERAL_LABELS
        returns = () if forward is None else fields_of(forward)
        special, text = (getattr(subject, name, None) for name in ("special_tokens", "token_text"))
        return cls(inputs, names, exclusive, config, returns, special, text)

    def name(self, index: int) -> str:
        """``class 3 (cat)`` or ``class 3``."""
        label = self.labels.get(index)
        return f"class {index}" if label is None or label == f"LABEL_{index}" else f"class {index} ({label})"

    def short(self, index: int) -> str:
        """``cat``, or ``class 3`` where it has no name."""
        label = self.labels.get(index)
        return f"class {index}" if label in (None, "", f"LABEL_{index}") else str(label)

    def index(self, label: str) -> int:
        """The class called ``label``, in any case; UnknownNameError lists some of the known ones."""
        for index, name in self.labels.items():
            if name == label:
                return index
        folded = [i for i, name in self.labels.items() if name.casefold() == label.casefold()]
        if len(folded) == 1:
            return folded[0]
        known = ", ".join(list(self.labels.values())[:20]) or "none: give a class index instead"
        raise UnknownNameError(
            f"no class is called {label!r}{closest(label, self.labels.values())}; known labels: {known}"
        )

    def probabilities(self, scores: Float[Tensor, "... classes"]) -> Float[Tensor, "... classes"]:
        """Of each class: softmax where one is right, the sigmoid of each where it is right or wrong by itself."""
        return scores.softmax(-1) if self.exclusive else scores.sigmoid()

    def setting(self, name: str) -> object:
        """A setting of the model's configuration, or None."""
        return getattr(self.config, name, None)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many classes there may be: as many as names (``LABEL_3`` is one), then ``config.num_labels``."""
        configured = self.setting("num_labels")
        known = (len(self.labels), configured if isinstance(configured, int) else 0)
        return tuple(dict.fromkeys(count for count in known if count > 0))

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model knows, by its configuration."""
        configs = (self.config, *(self.setting(name) for name in ("text_config", "decoder")))
        sizes = (getattr(config, "vocab_size", None) for config in configs)
        return next((size for size in sizes if isinstance(size, int)), None)

    def read(self, output: object) -> object:
        """``output``; a tuple by the names of its parts, where they are clear.

        A tuple that is not clear is left as it is, so that a target that needs a part says so.
        """
        if not isinstance(output, (tuple, list)) or hasattr(output, "_fields"):
            return output
        if self.returns:
            return _by_fields(output, self.returns)
        return self._by_shapes(
            [tensor for tensor in output if isinstance(tensor, Tensor) and tensor.is_floating_point()], output
        )

    def _by_shapes(self, tensors: Sequence[Tensor], output: Sequence[object]) -> object:
        first, second = (*tensors, None, None)[:2]
        if first is None:
            return output
        pair = second is not None and first.dim() == 2 and first.shape == second.shape
        if pair and any(n in self.inputs for n in ("image", "pixel_values")) and len(self.inputs) > 1:
            return {"image_features": first, "text_features": second}
        scores = [tensor for tensor in tensors if tensor.dim() in (2, 3)]
        sizes = {*self.counts, *(count + 1 for count in self.counts), self.vocabulary}
        fits = [tensor for tensor in scores if tensor.shape[-1] in sizes] or scores
        boxes = [tensor for tensor in scores if tensor.dim() == 3 and tensor.shape[-1] == 4]
        if len(fits) == 2 and len(boxes) == 1 and fits[0].shape[:2] == boxes[0].shape[:2] and fits[1] is boxes[0]:
            fits = fits[:1]
        if len(fits) != 1:
            return output
        box = [tensor for tensor in boxes if tensor is not fits[0] and tensor.shape[:2] == fits[0].shape[:2]]
        return {"logits": fits[0], **({"pred_boxes": box[0]} if box else {})}


def fields_of(forward: Callable[..., object]) -> tuple[str, ...]:
    """Names of the parts of what ``forward`` returns, where its annotation is (or holds) a dataclass; else empty."""
    try:
        annotation = inspect.signature(forward, eval_str=True).return_annotation
    except Exception:  # an annotation may name what is not there at run time
        return ()
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return tuple(candidate.__dataclass_fields__)
    return ()


def _by_fields(output: Sequence[object], fields: Sequence[str]) -> dict[str, object]:
    """The parts at the front, up to the first that is no tensor: which of the others are left out cannot be seen."""
    losses = sum("loss" in name for name in fields[:2])
    first = output[0] if len(output) else None
    if not (isinstance(first, Tensor) and first.dim() == 0):
        fields, losses = [name for name in fields if "loss" not in name], 0
    parts: dict[str, object] = {}
    for place, (name, part) in enumerate(zip(fields, output, strict=False)):
        if not isinstance(part, Tensor) and place >= losses:
            break
        parts[name] = part
    return parts


# -- parts of an output ---------------------------------------------------------------------------------------------


def part(output: object, name: str) -> object:
    """``output.name`` or ``output["name"]``, or None."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def get(output: object, name: str) -> Tensor | None:
    """The tensor ``output.name`` or ``output["name"]``; None: there is none, or it is no tensor."""
    tensor = part(output, name)
    return tensor if isinstance(tensor, Tensor) else None


def of_shape(inputs: object, name: str, *shape: int) -> Tensor | None:
    """As :func:`get`; None also where the tensor is of another shape."""
    tensor = get(inputs, name)
    return tensor if tensor is not None and tensor.shape == shape else None


def needed(output: object, name: str) -> Tensor:
    """The tensor ``output.name`` or ``output["name"]``; TargetError says what there is instead."""
    tensor = get(output, name)
    if tensor is None:
        raise TargetError(f"{_without(name, output)}; pass target=callable(output) -> (batch,) tensor")
    return tensor


def class_logits(output: object, dims: int | None) -> Tensor:
    """The class scores in ``output``, of ``dims`` dimensions; TargetError says what there is instead."""
    logits = output if isinstance(output, Tensor) else None
    for name in LOGITS:
        logits = get(output, name) if logits is None else logits
    if logits is None and isinstance(output, (tuple, list)) and len(output) == 1 and isinstance(output[0], Tensor):
        logits = output[0]
    if logits is None:
        raise TargetError(f"{_without('logits', output)}; pass target=callable(output) -> (batch,) tensor")
    if dims is not None and logits.dim() != dims:
        raise TargetError(
            f"the logits have shape {tuple(logits.shape)}, this target needs {dims} dimensions; "
            "2: ClassLogit, 3 with boxes: DetectionQuery, 3 with a vocabulary: NextToken, 3 with labels: TokenLabel, "
            "4, over the pixels of a picture: Region"
        )
    return logits


def _without(name: str, output: object) -> str:
    if isinstance(output, (tuple, list)):
        shapes = ", ".join(str(tuple(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in output)
        return f"the output is a tuple of {len(output)} ({shapes}), and which of them the {name} are is not clear"
    held = part(output, name)
    if held is not None and not isinstance(held, Tensor):
        return f"the {name} of the output are a {type(held).__name__}, no tensor"
    known = ", ".join(output.keys()) if isinstance(output, Mapping) else type(output).__name__
    return f"the output has no {name} (it has: {known})"


def two_embeddings(output: object) -> tuple[Tensor, Tensor]:
    """Image and text embeddings, (batch, features) each, of a dual encoder's output."""
    image, text = get(output, "image_embeds"), get(output, "text_embeds")
    if image is None:
        image, text = get(output, "image_features"), get(output, "text_features")
    if image is None and isinstance(output, (tuple, list)) and len(output) >= 2:
        image, text = output[0], output[1]
    if not (isinstance(image, Tensor) and isinstance(text, Tensor) and image.dim() == 2 and image.shape == text.shape):
        raise TargetError(
            "Similarity needs logits_per_image or two (batch, features) embeddings of equal shape in the output; "
            "give reference=, or pass target=callable(output) -> (batch,) tensor"
        )
    return image, text


def pooled(output: object, context: Context, pool: str) -> Tensor:
    """An encoder's sentence embedding, (batch, features)."""
    if pool not in ("mean", "pooler"):
        raise TargetError(f"pool={pool!r}; expected 'mean' or 'pooler'")
    states = get(context.read(output), "pooler_output" if pool == "pooler" else "last_hidden_state")
    if states is None:
        raise TargetError(
            "this model gives a text no embedding: Similarity with a reference, by which two texts are compared, needs "
            "last_hidden_state (or pooler_output) in the output; take a sentence encoder, such as all-MiniLM-L6-v2"
        )
    if pool == "pooler":
        return states
    mask = of_shape(context.inputs, "attention_mask", *states.shape[:2])
    if mask is None:
        return states.mean(1)
    weight = mask.to(states)[..., None]
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


# -- kinds of head --------------------------------------------------------------------------------------------------


def no_object(logits: Tensor, context: Context, name: str = "the model") -> int | None:
    """Index of a detector's "no object" class; None: its head says yes or no to each class and has none.

    Such a head has as many logits as there are names; one with "no object" has one more, and that is the last (or the last
    name is :data:`NOTHING`). A detector that is also given a text compares each box with each part of the text, and has none.

    Args:
        logits: (…, classes).
        context: whose :attr:`Context.counts` are compared, the names first.
        name: what the message calls the model.

    Raises:
        TargetError: the number of logits fits neither.
    """
    classes = logits.shape[-1]
    if "input_ids" in context.inputs:
        return None
    for count in context.counts:
        if classes == count + 1:
            return count
        if classes == count:
            return count - 1 if context.labels.get(count - 1, "").casefold() in NOTHING else None
    raise TargetError(
        f"{name} has {classes} logits a query and {len(context.labels)} names of classes; expected as many, or one logit "
        "more for 'no object'; give labels= with all names, or DetectionQuery(no_object=INDEX), None where there is none"
    )


def object_probabilities(
    logits: Float[Tensor, "batch queries classes"], none: int | None
) -> Float[Tensor, "batch queries classes"]:
    """Of each class at each query; -1 for the class ``none``, "no object". No gradient."""
    scores = logits.detach().float()
    if none is None:
        return scores.sigmoid()
    hidden = torch.arange(scores.shape[-1], device=scores.device) == none
    return scores.softmax(-1).masked_fill(hidden, -1).detach()


def labels_tokens(logits: Tensor, context: Context) -> bool:
    """Whether (batch, places, classes) are labels of places: as many as labels, and not as many as the vocabulary has.

    Where both numbers are equal, names that are more than ``LABEL_3`` decide for labels.
    """
    classes = logits.shape[-1]
    if classes not in context.counts:
        return False
    named = any(name != f"LABEL_{index}" for index, name in context.labels.items())
    return classes != context.vocabulary or (named and classes == len(context.labels))


def spells_sound(logits: Tensor, context: Context) -> bool:
    """Whether (batch, frames, vocabulary) are the letters of sound (CTC): no token was given that others could follow."""
    if context.setting("is_encoder_decoder") or not any(name in context.inputs for name in SOUND):
        return False
    texts = ("input_ids", "decoder_input_ids", "inputs_embeds")
    return logits.shape[-1] == context.vocabulary and not any(name in context.inputs for name in texts)


def is_value(logits: Tensor, context: Context) -> bool:
    """Whether (batch, 1) logits are a value (regression, a ranking's score), not one class of one."""
    return logits.dim() == 2 and logits.shape[-1] == 1 and context.counts in ((), (1,))


# -- places of an output --------------------------------------------------------------------------------------------


def place_word(context: Context, places: int) -> str:
    """What a place of the output is: a token, a frame of sound, or a position."""
    ids = get(context.inputs, "input_ids")
    if ids is not None and ids.shape[-1] == places:
        return "token"
    return "frame" if any(name in context.inputs for name in SOUND) else "position"


def place_name(context: Context, sample: int, start: int, end: int, places: int) -> str:
    """What places ``start`` to ``end`` of the output are called: ``token 4 (Paris)``, ``tokens 3 to 5``, ``frame 7``."""
    what = place_word(context, places)
    words = f"{what} {start}" if start == end else f"{what}s {start} to {end}"
    ids = get(context.inputs, "input_ids")
    if what != "token" or context.text is None or ids is None:
        return words
    return f"{words} ({context.text(ids[sample, start : end + 1].tolist())})"


def real_places(context: Context, batch: int, places: int) -> Bool[Tensor, "batch places"]:
    """Which places of the output are of the input's own text or sound, on the CPU: no padding, no special tokens.

    A sample of nothing else has all that is no padding.
    """
    real = _unpadded(context, batch, places)
    words = real & ~_special(context, batch, places)
    return torch.where(words.any(-1, keepdim=True), words, real)


def _unpadded(context: Context, batch: int, places: int) -> Tensor:
    mask = get(context.inputs, "attention_mask")
    everything = torch.ones(batch, places, dtype=torch.bool)
    if mask is None or mask.dim() != 2 or len(mask) != batch:
        return everything
    real = mask.cpu() != 0
    if real.shape[1] == places:
        return real
    if place_word(context, places) != "frame":
        return everything
    share = real.float().mean(-1, keepdim=True)  # the mask is of samples of sound, each frame of many of them
    lengths = (places * share - (1 - share)).floor().clamp(min=1)
    return torch.arange(places) < lengths


def _special(context: Context, batch: int, places: int) -> Tensor:
    given, ids = (of_shape(context.inputs, name, batch, places) for name in ("special_tokens_mask", "input_ids"))
    if given is not None:
        return given.cpu() != 0
    if ids is None:
        return torch.zeros(batch, places, dtype=torch.bool)
    return torch.isin(ids.cpu(), torch.tensor(sorted(special_ids(context)), dtype=ids.dtype))


def special_ids(context: Context) -> frozenset[int]:
    """Ids of the tokens that are no part of the text: the tokenizer's, or those that the configuration names."""
    if context.special is not None:
        return context.special
    return frozenset(value for name in SPECIAL if isinstance(value := context.setting(name), int))


def background(context: Context, classes: int, *, frames: bool) -> Bool[Tensor, " classes"]:
    """Which labels say "nothing here": those called so (:data:`BACKGROUND`); for frames of letters the blank."""
    nothing = torch.zeros(classes, dtype=torch.bool)
    if frames:
        blank = context.setting("pad_token_id")
        if isinstance(blank, int) and 0 <= blank < classes:
            nothing[blank] = True
        return nothing
    for index, name in context.labels.items():
        if name.casefold() in BACKGROUND and 0 <= index < classes:
            nothing[index] = True
    return nothing if not bool(nothing.all()) else torch.zeros_like(nothing)


def ranked(
    logits: Float[Tensor, "batch classes"],
    picked: Int[Tensor, " batch"],
    name: Callable[[int], str],
    *,
    exclusive: bool = True,
) -> Top:
    """The :data:`MOST` most probable classes of each sample, and how probable the picked one is.

    Args:
        logits: scores of all classes.
        picked: the class that is explained.
        name: class index → its name.
        exclusive: whether one class is right (softmax) or each by itself (sigmoid).
    """
    scores = logits.detach().float()
    probabilities = (scores.softmax(-1) if exclusive else scores.sigmoid()).cpu()
    best = probabilities.topk(min(MOST, probabilities.shape[-1]), -1)
    target = probabilities.gather(1, picked.cpu()[:, None])[:, 0]
    labels = tuple(tuple(map(name, row)) for row in best.indices.tolist())
    return Top(labels, best.values.contiguous(), target, "softmax" if exclusive else "sigmoid")
