"""Assemble, sign and check the demo's APK (flavour offline) without an Android SDK.

    python apk/build.py [--bundle DIR] [--json]

The steps are those of the Android Gradle plugin: aapt2 links manifest, resources and assets, R8 shrinks the classes
that Maven compiled, native libraries are stored aligned, and apksigner signs with a new, temporary key. Use the APK to
try the app and to measure it; build releases with Gradle. Needs Java 17, Maven, and on the first run the network.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import archive
import report
import tools
from tools import Tools, run

DEMO = Path(__file__).absolute().parents[1]
APP = DEMO / "app"
ASSETS = APP / "src/main/assets/bundle"
CACHE = Path.home() / ".cache/pocketrec-apk"
PACKAGE, VERSION, MIN_SDK, TARGET_SDK, ABI = "dev.pocketrec.demo", "0.1.0", 24, 36, "arm64-v8a"
ANDROID = "http://schemas.android.com/apk/res/android"
STOREPASS = "throw-away"


def main() -> None:
    """Build the APK and report its content."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ASSETS, help="a bundle; default: the one that bundle.sh copied")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for the tools")
    parser.add_argument("--aar", type=Path, help="an onnxruntime-android archive, used in place of a download")
    parser.add_argument("--out", type=Path, default=APP / "target/apk")
    parser.add_argument("--resources-only", action="store_true", help="stop after aapt2, for tests of the activity")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    args = parser.parse_args()
    if not (args.bundle / "manifest.json").exists():
        raise SystemExit(f"{args.bundle} has no bundle; run: bash app/bundle.sh RUN_OR_BUNDLE")

    kit = tools.fetch(args.cache, args.aar)
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    linked = link(kit, args.bundle, args.out)
    if args.resources_only:
        return
    classes = compile_classes(args.out)
    dex = shrink(kit, classes, args.out)
    unsigned = assemble(kit, linked, dex, args.out)
    apk = sign(kit, unsigned, args.out / "pocketrec-demo.apk")
    facts = report.facts(kit, apk, verify(kit, apk))
    sys.stdout.write((json.dumps(facts, indent=2) if args.json else report.table(facts)) + "\n")


def link(kit: Tools, bundle: Path, out: Path) -> Path:
    """Link manifest, resources and assets; write R.java."""
    ElementTree.register_namespace("android", ANDROID)
    manifest = ElementTree.parse(APP / "src/main/AndroidManifest.xml")
    manifest.getroot().set("package", PACKAGE)
    manifest.write(out / "AndroidManifest.xml")
    assets = out / "assets/bundle"
    shutil.copytree(bundle, assets)
    run(kit.aapt2, "compile", "--dir", APP / "src/main/res", "-o", out / "compiled.zip")
    linked = out / "linked.apk"
    run(
        kit.aapt2, "link", "-o", linked, "-I", kit.platform, "--manifest", out / "AndroidManifest.xml",
        "--min-sdk-version", str(MIN_SDK), "--target-sdk-version", str(TARGET_SDK),
        "--version-code", "1", "--version-name", VERSION,
        "--java", out / "r", "--non-final-ids", "--proguard", out / "keep.pro", "-A", out / "assets",
        out / "compiled.zip",
    )  # fmt: skip
    return linked


def compile_classes(out: Path) -> list[Path]:
    """Compile the app with aapt2's R class; return its jar and those of its dependencies, without ONNX Runtime."""
    jars = out / "jars"
    run(
        "mvn", "-B", "-q", "-f", DEMO / "pom.xml", "-pl", "app", "-am", "-Dmaven.test.skip=true", "package",
        f"{tools.DEPENDENCY}:copy-dependencies", "-DincludeScope=runtime",
        f"-DoutputDirectory={jars}",
    )  # fmt: skip
    classes = out / "classes"
    shutil.copytree(APP / "target/offline/classes", classes, ignore=shutil.ignore_patterns("R.class", "R$*.class"))
    run("javac", "--release", "17", "-d", classes, *(out / "r").rglob("*.java"))
    return [zipped(classes, out / "app.jar"), *sorted(jars.glob("*.jar"))]


def zipped(folder: Path, target: Path) -> Path:
    """Write a folder as a jar."""
    with zipfile.ZipFile(target, "w") as jar:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            jar.write(file, file.relative_to(folder))
    return target


def shrink(kit: Tools, classes: list[Path], out: Path) -> Path:
    """Shrink the classes with R8; return one dex file."""
    native_api = out / "onnxruntime.jar"
    with zipfile.ZipFile(kit.onnxruntime) as files:
        native_api.write_bytes(files.read("classes.jar"))
    run(
        "java", "-cp", kit.r8, "com.android.tools.r8.R8", "--release", "--min-api", str(MIN_SDK),
        "--lib", kit.platform, "--lib", java_home(),
        "--pg-conf", APP / "proguard-rules.pro", "--pg-conf", out / "keep.pro",
        "--output", out, *classes, native_api,
    )  # fmt: skip
    return out / "classes.dex"


def java_home() -> Path:
    """The JDK, from which R8 reads java.*; the platform's jar lacks these classes."""
    return Path(shutil.which("java") or "java").resolve().parents[1]


def assemble(kit: Tools, linked: Path, dex: Path, out: Path) -> Path:
    """Put all parts into one archive."""
    files = {"classes.dex": dex.read_bytes()}
    with zipfile.ZipFile(linked) as parts:
        files |= {name: parts.read(name) for name in parts.namelist()}
    with zipfile.ZipFile(kit.onnxruntime) as parts:
        names = sorted(name for name in parts.namelist() if name.startswith(f"jni/{ABI}/") and name.endswith(".so"))
        files |= {f"lib/{name.removeprefix('jni/')}": parts.read(name) for name in names}
    unsigned = out / "unsigned.apk"
    archive.write(unsigned, files)
    return unsigned


def sign(kit: Tools, unsigned: Path, apk: Path) -> Path:
    """Sign with a new, temporary key."""
    store = apk.with_name("throw-away.p12")
    run(
        "keytool", "-genkeypair", "-keystore", store, "-storetype", "PKCS12", "-storepass", STOREPASS, "-alias", "demo",
        "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "365", "-dname", "CN=pocketrec demo",
    )  # fmt: skip
    run(
        "java", "-jar", kit.apksigner, "sign", "--ks", store, "--ks-pass", f"pass:{STOREPASS}",
        "--min-sdk-version", str(MIN_SDK), "--out", apk, unsigned,
    )  # fmt: skip
    return apk


def verify(kit: Tools, apk: Path) -> list[str]:
    """The signature schemes that verify.

    :raises subprocess.CalledProcessError: if the signature is invalid.
    :raises SystemExit: if a library or the resource table is not aligned, so that the system cannot map it.
    """
    output = run("java", "-jar", kit.apksigner, "verify", "--verbose", "--min-sdk-version", str(MIN_SDK), apk)
    if wrong := archive.misaligned(apk):
        raise SystemExit(f"{apk} has files that are not aligned: {', '.join(wrong)}")
    return re.findall(r"Verified using (v\S+) scheme .*: true", output)


if __name__ == "__main__":
    main()
