from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.service import DataDir

Data = Annotated[
    Path, typer.Option(help="Images to tune on: an archive or a folder of class folders or captioned images.")
]
Validation = Annotated[
    Path | None, typer.Option(help="The same of held-out images to judge by; default: a part of --data.")
]
Model = Annotated[str | None, typer.Option(help="Id of the base model; default: tiny-dit, with --condition tiny-sd.")]
Condition = Annotated[
    str | None, typer.Option(help="What ControlNets are taught: edge, sketch, depth, normal or segmentation.")
]
Methods = Annotated[
    str | None,
    typer.Option(help="Separated by commas; default: supervised,diff_tuning. Variants of either: --config."),
]
Seeds = Annotated[str | None, typer.Option(help="Each method runs with each; separated by commas, default: 0,1,2.")]
MaxSteps = Annotated[
    int | None, typer.Option(help="Optimizer steps of every method; default: the model card's.", min=1)
]
Config = Annotated[
    Path | None,
    typer.Option(help="JSON as for POST /v1/comparisons, without its files; options go before it."),
]
Folder = Annotated[Path, typer.Option(help="Where the report is put; made where it is not there.")]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="DIFFTUNE_URL",
        help="The service; default: the one on this machine, started where none runs.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="DIFFTUNE_API_KEY", help="API key; default: the data folder's.", show_envvar=True),
]


def compare(
    *,
    data: Data,
    validation: Validation = None,
    model: Model = None,
    condition: Condition = None,
    methods: Methods = None,
    seeds: Seeds = None,
    max_steps: MaxSteps = None,
    config: Config = None,
    folder: Folder = Path("comparison"),
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Fine-tune with several methods and seeds at equal budgets, and write one report of them all.

    The last line printed is a summary as JSON. See also `difftune comparisons`.
    """
    from cli.compare.request import read_request
    from cli.compare.run import run_comparison

    request = read_request(config, model=model, condition=condition, methods=methods, seeds=seeds, max_steps=max_steps)
    files = {"training_file": data} | ({"validation_file": validation} if validation else {})
    raise typer.Exit(run_comparison(request, files, folder, url=url, key=key, data_dir=data_dir))
