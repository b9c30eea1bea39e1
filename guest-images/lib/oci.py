"""OCI images without a container engine: layers as sorted tars, and image layouts which hold them."""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path

from .common import EPOCH, OUT

CREATED = "2024-01-01T00:00:00Z"


class Layer:
    """A file system layer: entries sorted by name, with the fixed time and numeric owners."""

    def __init__(self):
        self.entries = {}

    def _add(self, name, kind, mode, owner, data=b"", target=""):
        for parent in reversed(Path(name).parents):
            if str(parent) != "." and str(parent) not in self.entries:
                self._add(str(parent), tarfile.DIRTYPE, 0o755, 0)
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid, info.mtime, info.linkname = kind, mode, owner, owner, EPOCH, target
        info.size = len(data) if isinstance(data, bytes) else data.stat().st_size
        self.entries[name] = (info, data)

    def file(self, name, source, mode=0o644, owner=0):
        """Adds a file: bytes, or a path of the host."""
        self._add(name, tarfile.REGTYPE, mode, owner, source)

    def folder(self, name, mode=0o755, owner=0):
        """Adds a folder."""
        self._add(name, tarfile.DIRTYPE, mode, owner)

    def link(self, name, target):
        """Adds a symbolic link."""
        self._add(name, tarfile.SYMTYPE, 0o777, 0, target=target)

    def tree(self, source):
        """Adds all below a folder of the host."""
        for path in sorted(Path(source).rglob("*")):
            name = str(path.relative_to(source))
            if path.is_symlink():
                self.link(name, os.readlink(path))
            elif path.is_dir():
                self.folder(name)
            else:
                self.file(name, path, 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)

    def store(self, blobs):
        """Writes the layer as a gzipped tar; returns its descriptor and the digest of the plain tar."""
        temporary = blobs / ".layer"
        plain = _Hashed()
        packed = hashlib.sha256()
        with open(temporary, "wb") as file:
            with gzip.GzipFile(filename="", mode="wb", fileobj=_Tee(file, packed), mtime=0, compresslevel=6) as zipped:
                with tarfile.open(fileobj=_Tee(zipped, plain.digest), mode="w|", format=tarfile.USTAR_FORMAT) as tar:
                    for _, (info, data) in sorted(self.entries.items()):
                        if isinstance(data, bytes):
                            tar.addfile(info, io.BytesIO(data))
                        else:
                            with open(data, "rb") as source:
                                tar.addfile(info, source)
        digest = packed.hexdigest()
        temporary.rename(blobs / digest)
        descriptor = {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": f"sha256:{digest}",
            "size": (blobs / digest).stat().st_size,
        }
        return descriptor, plain.digest.hexdigest()


class _Hashed:
    def __init__(self):
        self.digest = hashlib.sha256()


class _Tee:
    """A writer that also feeds a digest."""

    def __init__(self, inner, digest):
        self.inner, self.digest = inner, digest

    def write(self, data):
        """Passes `data` on."""
        self.digest.update(data)
        self.inner.write(data)
        return len(data)

    def flush(self):
        """Passes the flush on."""
        self.inner.flush()


def _store_json(blobs, value, media_type):
    raw = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (blobs / digest).write_bytes(raw)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(raw)}


class Layout:
    """An OCI image layout whose images are named REGISTRY/NAME:dev."""

    def __init__(self, folder, registry):
        self.folder, self.registry = folder, registry

    @property
    def blobs(self):
        """Where the layout keeps layers and descriptions, by their digest."""
        return self.folder / "blobs/sha256"

    def reference(self, name):
        """The full name of an image."""
        return f"{self.registry}/{name}:dev"

    def _entries(self):
        file = self.folder / "index.json"
        return json.loads(file.read_text())["manifests"] if file.is_file() else []

    def _entry(self, name):
        named = (e for e in self._entries() if e["annotations"]["org.opencontainers.image.ref.name"] == self.reference(name))
        return next(named, None)

    def add_image(self, name, *layers, config=None, title="", by="guest-images/build"):
        """Puts an image into the layout as REGISTRY/NAME:dev, in place of an older one; returns its digest.

        `layers`, the lowest first: a `Layer`, or what `stored_layers` told of another image of this layout. `config`: the "config" object
        of the image (Entrypoint, Cmd, Env, …).
        """
        self.blobs.mkdir(parents=True, exist_ok=True)
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        stored = [layer.store(self.blobs) if isinstance(layer, Layer) else layer for layer in layers]
        image = {
            "created": CREATED,
            "architecture": "amd64",
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}" for _, diff_id in stored]},
            "history": [{"created": CREATED, "created_by": by, "comment": title} for _ in stored],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _store_json(self.blobs, image, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor for descriptor, _ in stored],
        }
        entry = _store_json(self.blobs, manifest, manifest["mediaType"])
        reference = self.reference(name)
        entry["platform"] = {"architecture": "amd64", "os": "linux"}
        entry["annotations"] = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
        others = [other for other in self._entries() if other["annotations"]["org.opencontainers.image.ref.name"] != reference]
        entries = sorted([*others, entry], key=lambda item: item["annotations"]["org.opencontainers.image.ref.name"])
        self._write_index(entries)
        self._collect(entries)
        return entry["digest"]

    def _write_index(self, entries):
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
        temporary = self.folder / ".index.json"
        temporary.write_text(json.dumps(index, sort_keys=True, indent=1) + "\n")
        temporary.rename(self.folder / "index.json")

    def _read(self, digest):
        return json.loads((self.blobs / digest.removeprefix("sha256:")).read_text())

    def _collect(self, entries):
        """Removes blobs that no image of the layout names."""
        used = set()
        for entry in entries:
            manifest = self._read(entry["digest"])
            used |= {descriptor["digest"].removeprefix("sha256:") for descriptor in [entry, manifest["config"], *manifest["layers"]]}
        for path in self.blobs.iterdir():
            if path.name not in used:
                path.unlink()

    def holds(self, name):
        """Whether the layout has this image."""
        return self._entry(name) is not None

    def stored_layers(self, name):
        """The layers of an image that is there, the lowest first: descriptor, and digest of the plain tar."""
        manifest = self._read(self._entry(name)["digest"])
        plain = self._read(manifest["config"]["digest"])["rootfs"]["diff_ids"]
        return [(descriptor, diff_id.removeprefix("sha256:")) for descriptor, diff_id in zip(manifest["layers"], plain, strict=True)]

    def archive(self, name, path):
        """Writes one image of the layout as an OCI archive (a tar), as `ctr image import` and `skopeo` take it."""
        entry = self._entry(name)
        manifest = self._read(entry["digest"])
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
        names = sorted(d["digest"].removeprefix("sha256:") for d in [entry, manifest["config"], *manifest["layers"]])
        files = {"index.json": json.dumps(index, sort_keys=True).encode(), "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        layer = Layer()
        for file, data in files.items():
            layer.file(file, data)
        for digest in names:
            layer.file(f"blobs/sha256/{digest}", self.blobs / digest)
        with tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for _, (info, data) in sorted(layer.entries.items()):
                if isinstance(data, bytes):
                    tar.addfile(info, io.BytesIO(data))
                else:
                    with open(data, "rb") as source:
                        tar.addfile(info, source)


GUESTS = Layout(OUT / "oci", "catamaran.local")
