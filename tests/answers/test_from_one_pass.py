"""All tokens from one pass, by every way in which methods are computed; what is shared changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import ANSWERS, FAMILIES, SEQ2SEQ, livened, tr
from torch import nn

import heedmap
from heedmap.attention import forward
from heedmap.attention.attention import Attention
from heedmap.attention.backward import Pulls, cuts
from heedmap.attention.forward import _probe as probe
from heedmap.errors import MixingError, OptionError

LONG = [[7, 30, 9, 12, 41, 5], [21, 8, 33]]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("generic", {}), ("generic", {"normalize": False}), ("generic", {"aggregate": False}), ("generic", {"start_layer": 1}),
    ("generic", {"cam": "lrp"}), ("generic", {"memory_budget": 1}), ("rollout", {}), ("raw_attention", {}), ("attention_gradcam", {}),
    ("legrad", {}), ("partial_lrp", {}), ("input_x_gradient", {}), ("occlusion", {}),
    ("libra_generic", {}), ("libra_input_x_gradient", {}), ("grad_eclip", {}), ("token_tm", {}), ("attcat", {}), ("fullgrad_plus", {}),
    ("heedmap", {}), ("value_zeroing", {}),
]  # fmt: skip


@pytest.fixture(params=["llama", "bart", "llava"])
def asked(request: pytest.FixtureRequest) -> tuple[str, nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    family = FAMILIES[request.param]
    return request.param, family.build(), family.inputs()


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_each_step_is_the_target_at_its_row(asked: Any, method: str, options: dict[str, Any]) -> None:
    name, model, inputs = asked
    if name != "llama" and method in ("occlusion", "partial_lrp", "attention_gradcam"):
        pytest.skip("one kind of model is enough")
    if name != "llama" and method in ("token_tm", "attcat", "fullgrad_plus", "value_zeroing"):
        pytest.skip("not defined for it, or one kind of model is enough")
    inputs = {key: value[:1] for key, value in inputs.items()}
    if name == "bart":
        inputs |= {key: value[:, :3] for key, value in inputs.items()}
    found = heedmap.explain_answer(model, inputs, answer=LONG[0], method=method, **options)
    ids = "decoder_input_ids" if name == "bart" else "input_ids"
    start = torch.tensor([[2]]) if name == "bart" else inputs["input_ids"]
    given = {**inputs, ids: torch.cat([start, torch.tensor([LONG[0][:-1]])], 1)}
    if "attention_mask" in given and name != "bart":
        given["attention_mask"] = torch.ones_like(given[ids])
    targets = [heedmap.targets.NextToken(token, start.shape[1] - 1 + n) for n, token in enumerate(LONG[0])]
    expected = heedmap.explain(model, given, target=targets, method=method, **options)
    for n, own in enumerate(expected):
        for key, segment in own.segments.items():
            words = key == ("decoder" if name == "bart" else "text")
            map_ = segment.relevance[0]
            here = torch.cat([found[key][0, n], found["answer"][0, n, :-1]]) if words else found[key][0, n]
            if words:
                map_ = map_.clone()
                map_[start.shape[1] + n :] = 0
            assert torch.allclose(here, map_, rtol=1e-5, atol=1e-7 * float(map_.abs().max()))


@pytest.mark.parametrize("name", ["gpt2", "llava", "paligemma"])
def test_keys_that_no_row_of_a_block_may_look_at_are_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, inputs, answers = FAMILIES[name].build(), FAMILIES[name].inputs(), [LONG[0], LONG[1]]
    whole = heedmap.explain_answer(model, inputs, answer=answers)
    seen: dict[int, set[int]] = {}

    def gradient(self: Attention, *given: Any) -> torch.Tensor:
        found = plain(self, *given)
        seen.setdefault(self.index, set()).add(found.shape[-1])
        return found

    plain = Attention.gradient
    monkeypatch.setattr(Attention, "gradient", gradient)
    monkeypatch.setattr("heedmap.methods.method.BLOCK", 600)
    found = heedmap.explain_answer(model, inputs, answer=answers)
    assert any(len(sizes) > 1 for sizes in seen.values())
    for key, segment in whole.segments.items():
        assert torch.allclose(found[key], segment.relevance, rtol=1e-6, atol=1e-9 * float(segment.relevance.max()))


def test_the_head_is_pulled_back_once() -> None:
    torch.manual_seed(0)
    model = FAMILIES["gpt2"].build()
    outs: list[torch.Tensor] = []
    for block in model.transformer.h:
        block.attn.c_proj.register_forward_pre_hook(lambda _, given: outs.append(given[0]))
    logits = model(torch.arange(9)[None] + 5).logits
    *_, last = cuts(logits, outs)
    assert last is outs[-1].grad_fn.next_functions[0][0] or last._input_metadata[0].shape[-1] == 16
    rows, tokens = torch.arange(3, 9), torch.arange(6)
    values = logits[0, rows, tokens][None]
    pulls = Pulls(logits, values, rows[None], outs)
    assert pulls.edge is not None
    for n in range(6):
        for mine, own in zip(pulls.at(n), torch.autograd.grad(values[0, n], outs, retain_graph=True), strict=True):
            assert torch.allclose(mine, own, rtol=1e-9, atol=1e-12)


def test_logits_are_computed_where_the_answer_is_said_and_the_proof_holds_for_any_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model, prompt = FAMILIES["gpt2"].build(), torch.arange(5, 12)[None]
    places: list[int] = []
    model.lm_head.register_forward_pre_hook(lambda _, given: places.append(given[0].shape[1]))
    proofs: list[int] = []
    monkeypatch.setattr(forward, "_probe", lambda *given: (proofs.append(1), probe(*given))[1])
    for answer in ([7, 30, 9, 12, 41], [7, 30, 9]):
        places.clear()
        heedmap.explain_answer(model, {"input_ids": prompt}, answer=answer, contrast="runner-up")
        assert set(places) == {1, len(answer)}, "of the first token alone, and of the answer"
    assert len(proofs) == 1


class LooksAround(nn.Module):
    """A causal model whose last layer's state is shifted: each place has that of the next one too."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits = self.inner(input_ids, use_cache=False).logits
        return logits + logits.roll(-1, 1)


