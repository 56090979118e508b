"""The content of an APK (sizes, shares, permissions), as figures and as a table."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import archive
from tools import Tools, run

PARTS = {
    "model": lambda name: name.startswith("assets/bundle/"),
    "ONNX Runtime": lambda name: name.startswith("lib/"),
    "dex": lambda name: name.endswith(".dex"),
}


def facts(kit: Tools, apk: Path, signatures: list[str]) -> dict[str, Any]:
    """Measure a signed APK.

    `download_bytes` is the size with every file deflated, as stores send it. In the APK, native libraries are stored.
    """
    files = archive.entries(apk)
    size = apk.stat().st_size
    with zipfile.ZipFile(apk) as content:
        deflated = {file.name: min(len(zlib.compress(content.read(file.name), 9)), file.packed) for file in files}
        segments = [archive.load_alignments(content.read(f.name)) for f in files if f.name.endswith(".so")]
    download = size - sum(file.packed for file in files) + sum(deflated.values())
    parts = {}
    for part in (*PARTS, "other"):
        names = [file for file in files if _part(file.name) == part]
        packed, sent = sum(file.packed for file in names), sum(deflated[file.name] for file in names)
        parts[part] = {
            "bytes": sum(file.size for file in names),
            "in_apk": packed,
            "share": round(packed / size, 4),
            "in_download": sent,
            "share_of_download": round(sent / download, 4),
        }
    said = run(kit.aapt2, "dump", "permissions", apk)
    badging = run(kit.aapt2, "dump", "badging", apk)
    return {
        "apk": str(apk),
        "apk_bytes": size,
        "download_bytes": download,
        "parts": parts,
        "permissions": re.findall(r"uses-permission: name='([^']+)'", said),
        "abis": sorted({file.name.split("/")[1] for file in files if file.name.startswith("lib/")}),
        "min_sdk": int(_first(r"(?:sdkVersion|minSdkVersion):'(\d+)'", badging)),
        "target_sdk": int(_first(r"targetSdkVersion:'(\d+)'", badging)),
        "signatures": signatures,
        "library_page_bytes": min(min(alignments) for alignments in segments),
    }


def _part(name: str) -> str:
    return next((part for part, holds in PARTS.items() if holds(name)), "other")


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else "0"


def table(facts: dict[str, Any]) -> str:
    """The figures as a table."""
    rows = [("part", "bytes", "in the APK", "share", "in a download", "share")]
    rows += [
        _row(name, part["bytes"], part["in_apk"], part["share"], part["in_download"], part["share_of_download"])
        for name, part in facts["parts"].items()
    ]
    rows.append(_row("all", 0, facts["apk_bytes"], 1, facts["download_bytes"], 1))
    lines = ["  ".join([row[0].ljust(14), *(cell.rjust(13) for cell in row[1:])]) for row in rows]
    lines += [
        "",
        f"permissions  {', '.join(facts['permissions']) or 'none'}",
        f"ABIs         {', '.join(facts['abis'])} (pages of up to {facts['library_page_bytes'] // 1024} KiB)",
        f"SDK          {facts['min_sdk']} to {facts['target_sdk']}",
        f"signature    {', '.join(facts['signatures'])}: verified",
        facts["apk"],
    ]
    return "\n".join(lines)


def _row(name: str, size: int, packed: int, share: float, sent: int, sent_share: float) -> tuple[str, ...]:
    return (name, f"{size:,}" if size else "", f"{packed:,}", f"{share:.1%}", f"{sent:,}", f"{sent_share:.1%}")
