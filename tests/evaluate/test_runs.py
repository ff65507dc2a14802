import json
import os
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

import heedmap
from heedmap.cli.main import app
from heedmap.datasets.sample import Sample
from heedmap.errors import FileFormatError, InputError, OptionError, OutputError, SampleError
from heedmap.evaluate.evaluation import EvaluationPlan, contender, contenders, crossed, fingerprint, measured, run
from heedmap.evaluate.experiments.detection import Detection
from heedmap.evaluate.experiments.perturbation import Perturbation
from heedmap.evaluate.experiments.segmentation import Segmentation
from heedmap.evaluate.folder import RunFolder, read_summary
from heedmap.evaluate.statistics import figures
from heedmap.zoo.dataset import ZooSamples, answered, first, shown
from heedmap.zoo.evidence import KnownEvidence
from heedmap.zoo.samples import MATERIALS

NAME = "zoo/visualbert-shapes"
COMMAND = ["evaluate", "perturbation", NAME, "--method", "rollout", "--samples", "8", "--batch", "2"]


@pytest.fixture(scope="module")
def subject() -> Any:
    return heedmap.load(NAME)


def _plan(
    subject: Any, reader: Any = None, count: int = 12, names: Sequence[str] = ("rollout",), **settings: Any
) -> EvaluationPlan:
    evaluation = Perturbation.of(subject, segments=("text",))
    return EvaluationPlan(
        evaluation,
        subject,
        answered(subject) if reader is None else reader,
        contenders(names, False),
        count,
        part=5,
        **settings,
    )


class Damaged:
    """A reader of which one sample in three cannot be read."""

    def __init__(self, inner: ZooSamples) -> None:
        self._inner = inner
        self.keys, self.description = inner.keys, inner.description
        self.problems: Mapping[str, str] = {"no-annotation": "there is no annotation of it"}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        if index % 3 == 0:
            raise SampleError("its image is damaged")
        return self._inner[index]


