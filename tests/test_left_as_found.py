"""A model is left as it was found, to the last bit: after everything that heedmap does with one, however it ends.

:data:`CASES` names all of it. Each runs on a model in the state of a training that was broken off: some modules in training
mode, some parameters frozen, some gradients there, a loss kept for later, hooks on every module.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pkgutil
import random
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch._dynamo
import torch.utils.checkpoint
from torch import Tensor, nn
from transformers import BertForMultipleChoice

import heedmap
from conformance.tiny_models import AMONG_WORDS
from heedmap.datasets.sample import Rationale, Sample
from heedmap.errors import HeedmapError
from heedmap.evaluate import experiments
from heedmap.evaluate.evaluation import MethodSpec
from heedmap.evaluate.experiments.choosing import compare, recommend
from heedmap.evaluate.experiments.detection import Detection
from heedmap.evaluate.experiments.fidelity import Fidelity
from heedmap.evaluate.experiments.perturbation import Perturbation
from heedmap.evaluate.experiments.rationales import Rationales
from heedmap.evaluate.experiments.sanity import Sanity
from heedmap.evaluate.experiments.segmentation import Segmentation
from heedmap.methods import METHODS, Method
from heedmap.methods.input_features import Leaves
from heedmap.models import answers, edits, predictions
from heedmap.models.model import Model
from heedmap.targets import Function
from heedmap.web.form_inputs import EditForm, FormValues
from heedmap.web.handlers import Handlers
from heedmap.web.method_options import Start, Way
from heedmap.zoo import dataset, evidence, gallery, material
from heedmap.zoo.samples import MATERIALS
from models import builders

SOUND = np.sin(np.arange(8000) / 9).astype(np.float32), 16000
GIVEN: Mapping[str, Mapping[str, Any]] = {
    **{name: dict(MATERIALS[name].make(0).inputs) for name in MATERIALS},
    "bert": {"text": "the cat sat on the mat"},
    "bert_encoder": {"text": "the cat sat on the mat"},
    "whisper": {"audio": SOUND},
    "blip": {"text": "what is this ?", "image": MATERIALS["vit-shapes"].make(0).picture},
}
"""Model of the zoo, or of ``models.builders`` → one input."""
METHOD, CHANCE = MethodSpec("generic", "generic"), MethodSpec("random", "random")


class Broken(Exception):
    """What the owner's hooks and targets raise."""


class Steps:
    """Counts the steps of a call, which are the modules that run and the targets that are asked; breaks off at one."""

    def __init__(self, at: int = 0, error: type[BaseException] = Broken) -> None:
        self.at, self.error, self.count = at, error, 0

    def __call__(self, *_: Any) -> None:
        self.count += 1
        if self.count == self.at:
            raise self.error


# -- the state ---------------------------------------------------------------------------------------------------------


def disturbed(model: nn.Module) -> nn.Module:
    """In the state of a training that was broken off; it draws numbers in each run, and counts its runs in training."""
    for number, module in enumerate(model.modules()):
        module.training = number % 3 != 1
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 4 != 1)
        if number % 5 == 2:
            parameter.grad = torch.full_like(parameter, 0.5)
    model.register_buffer("trained", torch.zeros(()), persistent=False)
    model.register_forward_pre_hook(_drawn)
    model.register_forward_hook(_nothing, with_kwargs=True, always_call=True)
    model.register_state_dict_pre_hook(_nothing)
    model.register_load_state_dict_post_hook(_nothing)
    return model


def keep_loss(model: nn.Module) -> None:
    """As of a forward pass of the owner's, whose graph is needed yet; such a model cannot be copied."""
    model.kept = next(p for p in model.parameters() if p.requires_grad).sum()


def _nothing(*_: Any) -> None:
    pass


def _drawn(module: nn.Module, _: Any) -> None:
    torch.rand(3), random.random(), np.random.rand()
    if module.training:
        module.trained += 1


