"""The report's style sheet."""

CSS = """
:root { color-scheme: light; --ink: #1d2733; --soft: #5b6876; --line: #dfe4ea; --paper: #fff; --hard: #d55e00; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 40px 20px 56px; }
h1 { font-size: 31px; line-height: 1.2; margin: 0 0 12px; letter-spacing: -.01em; }
h2 { font-size: 21px; margin: 44px 0 6px; }
h3 { font-size: 14px; margin: 0 0 10px; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 74ch; }
.lead { font-size: 18px; }
.caption { color: var(--soft); font-size: 14.5px; max-width: 112ch; }
.note { border-left: 3px solid #e69f00; background: #fdf6e7; padding: 8px 14px; font-size: 14.5px; }
.tile, .card, .plot { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 14px; margin: 26px 0 0; }
.tile { padding: 14px 16px; font-size: 13px; line-height: 1.45; }
.tile strong { font-size: 14px; }
.tile span { color: var(--soft); display: block; }
.values { display: flex; gap: 16px; margin: 6px 0 8px; }
.values i { font-style: normal; display: block; white-space: nowrap; }
@media (max-width: 590px) {
  .tile:last-child { grid-column: 1 / -1; }
  .tile .values { gap: 12px; }
  .tile .values b { font-size: 20px; }
}
.values b { display: block; font-size: 25px; line-height: 1.2; font-variant-numeric: tabular-nums; white-space: nowrap; }

.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); gap: 14px; margin-top: 16px; }
.card { padding: 13px 15px 15px; min-width: 0; container-type: inline-size; }
.parts { display: grid; grid-template-columns: minmax(0, 1fr) 150px auto; gap: 14px; align-items: start; }
@container (max-width: 470px) {
  .parts { grid-template-columns: minmax(0, 1fr) 150px; }
  .losses { grid-column: 1 / 3; justify-self: center; }
}
.photo { display: block; width: 100%; max-height: 250px; border-radius: 4px; }
.photo text { fill: #fff; font-weight: 700; text-anchor: middle; font-family: inherit; }
.views { display: grid; grid-template-columns: repeat(2, 1fr); gap: 7px; }
.views figure { position: relative; margin: 0; border: 2px dashed var(--color); border-radius: 5px; padding: 2px; opacity: .8; }
.views figure.chosen { border-style: solid; box-shadow: 0 0 0 2px var(--color); opacity: 1; }
.views img { display: block; width: 100%; border-radius: 2px; }
.views figcaption { position: absolute; left: 4px; top: 4px; min-width: 16px; padding: 0 3px; border-radius: 3px; text-align: center;
  background: var(--color); color: #fff; font: 700 11px/16px system-ui, sans-serif; }
.losses { border-collapse: separate; border-spacing: 2px; font-size: 13px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.losses th { color: var(--soft); padding: 0 3px; font-size: 12px; }
.losses td { text-align: center; white-space: nowrap; }
.losses td.pair { padding: 3px 4px; border-radius: 4px;
  background: color-mix(in srgb, var(--hard) calc(var(--hardness) * .6), #fdf1e8); }
.losses td.chosen { outline: 2.5px solid var(--ink); font-weight: 700; }
.losses small { display: block; font-size: 11px; font-weight: 400; color: #4c5763; }

.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 14px; margin-top: 16px; }
.plot { margin: 0; padding: 14px 14px 12px; }
.plot figcaption { color: var(--soft); font-size: 13.5px; line-height: 1.5; margin-top: 6px; }
.chart { width: 100%; max-width: 440px; display: block; margin: 0 auto; font-size: 11px; }
.chart text { fill: var(--soft); font-family: system-ui, sans-serif; }
.chart .label { fill: var(--ink); }
.chart .grid { stroke: #e8ecf0; }
.chart .axis { stroke: #9aa5b1; }
.chart polyline { fill: none; stroke-linejoin: round; }
.chart .faint { stroke-width: 1; opacity: .28; }
.chart .average { stroke-width: 2.2; }

.share { display: flex; height: 26px; border-radius: 6px; overflow: hidden; margin: 14px 0 8px; }
.share i { display: block; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 22px; font-size: 14px; margin-bottom: 8px; }
.keys i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 4px 40px; margin-top: 10px; }
.facts dl { display: grid; grid-template-columns: 88px 1fr; gap: 4px 16px; margin: 0; align-content: start; font-size: 14.5px; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
"""
