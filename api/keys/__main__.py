"""`python -m api.keys` makes sure that the data folder holds a working key, and prints where."""

from __future__ import annotations

import argparse
import sys

from api.db import Database
from api.keys.service import ensure_first_key
from api.settings import Settings

argparse.ArgumentParser(prog="python -m api.keys", description=__doc__).parse_args()
settings = Settings()
sys.stdout.write(f"{ensure_first_key(Database(settings.database), settings.data_dir)}\n")
