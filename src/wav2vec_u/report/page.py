"""Put the page together and write it."""

from __future__ import annotations

from pathlib import Path

from wav2vec_u.report.markup import Markup, element
from wav2vec_u.report.sections import SECTIONS, Unavailable
from wav2vec_u.report.style import STYLE
from wav2vec_u.runtime.errors import UserError
from wav2vec_u.runtime.files import write_text

REPORT_NAME = "report.html"
# What comes of files that hold something else than expected.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, UserError)


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into the folder of a run, finished or not.

    The page needs nothing but itself: style and pictures are inside it.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UserError
        If there is no such folder, or nothing of a run in it.
    """
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: there is no such folder; give the folder of a run")
    known = ("run.json", "metrics.json", "corpus", "text", "evaluate")
    if not any((run_dir / name).exists() for name in known):
        raise UserError(f"{run_dir}: holds nothing of a run; give the folder that `--out` named")
    path = run_dir / REPORT_NAME
    write_text(path, render(run_dir))
    return path


def render(run_dir: Path) -> str:
    """Render the page; a section whose files are missing or damaged says so."""
    name = run_dir.resolve().name
    sections = []
    for title, anchor, section in SECTIONS:
        content: Markup
        try:
            content = section(run_dir)
        except Unavailable as reason:
            content = element("p", str(reason), class_="missing")
        except _DAMAGE:
            content = element("p", "the files of this section are damaged", class_="missing")
        sections.append(element("section", element("h2", title), content, id=anchor))
    links = [element("a", title, href=f"#{anchor}") for title, anchor, _ in SECTIONS]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{name} · wav2vec-u"),
        element("style", Markup(STYLE)),
    )
    body = element("body", element("h1", f"Run {name}"), element("nav", links), sections)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
