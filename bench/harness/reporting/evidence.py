"""The part of docs/evidence.md that tells of the experiments, as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from harness.pretraining.experiments import EXPERIMENTS
from harness.pretraining.strength import Strength
from harness.reporting.claims import HARDEST, claims_table
from harness.reporting.experiments import ERRORS, IN_TIME, KNN, VANILLA, Gain, Setting
from harness.reporting.summary import PLUS_MINUS

BEGIN, END = "<!-- experiments: written by make bench-page -->\n", "<!-- end of experiments -->\n"
LINE = 175


def replaced(page: str, part: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """The page with this part between the marks.

    Raises:
        ValueError: a page without the two marks.
    """
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"expected the lines {marks[0].strip()!r} and {marks[1].strip()!r} in the page; put them where the part belongs")
    return f"{before}{marks[0]}\n{part}\n{marks[1]}{after}"


def experiments_part(found: Mapping[str, Sequence[Setting]]) -> str:
    """What is there of every experiment, and which ones have no runs.

    Args:
        found: settings by name of the experiment; without runs, none.
    """
    parts = [part for name, settings in found.items() if settings for part in _experiment(name, settings)]
    waiting = [f"*{EXPERIMENTS[name].question}* (`{name}`)" for name, settings in found.items() if not settings]
    if waiting:
        parts.append(_wrapped(f"Without runs so far: {'; '.join(waiting)}."))
    return "\n\n".join(parts) + "\n"


def _experiment(name: str, settings: Sequence[Setting]) -> list[str]:
    parts = [f"### {EXPERIMENTS[name].question}"]
    for setting in settings:
        parts += [_wrapped(_what(name, setting)), _wrapped(_seeds(setting))]
    counts = "; ".join(setting.count for setting in settings)
    parts.append(f"![Gain over vanilla by arm and by strength of crops and colours: {counts}]({name}.svg)")
    if any(setting.pairs for setting in settings):
        parts.append(f"![k-NN accuracy over the run, each arm beside vanilla: {counts}]({name}_curves.svg)")
    parts.append(_wrapped(_arms(settings)))
    for setting in settings:
        if setting.pairs:
            if len(settings) > 1:
                parts.append(f"On {_title(setting)}:")
            parts += [*_tables(setting), *_claims(setting)]
    return parts


def _claims(setting: Setting) -> list[str]:
    """Beside what was published, where there are runs of the published rule."""
    if HARDEST not in {arm for _, arm in setting.pairs}:
        return []
    lead = (
        "What was published of the hardest pairs (Ferreira et al., [arXiv 2310.03940](https://arxiv.org/abs/2310.03940); ResNet-50 and ViT "
        "on ImageNet), and what these runs show of it; numbers as above:"
    )
    header, *rows = claims_table(setting)
    return [_wrapped(lead), _table(header, rows)]


def _title(setting: Setting) -> str:
    its = setting.shared
    sizes = its["sizes"]
    return (
        f"{its['images']:,} images of {its['data']}, {its['method']}, {its['epochs']:g} epochs, views of {sizes['view']:g} pixels, "
        f"width {sizes['width']:g}, batch {sizes['batch']:g}"
    )


def _what(name: str, setting: Setting) -> str:
    there = f"**Made so far: {setting.count}**, on {_title(setting)} ([all of them](../bench/results/experiments/{name}.jsonl))."
    open_arms = [arm for arm in (VANILLA, *setting.arms) if setting.done(arm) < setting.planned(arm)]
    if not open_arms:
        return there
    return f"{there} Still to come: {', '.join(f'{setting.planned(arm) - setting.done(arm)} of {arm}' for arm in open_arms)}."


def _arms(settings: Sequence[Setting]) -> str:
    """What the arms do."""
    lines = {name: next(iter(its.values())) for setting in settings for (_, name), its in setting.runs.items()}
    meant = {name.removesuffix(IN_TIME): line["about"] for name, line in lines.items()}
    about = "; ".join(f"*{name}*, {words}" for name, words in meant.items())
    if not any(line["match"] == "time" for line in lines.values()):
        return f"The arms: {about}."
    return f"The arms: {about}. Those{IN_TIME[1:]} make as many steps as take the time that vanilla's take."


def _seeds(setting: Setting) -> str:
    """How little a single seed tells."""
    gains = [gain for strength, arm in setting.pairs if (gain := setting.gain(strength, arm, KNN)) is not None]
    if not gains:
        return "No arm has a run of the same seed as vanilla under the same views yet, so there is no gain to show."
    several = [gain.spread for gain in gains if gain.error is not None]
    if not several:
        return "Every gain here is of a single seed and means little: how far a gain differs from seed to seed is not known yet."
    freedom = sum(its.count - 1 for its in several)
    deviation = (sum((its.count - 1) * (its.deviation or 0.0) ** 2 for its in several) / freedom) ** 0.5
    single = len(gains) - len(several)
    words = f"{single} of {len(gains)} gains {'is' if single == 1 else 'are'} of a single seed, which means little. " if single else ""
    return (
        f"{words}From seed to seed a gain differs by {deviation:.2f} points of k-NN (standard deviation, pooled over those of more seeds)."
    )


def _tables(setting: Setting) -> list[str]:
    names = [measure.name for measure in setting.measures]
    rows = []
    for strength, arm in sorted(setting.pairs, key=lambda pair: setting.arms.index(pair[1])):
        count = len(setting.seeds(strength, arm))
        cells = [_cell(setting.gain(strength, arm, measure), count) for measure in setting.measures]
        rows.append([arm, _in_words(strength), str(count), *cells])
    lead = (
        f"Gains over vanilla in percentage points, seed by seed: mean {PLUS_MINUS} standard error over the seeds, and in brackets the "
        "standard error that comes from the number of test images: of both runs on the same images where it was written down which they "
        "name rightly, which the oldest runs lack, else at its largest; of transfer sets that number is not known. "
        f"Bold are gains beyond {ERRORS} standard errors of both kinds; among many gains some are so by chance. Under the same views:"
    )
    return [_wrapped(lead), _table(["arm", "views", "seeds", *names], rows), *_best_against_best(setting, names)]


def _best_against_best(setting: Setting, names: Sequence[str]) -> list[str]:
    base = setting.best(VANILLA)
    if base is None or all(len(setting.tried(arm)) < 2 for arm in (VANILLA, *setting.arms)):
        return ["The best views of an arm cannot be told yet: each was run under one strength."]
    rows = []
    for arm in setting.arms:
        its = setting.best(arm)
        if its is not None:
            count = len(setting.of(its, arm).keys() & setting.of(base, VANILLA).keys())
            cells = [_cell(setting.best_gain(arm, measure), count) for measure in setting.measures]
            rows.append([arm, _in_words(its), f"{len(setting.tried(arm))} of {len(setting.strengths)}", str(count), *cells])
    lead = (
        f"Best against best: an arm under the best views that it was tried with, against vanilla under its own, {_in_words(base)} "
        f"({len(setting.tried(VANILLA))} of {len(setting.strengths)} tried). Best is by k-NN accuracy on the test images themselves, which "
        "flatters what was tried under more views:"
    )
    return [_wrapped(lead), _table(["arm", "its best views", "tried", "seeds", *names], rows)]


def _in_words(strength: Strength) -> str:
    return strength.in_words() or "views as published"


def _cell(gain: Gain | None, seeds: int) -> str:
    if gain is None:
        return ""
    text = f"**{gain.text()}**" if gain.decided else gain.text()
    return text if gain.spread.count == seeds else f"{text}, seeds: {gain.spread.count}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *others = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return "\n".join([first, "|---" * len(header) + "|", *others])


def _wrapped(words: str) -> str:
    return textwrap.fill(words, LINE, break_long_words=False, break_on_hyphens=False)
