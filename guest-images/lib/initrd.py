"""The initramfs of the minimal guest: an archive in "newc" format, written here so that it is the same every time."""

import re
import stat
from pathlib import Path

from .common import EPOCH, BuildError, run


class Cpio:
    """Collects entries and writes them sorted by name, owned by root, with the fixed time."""

    def __init__(self):
        self.entries = {}

    def folder(self, name, mode=0o755):
        """Adds a folder and those above it."""
        parts = Path(name).parts
        for depth in range(1, len(parts)):
            self.entries.setdefault("/".join(parts[:depth]), (stat.S_IFDIR | 0o755, b"", (0, 0)))
        self.entries[name] = (stat.S_IFDIR | mode, b"", (0, 0))

    def add(self, name, mode, data, device=(0, 0)):
        """Adds an entry of any kind; `mode` has the kind in it."""
        if "/" in name:
            self.folder(str(Path(name).parent)) if str(Path(name).parent) not in self.entries else None
        self.entries[name] = (mode, data, device)

    def file(self, name, source, mode=0o644):
        """Adds a file from the host or from bytes."""
        self.add(name, stat.S_IFREG | mode, source if isinstance(source, bytes) else Path(source).read_bytes())

    def link(self, name, target):
        """Adds a symbolic link."""
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def tree(self, source):
        """Adds all files below a folder of the host; what is executable there is so here."""
        for path in sorted(Path(source).rglob("*")):
            name = str(path.relative_to(source))
            if path.is_symlink():
                self.link(name, str(path.readlink()))
            elif path.is_dir():
                self.folder(name)
            else:
                self.file(name, path, 0o755 if path.stat().st_mode & 0o100 else 0o644)

    def write(self, path):
        """Writes the archive, compressed with zstd (which both Debian kernels read, and fast)."""
        out = bytearray()
        entries = [*sorted(self.entries.items()), ("TRAILER!!!", (0, b"", (0, 0)))]
        for number, (name, (mode, data, device)) in enumerate(entries, 1):
            raw = name.encode() + b"\0"
            links = 2 if stat.S_ISDIR(mode) else 1
            fields = (number, mode, 0, 0, links, EPOCH, len(data), 0, 0, *device, len(raw), 0)
            out += b"070701" + b"".join(b"%08X" % field for field in fields) + raw
            out += b"\0" * (-len(out) % 4) + data
            out += b"\0" * (-len(out) % 4)
        plain = Path(path).with_suffix(".cpio")
        plain.write_bytes(out)
        run("zstd", "-q", "-f", "-19", "--single-thread", "--no-check", "-o", path, plain)
        plain.unlink()


def module_order(tree, names):
    """The files of kernel modules and of what they depend on, in the order in which they can be loaded.

    A name that is neither a module nor built into this kernel is a mistake and refused.
    """
    folder = next((tree / "lib/modules").iterdir())
    files = {path.name.removesuffix(".ko").replace("-", "_"): path for path in folder.rglob("*.ko")}
    builtin = {
        Path(line).name.removesuffix(".ko").replace("-", "_") for line in (folder / "modules.builtin").read_text().split()
    }
    order = []

    def visit(name):
        name = name.replace("-", "_")
        if name in builtin:
            return
        if name not in files:
            raise BuildError(f"kernel {folder.name} has no module {name}")
        if files[name] in order:
            return
        data = files[name].read_bytes()
        for found in re.findall(rb"\0(?:depends|softdep)=([^\0]*)", b"\0" + data):
            text = found.decode()
            if text.startswith(("pre:", "post:")):
                text = ",".join(n for n in text.split("post:")[0].removeprefix("pre:").split() if n.replace("-", "_") in files)
            for need in filter(None, text.split(",")):
                visit(need)
        order.append(files[name])

    for name in names:
        visit(name)
    return order
