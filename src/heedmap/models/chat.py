"""What a person says in a chat: put into the model's chat template, and told apart from it afterwards, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.data.segments import ROLES
from heedmap.errors import InputError
from heedmap.models.inputs import listed
from heedmap.models.words import CONTINUED, SPECIAL, WHITE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

    from heedmap.data.explanation import ExplanationData
    from heedmap.data.segments import Segment
    from heedmap.models.kinds import Processors
    from heedmap.types import ImageInput, TextInput


@dataclass(frozen=True)
class Chat:
    """What was said, and the prompts that the template made of it.

    Attributes:
        prompts: one a sample.
        texts: for each sample what the person said.
        system: the system prompt; None: none of the person's.
    """

    prompts: list[str]
    texts: list[str]
    system: str | None = None


def told(
    processors: Processors, name: str, text: TextInput, image: ImageInput, system: str | None, chat: bool | None
) -> Chat | None:
    """The prompts of a chat; None: the text is a prompt itself.

    Text, image and system prompt are as for ``Model.explain_answer``; ``chat``, None: where there is a template, and text.

    Raises:
        InputError: there is no template, no text, or the template refuses it.
    """
    owner = next((p for p in (processors.joint, processors.tokenizer) if getattr(p, "chat_template", None)), None)
    if (chat is None and system is None and (owner is None or text is None)) or chat is False:
        return None
    if owner is None or text is None or not all(isinstance(said, str) for said in listed(text)):
        raise InputError(f"{name} has no chat template, or there is no text for it; leave chat and system out")
    texts, images = [str(said) for said in listed(text)], listed(image)
    images = images * len(texts) if len(images) == 1 else images
    pairs = zip(texts, images, strict=False)  # lists of unequal length are told where the inputs are made
    prompts = [_prompt(owner, processors.tokenizer, said, picture, system) for said, picture in pairs]
    return Chat(prompts, texts, system)


def _prompt(
    owner: ProcessorMixin | PreTrainedTokenizerBase,
    tokenizer: PreTrainedTokenizerBase | None,
    text: str,
    image: object,
    system: str | None,
) -> str:
    """What the template makes of one question, up to where the model answers; without the start that the tokenizer adds."""
    pictures = 0 if image is None else len(image) if isinstance(image, tuple) else 1
    content: str | list[dict[str, str]] = (
        text if owner is tokenizer else [{"type": "image"}] * pictures + [{"type": "text", "text": text}]
    )
    said = system if owner is tokenizer or system is None else [{"type": "text", "text": system}]
    messages: list[dict[str, object]] = [{"role": "system", "content": said}] if system is not None else []
    messages.append({"role": "user", "content": content})
    try:
        prompt = str(owner.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # templates are programs of the model's own, and raise what they like
        raise InputError(
            f"the chat template cannot take this ({error}); give chat=False and the prompt as it is"
        ) from error
    start = str(getattr(tokenizer, "bos_token", None) or "")
    ids = [] if tokenizer is None or not start else tokenizer(text)["input_ids"]
    return prompt.removeprefix(start) if ids and ids[0] == getattr(tokenizer, "bos_token_id", None) else prompt


def roles(explanation: ExplanationData, chat: Chat | None) -> dict[str, tuple[str, ...]]:
    """For each segment of words of an explained answer's prompt, for each sample one letter a token; see ``Segment.roles``."""
    letters = {}
    for name in ("text", "decoder"):
        segment = explanation.segments.get(name)
        if segment is not None and segment.labels is not None and segment.boundaries is not None:
            letters[name] = tuple(_letters(segment, sample, chat) for sample in range(len(segment.labels)))
    return letters


def _letters(segment: Segment, sample: int, chat: Chat | None) -> str:
    assert segment.labels is not None
    assert segment.boundaries is not None
    labels, taken = segment.labels[sample], (segment.positions[sample] >= 0).tolist()
    written = ROLES["person"] if chat is None else ROLES["template"]
    letters = [written] * len(labels)
    if chat is not None:
        pieces, after = [_plain(label) for label in labels], 0
        for said, role in ((chat.system, "system"), (chat.texts[sample % len(chat.texts)], "person")):
            if said:
                start, end = _where_said(pieces, _plain(said), after)
                letters[start:end] = [ROLES[role]] * (end - start)
                after = end
    for place, letter in enumerate(segment.boundaries[sample]):
        if not taken[place]:
            letters[place] = ROLES["place"] if labels[place] else ROLES["padding"]
        elif letter == SPECIAL:
            letters[place] = ROLES["template"]
    return "".join(letters)


def _plain(text: str) -> str:
    """Letters alone: without white space, the signs that stand for it, and what continues a character."""
    return "".join(c for c in text if not c.isspace() and c not in WHITE and c != CONTINUED).casefold()


def _where_said(pieces: Sequence[str], text: str, after: int) -> tuple[int, int]:
    """The tokens, from ``after`` on, whose letters are those of ``text``; none where it is not there as it was said."""
    ends, total = [], 0
    for piece in pieces[after:]:
        total += len(piece)
        ends.append(total)
    start = "".join(pieces[after:]).find(text)
    if start < 0:
        return after, after
    first = next(place for place, end in enumerate(ends) if end > start)
    last = next(place for place, end in enumerate(ends) if end >= start + len(text))
    return after + first, after + last + 1
