"""The demo's two tables: equal steps, and equal target images seen."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

Report = dict[str, Any]


def evaluation_at(report: Report, step: int) -> dict[str, Any]:
    """The report's evaluation at a step."""
    found: dict[str, Any] = next(entry for entry in report["evaluations"] if entry["step"] == step)
    return found


def figures(entry: dict[str, Any]) -> dict[str, float]:
    """Return what the demo's last line tells of one evaluation."""
    return {
        "fid": entry["fid"],
        "fid_se": entry["fid_se"],
        "kid": entry["kid"],
        "kid_se": entry["kid_se"],
        "forgetting": entry["forgetting"]["null_fid"],
        "retention_loss": entry["forgetting"]["retention_loss"],
    }


def show(console: Console, reports: dict[str, Report], seconds: dict[str, float]) -> None:
    """Print both tables."""
    last = max(entry["step"] for entry in reports["supervised"]["evaluations"])
    half = min(entry["step"] for entry in reports["supervised"]["evaluations"])
    _table(console, f"At equal steps ({last})", {name: (reports[name], last) for name in reports}, seconds)
    pairs = {"supervised": (reports["supervised"], half), "diff_tuning": (reports["diff_tuning"], last)}
    _table(console, "At (about) equal target images seen", pairs, seconds)
    console.print(
        "Supervised is read amid its run in the second table, where its weight average lags: that favours the other. "
        "FID and KID are against the held-out digits, in the features of a tiny network of our own: not comparable "
        "with published figures. Forgetting is the Frechet distance of the null branch's images to the base model's."
    )


def _table(console: Console, title: str, rows: dict[str, tuple[Report, int]], seconds: dict[str, float]) -> None:
    table = Table(title=title)
    for column in ("", "step", "target images", "FID", "KID", "forgetting", "retention loss", "job seconds"):
        table.add_column(column, justify="left" if not column else "right")
    for name, (report, step) in rows.items():
        entry = evaluation_at(report, step)
        table.add_row(name, str(step), str(entry["target_images"]), *_cells(entry), f"{seconds[name]:.0f}")
    references = next(iter(rows.values()))[0]["references"]
    table.add_section()
    table.add_row("base model (ceiling)", "0", "0", *_cells(references["base_model"]), "")
    for name, label in (("real_vs_real", "real against real (floor)"), ("autoencoder_floor", "autoencoder alone")):
        table.add_row(label, "", "", *_cells(references[name]), "")
    console.print(table)


def _cells(entry: dict[str, Any]) -> list[str]:
    forgetting = entry.get("forgetting")
    return [
        f"{entry['fid']:.2f} ± {entry['fid_se']:.2f}",
        f"{entry['kid']:.4f} ± {entry['kid_se']:.4f}",
        f"{forgetting['null_fid']:.2f}" if forgetting else "",
        f"{forgetting['retention_loss']:.3f}" if forgetting else "",
    ]
