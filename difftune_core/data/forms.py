"""The forms of data sets: which there are, and which one files are of."""

from __future__ import annotations

from typing import Any

from difftune_core.data.captioned import Captioned
from difftune_core.data.class_folders import ClassFolders
from difftune_core.data.layout import View
from difftune_core.data.scan import Form

CAPTIONED, CLASS_FOLDERS = Captioned(), ClassFolders()
FORMS: tuple[Form[Any], ...] = (CAPTIONED, CLASS_FOLDERS)
"""Files are of the first that fits them; the last one fits all."""


def form_of(view: View) -> Form[Any]:
    """The form of these files."""
    return next(form for form in FORMS if form.fits(view))
