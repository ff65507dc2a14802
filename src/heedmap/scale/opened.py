"""A run, read back: its explanations one by one, each from its file when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from heedmap.common.extras import library
from heedmap.errors import FileFormatError, InputError
from heedmap.scale.folder import LIGHT, Line, ShardFolder, arrow, explanation_of

if TYPE_CHECKING:
    import pyarrow

    from heedmap.explanation import Explanation
    from heedmap.scale.folder import JobConfig


class Run(Sequence["Explanation"]):
    """A run over a data set, or some of its rows: a sequence of explanations that are read when they are asked for.

    ``run[7]`` is the explanation of a row, a batch of one; ``run[10:20]`` are ten rows, ``run.where(prediction="cat")`` those
    of a prediction. Relevance was stored in half precision; all else is as it was.

    Attributes:
        folder: its folder.
        config: on what its rows depend.
        rows: numbers of the rows in the data set.

    Examples:
        >>> import heedmap, json, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> texts = ["dog red ; cat blue ? cat", "sun green ? sun", "car red ? car"]
        >>> _ = (folder / "lists.jsonl").write_text("\\n".join(json.dumps({"text": text}) for text in texts))
        >>> run = heedmap.run("zoo/gpt-lists", folder / "lists.jsonl", folder / "maps")
        >>> run.where(prediction="red")[0]
        Explanation(generic, batch 1, target "token 34 ('red') after position 3", text 4)
        >>> run.least_certain(1).rows, run.errors
        ([2], {})
    """

    def __init__(self, parts: _Parts, rows: Sequence[int]) -> None:
        self._parts, self.rows = parts, rows

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self._parts.folder.path

    @property
    def config(self) -> JobConfig:
        """On what its rows depend."""
        return self._parts.config

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...

    @overload
    def __getitem__(self, index: slice) -> Run: ...

    def __getitem__(self, index: int | slice) -> Explanation | Run:
        """An explanation, or some of them as a run.

        Raises:
            SampleError: the row could not be explained; the message says why.
            FileFormatError: its part is not there yet, or is damaged.
            IndexError: there is no such row.
        """
        if isinstance(index, slice):
            return Run(self._parts, self.rows[index])
        return explanation_of(self._parts.lines(self.rows[index]))

    def where(
        self, prediction: str | int | None = None, *, failed: bool = False, least: float = 0.0, most: float = 1.0
    ) -> Run:
        """Those of its rows that are so.

        Args:
            prediction: name or index of the class, or the answer; None: any.
            failed: those that could not be explained, and not the others.
            least: how certain the model is of its prediction, at least.
            most: and at most. Rows of which it is not known are there only with the whole range.
        """
        index = self._index
        kept = (index["error"] != "") == failed
        if prediction is not None:
            name = "prediction" if isinstance(prediction, int) else "label"
            kept &= index[name] == prediction
        if (least, most) != (0.0, 1.0):
            certainty = index["certainty"]
            kept &= (certainty >= least) & (certainty <= most)
        return self._chosen(np.flatnonzero(kept))

    def most_certain(self, count: int) -> Run:
        """The rows of whose prediction the model is most certain, the most certain first."""
        return self._by_certainty(count, -1)

    def least_certain(self, count: int) -> Run:
        """The rows of whose prediction the model is least certain, the least certain first."""
        return self._by_certainty(count, 1)

    @property
    def errors(self) -> dict[int, str]:
        """Row → why it could not be explained."""
        index = self._index
        bad = np.flatnonzero(index["error"] != "")
        return {self.rows[int(n)]: str(index["error"][n]) for n in bad}

    @property
    def predictions(self) -> dict[str, int]:
        """Prediction, or answer → its number of rows, most first."""
        names, counts = np.unique(self._index["label"][self._index["error"] == ""], return_counts=True)
        pairs = sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
        return {name: count for name, count in pairs if name}

    def key(self, index: int) -> str:
        """What the data set calls the row."""
        return str(self._parts.lines(self.rows[index])[0]["key"])

    def certainty(self, index: int) -> float | None:
        """How probable the model's prediction is to it; of an answer the geometric mean of its tokens; None: not known."""
        value = self._parts.lines(self.rows[index])[0]["certainty"]
        return None if value is None else float(value)

    def __repr__(self) -> str:
        explained = self.config["explained"]
        told = f"{self.config['model']['name']} by {explained['method']}{', answers' if explained['answer'] else ''}"
        return f"Run({told}, {len(self)} rows)"

    @property
    def _index(self) -> dict[str, np.ndarray]:
        """The light columns of these rows."""
        whole = self._parts.index
        if len(self) == len(whole["row"]) and isinstance(self.rows, range):
            return whole
        return {name: column[np.asarray(self.rows, dtype=np.int64)] for name, column in whole.items()}

    def _chosen(self, places: np.ndarray) -> Run:
        return Run(self._parts, [self.rows[int(place)] for place in places])

    def _by_certainty(self, count: int, sign: int) -> Run:
        certainty = self._index["certainty"]
        known = np.flatnonzero(~np.isnan(certainty))
        order = np.argsort(sign * certainty[known], kind="stable")
        return self._chosen(known[order[:count]])


