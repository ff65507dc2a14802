"""Every token of a 64-token answer, against the usual recipe; and the memory of a long answer.

The usual recipe runs an eager forward pass on the prompt and the tokens before each token, a full backward pass that keeps the
gradient of every attention matrix, and multiplies dense R. It is timed on some of the tokens, evenly spread, and multiplied.

    python bench/answers.py            both models
    python bench/answers.py --long 6   peak memory of 512 tokens over 2,048, after so many of them
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import heedmap

ANSWER, PROMPT, IMAGE, SAMPLED = 64, 256, 49_999, 4
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


def compared(name: str, make: Callable[..., tuple[nn.Module, Inputs]]) -> dict[str, Any]:
    """Seconds of both, and how far the maps are from each other."""
    answer = torch.randint(5, 40_000, (1, ANSWER))
    model, inputs = make("eager")
    places = range(0, ANSWER, ANSWER // SAMPLED)
    rows, seconds = [], []
    for n in places:
        start = time.perf_counter()
        rows.append(usual(model, inputs, answer[:, :n], int(answer[0, n])))
        seconds.append(time.perf_counter() - start)
    del model
    model, inputs = make()
    heedmap.explain_answer(model, inputs, answer=answer[:, :2])  # the proof, once for a model
    start = time.perf_counter()
    found = heedmap.explain_answer(model, inputs, answer=answer)
    own = time.perf_counter() - start
    length, worst = inputs["input_ids"].shape[1], 0.0
    for n, row in zip(places, rows, strict=True):
        words = inputs["input_ids"][0] != IMAGE
        words[-1] &= n > 0
        difference = (found["text"][0, n] - row[:length])[words].abs().max() / row[:-1].max()
        worst = max(worst, float(difference))
    recipe = sum(seconds) / len(seconds) * ANSWER
    return {"model": name, "usual": recipe, "heedmap": own, "ratio": recipe / own, "difference": worst}


class Enough(Exception):
    """So many tokens were explained as were asked for."""


def long(steps: int) -> None:
    """Peak memory and the time of a token, of 512 tokens over 2,048."""
    model, _ = gpt2(positions=2560)
    inputs = {"input_ids": torch.randint(0, 40_000, (1, 2048))}
    answer = torch.randint(0, 40_000, (1, 512))
    told: list[float] = []

    def progress(done: int, of: int) -> None:
        told.append(time.perf_counter())
        print(f"{done} of {of}: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB", flush=True)
        if done >= steps:
            raise Enough

    try:
        heedmap.explain_answer(model, inputs, answer=answer, progress=progress)
    except Enough:
        print(f"{(told[-1] - told[0]) / max(1, len(told) - 1):.1f} s between two reports")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--long", type=int, default=0, help="tokens of the long answer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=["gpt2", "llava"], nargs="*", default=["gpt2", "llava"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.long:
        long(given.long)
        return
    for name in given.model:
        print(compared(name, {"gpt2": gpt2, "llava": llava}[name]), flush=True)


if __name__ == "__main__":
    main()
