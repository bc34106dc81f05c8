from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Option(help="Made anew for the demo's data and results.")] = Path("demo-run"),
    seed: Annotated[int, typer.Option(help="Of the split of the digits, and of both jobs.")] = 0,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps; default: the model card's.")] = None,
) -> None:
    """Fine-tune on handwritten digits through a service of its own, twice, and compare."""
    from cli.demo.run import run_demo

    raise typer.Exit(run_demo(folder, seed=seed, max_steps=max_steps))


def demo_controlnet(
    folder: Annotated[Path, typer.Option(help="Made anew for the demo's data and results.")] = Path("demo-controlnet"),
    seed: Annotated[int, typer.Option(help="Of the scenes to train on, and of both jobs.")] = 0,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps; default: 800.")] = None,
) -> None:
    """Teach a ControlNet edges through a service of its own, twice, and compare."""
    from cli.demo.controlnet import run_controlnet_demo

    raise typer.Exit(run_controlnet_demo(folder, seed=seed, max_steps=max_steps))
