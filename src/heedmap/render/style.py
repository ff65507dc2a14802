"""The style of everything in HTML: one sheet, with nothing to load."""

from __future__ import annotations

from functools import cache

from heedmap.render.scale import steps_style

# The name twice is no slip: Jupyter's rules for tables, dark ones too, are that specific.
SHEET = """
.heedmap { font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1d1d1f; background: #fff;
  max-width: 60rem; padding: 1rem; color-scheme: light; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.heedmap h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .8rem; overflow-wrap: anywhere; }
.heedmap h2 { font-size: 1.2rem; line-height: 1.3; margin: 1.8rem 0 .5rem; overflow-wrap: anywhere; }
.heedmap h3 { font-size: 1rem; margin: 1rem 0 .3rem; overflow-wrap: anywhere; }
.heedmap p { max-width: 48rem; margin: .4rem 0; }
.heedmap dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .4rem 0; }
.heedmap dt, .heedmap .fine, .heedmap figcaption { color: #5c5c66; }
.heedmap dd { margin: 0; overflow-wrap: anywhere; }
.heedmap .fine, .heedmap figcaption, .heedmap small { font-size: .84rem; }
.heedmap figure { margin: .4rem 0 1.2rem; }
.heedmap table { border-collapse: collapse; font-size: .88rem; color: inherit; margin: .3rem 0;
  font-variant-numeric: tabular-nums; }
.heedmap th, .heedmap td { padding: .15rem .9rem .15rem 0; vertical-align: top; font-weight: normal;
  background: none; }
.heedmap.heedmap th, .heedmap.heedmap td { text-align: start; }
.heedmap.heedmap tbody tr { background: none; }
.heedmap thead th { color: #5c5c66; border-bottom: 1px solid #d9d9d4; vertical-align: bottom; }
.heedmap tbody th { font-weight: 600; overflow-wrap: break-word; max-width: 24rem; }
.heedmap td { overflow-wrap: anywhere; }
.heedmap summary { cursor: pointer; color: #40346e; font-size: .88rem; padding: .15rem 0; }
.heedmap summary:focus-visible, .heedmap input:focus-visible, .heedmap input:focus-visible + span
  { outline: 2px solid #40346e; outline-offset: 2px; }
.heedmap .scroll { overflow-x: auto; }
.heedmap .heat { line-height: 1.95; margin: .3rem 0; overflow-wrap: anywhere; max-width: 54rem; }
.heedmap .heat span { background: var(--c, none); color: var(--k, inherit); padding: .12em .06em; border-radius: .18em; }
.heedmap .heat span > span { background: none; color: inherit; padding: 0; border-radius: 0; }
.heedmap .heat > [class^=n], .heedmap figure:has(.split :checked) .heat span > [class^=n] { text-decoration: underline dotted; }
.heedmap .heat .k { display: none; }
.heedmap .s0 { --c: #fff; --k: #000; }
.heedmap .heat bdi { color: #5c5c66; font-size: .82em; border: 1px dashed #a5a5ad; border-radius: .3em; padding: 0 .25em; }
.heedmap .split { font-size: .84rem; color: #40346e; }
.heedmap figure:has(.split :checked) .heat span:has(> span) { background: none; color: inherit; }
.heedmap figure:has(.split :checked) .heat span > span { background: var(--c); color: var(--k);
  padding: .12em .1em; margin-inline-end: 1px; }
.heedmap figure:has(.split :checked) .heat .k { display: inline; }
.heedmap .fold { border-inline-start: 3px solid #d9d9d4; padding-inline-start: .7rem; }
.heedmap .ramp { display: inline-block; width: 7rem; height: .75rem; border: 1px solid #d9d9d4; border-radius: .2rem;
  vertical-align: -.08rem; }
.heedmap .key { white-space: nowrap; margin-inline-end: .6rem; }
.heedmap img, .heedmap .stack { display: block; width: 28rem; max-width: 100%; border-radius: .3rem; }
.heedmap svg { display: block; width: 100%; height: 7rem; }
.heedmap .bars td { vertical-align: middle; }
.heedmap .bars td:nth-child(2) { width: 20rem; }
.heedmap .bar { height: .9rem; min-width: 1px; background: var(--c, #fff); border: 1px solid #8a8a94; }
.heedmap .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 0 1.6rem; }
"""

CHOICE = """
.heedmap .choose { display: flex; flex-wrap: wrap; gap: .3rem .15rem; margin: .4rem 0 1.2rem; align-items: start; }
.heedmap .choose > label { order: 1; cursor: pointer; }
.heedmap .choose > label > span { display: block; padding: .05em .35em; border: 1px solid #c9c9cf; border-radius: .35em;
  background: var(--c, #fff); color: var(--k, inherit); overflow-wrap: anywhere; }
.heedmap .choose input { position: absolute; opacity: 0; width: 1px; height: 1px; margin: 0; }
.heedmap .choose :checked + span { box-shadow: 0 0 0 2px #0a6f54; border-color: #0a6f54; }
.heedmap .choose > div { display: none; order: 2; flex-basis: 100%; min-width: 0; }
.heedmap .choose > label:has(:checked) + div { display: block; }
.heedmap .cells { display: grid; gap: 0; align-items: stretch; }
.heedmap .cells > label { position: relative; }
.heedmap .cells > label > span { padding: 0; border-radius: 0; height: 100%; box-sizing: border-box; border-color: #9a9aa4; }
.heedmap .cells > label:hover > span { border: 2px solid #0a6f54; }
.heedmap .cells :checked + span { position: relative; z-index: 1; }
.heedmap .cells > div { grid-column: -2; grid-row: 1 / -1; padding-inline-start: 1rem; }
.heedmap .stack { position: relative; overflow: hidden; background: #000 center / 100% 100% no-repeat; }
.heedmap .seen { background-image: var(--seen); aspect-ratio: var(--shape); }
.heedmap .stack img { position: absolute; inset: 0; width: 100%; height: 100%; border-radius: 0; }
.heedmap .stack i { position: absolute; border: 2px solid #40e0ff; box-shadow: 0 0 0 1px #000; }
.heedmap .matrix td { padding: 0; width: 1.15rem; min-width: 1.15rem; height: 1.5rem; background: var(--c, #fff);
  border: 1px solid #fff; }
.heedmap .matrix thead th { writing-mode: vertical-rl; padding: .2rem 0; white-space: nowrap; font-weight: 400; }
.heedmap .matrix tbody th { padding: 0 .6rem 0 0; white-space: nowrap; }
.heedmap .matrix .end { writing-mode: horizontal-tb; background: none; padding: 0 0 0 .6rem; min-width: 5rem; }
"""

PAPER_SHEET = """
@media print {
  .heedmap { max-width: none; padding: 0; font-size: 11pt; }
  .heedmap figure, .heedmap tr, .heedmap .stack { break-inside: avoid; }
  .heedmap h2, .heedmap h3 { break-after: avoid; }
  .heedmap .split { display: none; }
  .heedmap .card::details-content { content-visibility: visible; display: block; }
}
"""


@cache
def style() -> str:
    """The whole sheet."""
    return "\n".join((SHEET.strip(), CHOICE.strip(), steps_style(), PAPER_SHEET.strip()))
