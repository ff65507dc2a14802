"""Runs over a data set, disturbed and measured.

    python bench/run_dataset.py kills [--times 33] [--case driver|worker|raylet] [--state kills.jsonl]
    python bench/run_dataset.py alone [--times 100]
    python bench/run_dataset.py disk [--workers 2]        # needs to mount a tmpfs
    python bench/run_dataset.py spoilt [--workers 2]
    python bench/run_dataset.py flat [--samples 10000]
    python bench/run_dataset.py nodes [--times 3]
    python bench/run_dataset.py loop [--samples 24] [--workers 2]

kills: `heedmap run` is begun, at a random moment a process of it is killed (SIGKILL), the same command is given until it
comes to its end, and the rows are compared with those of a run that nobody disturbed. Each result is a line of the state; those
that it has already are not measured again.
alone: a run without Ray, killed again and again at random moments, begun each time in a process that has the model already.
disk: a run on a small file system, which is full several times and made larger each time.
spoilt: one row of a hundred is bad; when the run is done, three files are cut, damaged and emptied, and the same is run again.
nodes: `heedmap run --address` on a cluster of three nodes, each with a raylet and an address of this machine of its own; then
at a random moment the raylet of one that is not the head is killed, and a new one comes instead.
loop: pictures explained by a ViT-B/16 (random weights), by a plain loop and by a run, in turns, one at once; with workers then by
one and by so many, by the clock.
flat: the samples of the zoo's lists end to end, with the memory that is taken, and rows a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from heedmap.zoo.lists import list_sample

MODEL = "zoo/gpt-lists"
ROWS, PART = 600, 20
PATIENCE = 600
"""Seconds after which a command that does not end is called hanging."""


def data(folder: Path, rows: int, bad: bool = False) -> Path:
    """Write so many texts of the zoo's lists; ``bad``: every hundredth is none."""
    path = folder / "lists.jsonl"
    with path.open("w") as file:
        for index in range(rows):
            text = list_sample(0, "train", index).text if not bad or index % 100 != 50 else ["no", "text", index]
            file.write(json.dumps({"text": text}) + "\n")
    return path


def command(source: Path, out: Path, *more: object) -> list[str]:
    """The command line of a run, in a process of its own."""
    run = [
        sys.executable,
        "-c",
        "from heedmap.cli.main import main; main()",
        "run",
        MODEL,
        "--data",
        str(source),
        "--out",
        str(out),
    ]
    return [*run, "--part", str(PART), *map(str, more)]


def begun(arguments: list[str]) -> subprocess.Popen[str]:
    """Start it, in a session of its own."""
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def rows_of(folder: Path) -> pa.Table:
    """All rows of a run, in the order of its parts."""
    files = sorted((folder / "parts").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file).replace_schema_metadata(None) for file in files])


def victim(process: subprocess.Popen[str], case: str) -> psutil.Process | None:
    """The process to be killed, where it is there."""
    driver = psutil.Process(process.pid)
    if case == "driver":
        return driver
    for child in driver.children(recursive=True):
        try:
            name = " ".join(child.cmdline()[:1])
        except psutil.Error:
            continue
        if case == "raylet" and name.endswith("/raylet"):
            return child
        if case == "worker" and name.startswith("ray::") and "Maker" in name:
            return child
    return None


