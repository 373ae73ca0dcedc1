r"""Tables for papers: LaTeX with the package ``booktabs``."""

from __future__ import annotations

from collections.abc import Sequence

from scanside.report.page import Rows

__all__ = ["escaped", "latex_table"]

_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    **{
        sign: f"${name}$"
        for sign, name in {"±": r"\pm", "−": "-", "×": r"\times", "σ": r"\sigma", "λ": r"\lambda"}.items()
    },
    **{sign: f"$_{number}$" for number, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}


def escaped(text: str) -> str:
    """Text as LaTeX shows it, with minus signs of numbers as such."""
    shown = "".join(_SPECIAL.get(sign, sign) for sign in text)
    words = (
        f"$-${word[1:]}" if word[:1] == "-" and word[1:2].isdigit() else word for word in shown.split(" ")
    )
    return " ".join(words)


def latex_table(table: Rows, caption: str, label: str, footer: Sequence[str]) -> str:
    """A ``table`` with a ``tabular``; numeric columns stand to the right.

    Args:
        table: columns and rows.
        caption: above it.
        label: for references, after ``tab:``.
        footer: lines below it, small.
    """
    columns = "".join("r" if column in table.numeric else "l" for column in table.columns)
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        f"\\caption{{{escaped(caption)}}}",
        f"\\label{{tab:{label}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        f"{' & '.join(map(escaped, table.columns))} \\\\",
        r"\midrule",
        *(f"{' & '.join(map(escaped, row))} \\\\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(f"\\par\\smallskip{{\\footnotesize {escaped(line)}}}" for line in footer),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
