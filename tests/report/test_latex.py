"""A table in LaTeX says what the table says, read back by a small reader of its own."""

import re

import pytest

from dae_ssl.report.latex import escaped
from dae_ssl.report.table import DASH, MISSING, NOTHING, Entry, Line, Table

READ = {
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "dots": "…", "pm": "±", "times": "×",
    "cdot": "·", "leq": "≤", "geq": "≥", "neq": "≠", "approx": "≈", "rightarrow": "→", "infty": "∞", "surd": "√",
    "alpha": "α", "lambda": "λ", "sigma": "σ", "mu": "μ", "Omega": "Ω",
}  # fmt: skip
"""What commands stand for, written down anew from the handbook."""
TOKEN = re.compile(
    r"""\\(?:emph|texttt)\{(?P<marked>(?:[^{}]|\{[^{}]*\}|\\[{}])*)\}|\{\\char`\\(?P<char>.)\}|\^\{\\circ\}(?P<degree>)"""
    r"|\^\{(?P<up>[-+\d]+)\}|_\{(?P<down>[-+\d]+)\}|\\(?P<command>[A-Za-z]+)(?:\{\})?|\\(?P<sign>[&%$\#_{}])"
    r"|(?P<dashes>---|--|``|'')|(?P<other>.)",
    re.DOTALL,
)
DASHES = {"---": "—", "--": "–", "``": "“", "''": "”"}
UP, DOWN = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻"), str.maketrans("0123456789+-", "₀₁₂₃₄₅₆₇₈₉₊₋")


def read(latex: str) -> str:
    """Return what a piece of LaTeX says."""
    found, mathematical = "", False
    for token in TOKEN.finditer(re.sub(r"(?<=-)\{\}(?=-)", "\0", latex)):
        part = token[token.lastgroup or 0] or ""
        match token.lastgroup:
            case "marked":
                found += read(part)
            case "degree":
                found += "°"
            case "up" | "down":
                found += part.translate(UP if token.lastgroup == "up" else DOWN)
            case "command":
                found += READ[part]
            case "dashes":
                found += DASHES[part]
            case "other" if part == "$":
                mathematical = not mathematical
            case "other":
                outside = {"~": "\N{NO-BREAK SPACE}", "`": "‘", "'": "’"}
                found += {"-": "−"}.get(part, part) if mathematical else outside.get(part, part)
            case _:
                found += part
    assert not mathematical, latex
    return found.replace("\0", "")


def cells(latex: str) -> list[list[str]]:
    """Return the cells of a `tabular`, its head first, as what they say."""
    body = latex.partition("\\toprule\n")[2].partition("\\bottomrule")[0].replace("\\midrule\n", "")
    lines = [line.removesuffix(" \\\\").removeprefix("{}") for line in body.splitlines()]
    return [[read(cell).strip() for cell in re.split(r"(?<!\\) ?& ?", line)] for line in lines]


def said(entry: Entry) -> str:
    """Return what an entry says, without how it is marked."""
    shown = entry.text or ", ".join([*entry.lines, *(text for text, _ in entry.links)])
    return f"{shown} {entry.small}".strip()


HARD = [
    "100 % & more_or $less$ #1 {a} ~b^c \\d", "DAE, L2 (α = 1)", "−0.50 ± 0.10 × 3", "10⁻⁴ and x₁₂", "< 0.001 | > 2",
    'a "quoted" `word` it\'s', "[−0.50, +5.50]", "*star*", "Table\N{NO-BREAK SPACE}2", "a – b — c… “d” ‘e’",
    "λ σ Ω ≤ ≥ ≠ ≈ → ∞ √ °", "café naïve Š ß ø", "s = 0.25: 20°", "\\emph{not a command}", "a\\_b", "- -- ---",
]  # fmt: skip


@pytest.mark.parametrize("text", HARD)
def test_text_is_read_back_as_it_was(text: str) -> None:
    assert read(escaped(text)) == text


def test_text_stays_on_its_line_and_what_has_no_glyph_is_named() -> None:
    assert escaped("a\nb\tc") == "a b c"
    assert escaped("soft\u00adhyphen") == "softhyphen"
    assert escaped("汉 x\u0302 ą") == "[U+6C49] x[U+0302] [U+0105]"


def a_table() -> Table:
    lines = [Line(name=text, entries=[Entry(text=text, small="[1, 2]"), Entry(text=text, code=True), NOTHING])
             for text in HARD]  # fmt: skip
    lines += [
        Line(name="a_key", code=True, entries=[MISSING, DASH, Entry(lines=["numpy 2", "torch_3"])]),
        Line(name="links", entries=[Entry(links=[("seed 0", "a_b.html"), ("seed 1", "")]), NOTHING, NOTHING]),
    ]
    return Table(title="T: 50 %\nof it", head=["", "published (%)", "p, if α = 0", "x_1"], lines=lines)


def test_cells_say_what_the_table_says() -> None:
    table = a_table()
    expected = [list(table.head), *([line.name, *map(said, line.entries)] for line in table.lines)]
    assert cells(table.latex()) == expected
    assert table.latex().startswith("% T: 50 % of it\n% needs \\usepackage{booktabs}\n\\begin{tabular}{p{0.25")
    assert "\\emph{not yet measured}" in table.latex()
    assert "\\texttt{a\\_key}" in table.latex()
