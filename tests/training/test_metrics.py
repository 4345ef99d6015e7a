"""metrics.jsonl is read past whatever else has got into it."""

from pathlib import Path

from mmdisco_cli.training.metrics import MetricsLog, read_rows

GOOD = '{"stage": "discriminator", "step": 5, "loss": 0.5}'
LATER = '{"stage": "discriminator", "step": 10, "loss": 0.25}'
FOREIGN = [b"[1]", b"null", b'"stage"', b'{"stage": "\xff', b"\xff\xfe", b'{"step": 1}', b'{"stage": 1, "step": 1}']


def test_lines_that_are_not_ours_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([GOOD.encode(), *FOREIGN, LATER.encode(), b'{"stage": "disc']))
    assert [row["step"] for row in read_rows(path)] == [5, 10]
    MetricsLog(path, "discriminator", 5).rewind(5, {})
    assert path.read_text() == GOOD + "\n"
