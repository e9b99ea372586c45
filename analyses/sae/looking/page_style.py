"""How the feature page looks, in a report and alone in a notebook."""

STYLE = """
.latents { margin: 1.6rem 0 1.8rem; }
.latents > p { margin: 0.3rem 0 1rem; }
.latents .find { display: grid; gap: 0.25rem; max-width: 28rem; margin: 0 0 1rem; }
.latents .find[hidden] { display: none; }
.latents .find label { font-size: 0.94rem; font-weight: 600; }
.latents .find input { font: inherit; color: inherit; padding: 0.35rem 0.6rem; background: transparent; border: 1px solid var(--muted, #7d7d7d); border-radius: 6px; }
.latents .find output { min-height: 1.6em; color: var(--muted, inherit); font-size: 0.94rem; }
.latents dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: 0.3rem 1.5rem; max-width: 52rem; margin: 0.3rem 0 0; font-size: 0.94rem; }
.latents dt { color: var(--muted, inherit); }
.latents dd { margin: 0; }
.latents dd b { font-weight: 600; }
.latents q { padding: 0 0.15em; background: var(--raised, #7d7d7d33); border-radius: 3px; quotes: none; white-space: pre-wrap; }
.latents .columns { display: grid; gap: 0.4rem 2.2rem; }
.latents h4 { margin: 0.9rem 0 0.2rem; font-size: 0.9rem; font-weight: 600; }
.latents ol { margin: 0; padding: 0; list-style: none; font-size: 0.94rem; }
.latents li { padding: 0.4rem 0; border-top: 1px solid var(--rule, #7d7d7d55); }
.latents li bdi { display: block; white-space: pre-wrap; overflow-wrap: anywhere; }
.latents .code { color: var(--muted, inherit); font-size: 0.85rem; font-variant-numeric: tabular-nums; }
.latents mark { color: inherit; background: color-mix(in srgb, var(--value, #0072b2) calc(var(--a) * 100%), transparent); border-radius: 3px; box-decoration-break: clone; }
.latents li b { font-weight: 700; text-decoration: underline; text-underline-offset: 0.2em; }
.latents .said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.latents li { position: relative; }
@media (min-width: 48rem) { .latents .columns { grid-template-columns: 1fr 1fr; } }
@media (forced-colors: active) { .latents mark { background: Mark; color: MarkText; } }
@media print {
  .latents .find { display: none; }
  .latents mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; border-bottom: 1pt solid; }
  .latents li { break-inside: avoid; }
}
"""
