"""An answer in words, explained token by token, from one forward pass in which the whole of it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from heedmap.attention.at_rest import answering
from heedmap.attention.forward import output_of
from heedmap.attention.inputs import configuration, named, unwrapped, without_cache
from heedmap.common.progress import Progress
from heedmap.data.segments import ENDED, Answer, Segment
from heedmap.engine.result import SEGMENTS
from heedmap.engine.stepwise import SaidTokens, Stepwise, explain_steps, logits_at, of_last
from heedmap.errors import InputError, OptionError
from heedmap.models.forced import Forced, check_places, forced, in_parts, left_padded
from heedmap.models.saying import TOLERANCE, Prompt, begun, given_answer, grown, own_answer, spelled
from heedmap.models.words import boundaries_of, place_of, token_labels
from heedmap.outputs import Context, class_logits, special_ids

if TYPE_CHECKING:
    from jaxtyping import Int

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
    others, notes = (None, ()) if contrast is None else _Contrasts(asked, start, whole.tokens).read(contrast)
    if others is not None and bool((others == RUNNER).any()):
        others = asked.runners(others, whole.inputs, said)
    said = replace(said, others=others)

    def explained(inputs: Mapping[str, object], part: SaidTokens, tell: Progress) -> Stepwise:
        return explain_steps(model, inputs, part, method=method, progress=tell, **options)

    steps = in_parts(whole, said, progress, explained)
    asked.check(start, steps, said)
    made = asked.answer(steps, whole, others, "generated" if answer is None else "given")
    segments = options.get("segments")
    named = segments if isinstance(segments, Mapping) and segments else SEGMENTS
    return asked.explanation(steps, whole, made, start.notes + notes, named)


class _Asked:
    """One call of explain_answer."""

    def __init__(self, model: nn.Module | Wrapped, inputs: Inputs, settings: Mapping[str, object]) -> None:
        self.subject = None if isinstance(model, nn.Module) else model
        self.module = unwrapped(model if isinstance(model, nn.Module) else model.model)
        self.settings = settings
        self.config = configuration(self.module)
        self.inputs = left_padded(named(self.module, inputs), self.module, self.config)
        self.context = Context.of(self.inputs, self.config, None, self.module.forward, self.subject)
        self.tokenizer = None if self.subject is None else self.subject.tokenizer
        self.special = special_ids(self.context)

    def says(self) -> tuple[Prompt, list[list[int]]]:
        with answering(self.module):
            return own_answer(self.module, self.inputs, self.settings, self.special)

    def is_given(self, answer: AnswerInput) -> tuple[Prompt, list[list[int]]]:
        with answering(self.module):
            start = begun(self.module, self.inputs, self.settings)
        return given_answer(answer, start, self.tokenizer, self.context.vocabulary, self.special)

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
        self, steps: Stepwise, whole: Forced, answer: Answer, notes: tuple[str, ...], segments: Mapping[str, str]
    ) -> Explanation:
        """The steps as one explanation, the words of the answer apart from those of the prompt; ``segments``: input → name."""
        name = segments[whole.name]
        if name not in steps.relevance:
            raise InputError(
                f"no token begins in {whole.name}, so the answer has no map (there is {', '.join(steps.relevance)})"
            )
        made = {key: replace(segment, relevance=steps.relevance[key]) for key, segment in steps.first.segments.items()}
        words = made.pop(name)
        said = _picked(words, whole.answer, "answer")
        said = self._named(replace(said, relevance=said.relevance.tril(-1)), whole.tokens)
        made |= {name: _picked(words, whole.prompt), "answer": said}
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

    def answer(self, steps: Stepwise, whole: Forced, others: Tensor | None, source: str) -> Answer:
        tokens = whole.tokens.tolist()
        against = [[-1] * len(row) for row in tokens] if others is None else others.tolist()
        return Answer(
            tuple(map(self.text, tokens)),
            whole.tokens,
            whole.rows,
            tuple(map(self._targets, tokens, against)),
            steps.probabilities,
            tuple(tuple(map(self.names, row)) for row in steps.best.tolist()),
            steps.best_probabilities,
            others,
            source,
        )

    def _targets(self, tokens: Sequence[int], others: Sequence[int]) -> tuple[str, ...]:
        """What each step explains, in words."""
        against = self.names(others) if max(others, default=-1) >= 0 else [""] * len(others)
        named = zip(tokens, self.names(tokens), others, against, strict=True)
        return tuple(
            f"{name!r}{f' rather than {against!r}' if other >= 0 else ''}, token {number} of the answer"
            if token >= 0
            else ENDED
            for number, (token, name, other, against) in enumerate(named)
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


RUNNER_UP = "runner-up"
RUNNER = -2
"""In place of a token: the most probable one but for the answer's own, known after the pass."""