class _Parts:
    """The files of a run. The one that was read last is kept."""

    def __init__(self, folder: ShardFolder, config: JobConfig) -> None:
        self.folder, self.config = folder, config
        self.run = folder.digest()
        self._kept: tuple[int, dict[int, list[Line]]] | None = None

    def lines(self, row: int) -> list[Line]:
        """The lines of a row."""
        number = row // self.config["part"]
        if self._kept is None or self._kept[0] != number:
            by_row: dict[int, list[Line]] = {}
            for line in self._table(number, None).to_pylist():
                by_row.setdefault(line["row"], []).append(line)
            self._kept = (number, by_row)
        return self._kept[1][row]

    @cached_property
    def index(self) -> dict[str, np.ndarray]:
        """The light columns, a line a row of the data set; what is not known is empty or NaN."""
        rows, part = self.config["rows"], self.config["part"]
        pa = arrow()
        tables = [self._table(number, LIGHT) for number in range(-(-rows // part))]
        whole = pa.concat_tables(tables)
        compute = library("pyarrow.compute", "scale", "a run's Parquet files need")
        step = compute.fill_null(whole["step"], 0)
        whole = whole.filter(compute.equal(step, 0))
        label = compute.coalesce(whole["label"], whole["answer"], pa.scalar(""))
        return {
            "row": whole["row"].to_numpy(),
            "error": compute.fill_null(whole["error"], "").to_numpy(zero_copy_only=False).astype(object),
            "label": label.to_numpy(zero_copy_only=False).astype(object),
            "prediction": compute.fill_null(whole["prediction"], -1).to_numpy(),
            "certainty": compute.fill_null(whole["certainty"], float("nan")).to_numpy(),
        }

    def _table(self, number: int, columns: Sequence[str] | None) -> pyarrow.Table:
        pa = arrow()
        path = self.folder.path_of(number)
        if self.folder.part(number, self.run) is None:
            raise FileFormatError(f"{path} is not there yet: the run was stopped, and the same command goes on")
        try:
            with pa.parquet.ParquetFile(path, page_checksum_verification=True) as file:
                return file.read(columns=None if columns is None else list(columns))
        except (OSError, ValueError) as error:
            raise FileFormatError(
                f"{path} is damaged ({' '.join(str(error).split())}); remove it and run again: only this part is made anew"
            ) from error


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Open what :func:`heedmap.run` wrote, lazily: explanations are read when they are asked for.

    Args:
        folder: of the run; also of one that is not finished.

    Raises:
        InputError: there is no run in the folder.
        FileFormatError: what is there is no run's, or of a newer heedmap.

    Examples:
        >>> import heedmap
        >>> heedmap.open_run("nowhere")
        Traceback (most recent call last):
        ...
        heedmap.errors.InputError: there is no run in nowhere; give a folder that heedmap run wrote
    """
    path = Path(folder)
    held = ShardFolder(path)
    config = held.config()
    if config is None:
        raise InputError(f"there is no run in {path}; give a folder that heedmap run wrote")
    return Run(_Parts(held, config), range(config["rows"]))
