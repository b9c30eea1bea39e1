#!/usr/bin/env bash
# Installs the Debian packages this project needs, on Debian 12 and 13. Safe to run again: with all of them there it only
# looks and ends at once.
#
# Usage: integration/setup/packages.sh [--list|--missing] [runtime] [build] [test] [cluster]     (nothing named: all four)
#
#   --list     only prints their names
#   --missing  only prints the names of those that are not installed
#
#   runtime  what running VMs and containers needs: QEMU, libvirt's driver, firmware, TPM, containerd, nftables
#   build    what compiling needs besides the Rust toolchain of rust-toolchain.toml
#   test     what building the guests (guest-images/) and running the tests needs
#   cluster  what building and running the Kubernetes of the tests (integration/cluster) needs besides Go
#
# On Debian 12 QEMU and libvirt come from backports where the mirror has it (10.0 and 11.3, those of Debian 13), else plain
# (7.2 and 9.0). Needs root, or sudo.
set -euo pipefail

# QEMU and libvirt: taken from backports on Debian 12, all of them or none, so that their versions fit together.
newer_runtime=(qemu-system-x86 qemu-utils libvirt0 libvirt-daemon-driver-qemu libvirt-clients)
newer_build=(libvirt-dev)
runtime=(ovmf seabios ipxe-qemu swtpm swtpm-tools xorriso dosfstools nftables iproute2 kmod containerd runc
    containernetworking-plugins iptables ca-certificates procps curl)
build=(gcc libc6-dev make pkg-config protobuf-compiler git)
test=(python3 mmdebstrap debian-archive-keyring busybox-static mtools syslinux xorriso kmod dosfstools e2fsprogs fdisk zstd cpio xz-utils
    skopeo umoci docker-registry isc-dhcp-client udhcpc socat tmux strace jq openssh-client iputils-ping libxml2-utils openssl
    systemd tcpdump fence-agents python3-venv chromium xvfb xdotool tigervnc-viewer)
cluster=(gcc libc6-dev binutils libseccomp-dev pkg-config openssl curl iproute2 iptables nftables conntrack ethtool kmod mount
    util-linux procps tini skopeo docker-registry busybox-static python3)
# Node.js, where there is none: one from elsewhere brings an npm of its own, beside which Debian's can't be installed.
command -v npm >/dev/null || test+=(nodejs npm)

fail() {
    echo "packages.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "installing packages needs root: run it as root, or install sudo"
    fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -y -o Dpkg::Use-Pty=0 "$@"
}

# Prints those of the given packages that are not installed.
missing() {
    local status
    status=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    local package
    for package in "$@"; do
        grep -q -x "$package installed" <<<"$status" || echo "$package"
    done
}

# The URI of this release's own archive, from whatever APT source names it.
own_archive() {
    apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        awk -v release="$VERSION_CODENAME" '$2 == release && !found {print $1; found = 1}'
}

has_suite() {
    # All of the output is read: a reader that ends early would end apt-get with a broken pipe.
    [ -n "$(apt-get indextargets --no-release-info --format '$(RELEASE)' 'Created-By: Packages' | sed -n "/^$1\$/p")" ]
}

# Adds backports next to the source this machine already has, so that no mirror is named here.
add_backports() {
    local uri
    uri=$(own_archive)
    [ -n "$uri" ] || return 1
    as_root tee /etc/apt/sources.list.d/catamaran-backports.sources >/dev/null <<END
Types: deb
URIs: $uri
Suites: $VERSION_CODENAME-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
}

# Installs packages from backports if the mirror has them there.
install_newer() {
    if [ "$VERSION_CODENAME" = bookworm ] && has_suite bookworm-backports &&
        apt_get install --no-install-recommends -t bookworm-backports "$@"; then
        return
    fi
    [ "$VERSION_CODENAME" != bookworm ] || echo "packages.sh: no usable bookworm-backports: taking Debian 12's own versions" >&2
    apt_get install --no-install-recommends "$@"
}

# Installs packages of this release; where a library they need is already there in backports' version, from there.
install_plain() {
    apt_get install --no-install-recommends "$@" && return
    if ! has_suite "$VERSION_CODENAME-backports"; then fail "apt-get could not install $*"; fi
    apt_get install --no-install-recommends -t "$VERSION_CODENAME-backports" "$@"
}

[ -r /etc/os-release ] && . /etc/os-release
[ "${ID:-}" = debian ] || fail "this is ${PRETTY_NAME:-an unknown system}; the packages are known for Debian 12 and 13 only"
case "${VERSION_CODENAME:-}" in
bookworm | trixie) ;;
*) fail "this is Debian ${VERSION_CODENAME:-?}; the packages are known for Debian 12 (bookworm) and 13 (trixie)" ;;
esac
[ "$(dpkg --print-architecture)" = amd64 ] || fail "only amd64 is supported, this is $(dpkg --print-architecture)"

only=
case "${1:-}" in
--list | --missing) only=$1 && shift ;;
esac
[ $# -gt 0 ] || set -- runtime build test cluster
newer=() plain=()
for list in "$@"; do
    case "$list" in
    runtime) newer+=("${newer_runtime[@]}") plain+=("${runtime[@]}") ;;
    build) newer+=("${newer_build[@]}") plain+=("${build[@]}") ;;
    test) plain+=("${test[@]}") ;;
    cluster) plain+=("${cluster[@]}") ;;
    *) fail "unknown list '$list': runtime, build, test or cluster" ;;
    esac
done

case $only in
--list) printf '%s\n' "${newer[@]}" "${plain[@]}" && exit ;;
--missing) missing "${newer[@]}" "${plain[@]}" && exit ;;
esac

mapfile -t newer < <([ ${#newer[@]} = 0 ] || missing "${newer[@]}")
mapfile -t plain < <([ ${#plain[@]} = 0 ] || missing "${plain[@]}" | sort -u)

if [ ${#newer[@]} -gt 0 ] || [ ${#plain[@]} -gt 0 ]; then
    echo "packages.sh: installing ${newer[*]} ${plain[*]}" >&2
    added=
    if [ "$VERSION_CODENAME" = bookworm ] && [ ${#newer[@]} -gt 0 ] && ! has_suite bookworm-backports; then
        add_backports && added=yes
    fi
    if ! apt_get update; then
        # A mirror without backports must not stand in the way of the rest.
        [ -n "$added" ] || fail "apt-get update failed"
        as_root rm -f /etc/apt/sources.list.d/catamaran-backports.sources
        apt_get update || fail "apt-get update failed"
    fi
    # First what this release has: of libraries which are there already backports' QEMU takes no newer ones.
    [ ${#plain[@]} = 0 ] || install_plain "${plain[@]}"
    [ ${#newer[@]} = 0 ] || install_newer "${newer[@]}"
fi

for list in "$@"; do
    if [ "$list" = build ] && ! command -v cargo >/dev/null && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        fail "the packages are there, but no Rust: install rustup (https://rustup.rs, or Debian 13's package); it takes the version from rust-toolchain.toml"
    fi
    if [ "$list" = cluster ] && ! command -v go >/dev/null; then
        fail "the packages are there, but no Go: install Go 1.26 or later (https://go.dev/dl); Debian's is too old"
    fi
done