@pytest.fixture(scope="module")
def whole(subject: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, which stays as it is."""
    folder = tmp_path_factory.mktemp("whole")
    done: list[int] = []
    summary = run(_plan(subject), folder, done.append)
    assert done == [5, 5, 2]
    assert read_summary(folder) == json.loads(json.dumps(summary))
    return folder


def test_a_run_is_a_folder(whole: Path) -> None:
    rows = parquet.read_table(whole / "rows").to_pylist()
    assert len(rows) == 12 * 2 * 2 * 9
    assert {row["method"] for row in rows} == {"generic", "rollout"}
    assert json.loads((whole / "config.json").read_text())["seed"] == 0
    summary, page = read_summary(whole), (whole / "report.html").read_text()
    assert "Leaderboard" in page
    assert page.count("data:image/png;base64,") == len(summary["curves"]) == len(list((whole / "curves").iterdir()))
    assert summary["leaderboard"][0]["method"] in ("generic", "rollout")
    assert {len(measure["rows"]) for measure in summary["measures"]} == {2}


def test_the_same_seed_gives_the_same_bytes(subject: Any, whole: Path, tmp_path: Path) -> None:
    run(_plan(subject), tmp_path / "same")
    run(_plan(subject, seed=1), tmp_path / "other")
    folders = whole, tmp_path / "same", tmp_path / "other"
    first, second, third = ((folder / "summary.json").read_bytes() for folder in folders)
    assert first == second
    assert first != third


@pytest.mark.parametrize(
    ("name", "evaluation", "reader"),
    [
        ("vit-shapes", Segmentation(), shown),
        ("detr-shapes", Detection(), shown),
        (
            "bart-dates",
            KnownEvidence(MATERIALS["bart-dates"]),
            lambda subject: first(subject, MATERIALS["bart-dates"], 3),
        ),
    ],
)
def test_the_first_part_is_the_same_contender_by_contender(name: str, evaluation: Any, reader: Any) -> None:
    """It is measured while contenders are tried; one that does not fit leaves the others as they are."""
    subject = heedmap.load(f"zoo/{name}")
    specs = contenders(("raw_attention", "random", "token_tm" if name == "bart-dates" else "rollout"), False)
    plan = EvaluationPlan(evaluation, subject, reader(subject), specs, 3, part=3)
    found, skipped, refused = measured(plan)
    assert set(refused) == {"token_tm"} & {spec.name for spec in specs}
    fit = [spec for spec in specs if spec.name not in refused]
    samples = [plan.reader[index] for index in plan.parts[0]]
    rows, why = plan.evaluation.rows(subject, samples, fit, zlib.crc32(f"0 {samples[0].key}".encode()))
    assert skipped == why
    assert repr(found.facts) == repr(plan.evaluation.findings(rows).facts)
    for apart, together in zip(found.measures, plan.evaluation.findings(rows).measures, strict=True):
        assert repr(figures(apart, "generic", 0)) == repr(figures(together, "generic", 0))


def test_a_finished_part_is_not_measured_again(subject: Any, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    kept, lost = tmp_path / "rows" / "part-00000.parquet", tmp_path / "rows" / "part-00001.parquet"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    (tmp_path / "summary.json").unlink()
    run(_plan(subject), tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert (tmp_path / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()


def _wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    for _ in range(6000):
        if condition():
            return
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.05)
    pytest.fail("it never came so far")


SAID = "import os; print(os.getpid(), flush=True); from heedmap.cli.main import main; main()"
"""The command, which says first which process it is."""


def test_a_killed_run_goes_on_and_a_second_one_refuses(tmp_path: Path, warmed: Path) -> None:
    """kill -9 in the middle, run again: the same bytes as of a run that nobody stopped. Meanwhile the folder is held."""
    killed = [*COMMAND, "--out", str(tmp_path / "killed")]
    command = [warmed.with_name("python"), "-c", SAID, *killed]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as first:
        assert first.stdout is not None
        running = int(first.stdout.readline())
        try:
            _wait_for(lambda: (tmp_path / "killed" / "rows" / "part-00001.parquet").exists(), first)
            os.kill(running, signal.SIGSTOP)
            second = CliRunner().invoke(app, killed)
        finally:
            os.kill(running, signal.SIGKILL)
    assert second.exit_code == 1
    assert "another run is writing" in second.stderr
    assert not (tmp_path / "killed" / "summary.json").exists()
    for name in ("killed", "whole"):
        assert CliRunner().invoke(app, [*COMMAND, "--out", str(tmp_path / name)]).exit_code == 0
    assert (tmp_path / "killed" / "summary.json").read_bytes() == (tmp_path / "whole" / "summary.json").read_bytes()


def test_a_folder_of_another_run_is_left_alone(subject: Any, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    with pytest.raises(OptionError, match="samples: 12 there, 6 now"):
        run(_plan(subject, count=6), tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"config\.json is no configuration"):
        run(_plan(subject), tmp_path)


def test_other_weights_are_another_run(subject: Any, whole: Path) -> None:
    other = heedmap.load(NAME)
    next(other.model.parameters()).data[0, 0] += 1
    assert fingerprint(other.model) != fingerprint(subject.model)
    with pytest.raises(OptionError, match=r"model\.weights: "):
        run(_plan(other), whole)


def test_damaged_samples_are_skipped_counted_and_listed(subject: Any, tmp_path: Path) -> None:
    summary = run(_plan(subject, Damaged(answered(subject)), count=15), tmp_path)
    skipped = summary["skipped"]
    assert skipped["why"]["no-annotation"] == "there is no annotation of it"
    damaged = [key for key, why in skipped["why"].items() if why == "its image is damaged"]
    assert skipped["count"] == len(damaged) + 1 > 2
    measured = {row["sample"] for row in parquet.read_table(tmp_path / "rows").to_pylist()}
    assert len(measured) + len(damaged) == 15
    assert measured.isdisjoint(damaged)
    assert "its image is damaged" in (tmp_path / "report.html").read_text()


def test_one_bad_sample_does_not_spoil_its_part(subject: Any, tmp_path: Path) -> None:
    class Wrong(Damaged):
        def __getitem__(self, index: int) -> Sample:
            sample = self._inner[index]
            boxes = {**sample.inputs["boxes"], "features": sample.inputs["boxes"]["features"][:, :5]}
            return Sample(sample.key, {**sample.inputs, "boxes": boxes}, sample.truth) if index % 3 == 0 else sample

    summary = run(_plan(subject, Wrong(answered(subject)), count=10), tmp_path)
    assert any("the features have shape (10, 5)" in why for why in summary["skipped"]["why"].values())
    assert {m["samples"] for m in summary["measures"]} == {10 - (summary["skipped"]["count"] - 1)}


def test_a_method_that_does_not_fit_is_told_and_left_out(subject: Any, tmp_path: Path) -> None:
    plan = _plan(subject, count=5, names=("generic:start_layer=99", "rollout"))
    summary = run(plan, tmp_path)
    (name,) = summary["refused"]
    assert name == "generic, start_layer=99"
    assert {row["method"] for row in summary["measures"][0]["rows"]} == {"generic", "rollout"}
    assert "start_layer=99" in (tmp_path / "report.html").read_text()


def test_without_a_usable_sample_nothing_is_measured(subject: Any, tmp_path: Path) -> None:
    class Nothing(Damaged):
        def __getitem__(self, index: int) -> Sample:
            raise SampleError("its image is damaged")

    with pytest.raises(InputError, match="its image is damaged"):
        run(_plan(subject, Nothing(answered(subject)), count=5), tmp_path / "a")
    empty = Nothing(answered(subject))
    empty.keys = []
    with pytest.raises(InputError, match=r"no samples.*no annotation"):
        run(_plan(subject, empty, count=5), tmp_path / "b")


def test_a_damaged_part_is_named(subject: Any, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "rows" / "part-00001.parquet").write_bytes(b"half")
    with pytest.raises(FileFormatError, match=r"part-00001\.parquet is damaged.*only this part"):
        run(_plan(subject), tmp_path)


def test_a_folder_that_cannot_be_written_is_told(subject: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the folder"), RunFolder(tmp_path / "file" / "run").locked():
        pass
    with pytest.raises(FileFormatError, match="no summary"):
        read_summary(tmp_path)


def test_names_of_contenders() -> None:
    one = contender("generic:normalize=false,start_layer=1")
    assert (one.name, one.method, one.options) == (
        "generic, normalize=False, start_layer=1",
        "generic",
        {"normalize": False, "start_layer": 1},
    )
    names = [c.name for c in contenders((), True)]
    assert names[0] == "generic"
    assert {"random", "generic, normalize=False", "generic, cam=lrp"} <= set(names)
    assert "occlusion" not in names
    assert len(names) == len(set(names))
    assert "occlusion" in [c.name for c in contenders(("all",), False)]
    with pytest.raises(OptionError, match="no option 'colour'"):
        contender("generic:colour=1")
    with pytest.raises(OptionError, match="KEY=VALUE"):
        contender("generic:normalize")


def test_cross_attention_is_seen_not_guessed(subject: Any) -> None:
    assert not crossed(subject, answered(subject))
    lxmert = heedmap.load("zoo/lxmert-shapes")
    assert crossed(lxmert, answered(lxmert))
