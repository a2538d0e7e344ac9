"""The page's style sheet: no web fonts, readable on a phone, dark where the reader wants it."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --ink: #1c2024; --paper: #ffffff; --soft: #60646c; --line: #d9d9e0; --panel: #f7f7f8;
  --c0: #2f6fdf; --c1: #d9622b; --c2: #2a9d67; --c3: #9a4fd0; --c4: #b8860b; --c5: #c2185b; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e8eaed; --paper: #15171a; --soft: #a0a6b0; --line: #33383f; --panel: #1d2024;
  --c0: #79a7ff; --c1: #ff9a66; --c2: #5fd39b; --c3: #c792ff; --c4: #e3b341; --c5: #ff7eb0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
nav a { margin-right: 1em; color: var(--c0); }
.missing, .note, figcaption { color: var(--soft); }
.cards { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.cards div { background: var(--panel); border-radius: .5rem; padding: .75rem; }
.cards b { display: block; font-size: 1.5rem; }
.wide { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
.wide svg { max-width: none; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .rule { stroke: var(--line); }
.key { border-left: .8em solid; padding: 0 .8em 0 .3em; margin-left: .6em; }
.aligned span { display: inline-block; min-width: 1.6em; margin: 0 .1em; text-align: center; }
.aligned i { display: block; font-style: normal; min-height: 1.5em; }
.wrong { color: var(--c1); font-weight: bold; }
pre { background: var(--panel); padding: .75rem; overflow-x: auto; font-size: .8rem; }
"""
