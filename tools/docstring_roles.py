"""For the API pages: :func:`name` and its like in docstrings are shown as `name`."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|mod|meth|attr|data):`~?([^`]+)`")


class DocstringRoles(griffe.Extension):
    """Takes the roles out of every docstring; Markdown has none."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
