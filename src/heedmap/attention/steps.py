"""What a tower that is not followed did, step by step: where the keys and values that other content asks for part.

A decoder that asks a tower's tokens makes keys and values of them, layer by layer, of the tower's tokens alone. So the tokens
meet no other content before the attention, and end nowhere. The latest step from which all these keys and values come made the
tokens that are asked; in the next run, the tower ends there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

Step = tuple[frozenset[int], int]
"""The sources of what a step made, and its number among the steps that made something of these."""


class Steps:
    """The steps of one run.

    Args:
        ends: steps at which towers end.
    """

    def __init__(self, ends: frozenset[Step] = frozenset()) -> None:
        self.ends = ends
        self._counts: Counter[frozenset[int]] = Counter()
        self._before: dict[Step, frozenset[Step]] = {}
        self._asked: dict[Step, None] = {}

    def made(self, sources: frozenset[int], of: Iterable[Step | None]) -> Step:
        """The next step: it made something of what other steps had made."""
        self._counts[sources] += 1
        step = sources, self._counts[sources]
        self._before[step] = frozenset(s for s in of if s is not None)
        return step

    def ask(self, made: Iterable[Step | None]) -> None:
        """Other content asks for what these steps made."""
        self._asked.update((step, None) for step in made if step is not None)

    def parting(self) -> frozenset[Step]:
        """For each tower, or several together, the latest step from which all that is asked for comes."""
        histories: dict[frozenset[int], list[set[Step]]] = {}
        for step in self._asked:
            histories.setdefault(step[0], []).append(self._history(step))
        shared = [set.intersection(*of_tower) for of_tower in histories.values()]
        latest = (next((step for step in reversed(self._before) if step in steps), None) for steps in shared)
        return frozenset(step for step in latest if step is not None)

    def _history(self, step: Step) -> set[Step]:
        history, rest = set[Step](), [step]
        while rest:
            earlier = rest.pop()
            if earlier not in history:
                history.add(earlier)
                rest.extend(self._before[earlier])
        return history
