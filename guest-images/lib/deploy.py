"""The deploy ISO: Debian's general kernel and the deploy agent as its only process, bootable from a CD by BIOS and UEFI.

The initramfs holds everything, so nothing is read from the CD once the kernel runs. It comes in two parts: a small one of a fixed size and
without compression (as updates of microcode are), which is empty here, and behind it the one that is built here. The controller lays a host's parameters over
it as it sends the ISO (guest-images/deploy-agent/wire, slot.rs): nothing is built for a host.
"""

import os
import shutil
import stat
from pathlib import Path

from . import debs
from .cd import Cd, write_cd
from .common import OUT, ROOT, BuildError, digest_file, digest_tree, environment, flatten_times, fresh, is_current, replace, run, say, set_current, stamp_of, tool_versions
from .initrd import Cpio, module_order
from .minimal import COMMAND_LINE as GUEST_COMMAND_LINE
from .minimal import build_guest, kernel_package, libraries, unpacked

COMMAND_LINE = "console=tty1 console=ttyS0,115200 panic=30 quiet loglevel=4"
TARGET = "x86_64-unknown-linux-gnu"
PROGRAM = "catamaran-deploy-agent"
# Folders of the kernel with the drivers of everything a server's disks and network cards may be on.
DRIVERS = [
    "drivers/ata", "drivers/nvme/host", "drivers/scsi", "drivers/message/fusion", "drivers/virtio", "drivers/usb/host", "drivers/usb/storage",
    "drivers/net/ethernet", "drivers/hv",
]
MODULES = ["virtio_blk", "virtio_net", "virtio_scsi", "vmxnet3", "8021q", "bonding", "sd_mod", "sr_mod", "crc32c_generic"]
# They make devices out of nothing, or are for tests.
UNWANTED = ["scsi_debug", "pata_legacy", "pata_isapnp"]
APPLETS = ["blockdev", "ip", "cat", "modprobe", "sh", "udhcpc"]
TOOLS = ["sbin/wipefs", "sbin/sfdisk"]
LIBRARIES = [
    "lib64/ld-linux-x86-64.so.2", "libc.so.6", "libblkid.so.1", "libfdisk.so.1", "libreadline.so.8", "libsmartcols.so.1", "libtinfo.so.6",
    "libuuid.so.1",
]
# As in slot.rs.
SLOT_SIZE = 64 << 10
SLOT_NAME = "catamaran-deploy.json"


def agent():
    """The agent, linked statically; cargo knows whether it has to be built."""
    top = ROOT.parent
    cargo_home = os.environ.get("CARGO_HOME", Path.home() / ".cargo")
    env = environment()
    # No path of this machine gets into the program.
    env["RUSTFLAGS"] = f"-C target-feature=+crt-static --remap-path-prefix={top}=/catamaran --remap-path-prefix={cargo_home}=/cargo"
    manifest = top / "Cargo.toml"
    run("cargo", "build", "--release", "--locked", "--manifest-path", manifest, "--target", TARGET, "--package", PROGRAM, env=env, cwd=top)
    target = Path(os.environ.get("CARGO_TARGET_DIR", top / "target"))
    return target / TARGET / "release" / PROGRAM


def driver_names(kernel_tree):
    """The names of all modules below the folders of drivers."""
    folder = next((kernel_tree / "lib/modules").iterdir()) / "kernel"
    names = [path.name.removesuffix(".ko") for part in DRIVERS for path in sorted((folder / part).rglob("*.ko"))]
    if not names:
        raise BuildError(f"kernel {folder.parent.name} has no drivers below {DRIVERS[0]}")
    return [name for name in names if name not in UNWANTED]


def modules(kernel_tree, work):
    """A tree of the drivers and what they depend on, with depmod's tables."""
    source = next((kernel_tree / "lib/modules").iterdir())
    base = fresh(work / "modules")
    target = base / "lib/modules" / source.name
    for path in module_order(kernel_tree, MODULES + driver_names(kernel_tree)):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(source / name, target / name)
    run("depmod", "-b", base, source.name)
    for path in target.glob("modules.*"):
        # busybox reads texts.
        if path.name not in ("modules.alias", "modules.builtin", "modules.dep", "modules.softdep", "modules.symbols"):
            path.unlink()
    return base


