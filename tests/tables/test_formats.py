"""Every format shows the same cells, and text from files stays text."""

import csv
import html.parser
import io
import re

import pytest
from rich.console import Console

from qresearch.reports.statistics import Interval
from qresearch.tables.cell import TableCell, TableView
from qresearch.tables.formats import FORMATS, as_csv, as_html, as_latex, as_markdown, as_text, console_parts
from qresearch.tables.latex import LONG, NARROW, escaped
from qresearch.tables.layout import measured_text, sheets

OTHER = "another float network"
CELLS = [
    TableCell("PTQ", "8 bits", Interval(91.726, 0.311, 3), "91.55", 0.176, "reproduced"),
    TableCell("PTQ", "4 bits", Interval(90.0, 0.5, 3), "92.0", -2.0, "outside"),
    TableCell("QAT", "8 bits", Interval(91.73, None, 1), "92.82", -1.09, "different setting", OTHER, 2, (91.17, 92.25)),
    TableCell("QAT", "4 bits", None, "91", None, "failed", "seed 0: no"),
]
VIEW = TableView("Nets", CELLS, ["A note."], 3)
GRID = TableView(
    "Digits",
    [
        TableCell("PTQ", "8 bits", Interval(96.4, 0.5, 3), None, None, "-", digits=1),
        TableCell("PTQ", "2 bits", Interval(12.3, 7.1, 2), None, None, "diverged", "seed 2: nan", 1),
        TableCell("QAT", "8 bits", None, None, None, "not run", digits=1),
    ],
    [],
    3,
    (["weight.bits", "b against a"], [["8", "not significant (p = 0.74, 3 pairs)"]]),
)
HOSTILE = '<script>alert(1)</script> | a_b *c* `d` [e](f) \\x{} 100 % & #1 $y$ ~ ^ "q" [bold]z'
EVIL = TableView(HOSTILE, [TableCell(HOSTILE, HOSTILE, None, "1", None, "failed", HOSTILE)], [HOSTILE], 1)


def words(text):
    return [line.split() for line in text.splitlines()]


def test_a_line_for_each_cell_where_something_is_published():
    lines = words(as_text(VIEW))
    assert lines[:2] == [["Nets"], ["row", "column", "measured", "n", "published", "difference", "verdict"]]
    assert lines[2] == ["PTQ", "8", "bits", "91.73", "±", "0.31", "3", "91.55", "+0.18", "reproduced"]
    assert lines[3] == ["4", "bits", "90.00", "±", "0.50", "3", "92.0", "-2.00", "outside"]
    third = ["91.73", "[91.17,", "92.25]", "1", "92.82", "-1.09", "different", "setting", "(1)"]
    assert lines[4] == ["QAT", "8", "bits", *third]
    assert lines[5] == ["4", "bits", "91", "failed", "(2)"]
    assert [" ".join(line) for line in lines[6:]] == [f"(1) {OTHER}", "(2) seed 0: no", "A note."]


def test_a_grid_where_nothing_is():
    lines = words(as_text(GRID))
    assert lines[1] == ["8", "bits", "2", "bits"]
    assert lines[2] == ["PTQ", "96.4", "±", "0.5", "12.3", "±", "7.1", "(n", "=", "2)", "diverged", "(1)"]
    assert lines[3] == ["QAT", "not", "run"]
    assert " ".join(lines[4]) == "(1) seed 2: nan"
    assert [" ".join(line) for line in lines[6:9]] == [
        "Paired comparison",
        "weight.bits b against a",
        "8 not significant (p = 0.74, 3 pairs)",
    ]


def test_computed_values_have_no_n_and_one_column_heads_its_values():
    cells = [TableCell("N = 2", "step", Interval(1.595769, None, 1), "1.596", -0.0000004, "reproduced", digits=5)]
    (sheet,) = sheets(TableView("Max", cells, []))
    assert sheet.head == ["row", "step", "published", "difference", "verdict"]
    assert [entry.text for entry in sheet.rows[0]] == ["N = 2", "1.59577", "1.596", "0.00000", "reproduced"]
    assert [sheet.is_number(index) for index in range(5)] == [False, True, True, True, False]


def test_measured_in_words():
    assert [measured_text(cell) for cell in CELLS] == ["91.73 ± 0.31", "90.00 ± 0.50", "91.73 [91.17, 92.25]", ""]


def test_words_have_colours_on_a_terminal():
    stream = io.StringIO()
    console = Console(file=stream, width=120, force_terminal=True, color_system="standard", legacy_windows=False)
    for part in console_parts(VIEW):
        console.print(part)
    assert re.search(r"\x1b\[32mreproduced", stream.getvalue()) and re.search(r"\x1b\[31moutside", stream.getvalue())
    assert "\x1b" not in as_text(VIEW)


