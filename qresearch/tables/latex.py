"""A table for LaTeX: a fragment with booktabs, made to fit the width of the text, a longtable where it is longer than a
page.

Greek letters and the signs of LATEX are set; other characters beyond ASCII stay as they are, which xelatex and
lualatex read, and pdflatex as far as its fonts go.
"""

import re
import unicodedata
from collections.abc import Iterable

from qresearch.tables.cell import TableView
from qresearch.tables.layout import Sheet, sheets

LONG = 45  # lines that fit on a page
PREAMBLE = r"% \usepackage[T1]{fontenc} \usepackage{booktabs,graphicx,longtable}"
NARROW = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # no wider than the text
LATEX = {character: f"\\{character}" for character in "#$%&_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "-": r"{-}",  # two of them would be a dash
    "[": "{[}",  # after the end of a line it would be an argument
    "*": "{*}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{RIGHTWARDS ARROW}": r"$\to$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{MICRO SIGN}": r"$\mu$",
}
SMALL = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi"
CAPITAL = "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
LETTERS = {*SMALL.split(), "omega", *CAPITAL.split()}


def as_latex(view: TableView) -> str:
    """A fragment for \\input; its first line names the packages that it needs."""
    return "\n\n".join([PREAMBLE, *map(_sheet, sheets(view))]) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is written."""
    minus = "$-$" if re.match(r"-\d", text) else ""
    words = " ".join(text.split())
    return minus + "".join(
        LATEX.get(character) or _greek(character) for character in words.removeprefix("-" * bool(minus))
    )


def _sheet(sheet: Sheet) -> str:
    columns = "".join("r" if sheet.is_number(index) else "l" for index in range(len(sheet.head)))
    head = _line(map(_bold, sheet.head))
    rows = [_line(escaped(entry.text) for entry in row) for row in sheet.rows]
    title = escaped(sheet.title)
    notes = [rf"{escaped(note)}\par" for note in sheet.notes]
    below = [r"\begingroup\raggedright\footnotesize", *notes, r"\endgroup"]
    if len(rows) > LONG:
        top = [
            r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}",
            r"\begin{longtable}" + f"{{@{{}}{columns}@{{}}}}",
            rf"\caption{{{title}}}\\",
            r"\toprule",
            head,
            r"\midrule",
        ]
        again = [r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead"]
        return "\n".join([*top, *again, *rows, r"\bottomrule", r"\end{longtable}", r"\endgroup", *below])
    top = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{title}}}",
        NARROW,
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
    ]
    body = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}}", r"\par\smallskip"]
    return "\n".join([*top, *body, *below, r"\end{table}"])


def _line(entries: Iterable[str]) -> str:
    return " & ".join(entries) + r" \\"


def _bold(text: str) -> str:
    return rf"\textbf{{{escaped(text)}}}" if text else ""


def _greek(character: str) -> str:
    """The command of a Greek letter; any other character as it is."""
    found = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", unicodedata.name(character, ""))
    if not found:
        return character
    name = found[2].lower().replace("lamda", "lambda")
    if found[1] == "CAPITAL":
        name = name.capitalize()
    return rf"$\{name}$" if name in LETTERS else character
