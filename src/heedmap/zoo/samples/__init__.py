"""Samples of the test split for each model of the zoo, with the true evidence: what the gallery and the figures are of.

A model is added by a line in :data:`MATERIALS`, with a function that makes a sample and one that says which questions
about it the model answered rightly.
"""

from collections.abc import Mapping

from heedmap.common.printable import closest
from heedmap.errors import UnknownNameError
from heedmap.models.names import PREFIX, shipped
from heedmap.zoo.samples import answers, pictures, texts
from heedmap.zoo.samples.sample import Evidence, KnownAnswer, Material, ZooSample

MATERIALS: Mapping[str, Material] = {
    "bamba-lists": texts.LISTS,
    "bart-dates": texts.DATES,
    "clip-shapes": pictures.CAPTIONS,
    "convbert-lists": texts.LABELLED_LISTS,
    "deformable-shapes": pictures.DETECTION,
    "detr-shapes": pictures.DETECTION,
    "gpt-lists": texts.LISTS,
    "idefics-shapes": answers.TELLING,
    "lxmert-shapes": pictures.QUESTIONS,
    "mamba-lists": texts.LISTS,
    "swin-shapes": pictures.LABELS,
    "visualbert-shapes": pictures.PLACED_QUESTIONS,
    "vit-shapes": pictures.LABELS,
}
"""Name, without ``zoo/`` → samples and how they are asked about."""


def chosen(names: list[str] | None) -> list[str]:
    """Those of ``names`` (all, where there are none) that are shipped and have samples, without ``zoo/``.

    Raises:
        UnknownNameError: a name is none of them; the message lists those there are.
    """
    known = [name for name in shipped() if name in MATERIALS]
    plain = [name.removeprefix(PREFIX) for name in names or known]
    for name in plain:
        if name not in known:
            raise UnknownNameError(
                f"no model {name!r} comes with heedmap{closest(name, known)}; it has: {', '.join(known) or 'none'}"
            )
    return list(dict.fromkeys(plain))


def zoo_sample(name: str, index: int = 0) -> ZooSample:
    """A sample of the test split of a zoo model: what to ask it, and what the right answer is.

    Args:
        name: of the model, with or without ``zoo/``.
        index: in the test split, from 0; the same index is always the same sample.

    Raises:
        UnknownNameError: no such model; the message lists those there are.

    Examples:
        >>> import heedmap
        >>> sample = heedmap.zoo_sample("lxmert-shapes")
        >>> sample.inputs["text"], sample.answer
        ('which colour does the heart have?', 'pink')
    """
    (plain,) = chosen([name])
    return MATERIALS[plain].make(index)


__all__ = ["MATERIALS", "Evidence", "KnownAnswer", "Material", "ZooSample", "chosen", "zoo_sample"]