def disturbed(source: Path, out: Path, case: str, chance: random.Random, reference: pa.Table) -> dict[str, Any]:
    """One run, killed once, and gone on with to its end."""
    arguments = command(source, out, "--workers", 2)
    process = begun(arguments)
    wanted = chance.randrange(ROWS // PART - 4)  # so many files are there first
    parts = out / "parts"
    while process.poll() is None and (not parts.is_dir() or len(list(parts.glob("part-*"))) < wanted):
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.3))
    killed = False
    while process.poll() is None and not killed:
        target = victim(process, case)
        if target is None:  # not begun yet
            time.sleep(0.05)
            continue
        with suppress(psutil.NoSuchProcess):
            target.kill()
            killed = True
    before = len(list(parts.glob("part-*")))
    began = time.perf_counter()
    code: int | str
    try:
        _, said = process.communicate(timeout=PATIENCE)
        code = process.returncode
    except subprocess.TimeoutExpired:
        code, said = "hangs", ""
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.communicate()
    ended = time.perf_counter() - began
    again = 0
    while code != 0 and again < 5:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE)
        again, code_now = again + 1, done.returncode
        if not code_now:
            break
        said += done.stderr
    same = rows_of(out).equals(reference)
    words = [line for line in said.strip().splitlines() if line.startswith("heedmap:")]
    return {
        "case": case, "killed": killed, "files": before, "code": code, "ended_s": round(ended, 1), "again": again,
        "same": same, "said": words[-1][:160] if words else "",
    }  # fmt: skip


def kills(times: int, only: str | None, state: Path | None) -> None:
    """Kill driver, worker and raylet in turn, and compare the rows in the end."""
    cases = [only] if only else ["driver", "worker", "raylet"]
    results = [json.loads(line) for line in state.read_text().splitlines()] if state and state.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        source = data(here, ROWS)
        subprocess.run(command(source, here / "whole"), check=True, capture_output=True)
        reference = rows_of(here / "whole")
        for number in range(len(results), times):
            out, case = here / f"run{number}", cases[number % len(cases)]
            result = disturbed(source, out, case, random.Random(number), reference)
            shutil.rmtree(out)
            results.append(result)
            print(json.dumps(result), flush=True)
            if state:
                with state.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    for case in cases:
        mine = [r for r in results if r["case"] == case and r["killed"]]
        same = sum(r["same"] for r in mine)
        alone = sum(r["code"] == 0 for r in mine)
        hung = sum(r["code"] == "hangs" for r in mine)
        print(f"{case}: {len(mine)} kills, {same} with the same rows, {alone} went on by themselves, {hung} hung")


def alone(times: int) -> None:
    """Kill the only process of a run without Ray until it ends, so many times in all."""
    import heedmap

    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        source, subject = data(here, ROWS), heedmap.load(MODEL)
        heedmap.run(subject, source, here / "whole", part=PART, page=False)
        reference = rows_of(here / "whole")
        killed = runs = same = 0
        while killed < times:
            out, runs = here / f"run{runs}", runs + 1
            ended, patience = False, 0.0
            while not ended:
                child = os.fork()
                if not child:
                    heedmap.run(subject, source, out, part=PART, page=False)
                    os._exit(0)
                patience += 0.2  # each time a little later, however busy the machine
                time.sleep(chance.uniform(0.0, 1.0) + patience)
                os.kill(child, signal.SIGKILL)
                ended = not os.WIFSIGNALED(os.waitpid(child, 0)[1])
                killed += not ended
            same += rows_of(out).equals(reference)
        print(f"{killed} kills in {runs} runs of {ROWS // PART} files, {same} of which have the same rows")


def spoilt(workers: int) -> None:
    """Bad rows, and parts that are damaged after the run."""
    import heedmap

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        source, subject = data(here, ROWS, bad=True), heedmap.load(MODEL)
        reference = rows_of(heedmap.run(subject, source, here / "whole", part=PART, page=False).folder)
        out = here / "out"
        run = heedmap.run(MODEL, source, out, part=PART, page=False, workers=workers)
        print(f"{len(run.errors)} bad rows of {len(run)}; the same rows: {rows_of(out).equals(reference)}")
        cut, damaged, emptied = sorted((out / "parts").glob("part-*"))[3::8][:3]
        cut.write_bytes(cut.read_bytes()[:-100])
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64 :])
        emptied.write_bytes(b"")
        told: list[str] = []
        heedmap.run(MODEL, source, out, part=PART, page=False, workers=workers, tell=told.append)
        for words in told:
            print(words.replace(str(out), "OUT"))
        print(f"three files spoilt, {len(told)} made again; the same rows: {rows_of(out).equals(reference)}")


