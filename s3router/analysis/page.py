"""The page of an analysis: one HTML file that needs nothing else, and a Markdown page for a repository."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from s3router.analysis.drawing import colours, number
from s3router.analysis.figures import Figure
from s3router.analysis.report import Analysis
from s3router.analysis.tables import Table
from s3router.errors import ConfigError
from s3router.experiments.markdown import paragraph
from s3router.experiments.markdown import table as markdown_table
from s3router.files import replacing, write_lines

_MOST_ROWS = 2_000  # in a table of the page; longer ones are in their files only

# section -> (heading, sentence, what stands in it: figures by name, and tables)
_SECTIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "alike",
        "How alike are the masks?",
        "Two independent masks that remove 6 % each have a cosine of 0.94, so a similarity alone says nothing. Here 0 "
        "is chance and 1 are equal masks, whatever the sparsity.",
        ("table:references", "similarity", "map", "table:pairs"),
    ),
    ("layers", "In which layers?", "", ("layer_similarity", "layer_changed", "layer_removed", "table:layers")),
    (
        "weights",
        "Which weights?",
        "",
        ("magnitudes", "shared", "table:magnitudes", "table:shared", "table:units", "table:heads"),
    ),
    (
        "world",
        "Does it go with what is known of the routes?",
        "",
        ("table:relations", "relation_*", "table:relation_pairs"),
    ),
    (
        "serve",
        "Does the mask of one serve another?",
        "In tables of s3router transfer, a value is the error rate of a head that was fitted anew under the mask.",
        ("ordered_*", "table:ordered"),
    ),
    (
        "representations",
        "What do masks do to representations?",
        "",
        ("representations", "purity", "layer_weights", "table:representations", "table:purity", "table:layer_weights"),
    ),
    ("packs", "The packs", "", ("table:packs",)),
)
_TABLE = "table:"
_TITLE = "<title>Analysis of masks</title>"
_FILES = "All rows are in the files beside this page: "
_ON_PAGE = {  # columns of tables that have more
    "pairs": (
        *("a", "b", "same_route", "cosine", "cosine_chance", "jaccard", "jaccard_chance"),
        *("above_chance", "z", "z_given_magnitude"),
    ),
}


def write(
    found: Analysis, folder: str | os.PathLike, command: str, markdown: str | os.PathLike | None = None
) -> list[Path]:
    """Write tables, figures and pages; what an earlier analysis left there and this one lacks is removed.

    Args:
        folder: gets ``index.html``, ``*.csv`` and ``*.svg``.
        command: that made it, for the pages.
        markdown: a page beside which, or beneath which, `folder` lies; it shows figures and the main tables.

    Returns:
        the files written.

    Raises:
        OSError: a file cannot be written; each is whole or as it was.
    """
    folder = Path(folder)
    contents = {f"{table.name}.csv": table.csv() for table in found.tables.values()}
    contents |= {f"{figure.name}.svg": figure.svg + "\n" for figure in found.figures.values()}
    contents["index.html"] = html(found, command)
    gone = [path for path in _earlier(folder) if path.name not in contents]  # before its page is another one
    for name, text in contents.items():
        with replacing(folder / name) as file:
            file.write(text)
    for old in gone:
        old.unlink(missing_ok=True)
    written = [folder / name for name in contents]
    if markdown is not None:
        write_lines(markdown, _markdown(found, folder, Path(markdown), command))
        written.append(Path(markdown))
    return written


def _tables() -> set[str]:
    """The files of all tables that an analysis can have."""
    names = (name for *_, parts in _SECTIONS for name in parts if name.startswith(_TABLE))
    return {f"{name.removeprefix(_TABLE)}.csv" for name in names}


def _earlier(folder: Path) -> list[Path]:
    """What an earlier analysis wrote: tables that its page names, figures that stand in it.

    Names alone say nothing: files of others may be called so, too.
    """
    page = folder / "index.html"
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    if _TITLE not in text:
        return []
    named = re.search(rf"{_FILES}([^<]*)\. Written by", text)
    tables = _tables() & set(named[1].split(", ") if named else ())
    shown = {name for *_, parts in _SECTIONS for name in parts if not name.startswith(_TABLE)}
    figures = {path for name in shown for path in folder.glob(f"{name}.svg") if path.is_file()}
    figures = {path for path in figures if (svg := path.read_text("utf-8", "replace").strip()) and svg in text}
    return sorted({*(folder / name for name in tables), *figures})


def check_apart(folder: str | os.PathLike, reads: Iterable[Path], markdown: str | os.PathLike | None = None) -> None:
    """Refuse, before anything is computed, what `write` could not write, or only over what is read or written, too.

    Raises:
        ConfigError: a file is in the place of a folder or a folder in that of a file; or one of `reads` or `markdown`
            is called as a file that `write` writes, or both are one.
    """
    folder, names, reads = Path(folder), {"index.html", *_tables()}, list(reads)
    pages = [] if markdown is None else [Path(markdown)]
    for wanted in (folder, *(page.parent for page in pages)):
        there = next(path for path in (wanted, *wanted.absolute().parents) if path.exists())
        if not there.is_dir():
            raise ConfigError(f"{there}: a file; name a folder")
    for page in pages:
        if page.is_dir():
            raise ConfigError(f"{page}: a folder; name a file for the Markdown page")
        if page.resolve() in [path.resolve() for path in reads]:
            raise ConfigError(f"--markdown {page}: it is read, and would be written over; name another file")
    for path in (*reads, *pages):
        there = path.resolve()
        if there.parent == folder.resolve() and there.name in names:
            raise ConfigError(f"{path}: an analysis writes a file of this name there; rename it, or name another DIR")


# --- HTML


def html(found: Analysis, command: str) -> str:
    """The page, self-contained: style, script, figures and tables are in it."""
    parts, links = [], []
    for key, heading, sentence, names in _SECTIONS:
        inside = "".join(_parts(found, names))
        if inside:
            links.append(f'<a href="#{key}">{escape(heading)}</a>')
            said = f"<p>{escape(sentence)}</p>" if sentence else ""
            parts.append(f'<section id="{key}"><h2>{escape(heading)}</h2>{said}{inside}</section>')
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in found.facts.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    missing = f'<section id="missing"><h2>What is not here</h2><ul>{notes}</ul></section>' if notes else ""
    files = ", ".join(f"{escape(name)}.csv" for name in found.tables)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,">{_TITLE}<style>{_STYLE}</style></head><body>'
        f'<header><h1>Analysis of masks</h1><dl>{facts}</dl><nav aria-label="Sections">{"".join(links)}</nav></header>'
        f"<main>{''.join(parts)}{missing}</main>"
        f"<footer><p>{_FILES}{files}. Written by:</p>"
        f'<pre tabindex="0">{escape(command)}</pre></footer><script>{_SCRIPT}</script></body></html>\n'
    )


def _parts(found: Analysis, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        table = found.tables.get(name.removeprefix(_TABLE)) if name.startswith(_TABLE) else None
        if table is not None:
            yield _table(table)
        for figure in _figures(found, name):
            title = escape(figure.title)
            drawn = f'<div class="wide" tabindex="0" role="region" aria-label="{title}">{figure.svg}</div>'
            yield f"<figure><h3>{title}</h3>{drawn}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def _figures(found: Analysis, name: str) -> list[Figure]:
    if name.endswith("*"):
        return [figure for key, figure in found.figures.items() if key.startswith(name[:-1])]
    return [found.figures[name]] if name in found.figures else []


def _table(table: Table) -> str:
    """Sortable; folded where it is long, and not there at all where it is very long."""
    name, count = table.name, len(table.rows)
    if name == "pairs":
        table = table.where(scope="all", where="all")
        count = len(table.rows)
    title = name.replace("_", " ")
    if count > _MOST_ROWS:
        return f"<p>{escape(title)}: {count:,} rows, in {escape(name)}.csv.</p>"
    if name in _ON_PAGE:
        table = table.only([column for column in _ON_PAGE[name] if column in table.columns])
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(column.replace("_", " "))}</button></th>'
        for column in table.columns
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    inside = (
        f'<div class="wide" tabindex="0" role="region" aria-label="Table: {escape(title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    if count > 12:
        return f"<details><summary>Table: {escape(title)}, {count:,} rows</summary>{inside}</details>"
    return f"<h3>Table: {escape(title)}</h3>{inside}"


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        known = not (isinstance(value, float) and math.isnan(value))
        return f'<td class="n" data-v="{value:.10g}">{number(value)}</td>' if known else '<td class="n">–</td>'
    return f"<td>{escape(_word(value))}</td>"


def _word(value: Any) -> str:
    return "–" if value is None or value == "" else {True: "yes", False: "no"}.get(value, str(value))


_BASE = (
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,-apple-system,Segoe UI,Roboto,sans-serif}"
    "header,main,footer{max-width:78rem;margin:0 auto;padding:0 1rem}h1{margin:1.2rem 0 .4rem;font-size:1.7rem}"
    "h2{margin:2.2rem 0 .4rem;font-size:1.3rem;border-top:1px solid var(--line);padding-top:1rem}"
    "h3{margin:1.2rem 0 .3rem;font-size:1rem}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.5rem 0}dt{color:var(--soft)}"
    "dd{margin:0;overflow-wrap:anywhere}nav{display:flex;flex-wrap:wrap;gap:.3rem 1rem;margin:.8rem 0}"
    "a{color:var(--heat)}p,figcaption,li{max-width:46rem}figcaption{color:var(--soft);font-size:.92rem;margin-top:.4rem}"
    "figure{margin:.5rem 0 1rem}"
    # narrow figures stand side by side where there is room
    "@media(min-width:79rem){figure:has(svg.narrow){display:inline-block;vertical-align:top;width:36.5rem;"
    "margin-right:1rem}}"
    ".wide{overflow-x:auto}svg.figure{display:block;max-width:none}svg.narrow{width:100%;max-width:36rem;height:auto}"
    "table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}"
    "td.n{text-align:right}th{padding:0;vertical-align:bottom}"
    "th button{font:inherit;font-weight:600;color:inherit;background:none;border:0;padding:.3rem .6rem;cursor:pointer;"
    "text-align:left;white-space:normal;min-width:4.5rem}"
    "th button:hover{background:var(--line)}th[aria-sort=ascending] button::after{content:' ▲'}"
    "th[aria-sort=descending] button::after{content:' ▼'}"
    ":focus-visible{outline:2px solid var(--heat);outline-offset:2px}"
    "summary{cursor:pointer;margin:.8rem 0;color:var(--heat)}pre{overflow-x:auto;white-space:pre;padding:.6rem;"
    "border:1px solid var(--line);border-radius:6px;font-size:.85rem}footer{margin-top:2rem;padding-bottom:2rem;"
    "color:var(--soft);font-size:.9rem;overflow-wrap:anywhere}"
    "@media print{details{display:block}}"
)
_STYLE = (
    f":root{{color-scheme:light dark;{colours('light')}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{colours('dark')}}}}}{_BASE}"
)
# Rows go in the order of numbers where a column has some, else of words; what is not known goes last.
_SCRIPT = """
document.addEventListener('click', event => {
  const button = event.target.closest('th button');
  if (!button) return;
  const head = button.parentElement, row = head.parentElement, body = head.closest('table').tBodies[0];
  const column = [...row.children].indexOf(head), up = head.getAttribute('aria-sort') !== 'ascending';
  for (const other of row.children) other.setAttribute('aria-sort', 'none');
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const key = line => {
    const cell = line.cells[column];
    return cell.dataset.v !== undefined ? +cell.dataset.v : cell.textContent === '\\u2013' ? null : cell.textContent;
  };
  const lines = [...body.rows].map(line => [key(line), line]);
  lines.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === 'number' && typeof b === 'number' ? a - b
      : String(a).localeCompare(String(b), undefined, {numeric: true});
    return up ? order : -order;
  });
  body.append(...lines.map(([, line]) => line));
});
"""


# --- Markdown


def _markdown(found: Analysis, folder: Path, page: Path, command: str) -> Iterator[str]:
    """The page of a repository: figures by reference, the main tables, and what each may be taken for."""
    there = Path(os.path.relpath(folder, page.parent)).as_posix()
    yield "# Analysis of masks"
    yield ""
    yield from paragraph(*(f"{name.capitalize()}: {text}." for name, text in found.facts.items()))
    yield ""
    yield from paragraph(
        f"Every row is in `{there}/*.csv`, everything on one page in `{there}/index.html`. Written by:"
    )
    yield from ("", "```sh", command, "```")
    for _, heading, sentence, names in _SECTIONS:
        lines = list(_markdown_parts(found, names, there))
        if lines:
            yield from ("", f"## {heading}")
            if sentence:
                yield from ("", *paragraph(sentence))
            yield from lines
    if found.notes:
        yield from ("", "## What is not here", "")
        for note in found.notes:
            first, *rest = paragraph(note)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)


_SHORT = {
    "packs": (
        "pack",
        "language",
        "sparsity",
        "changed_from_initial",
        "above_chance_to_initial",
        "explained_by_magnitude",
    ),
    "references": ("pairs_of", "pairs", "cosine", "cosine_by_chance", "above_chance", "lowest", "highest"),
    "shared": ("removed_by", "weights", "share", "expected_by_chance", "expected_given_magnitude"),
    "ordered": ("measure", "items", "pairs", "spearman", "low", "high", "p_two_sided", "permutations"),
    "relations": (
        *("measure", "routes", "pairs", "spearman", "spearman_p_two_sided"),
        *("pearson", "pearson_p_two_sided", "missing"),
    ),
}


def _markdown_parts(found: Analysis, names: tuple[str, ...], there: str) -> Iterator[str]:
    for name in names:
        key = name.removeprefix(_TABLE)
        if name.startswith(_TABLE) and key in _SHORT and key in found.tables:
            table = found.tables[key]
            table = table.only([column for column in _SHORT[key] if column in table.columns])
            yield ""
            yield from markdown_table(
                [column.replace("_", " ") for column in table.columns],
                [[number(v) if isinstance(v, int | float) else _word(v) for v in row] for row in table.rows],
            )
        for figure in _figures(found, name):
            yield from ("", f"![{figure.title}]({there}/{figure.name}.svg)", "", *paragraph(figure.caption))