class Same:
    """Equal to itself alone."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.thing is other.thing

    def __repr__(self) -> str:
        return f"{type(self.thing).__name__} at {id(self.thing):#x}"


def _seen(thing: Any) -> Any:
    """A dict as its entries, plain values as they are, all else as the object that it is."""
    if isinstance(thing, dict):
        return {key: _seen(value) for key, value in thing.items()}
    return thing if isinstance(thing, (bool, int, float, str, torch.dtype, type(None))) else Same(thing)


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def state_of(model: nn.Module) -> dict[str, Any]:
    """Every attribute of every module, hooks among them; of each tensor what it is, holds and has; the configurations."""
    found: dict[str, Any] = {name: _seen(vars(module)) for name, module in model.named_modules()}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found[f"tensor {name}"] = bits(tensor), tensor._version, tensor.requires_grad, tensor.is_leaf, tensor.dtype
        found[f"gradient {name}"] = None if tensor.grad is None else (Same(tensor.grad), bits(tensor.grad))
    for name in ("config", "generation_config"):
        found[name] = getattr(model, name).to_dict() if hasattr(model, name) else None
    return found


def state_of_process() -> dict[str, Any]:
    """What belongs to all that runs beside the model."""
    dynamo = torch._dynamo.eval_frame
    return {
        "torch's numbers": bits(torch.get_rng_state()),
        "Python's numbers": random.getstate(),
        "numpy's numbers": [one.tobytes() if isinstance(one, np.ndarray) else one for one in np.random.get_state()],
        "seeds for a GPU to come": list(torch.cuda._lazy_seed_tracker.get_calls()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "dtype": (torch.get_default_dtype(), torch.get_default_device(), torch.is_autocast_enabled("cpu")),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.get_deterministic_debug_mode()),
        "attention": (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()),
        "compiler": dynamo._stance.stance,
        "modes": len(torch.overrides._get_current_function_mode_stack()),
        "checkpointing": {name: Same(value) for name, value in vars(torch.utils.checkpoint).items()},
        "checkpoint function": dict(vars(torch.utils.checkpoint.CheckpointFunction)),
        "warnings": list(warnings.filters),
    }


def answer(model: nn.Module, inputs: Mapping[str, Any]) -> list[bytes]:
    """What the model answers its owner, in the modes that it is in, with seeds of the owner's."""
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    with torch.no_grad():
        output = model(**inputs)
    return [bits(value) for value in output.values() if isinstance(value, Tensor)]


# -- the table ---------------------------------------------------------------------------------------------------------

Call = Callable[[Any, dict[str, Any], Steps], Any]


class Case(NamedTuple):
    """Something that is done with a model.

    Attributes:
        of: the public names that it covers, with spaces between.
        model: key of :data:`GIVEN`.
        call: (subject, one input, what a target of the owner's calls) → anything.
    """

    of: str
    model: str
    call: Call


def _explained(method: str | Method = "generic", **options: Any) -> Call:
    return lambda subject, given, _: heedmap.explain(subject.model, subject.inputs(**given), method=method, **options)


def _suiting(method: str) -> str:
    """A model that has the method."""
    return "idefics-shapes" if method in AMONG_WORDS else "gpt-lists"


def _few(method: Method) -> dict[str, int]:
    return {name: 2 for name in ("steps", "samples") if name in method.options}


def _own_target(subject: Any, given: dict[str, Any], steps: Steps, method: str = "generic") -> Any:
    def target(output: Any) -> Tensor:
        steps()
        return output.logits.flatten(1)[:, 3]

    return heedmap.explain(subject.model, subject.inputs(**given), target=[target, Function(target)], method=method)


def _own_method(subject: Any, given: dict[str, Any], steps: Steps) -> Any:
    def attribute(runs: Any, options: Any) -> Any:
        leaves = Leaves(runs)
        for _ in range(40):
            steps()
        return leaves.gradients

    return heedmap.explain(subject, subject.inputs(**given), method=Method("own", "", "", {}, {}, attribute=attribute))


def _every_query(subject: Any, given: dict[str, Any], steps: Steps) -> Any:
    return subject.explain(**given, target=heedmap.targets.EveryQuery(), memory="1GB")


def _choices(subject: Any, given: dict[str, Any], steps: Steps) -> Any:
    return heedmap.explain(subject.model, _inputs("choices", Path()), target=[None, 1])


def _texts(subject: Any, given: dict[str, Any], steps: Steps) -> Any:
    return subject.explain(text=[given["text"], "a red circle"], image=given["image"], target=[None, 0])


def _on(name: str) -> Call:
    """The method of the subject, on the input."""
    return lambda subject, given, _: getattr(subject, name)(**given)


def _on_inputs(name: str, *before: Any) -> Call:
    return lambda subject, given, _: getattr(subject, name)(*before, subject.inputs(**given))


