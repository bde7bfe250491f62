"""The page's style sheet."""

STYLE = """
:root{color-scheme:light dark;--ground:#fff;--raised:#f5f6f8;--text:#1b1f24;--quiet:#5b6470;--line:#d8dce2;
--mark:#0b6bcb;
--second:#b3541e}
@media (prefers-color-scheme:dark){:root{
--ground:#14171b;--raised:#1d2127;--text:#e8eaed;--quiet:#a0a8b3;--line:#343a43;
--mark:#6cb2ff;--second:#f0a269}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:1rem clamp(1rem,4vw,2.5rem) 4rem;max-width:76rem;background:var(--ground);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;overflow-wrap:break-word}
h1{font-size:1.9rem;line-height:1.2;margin:1rem 0 .25rem}
h2{font-size:1.4rem;margin:2.5rem 0 .25rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1.1rem;margin:2rem 0 .5rem}
a{color:var(--mark)}
p{margin:.25rem 0 .75rem;max-width:60rem}
.facts{color:var(--quiet);font-size:.875rem}
.note{border-left:3px solid var(--second);padding:.1rem 0 .1rem .75rem}
code,pre{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.85em}
pre{background:var(--raised);padding:.75rem;border-radius:6px}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;padding:0;margin:.5rem 0 1rem;list-style:none}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:.75rem;
padding:0;margin:1rem 0;
list-style:none}
.cards li{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:.75rem 1rem}
.cards p{margin:0}
.cards .value{font-size:1.7rem;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}
.cards .value small{font-size:.8rem;font-weight:400}
.better{color:var(--quiet);font-size:.8rem;white-space:nowrap}
.scroll{overflow-x:auto;margin:.75rem 0 1.5rem}
.scroll:focus-visible{outline:2px solid var(--mark)}
table{border-collapse:collapse;min-width:30rem}
caption{text-align:left;font-weight:600;padding:.25rem 0}
caption span{display:inline-block;max-width:calc(100vw - 2rem)}
th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--quiet);font-weight:500;font-size:.85rem;white-space:nowrap}
td{font-size:.925rem}
td small{color:var(--quiet)}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.protocol{min-width:24rem;max-width:40rem}
details{margin:.5rem 0 1.5rem}
summary{cursor:pointer;color:var(--mark)}
figure{margin:1.5rem 0}
figcaption{font-weight:600;margin-bottom:.25rem}
.sheet{display:grid;grid-template-columns:7.5rem minmax(min(36rem,var(--width)),var(--width));align-items:stretch;
max-width:calc(7.5rem + var(--width))}
.sheet img{width:100%;height:auto;display:block}
.rows{display:grid;position:sticky;left:0;background:var(--ground);font-size:.8rem;line-height:1.25;z-index:1}
.rows span{align-self:center;padding-right:.5rem}
@media (max-width:40rem){.sheet{grid-template-columns:5rem min(34rem,var(--width))}.rows{font-size:.7rem}
td:first-child{min-width:7rem}}
.bar{position:relative;width:min(40vw,22rem);min-width:7rem;height:.8rem;margin-top:.3rem;background:var(--raised)}
.bar b{position:absolute;inset:0 auto 0 0;background:var(--mark)}
.bar i{position:absolute;top:-2px;bottom:-2px;width:2px;background:var(--second)}
.chip{display:inline-block;width:.75rem;height:.75rem;border-radius:50%;margin-right:.4rem;border:1px solid var(--line)}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:0 2rem;align-items:start}
.beside figure{margin:.75rem 0}
.graph{width:100%;max-width:26rem;height:auto;max-height:30rem}
.graph line{stroke:var(--text);stroke-linecap:round}
.graph circle{stroke:var(--ground);stroke-width:1.5}
.graph .alone circle{fill:var(--ground);stroke-width:2}
.graph .alone text{fill:var(--text)}
.graph text{font-size:9px;font-weight:600;text-anchor:middle}
.graph .dark{fill:#111}
.graph .light{fill:#fff}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem}
.chart{margin:0}
.chart figcaption{font-weight:400;font-size:.85rem;color:var(--quiet)}
.chart svg{width:100%;height:auto}
.chart text{fill:var(--quiet);font-size:11px}
.axis{fill:none;stroke:var(--line)}
.curve{fill:none;stroke:var(--mark);stroke-width:1.5;stroke-linejoin:round}
.dot{fill:var(--mark)}
.dashed{stroke:var(--second);stroke-dasharray:5 4}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:.15rem 1rem;font-size:.9rem}
dt{color:var(--quiet)}
dd{margin:0;overflow-wrap:anywhere}
@media print{.cards li,figure,table{break-inside:avoid}}
"""
