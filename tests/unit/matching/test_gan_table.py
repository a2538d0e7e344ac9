from __future__ import annotations

import io

import pytest
from rich.console import Console

from wav2vec_u.matching.gan.table import MembersTable


def drawn(table: MembersTable) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(table.drawn())
    return out.getvalue()


def test_the_table_shows_the_last_figures_of_every_living_member() -> None:
    with MembersTable(updates=500) as table:
        table.advance(20)
        table.show(0, {"perplexity": 12.345, "generator_adversarial": 1.5})
        table.show(1, {"perplexity": 7.0})
        table.show(0, {"lm_ppl": 6.5, "usage": 0.9, "taken_off": True})
        text = drawn(table)
        assert "update 20 of 500" in text
        for shown in ("12.3", "1.5", "6.5", "0.9", "yes"):
            assert shown in text
        table.end(0)
        assert "12.3" not in drawn(table)


def test_nothing_is_printed_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with MembersTable(updates=5) as table:
        table.show(0, {"perplexity": 2.0})
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
