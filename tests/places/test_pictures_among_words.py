"""Vision–language models whole, in float64: a dense language model, a tower in windows or pictures, and what merges its patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
import transformers
from placed_models import apart
from torch import Tensor, nn

import heedmap
from oracles import operators as ops
from oracles.operators import Step
from oracles.seen import Event, seen

IMAGE = 51
CLOSE = 1e-6
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
WORDS = {**SMALL, "vocab_size": 60, "max_position_embeddings": 80, "pad_token_id": 0, "bos_token_id": 1,
         "eos_token_id": 2, "num_key_value_heads": 1}  # fmt: skip
VISION = {**SMALL, "image_size": 16, "patch_size": 4}
pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Case:
    """A model class with a tiny configuration, and one text with its pictures.

    Attributes:
        build: the model, with random weights.
        inputs: of one sample, the ``n``-th of a batch.
        tokens: of each softmax of the tower, in order, the patches (of all pictures) of its rows, (blocks, rows).
        patches: how many patches all pictures have, with what else stands among them.
        merge: the path of the linear map that reads merged patches; "": none does.
        parents: for each row of that map, else for each token among the words, the patches that it is made of.
        grids: of the pictures' patches, and of their tokens among the words.
        order: the patches of each picture, row by row.
        rows: which row of the linear map each token among the words is; None: as they stand.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Tensor]]
    tokens: Callable[[], list[Tensor]]
    patches: int
    merge: str
    parents: Tensor
    grids: tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]
    order: Sequence[Tensor]
    rows: Tensor | None = None


def target(output: Any) -> Tensor:
    return 10 * output.logits[:, -1, 7]


def ready(case: Case) -> nn.Module:
    """In float64, with weights so large that attention is not uniform."""
    torch.manual_seed(0)
    model = case.build().double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
            elif name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) / 10)
    return model


