"""All of an examination as plain data, and its page."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from s3router import __version__
from s3router.doctor import machine, packages, programs, stock
from s3router.files import printable


def examine(packs: Collection[Path] = ()) -> dict[str, Any]:
    """Look at everything; nothing is changed, fetched or trained.

    Args:
        packs: mask packs, and folders of them.

    Returns:
        Plain data for JSON. ``broken`` lists what is needed and does not work, ``missing`` what some command lacks,
        each with its ``remedy``.

    Raises:
        ConfigError: s3router is neither installed nor in a clone.
    """
    extras = packages.extras()
    imports = packages.broken_imports()
    usable = not _is_missing("torch", extras, imports) and not _is_missing("numpy", extras, imports)
    upstreams = stock.upstreams() if usable else stock.NOT_EXAMINED
    backbones = {*upstreams["shipped"], *(each["name"] for each in upstreams["fetched"])}
    found = {
        "s3router": {
            "version": __version__,
            "place": str(packages.ROOT / "s3router"),
            "clone": packages.in_clone(),
            "python": platform.python_version(),
        },
        # without a torch that can be imported there is nothing to measure or read with
        "machine": machine.machine() if usable else None,
        "packages": {name: [_plain(each) for each in lines] for name, lines in extras.items()},
        "imports": imports,
        "audio": programs.audio_libraries(),
        "programs": list(programs.programs()),
        "upstreams": upstreams,
        "packs": list(stock.packs(packs, backbones)) if usable else [],
    }
    return found | {"broken": list(_broken(found)), "missing": list(_missing(found))}


def _is_missing(name: str, extras: Mapping[str, list[packages.Package]], imports: Mapping[str, str]) -> bool:
    return name in imports or any(each.name == name and each.found is None for each in extras[packages.BASE])


def _plain(package: packages.Package) -> dict[str, Any]:
    return {"name": package.name, "wanted": package.wanted, "found": package.found, "fits": package.fits}


def _broken(found: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for extra, lines in found["packages"].items():
        for each in lines:
            if each["found"] is not None and not each["fits"]:
                what = f"{each['name']} is {each['found']}, and {extra} needs {each['wanted']}"
                yield {"what": what, "remedy": packages.how_to_get(extra)}
            elif each["found"] is None and extra == packages.BASE:
                yield {"what": f"{each['name']} is not installed", "remedy": packages.how_to_get(extra)}
    for name, reason in found["imports"].items():
        remedy = f"pip install --force-reinstall --no-deps {name}=={_version(found, name)}"
        yield {"what": f"{name} cannot be imported: {reason}", "remedy": remedy}
    for each in found["upstreams"]["fetched"]:
        if each["problem"]:
            remedy = f"s3router upstream fetch {each['name']} --format {each['format']} --refresh"
            yield {"what": f"upstream {each['name']}: {each['problem']}", "remedy": remedy}
    for each in found["packs"]:
        if each["problem"]:
            yield {"what": each["problem"], "remedy": "write it again with s3router pack, or copy it again"}


def _version(found: Mapping[str, Any], name: str) -> str:
    return next(each["found"] for each in found["packages"][packages.BASE] if each["name"] == name)


def _missing(found: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for extra, lines in found["packages"].items():
        names = [each["name"] for each in lines if each["found"] is None]
        if names and extra != packages.BASE:
            yield {"what": f"extra {extra}: {', '.join(names)}", "remedy": packages.how_to_get(extra)}
    for each in found["programs"]:
        if each["found"] is None:
            yield {"what": f"{each['name']} ({each['for']})", "remedy": each["get"]}
    for each in found["packs"]:
        if not each["problem"] and not each["backbone_is_here"]:
            remedy = f"s3router upstream fetch {each['backbone']}"
            yield {"what": f"{each['file']}: its backbone {each['backbone']} has not been fetched", "remedy": remedy}


def page(found: Mapping[str, Any]) -> str:
    """The readable page of `examine`."""
    lines = [f"s3router {found['s3router']['version']} in {found['s3router']['place']}"]
    lines += [f"CPython {found['s3router']['python']}", "", "machine", *_machine_lines(found["machine"])]
    lines += ["", "packages"]
    for extra, each in found["packages"].items():
        here = [f"{package['name']} {package['found']}" for package in each if package["found"] is not None]
        state = "ok  " if all(package["fits"] for package in each) else "lack" if here else "none"
        lines.append(_row(extra, f"{state} {', '.join(here)}"))
    lines += ["", "audio and programs"]
    lines += [_row(name, f"version {version}, in a package") for name, version in found["audio"].items() if version]
    lines += [_row(each["name"], each["found"] or f"missing: {each['for']}") for each in found["programs"]]
    lines += [_row("not needed", programs.NOT_NEEDED), "", *_upstream_lines(found["upstreams"])]
    if found["packs"]:
        lines += ["", "packs", *map(_pack_line, found["packs"])]
    for title in ("missing", "broken"):
        lines += ["", title] if found[title] else []
        lines += [f"  {each['what']}\n    -> {each['remedy']}" for each in found[title]]
    lines += ["", _verdict(len(found["broken"]))]
    return "\n".join("\n".join(map(printable, line.split("\n"))) for line in lines)


def _row(name: str, text: str) -> str:
    return f"  {name:15s} {text}"


def _machine_lines(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return [_row("not examined", "torch or numpy cannot be imported")]
    omp = found["omp_num_threads"]
    threads = f"threads of torch: {found['threads']}" + (f" (OMP_NUM_THREADS={omp})" if omp else "")
    gpus = ", ".join(f"{gpu['name']}, {gpu['memory_gb']} GB" for gpu in found["gpus"])
    choice = found["arithmetic"]
    speeds = ", ".join(f"{speed:g} GFLOP/s in {name}" for name, speed in choice["gflops"].items())
    return [
        _row("processor", f"{found['usable_cores']} of {found['cores']} cores, {threads}, {found['system']}"),
        _row("memory", f"{found['memory_gb']} GB, {found['available_gb']} GB available"),
        _row("GPUs", gpus or "none that torch can use"),
        _row("arithmetic", f"{choice['fastest']} on {choice['device']}" + (f" ({speeds}, now)" if speeds else "")),
    ]


def _upstream_lines(found: Mapping[str, Any]) -> Iterator[str]:
    if found["folder"] is None:
        yield from ("upstreams", _row("not examined", "torch or numpy cannot be imported"))
        return
    yield f"upstreams in {found['folder']}"
    yield from (_row(name, "ships with s3router") for name in found["shipped"])
    for each in found["fetched"]:
        yield _row(each["name"], f"{each['format']}, {each['bytes'] / 1e6:,.0f} MB")
    rest = f"{len(found['not_fetched'])} more"
    yield _row(rest, "s3router upstream list names them, s3router upstream fetch NAME brings one")


def _pack_line(each: Mapping[str, Any]) -> str:
    name = Path(each["file"]).name
    if each["problem"]:
        return _row(name, "broken")
    kind = each["kind"].partition(";")[0]
    return _row(name, f"route {each['route']}, {kind}, for {each['backbone']}, {each['bytes'] / 1e6:.2f} MB")


def _verdict(broken: int) -> str:
    if broken == 0:
        return "Nothing that is needed is broken."
    return f"{broken} things that are needed do not work." if broken > 1 else "1 thing that is needed does not work."
