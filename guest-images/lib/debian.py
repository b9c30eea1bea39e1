"""The Debian guest: a root file system by mmdebstrap from locked packages only, on ext4 made without a mount.

The kernel is unpacked, not installed: its initramfs is a small one of our own (that of Debian is ten times as large, which
a boot under emulation feels), and of its modules only those that a virtual machine can use are taken.
"""

import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from . import debs, oci
from .common import EPOCH, OUT, ROOT, BuildError, digest_tree, environment, flatten_times, fresh, is_current, replace, run, say, set_current, stamp_of, tool_versions
from .disk import MIB, Loaders, boot_disk, to_qcow2
from .initrd import Cpio, module_order
from .minimal import EARLY, KERNELS, LATE, TOOL_FLAGS, container_disk, kernel_package, unpacked

COMMAND_LINE = "root=LABEL=catamaran-root ro console=tty1 console=ttyS0,115200 quiet"
BOOT_SIZE = 63 * MIB
FREE_SPACE = 200 * MIB
ROOT_LABEL = "catamaran-root"
ROOT_UUID = "ca7a0003-0000-4000-8000-000000000001"
HASH_SEED = "ca7a0003-0000-4000-8000-000000000002"
# Besides those of the minimal guest: what a Debian user expects of a kernel in a virtual machine.
MODULES = [
    "bridge", "veth", "tun", "vxlan", "wireguard", "macvlan", "8021q", "bonding", "dummy", "nf_tables", "nft_chain_nat", "nft_ct", "nft_masq",
    "nft_compat", "nft_reject_inet", "nft_log", "ip_tables", "iptable_filter", "iptable_nat", "ip6_tables", "xt_MASQUERADE", "xt_conntrack",
    "overlay", "loop", "dm-mod", "dm-crypt", "xfs", "btrfs", "squashfs", "fuse", "autofs4", "configfs", "efivarfs", "efi-pstore", "softdog",
    "zram", "vsock", "vmw_vsock_virtio_transport", "virtio_gpu", "virtio-mem", "bochs", "sg", "tcp_bbr", "sch_fq", "nls_utf8", "udf",
]
# Besides those: what a node of a cluster needs for kube-proxy's services.
NODE_MODULES = (
    "nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6", "nft_numgen", "nft_hash", "nft_nat", "nft_redir", "nft_reject_ipv4", "nft_reject_ipv6", "nft_limit",
    "br_netfilter", "nf_conntrack_netlink",
)
# The programs of `integration/cluster` that a node runs.
NODE_PROGRAMS = ["containerd", "containerd-shim-runc-v2", "ctr", "kube-proxy", "kubelet", "runc"]
UNWANTED = ["usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug"]
EMPTIED = ["var/cache", "var/log", "var/lib/apt/lists", "tmp", "run"]


@dataclass(frozen=True)
class Kind:
    """What tells the guests that are made of Debian from each other."""

    name: str
    title: str
    # Of the kernel, besides those that all have.
    modules: tuple = ()
    # What is copied into the root: file or folder of ours, folder there.
    copies: tuple = ()


