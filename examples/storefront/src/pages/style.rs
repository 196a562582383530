//! The stylesheet that stands in every page: small enough that a second request would cost more.

pub(super) const STYLE: &str = r"
:root { color-scheme: light dark; --ink: #22252a; --soft: #5b626c; --paper: #fbfaf7; --card: #fff;
  --line: #e3e0d8; --accent: #1d5f4b; --few: #8a5200; --out: #a3231f; --tile: 88%; --tile-ink: 32%; }
@media (prefers-color-scheme: dark) { :root { --ink: #eceae4; --soft: #a8adb5; --paper: #17191c;
  --card: #202327; --line: #34383e; --accent: #7fd1b5; --few: #e5b25d; --out: #f0938c;
  --tile: 26%; --tile-ink: 78%; } }
* { box-sizing: border-box; }
body { margin: 0; font: 1rem/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
a { color: var(--accent); text-underline-offset: .2em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; top: .5rem; background: var(--card); padding: .5rem 1rem; }
header, main, footer { max-width: 70rem; margin: 0 auto; padding: 1rem 1.25rem; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem 1.5rem; border-bottom: 1px solid var(--line); }
header .name { font: 600 1.35rem/1.2 Georgia, serif; color: var(--ink); text-decoration: none; }
header nav { display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; }
header nav a { padding: .35rem 0; white-space: nowrap; }
.search { flex: 1 1 14rem; flex-wrap: nowrap; gap: .4rem; margin: 0; align-items: stretch; }
.search input { flex: 1; width: 0; min-width: 0; }
.count { display: inline-block; min-width: 1.4em; padding: 0 .35em; border-radius: 1em; text-align: center;
  font-size: .8rem; line-height: 1.5; background: var(--accent); color: var(--paper); }
.count[hidden] { display: none; }
.bell .count { margin-left: .3em; }
footer { border-top: 1px solid var(--line); margin-top: 2rem; color: var(--soft); font-size: .875rem; }
h1, h2 { font-family: Georgia, serif; font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font-size: 2rem; margin: 1rem 0 .5rem; }
h2 { font-size: 1.4rem; margin: 2.25rem 0 .75rem; }
.lead, .soft { color: var(--soft); }
.grid, ul.categories, .paging ul { list-style: none; margin: 0; padding: 0; }
.grid { display: grid; gap: 1.1rem; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); }
.card { position: relative; display: flex; flex-direction: column; padding: .9rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; }
.card:hover { border-color: var(--accent); }
.card h3 { margin: .8rem 0 .3rem; font-size: 1rem; line-height: 1.3; }
.card h3 a { color: var(--ink); text-decoration: none; }
.card h3 a::after { content: ''; position: absolute; inset: 0; border-radius: 12px; }
.card p { margin: 0; }
.card .price { margin-top: auto; }
.price { font-weight: 650; font-variant-numeric: tabular-nums; }
.stock { font-size: .875rem; color: var(--soft); }
.few { color: var(--few); } .out { color: var(--out); }
.picture { display: grid; place-items: center; aspect-ratio: 4 / 3; border-radius: 8px;
  font: 600 3rem/1 Georgia, serif; color: hsl(var(--hue) 35% var(--tile-ink));
  background: linear-gradient(140deg, hsl(var(--hue) 45% var(--tile)), hsl(calc(var(--hue) + 40) 45% var(--tile))); }
ul.categories { display: grid; gap: .5rem 1.25rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
ul.categories li { display: flex; justify-content: space-between; gap: 1rem; padding: .35rem 0;
  border-bottom: 1px solid var(--line); }
.product { display: grid; gap: 2rem; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); align-items: start; }
.product .picture { font-size: 7rem; }
.product h1 { margin-top: 0; }
.product .price { font-size: 1.6rem; margin: .25rem 0; }
@media (max-width: 42rem) { .product { grid-template-columns: 1fr; } }
.trail { font-size: .875rem; color: var(--soft); margin: .75rem 0; }
.paging { margin: 2rem 0 1rem; }
.paging ul { display: flex; flex-wrap: wrap; gap: .5rem; }
.paging a, .paging span { display: block; min-width: 2.75rem; padding: .5rem .8rem; text-align: center;
  border: 1px solid var(--line); border-radius: 8px; background: var(--card); text-decoration: none; }
.paging [aria-current] { background: var(--accent); border-color: var(--accent); color: var(--paper); }
details { margin-top: 2rem; border: 1px solid var(--line); border-radius: 12px; padding: .75rem 1rem; }
summary { cursor: pointer; }
.panel { margin: 0 0 1rem; padding: .5rem .9rem; font-size: .875rem; background: var(--card); }
.panel dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: .75rem 0 .25rem; }
.panel dd { margin: 0; overflow-wrap: anywhere; }
form { display: flex; flex-wrap: wrap; gap: .75rem; align-items: end; margin-top: .75rem; }
form.stacked { flex-direction: column; align-items: stretch; gap: 1rem; }
form.stacked input { width: 100%; }
form.stacked button { align-self: start; }
label { display: grid; gap: .25rem; font-size: .875rem; }
input, button, .button { font: inherit; padding: .5rem .75rem; border-radius: 8px; border: 1px solid var(--soft);
  background: var(--paper); color: inherit; min-height: 2.6rem; }
