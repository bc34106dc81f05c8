from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from api.base_models import store as stored
from api.findings import Finding, bad, good, poor
from api.settings import Settings
from api.storage import StoreError, open_store
from difftune_core.config.card import list_cards, read_card
from difftune_core.files import folder_digest

_CHECK = "base models"


def look(settings: Settings) -> Iterator[Finding]:
    """Find out whether there is a base model, and whether each one's files are those of which its card speaks."""
    sound = []
    for model_id, folder in list_cards(settings.model_roots).items():
        try:
            card = read_card(folder)
        except (ValidationError, OSError) as error:
            yield bad(_CHECK, f"the card in {folder} cannot be read: {error}")
            continue
        if folder_digest(folder) == card.digest:
            sound.append(model_id)
        else:
            advice = "Import it anew: jobs on it fail with model_mismatch."
            yield bad(_CHECK, f"{model_id}: the files in {folder} do not have the digest of its card", advice)
    if settings.store_url is not None or (settings.data_dir / "objects").is_dir():
        try:
            for model_id, model in stored.listed(open_store(settings)):
                if model is None:
                    yield poor(_CHECK, f"the index of {model_id} in the object store cannot be read")
                elif model.role == "base_model":
                    sound.append(f"{model_id} (in the store)")
        except (StoreError, ValueError):
            pass  # the look at the store has said so
    if sound:
        yield good(_CHECK, f"{', '.join(sound)}: files and cards agree")
    else:
        yield bad(_CHECK, "there is none", "difftune models import")