def cluster_programs():
    """Folder of the cluster's programs, which are built by `cargo xtask cluster build`."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cluster = Path(os.environ.get("CATAMARAN_CLUSTER", home / "catamaran/cluster"))
    folder = Path(os.environ.get("CATAMARAN_CLUSTER_PROGRAMS", cluster / "bin"))
    missing = [name for name in [*NODE_PROGRAMS, "cni"] if not (folder / name).exists()]
    if missing:
        raise BuildError(f"{folder} has no {', '.join(missing)}: build them with cargo xtask cluster build")
    return folder


def local_archive(packages, folder):
    """An APT archive with the locked packages and nothing else."""
    fresh(folder)
    text = ""
    for deb in packages:
        name = Path(deb.filename).name
        os.link(deb.path, folder / name)
        text += run("dpkg-deb", "-f", deb.path).decode().rstrip("\n")
        text += f"\nFilename: ./{name}\nSize: {deb.path.stat().st_size}\nSHA256: {deb.sha256}\n\n"
    (folder / "Packages").write_text(text)


def install(packages, work, kind):
    """Installs the packages into a tar of the root file system."""
    local_archive(packages, work / "archive")
    overlay, tar = ROOT / "debian/overlay", work / "root.tar"
    modules = work / "modules"
    say(f"{kind.name}: installing {len(packages)} packages")
    hooks = [
        f'copy-in "{overlay}/." /',
        f'copy-in "{modules}/lib" /usr',
        *[f'copy-in "{source}" "{target}"' for source, target in kind.copies],
    ]
    script = work / "customize.sh"
    script.write_text(customize_script())
    words = ["mmdebstrap", "--variant=apt", "--format=tar", f"--include={','.join(debs.wanted()['debian'])}"]
    words += [f"--dpkgopt=path-exclude=/{path}/*" for path in UNWANTED]
    words += ["--skip=check/qemu"]
    words += [f"--customize-hook={hook}" for hook in hooks]
    words += [f'--customize-hook=sh {script} "$1"', debs.RELEASE, str(tar), f"deb [trusted=yes] copy://{work}/archive ./"]
    run(*words)
    return tar


def customize_script():
    """What is done to the installed system, outside of it, its folder being $1."""
    lines = ["set -e", 'cd "$1"', "mkdir -p var/www", "chown -R 0:0 etc/cloud/cloud.cfg.d etc/systemd/system usr/lib/catamaran usr/lib/modules usr/local/bin opt var/www"]
    lines += [
        "chown 0:0 etc/fstab etc/hostname etc/hosts etc/apt/sources.list",
        'for kernel in usr/lib/modules/*; do chroot . depmod "${kernel##*/}"; done',
        "chroot . systemctl enable systemd-networkd systemd-resolved qemu-guest-agent ssh catamaran-guest catamaran-http",
        "chroot . systemctl disable networking systemd-timesyncd apt-daily.timer apt-daily-upgrade.timer e2scrub_reap",
        # This kernel comes without binfmt_misc.
        "chroot . systemctl mask proc-sys-fs-binfmt_misc.automount systemd-binfmt",
        "rm -f etc/ssh/ssh_host_* etc/resolv.conf etc/machine-id var/lib/dbus/machine-id",
        # Empty, not absent: systemd then makes a new one without taking the boot for the first.
        ": >etc/machine-id",
        "ln -s ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf",
        "rm -f etc/apt/sources.list.d/* etc/apt/apt.conf.d/99mmdebstrap var/lib/systemd/random-seed etc/passwd- etc/group- etc/shadow- etc/gshadow-",
        # Compiled Python: its bytes differ from build to build, and cloud-init is quicker with them than without, so they
        # are made again in one process and in order.
        "find usr -name __pycache__ -prune -exec rm -rf {} +",
        "chroot . env PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=%d python3 -m compileall -q --invalidation-mode unchecked-hash -j 1"
        " usr/lib/python3.11 usr/lib/python3/dist-packages || true" % EPOCH,
        *[f"find {path} -mindepth 1 -type f -delete" for path in EMPTIED],
        "rm -rf " + " ".join(f"{path}/*" for path in UNWANTED),
    ]
    return "\n".join(lines) + "\n"


def write_modules(kernel_tree, folder, further):
    """The modules which the guest gets, in their own tree; depmod runs later, in the guest's root."""
    source = next((kernel_tree / "lib/modules").iterdir())
    target = folder / "lib/modules" / source.name
    _, _, early, late = KERNELS["minimal-pc"]
    for path in module_order(kernel_tree, EARLY + early + LATE + late + MODULES + [*further]):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(source / name, target / name)


def write_initrd(files, kernel_tree, tool, path):
    """Just enough to find and mount the root."""
    cpio = Cpio()
    for folder in ("dev", "proc", "sys", "run", "root"):
        cpio.folder(folder)
    cpio.tree(ROOT / "debian/initrd")
    cpio.file("bin/busybox", files / "bin/busybox", 0o755)
    cpio.link("bin/sh", "busybox")
    cpio.file("bin/catamaran-guest-tool", tool, 0o755)
    _, _, early, _ = KERNELS["minimal-pc"]
    order = module_order(kernel_tree, [name for name in EARLY + early if name not in ("virtio_net", "e1000", "e1000e", "8139cp", "vfat")] + ["ext4", "crc32c_generic"])
    for module in order:
        cpio.file(f"lib/modules/{module.name}", module)
    cpio.file("lib/modules/early.list", "".join(f"{module.stem}\n" for module in order).encode())
    cpio.add("dev/console", 0o020600, b"", (5, 1))
    cpio.write(path)


def write_ext4(tar, image, work):
    """Makes an ext4 of the tar's files. Unpacked on a tmpfs of its own, where the order of a folder is that of the tar."""
    tree = work / "tree"
    tree.mkdir()
    size = (sum_of_files(tar) + FREE_SPACE) // (4 * MIB) * 4 * MIB
    with open(image, "wb") as file:
        file.truncate(size)
    script = (
        'mount -t tmpfs -o mode=0755,size=2g tmpfs "$1" && '
        'tar -C "$1" --xattrs --xattrs-include="*" --numeric-owner --exclude="./dev/*" -xpf "$2" && '
        f'mke2fs -q -F -t ext4 -O ^metadata_csum,^64bit,^orphan_file -b 4096 -N 65536 -m 1 -L {ROOT_LABEL} -U {ROOT_UUID} '
        f'-E hash_seed={HASH_SEED},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0 -d "$1" "$3"'
    )
    env = environment()
    env["E2FSPROGS_FAKE_TIME"] = str(EPOCH)
    run("unshare", "-m", "sh", "-c", script, "write_ext4", tree, tar, image, env=env)
    fix_times(image)