class _Contrasts:
    """What the tokens of an answer, (batch, steps), are set against."""

    def __init__(self, asked: _Asked, start: Prompt, answer: Int[Tensor, "batch steps"]) -> None:
        self._asked, self._start, self._answer = asked, start, answer
        self._tokens, self._notes = torch.full_like(answer, -1), dict[str, None]()

    def read(self, contrast: ContrastInput) -> tuple[Int[Tensor, "batch steps"], tuple[str, ...]]:
        """Ids, int64, -1: none, :data:`RUNNER`: the runner-up; and what is to be told of them. See :func:`explain_answer`.

        Raises:
            OptionError: it is in another form, or of another length.
            InputError: a word that the tokenizer cannot make, or that is not in the answer.
        """
        samples = range(len(self._answer))
        if isinstance(contrast, Mapping):
            for where, other in contrast.items():
                for sample in samples:
                    self._set(sample, self._places(where, sample), other)
        elif isinstance(contrast, str) or _are_texts(contrast):
            texts = [contrast] * len(samples) if isinstance(contrast, str) else list(contrast)
            if len(texts) != len(samples):
                raise OptionError(
                    f"contrast has {len(texts)} texts for {len(samples)} samples; give one, or one a sample"
                )
            for sample, text in enumerate(texts):
                self._set(sample, (self._answer[sample] >= 0).nonzero()[:, 0].tolist(), text)
        else:
            self._tokens = _given_ids(contrast, self._answer)
        return self._tokens.masked_fill(self._answer < 0, -1), tuple(self._notes)

    def _ids(self, text: str, sample: int) -> list[int]:
        return spelled(text, self._start, sample, self._asked.tokenizer, "contrast")

    def _places(self, where: object, sample: int) -> list[int]:
        """The tokens of the answer that a word of it is, or the token of this number."""
        row = self._answer[sample].tolist()
        if not isinstance(where, str):
            if isinstance(where, bool) or not isinstance(where, int) or not -len(row) <= where < len(row):
                raise OptionError(
                    f"contrast names token {where!r} of the answer; expected a word of it, or 0 to {len(row) - 1}"
                )
            return [where % len(row)]
        wanted = self._ids(where, sample)
        first = place_of(wanted, row)
        if first is None:
            raise InputError(
                f"the contrast names {where!r}, which is not in the answer {self._asked.text(row)!r}; give a word of it"
            )
        if not wanted:
            raise InputError(f"contrast names {where!r}, which has no tokens; give a word of the answer")
        return list(range(first, first + len(wanted)))

    def _set(self, sample: int, places: Sequence[int], other: str) -> None:
        """Sets the tokens at ``places`` of a sample against a word, or another answer."""
        if other == RUNNER_UP:
            self._tokens[sample, list(places)] = RUNNER
            return
        if not isinstance(other, str):
            raise OptionError(f"contrast sets {other!r} against a word; expected a word, or {RUNNER_UP!r}")
        ids = self._ids(other, sample)
        if not ids:
            raise InputError("the contrast is empty: it has no tokens; give a word")
        several = len(ids) == len(places)
        self._tokens[sample, list(places)] = self._tokens.new_tensor(ids if several else ids[0])
        if not several and len(ids) > 1:
            where = f"{len(places)} {'is' if len(places) == 1 else 'are'} set against it"
            first = self._asked.names(ids)[0]
            self._notes[
                f"the contrast {other!r} has {len(ids)} tokens where {where}: its first one, {first!r}, is taken"
            ] = None


def _are_texts(contrast: object) -> TypeGuard[Sequence[str]]:
    return isinstance(contrast, (list, tuple)) and bool(contrast) and all(isinstance(text, str) for text in contrast)


def _given_ids(contrast: object, tokens: Tensor) -> Tensor:
    try:
        ids = torch.as_tensor(contrast)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(
            f"contrast is a {type(contrast).__name__}; expected a word, another answer, token ids of the answer's shape, a "
            f"mapping of words to words, or {RUNNER_UP!r}"
        ) from error
    if ids.is_floating_point() or ids.shape != tokens.shape:
        raise OptionError(
            f"contrast has shape {tuple(ids.shape)}, and the answer {tuple(tokens.shape)}; give as many token ids as it has"
        )
    return ids.to(tokens)
