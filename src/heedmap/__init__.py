"""heedmap: which parts of its input a transformer's answer rests on, on the unmodified model.

The public names are imported when first used, so that ``import heedmap`` itself is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from heedmap.version import __version__

if TYPE_CHECKING:  # for type checkers, which do not see __getattr__'s names; "as" tells them that a name is public
    from heedmap import errors as errors
    from heedmap import targets as targets
    from heedmap import types as types
    from heedmap.data.flow import Flow as Flow
    from heedmap.data.segments import Answer as Answer
    from heedmap.data.segments import Segment as Segment
    from heedmap.engine.explain import explain as explain
    from heedmap.engine.explain import inspect as inspect
    from heedmap.engine.explain import plan as plan
    from heedmap.engine.heads import AttentionHeads as AttentionHeads
    from heedmap.engine.heads import Heads as Heads
    from heedmap.engine.heads import heads as heads
    from heedmap.engine.planning import Plan as Plan
    from heedmap.errors import HeedmapError as HeedmapError
    from heedmap.evaluate.evaluation import MethodSpec as MethodSpec
    from heedmap.evaluate.experiments.choosing import Comparison as Comparison
    from heedmap.evaluate.experiments.choosing import compare as compare
    from heedmap.evaluate.experiments.choosing import recommend as recommend
    from heedmap.evaluate.ranking import Recommendation as Recommendation
    from heedmap.explanation import Explanation as Explanation
    from heedmap.methods import METHODS as METHODS
    from heedmap.methods import Method as Method
    from heedmap.models import MODELS as MODELS
    from heedmap.models import Model as Model
    from heedmap.models import Subject as Subject
    from heedmap.models import load as load
    from heedmap.models.answer import explain_answer as explain_answer
    from heedmap.models.answers import Answers as Answers
    from heedmap.models.answers import alignment as alignment
    from heedmap.models.answers import detections as detections
    from heedmap.models.predictions import Prediction as Prediction
    from heedmap.models.predictions import Predictions as Predictions
    from heedmap.models.predictions import predict as predict
    from heedmap.render.figure import side_by_side as side_by_side
    from heedmap.render.page import comparison_page as comparison_page
    from heedmap.render.page import explanation_fragment as explanation_fragment
    from heedmap.scale.opened import Run as Run
    from heedmap.scale.opened import open_run as open_run
    from heedmap.scale.run import run as run
    from heedmap.zoo.samples import zoo_sample as zoo_sample

_MODULES = ("errors", "targets", "types")
_HOMES = {
    "explain": "heedmap.engine.explain",
    "explain_answer": "heedmap.models.answer",
    "plan": "heedmap.engine.explain",
    "Plan": "heedmap.engine.planning",
    "inspect": "heedmap.engine.explain",
    "heads": "heedmap.engine.heads",
    "Heads": "heedmap.engine.heads",
    "AttentionHeads": "heedmap.engine.heads",
    "load": "heedmap.models",
    "Model": "heedmap.models",
    "Subject": "heedmap.models",
    "MODELS": "heedmap.models",
    "METHODS": "heedmap.methods",
    "Method": "heedmap.methods",
    "Explanation": "heedmap.explanation",
    "Segment": "heedmap.data.segments",
    "Flow": "heedmap.data.flow",
    "predict": "heedmap.models.predictions",
    "Prediction": "heedmap.models.predictions",
    "Predictions": "heedmap.models.predictions",
    "Answer": "heedmap.data.segments",
    "Answers": "heedmap.models.answers",
    "alignment": "heedmap.models.answers",
    "detections": "heedmap.models.answers",
    "side_by_side": "heedmap.render.figure",
    "comparison_page": "heedmap.render.page",
    "explanation_fragment": "heedmap.render.page",
    "compare": "heedmap.evaluate.experiments.choosing",
    "Comparison": "heedmap.evaluate.experiments.choosing",
    "MethodSpec": "heedmap.evaluate.evaluation",
    "recommend": "heedmap.evaluate.experiments.choosing",
    "Recommendation": "heedmap.evaluate.ranking",
    "run": "heedmap.scale.run",
    "open_run": "heedmap.scale.opened",
    "Run": "heedmap.scale.opened",
    "zoo_sample": "heedmap.zoo.samples",
    "HeedmapError": "heedmap.errors",
}
"""Public name → the module that has it."""

__all__ = ["__version__", *_MODULES, *_HOMES]


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"heedmap.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'heedmap' has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