def sum_of_files(tar):
    """The bytes that the files of a tar take on ext4, about: data, a part of a block each, and an inode."""
    import tarfile

    with tarfile.open(tar) as archive:
        return sum((member.size + 4095) // 4096 * 4096 + 256 for member in archive)


def fix_times(image):
    """Sets the times of change, access and creation of all inodes: mke2fs takes them from the files it copies, where nobody can choose them.

    Only right without checksums of inodes (^metadata_csum), and for 32 bit block numbers (^64bit).
    """
    with open(image, "r+b") as file:
        file.seek(1024)
        superblock = file.read(1024)
        blocks, = struct.unpack_from("<I", superblock, 4)
        block_size = 1024 << struct.unpack_from("<I", superblock, 24)[0]
        per_group, inodes_per_group = struct.unpack_from("<I", superblock, 32)[0], struct.unpack_from("<I", superblock, 40)[0]
        inode_size, = struct.unpack_from("<H", superblock, 88)
        groups = (blocks + per_group - 1) // per_group
        file.seek(block_size)
        descriptors = file.read(groups * 32)
        for group in range(groups):
            table, = struct.unpack_from("<I", descriptors, group * 32 + 8)
            file.seek(table * block_size)
            inodes = bytearray(file.read(inodes_per_group * inode_size))
            for at in range(0, len(inodes), inode_size):
                if inodes[at : at + 2] == b"\0\0":
                    continue
                struct.pack_into("<II", inodes, at + 8, EPOCH, EPOCH)  # access, change
                mtime, = struct.unpack_from("<I", inodes, at + 16)
                struct.pack_into("<I", inodes, at + 16, min(mtime, EPOCH))
                struct.pack_into("<I", inodes, at + 100, 0)  # generation
                if inode_size > 128:
                    struct.pack_into("<IIII", inodes, at + 132, 0, 0, 0, EPOCH)  # parts of seconds; creation
            file.seek(table * block_size)
            file.write(inodes)


def build_debian(force=False):
    """Builds out/debian: debian.raw, debian.qcow2, vmlinuz, initrd, and the containerDisk."""
    build(Kind("debian", "Debian 12 with cloud-init"), force)


def build_server(force=False):
    """Builds out/server, for the disk of a server: the same, with what a node of `integration/cluster` runs. It is joined by its user data."""
    programs = cluster_programs()
    files = [programs / name for name in NODE_PROGRAMS]
    copies = [(ROOT / "server/etc", "/"), *[(file, "/usr/local/bin") for file in files], (programs / "cni", "/opt")]
    build(Kind("server", "Debian 12 with the programs of a Kubernetes node", NODE_MODULES, copies), force)


def build(kind, force):
    """Builds out/NAME of a kind."""
    locked = debs.locked("debian")
    boot = debs.locked("minimal")
    sources = [source for source, _ in kind.copies]
    stamp = stamp_of(
        digest_tree(ROOT / "debian", ROOT / "lib", ROOT / "minimal/guest-tool.c", ROOT / "packages.wanted", *sources), repr(locked), repr(boot),
        tool_versions("gcc", "qemu-img", "zstd", "mformat", "mke2fs", "mmdebstrap"),
    )
    out = OUT / kind.name
    if not force and is_current(out, stamp) and oci.GUESTS.holds(kind.name):
        say(f"{kind.name}: nothing changed")
        return
    debs.fetch(locked + boot)
    done, out = out, fresh(OUT / f".new-{kind.name}")
    work = fresh(OUT / f".work-{kind.name}")
    files = unpacked(boot, work, "busybox-static", "shim-signed", "shim-helpers-amd64-signed", "grub-efi-amd64-signed", "syslinux")
    kernel_tree = debs.unpack(kernel_package(boot, "minimal-pc"), work / "kernel")
    kernel, initrd = out / "vmlinuz", out / "initrd"
    shutil.copyfile(next((kernel_tree / "boot").glob("vmlinuz-*")), kernel)
    tool = work / "guest-tool"
    run("gcc", *TOOL_FLAGS, "-o", tool, ROOT / "minimal/guest-tool.c")
    write_initrd(files, kernel_tree, tool, initrd)
    write_modules(kernel_tree, work / "modules", kind.modules)
    tar = install(locked, work, kind)
    root = work / "root.ext4"
    say(f"{kind.name}: writing the file system")
    write_ext4(tar, root, work)
    say(f"{kind.name}: writing the disks")
    raw, qcow2 = out / f"{kind.name}.raw", out / f"{kind.name}.qcow2"
    boot_disk(
        raw, fresh(work / "disk"), Loaders(files), kernel, initrd, COMMAND_LINE, disk_id=0xCA7A0003, boot_size=BOOT_SIZE, rest=root,
    )
    to_qcow2(raw, qcow2)
    container_disk(kind.name, qcow2, kind.title)
    flatten_times(out)
    shutil.rmtree(work)
    set_current(out, stamp)
    replace(done, out)
    say(f"{kind.name}: disk {(done / raw.name).stat().st_size >> 20} MiB, qcow2 {(done / qcow2.name).stat().st_size >> 20} MiB")
