"""The result of an explanation: its data, which shows itself in pictures, pages and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heedmap.data.explanation import ExplanationData, difference

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from matplotlib.figure import Figure
    from PIL.Image import Image

    from heedmap.data.picture import Picture
    from heedmap.render.sound import Sound


class Explanation(ExplanationData):
    """Which parts of the input one prediction per sample rests on.

    ``explanation["text"]`` is the relevance of a segment, (batch, tokens), float32; a notebook shows an explanation by
    itself.

    Attributes:
        segments: by name.
        target: for each sample, what was explained, in words.
        scores: (batch,), float32: the target's value; of an answer (batch, steps).
        prediction: (batch,), int64: the top class of each sample; None where the output has no classes.
        prediction_labels: their names, where the model has names.
        method: name of the method, a key of ``heedmap.METHODS``.
        options: the method's options as used.
        flow: the attentions, streams and rows read.
        maps: with ``full=True`` the whole R^{sx}, keyed by (s, x), (batch, rows, columns), float32.
        top: the most probable answers (``labels``, ``probabilities``, and the ``target``'s), where the output has classes.
        origin: the model's name and class, and the versions of the libraries; no part of what is compared by ``==``.
        answer: of :func:`heedmap.explain_answer` the answer, token by token: then relevance is (batch, steps, tokens),
            :meth:`step` and :meth:`span` give the map of a token and of several, and what draws an explanation draws the
            mean over the answer; else None.
        box: (batch, 4), float32, x1 y1 x2 y2 as shares of what the model saw: of the object that is explained; None where the
            target is no object, or the model gives no boxes.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> explanation = subject.explain(text=["dog red ? dog", "sun green ? sun"])
        >>> explanation["text"].shape, explanation.prediction_labels
        (torch.Size([2, 4]), ('red', 'green'))
        >>> for word, value in zip(explanation.segments["text"].labels[1], explanation["text"][1]):
        ...     print(f"{word} {value:.2f}")
        sun 0.00
        green 0.31
        ? 0.00
        sun 0.00
        >>> explanation.sample(1)
        Explanation(generic, batch 1, target "token 36 ('green') after position 3", text 4)

        It goes to a file and comes back:

        >>> explanation.save("explanation.safetensors")
        >>> heedmap.Explanation.load("explanation.safetensors") == explanation
        True
    """

    def difference(self, other: Explanation) -> Explanation:
        """What changed from this map to ``other``, of the same input edited: its relevance less this one's, token by token.

        Tokens of a text stand for each other where they are the same, in their order, or replace each other one by one;
        those that only one of the two has are told in ``flow.notes``. All else goes by place. It is drawn on a scale around 0.

        Args:
            other: by the same method with the same options, of as many samples.

        Returns:
            The segments of ``other``, float32; ``scores`` are differences too; it has no ``top`` and no ``maps``.

        Raises:
            InputError: of another method or other options, with other parts, of another size, or of a whole answer.

        Examples:
            >>> import heedmap
            >>> subject = heedmap.load("zoo/gpt-lists")
            >>> asked = "dog red ; cat {} ; sun green ? cat".format
            >>> before, after = (subject.explain(text=asked(word), target="blue") for word in ("blue", "red"))
            >>> change = before.difference(after)
            >>> change.segments["text"].labels[0][4], bool(change.scores[0] < 0)
            ('red', True)
        """
        return difference(self, other)

    def words(self, index: int = 0) -> list[tuple[str, int, int]]:
        """The words of sample ``index``'s answer: each with its first token and the one after its last, for :meth:`span`.

        Raises:
            InputError: the explanation is of no answer, or there is no such sample.
        """
        from heedmap.render.answer_page import answer_words

        said = answer_words(self, index)
        return [(word.text, word.tokens[0], word.tokens[-1] + 1) for word in said]

    def to_html(self, index: int = 0, image: Image | None = None) -> str:
        """Sample ``index`` as one self-contained HTML page; every piece of user text is escaped.

        Args:
            index: the sample.
            image: PIL, as the model saw it (``Model.shown_image``), to lay the map of its patches on.
        """
        from heedmap.render.files import page

        return page(self, index, image)

    def overlay(self, image: Image | Picture, index: int = 0, segment: str = "image", **options: object) -> Image:
        """A PIL image: ``image`` with the relevance of ``segment`` laid over it.

        Args:
            image: PIL, as the model saw it (``Model.shown_image``); or ``Model.picture``'s, of the original.
            index: the sample.
            segment: one of patches.
            options: ``alpha``, ``cmap``, ``opacity``, ``contour``, ``patches``, ``mute``, ``theme``, and ``scale``, one that
                several maps share: see :mod:`heedmap.render.overlay`.
        """
        from heedmap.render.files import check_options
        from heedmap.render.overlay import overlay

        draw: Callable[..., Image] = overlay
        check_options(draw, options, "an overlay")
        whole = self if self.answer is None else self.span()
        return draw(image, whole.segment(segment), index, **options)

    def plot(
        self, index: int = 0, image: Image | Picture | None = None, sound: Sound | None = None, **options: object
    ) -> Figure:
        """A matplotlib figure of all segments of sample ``index``.

        Args:
            index: the sample.
            image: see :meth:`overlay`; None: patches are drawn as a grid.
            sound: what was heard, (samples,), and samples a second: its wave is drawn with the relevance of its frames.
            options: ``theme`` (``"light"`` or ``"dark"``), ``width`` in inches, with which all grows, letters too, ``dpi``,
                ``title`` (False: none), and those of :meth:`overlay` but ``scale``; of an answer of these ``cmap``, ``alpha``
                and ``mute`` alone.

        Raises:
            OptionError: no such option, or a value that it cannot have.
            UnknownNameError: no such theme.
        """
        from heedmap.render.files import figure

        return figure(self, index, image, sound, **options)

    def _repr_html_(self) -> str:
        from heedmap.render.files import page_fragment

        return page_fragment(self)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """What a notebook shows: HTML, where it cannot show that a picture, and text; all of sample 0."""
        from heedmap.render.files import bundle

        return bundle(self, include, exclude)
