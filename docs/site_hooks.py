"""What the site needs beside the pages: notebooks as pages, and files that lie outside of docs.

The pages link to examples, configs and the changelog where they lie in the repository, so that
the links are right there, too. In the site, copies of these files lie below `files/`.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")


def on_config(config: Any) -> Any:
    """List all decisions in the navigation."""
    (explanation,) = [each["Explanation"] for each in config.nav if "Explanation" in each]
    pages = [f"adr/{path.name}" for path in sorted((ROOT / "docs/adr").glob("*.md"))]
    explanation.append({"Decisions": pages})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the notebooks as pages, and what the pages link to outside of docs."""
    for page in [each for each in files if each.src_uri.endswith((".md", ".ipynb"))]:
        text = Path(str(page.abs_src_path)).read_text()
        if page.src_uri.endswith(".ipynb"):
            files.remove(page)
            name = page.src_uri.removesuffix("ipynb") + "md"
            files.append(File.generated(config, name, content=_notebook(text)))
        for link in LINK.findall(text):
            source, name = _copied(page.src_uri, link)
            if source is not None and files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, content=source.read_bytes()))
    return files


def on_page_markdown(text: str, page: Any, **_: Any) -> str:
    """Lead links out of docs to the copies of these files, and those to notebooks to pages."""
    here = page.file.src_uri

    def led(found: re.Match[str]) -> str:
        source, name = _copied(here, found[1])
        if source is None:
            return found[1].replace(".ipynb", ".md")
        return posixpath.relpath(name, posixpath.dirname(here) or ".")

    return LINK.sub(led, text)


def _copied(page: str, link: str) -> tuple[Path | None, str]:
    """The file outside of docs that a link of a page leads to, and the name of its copy.

    None where the link leads to another page. Markdown is copied as text, since it is no page of
    the site.
    """
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    if path == "docs" or path.startswith("docs/"):
        return None, ""
    name = f"files/{path}.txt" if path.endswith(".md") else f"files/{path}"
    return ROOT / path, name


def _notebook(text: str) -> str:
    """A notebook as a page: its words, and its code in blocks."""
    return "\n\n".join(
        "".join(cell["source"])
        if cell["cell_type"] == "markdown"
        else f"```python\n{''.join(cell['source'])}\n```"
        for cell in json.loads(text)["cells"]
    )
