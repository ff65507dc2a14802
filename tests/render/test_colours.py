import pytest

from heedmap.errors import OptionError
from heedmap.render.scale import colour, table


def _luminance(colour_: str) -> float:
    channels = [int(colour_[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_more_relevance_is_darker_on_paper():
    levels = [_luminance(colour(i / 50)) for i in range(51)]
    assert levels == sorted(levels, reverse=True)


def test_unknown_map():
    with pytest.raises(OptionError, match="viridis"):
        table("no-such-map")
