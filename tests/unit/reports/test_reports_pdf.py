"""What a reader of the PDF sees: pages, contents, repeated heads, Korean, charts as vectors."""

from __future__ import annotations

import io
import runpy
import sys
from typing import Any

import pytest
from pypdf import PdfReader

from app.local.servers import PROJECT
from app.reports.pdf import BOLD, PLAIN, _step, fit, set_up, write_pdf
from app.reports.sections import Chart, Column, Section

COLUMNS = [Column("제목", 0.7), Column("Count", 0.3, "right")]
TITLES = ["Overview", "Posts", "구독자"]


def sections(rows: int) -> list[Section]:
    chart = Chart("Posts published", [f"01-{day:02}" for day in range(1, 32)], [day % 7 for day in range(31)])
    return [
        Section(facts=[("Posts published", 12_345)] * 5, chart=chart),
        Section(columns=COLUMNS, rows=([f"큐는 잊는다 {number}", f"{number:,}"] for number in range(rows))),
        Section(chart=Chart("New", ["01-01"], [0]), columns=COLUMNS),
    ]


def pdf(rows: int = 100, **change: Any) -> PdfReader:
    file = io.BytesIO()
    options = {"title": "Activity report", "period": "January 2026", "made": "Made for 김영희", "titles": TITLES}
    write_pdf(file, **(options | {"sections": sections(rows)} | change))
    return PdfReader(file)


@pytest.fixture(scope="module")
def document() -> PdfReader:
    return pdf()


@pytest.fixture(scope="module")
def pages(document: PdfReader) -> list[str]:
    return [page.extract_text() for page in document.pages]


def test_the_title_page(pages: list[str]) -> None:
    for text in ("PRESSROOM", "Activity report", "January 2026", "Made for 김영희"):
        assert text in pages[0]


def test_the_contents_tell_the_pages_on_which_the_sections_begin(document: PdfReader, pages: list[str]) -> None:
    lines = pages[1].splitlines()
    numbers = [int(line) for line in lines if line.isdigit()][-len(TITLES) :]
    begins = [next(n for n, text in enumerate(pages, 1) if n > 2 and title in text.splitlines()) for title in TITLES]
    assert sorted(numbers) == begins == [3, 4, 7]
    linked = [annotation.get_object() for annotation in document.pages[1]["/Annots"]]
    assert len(linked) == 3
    for entry, begin in zip(document.outline, begins, strict=True):
        assert document.get_destination_page_number(entry) == begin - 1


def test_a_long_table_has_its_head_on_every_page_and_every_row_once(pages: list[str]) -> None:
    table = pages[3:6]
    assert all("제목" in page and "Count" in page for page in table)
    for number in range(100):
        assert sum(f"큐는 잊는다 {number}" in page.splitlines() for page in table) == 1, number


def test_pages_are_numbered(pages: list[str]) -> None:
    for number, text in enumerate(pages[1:], 2):
        assert str(number) in text.splitlines()


def test_a_section_without_figures_says_so(pages: list[str]) -> None:
    assert pages[-1].count("Nothing in this period.") == 2


def test_fonts_are_embedded_and_nothing_is_a_bitmap(document: PdfReader) -> None:
    fonts: set[str] = set()
    for page in document.pages:
        resources = page["/Resources"]
        assert not page.images
        for reference in resources.get("/Font", {}).values():
            font = reference.get_object()
            if "/FontDescriptor" in font:
                assert "/FontFile2" in font["/FontDescriptor"]
                fonts.add(font["/BaseFont"].rpartition("+")[2])
    assert fonts == {"NanumGothic", "NanumGothicBold"}


def test_the_chart_is_drawn_as_bars(document: PdfReader) -> None:
    drawn = document.pages[2].get_contents()
    assert drawn is not None
    assert drawn.get_data().count(b" re") + drawn.get_data().count(b" l") > 30
    assert "Posts published" in document.pages[2].extract_text()


def test_the_font_is_found_without_loading_what_it_comes_with() -> None:
    set_up()
    assert "koreanize_matplotlib" not in sys.modules
    assert "matplotlib" not in sys.modules


@pytest.mark.parametrize(
    "text", ["", "short", "긴 제목 " * 50, "a" * 500, "two\nlines\tand\x00more", "이모지 🎉", "\u202ertl", "\ud800"]
)
def test_any_text_fits_its_cell(text: str) -> None:
    from reportlab.pdfbase.pdfmetrics import stringWidth

    set_up()
    fitted = fit(text, "NanumGothic", 8.5, 100)
    assert stringWidth(fitted, "NanumGothic", 8.5) <= 100
    assert "\n" not in fitted
    assert len(pdf(sections=[Section(columns=COLUMNS, rows=[[text, text]])], titles=["x"]).pages) == 3


@pytest.mark.parametrize(("largest", "step"), [(1, 1), (5, 1), (6, 2), (11, 5), (1_234, 500), (100_000, 20_000)])
def test_the_axis_has_round_steps(largest: int, step: int) -> None:
    assert _step(largest) == step


def test_the_image_keeps_these_fonts() -> None:
    assert runpy.run_path(str(PROJECT / "deploy" / "slim.py"))["FONTS"] == {f"{PLAIN}.ttf", f"{BOLD}.ttf"}
