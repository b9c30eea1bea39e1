"""Debian packages: the lock file, where they come from, how they are unpacked.

A line of the lock is `NAME VERSION ARCHIVE FILENAME SHA256`, ARCHIVE being `debian` or `debian-security`. The host of an
archive is never written down: it is the one of the machine's own APT sources, or of CATAMARAN_DEBIAN_MIRROR and
CATAMARAN_DEBIAN_SECURITY_MIRROR.
"""

import functools
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .common import CACHE, LOCK, ROOT, BuildError, digest_file, environment, run, say

RELEASE = "bookworm"
# Sections that are made of another release.
RELEASES = {"node": "trixie"}
MIRRORS = {"debian": "CATAMARAN_DEBIAN_MIRROR", "debian-security": "CATAMARAN_DEBIAN_SECURITY_MIRROR"}


@dataclass(frozen=True, order=True)
class Deb:
    """One locked package."""

    name: str
    version: str
    archive: str
    filename: str
    sha256: str

    @property
    def path(self):
        """Where the cache keeps it."""
        return CACHE / "debs" / f"{self.sha256[:16]}_{Path(self.filename).name}"


def wanted():
    """packages.wanted as a map of section to names."""
    sections, names = {}, None
    for line in (ROOT / "packages.wanted").read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            names = sections.setdefault(line.strip("[]"), [])
        elif line:
            names.append(line)
    return sections


def locked(section):
    """The packages of one section of packages.lock."""
    debs, current = [], None
    if not LOCK.is_file():
        raise BuildError(f"{LOCK} is missing: make it with guest-images/update-lock")
    for line in LOCK.read_text().splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif line and not line.startswith("#") and current == section:
            debs.append(Deb(*line.split()))
    if not debs:
        raise BuildError(f"{LOCK} has no section [{section}]: make it with guest-images/update-lock")
    return debs


def pick(debs, prefix):
    """The one package whose name starts so (a kernel's name has its version in it)."""
    found = [deb for deb in debs if deb.name.startswith(prefix)]
    if len(found) != 1:
        raise BuildError(f"{LOCK}: wanted one package {prefix}*, found {[deb.name for deb in found]}")
    return found[0]


@functools.cache
def mirror(archive):
    """The base URL of an archive: from the environment, else from this machine's APT sources."""
    given = os.environ.get(MIRRORS[archive])
    if given:
        return given.rstrip("/")
    lines = subprocess.run(
        ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        env=environment(), stdout=subprocess.PIPE, check=False, text=True,
    ).stdout.splitlines()
    codename = ""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            codename = line.split("=")[1].strip('"')
    suites = {codename, RELEASE, "stable", "oldstable"}
    if archive == "debian-security":
        suites = {f"{suite}-security" for suite in suites}
    for line in lines:
        uri, _, release = line.rpartition(" ")
        if release in suites:
            return uri.rstrip("/")
    raise BuildError(
        f"no source of the {archive} archive in this machine's APT configuration: set {MIRRORS[archive]} to its base URL"
    )


def fetch(debs):
    """Makes sure that all these packages are in the cache, with the right digest."""
    missing = [deb for deb in debs if not deb.path.is_file()]
    if not missing:
        return
    folder = CACHE / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    say(f"downloading {len(missing)} packages")
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        words = []
        for deb in missing:
            words += [f"{mirror(deb.archive)}/{deb.filename}", f"{partial}/{deb.path.name}", f"SHA256:{deb.sha256}"]
        done = subprocess.run(
            ["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download-file", *words],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True,
        )
        absent = []
        for deb in missing:
            got = Path(partial) / deb.path.name
            if got.is_file() and digest_file(got) == deb.sha256:
                got.rename(deb.path)
            else:
                absent.append(deb)
        if absent:
            names = ", ".join(f"{deb.name}={deb.version}" for deb in absent)
            reason = "\n".join(line for line in done.stdout.splitlines() if line.startswith(("E:", "Err", "W:")))
            raise BuildError(
                f"{len(absent)} locked packages could not be had: {names}\n{reason}\n"
                "The mirror drops a version soon after a newer one is there. Take the newer ones with\n"
                "    guest-images/update-lock\n"
                "and commit packages.lock; or name a mirror which still has them (snapshot.debian.org keeps all) in\n"
                "CATAMARAN_DEBIAN_MIRROR and CATAMARAN_DEBIAN_SECURITY_MIRROR."
            )


def unpack(deb, folder):
    """Unpacks the files of a package below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    run("dpkg-deb", "-x", deb.path, folder)
    return folder
