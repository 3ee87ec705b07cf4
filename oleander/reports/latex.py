"""Any text as LaTeX prints it, and nothing else: names may come from others, and none of their signs may be a command."""

import re
import unicodedata

from oleander.system.foreign import plain

_SPECIAL = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", "_": "\\_",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
    '"': "\\texttt{\\char34}", "'": "\\textquotesingle{}", "`": "\\textasciigrave{}", "–": "--",
    "—": "---", "−": "$-$", "±": "$\\pm$", "×": "$\\times$", "·": "$\\cdot$", "≤": "$\\leq$", "≥": "$\\geq$", "≠": "$\\neq$",
    "→": "$\\to$", "∞": "$\\infty$", "‖": "$\\|$", "…": "\\ldots{}", "α": "$\\alpha$", "β": "$\\beta$", "γ": "$\\gamma$",
    "δ": "$\\delta$", "Δ": "$\\Delta$", "ε": "$\\epsilon$", "θ": "$\\theta$", "κ": "$\\kappa$", "λ": "$\\lambda$", "µ": "$\\mu$",
    "μ": "$\\mu$", "σ": "$\\sigma$", "Σ": "$\\Sigma$", "τ": "$\\tau$", "₂": "$_2$", "²": "$^2$",
}  # fmt: skip
"""What TeX takes for a command, or has no sign for in the font that it starts with."""
_LACKING = "ÐðÞþĐđĦħĸĿŀŁłŉŊŋŦŧſ"
"""Letters with a code below U+0180 that they have not either."""


def escaped(text: str) -> str:
    """A text for LaTeX, with pdfTeX's fonts too; a sign that those have not is named by its number, as ``[U+4E2D]``."""
    signs = unicodedata.normalize("NFC", plain(text))
    apart = (
        f"{sign}{{}}" if sign == after and sign in "-," else _sign(sign)
        for sign, after in zip(signs, f"{signs[1:]} ", strict=True)
    )
    return "".join(apart)


def _sign(sign: str) -> str:
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    known = sign.isascii() or ("\u00c0" <= sign <= "\u017f" and sign.isalpha() and sign not in _LACKING)
    return sign if known else f"[U+{ord(sign):04X}]"


def label(name: str) -> str:
    """A name as the target of a reference."""
    return re.sub(r"[^A-Za-z0-9.+-]", lambda found: "-" if found[0] == "_" else f"u{ord(found[0]):x}", name)
