from __future__ import annotations

import argparse

from api.datasets.models import Dataset
from difftune_core.config import about
from worker.inputs import about_arguments


def test_the_child_is_told_whose_report_it_makes() -> None:
    parser = argparse.ArgumentParser()
    about.add_argument(parser)
    named = {"data": Dataset(filename='a "b".zip'), "validation": Dataset(filename="c.zip")}
    told = about.about_of(parser.parse_args(about_arguments("ftjob_1", "flowers", 7.9, named)))
    assert told == about.About(id="ftjob_1", name="flowers", created_at=7, data='a "b".zip', validation="c.zip")
    bare = about.about_of(parser.parse_args(about_arguments("ana_1", None, 7.9, {"data": named["data"]})))
    assert (bare.name, bare.validation) == ("", "")
    assert about.about_of(parser.parse_args([])) == about.About(), "by hand nothing is told"
