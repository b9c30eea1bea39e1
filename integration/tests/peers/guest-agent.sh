#!/bin/sh
# User-data of the minimal guest, which has no QEMU guest agent: answers what the host asks one, from QEMU's description of its protocol
# (qga/qapi-schema.json). Names, versions and sizes are made up; the card's addresses are true.

# While file systems are frozen an agent takes few commands.
freeze=thawed

answer() {
    case $1 in
    *'"guest-fsfreeze-status"'* | *'"guest-fsfreeze-thaw"'* | *'"guest-sync'* | *'"guest-ping"'* | *'"guest-info"'*) ;;
    *)
        if [ $freeze = frozen ]; then
            echo '{"error": {"class": "CommandNotFound", "desc": "Command has been disabled: the agent is in frozen state"}}'
            return
        fi
        ;;
    esac
    case $1 in
    *'"guest-sync-delimited"'*) printf '\377{"return": %s}\n' "$(id_of "$1")" ;;
    *'"guest-sync"'*) printf '{"return": %s}\n' "$(id_of "$1")" ;;
    *'"guest-ping"'*) echo '{"return": {}}' ;;
    *'"guest-info"'*) printf '{"return": {"version": "10.0.3", "supported_commands": [%s]}}\n' "$(commands)" ;;
    *'"guest-get-host-name"'*) printf '{"return": {"host-name": "%s"}}\n' "$(hostname)" ;;
    *'"guest-get-osinfo"'*)
        echo '{"return": {"id": "debian", "name": "Debian GNU/Linux", "pretty-name": "Debian GNU/Linux 12 (bookworm)",
            "version": "12 (bookworm)", "version-id": "12", "machine": "x86_64", "kernel-release": "6.1.0-40-cloud-amd64",
            "kernel-version": "#1 SMP Debian 6.1.153-1"}}' | tr -d '\n' && echo
        ;;
    *'"guest-get-timezone"'*) echo '{"return": {"zone": "UTC", "offset": 0}}' ;;
    *'"guest-get-users"'*) echo '{"return": [{"user": "root", "login-time": 1792000000.25}]}' ;;
    *'"guest-get-fsinfo"'*)
        echo '{"return": [{"name": "vda2", "mountpoint": "/", "type": "ext4", "total-bytes": 1056858112, "used-bytes": 314572800,
            "disk": [{"bus-type": "virtio", "bus": 0, "unit": 0, "target": 0, "dev": "/dev/vda2", "serial": "root",
            "pci-controller": {"domain": 0, "bus": 4, "slot": 0, "function": 0}}]}]}' | tr -d '\n' && echo
        ;;
    *'"guest-network-get-interfaces"'*) printf '{"return": [%s]}\n' "$(card eth0)" ;;
    *'"guest-fsfreeze-status"'*) printf '{"return": "%s"}\n' "$freeze" ;;
    *'"guest-fsfreeze-freeze"'*) freeze=frozen && echo '{"return": 1}' ;;
    *'"guest-fsfreeze-thaw"'*) freeze=thawed && echo '{"return": 1}' ;;
    *) echo '{"error": {"class": "CommandNotFound", "desc": "The command has not been found"}}' ;;
    esac
}

id_of() {
    printf '%s' "$1" | sed 's/.*"id": *\([0-9]*\).*/\1/'
}

commands() {
    between=
    for command in sync-delimited sync ping info get-host-name get-osinfo get-timezone get-users get-fsinfo network-get-interfaces \
        fsfreeze-status fsfreeze-freeze fsfreeze-thaw; do
        printf '%s{"name": "guest-%s", "enabled": true, "success-response": true}' "$between" "$command"
        between=', '
    done
}

card() {
    mac=$(cat "/sys/class/net/$1/address")
    # "2: eth0    inet 10.0.2.2/24 …"
    set -- "$1" $(ip -4 -o address show dev "$1")
    printf '{"name": "%s", "hardware-address": "%s", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "%s", "prefix": %s}]}' \
        "$1" "$mac" "${5%/*}" "${5#*/}"
}

serve() {
    until port=$(grep -l org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name); do
        sleep 0.2
    done
    exec 3<>"/dev/$(basename "$(dirname "$port")")"
    while :; do
        # A request is a line. Without anybody at the other end there is nothing to read.
        while read -r request; do
            answer "$request" >&3
        done <&3
        sleep 0.2
    done
}

serve </dev/null >/dev/null 2>&1 &