def disk(workers: int) -> None:
    """A disk that is full again and again."""
    import heedmap

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        source, subject = data(here, ROWS), heedmap.load(MODEL)
        heedmap.run(subject, source, here / "whole", part=PART, page=False)
        reference = rows_of(here / "whole")
        needed = sum(file.stat().st_size for file in (here / "whole").rglob("*") if file.is_file())
        small = here / "small"
        small.mkdir()
        size, full = 128, 0
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(small)], check=True)
        try:
            while True:
                try:
                    heedmap.run(MODEL, source, small, part=PART, page=False, workers=workers)
                    break
                except heedmap.errors.OutputError as error:
                    full, size = full + 1, size + max(64, needed // 1024 // 6)
                    print(str(error).replace(str(small), "OUT"), flush=True)
                subprocess.run(["mount", "-o", f"remount,size={size}k", str(small)], check=True)
            same = rows_of(small).equals(reference)
            print(f"{needed // 1024} kB in all; {workers} workers; full {full} times; the same rows: {same}")
        finally:
            subprocess.run(["umount", str(small)], check=True)


def makers(cluster: Any) -> list[int]:
    """How many workers there are on each node of a cluster, the head first."""
    counts = []
    for node in (cluster.head_node, *sorted(cluster.worker_nodes, key=lambda n: n.node_ip_address)):
        (raylet,) = node.all_processes["raylet"]
        with suppress(psutil.Error):
            names = [" ".join(child.cmdline()[:1]) for child in psutil.Process(raylet.process.pid).children(True)]
            counts.append(sum(name.startswith("ray::") and "Maker" in name for name in names))
    return counts


def nodes(times: int) -> None:
    """Runs on a cluster of several nodes, one of which is lost."""
    from ray.cluster_utils import Cluster

    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        source = data(here, ROWS)
        subprocess.run(command(source, here / "whole"), check=True, capture_output=True)
        reference = rows_of(here / "whole")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        try:
            for number in range(times + 1):
                while len(cluster.worker_nodes) < 2:
                    address = f"127.0.0.{2 * number + 2 + len(cluster.worker_nodes)}"
                    cluster.add_node(num_cpus=2, node_ip_address=address)
                out, parts, most = here / f"run{number}", here / f"run{number}" / "parts", [0]
                process = begun(command(source, out, "--address", cluster.address, "--workers", 4))
                wanted = chance.randrange(ROWS // PART - 4) if number else ROWS
                while process.poll() is None and (not parts.is_dir() or len(list(parts.glob("part-*"))) < wanted):
                    most = max(most, makers(cluster), key=lambda counts: (sum(n > 0 for n in counts), sum(counts)))
                    time.sleep(0.2)
                files = len(list(parts.glob("part-*")))
                if number and process.poll() is None:
                    cluster.remove_node(chance.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
                began = time.perf_counter()
                _, said = process.communicate(timeout=PATIENCE)
                ended, again = time.perf_counter() - began, 0
                while process.returncode and again < 3 and not rows_whole(out):
                    again += 1
                    done = begun(command(source, out, "--address", cluster.address, "--workers", 4))
                    said += done.communicate(timeout=PATIENCE)[1]
                words = [line for line in said.strip().splitlines() if line.startswith("heedmap:")]
                result = {
                    "lost": bool(number), "workers": most, "files": files, "code": process.returncode, "ended_s": round(ended, 1),
                    "again": again, "same": rows_of(out).equals(reference), "said": words[-1][:200] if words else "",
                }  # fmt: skip
                print(json.dumps(result), flush=True)
        finally:
            cluster.shutdown()


def rows_whole(out: Path) -> bool:
    """Whether all parts of a run are there."""
    return len(list((out / "parts").glob("part-*.parquet"))) == ROWS // PART


def loop(samples: int, workers: int) -> None:
    """What a run takes beside a plain loop over the same files, and how much sooner several workers are done."""
    import numpy as np
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    import heedmap

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        ViTForImageClassification(ViTConfig(num_labels=10)).save_pretrained(here / "model")
        ViTImageProcessor().save_pretrained(here / "model")
        pictures = here / "pictures"
        pictures.mkdir()
        for number, noise in enumerate(
            np.random.default_rng(0).integers(0, 255, (samples, 300, 400, 3), dtype=np.uint8)
        ):
            Image.fromarray(noise).save(pictures / f"{number:05}.jpg")
        subject = heedmap.load(str(here / "model"))
        files = sorted(pictures.iterdir())

        def plain() -> None:
            for number, file in enumerate(files):
                subject.explain(image=file).save(here / f"{number}.json")

        def ran() -> None:
            heedmap.run(subject, pictures, here / "out", batch=1, part=max(1, samples // 4), page=False)
            shutil.rmtree(here / "out")

        subject.explain(image=files[0])
        taken: list[float] = []
        for _ in range(2):
            times = []
            for made in (ran, plain):
                began = time.process_time()
                made()
                times.append(time.process_time() - began)
            taken.append(times[0] / times[1])
            print(f"run {times[0]:6.1f} s of the processor, plain loop {times[1]:6.1f} s: {taken[-1]:.3f}", flush=True)
        for count in (1, workers) if workers else ():
            began = time.perf_counter()
            told: list[float] = []

            def progress(done: int, of: int, told: list[float] = told) -> None:
                told.append(time.perf_counter())

            heedmap.run(
                str(here / "model"), pictures, here / f"by{count}", batch=1, part=max(1, samples // 12), page=False,
                workers=count, progress=progress,
            )  # fmt: skip
            print(
                f"{count} workers: {time.perf_counter() - began:.1f} s in all, {told[-1] - told[1]:.1f} s from the first part on"
            )


def flat(samples: int) -> None:
    """Resident memory of the process, as the rows go by."""
    import heedmap

    with tempfile.TemporaryDirectory() as folder:
        source = data(Path(folder), samples)
        process = psutil.Process(os.getpid())
        subject = heedmap.load(MODEL)
        taken: list[tuple[int, float]] = []
        began = time.perf_counter()

        def progress(done: int, of: int) -> None:
            taken.append((done, process.memory_info().rss / 2**20))

        run = heedmap.run(subject, source, Path(folder) / "out", page=False, progress=progress)
        seconds = time.perf_counter() - began
        for done, megabytes in taken[:: max(1, len(taken) // 10)]:
            print(f"{done:6} rows  {megabytes:6.0f} MB")
        size = sum(file.stat().st_size for file in (Path(folder) / "out").rglob("*") if file.is_file())
        first = next(megabytes for done, megabytes in taken if done >= samples // 10)
        print(f"{len(run)} rows, {len(run.errors)} bad, {seconds:.1f} s, {len(run) / seconds:.0f} rows a second")
        print(f"{size / 2**20:.1f} MB of files; from a tenth on {taken[-1][1] - first:+.0f} MB of memory")
        began = time.perf_counter()
        again = heedmap.open_run(Path(folder) / "out")
        count = len(again.where(prediction="red"))
        print(f"opened and filtered in {time.perf_counter() - began:.2f} s: {count} rows say red")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "alone", "disk", "spoilt", "flat", "nodes", "loop"])
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--times", type=int, default=33)
    parser.add_argument("--case")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--samples", type=int)
    given = parser.parse_args()
    if given.what == "kills":
        kills(given.times, given.case, given.state)
    elif given.what == "alone":
        alone(given.times)
    elif given.what == "disk":
        disk(given.workers)
    elif given.what == "spoilt":
        spoilt(given.workers)
    elif given.what == "nodes":
        nodes(given.times)
    elif given.what == "loop":
        loop(given.samples or 24, given.workers)
    else:
        flat(given.samples or 10_000)


if __name__ == "__main__":
    main()
