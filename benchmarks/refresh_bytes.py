r"""What a refresh costs: bytes of patches beside the full catalogue, time and memory of publishing and of applying one.

    python benchmarks/refresh_bytes.py --json > refresh_bytes.json

Catalogues of random items without titles: ids of 8 to 12 capitals and digits, semantic IDs anywhere in 256^3, and from
one release to the next `--churn` of the items replaced by others. Six releases are published, the last with patches
from the five before it; publishing and, for the device, unpacking the newest patch (read, unpack, hash, write) run
in processes of their own, so `peak_mb` is theirs alone. The model is the default student with random weights. Bytes
depend on the seed alone, times on the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scale import CODES, LEVELS, SPACE, make_bundle, peak_mb

from pocketrec.runtime.bundle.bundle import TRIE_FILE, CatalogueSpec, describe_file, open_bundle, write_manifest
from pocketrec.runtime.catalogue.item_table import ItemTable
from pocketrec.runtime.catalogue.trie_file import TrieFile, write_trie_file
from pocketrec.runtime.sync.patch import apply_patch

RELEASES = 6
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", np.uint8)
SHORTEST, LONGEST = 8, 12


def write_catalogue(path: Path, sids: NDArray[np.int64], ids: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
    """Write items in the order of their semantic IDs. sids: numbers below 256^3; ids [n, LONGEST], cut to `lengths`."""
    order = np.argsort(sids)
    rows = np.stack(np.unravel_index(sids[order], (CODES,) * LEVELS), 1).astype(np.uint8)
    blob = ids[order][np.arange(LONGEST) < lengths[order][:, None]]
    offsets = np.concatenate(([0], np.cumsum(lengths[order])))
    write_trie_file(path, TrieFile(rows, ItemTable(blob, offsets), CODES, SPACE))


def write_catalogues(bundle: Path, items: int, churn: float, seed: int) -> list[Path]:
    """Write RELEASES catalogues, in each `churn` of the items replaced by others."""
    rng = np.random.default_rng(seed)
    replaced = round(items * churn)
    every = items + replaced * (RELEASES - 1)
    sids = rng.choice(CODES**LEVELS, every, replace=False)
    ids = ALPHABET[rng.integers(0, len(ALPHABET), (every, LONGEST))]
    lengths = rng.integers(SHORTEST, LONGEST + 1, every)
    there, paths = rng.permutation(items), []
    for release in range(RELEASES):
        if release:
            new = items + replaced * (release - 1) + np.arange(replaced)
            there = np.concatenate((rng.permutation(there)[replaced:], new))
        paths.append(bundle.parent / f"{release}.safetensors")
        write_catalogue(paths[-1], sids[there], ids[there], lengths[there])
    return paths


def publish_all(folder: Path) -> dict[str, Any]:
    """Publish every catalogue as a release (run in a process of its own); return what the last one was and cost."""
    from pocketrec.export.publish.keys import create_keys, load_keys
    from pocketrec.export.publish.publish import PublishSettings, publish
    from pocketrec.export.publish.repository import Repository

    create_keys(folder / "keys")
    repository, keys = Repository(folder / "repo"), load_keys(folder / "keys", environment={})
    bundle = folder / "bundle"
    manifest = open_bundle(bundle).manifest
    seconds, cpu = [], []
    for release in range(RELEASES):
        shutil.copyfile(folder / f"{release}.safetensors", bundle / TRIE_FILE)
        entry = describe_file(bundle / TRIE_FILE)
        items = int(np.load(folder / "items.npy"))
        files, catalogue = {**manifest.files, TRIE_FILE: entry}, CatalogueSpec(items, SPACE)
        write_manifest(bundle, replace(manifest, files=files, catalogue=catalogue))
        begun, cpu_begun = time.perf_counter(), time.process_time()
        last = release == RELEASES - 1
        done = publish(bundle, repository, keys, PublishSettings(keep=RELEASES, patches=RELEASES - 1 if last else 0))
        seconds.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - cpu_begun)
    patches = [size for _, size in sorted(done.patches.items(), reverse=True)]  # newest base first
    return {
        "items": items,
        "trie_bytes": entry.bytes,
        "patch_bytes": patches,
        "patch_share": [round(size / entry.bytes, 4) for size in patches],
        "publish_s": round(seconds[-1], 2),
        "publish_cpu_s": round(cpu[-1], 2),
        "publish_without_patches_s": round(seconds[-2], 2),
        "peak_mb": peak_mb(),
    }


def apply_newest(folder: Path) -> dict[str, Any]:
    """Make the last catalogue out of the one before, as a device does (run in a process of its own)."""
    before = peak_mb()
    base, target = (folder / f"{release}.safetensors" for release in (RELEASES - 2, RELEASES - 1))
    patch = next((folder / "repo").rglob(f"*{TRIE_FILE}.from-{describe_file(base).sha256[:16]}*.zst"))
    begun, cpu = time.perf_counter(), time.process_time()
    made = apply_patch(base.read_bytes(), patch.read_bytes(), target.stat().st_size)
    sha256 = hashlib.sha256(made).hexdigest()
    (folder / "made").write_bytes(made)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    if sha256 != describe_file(target).sha256:
        raise SystemExit("the patch made another catalogue")
    return {"s": round(seconds, 3), "cpu_s": round(cpu, 3), "peak_mb": peak_mb(), "before_mb": before}


def measure(items: int, churn: float, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder / "bundle")
        write_catalogues(bundle, items, churn, seed)
        np.save(folder / "items.npy", items)
        row, applied = (_alone(step, name) for step in ("--publish", "--apply"))
        return {**row, "apply": applied}


def _alone(step: str, folder: str) -> dict[str, Any]:
    """Run a step in a process of its own."""
    ran = subprocess.run([sys.executable, __file__, step, folder], check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(ran.stdout)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[50_000, 1_000_000])
    parser.add_argument("--churn", type=float, default=0.01, help="share of the items replaced from release to release")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--publish", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--apply", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish or arguments.apply:
        print(json.dumps(apply_newest(arguments.apply) if arguments.apply else publish_all(arguments.publish)))
        return
    rows = [measure(items, arguments.churn, arguments.seed) for items in arguments.items]
    if arguments.json:
        print(json.dumps({"churn": arguments.churn, "seed": arguments.seed, "rows": rows}))
        return
    for row in rows:
        shares = ", ".join(f"{100 * share:.2f} %" for share in row["patch_share"])
        print(f"{row['items']:>9,} items, catalogue of {row['trie_bytes']:,} bytes; patches, newest first: {shares}")
        print(
            f"{'':>9} {row['publish_s']} s ({row['publish_cpu_s']} s of CPU) to publish with patches, "
            f"{row['publish_without_patches_s']} s without, {row['peak_mb']} MB at the peak"
        )
        applied = row["apply"]
        print(
            f"{'':>9} {applied['s']} s ({applied['cpu_s']} s of CPU) on the device to apply the newest patch, "
            f"{applied['peak_mb']} MB at the peak, {applied['before_mb']} before"
        )


if __name__ == "__main__":
    main()
