"""Methods by name. ``METHODS`` is what the command line, the docs and the conformance tests iterate."""

from heedmap.methods import generic, last, random, rollout
from heedmap.methods.method import Method

METHODS: dict[str, Method] = {
    method.name: method
    for method in (generic.METHOD, last.RAW_ATTENTION, rollout.METHOD, last.ATTENTION_GRADCAM, random.METHOD)
}
"""Every method, by name."""

__all__ = ["METHODS", "Method"]