input { width: 9rem; }
input[type=number] { width: 5rem; }
button, .button { background: var(--accent); border-color: var(--accent); color: var(--paper); cursor: pointer;
  text-decoration: none; display: inline-block; }
button.quiet { background: none; color: var(--accent); }
button:hover, .button:hover { filter: brightness(1.12); }
.narrow { max-width: 30rem; margin: 0 auto; }
.hint { margin-top: 1.5rem; padding: .1rem 1rem; border-left: 3px solid var(--accent); font-size: .875rem;
  background: var(--card); border-radius: 0 8px 8px 0; }
.problem { padding: .6rem .9rem; border-radius: 8px; border: 1px solid var(--out); color: var(--out); }
code { font: .92em ui-monospace, monospace; }
.columns { display: grid; gap: 1rem 3rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.devices, .orders, .notes { list-style: none; margin: 0; padding: 0; display: grid; gap: .75rem; }
.devices li { display: flex; gap: 1rem; justify-content: space-between; align-items: center; padding: .6rem 0;
  border-bottom: 1px solid var(--line); }
.devices p, .devices form { margin: 0; }
.orders .card h2 { margin: 0 0 .3rem; font-size: 1rem; font-family: ui-monospace, monospace; }
.orders .card h2 a::after { content: ''; position: absolute; inset: 0; border-radius: 12px; }
.badge { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; font-size: .875rem;
  border: 1px solid var(--few); color: var(--few); }
.badge.good { border-color: var(--accent); color: var(--accent); }
.badge.off { border-color: var(--out); color: var(--out); }
.scrolls { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: left; padding: .6rem .75rem .6rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody th { font-weight: 400; }
thead th { font-size: .875rem; color: var(--soft); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
form.units { margin: 0; flex-wrap: nowrap; align-items: center; gap: .4rem; }
progress { width: 100%; accent-color: var(--accent); }
.news { position: fixed; right: 1rem; bottom: 1rem; width: min(24rem, calc(100vw - 2rem)); display: grid; gap: .5rem; }
.toast { margin: 0; padding: .8rem 1rem; border-radius: 12px; border: 1px solid var(--accent); background: var(--card);
  box-shadow: 0 6px 24px rgb(0 0 0 / .22); animation: rise .25s ease-out; }
.toast button { min-height: 0; padding: .1rem .6rem; font-size: .875rem; background: none; color: var(--accent); }
@keyframes rise { from { opacity: 0; transform: translateY(.75rem); } }
@media (prefers-reduced-motion: reduce) { .toast { animation: none; } }
.guide { overflow-x: auto; font-size: .95rem; }
.guide table { min-width: 48rem; }
.guide pre { overflow-x: auto; padding: .75rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
@media (max-width: 42rem) { header, main, footer { padding: .9rem 1rem; } h1 { font-size: 1.6rem; }
  .grid { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem; } .search { flex-basis: 100%; order: 3; } }
";
