"""A child of the kind `colours` that counts the words of a text, and does what they say."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path

from difftune_core.channel import PipeHooks
from difftune_core.files import file_info
from difftune_core.hooks import ArtifactEvent, OutcomeEvent, ProgressEvent


def count(args: argparse.Namespace, hooks: PipeHooks) -> OutcomeEvent:
    colours = args.data.read_text().split()
    for done in range(3):
        hooks.emit(ProgressEvent(phase="evaluating", done=done, total=3))
    if "killed" in colours:
        os.kill(os.getpid(), signal.SIGKILL)
    while "endless" in colours:
        if hooks.stop_requested():
            return OutcomeEvent(code="stopped")
        time.sleep(0.02)
    path = args.out / "count.json"
    path.write_text(json.dumps({colour: colours.count(colour) for colour in sorted(colours)}))
    hooks.emit(ArtifactEvent.model_validate({"kind": "report_json", "file": file_info(path, args.out)}))
    return OutcomeEvent(code="succeeded")


parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path)
parser.add_argument("--data-options")
parser.add_argument("--out", type=Path)
parser.add_argument("--events-fd", type=int)
parser.add_argument("--commands-fd", type=int)
given = parser.parse_args()
pipes = PipeHooks(given.events_fd, given.commands_fd)
pipes.emit(count(given, pipes))