def test_csv_has_all_digits_and_can_be_read_back():
    head, *rows = csv.reader(io.StringIO(as_csv(VIEW)))
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert len(found) == 4 and found[0]["measured"] == "91.726" and found[0]["n"] == "3"
    assert float(found[0]["low"]) == pytest.approx(91.415) and float(found[0]["high"]) == pytest.approx(92.037)
    assert (found[2]["half_width"], found[2]["low"], found[2]["high"]) == ("", "91.17", "92.25")
    assert (found[3]["measured"], found[3]["published"], found[3]["verdict"]) == ("", "91", "failed")
    assert found[2]["reason"] == OTHER
    (_, evil) = csv.reader(io.StringIO(as_csv(EVIL)))
    assert evil[0] == evil[1] == evil[-1] == HOSTILE


def test_markdown_is_a_table_whose_lines_have_one_number_of_columns():
    title, _, head, rule, *rest = as_markdown(VIEW).splitlines()
    assert title == "### Nets"
    assert head == "| row | column | measured | n | published | difference | verdict |"
    assert rule == "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    assert rest[0] == "| PTQ | 8 bits | 91.73 ± 0.31 | 3 | 91.55 | +0.18 | reproduced |"
    unescaped = [re.findall(r"(?<!\\)\|", line) for line in as_markdown(EVIL).splitlines() if line.startswith("|")]
    assert {len(bars) for bars in unescaped} == {7}  # one column for all cells: it heads the values


def test_markdown_takes_text_literally():
    text = as_markdown(EVIL)
    unescaped = re.sub(r"\\(.|\n)", "", text.replace("### ", ""))
    assert not set("<>`*[]_&$#\\") & set(unescaped)
    assert text.count(r"\<script\>") == 5  # the title, the row, the column, the reason, the note


class Page(html.parser.HTMLParser):
    """The tags of a page, and the texts of its cells by row."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.texts.append(data)
        if self.rows and self.rows[-1] and self.tags[-1][0] in ("td", "th"):
            self.rows[-1][-1] += data.strip()


def test_html_has_the_cells_and_asks_for_nothing():
    page = Page(as_html(VIEW))
    assert page.rows[0] == ["row", "column", "measured", "n", "published", "difference", "verdict"]
    assert page.rows[1] == ["PTQ", "8 bits", "91.73 ± 0.31", "3", "91.55", "+0.18", "reproduced"]
    assert page.rows[3][-1] == "different setting (1)"
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe"}
    assert not any(key in attrs for _, attrs in page.tags for key in ("src", "href", "onclick", "style"))
    assert "url(" not in as_html(VIEW) and "@import" not in as_html(VIEW)
    classes = [attrs.get("class") for tag, attrs in page.tags if tag == "td"]
    assert "good" in classes and "bad" in classes and "other" in classes


def test_html_takes_text_literally():
    page = Page(as_html(EVIL))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.rows[1][0] == HOSTILE
    assert HOSTILE in page.texts and f"(1) {HOSTILE}" in page.texts


def test_latex_is_booktabs():
    text = as_latex(VIEW)
    assert text.startswith("% ") and "booktabs" in text.splitlines()[0]
    assert r"\begin{tabular}{@{}llrrrrl@{}}" in text
    assert r"PTQ & 8 bits & 91.73 $\pm$ 0.31 & 3 & 91.55 & +0.18 & reproduced \\" in text
    assert r" & 4 bits & 90.00 $\pm$ 0.50 & 3 & 92.0 & $-$2.00 & outside \\" in text
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 1, 1]
    assert text.count(r"\begin{") == text.count(r"\end{") == 2


def test_a_long_table_breaks_over_pages():
    cells = [TableCell(f"N = {n}", "step", Interval(n, None, 1), "1", 0.0, "reproduced") for n in range(LONG + 1)]
    text = as_latex(TableView("Long", cells, []))
    assert r"\begin{longtable}" in text and r"\endhead" in text and r"\begin{table}" not in text
    assert r"\begin{longtable}" not in as_latex(TableView("Short", cells[:-1], []))


def test_latex_takes_text_literally():
    assert escaped(r"50 % of a_b & $c$ #1 {x} ~ ^ \input{y}") == (
        r"50 \% of a\_b \& \$c\$ \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}input\{y\}"
    )
    assert escaped("σ ≤ λ² − Ω") == r"$\sigma$ $\leq$ $\lambda$$^2$ $-$ $\Omega$"
    assert escaped("-0.06") == "$-$0.06" and escaped("W8A8 - float") == "W8A8 {-} float"
    assert escaped("a\nb") == "a b" and escaped("Müller") == "Müller"
    body = as_latex(EVIL).partition("\n")[2]
    body = body.replace(NARROW, "")
    assert not re.search(r"(?<!\\)[%#]", body) and r"\script" not in body
    assert not re.search(r"(?<!\\)\$(?!\\|-|\^|$| )", body.replace(r"\$", ""))


def test_all_formats_are_text_that_ends_a_line():
    for view in (VIEW, GRID, EVIL):
        for form in FORMATS.values():
            assert form(view).endswith("\n") and not form(view).endswith("\n\n")
