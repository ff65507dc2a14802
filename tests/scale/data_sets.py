"""Data sets of every form, written as other programs write them; and what a run made of one."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from heedmap.zoo.samples import MATERIALS

LISTS = tuple(MATERIALS["gpt-lists"].make(index).inputs["text"] for index in range(26))
NONE_IDLE = {"RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}
"""Variables with which Ray starts no process before there is work for it."""


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], group: int = 3) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=group)
    return path


def write_saved(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """As ``Dataset.save_to_disk`` does, in two files."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(list(rows))
    half = len(rows) // 2
    names = []
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        names.append(f"data-{number:05d}-of-00002.arrow")
        with pa.OSFile(str(folder / names[-1]), "wb") as file, pa.ipc.new_stream(file, part.schema) as stream:
            stream.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def write_tar(path: Path, samples: Sequence[Mapping[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for number, files in enumerate(samples):
            for ending, data in files.items():
                member = tarfile.TarInfo(f"{number:04d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's files, in order of the files; float16 lists and all."""
    return [row for path in sorted((folder / "parts").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
