"""Tables of `docs/results.md` and plots beside it, from the files in `workbench/study/results`: `make results`.

A block between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced: `core-TABLE` by a table of the suite, `gain`
by all tables side by side, `sweeps` by the one-factor sweeps, `state` by what is finished and what is not (these four
from `transfer.jsonl`, which the suite writes), `chain` and `chain-greek` by the tables of `workbench.study.chain`,
`controlnet` by that of `workbench.study.controlnet`.
Nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from workbench.study.controlnet_results import RESULTS as CONTROLNET
from workbench.study.controlnet_results import controlnet_block
from workbench.study.plots import plot_chain, plot_core, plot_sweep
from workbench.study.runs import METHODS, Records, Setting
from workbench.study.statistics import paired, spread
from workbench.study.suite import GROUPS, RECORDS, SWEEPS, TABLES, beyond_tables
from workbench.study.tables import NOT_MEASURED, cell, drawn, line

PAGE = Path("docs/results.md")
IMAGES = Path("docs/images")
CHAINS = {name: Path(f"workbench/study/results/{name}.json") for name in ("chain", "chain-greek")}
BASELINE = "supervised"

Run = dict[str, Any]
Rows = dict[str, dict[int, Run]]
"""Runs by row and seed."""


def steps_of(table: str) -> int:
    """Steps of the table's runs, but for those of half the length."""
    return max(setting.steps for setting in TABLES[table])


def core_rows(records: Records, table: str) -> Rows:
    """The finished runs of a table, in the order of the plan."""
    rows: Rows = {}
    for setting in TABLES[table]:
        found = records.find(setting)
        if found is not None:
            rows.setdefault(row_name(setting, steps_of(table)), {})[setting.seed] = found
    return rows


def row_name(setting: Setting, steps: int) -> str:
    """The row's title: the method's, and for fewer steps than the table's their number."""
    title = METHODS[setting.method][0]
    return title if setting.steps == steps else f"{title}, {setting.steps:,} steps"


def core_table(records: Records, table: str) -> list[str]:
    """FID at each evaluation and under each guidance, forgetting, and the paired difference; over seeds."""
    rows = core_rows(records, table)
    if BASELINE not in rows:
        return ["Not measured yet."]
    every, steps = TABLES[table][0].every_steps or steps_of(table), steps_of(table)
    marks = range(every, steps + 1, every)
    guided = {"none": "no guidance", "domain": "domain guidance"}
    heads = ["", "seeds", "target images", *(f"FID at {step:,}" for step in marks), *guided.values()]
    heads += ["forgetting", "FID to supervised, paired (95 %)"]
    lines = [line(heads), line(["---"] * len(heads))]
    references = [run["references"] for run in rows[BASELINE].values()]
    lines.append(_reference_row("base model, not tuned", [r["base_model"] for r in references], len(marks)))
    for name, runs in rows.items():
        last = [run["evaluations"][-1] for run in runs.values()]
        cells = [
            name,
            str(len(runs)),
            _thousands(last),
            *(_cell([_fid_at(run, s) for run in runs.values()]) for s in marks),
        ]
        cells += [
            _cell([e.get("other_guidance", {}).get(guidance, {}).get("fid") for e in last]) for guidance in guided
        ]
        lines.append(line([*cells, _cell([e["null_fid"] for e in last], 1), _difference(rows, name)]))
    for title, key in (("real against real", "real_vs_real"), ("autoencoder alone", "autoencoder_floor")):
        lines.append(_reference_row(title, [r[key] for r in references], len(marks)))
    return lines


def _reference_row(title: str, entries: list[Run], marks: int) -> str:
    other = [
        [e.get("other_guidance", {}).get(guidance, {}).get("fid") for e in entries] for guidance in ("none", "cfg")
    ]
    fids = ["" for _ in range(marks - 1)] + [_cell([e["fid"] for e in entries])]
    forgetting = [e.get("null_fid") for e in entries]
    none = "" if title != "base model, not tuned" else _cell(other[0])
    return line([title, str(len(entries)), "", *fids, none, "", _cell(forgetting, 1) if any(forgetting) else "", ""])


def _fid_at(run: Run, step: int) -> float | None:
    return next((entry["fid"] for entry in run["evaluations"] if entry["step"] == step), None)


def _thousands(entries: list[Run]) -> str:
    return f"{sum(entry['target_images'] for entry in entries) / len(entries) / 1000:.0f} k"


def _cell(values: list[float | None], digits: int = 2) -> str:
    return cell(spread(values), digits)


def _pairs(rows: Rows, name: str, baseline: str | None = BASELINE) -> tuple[list[float], list[float]]:
    """Final FID of a row and of plain fine-tuning, seed by seed."""
    ours, plain = rows.get(name, {}), rows.get(baseline or "", {})
    seeds = sorted(ours.keys() & plain.keys())
    return _last_fids(ours, seeds), _last_fids(plain, seeds)


def _last_fids(runs: dict[int, Run], seeds: list[int]) -> list[float]:
    return [runs[seed]["evaluations"][-1]["fid"] for seed in seeds]


