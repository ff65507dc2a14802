"""A run where memory runs out: batches are halved, down to single rows, and what does not fit alone is a bad row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_sets import png, rows_of

import heedmap

CODE = """
import json, resource, sys
from pathlib import Path
import torch
import heedmap
from heedmap.scale.worker import Worker

data, out, share = sys.argv[1], sys.argv[2], float(sys.argv[3])
torch.set_num_threads(1)
subject = heedmap.load("zoo/vit-shapes")
image = subject.inputs(image=f"{data}/000.png")
heedmap.explain(subject, image)  # what is imported and set up once
batch = {name: value.expand(24, *value.shape[1:]) for name, value in image.items()}
heedmap.explain(subject, batch)
plan = heedmap.plan(subject, batch)
sizes, written = [], Worker._written

def counting(worker, group):
    sizes.append(len(group))
    return written(worker, group)

items = Worker.items

def limited(worker, rows):
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (int(taken + share * plan.kept), -1))
    made = list(items(worker, rows))
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    return made

Worker._written, Worker.items = counting, limited
heedmap.run(subject, data, out, batch=24, page=False)
print(json.dumps(sizes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's addresses are limited on Linux only")
def test_a_batch_that_does_not_fit_is_halved_and_a_row_that_does_not_is_bad(
    pictures: tuple[bytes, ...], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(24):
        (data / f"{number:03}.png").write_bytes(pictures[number % 4])
    heedmap.run("zoo/vit-shapes", data, tmp_path / "whole", batch=24, page=False)
    (data / "024.png").write_bytes(png(np.zeros((9000, 9000), bool)))
    code = [sys.executable, "-c", CODE, str(data), str(tmp_path / "out"), "0.8"]
    environment = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_ARENA_MAX": "1", **os.environ}
    done = subprocess.run(code, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert max(sizes) == 24
    assert min(sizes) < 24
    made, whole = rows_of(tmp_path / "out"), rows_of(tmp_path / "whole")
    assert [row["row"] for row in made] == list(range(25))
    assert "memory does not suffice to read the image" in made[24]["error"]
    for mine, row in zip(made, whole, strict=False):
        assert mine["error"] is None
        assert (mine["key"], mine["target"], mine["prediction"]) == (row["key"], row["target"], row["prediction"])
        assert mine["score"] == pytest.approx(row["score"], rel=1e-5)
        for ours, theirs in zip(mine["segments"], row["segments"], strict=True):
            np.testing.assert_allclose(
                np.multiply(ours["relevance"], ours["scale"]), np.multiply(theirs["relevance"], theirs["scale"]),
                rtol=2e-3, atol=1e-5 * theirs["scale"],
            )  # fmt: skip
