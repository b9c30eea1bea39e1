"""What all steps of the builder share: paths, the fixed time, running commands, stamps.

A *stamp* is the digest of everything a result depends on (sources, lock, versions of the tools). A step whose stamp
stands beside its result has nothing to do.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "packages.lock"
OUT = Path(os.environ.get("CATAMARAN_GUEST_OUT", ROOT / "out"))
CACHE = Path(os.environ.get("CATAMARAN_GUEST_CACHE", ROOT / "cache"))

# Every time stamp in an image: 2024-01-01 00:00:00 UTC. No image tells when it was built.
EPOCH = 1704067200


class BuildError(Exception):
    """A problem the user can act on; printed without a traceback."""


BEGIN = time.monotonic()


def say(text):
    """One line of progress, with the seconds since the start."""
    print(f"guest-images: {time.monotonic() - BEGIN:6.1f} s: {text}", file=sys.stderr, flush=True)


def environment():
    """The environment of every command: no locale, no time zone, the fixed time."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("LC_")}
    env.update(LANG="C.UTF-8", TZ="UTC", SOURCE_DATE_EPOCH=str(EPOCH), MTOOLS_SKIP_CHECK="1")
    return env


def run(*command, **options):
    """Runs a command; its output is shown only when it fails."""
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise BuildError(f"{words[0]} is not installed: run integration/setup/packages.sh test")
    done = subprocess.run(
        words, env=options.pop("env", environment()), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options
    )
    if done.returncode != 0:
        shown = done.stdout.decode(errors="replace").strip()
        raise BuildError(f"{' '.join(words)} ended with {done.returncode}:\n{shown}")
    return done.stdout


def digest_file(path):
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_tree(*paths):
    """The sha256 over names, modes and contents of files and folders, in hex."""
    total = hashlib.sha256()
    for top in paths:
        top = Path(top)
        files = [top] if not top.is_dir() else sorted(p for p in top.rglob("*") if "__pycache__" not in p.parts)
        for path in files:
            executable = path.lstat().st_mode & 0o111
            total.update(f"{path.relative_to(top.parent)} {bool(executable)}\0".encode())
            if path.is_symlink():
                total.update(os.readlink(path).encode())
            elif path.is_file():
                total.update(digest_file(path).encode())
    return total.hexdigest()


def stamp_of(*parts):
    """One digest of several strings."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def tool_versions(*tools):
    """The versions of build tools which shape the bytes of a result."""
    answers = []
    for tool in tools:
        flag = {"mke2fs": "-V", "mformat": "--version"}.get(tool, "--version")
        answers.append(run(tool, flag).decode(errors="replace").splitlines()[0])
    return "\n".join(answers)


def is_current(folder, stamp):
    """Whether `folder` holds the result of this stamp."""
    file = folder / ".stamp"
    return file.is_file() and file.read_text() == stamp


def set_current(folder, stamp):
    """Notes that `folder` is complete."""
    (folder / ".stamp").write_text(stamp)


def fresh(folder):
    """An empty folder."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def replace(folder, new):
    """Puts a finished folder in the place of the old one, which stays usable until then."""
    if folder.exists():
        shutil.rmtree(folder)
    new.rename(folder)


def flatten_times(top):
    """Gives every file below `top` the fixed time."""
    for path in [top, *top.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