def _difference(rows: Rows, name: str) -> str:
    ours, plain = _pairs(rows, name)
    if name == BASELINE or not ours:
        return ""
    differences = [a - b for a, b in zip(ours, plain, strict=True)]
    found = paired(differences)
    if found is None:
        return f"{differences[0]:+.2f} (one seed)"
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def gain_table(records: Records) -> list[str]:
    """Change of final FID to plain fine-tuning in per cent, methods by tables."""
    by_table = {table: core_rows(records, table) for table in TABLES}
    plain = {BASELINE, *map(_half_row, TABLES)}
    names = dict.fromkeys(name for rows in by_table.values() for name in rows if name not in plain)
    lines = [line(["FID to supervised", *map(_titled, TABLES)]), line(["---"] * (1 + len(TABLES)))]
    lines += [line([name, *(_gain(rows, name) for rows in by_table.values())]) for name in names]
    cells = [_gain(rows, METHODS["algorithm1"][0], _half_row(table)) for table, rows in by_table.items()]
    return [*lines, line(["Algorithm 1 at equal target images", *cells])]


def _half_row(table: str) -> str | None:
    shorter = [setting for setting in TABLES[table] if setting.steps < steps_of(table)]
    return row_name(shorter[0], steps_of(table)) if shorter else None


def _titled(table: str) -> str:
    return {"digits-long": "digits, 2,000 steps", "digits-lesser": "digits, lesser base model"}.get(table, table)


def _gain(rows: Rows, name: str, baseline: str | None = BASELINE) -> str:
    ours, plain = _pairs(rows, name, baseline)
    if not ours:
        return NOT_MEASURED
    better = sum(a < b for a, b in zip(ours, plain, strict=True))
    return f"{100 * (sum(ours) / sum(plain) - 1):+.0f} % ({better} of {len(ours)} seeds better)"


def sweeps(records: Records) -> list[str]:
    """A table for each factor that has at least one finished run beside the other tables'."""
    lines: list[str] = []
    for factor, (target, points) in SWEEPS.items():
        if all(records.find(setting) is None for setting in beyond_tables(factor)):
            continue
        rows: dict[str, dict[float, list[Run]]] = {}
        for method, value, settings in points:
            found = [run for setting in settings if (run := records.find(setting)) is not None]
            rows.setdefault(method, {})[value] = found
        columns = sorted({value for values in rows.values() for value in values})
        heads = [f"{target}: FID by {factor}", *(f"{value:g}" for value in columns)]
        lines += [line(heads), line(["---"] * len(heads))]
        for method, values in rows.items():
            cells = [_cell([run["evaluations"][-1]["fid"] for run in values.get(value, [])]) for value in columns]
            lines.append(line([METHODS[method][0], *cells]))
        image = IMAGES / f"sweep-{factor.replace(' ', '-')}.svg"
        plot_sweep(factor, rows, image)
        lines += ["", drawn(image), ""]
    return lines or ["None of the sweeps is measured yet."]


def state(records: Records) -> list[str]:
    """Return how many of the planned runs are finished, by group."""
    counts = {
        name: (sum(records.find(setting) is not None for setting in settings), len(settings))
        for name, settings in GROUPS.items()
    }
    done, planned = (sum(column) for column in zip(*counts.values(), strict=True))
    lines = [
        f"**{done} of {planned} planned runs are finished.**",
        "",
        "| group | finished | planned |",
        "| --- | --- | --- |",
    ]
    return [*lines, *(line([name, str(a), str(b)]) for name, (a, b) in counts.items())]


def chain_block(results: Run, image: Path) -> list[str]:
    """FID of each method (rows) at each share of the chain that the base model runs (columns), and its plot."""
    first = results["runs"][0]
    shares = [f"{100 * fraction:.0f} %" for fraction in first["fractions"]]
    rows = []
    for position, checkpoint in enumerate(first["checkpoints"]):
        points = zip(*(run["checkpoints"][position]["points"] for run in results["runs"]), strict=True)
        cells = [_cell([point["fid"] for point in seeds]) for seeds in points]
        rows.append(line([METHODS[checkpoint["name"]][0], *cells]))
    plot_chain(results["runs"], image)
    return [line(["FID", *shares]), line(["---"] * (1 + len(shares))), *rows, "", drawn(image)]


def _core_block(records: Records, table: str) -> list[str]:
    lines, rows = core_table(records, table), core_rows(records, table)
    if BASELINE not in rows:
        return lines
    image = IMAGES / f"core-{table}.svg"
    plot_core(rows, image)
    return [*lines, "", drawn(image)]


def blocks(records: Records) -> dict[str, list[str]]:
    """Return what stands on the page, by name; plots are drawn on the way."""
    return {
        **{f"core-{table}": _core_block(records, table) for table in TABLES},
        "gain": gain_table(records),
        "sweeps": sweeps(records),
        "state": state(records),
        **{name: chain_block(_kept(path), IMAGES / f"{name}.svg") for name, path in CHAINS.items()},
        "controlnet": controlnet_block(_kept(CONTROLNET), IMAGES / "controlnet.svg"),
    }


def _kept(path: Path) -> Run:
    kept: Run = json.loads(path.read_text(encoding="utf-8"))
    return kept


def main() -> None:
    """Renew every block of the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in blocks(Records(RECORDS)).items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        assert begin in page, f"{PAGE} has no block {name}"
        before, rest = page.split(begin)
        page = "\n".join([f"{before}{begin}", "", *lines, "", f"{end}{rest.split(end)[1]}"])
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