def write_initrd(program, files, module_tree, path):
    """The whole system: the agent, the programs that it calls, drivers."""
    cpio = Cpio()
    for folder in ("dev", "proc", "sys", "run", "tmp", "etc", "lib", "lib64", "bin", "sbin"):
        cpio.folder(folder)
    cpio.tree(ROOT / "deploy-agent/rootfs")
    cpio.file("init", program, 0o755)
    cpio.file("bin/busybox", files / "bin/busybox", 0o755)
    for applet in APPLETS:
        cpio.link(f"bin/{applet}", "busybox")
    for tool in TOOLS:
        cpio.file(tool, files / tool, 0o755)
    libraries(cpio, files, LIBRARIES)
    cpio.tree(module_tree)
    # The kernel opens it before /dev exists; without it the first lines are lost.
    cpio.add("dev/console", 0o020600, b"", (5, 1))
    cpio.write(path)


def empty_slot():
    """An archive of the slot's size whose one file has no parameters, only spaces."""
    def header(name, mode, size):
        raw = name.encode() + b"\0"
        fields = (1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        return head + b"\0" * (-len(head) % 4)

    trailer = header("TRAILER!!!", 0, 0)
    size = SLOT_SIZE - len(header(SLOT_NAME, 0, 0)) - len(trailer)
    return header(SLOT_NAME, stat.S_IFREG | 0o600, size) + b" " * size + trailer


def write_iso(files, kernel, initrd, work, iso):
    """The slot comes before what is built here."""
    slot = work / "slot"
    slot.write_bytes(empty_slot())
    cd = Cd("CATAMARAN_DEPLOY", "catamaran/deploy", "the deploy ISO of Catamaran", COMMAND_LINE, {"host": slot, "initrd": initrd})
    write_cd(cd, files, kernel, work, iso)


def build_deploy_iso(force=False):
    """Builds out/deploy-iso/deploy.iso."""
    packages = debs.locked("deploy")
    program = agent()
    stamp = stamp_of(
        digest_file(program), digest_tree(ROOT / "deploy-agent/rootfs", ROOT / "lib"), repr(packages), tool_versions("zstd", "mformat", "xorrisofs", "depmod")
    )
    out = OUT / "deploy-iso"
    if not force and is_current(out, stamp):
        say("deploy-iso: nothing changed")
        return
    debs.fetch(packages)
    done, out = out, fresh(OUT / ".new-deploy-iso")
    work = fresh(OUT / ".work-deploy-iso")
    others = [deb.name for deb in packages if not deb.name.startswith("linux-image-")]
    files = unpacked(packages, work, *others)
    kernel_tree = debs.unpack(kernel_package(packages, "minimal-pc"), work / "kernel")
    kernel, initrd = next((kernel_tree / "boot").glob("vmlinuz-*")), work / "initrd"
    write_initrd(program, files, modules(kernel_tree, work), initrd)
    iso = out / "deploy.iso"
    write_iso(files, kernel, initrd, work, iso)
    flatten_times(out)
    say(f"deploy-iso: agent {program.stat().st_size >> 10} KiB, initrd {initrd.stat().st_size >> 10} KiB, ISO {iso.stat().st_size >> 10} KiB")
    shutil.rmtree(work)
    set_current(out, stamp)
    replace(done, out)


def build_live_iso(force=False):
    """Builds out/live-iso/live.iso: the minimal guest on a CD."""
    build_guest("minimal-pc", force)
    guest = OUT / "minimal-pc"
    packages = [deb for deb in debs.locked("deploy") if not deb.name.startswith("linux-image-")]
    stamp = stamp_of(digest_tree(guest / "vmlinuz", guest / "initrd", ROOT / "lib"), repr(packages), tool_versions("mformat", "xorrisofs"))
    out = OUT / "live-iso"
    if not force and is_current(out, stamp):
        say("live-iso: nothing changed")
        return
    debs.fetch(packages)
    done, out = out, fresh(OUT / ".new-live-iso")
    work = fresh(OUT / ".work-live-iso")
    files = unpacked(packages, work, *[deb.name for deb in packages])
    cd = Cd("CATAMARAN_LIVE", "catamaran/live", "the minimal guest of Catamaran", GUEST_COMMAND_LINE, {"initrd": guest / "initrd"})
    write_cd(cd, files, guest / "vmlinuz", work, out / "live.iso")
    flatten_times(out)
    shutil.rmtree(work)
    set_current(out, stamp)
    replace(done, out)
