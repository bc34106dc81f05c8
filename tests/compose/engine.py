"""Docker and compose as the test needs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STANDINS = Path(__file__).with_name("standins")
OURS = "difftune-"
_STAND_IN = "difftune.stand-in"


def say(message: str) -> None:
    """Progress, with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {message}\n")


def docker(*arguments: str, check: bool = True, quiet: bool = True, **options: Any) -> str:
    """What `docker ARGUMENTS` prints; `quiet` keeps its progress from the terminal."""
    done = subprocess.run(
        ["docker", *arguments],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        **options,
    )
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)} ended with {done.returncode}:\n{(done.stderr or '')[-4000:]}")
    return done.stdout.strip()


class Stack:
    """The compose project under test."""

    def __init__(self, name: str, port: int, *, wheels: Path | None, ca: Path | None) -> None:
        """`wheels`: a folder of further wheels for pip; `ca`: certificates that pip trusts while images are built."""
        self.url = f"http://localhost:{port}"
        self._wheels = wheels
        files = ["docker-compose.yml", "tests/compose/docker-compose.test.yml"]
        self._compose = ["compose", "--project-name", name, *(part for file in files for part in ("--file", file))]
        self.environment = {
            **os.environ,
            "DIFFTUNE_PORT": str(port),
            "DIFFTUNE_PUBLIC_URL": self.url,
            "DIFFTUNE_VERSION": "test",
            "DIFFTUNE_TEST_CA": str(ca or os.devnull),
        }

    @property
    def service_image(self) -> str:
        """The image of API and command line, once it is built."""
        return f"{OURS}service:{self.environment['DIFFTUNE_VERSION']}"

    def compose(self, *arguments: str, **options: Any) -> str:
        """What `docker compose ARGUMENTS` prints."""
        return docker(*self._compose, *arguments, cwd=ROOT, env=self.environment, **options)

    def provide_images(self) -> list[str]:
        """Pull official images or build their stand-ins; the names of those that were replaced."""
        replaced = []
        recipe = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
        client = re.findall(r"^ARG POSTGRES=(\S+)$", recipe, re.MULTILINE)
        for image in sorted({*self.compose("config", "--images").split(), *client}):
            if image.startswith(OURS):
                continue
            if docker("image", "ls", "--quiet", image):  # pulled, or a stand-in of an earlier run
                labels = docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)
                replaced += [image] if _STAND_IN in labels else []
                continue
            if docker("pull", "--quiet", image, check=False):
                continue
            name = image.rpartition("/")[2].partition(":")[0]
            say(f"{image} cannot be pulled: building its stand-in")
            stand_in = str(STANDINS / f"{name}.Dockerfile")
            docker("build", "--tag", image, "--label", f"{_STAND_IN}=yes", "--file", stand_in, str(STANDINS))
            replaced.append(image)
        return replaced

    def build(self) -> None:
        """Build our images, with the folder of wheels as an image of its own where there is one."""
        if self._wheels is not None:
            wheels = "difftune-test-wheels"
            recipe = "FROM scratch\nCOPY *.whl /\n"
            docker("build", "--tag", wheels, "--file", "-", str(self._wheels), input=recipe)
            self.environment["DIFFTUNE_TEST_WHEELS"] = wheels
        for service in ("init", "worker-cpu"):  # Debian's engine can hang when it builds both at once
            self.compose("build", service, quiet=False)

    def containers(self, *, running: bool = True) -> list[dict[str, Any]]:
        """`docker inspect` of the project's containers."""
        ids = self.compose("ps", "--quiet", *([] if running else ["--all"])).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
        return found

    def service(self, name: str) -> list[dict[str, Any]]:
        """The running containers of one service."""
        return [found for found in self.containers() if service_of(found) == name]

    def exec(self, service: str, *command: str, check: bool = True) -> str:
        """Run a command in a service's first container."""
        return self.compose("exec", "--no-TTY", service, *command, check=check)

    def image_sizes(self) -> dict[str, int]:
        """Our images in MB."""
        names = {image for image in self.compose("config", "--images").split() if image.startswith(OURS)}
        return {name: int(docker("image", "inspect", "--format", "{{.Size}}", name)) // 10**6 for name in sorted(names)}


def service_of(container: dict[str, Any]) -> str:
    """The service that a container belongs to."""
    name: str = container["Config"]["Labels"]["com.docker.compose.service"]
    return name
