"""Boot disks without root and without mounts: one MBR partition with FAT, syslinux for BIOS, shim and grub for UEFI.

shim (signed by Microsoft's key) starts grub (signed by Debian's), grub starts the kernel (signed by Debian's): the same
disk boots with secure boot on and off.
"""

import os
import struct
from pathlib import Path

from .common import EPOCH, run

MIB = 1 << 20
PARTITION_START = MIB


class Loaders:
    """The boot programs, unpacked from their locked packages."""

    def __init__(self, folder):
        self.syslinux = folder / "usr/bin/syslinux"
        self.mbr = folder / "usr/lib/SYSLINUX/mbr.bin"
        self.shim = folder / "usr/lib/shim/shimx64.efi.signed"
        self.mok_manager = folder / "usr/lib/shim/mmx64.efi.signed"
        self.grub = folder / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"


def syslinux_config(command_line):
    """Starts the kernel at once, without a menu."""
    return f"DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n  LINUX /vmlinuz\n  INITRD /initrd\n  APPEND {command_line}\n"


def grub_config(command_line):
    """The same for grub; its root is the partition it was started from."""
    return f"set timeout=0\nterminal_output console\nset gfxpayload=text\nlinux /vmlinuz {command_line}\ninitrd /initrd\nboot\n"


def write_fat(image, offset, size, label, volume_id, files):
    """Makes a FAT file system inside `image` and copies `files` (name on it → path on the host) to it."""
    at = f"{image}@@{offset}"
    run(
        "mformat", "-i", at, "-v", label, "-N", f"{volume_id:08x}", "-T", size // 512, "-h", 255, "-s", 63, "-H", offset // 512,
        "-c", 4, "::",
    )
    folders = sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) not in ("/", ".")})
    for folder in folders:
        run("mmd", "-i", at, f"::{folder}")
    for name, source in files.items():
        run("mcopy", "-m", "-i", at, source, f"::{name}")


def write_mbr(image, boot_code, disk_id, partitions):
    """Writes the boot record. `partitions`: (type, start in bytes, size in bytes); the first one is active."""
    table = b""
    for number, (kind, start, size) in enumerate(partitions):
        # CHS values say "use LBA".
        table += struct.pack("<B3sB3sII", 0x80 if number == 0 else 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start // 512, size // 512)
    record = boot_code[:440].ljust(440, b"\0") + struct.pack("<IH", disk_id, 0) + table.ljust(64, b"\0") + b"\x55\xaa"
    with open(image, "r+b") as file:
        file.write(record)


def boot_disk(image, work, loaders, kernel, initrd, command_line, *, disk_id, boot_size, rest=None):
    """Writes a disk that boots `kernel` and `initrd`; `rest` is an image of a second partition, copied behind the first.

    `boot_size`: bytes of the boot partition. `disk_id`: 32 bits, written as the disk's signature and the FAT's volume id.
    """
    (work / "syslinux.cfg").write_text(syslinux_config(command_line))
    (work / "grub.cfg").write_text(grub_config(command_line))
    rest_size = rest.stat().st_size if rest else 0
    with open(image, "wb") as file:
        file.truncate(PARTITION_START + boot_size + rest_size)
    files = {
        "/vmlinuz": kernel,
        "/initrd": initrd,
        "/syslinux.cfg": work / "syslinux.cfg",
        "/EFI/BOOT/BOOTX64.EFI": loaders.shim,
        "/EFI/BOOT/grubx64.efi": loaders.grub,
        "/EFI/BOOT/mmx64.efi": loaders.mok_manager,
        "/EFI/debian/grub.cfg": work / "grub.cfg",
    }
    for name, source in files.items():
        # mcopy -m takes a file's time over: copies, since those in the packages' folders are shared.
        copy = work / name.strip("/").replace("/", "_")
        if copy != source:
            copy.write_bytes(Path(source).read_bytes())
        files[name] = copy
        os.utime(copy, (EPOCH, EPOCH))
    write_fat(image, PARTITION_START, boot_size, "CATAMARAN", disk_id, files)
    loaders.syslinux.chmod(0o755)
    run(loaders.syslinux, "--install", "--offset", PARTITION_START, image)
    partitions = [(0xEF, PARTITION_START, boot_size)]
    if rest:
        partitions.append((0x83, PARTITION_START + boot_size, rest_size))
        run("dd", f"if={rest}", f"of={image}", "bs=1M", f"seek={(PARTITION_START + boot_size) // MIB}", "conv=notrunc,sparse")
    write_mbr(image, loaders.mbr.read_bytes(), disk_id, partitions)


def to_qcow2(raw, qcow2):
    """The same disk as qcow2, clusters not compressed (a guest that boots reads them all)."""
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off", raw, qcow2)
