"""Tables as LaTeX: text escaped for pdfLaTeX, and the lines of a `tabular` with the rules of the package booktabs.

Nothing but booktabs is needed. Mathematical signs are set in math mode, so that a minus is as wide as a plus.
"""

import re
import unicodedata
from collections.abc import Sequence

LONGEST = 30
"""Characters of a column's longest text from which on its texts are broken into lines."""
_BROKEN = r"p{0.25\linewidth}"

_APART = "\u2060"
"""Between two hyphens, which would be set as one dash."""
_SIGNS = {
    _APART: "{}",
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': r"{\char`\"}", "`": r"{\char`\`}", "'": r"{\char`\'}",
    "<": "$<$", ">": "$>$", "|": "$|$", "\N{NO-BREAK SPACE}": "~", "–": "--", "—": "---", "…": r"\dots{}",
    "“": "``", "”": "''", "‘": "`", "’": "'", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$",
    "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$", "→": r"$\rightarrow$", "∞": r"$\infty$",
    "√": r"$\surd$", "°": r"$^{\circ}$", "µ": r"$\mu$",
}  # fmt: skip
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\ufeff"))
"""Characters that set nothing: the soft hyphen, and spaces and joiners without width."""
_GREEK = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ"
"""Letters whose command is their name; the others look Latin."""
_LETTERS = "ßæœøåÆŒØÅ"
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
_PARTS = re.compile(f"(?P<up>[{''.join(_RAISED)}]+)|(?P<down>[{''.join(_LOWERED)}]+)|(?P<one>.)", re.DOTALL)


def escaped(text: str) -> str:
    """Return a text as LaTeX that sets the same characters; one that pdfLaTeX has no glyph for is named, `[U+6F22]`."""
    normal = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
    return "".join(map(_escaped, _PARTS.finditer(re.sub("-(?=-)", f"-{_APART}", normal))))


def _escaped(part: re.Match[str]) -> str:
    if part["up"]:
        return f"$^{{{''.join(_RAISED[sign] for sign in part['up'])}}}$"
    if part["down"]:
        return f"$_{{{''.join(_LOWERED[sign] for sign in part['down'])}}}$"
    sign = part["one"]
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign in _GREEK:
        name = unicodedata.name(sign).rpartition(" ")[2].replace("LAMDA", "LAMBDA")
        return f"$\\{name.capitalize() if sign.isupper() else name.lower()}$"
    if sign.isspace():
        return " "
    return sign if sign.isprintable() and _has_a_glyph(sign) else f"[U+{ord(sign):04X}]"


def _has_a_glyph(sign: str) -> bool:
    """Return whether pdfLaTeX sets a sign of UTF-8 in its usual fonts: ASCII, and Latin letters with usual accents."""
    apart = unicodedata.normalize("NFD", sign)
    return sign.isascii() or sign in _LETTERS or (ord(sign) < 0x180 and apart[0].isascii() and apart[1:] in _ACCENTS)


def tabular(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], plain: Sequence[Sequence[str]]) -> str:
    """Return a table in LaTeX, whose cells are LaTeX already; `plain` is what they say, which decides on their width.

    It is a `tabular` by itself, to be read by `\\input` within a `table`.
    """
    widths = [max(map(len, column), default=0) for column in zip(*plain, strict=True)]
    columns = "".join(_BROKEN if width > LONGEST else "l" for width in widths)
    lines = [f"% {' '.join(title.split())}", r"% needs \usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}",
             r"\toprule", _row(head), r"\midrule", *map(_row, rows), r"\bottomrule", r"\end{tabular}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    # A bracket or a star behind the end of a line would belong to that end.
    guard = "{}" if cells and cells[0][:1] in ("[", "*") else ""
    return f"{guard}{' & '.join(cells)} \\\\"