def given(case: Case, sample: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(1 + sample)
    return {k: v.double() if v.is_floating_point() else v for k, v in case.inputs(sample).items()}


def expected(case: Case, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Relevance of all tokens of the language model, and of all patches, from dense matrices."""
    other = deepcopy(model)
    other.set_attn_implementation("eager")
    events = seen(other, inputs, target, tuple(filter(None, [case.merge])))
    softmaxes = [e for e in events if e.module is None]
    tower, language = softmaxes[: len(case.tokens())], softmaxes[len(case.tokens()) :]
    words = inputs["input_ids"].shape[1]
    R = ops.chained([Step(ops.whole(e.out, e.gradient)) for e in language], 1, words)
    row = ops.read(R, -1, -1)
    steps = [
        Step(ops.blocks(e.out, e.gradient, tokens, tokens, case.patches, case.patches))
        for e, tokens in zip(tower, case.tokens(), strict=True)
    ]
    towards = ops.read(R, -1)[:, inputs["input_ids"][0] == IMAGE]
    made = merged(case, next((e for e in events if e.module is not None), None))
    return row, (towards @ made[None] @ ops.chained(steps, 1, case.patches).sum(0, keepdim=True))[0]


def merged(case: Case, event: Event | None) -> Tensor:
    """(tokens among the words, patches): of what each is made."""
    if event is None:
        return torch.eye(case.patches, dtype=torch.float64)[case.parents[:, 0]]
    x, gradient = (t.detach().reshape(1, -1, t.shape[-1]) for t in (event.given[0], event.gradient))
    M = ops.normalised(*ops.concatenated(event.module.weight, x, gradient, case.parents, case.patches))[0]
    return M if case.rows is None else M[case.rows]


# -- models -------------------------------------------------------------------------------------------------------------


def words(sample: int, count: int) -> dict[str, Tensor]:
    ids = torch.tensor([[7, *[IMAGE] * count, 9 + sample, 10]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


GRIDS = [(4, 4), (2, 6)]


def blocks_of_four(height: int, width: int) -> Tensor:
    """The places of a picture whose patches are packed block by block, (height, width)."""
    places = torch.arange(height * width).reshape(height // 2, width // 2, 2, 2)
    return places.permute(0, 2, 1, 3).reshape(height, width)


def qwen(kind: str, **vision: Any) -> nn.Module:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    text = {**WORDS, "rope_parameters": rope, "rope_scaling": rope, "head_dim": 8}
    tower = {"depth": 2, "hidden_size": 16, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2,
             "temporal_patch_size": 2, **vision}  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(
        vision_config=tower, text_config=text, image_token_id=IMAGE, video_token_id=52, vision_start_token_id=53
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config)


def packed(grids: Sequence[tuple[int, int]], sample: int) -> dict[str, Tensor]:
    """Words, and pictures of these grids one after another; a second sample has the first picture only."""
    own = grids[: len(grids) - sample]
    counts = [height * width for height, width in own]
    ids = [7, *(i for n in counts for i in (53, *[IMAGE] * (n // 4), 54)), 9 + sample]
    ids = torch.tensor([[*ids, *[10] * (20 - len(ids))]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": (ids == IMAGE).long(),
            "pixel_values": torch.randn(sum(counts), 96),
            "image_grid_thw": torch.tensor([[1, *grid] for grid in own])}  # fmt: skip


def one_after_another(counts: Sequence[int]) -> list[Tensor]:
    return [part[None] for part in torch.arange(sum(counts)).split(list(counts))]


def of_qwen(kind: str, **vision: Any) -> Case:
    """Two pictures of unequal size; each is asked by itself."""
    return Case(
        lambda: qwen(kind, **vision),
        lambda sample: packed(GRIDS, sample),
        lambda: one_after_another([16, 12]) * 2,
        28,
        r"merger\.(mlp\.0|linear_fc1)",
        torch.arange(28).reshape(7, 4),
        (GRIDS, [(2, 2), (1, 3)]),
        [blocks_of_four(4, 4).flatten(), 16 + blocks_of_four(2, 6).flatten()],
    )


def in_windows() -> Case:
    """8 × 8 patches in blocks of four; windows of 2 × 2 blocks, then all; blocks are in the windows' order until they are merged."""
    blocks = [4 * (2 * down + i) + 2 * right + j for down, right, i, j in product(range(2), repeat=4)]
    standing = torch.tensor([4 * block + n for block in blocks for n in range(4)])
    return Case(
        lambda: qwen("Qwen2_5_VL", out_hidden_size=16, intermediate_size=24, window_size=16, fullatt_block_indexes=[1]),
        lambda sample: packed([(8, 8)], sample),
        lambda: [*(window[None] for window in standing.split(16)), standing[None]],
        64,
        r"merger\.mlp\.0",
        standing.reshape(16, 4),
        ([(8, 8)], [(4, 4)]),
        [blocks_of_four(8, 8).flatten()],
        rows=torch.tensor(blocks).argsort(),
    )


def llava() -> nn.Module:
    config = transformers.LlavaConfig(
        vision_config={**VISION, "model_type": "clip_vision_model"}, text_config={**WORDS, "model_type": "llama"},
        image_token_index=IMAGE, image_seq_length=16, vision_feature_layer=-1,
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config)


def idefics() -> nn.Module:
    config = transformers.Idefics3Config(
        vision_config=VISION, text_config={**WORDS, "model_type": "llama"}, image_token_id=IMAGE, scale_factor=2
    )
    return transformers.Idefics3ForConditionalGeneration(config)


def quarters(pictures: int) -> Tensor:
    """Of pictures of 4 × 4 patches, the four that become one token."""
    squares = [[4 * (2 * R + i) + 2 * C + j for i in range(2) for j in range(2)] for R in range(2) for C in range(2)]
    return torch.tensor([[16 * p + t for t in square] for p in range(pictures) for square in squares])


seen_whole = torch.ones(1, 2, 16, 16, dtype=torch.int64)
"""The mask that Idefics' processor gives with pictures of equal size; of it, the model makes the patches' places."""
with_class = torch.arange(34).reshape(2, 17)
CASES = {
    "qwen2-vl, two pictures": of_qwen("Qwen2VL", embed_dim=16, mlp_ratio=2),
    "qwen2.5-vl, windows": in_windows(),
    "llava, two pictures": Case(
        llava,
        lambda sample: {**words(sample, 32), "pixel_values": torch.randn(2, 3, 16, 16)},
        lambda: [with_class] * 2,
        34,
        "",
        with_class[:, 1:].reshape(-1, 1),
        ([(4, 4)] * 2, [(4, 4)] * 2),
        list(with_class[:, 1:]),
    ),
    "idefics3, two pictures": Case(
        idefics,
        lambda sample: {
            **words(sample, 8),
            "pixel_values": torch.randn(1, 2, 3, 16, 16),
            "pixel_attention_mask": seen_whole,
        },
        lambda: [torch.arange(32).reshape(2, 16)] * 2,
        32,
        r"connector\.modality_projection\.proj",
        quarters(2),
        ([(4, 4)] * 2, [(2, 2)] * 2),
        list(torch.arange(32).reshape(2, 16)),
    ),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every
def test_it_is_the_map_of_dense_matrices(case: Case) -> None:
    model, inputs = ready(case), given(case)
    found = heedmap.explain(model, inputs, target=target)
    row, patches = expected(case, model, inputs)
    for name, parts in segments(found).items():
        assert [s.grid for s in parts] == case.grids[name == "image"]
    for part, order in zip(segments(found)["image_encoder"], case.order, strict=True):
        assert float(part.relevance.max()) > 1e-6
        assert apart(part.relevance.double(), patches[:, order]) <= CLOSE
    for part in (*segments(found)["image"], found.segments["text"]):
        places = part.positions[:, part.positions[0] >= 0]
        assert apart(part.relevance.double()[part.positions >= 0], row.gather(1, places)[0]) <= CLOSE
    tokens = torch.cat([s.positions[0] for s in segments(found)["image"]])
    assert sorted(tokens.tolist()) == (inputs["input_ids"][0] == IMAGE).nonzero()[:, 0].tolist()


def test_patches_that_are_added_in_a_later_layer_are_an_update() -> None:
    case = of_qwen(
        "Qwen3VL", out_hidden_size=16, intermediate_size=24, num_position_embeddings=16, deepstack_visual_indexes=[0]
    )
    model, inputs = ready(case), given(case)
    other = deepcopy(model)
    other.set_attn_implementation("eager")
    events = seen(other, inputs, target, (r"merger\.linear_fc1", r"deepstack_merger_list\.0\.linear_fc1"))
    (added, last), softmaxes = ([e for e in events if (e.module is None) == soft] for soft in (False, True))
    tower = [
        Step(ops.blocks(e.out, e.gradient, tokens, tokens, case.patches, case.patches))
        for e, tokens in zip(softmaxes, case.tokens(), strict=False)
    ]
    seen_first, seen_last = (ops.chained(tower[:n], 1, case.patches) for n in (2, 4))
    x, gradient = (t.detach().reshape(1, -1, t.shape[-1]) for t in (added.given[0], added.gradient))
    cam = ops.concatenated(added.module.weight, x, gradient, case.parents, case.patches)[0]
    first, second = (ops.whole(e.out, e.gradient) for e in softmaxes[4:])
    places = inputs["input_ids"][0] == IMAGE
    patches = torch.zeros(1, len(places), case.patches, dtype=torch.float64)
    patches[:, places] = merged(case, last)[None] @ seen_last
    patches = patches + first @ patches
    patches[:, places] += cam @ seen_first
    patches = (patches + second @ patches)[:, -1]
    found = heedmap.explain(model, inputs, target=target)
    for part, order in zip(segments(found)["image_encoder"], case.order, strict=True):
        assert apart(part.relevance.double(), patches[:, order]) <= CLOSE


def segments(found: heedmap.Explanation) -> dict[str, list[heedmap.Segment]]:
    """The pictures among the words, and in their encoder."""
    known = {"image": [], "image_encoder": []}
    for segment in found.segments.values():
        known.get(segment.name.rstrip("0123456789"), []).append(segment)
    return known


@every
def test_fused_attention_is_eager_attention(case: Case) -> None:
    model, inputs = ready(case), given(case)
    fused = heedmap.explain(model, inputs, target=target)
    model.set_attn_implementation("eager")
    eager = heedmap.explain(model, inputs, target=target)
    assert fused.segments.keys() == eager.segments.keys()
    for name in fused.segments:
        assert apart(eager[name], fused[name]) <= CLOSE


@pytest.mark.parametrize("case", [c for c in CASES.values() if len(c.order) > 1], ids=[n for n in CASES if "two" in n])
def test_a_batch_is_its_samples_one_by_one(case: Case) -> None:
    model, samples = ready(case), [given(case, sample) for sample in range(2)]
    together = {name: torch.cat([one[name] for one in samples]) for name in samples[0]}
    found = heedmap.explain(model, together, target=target)
    for number, inputs in enumerate(samples):
        alone = heedmap.explain(model, inputs, target=target)
        for name, segment in found.segments.items():
            if name in alone.segments:
                own = alone.segments[name].relevance
                assert apart(segment.relevance[number : number + 1, : own.shape[1]], own) <= CLOSE
            else:
                assert not segment.relevance[number].any()
                assert bool((segment.positions[number] == -1).all())
