"""Targets: the scalar per sample that is explained."""

from heedmap.outputs import Context as Context
from heedmap.outputs import class_logits as class_logits
from heedmap.outputs import get as get
from heedmap.outputs import pooled as pooled
from heedmap.targets.classes import ClassLogit as ClassLogit
from heedmap.targets.classes import DetectionQuery as DetectionQuery
from heedmap.targets.classes import FeatureNorm as FeatureNorm
from heedmap.targets.classes import Function as Function
from heedmap.targets.classes import Similarity as Similarity
from heedmap.targets.classes import Value as Value
from heedmap.targets.meant import AnyTarget as AnyTarget
from heedmap.targets.meant import TopPrediction as TopPrediction
from heedmap.targets.meant import as_target as as_target
from heedmap.targets.meant import plain as plain
from heedmap.targets.target import Chosen as Chosen
from heedmap.targets.target import Target as Target
from heedmap.targets.target import in_range as in_range
from heedmap.targets.target import per_sample as per_sample
from heedmap.targets.words import AnswerSpan as AnswerSpan
from heedmap.targets.words import NextToken as NextToken
from heedmap.targets.words import TokenLabel as TokenLabel
from heedmap.targets.words import labelled as labelled
from heedmap.targets.words import letter as letter
