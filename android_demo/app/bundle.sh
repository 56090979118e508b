#!/usr/bin/env bash
# Copies a bundle into the app: bash app/bundle.sh RUN_OR_BUNDLE (the --out folder of `pocketrec quickstart`, `train` or
# `export`).
set -euo pipefail

source=${1:?usage: bundle.sh RUN_OR_BUNDLE}
[ -f "$source/manifest.json" ] || source=$source/export/bundle
[ -f "$source/manifest.json" ] || { echo "$1 has no bundle: give a folder with manifest.json or with export/bundle" >&2; exit 2; }

target=$(cd "$(dirname "$0")" && pwd)/src/main/assets/bundle
rm -rf "$target"
mkdir -p "$target"
cp "$source"/* "$target"/
du -sh "$target"
