"""Where a service is: an address and a key, a name of the profile file, or the service that runs on this machine."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import httpx2

from difftune.service import ServiceError

STATE_FILE = "stack.json"
"""File of a data folder that says where its service answers."""
DEFAULT = "default"
"""The profile that is used where nothing names a service."""
URL, KEY, DATA_DIR, PROFILES = "DIFFTUNE_URL", "DIFFTUNE_API_KEY", "DIFFTUNE_DATA_DIR", "DIFFTUNE_PROFILES"
_HOME = Path("~/.local/share/difftune")
_ANSWER_S = 5.0


def address(url: str | None = None, key: str | None = None) -> tuple[str, str]:
    """Return address and key of a service.

    Args:
        url: the address, or the name of a profile; None: `DIFFTUNE_URL`, else the profile `default`, else the service
            on this machine.
        key: None: that of the profile, else `DIFFTUNE_API_KEY`, else that of the service on this machine.

    Raises:
        ServiceError: there is no such profile, no key, or no service on this machine.
    """
    url = url or os.environ.get(URL)
    key = key or os.environ.get(KEY)
    found = named(url) if url else default_profile()
    if found is not None:
        place, secret = found[0], key_of(found[1], key)
    elif (found := local_service(data_folder())) is not None:
        place, secret = found[0], key or found[1]
    else:
        raise ServiceError(no_service(data_folder()))
    if not secret:
        raise ServiceError(f"the service {place} needs an API key, or {KEY} in the environment")
    return place, secret


def key_of(own: str, key: str | None) -> str:
    """Return the key for the service of a profile: what is given, the profile's own, or that of the environment."""
    return key if key and key != os.environ.get(KEY) else own or key or ""


def no_service(folder: Path) -> str:
    """Say that none runs over a data folder, and what can be done."""
    return f"no service runs over {folder}: start one with `difftune up`, or name one with --url and --key"


def named(url: str) -> tuple[str, str]:
    """Return address and key of what a URL says, or a profile's name; the key is empty where none is known.

    Raises:
        ServiceError: it is neither.
    """
    if "://" in url:
        return url, ""
    known = profiles()
    if url not in known:
        there = f"in {_profile_file()} there are: {', '.join(known) or 'none'}"
        raise ServiceError(f"{url} is no address of a service (http://...) and no profile; {there}")
    return known[url]


def default_profile() -> tuple[str, str] | None:
    """Return the profile that counts where nothing names a service; None where a data folder does, or none is there."""
    return None if os.environ.get(DATA_DIR) else profiles().get(DEFAULT)


def profiles() -> dict[str, tuple[str, str]]:
    """Return address and key of each profile by name.

    Raises:
        ServiceError: the file cannot be read, or a profile in it names no address.
    """
    path = _profile_file()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ServiceError(f"{path} cannot be read: {error}") from None
    try:
        return {name: (str(profile["url"]), str(profile.get("key", ""))) for name, profile in found.items()}
    except (KeyError, TypeError, AttributeError):
        raise ServiceError(f"{path}: every profile is a table with url and key") from None


def data_folder() -> Path:
    """Return the folder where a service on this machine keeps everything, unless something else is said."""
    return Path(os.environ.get(DATA_DIR) or _HOME).expanduser()


def local_service(folder: Path) -> tuple[str, str] | None:
    """Return address and key of the service that runs over a data folder; None where none answers."""
    try:
        url = str(json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["url"])
        key = (folder / "api-key").read_text(encoding="utf-8").strip()
        httpx2.get(f"{url}/readyz", timeout=_ANSWER_S, trust_env=False).raise_for_status()
    except (OSError, ValueError, KeyError, httpx2.HTTPError):
        return None
    return url, key


def _profile_file() -> Path:
    default = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "difftune" / "profiles.toml"
    return Path(os.environ.get(PROFILES) or default).expanduser()
