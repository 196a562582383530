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
header { display: flex; align-items: baseline; gap: 1.5rem; border-bottom: 1px solid var(--line); }
header .name { font: 600 1.35rem/1.2 Georgia, serif; color: var(--ink); text-decoration: none; }
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
form { display: flex; flex-wrap: wrap; gap: .75rem; align-items: end; margin-top: .75rem; }
label { display: grid; gap: .25rem; font-size: .875rem; }
input, button { font: inherit; padding: .5rem .75rem; border-radius: 8px; border: 1px solid var(--soft);
  background: var(--paper); color: inherit; }
input { width: 9rem; }
button { background: var(--accent); border-color: var(--accent); color: var(--paper); cursor: pointer; }
";
