"""Measurements that are kept: no work is done twice, also work that gave nothing."""

from pathlib import Path
from typing import Any

from known.rows import kept, read


def test_work_is_done_once_whatever_it_gave(tmp_path: Path) -> None:
    path, done = tmp_path / "rows.jsonl", list[str]()

    def work(key: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        done.append(key)
        return rows

    for _ in range(2):
        kept(
            path, "two", lambda: work("two", [{"method": "generic", "share": 0.5}, {"method": "random", "share": 0.1}])
        )
        kept(path, "none", lambda: work("none", []))
    assert done == ["two", "none"]
    assert read(path) == [
        {"key": "two", "method": "generic", "share": 0.5},
        {"key": "two", "method": "random", "share": 0.1},
    ]
    assert read(tmp_path / "missing.jsonl") == []
