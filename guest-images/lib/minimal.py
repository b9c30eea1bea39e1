"""The minimal guest, with either of Debian's kernels, and the small container images.

`minimal` has the cloud kernel (virtio only, fastest boot); `minimal-pc` the general one (SATA, USB, e1000, i6300esb too).
Everything else about the two is the same.
"""

import shutil
from pathlib import Path

from . import debs, oci
from .common import BuildError, OUT, ROOT, digest_tree, flatten_times, fresh, is_current, replace, run, say, set_current, stamp_of, tool_versions
from .disk import MIB, Loaders, boot_disk, to_qcow2
from .initrd import Cpio, module_order

COMMAND_LINE = "console=tty1 console=ttyS0,115200 quiet"
# Loaded before the seed is read and the network comes up, and after.
EARLY = ["virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "sd_mod", "sr_mod", "isofs", "vfat", "nls_ascii", "nls_cp437"]
LATE = ["efivarfs", "button", "evdev", "virtio-rng", "virtio_balloon", "virtio_console", "virtio_input", "pvpanic-pci", "pvpanic-mmio", "qemu_fw_cfg", "ext4",
        "virtiofs", "nvme"]
KERNELS = {
    "minimal": ("linux-image-6.1", "-cloud-amd64", [], []),
    "minimal-pc": (
        "linux-image-6.1", "-amd64", ["ahci", "ata_piix", "usb-storage", "xhci-pci", "ehci-pci", "uhci-hcd", "e1000", "e1000e", "8139cp"],
        ["i6300esb", "iTCO_wdt", "usbhid", "hid-generic", "psmouse", "9p", "9pnet_virtio"],
    ),
}
LIBRARIES = [
    "lib64/ld-linux-x86-64.so.2", "libc.so.6", "libcrypt.so.1", "libgmp.so.10", "libtomcrypt.so.1", "libtommath.so.1", "libz.so.1",
]
TOOL_FLAGS = ["-static", "-Os", "-Wall", "-Wextra", "-s", "-Wl,--build-id=none"]
PAUSE_FLAGS = [
    "-static", "-nostdlib", "-Os", "-Wall", "-Wextra", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-fno-pie", "-no-pie",
    "-Wl,--build-id=none", "-s",
]
DISK_SIZE = 40 * MIB


def kernel_package(packages, name):
    """The locked kernel of a guest: the cloud one, or the one that is not."""
    _, suffix, _, _ = KERNELS[name]
    found = [
        deb for deb in packages
        if deb.name.startswith("linux-image-") and deb.name.endswith(suffix) and ("-cloud-" in deb.name) == ("-cloud-" in suffix)
    ]
    if len(found) != 1:
        raise BuildError(f"packages.lock has {len(found)} kernels for {name}, 1 is wanted")
    return found[0]


def unpacked(packages, work, *prefixes):
    """The files of some packages in one folder."""
    folder = work / "files"
    for prefix in prefixes:
        debs.unpack(debs.pick(packages, prefix), folder)
    return folder


def busybox_links(busybox):
    """The names of all applets."""
    names = run(busybox, "--list").decode().split()
    return [name for name in names if name != "busybox" and "/" not in name]


def libraries(cpio, files, names):
    """Adds shared libraries, wherever their packages have them."""
    for library in names:
        source = files / library
        for folder in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
            if not source.is_file():
                source = files / folder / library
        cpio.file(library if "/" in library else f"lib/{library}", source.resolve(), 0o755)


def write_initrd(name, files, kernel_tree, tool, path):
    """The whole user space of the guest."""
    cpio = Cpio()
    for folder in ("dev", "proc", "sys", "run", "tmp", "root", "mnt", "var", "lib", "lib64", "usr/lib", "usr/sbin", "usr/bin", "sbin"):
        cpio.folder(folder)
    cpio.folder("tmp", 0o1777)
    cpio.folder("root", 0o700)
    cpio.tree(ROOT / "minimal/rootfs")
    cpio.file("bin/busybox", files / "bin/busybox", 0o755)
    for applet in busybox_links(files / "bin/busybox"):
        target = "/bin/busybox"
        cpio.link(f"{'sbin' if applet in ('init', 'reboot', 'poweroff', 'halt') else 'bin'}/{applet}", target)
    cpio.file("usr/bin/catamaran-guest-tool", tool, 0o755)
    cpio.file("usr/sbin/dropbear", files / "usr/sbin/dropbear", 0o755)
    libraries(cpio, files, LIBRARIES)
    _, _, early, late = KERNELS[name]
    done = []
    for stage, wanted in (("early", EARLY + early), ("late", LATE + late)):
        order = [module for module in module_order(kernel_tree, wanted) if module not in done]
        for module in order:
            cpio.file(f"lib/modules/{module.name}", module)
        cpio.file(f"lib/modules/{stage}.list", "".join(f"{module.stem}\n" for module in order).encode())
        done += order
    # The kernel opens it before /dev exists; without it the first lines of /init are lost.
    cpio.add("dev/console", 0o020600, b"", (5, 1))
    cpio.write(path)


def build_guest(name, force=False):
    """Builds out/NAME: vmlinuz, initrd, NAME.raw, NAME.qcow2, and the container images of them."""
    packages = debs.locked("minimal")
    stamp = stamp_of(
        name, digest_tree(ROOT / "minimal", ROOT / "lib"), repr(packages), tool_versions("gcc", "qemu-img", "zstd", "mformat")
    )
    out = OUT / name
    kernel_image = "kernel" if name == "minimal" else f"kernel{name.removeprefix('minimal')}"
    if not force and is_current(out, stamp) and oci.GUESTS.holds(name) and oci.GUESTS.holds(kernel_image):
        say(f"{name}: nothing changed")
        return
    debs.fetch(packages)
    done, out = out, fresh(OUT / f".new-{out.name}")
    work = fresh(OUT / f".work-{name}")
    files = unpacked(
        packages, work, "busybox-static", "dropbear-bin", "libc6", "libcrypt1", "libgmp10", "libtomcrypt1", "libtommath1", "zlib1g",
        "shim-signed", "shim-helpers-amd64-signed", "grub-efi-amd64-signed", "syslinux",
    )
    kernel_tree = debs.unpack(kernel_package(packages, name), work / "kernel")
    kernel, initrd = out / "vmlinuz", out / "initrd"
    shutil.copyfile(next((kernel_tree / "boot").glob("vmlinuz-*")), kernel)
    tool = work / "guest-tool"
    run("gcc", *TOOL_FLAGS, "-o", tool, ROOT / "minimal/guest-tool.c")
    write_initrd(name, files, kernel_tree, tool, initrd)

    raw, qcow2 = out / f"{name}.raw", out / f"{name}.qcow2"
    disk_id = 0xCA7A0001 if name == "minimal" else 0xCA7A0002
    disk_work = fresh(work / "disk")
    boot_disk(
        raw, disk_work, Loaders(files), kernel, initrd, COMMAND_LINE, disk_id=disk_id, boot_size=DISK_SIZE - MIB,
    )
    to_qcow2(raw, qcow2)
    container_disk(name, qcow2, f"minimal guest ({name})")
    layer = oci.Layer()
    layer.file("boot/vmlinuz", kernel, 0o444, 107)
    layer.file("boot/initrd", initrd, 0o444, 107)
    oci.GUESTS.add_image(kernel_image, layer, title=f"kernel and initrd of {name}, for kernelBoot")
    flatten_times(out)
    shutil.rmtree(work)
    set_current(out, stamp)
    replace(done, out)
    say(f"{name}: kernel {(done / 'vmlinuz').stat().st_size >> 10} KiB, initrd {(done / 'initrd').stat().st_size >> 10} KiB, disk {DISK_SIZE >> 20} MiB")


def container_disk(name, qcow2, title):
    """A disk as containerDisk: one file below /disk, readable by uid 107 (the peer's convention)."""
    layer = oci.Layer()
    layer.folder("disk", 0o555, 107)
    layer.file(f"disk/{qcow2.name}", qcow2, 0o440, 107)
    oci.GUESTS.add_image(name, layer, title=f"containerDisk: {title}")


def build_containers(force=False):
    """Builds the pause image and the tiny one (busybox, a web page); both also as OCI archives."""
    packages = [deb for deb in debs.locked("minimal") if deb.name == "busybox-static"]
    stamp = stamp_of(digest_tree(ROOT / "pause", ROOT / "tiny", ROOT / "lib"), repr(packages), tool_versions("gcc"))
    out = OUT / "containers"
    if not force and is_current(out, stamp) and oci.GUESTS.holds("pause") and oci.GUESTS.holds("tiny"):
        say("containers: nothing changed")
        return
    debs.fetch(packages)
    done, out = out, fresh(OUT / f".new-{out.name}")
    work = fresh(OUT / ".work-containers")
    run("gcc", *PAUSE_FLAGS, "-o", out / "pause", ROOT / "pause/pause.c")
    layer = oci.Layer()
    layer.file("pause", out / "pause", 0o755)
    oci.GUESTS.add_image("pause", layer, config={"Entrypoint": ["/pause"], "User": "65535:65535"}, title="holds a pod's namespaces")

    files = unpacked(packages, work, "busybox-static")
    layer = oci.Layer()
    for folder in ("dev", "etc", "proc", "root", "run", "sys", "usr/bin", "var/log"):
        layer.folder(folder)
    layer.folder("tmp", 0o1777)
    layer.file("bin/busybox", files / "bin/busybox", 0o755)
    for applet in busybox_links(files / "bin/busybox"):
        layer.link(f"bin/{applet}", "busybox")
    layer.tree(ROOT / "tiny/rootfs")
    config = {
        "Cmd": ["httpd", "-f", "-v", "-p", "80", "-h", "/www"],
        "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/",
        "ExposedPorts": {"80/tcp": {}},
    }
    oci.GUESTS.add_image("tiny", layer, config=config, title="busybox with a web page")
    for name in ("pause", "tiny"):
        oci.GUESTS.archive(name, out / f"{name}.oci.tar")
    flatten_times(out)
    shutil.rmtree(work)
    set_current(out, stamp)
    replace(done, out)
    say(f"containers: pause {(done / 'pause').stat().st_size} bytes, tiny {(done / 'tiny.oci.tar').stat().st_size >> 10} KiB")
