"""Tables that LaTeX takes: nothing in a cell is read as a command or as the end of a column."""

from __future__ import annotations

import re

from scanside.report.page import Rows
from scanside_training.evaluation.latex import escaped, latex_table


def test_signs_that_mean_something_are_escaped() -> None:
    assert escaped("50 % & a_b #1 {x} $2 ~^\\") == (
        r"50 \% \& a\_b \#1 \{x\} \$2 \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert escaped("1.2 ± 0.3 – σ 7 × 7") == r"1.2 $\pm$ 0.3 -- $\sigma$ 7 $\times$ 7"
    assert escaped("-0.50 to +1.00, l2-norm") == r"$-$0.50 to +1.00, l2-norm"


def test_a_table() -> None:
    rows = Rows(
        ("candidate", "PSNR & SSIM"), [("a_1", "30.00 ± 1.00"), ("b", "–")], frozenset({"PSNR & SSIM"})
    )
    text = latex_table(rows, "Of 12 % of all", "main", ["data ab_c"])
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert r"\begin{tabular}{lr}" in text
    assert r"\caption{Of 12 \% of all}" in text
    assert r"\label{tab:main}" in text
    assert r"data ab\_c" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [1, 1]
    assert all(line.endswith(r"\\") for line in body)
