"""What is not markup is escaped, wherever it stands."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec_u.report.markup import Markup, element, table


class Collector(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that do not match."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(page: str) -> Collector:
    collector = Collector()
    collector.feed(page)
    collector.close()
    assert collector.open == []
    return collector


printable = st.text(st.characters(exclude_categories=("Cc", "Cs")))


@settings(deadline=None)
@given(printable, printable)
def test_text_and_attributes_come_back_unchanged(text: str, attribute: str) -> None:
    found = parse(element("p", text, title=attribute))
    assert found.tags == [("p", {"title": attribute})]
    assert "".join(found.text) == text


@settings(deadline=None)
@given(st.text())
def test_any_string_makes_one_element(text: str) -> None:
    page = element("td", text, title=text)
    page.encode("utf-8")  # lone surrogates are gone
    assert [tag for tag, _ in parse(page).tags] == ["td"]


def test_markup_is_kept_in_content_and_escaped_in_attributes() -> None:
    inner = element("b", "x")
    assert element("p", inner) == "<p><b>x</b></p>"
    assert element("p", title=Markup('"><script>')) == '<p title="&quot;&gt;&lt;script&gt;"></p>'


def test_names_of_attributes() -> None:
    assert (
        element("a", class_="x", stroke_width=2, name=None) == '<a class="x" stroke-width="2"></a>'
    )


def test_table_has_a_cell_for_each_value() -> None:
    found = parse(table(["a", "b"], [[1, "<"], [None, element("i", "x")]]))
    assert [tag for tag, _ in found.tags].count("td") == 4
