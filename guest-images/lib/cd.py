"""Bootable CDs: isolinux for BIOS; a FAT with shim and grub for UEFI, with secure boot or without."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from .common import flatten_times, fresh, run
from .disk import MIB, write_fat

# By this Debian's signed grub knows a CD, where it can't read the FAT that it came from: it goes on with boot/grub/grub.cfg.
DISK_INFO = ".disk/info"
EFI_SIZE = 8 * MIB
EFI_ID = 0xCA7A0004


@dataclass(frozen=True)
class Cd:
    """What tells one from another."""

    label: str
    # The file by which grub knows the CD that it came from, and what stands in it.
    mark: str
    title: str
    command_line: str
    # Name on the CD → file, in the order in which the kernel gets them.
    initrds: dict


def isolinux_config(cd):
    """For BIOS."""
    initrds = ",".join(f"/boot/{name}" for name in cd.initrds)
    return f"DEFAULT deploy\nPROMPT 0\nTIMEOUT 0\nLABEL deploy\n  LINUX /boot/vmlinuz\n  INITRD {initrds}\n  APPEND {cd.command_line}\n"


def grub_config(cd):
    """For UEFI: grub comes from the small FAT in the CD, and looks for the CD itself. Where firmware shows it no more than the CD, it finds this there."""
    initrds = " ".join(f"/boot/{name}" for name in cd.initrds)
    return (
        f"set timeout=0\nterminal_output console\nset gfxpayload=text\nsearch --no-floppy --set=root --file /{cd.mark}\n"
        f"linux /boot/vmlinuz {cd.command_line}\ninitrd {initrds}\nboot\n"
    )


def write_cd(cd, files, kernel, work, iso):
    """Writes it. `files`: the boot programs, unpacked from the locked packages of the section `deploy`."""
    tree = fresh(work / "tree")
    for folder in ("boot/grub", "isolinux", Path(cd.mark).parent, Path(DISK_INFO).parent):
        (tree / folder).mkdir(parents=True)
    shutil.copyfile(kernel, tree / "boot/vmlinuz")
    for name, source in cd.initrds.items():
        shutil.copyfile(source, tree / "boot" / name)
    for name in (cd.mark, DISK_INFO):
        (tree / name).write_text(f"{cd.title}\n")
    (tree / "boot/grub/grub.cfg").write_text(grub_config(cd))
    shutil.copyfile(files / "usr/lib/ISOLINUX/isolinux.bin", tree / "isolinux/isolinux.bin")
    shutil.copyfile(files / "usr/lib/syslinux/modules/bios/ldlinux.c32", tree / "isolinux/ldlinux.c32")
    (tree / "isolinux/isolinux.cfg").write_text(isolinux_config(cd))
    efi = fresh(work / "efi")
    (efi / "grub.cfg").write_text(grub_config(cd))
    for name, source in {
        "shimx64.efi": "usr/lib/shim/shimx64.efi.signed",
        "mmx64.efi": "usr/lib/shim/mmx64.efi.signed",
        "grubx64.efi": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    }.items():
        shutil.copyfile(files / source, efi / name)
    flatten_times(efi)
    image = tree / "boot/efi.img"
    with open(image, "wb") as file:
        file.truncate(EFI_SIZE)
    write_fat(
        image, 0, EFI_SIZE, "CATAMARAN", EFI_ID,
        {
            "/EFI/BOOT/BOOTX64.EFI": efi / "shimx64.efi",
            "/EFI/BOOT/grubx64.efi": efi / "grubx64.efi",
            "/EFI/BOOT/mmx64.efi": efi / "mmx64.efi",
            "/EFI/debian/grub.cfg": efi / "grub.cfg",
        },
    )
    flatten_times(tree)
    run(
        "xorrisofs", "-quiet", "-volid", cd.label, "-rational-rock", "-uid", "0", "-gid", "0", "--set_all_file_dates", "2024010100000000",
        "-eltorito-boot", "isolinux/isolinux.bin", "-eltorito-catalog", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4",
        "-boot-info-table", "-eltorito-alt-boot", "-e", "boot/efi.img", "-no-emul-boot", "-output", iso, tree,
    )
