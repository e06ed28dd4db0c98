"""A hook of mkdocs: links from docs/ to other files of the repository.

A page may point at a recipe or a benchmark, which are no part of the site. Such a link leads to the repository where
mkdocs.yml knows its address (S3ROUTER_REPOSITORY); elsewhere the path stands there as text.
"""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[(?P<text>[^\]]*)\]\(\.\./(?P<path>[^)]+)\)")


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Called by mkdocs for the text of each page."""
    return outside_links(markdown, config["repo_url"])


def outside_links(markdown: str, repository: str | None) -> str:
    """The same text, with links that leave docs/ replaced."""

    def replaced(match: re.Match[str]) -> str:
        if repository:
            return f"[{match['text']}]({repository.rstrip('/')}/blob/main/{match['path']})"
        return f"{match['text']} (`{match['path']}`)"

    return _OUTSIDE.sub(replaced, markdown)
