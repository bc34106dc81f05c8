from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from difftune_core.hooks import Command, ProgressEvent, parse_event

CHILD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from difftune_core.channel import PipeHooks
    from difftune_core.hooks import LogEvent, ProgressEvent
    hooks = PipeHooks(int(sys.argv[1]), int(sys.argv[2]))
    hooks.emit(LogEvent(message="x" * 200_000))  # longer than a pipe holds
    hooks.emit(ProgressEvent(phase="training", done=1, total=2))
    deadline = time.monotonic() + 20
    while hooks.stop_requested() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    kept, asked = hooks.release(Path("step-00000001")), hooks.stop_requested()
    hooks.emit(LogEvent(message=f"{kept} {asked}"))
    time.sleep(20)
    """
)


def test_events_arrive_commands_are_obeyed_and_an_orphan_exits(tmp_path: Path) -> None:
    events_out, events_in = os.pipe()
    commands_out, commands_in = os.pipe()
    script = tmp_path / "child.py"
    script.write_text(CHILD, encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, str(script), str(events_in), str(commands_out)], pass_fds=(events_in, commands_out)
    )
    os.close(events_in)
    os.close(commands_out)
    with os.fdopen(events_out, "rb") as events:
        assert len(parse_event(events.readline()).message) == 200_000
        assert parse_event(events.readline()) == ProgressEvent(phase="training", done=1, total=2)
        with os.fdopen(commands_in, "wb", buffering=0) as commands:
            commands.write(b'{"v": 1, "type": "of the future"}\n')
            commands.write(Command(type="ack", checkpoint="step-00000001").model_dump_json().encode() + b"\n")
            commands.write(Command(type="pause").model_dump_json().encode() + b"\n")
            assert parse_event(events.readline()).message == "True pause"
        assert child.wait(10) == 75, "the closed command pipe ends the child at once"
