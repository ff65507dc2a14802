"""Every error heedmap raises on purpose, on one page.

Each message says what was given, what was expected, and what to do.
"""


class HeedmapError(Exception):
    """Base class of all errors that heedmap raises on purpose.

    Examples:
        >>> import heedmap
        >>> try:
        ...     heedmap.load("zoo/gpt-lists").explain(text="dog red ? dog", target=99)
        ... except heedmap.HeedmapError as error:
        ...     print(type(error).__name__, error)
        TargetError token 99 is out of range: there are 60, 0 to 59
    """


class InputError(HeedmapError, ValueError):
    """The inputs do not fit the model: missing, of unequal batch size, of the wrong kind."""


class SampleError(InputError):
    """One sample of a data set cannot be used; an evaluation skips, counts and lists it."""


class TargetError(HeedmapError, ValueError):
    """The target does not fit the model's output: out of range, of the wrong shape, or impossible to find."""


class OptionError(HeedmapError, TypeError):
    """An unknown option, or an option with a value it cannot have."""


class UnknownNameError(HeedmapError, ValueError):
    """An unknown method, stream, segment or label; the message lists the known ones."""


class AttentionError(HeedmapError):
    """The model's attention cannot be explained."""


class NoAttentionError(AttentionError):
    """No softmax attention was seen in the forward pass (a CNN, an LSTM, factorised attention)."""


class UnfollowedAttentionError(AttentionError):
    """Attention was seen, but of a form that the recorder cannot follow."""


class MixingError(AttentionError):
    """The mixing probe found tokens that mix, or change places, outside recorded attention."""


class MissingRuleError(HeedmapError):
    """Relevance propagation met an operation that it has no rule for, or a tensor that was overwritten."""


class GradientError(HeedmapError):
    """No usable gradient: no path to the attention, quantised weights, or a non-finite value."""


class OutOfMemoryError(HeedmapError, MemoryError):
    """Memory ran out, and the call cannot be made smaller; the message says what the least is, where that is known."""


class ModelStateError(HeedmapError, RuntimeError):
    """The call cannot work in the present state of torch or of the model, such as under inference mode."""


class ModelLoadError(HeedmapError):
    """A model or its processor cannot be loaded."""


class FileFormatError(HeedmapError, ValueError):
    """A file is truncated, damaged, of a newer version, or not one of heedmap's."""


class OutputError(HeedmapError, OSError):
    """A file or folder cannot be written."""


class ClusterError(HeedmapError, ConnectionError):
    """A cluster cannot be reached, or was lost; what was written is whole."""


class TrainingError(HeedmapError, RuntimeError):
    """A training cannot go on: its loss is not finite."""


class TimeLimitError(HeedmapError, TimeoutError):
    """A request took longer than it may."""


class MissingLibraryError(HeedmapError, ImportError):
    """A library that only some extras of heedmap need is not installed; the message says which to install."""
