"""Every token of a 64-token answer, against the usual recipe; and the memory of a long answer.

The usual recipe runs an eager forward pass on the prompt and the tokens before each token, a full backward pass that keeps the
gradient of every attention matrix, and multiplies dense R. It is timed on some of the tokens, in the same run, between heedmap's
steps, and their median is multiplied: seconds on the wall, and of the processor, which tell more where others use it too.

    python bench/answers.py            both models
    python bench/answers.py --long 6   peak memory of 512 tokens over 2,048, after so many of those of the last part
    python bench/answers.py --whole    all 512 of them (hours of a core), and three against their prefix explained alone
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import heedmap
from heedmap.models.forced import part_ends

ANSWER, PROMPT, IMAGE = 64, 256, 49_999
SIZE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
Inputs = dict[str, Tensor]


def gpt2(attention: str = "sdpa", positions: int = 1024) -> tuple[nn.Module, Inputs]:
    """GPT-2 small with random weights, and a prompt."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(attn_implementation=attention, n_positions=positions)).eval()
    return model, {"input_ids": torch.randint(0, 40_000, (1, PROMPT))}


def llava(attention: str = "sdpa") -> tuple[nn.Module, Inputs]:
    """A language model of GPT-2 small's size over the 576 patches of a picture of 336 pixels, by a tower of ViT-B's size."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    vision = {**SIZE, "model_type": "clip_vision_model", "image_size": 336, "patch_size": 14}
    text = {
        **SIZE,
        "model_type": "llama",
        "num_key_value_heads": 12,
        "vocab_size": IMAGE + 1,
        "max_position_embeddings": 4096,
    }
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE, attn_implementation=attention)
    words = torch.randint(5, 40_000, (1, 32))
    ids = torch.cat([words[:, :8], torch.full((1, 576), IMAGE), words[:, 8:]], 1)
    pixels = torch.randn(1, 3, 336, 336)
    model = LlavaForConditionalGeneration(config).eval()
    return model, {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)}


def usual(model: nn.Module, inputs: Inputs, before: Tensor, token: int) -> Tensor:
    """One token by the usual recipe: the last row of R of the language model, (tokens,)."""
    ids = torch.cat([inputs["input_ids"], before], 1)
    model.zero_grad()
    output = model(
        **{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}, output_attentions=True, use_cache=False
    )
    for attention in output.attentions:
        attention.retain_grad()
    output.logits[0, -1, token].backward()
    R = torch.eye(ids.shape[1])
    for attention in output.attentions:
        cam = (attention.grad * attention.detach())[0].clamp(min=0).mean(0)
        R = R + cam @ R
    return R[-1]


class Clock:
    """Seconds of the clock on the wall, and of the processor in all threads of this process."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def passed(self) -> tuple[float, float]:
        """Since it was made."""
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def compared(name: str, make: Callable[..., tuple[nn.Module, Inputs]]) -> dict[str, Any]:
    """Seconds (wall, processor) of both in one run, the recipe between heedmap's steps; and how far the maps are apart."""
    answer = torch.randint(5, 40_000, (1, ANSWER))
    eager, _ = make("eager")
    model, inputs = make()
    heedmap.explain_answer(model, inputs, answer=answer[:, :2])  # the proof, once for a model
    rows: dict[int, Tensor] = {}
    spent: list[tuple[float, float]] = []

    def between(done: int, _: int) -> None:
        clock = Clock()
        rows[done - 1] = usual(eager, inputs, answer[:, : done - 1], int(answer[0, done - 1]))
        eager.zero_grad()
        spent.append(clock.passed())

    clock = Clock()
    found = heedmap.explain_answer(model, inputs, answer=answer, progress=between)
    whole = clock.passed()
    own = [all_of - sum(other) for all_of, other in zip(whole, zip(*spent, strict=True), strict=True)]
    recipe = [statistics.median(other) * ANSWER for other in zip(*spent, strict=True)]
    worst, words = 0.0, inputs["input_ids"][0] != IMAGE
    for n, row in rows.items():
        own_row = torch.cat([found["text"][0, n], found["answer"][0, n, :n]])
        kept = torch.cat([words, torch.ones(n, dtype=torch.bool)])
        kept[-1] = False  # itself
        worst = max(worst, float((own_row - row)[kept].abs().max() / row[:-1].max()))
    seconds, processor = (r / o for r, o in zip(recipe, own, strict=True))
    return {
        "model": name, "usual": recipe, "heedmap": own, "ratio": seconds, "ratio of the processor's": processor,
        "tokens timed": len(rows), "difference": worst,
    }  # fmt: skip


class Enough(Exception):
    """So many tokens were explained as were asked for."""


def long(steps: int) -> None:
    """Peak memory and the time of a token, of the last of the parts in which 512 tokens over 2,048 are explained: the largest."""
    model, _ = gpt2(positions=2560)
    *_, before, _ = part_ends(2048, 512)
    inputs = {"input_ids": torch.randint(0, 40_000, (1, 2048 + before))}
    answer = torch.randint(0, 40_000, (1, 512 - before))
    told: list[float] = []

    def progress(done: int, of: int) -> None:
        told.append(time.perf_counter())
        print(f"{done} of {of}: peak {_peak():.2f} GiB", flush=True)
        if done >= steps:
            raise Enough

    try:
        heedmap.explain_answer(model, inputs, answer=answer, progress=progress)
    except Enough:
        print(f"{(told[-1] - told[0]) / max(1, len(told) - 1):.1f} s between two reports")


def whole() -> None:
    """All 512 tokens over 2,048: peak memory, time, and how far three of the rows lie from those of their prefix alone."""
    model, _ = gpt2(positions=2560)
    text = torch.randint(0, 40_000, (1, 2560))
    wall, processor = time.perf_counter(), time.process_time()

    def progress(done: int, of: int) -> None:
        took = f"{(time.perf_counter() - wall) / 60:.1f} min, of the processor {(time.process_time() - processor) / 60:.1f}"
        print(f"{done} of {of}: peak {_peak():.2f} GiB, {took}", flush=True)

    explanation = heedmap.explain_answer(model, {"input_ids": text[:, :2048]}, answer=text[:, 2048:], progress=progress)
    print(f"whole: peak {_peak():.2f} GiB", flush=True)
    for step in (0, 255, 511):
        alone = heedmap.explain_answer(model, {"input_ids": text[:, : 2048 + step]}, answer=text[:, 2048 + step, None])
        row = torch.cat([explanation["text"][0, step], explanation["answer"][0, step, :step]])
        expected = alone["text"][0, 0]
        print(
            f"token {step}: {float((row - expected).abs().max() / expected.abs().max()):.1e} of the largest", flush=True
        )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--long", type=int, default=0, help="tokens of the long answer")
    parser.add_argument("--whole", action="store_true", help="the whole long answer")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--model", choices=["gpt2", "llava"], nargs="*", default=["gpt2", "llava"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.long:
        long(given.long)
        return
    if given.whole:
        whole()
        return
    for name in given.model:
        print(compared(name, {"gpt2": gpt2, "llava": llava}[name]), flush=True)


if __name__ == "__main__":
    main()