@pytest.mark.parametrize(("options", "words"), [({}, "other tokens"), ({"probe": False}, "the tokens after it")])
def test_a_model_that_looks_ahead_is_refused(options: dict[str, Any], words: str) -> None:
    torch.manual_seed(0)
    model, inputs = LooksAround(FAMILIES["llama"].build()), {"input_ids": torch.tensor([[5, 6, 7]])}
    with pytest.raises(MixingError, match=f"depends on {words}"):
        heedmap.explain_answer(model, inputs, answer=[8, 9, 10, 11, 12], **options)


def test_progress_is_told_and_whole_maps_are_refused() -> None:
    torch.manual_seed(0)
    model, told = FAMILIES["llama"].build(), []
    inputs = FAMILIES["llama"].inputs()
    heedmap.explain_answer(model, inputs, answer=ANSWERS, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (4, 4)
    with pytest.raises(OptionError, match="whole maps"):
        heedmap.explain_answer(model, inputs, answer=ANSWERS, full=True)


def test_the_pass_has_no_cache_without_which_alone_this_decoder_looks_at_no_later_token() -> None:
    torch.manual_seed(0)
    config = tr.FSMTConfig(src_vocab_size=50, tgt_vocab_size=50, langs=["en", "de"], **SEQ2SEQ)
    model, prompt = livened(tr.FSMTForConditionalGeneration(config)), torch.tensor([[5, 6, 11, 40, 13]])
    found = heedmap.explain_answer(model, {"input_ids": prompt}, answer=[ANSWERS[0]])
    for step, token in enumerate(ANSWERS[0]):
        begun = torch.tensor([[2, *ANSWERS[0][:step]]])
        inputs = {"input_ids": prompt, "decoder_input_ids": begun, "use_cache": False}
        alone = heedmap.explain(model, inputs, target=heedmap.targets.NextToken(token))
        assert float(found.scores[0, step]) == pytest.approx(float(alone.scores[0]), abs=1e-5)
        assert torch.allclose(
            found["text"][0, step], alone["text"][0], atol=1e-5 * float(alone["text"].max()), rtol=1e-4
        )
