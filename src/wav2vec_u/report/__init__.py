"""One page that shows a run: what went in, what was learned, how well it did."""

from wav2vec_u.report.page import write_report

__all__ = ["write_report"]