def _labelled(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    inputs = subject.inputs(**given)
    return subject.label(heedmap.explain(subject.model, inputs), inputs, given["boxes"])


def _pictured(name: str) -> Call:
    return lambda subject, given, _: getattr(subject, name)(given["image"])


def _rows(evaluation: Any, reader: Callable[[Any], Any]) -> Call:
    def rows(subject: Any, _: Any, steps: Steps) -> Any:
        evaluation.check(subject)
        samples = reader(subject)
        return evaluation.rows(subject, [samples[number] for number in range(2)], [METHOD, CHANCE], 0)

    return rows


def _fidelity(subject: Any, given: dict[str, Any], steps: Steps) -> Any:
    tuned = heedmap.load("zoo/visualbert-shapes")
    with torch.no_grad():
        for weight in tuned.model.parameters():
            weight.mul_(0.9)
    return _rows(Fidelity(tuned, draws=1, sizes=(50,)), dataset.answered)(subject, given, steps)


def _reviews(_: Any) -> list[Sample]:
    text, words = GIVEN["bert"]["text"], ((0, 3), (4, 7), (8, 11), (12, 14), (15, 18), (19, 22))
    return [Sample(key, {"text": text}, Rationale("noun", (words[1],), words)) for key in "ab"]


def _perturbed(subject: Any, given: dict[str, Any], steps: Steps) -> Any:
    return _rows(Perturbation.of(subject), dataset.answered)(subject, given, steps)


def _recommended(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    return recommend(subject, [given], methods=["generic", "attn_lrp", "rollout"])


def _compared(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    return compare(subject, given, [METHOD, MethodSpec("attn_lrp", "attn_lrp"), CHANCE])


def _measured(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    return evidence.measure(subject, MATERIALS[subject.name.removeprefix("zoo/")], 2)


def _ran(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    """A run over a data set of two rows."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in (given["text"], given["text"])))
        return list(heedmap.run(subject, rows, Path(folder) / "out"))


def _at_once(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    return answers.explained(subject, [subject.inputs(**given)] * 2)


def _right(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    made = MATERIALS[subject.name.removeprefix("zoo/")]
    return material.right_ones(subject, made, [made.make(number) for number in range(2)])


class Seat(NamedTuple):
    """The page's models: one."""

    subject: Any

    def use(self, name: str, work: Callable[[Any], Any], tell: Any = None) -> Any:
        return work(self.subject)


def _said(answer: Any = None, **options: Any) -> Call:
    """An answer of the model's own, or the one given, every token of it."""
    return lambda subject, given, _: subject.explain_answer(**given, answer=answer, **options)


def _page(given: FormValues, way: Way, begin: Start | None = None) -> Call:
    def used(subject: Any, _: Any, steps: Steps) -> Any:
        handlers: Any = Handlers(Seat(subject))  # type: ignore[arg-type]
        handlers.takes(subject.name)
        asked = handlers.predict(subject.name, given)
        return handlers.explain(asked, 0, [way], begin)

    return used


def _page_answer(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    handlers: Any = Handlers(Seat(subject))  # type: ignore[arg-type]
    return handlers.answer(handlers.predict(subject.name, FormValues(given["text"])), Way("generic", {}))


def _on_page(name: str, *rest: Any) -> Call:
    """What goes on from an answer on the page."""

    def used(subject: Any, *_: Any) -> Any:
        handlers: Any = Handlers(Seat(subject))  # type: ignore[arg-type]
        return getattr(handlers, name)(
            handlers.predict(subject.name, FormValues("4 1 3")), 0, Way("generic", {}), *rest
        )

    return used


def _page_table(subject: Any, *_: Any) -> Any:
    handlers: Any = Handlers(Seat(subject))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.jsonl"
        file.write_text('{"text": "4 1 3"}\n{"text": "2 4"}\n')
        return handlers.table(subject.name, FormValues(), [str(file)])


def _edited(subject: Any, given: dict[str, Any], _: Steps) -> Any:
    return edits.effect(subject, given, {**given, "text": "4 1 2"})


PAGE = "Handlers.takes Handlers.predict Handlers.explain"
ANSWER = "explain_answer Model.explain_answer grown"
EXPLAIN = {
    **{name: Case("explain", _suiting(name), _explained(name, **_few(METHODS[name]))) for name in METHODS},
    "whole maps": Case("explain", "visualbert-shapes", _explained(target=[None, 3], full=True)),
    "several targets, pictures": Case("explain", "vit-shapes", _explained("attn_lrp", target=[0, 1, None])),
    "a detector": Case("explain", "detr-shapes", _explained("legrad")),
    "pixels": Case("explain", "vit-shapes", _explained("smoothgrad", samples=2, pixels=True)),
    "own target": Case("explain", "vit-shapes", _own_target),
    "own target, passes more": Case("explain", "vit-shapes", partial(_own_target, method="input_x_gradient")),
    "own method": Case("explain", "gpt-lists", _own_method),
    "choices": Case("explain", "choices", _choices),
    "inspect": Case("inspect", "detr-shapes", lambda s, given, _: heedmap.inspect(s.model, s.inputs(**given))),
    "heads": Case("heads", "detr-shapes", lambda s, given, _: heedmap.heads(s.model, s.inputs(**given))),
}
MODEL = {
    "Model.inputs": Case("Model.inputs tensors", "bart-dates", _on("inputs")),
    "Model.inputs, sound": Case("Model.inputs spoken generate", "whisper", _on("inputs")),
    "Model.asked": Case("Model.asked", "bart-dates", _on("asked")),
    "answer": Case(f"{ANSWER} own_answer", "gpt-lists", _said(generate={"max_new_tokens": 2}, contrast="runner-up")),
    "answer, given": Case(f"{ANSWER} begun", "bart-dates", _said("1987")),
    "Model.explain": Case("Model.explain", "bart-dates", _on("explain")),
    "Model.explain, read inside": Case("Model.explain", "blip", _on("explain")),
    "Model.explain, texts": Case("Model.explain", "clip-shapes", _texts),
    "Model.plan": Case("Model.plan plan", "gpt-lists", _on("plan")),
    "several targets": Case("explain", "detr-shapes", _every_query),
    "Model.inspect": Case("Model.inspect", "visualbert-shapes", _on("inspect")),
    "Model.heads": Case("Model.heads", "visualbert-shapes", _on("heads")),
    "Model.compare": Case("Model.compare", "bert_encoder", lambda s, *_: s.compare("the cat", "a dog", pool="pooler")),
    "Model.embedding": Case("Model.embedding", "bert_encoder", lambda s, *_: s.embedding(["the cat", "a dog"])),
    "Model.context": Case("Model.context", "gpt-lists", _on_inputs("context")),
    "Model.resolve_target": Case("Model.resolve_target", "bart-dates", _on_inputs("resolve_target", None)),
    "Model.label": Case("Model.label frames_heard", "visualbert-shapes", _labelled),
    **{
        f"Model.{name}": Case(f"Model.{name} pictures", "vit-shapes", _pictured(name))
        for name in ("shown_image", "geometry", "picture")
    },
    **{
        f"Model.predict, {name}": Case("Model.predict predict", name, _on("predict"))
        for name in GIVEN
        if name != "bert_encoder"
    },
    "alignment": Case("alignment", "bart-dates", lambda s, given, _: answers.alignment(s, **given)),
    "alignment, sound": Case("alignment", "whisper", lambda s, given, _: answers.alignment(s, **given)),
    "edited": Case("effect compared", "gpt-lists", _edited),
    "detections": Case("detections", "detr-shapes", lambda s, given, _: answers.detections(s, **given)),
    "predict": Case("predict", "vit-shapes", lambda s, given, _: predictions.predict(s.model, s.inputs(**given))),
}
EVALUATED = {
    "perturbation": Case("Perturbation", "visualbert-shapes", _perturbed),
    "perturbation of pairs": Case("Perturbation", "clip-shapes", _perturbed),
    "segmentation": Case("Segmentation", "vit-shapes", _rows(Segmentation(target="found"), dataset.shown)),
    "detection": Case("Detection", "detr-shapes", _rows(Detection(), dataset.shown)),
    "rationales": Case("Rationales", "bert", _rows(Rationales(), _reviews)),
    "fidelity": Case("Fidelity", "visualbert-shapes", _fidelity),
    "sanity, random weights": Case("Sanity", "gpt-lists", _rows(Sanity(("randomisation",), steps=3), dataset.plain)),
    "sanity": Case("Sanity", "gpt-lists", _rows(Sanity(steps=2, groups=2, draws=1), dataset.plain)),
    "recommend": Case("recommend", "gpt-lists", _recommended),
    "compare": Case("compare", "gpt-lists", _compared),
    "run": Case("run", "gpt-lists", _ran),
    "run, rows at once": Case("explained", "gpt-lists", _at_once),
    "measure": Case("measure KnownEvidence", "gpt-lists", _measured),
    "show": Case("show weights", "gpt-lists", lambda s, *_: gallery.show(s, "gpt-lists")),
    **{f"right ones, {name}": Case("right_ones together", name, _right) for name in MATERIALS},
}
WEB = {
    "page, an answer": Case("Handlers.answer", "gpt-lists", _page_answer),
    "page, edited": Case("Handlers.change", "gpt-lists", _on_page("change", EditForm("1", "2"))),
    "page, two models": Case("Handlers.models_beside", "gpt-lists", _on_page("models_beside", "another")),
    "page, a table": Case("Handlers.table", "gpt-lists", _page_table),
    "page": Case(PAGE, "gpt-lists", _page(FormValues("4 1 3"), Way("generic", {}))),
    "page, from a token": Case(PAGE, "gpt-lists", _page(FormValues("4 1 3"), Way("generic", {}), Start("text", (2,)))),
    "page, boxes": Case(
        PAGE,
        "visualbert-shapes",
        _page(
            FormValues(GIVEN["visualbert-shapes"]["text"], number=MATERIALS["visualbert-shapes"].shown),
            Way("attn_lrp", {}),
        ),
    ),
}
CASES: Mapping[str, Case] = EXPLAIN | MODEL | EVALUATED | WEB

# -- the promise -------------------------------------------------------------------------------------------------------


@cache
def _folder(name: str, base: Path) -> Path:
    path = base / name
    path.mkdir()
    getattr(builders, name)(path)
    return path


@cache
def _loaded(name: str, base: Path) -> Any:
    return heedmap.load(f"zoo/{name}" if name in MATERIALS else _folder(name, base))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@cache
def _inputs(name: str, base: Path) -> dict[str, Any]:
    if name == "choices":
        ids = torch.randint(5, 15, (2, 3, 7), generator=torch.Generator().manual_seed(0))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return _loaded(name, base).inputs(**GIVEN[name])


def owned(name: str, base: Path, steps: Steps) -> Any:
    """A subject whose model is its own, disturbed, with ``steps`` before each module."""
    if name == "choices":
        loaded = _loaded("bert", base)  # which may draw numbers
        torch.manual_seed(0)
        subject = replace(loaded, model=BertForMultipleChoice(builders.bert_config()))
    else:
        subject = replace(_loaded(name, base), model=copy.deepcopy(_loaded(name, base).model))
    disturbed(subject.model)
    for module in subject.model.modules():
        module.register_forward_pre_hook(lambda *_: steps())
    return subject


@cache
def answer_of(name: str, base: Path) -> list[bytes]:
    """What such a model answers before anything is done with it."""
    return answer(owned(name, base, Steps()).model, _inputs(name, base))


COUNTED: dict[str, int] = {}
"""Case → its steps, where a test has let it end by itself."""


def steps_of(name: str, base: Path) -> int:
    """How many there are in a call that ends by itself."""
    if name not in COUNTED:
        case, steps = CASES[name], Steps()
        subject = owned(case.model, base, steps)
        keep_loss(subject.model)
        case.call(subject, dict(GIVEN.get(case.model, {})), steps)
        COUNTED[name] = steps.count
    return COUNTED[name]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not as it was; of dicts, their entries."""
    found = {}
    for name in [*before, *(name for name in after if name not in before)]:
        own, now = before.get(name, "nothing"), after.get(name, "nothing")
        if isinstance(own, dict) and isinstance(now, dict):
            found |= {f"{name}: {key}": pair for key, pair in differences(own, now).items()}
        elif own != now:
            found[name] = (own, now)
    return found


@pytest.fixture
def process() -> Iterator[None]:
    """The numbers of the process are as before the test, which seeds them."""
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()
    yield
    torch.set_rng_state(kept[0]), random.setstate(kept[1]), np.random.set_state(kept[2])


ENDS: Mapping[str, tuple[type[BaseException] | None, float]] = {
    "by itself": (None, 0),
    "by an exception": (Broken, 0.5),
    "by Ctrl-C": (KeyboardInterrupt, 0.9),
}
"""How a call ends, and after which share of its steps."""


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", CASES)
def test_a_model_is_left_as_it_was(name: str, end: str, base: Path) -> None:
    case, (error, share), steps = CASES[name], ENDS[end], Steps()
    subject, inputs = owned(case.model, base, steps), _inputs(case.model, base)
    at = 0 if error is None else max(1, round(share * steps_of(name, base)))
    wanted = answer_of(case.model, base)
    keep_loss(subject.model)
    before = state_of(subject.model), state_of_process()
    steps.count = 0
    if error is not None and at <= steps_of(name, base):
        steps.at, steps.error = at, error
    with pytest.raises(error) if error is KeyboardInterrupt and steps.at else suppress(Broken, HeedmapError):
        case.call(subject, dict(GIVEN.get(case.model, {})), steps)
    assert steps.count >= steps.at
    if error is None:
        COUNTED[name] = steps.count
    steps.at = 0
    after = state_of(subject.model), state_of_process()
    assert not differences(before[0], after[0])
    assert not differences(before[1], after[1])
    assert answer(subject.model, inputs) == wanted


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("name", ["generic", "attn_lrp", "integrated_gradients", "Model.predict, gpt-lists"])
def test_what_a_module_keeps_of_a_run(name: str, base: Path) -> None:
    """It has no graph of ours; and what it keeps of a run of the owner's is there again."""
    subject = owned("gpt-lists", base, Steps())
    model, inputs = subject.model, _inputs("gpt-lists", base)
    model.register_forward_hook(lambda module, _, output: setattr(module, "kept", output.logits))
    CASES[name].call(subject, dict(GIVEN["gpt-lists"]), Steps())
    assert not model.kept.requires_grad
    assert torch.equal(copy.deepcopy(model).kept, model.kept)
    model(**inputs)
    kept = model.kept
    CASES[name].call(subject, dict(GIVEN["gpt-lists"]), Steps())
    assert model.kept is kept
    model.kept.sum().backward()


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("name", ["generic", "attn_lrp", "integrated_gradients", "Model.predict, gpt-lists"])
def test_what_a_module_keeps_of_a_run_in_a_list_or_a_cache(name: str, base: Path) -> None:
    subject = owned("gpt-lists", base, Steps())
    model, inputs = subject.model, _inputs("gpt-lists", base)
    model.history, model.cache = [], SimpleNamespace(entries={"all": deque(maxlen=2)})

    def keep(module: nn.Module, _: Any, output: Any) -> None:
        module.history.append(output.logits)
        module.cache.entries["all"].append(output.logits)
        module.cache.entries["last"] = output.logits

    handle = model.register_forward_hook(keep)
    model(**inputs)
    handle.remove()
    owners = [*model.history, *model.cache.entries["all"], model.cache.entries["last"]]
    model.register_forward_hook(keep)
    CASES[name].call(subject, dict(GIVEN["gpt-lists"]), Steps())
    kept = [*model.history, *model.cache.entries["all"], model.cache.entries["last"]]
    assert len(kept) > len(owners)
    assert not any(each.requires_grad for each in kept if all(each is not other for other in owners))
    assert model.history[0] is owners[0]
    owners[0].sum().backward()


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("name", ["gpt-lists", "bart-dates"])
def test_a_cache_of_fixed_size_leaves_nothing(name: str, base: Path) -> None:
    subject = owned(name, base, Steps())
    subject.model.generation_config.cache_implementation = "static"
    before = set(vars(subject.model)), subject.model.generation_config.to_dict()
    subject.predict(**GIVEN[name])
    assert before[0] == set(vars(subject.model))
    assert before[1] == subject.model.generation_config.to_dict()


# -- the table is whole ------------------------------------------------------------------------------------------------


def test_the_table_names_everything_that_takes_a_model() -> None:
    named = {name for case in CASES.values() for name in case.of.split()}
    assert _entries() - named == set()
    assert {case.model for case in CASES.values()} >= set(MATERIALS)


def _entries() -> set[str]:
    """The public functions whose first argument is a model, the subject's own methods, the evaluations and the page's."""
    homes = [heedmap.engine.explain, evidence, gallery, material, *_modules(heedmap.models), *_modules(experiments)]
    found = {name for name in heedmap.__all__ if _takes_model(getattr(heedmap, name))}
    for home in homes:
        own = {name: one for name, one in vars(home).items() if getattr(one, "__module__", None) == home.__name__}
        public = {name: one for name, one in own.items() if not name.startswith("_")}
        found |= {name for name, one in public.items() if _takes_model(one)}
        found |= {name for name, one in public.items() if inspect.isclass(one) and hasattr(one, "rows")}
    for owner in (Model, Handlers):
        methods = inspect.getmembers(owner, inspect.isfunction)
        found |= {f"{owner.__name__}.{name}" for name, _ in methods if not name.startswith("_")}
    return found


def _modules(package: Any) -> list[Any]:
    return [
        importlib.import_module(one.name) for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]


def _takes_model(one: Any) -> bool:
    first = next(iter(inspect.signature(one).parameters), "") if inspect.isfunction(one) else ""
    return first in ("model", "subject")
