from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

import api
from api.deps import Services
from api.keys.operating import ensure_first


def test_a_server_stops_although_a_client_still_listens(
    add_job: Callable[..., Any], services: Services, data_dir: Path
) -> None:
    job_id = add_job()["id"]
    token = ensure_first(services.database, data_dir)[0].read_text().strip()
    command = [sys.executable, "-m", "uvicorn", "api.app:create_app", "--factory", "--port", "0"]
    environment = {**os.environ, "DIFFTUNE_DATA_DIR": str(data_dir)}
    folder = Path(api.__file__).parents[1]
    with subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            port = next(found[1] for line in lines if (found := re.search(r"running on http://\S+:(\d+)", line)))
            url = f"http://127.0.0.1:{port}/v1/fine_tuning/jobs/{job_id}/events?stream=true"
            headers = {"authorization": f"Bearer {token}"}
            with httpx2.stream("GET", url, headers=headers, timeout=20) as answer:
                received = answer.iter_lines()
                assert next(received).startswith("id: evt_")
                drain = threading.Thread(target=server.stderr.read)
                drain.start()
                server.send_signal(signal.SIGTERM)
                assert server.wait(timeout=8) in {0, -signal.SIGTERM}
                drain.join()
        finally:
            server.kill()
