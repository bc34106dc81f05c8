from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

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


def test_an_upload_that_a_stop_cuts_off_is_answered_in_our_shape(app: FastAPI, token: str) -> None:
    config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            with socket.create_connection(bound.getsockname(), timeout=20) as client:
                client.sendall(half_an_upload(token))
                while not server.server_state.tasks:  # a busy machine takes its time until it reads the request
                    time.sleep(0.01)
                time.sleep(0.5)
                server.should_exit = True
                received = b"".join(iter(lambda: client.recv(65536), b""))
        finally:
            server.should_exit = True
            thread.join()
    status, _, body = received.decode().partition("\r\n\r\n")
    assert status.startswith("HTTP/1.1 503 ")
    assert "application/problem+json" in status
    assert json.loads(body)["code"] == "shutting_down"


def half_an_upload(token: str) -> bytes:
    head = "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    head += f"Authorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    return f'{head}--b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nPK'.encode()
