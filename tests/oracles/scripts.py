"""Events of a forward pass as operators on one stream, by the parts that the modules play."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, pad

from oracles import operators as ops
from oracles.operators import Step
from oracles.seen import Event


def by_roles(events: Sequence[Event], roles: Mapping[str, str], begun: bool = False) -> tuple[list[Step], int]:
    """Steps of a model whose softmaxes are attention over all tokens, and whose mixers are modules with these roles.

    ``merge``: new tokens for the stream; ``keys``: new tokens for what asks next; ``update``: added to the stream.
    What comes before the first attention makes the tokens, unless the stream has ``begun``.

    Returns:
        The steps, and with how many tokens they start.
    """
    steps: list[Step] = []
    keys: Tensor | None = None
    for event in events:
        role = roles[event.name] if event.module else "update"
        begun = begun or event.module is None
        if role == "keys":
            keys = made_of(event) if keys is None else made_of(event) @ keys
        elif not begun:
            keys = None
        elif role == "merge":
            steps.append(Step(base=made_of(event)))
        else:
            cam = ops.whole(event.out, event.gradient) if event.module is None else cam_of(event)
            steps += [*joining(steps, cam.shape[1]), Step(cam, keys=with_joined(keys, cam.shape[2]))]
            keys = None
    began = steps[0].cam if steps[0].base is None else steps[0].base.mT
    return steps, began.shape[1]


def without_channels(
    events: Sequence[Event], tokens: int, roles: Mapping[str, str], begun: bool
) -> tuple[list[Step], int]:
    """As :func:`by_roles`, without softmaxes over channels: these weigh channels, and no token looks at another."""
    return by_roles([e for e in events if e.module or e.out.shape[-1] == tokens], roles, begun)


def side_by_side(events: Sequence[Event]) -> tuple[list[Step], int]:
    """Steps of attention, a convolution, one of its input and its output side by side in the channels, attention."""
    before, first, second, after = events
    weights = second.module.weight.detach().chunk(2, 1)
    cams = [
        ops.linear(lambda part, w=w: torch.nn.functional.conv1d(part, w, padding=1), half, second.gradient)
        for w, half in zip(weights, second.given[0].chunk(2, 1), strict=True)
    ]
    made = made_of(first)
    keys = torch.cat([torch.eye(made.shape[1], dtype=made.dtype).expand_as(made), made], 1)
    whole = [ops.whole(event.out, event.gradient) for event in (before, after)]
    return [Step(whole[0]), Step(torch.cat(cams, -1), keys=keys), Step(whole[1])], made.shape[1]


def renewing(events: Sequence[Event], alone: Sequence[int] = ()) -> tuple[list[Step], int]:
    """Steps of attention and updating modules; without a residual connection are those with fewer rows than columns, and ``alone``."""
    steps = []
    for number, event in enumerate(events):
        cam = ops.whole(event.out, event.gradient) if event.module is None else cam_of(event)
        is_new = cam.shape[1] < cam.shape[2] or number in alone
        made = ops.normalised(cam, torch.ones(cam.shape[1:]))
        steps.append(Step(base=made) if is_new else Step(cam))
    return steps, events[0].out.shape[-1]


def joining(steps: Sequence[Step], tokens: int) -> list[Step]:
    """A step for tokens that are there now, but not after these steps."""
    if not steps:
        return []
    before = next(m for m in (steps[-1].cam, steps[-1].base) if m is not None).shape[1]
    return [Step(joined=tokens - before)] if tokens > before else []


def with_joined(keys: Tensor | None, tokens: int) -> Tensor | None:
    """K, with the tokens that are asked as they are."""
    return keys if keys is None or keys.shape[1] == tokens else ops.beside(tokens - keys.shape[1], keys)


def cam_of(event: Event) -> Tensor:
    """Ā of a module that is linear in its first argument, (batch, channels, \\*places), all else given."""
    mix, x = frozen(event)
    return ops.linear(mix, x, event.gradient, heads(event.module))


def made_of(event: Event) -> Tensor:
    """M of such a module; of what has weights, all places that they touch go in."""
    return ops.normalised(cam_of(event), ops.reaching(positive(event.module), event.given[0].double()))


def frozen(event: Event) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """What happened as a linear map, and its input: of a maximum, the places are kept."""
    x, module = event.given[0].detach(), event.module
    if isinstance(module, nn.MaxPool1d):
        kept = max_pool1d(x, module.kernel_size, module.stride, module.padding, return_indices=True)[1]
        return lambda one: one.gather(-1, kept), x
    return lambda one: module(one, *event.given[1:]), x


def heads(module: nn.Module) -> int:
    """Groups of a convolution; each channel its own: one."""
    groups = getattr(module, "groups", 1)
    return 1 if groups == getattr(module, "in_channels", 0) else groups


def positive(module: nn.Module) -> nn.Module:
    """The module with all weights 1 and no bias."""
    other = deepcopy(module)
    for name, parameter in other.named_parameters():
        nn.init.constant_(parameter, float("bias" not in name))
    return other


# -- windows ------------------------------------------------------------------------------------------------------------


def swin(events: Sequence[Event]) -> tuple[list[Step], int]:
    """Steps of Swin and its kin: layers, softmaxes within, and ``reduction`` between stages."""
    steps: list[Step] = []
    layer = next(e for e in events if e.module is not None)
    for event in events:
        height, width = layer.given[1]
        if event.module is None:
            tokens = windows(height, width, layer.module.window_size, layer.module.shift_size)
            steps.append(Step(ops.blocks(event.out, event.gradient, tokens, tokens, height * width, height * width)))
        elif isinstance(event.module, nn.Linear):
            x, gradient = (t.flatten(1, -2) for t in (event.given[0], event.gradient))
            found = ops.concatenated(event.module.weight, x, gradient, quarters(height, width), height * width)
            steps.append(Step(base=ops.normalised(*found)))
        else:
            layer = event
    return steps, steps[0].cam.shape[1]


def windows(height: int, width: int, window: int, shift: int) -> Tensor:
    """(windows, window²): the token at each place of each window of the padded and shifted grid; -1: padding."""
    grid = pad(torch.arange(height * width).view(height, width), (0, -width % window, 0, -height % window), value=-1)
    rows, columns = grid.shape
    found = []
    for top in range(0, rows, window):
        for left in range(0, columns, window):
            places = [(top + i + shift, left + j + shift) for i in range(window) for j in range(window)]
            found.append([int(grid[i % rows, j % columns]) for i, j in places])
    return torch.tensor(found)


def quarters(height: int, width: int) -> Tensor:
    """(new tokens, 4): the tokens that are concatenated, column by column; -1: padding."""
    grid = pad(torch.arange(height * width).view(height, width), (0, width % 2, 0, height % 2), value=-1)
    return torch.stack([grid[i::2, j::2].flatten() for j in range(2) for i in range(2)], 1)


def timesformer(events: Sequence[Event], frames: int, patches: int) -> tuple[list[Step], int]:
    """Steps of divided attention: over the frames of a patch, then over a frame's patches and the class token (0)."""
    places = 1 + torch.arange(patches * frames).view(patches, frames)
    spaces = torch.cat([torch.zeros(frames, 1, dtype=torch.int64), places.T], 1)
    count = 1 + patches * frames
    turns = (places, spaces)
    cams = [ops.blocks(e.out, e.gradient, turns[n % 2], turns[n % 2], count, count) for n, e in enumerate(events)]
    return [Step(cam) for cam in cams], count


