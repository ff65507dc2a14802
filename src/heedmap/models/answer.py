"""An answer in words, explained token by token, from one forward pass in which the whole of it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from heedmap.attention.at_rest import answering
from heedmap.attention.forward import output_of
from heedmap.attention.inputs import configuration, named, unwrapped, without_cache
from heedmap.common.progress import Progress
from heedmap.data.answer import ENDED, Answer
from heedmap.data.explanation import Segment
from heedmap.engine.result import SEGMENTS
from heedmap.engine.stepwise import SaidTokens, Stepwise, explain_steps, logits_at, of_last
from heedmap.errors import InputError
from heedmap.models.contrast import RUNNER, Against, against
from heedmap.models.forced import Forced, check_places, forced, left_padded
from heedmap.models.labels import boundaries_of, place_of, token_labels
from heedmap.models.parts import in_parts
from heedmap.models.saying import TOLERANCE, Prompt, begun, generated, given, grown, spelled
from heedmap.outputs import Context, class_logits, special_ids

if TYPE_CHECKING:
    from heedmap.engine.engine import Wrapped
    from heedmap.explanation import Explanation
    from heedmap.methods import Method
    from heedmap.types import AnswerInput, ContrastInput, Inputs


Row = TypeVar("Row")
LETTERS = 60
"""Of an answer, in what is said to be explained."""


def explain_answer(
    model: nn.Module | Wrapped,
    inputs: Inputs,
    *,
    answer: AnswerInput | None = None,
    contrast: ContrastInput | None = None,
    method: str | Method = "generic",
    generate: Mapping[str, object] | None = None,
    progress: Progress = lambda done, of: None,
    **options: object,
) -> Explanation:
    """What each token of an answer in words rests on: on text, picture and sound, and on the answer's own earlier tokens.

    The model says its answer, or is given one; then it runs once on prompt and answer, without a cache. Of each token the logit
    at its place is explained, from that one pass: the same map as of the prompt with the tokens before it, alone.

    Args:
        model: one that says words (a decoder, or an encoder-decoder of text, pictures or sound), or a ``heedmap.Model``.
        inputs: what its ``generate`` is called with, batch first; padding on either side, by ``attention_mask``.
        answer: None: what the model says. A text, or a list of one a sample; token ids, (batch, steps); or what transformers'
            ``generate`` returned, the prompt included: by beams or by chance, it is explained as it is.
        contrast: None. Else y is the logit of each token less that of another at its place: ``"runner-up"``, the most probable
            other one; a word, whose first token is meant; another answer of as many tokens, a text or ids; or a mapping such as
            ``{"cat": "dog"}`` of words of the answer (or numbers of its tokens) to words: the other tokens are then explained
            without. Each token comes after the answer's own earlier ones. A token set against itself has zeros.
        method: as for :func:`heedmap.explain`.
        generate: options of transformers' ``generate``; by default the most probable token each time, 64 at most.
        progress: called with the steps that are done, and their number.
        options: as for :func:`heedmap.explain`.

    Returns:
        An Explanation with an ``answer`` and a step axis: each input's segment is (batch, steps, tokens), float32, and
        ``explanation["answer"]`` (batch, steps, steps), what each token drew from the answer's earlier ones, 0 on itself and
        after. The tokens with which a decoder begins are its segment ``decoder``. ``step`` and ``span`` give the map of a token
        and of several, ``words`` the words of the answer.

    Raises:
        InputError: the model cannot generate, or says nothing; the answer is empty, cannot be made by the tokenizer, or is too
            long; it does not say the answer in one pass as it does token by token.
        OptionError: the contrast is in no such form.
        HeedmapError: as for :func:`heedmap.explain`.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/bart-dates")
        >>> found = heedmap.explain_answer(subject, subject.asked(text="the 3rd of may 1987"))
        >>> found["text"].shape, found["answer"].shape
        (torch.Size([1, 10, 20]), torch.Size([1, 10, 10]))
        >>> found.words()
        [('1987', 0, 4), ('-', 4, 5), ('05', 5, 7), ('-', 7, 8), ('03', 8, 10)]
        >>> month = found.span(5, 7)
        >>> text, most = "".join(found.segments["text"].labels[0]), int(month["text"][0].argmax())
        >>> text[most : most + 3]
        'may'
    """
    asked = _Asked(model, inputs, generate or {})
    start, tokens = asked.says() if answer is None else asked.is_given(answer)
    uncached = without_cache(asked.module, asked.inputs)
    whole = forced(uncached, start.name, start.prompts, tokens, grown(asked.module, asked.inputs, start))
    check_places(whole, asked.config)
    said = SaidTokens(whole.tokens, whole.rows, whole.columns[whole.name].shape[1])
    other = asked.against(contrast, whole.tokens, start)
    if other is not None and bool((other.tokens == RUNNER).any()):
        other = replace(other, tokens=asked.runners(other.tokens, whole.inputs, said))
    said = replace(said, others=None if other is None else other.tokens)

    def explained(inputs: Mapping[str, object], part: SaidTokens, tell: Progress) -> Stepwise:
        return explain_steps(model, inputs, part, method=method, progress=tell, **options)

    steps = in_parts(whole, said, progress, explained)
    asked.check(start, steps, said)
    notes = start.notes + (() if other is None else other.notes)
    source = "generated" if answer is None else "given"
    segments = options.get("segments")
    return asked.explanation(steps, whole, other, source, notes, segments if isinstance(segments, Mapping) else {})


class _Asked:
    """One call of explain_answer."""

    def __init__(self, model: nn.Module | Wrapped, inputs: Inputs, settings: Mapping[str, object]) -> None:
        self.subject = None if isinstance(model, nn.Module) else model
        self.module = unwrapped(model if isinstance(model, nn.Module) else model.model)
        self.settings = settings
        self.config = configuration(self.module)
        self.inputs = left_padded(named(self.module, inputs), self.module, self.config)
        labels = None if self.subject is None else self.subject.labels
        self.context = Context.of(self.inputs, self.config, labels, self.module.forward, self.subject)
        self.tokenizer = None if self.subject is None else self.subject.tokenizer
        self.special = special_ids(self.context)

    def says(self) -> tuple[Prompt, list[list[int]]]:
        with answering(self.module):
            return generated(self.module, self.inputs, self.settings, self.special)

    def is_given(self, answer: AnswerInput) -> tuple[Prompt, list[list[int]]]:
        with answering(self.module):
            start = begun(self.module, self.inputs, self.settings)
        return given(answer, start, len(start.prompts), self.tokenizer, self.context.vocabulary, self.special)

    def against(self, contrast: ContrastInput | None, tokens: Tensor, start: Prompt) -> Against | None:
        def ids(text: str, sample: int) -> list[int]:
            return spelled(text, start, sample, self.tokenizer, "contrast")

        def places(word: str, sample: int) -> list[int]:
            row, wanted = tokens[sample].tolist(), ids(word, sample)
            first = place_of(wanted, row)
            if first is None:
                raise InputError(
                    f"the contrast names {word!r}, which is not in the answer {self.text(row)!r}; give a word of it"
                )
            return list(range(first, first + len(wanted)))

        return against(contrast, tokens, ids, places, self.names)

    def runners(self, others: Tensor, inputs: Mapping[str, object], said: SaidTokens) -> Tensor:
        """``others`` with the most probable tokens but the answer's own, where the runner-up is meant."""
        output = self.context.read(output_of(self.module, of_last(self.module, inputs, said)))
        rows = logits_at(class_logits(output, 3), said.all_steps().row, said.length).cpu()
        best = rows.scatter(2, said.tokens.clamp(min=0)[..., None], -torch.inf).argmax(-1)
        return torch.where(others == RUNNER, best, others)

    def check(self, start: Prompt, steps: Stepwise, said: SaidTokens) -> None:
        """InputError where the answer's first token is not as probable beside the rest of the answer as it is alone."""
        if start.logits is None:
            return
        alone = start.logits.float().softmax(-1).cpu().gather(1, said.tokens[:, :1])[:, 0]
        beside = steps.probabilities[:, 0]
        if bool(((alone - beside).abs() > TOLERANCE).any()):
            raise InputError(
                f"the model says the answer's first token with probability {_told(alone)} alone, and {_told(beside)} where the "
                "rest of the answer is given too: it looks ahead, or reads padding, so a map of the whole would be wrong"
            )

    def text(self, ids: Sequence[int]) -> str:
        real = [i for i in ids if i >= 0]
        if self.tokenizer is None:
            return " ".join(map(str, real))
        decode = getattr(self.tokenizer, "decode", None)
        return str(decode(real)).strip() if callable(decode) else " ".join(token_labels(self.tokenizer, real))

    def names(self, ids: Sequence[int]) -> tuple[str, ...]:
        """One label a token; nothing after the end."""
        real = [max(i, 0) for i in ids]
        labels = token_labels(self.tokenizer, real) if self.tokenizer is not None else tuple(map(str, real))
        return tuple(label if i >= 0 else "" for i, label in zip(ids, labels, strict=True))

    def explanation(
        self,
        steps: Stepwise,
        whole: Forced,
        other: Against | None,
        source: str,
        notes: tuple[str, ...],
        segments: Mapping[str, str],
    ) -> Explanation:
        """The steps as one explanation, the words of the answer apart from those of the prompt."""
        name = (segments or SEGMENTS)[whole.name]
        if name not in steps.relevance:
            raise InputError(
                f"no token begins in {whole.name}, so the answer has no map (there is {', '.join(steps.relevance)})"
            )
        made = {key: replace(segment, relevance=steps.relevance[key]) for key, segment in steps.first.segments.items()}
        words = made.pop(name)
        said = _picked(words, whole.answer, "answer")
        said = self._named(replace(said, relevance=said.relevance.tril(-1)), whole.tokens)
        made |= {name: _picked(words, whole.prompt), "answer": said}
        answer = self._answer(steps, whole, other, source)
        return replace(
            steps.first,
            segments=made,
            target=tuple(f"the answer {_begun(text)!r}" for text in answer.text),
            scores=steps.scores,
            prediction=None,
            prediction_labels=None,
            flow=replace(steps.first.flow, notes=(*steps.first.flow.notes, *notes)),
            top=None,
            answer=answer,
        )

    def _named(self, segment: Segment, tokens: Tensor) -> Segment:
        """The answer's segment with the labels of its tokens, and how they stand to each other."""
        if self.tokenizer is None:
            return replace(segment, labels=None, boundaries=None)
        ids, names = tokens.clamp(min=0).tolist(), tuple(map(self.names, tokens.tolist()))
        return replace(segment, labels=names, boundaries=boundaries_of(self.tokenizer, ids, names))

    def _answer(self, steps: Stepwise, whole: Forced, other: Against | None, source: str) -> Answer:
        tokens = whole.tokens.tolist()
        best = tuple(tuple(map(self.names, row)) for row in steps.best.tolist())
        others = None if other is None else other.tokens.tolist()
        return Answer(
            tuple(map(self.text, tokens)),
            whole.tokens,
            whole.rows,
            tuple(self._targets(row, None if others is None else others[sample]) for sample, row in enumerate(tokens)),
            steps.probabilities,
            best,
            steps.best_probabilities,
            None if other is None else other.tokens,
            source,
        )

    def _targets(self, tokens: Sequence[int], others: Sequence[int] | None) -> tuple[str, ...]:
        """What each step explains, in words."""
        against = [""] * len(tokens)
        if others is not None:
            against = [
                f" rather than {name!r}" if token >= 0 else ""
                for token, name in zip(others, self.names(others), strict=True)
            ]
        named = zip(tokens, self.names(tokens), against, strict=True)
        return tuple(
            f"{name!r}{less}, token {number} of the answer" if token >= 0 else ENDED
            for number, (token, name, less) in enumerate(named)
        )


def _picked(segment: Segment, places: Tensor, name: str | None = None) -> Segment:
    """Some tokens of a segment; where there is none, nothing."""
    here = places.clamp(min=0)
    steps = here[:, None].expand(-1, segment.relevance.shape[1], -1)
    relevance = segment.relevance.gather(2, steps).masked_fill((places < 0)[:, None], 0.0)
    positions = segment.positions.gather(1, here).masked_fill(places < 0, -1)

    def cut(
        rows: Sequence[Sequence[str]] | None, none: str, join: Callable[[list[str]], Row]
    ) -> tuple[Row, ...] | None:
        if rows is None:
            return None
        return tuple(
            join([row[place] if place >= 0 else none for place in picked])
            for row, picked in zip(rows, places.tolist(), strict=True)
        )

    return replace(
        segment,
        name=name or segment.name,
        relevance=relevance,
        positions=positions,
        labels=cut(segment.labels, "", tuple),
        boundaries=cut(segment.boundaries, "s", "".join),
    )


def _begun(text: str) -> str:
    """The first letters of a long text."""
    return text if len(text) <= LETTERS else f"{text[:LETTERS].rstrip()}…"


def _told(values: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())
