"""The extras of the package: which brings a module, and which are installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, requires

_BROUGHT_BY = {
    "PIL": "pillow",
    "anyio": "fastapi",
    "botocore": "boto3",
    "cv2": "opencv-python-headless",
    "kombu": "celery",
    "markupsafe": "jinja2",
    "multipart": "python-multipart",
    "opentelemetry": "opentelemetry-api",
    "sklearn": "scikit-learn",
    "starlette": "fastapi",
    "tokenizers": "transformers",
    "yaml": "pyyaml",
}
"""Packages by module, where their names differ or another brings them along."""

_REQUIREMENT = re.compile(r"""(?P<name>[\w.-]+).*?extra == ["'](?P<extra>\w+)["']""")


def extra_of(module: str) -> str | None:
    """The first extra that brings a module's package; None for modules that no extra of ours brings."""
    top = module.partition(".")[0]
    wanted = _normal(_BROUGHT_BY.get(top, top))
    return next((extra for name, extra in _requirements() if name == wanted), None)


def told_of(error: ModuleNotFoundError) -> str | None:
    """Return what to say of a module that is missing; None for one that no extra of ours brings."""
    extra = extra_of(error.name or "")
    return None if extra is None else f"this needs the extra {extra!r}: pip install 'difftune[{extra}]'"


def lacking(*extras: str) -> list[str]:
    """The extras, of some, of which a package is not installed."""
    needed = {extra for name, extra in _requirements() if not _is_installed(name)}
    return [extra for extra in extras if extra in needed]


def _requirements() -> list[tuple[str, str]]:
    """Names of the packages that extras bring, each with its extra."""
    try:
        found = [_REQUIREMENT.match(line) for line in requires("difftune") or []]
    except PackageNotFoundError:  # a source tree that was not installed
        return []
    return [(_normal(match["name"]), match["extra"]) for match in found if match]


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
