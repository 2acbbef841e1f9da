"""The page with the table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.load.savings.table import TITLES, Row

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>What caching and compression save</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }}
table {{ border-collapse: collapse }}
th, td {{ border-bottom: 1px solid #ccc; padding: .4rem .6rem; text-align: right; vertical-align: bottom }}
th:first-child, td:first-child {{ text-align: left }}
</style>
<h1>What caching and compression save</h1>
<p>Written by <code>./dcoder bench savings --page FILE</code>: four fixed workloads, sent twice through the gateway to
a scripted provider, with everything off and with the cache on and prompts compressed. The workloads are made for this,
with fixed seeds; they are nobody's traffic, and yours will save more or less.</p>
<table>
<thead><tr>{titles}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
<ul>
<li>A hit is an answer given again: exact for the same request, coalesced while the first one was being answered,
semantic for the same question in other words. A wrong one is the answer of another question.</li>
<li>Bytes are those of the texts of tools and users in calls that reached the provider; a tool's description that the
gateway adds counts as sent.</li>
<li>Answers kept: of the sentences of retrieved passages that answer a question, how many the model was sent.</li>
<li>Asked for again: calls in which the model wanted a result that had been put aside; the call that follows is paid
too.</li>
<li>Dollars are those of the price table for gpt-4o-mini with what the provider's own cache of prompts discounts, before
and after. Tokens are estimated in the same way on both sides.</li>
</ul>
</html>
"""


def page(rows: Sequence[Row]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in TITLES)
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.cells) + "</tr>" for row in rows]
    return PAGE.format(titles=titles, rows="\n".join(lines))