# -- mixed mixers -------------------------------------------------------------------------------------------------------


def convbert(events: Sequence[Event], tokens: int, heads: int) -> tuple[list[Step], int]:
    """Steps of ConvBERT: a softmax over the places of a kernel and one over all tokens, of one state, side by side."""
    spans, attentions = events[::2], events[1::2]
    cams = [span(s, tokens, heads) + ops.whole(a.out, a.gradient) for s, a in zip(spans, attentions, strict=True)]
    return [Step(cam) for cam in cams], tokens


def span(event: Event, tokens: int, heads: int) -> Tensor:
    """Ā of a kernel for each token and head, (batch · tokens · heads, places, 1)."""
    weights, gradient = (t.detach().reshape(-1, tokens, heads, t.shape[1]) for t in (event.out, event.gradient))
    local = (weights * gradient).clamp(min=0).mean(2)
    found = torch.zeros(len(local), tokens, tokens, dtype=torch.float64)
    size = local.shape[-1]
    for i in range(tokens):
        for t in range(size):
            if 0 <= (j := i + t - (size - 1) // 2) < tokens:
                found[:, i, j] = local[:, i, t]
    return found


def fnet(events: Sequence[Event]) -> tuple[list[Step], int]:
    """Steps of FNet: a Fourier transform over tokens and features, each added to the stream."""
    cams = [ops.linear(lambda x, e=e: e.module(x.mT)[0].mT, e.given[0].mT, e.gradient.mT) for e in events]
    return [Step(cam) for cam in cams], cams[0].shape[1]
