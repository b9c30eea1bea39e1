# shellcheck shell=bash
# What all parts of the cluster share: settings, addresses, and processes that are remembered. Sourced, never run.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CATAMARAN_CLUSTER=${CATAMARAN_CLUSTER:-${XDG_CACHE_HOME:-$HOME/.cache}/catamaran/cluster}
export CATAMARAN_CLUSTER_PROGRAMS=${CATAMARAN_CLUSTER_PROGRAMS:-$CATAMARAN_CLUSTER/bin}
STATE=$CATAMARAN_CLUSTER PROGRAMS=$CATAMARAN_CLUSTER_PROGRAMS
LOGS=$STATE/logs TLS=$STATE/tls

fail() {
    echo "cluster: $*" >&2
    exit 1
}

for folder in "$STATE" "$PROGRAMS"; do
    case $folder in
    /*) ;;
    *) fail "CATAMARAN_CLUSTER and CATAMARAN_CLUSTER_PROGRAMS must be absolute paths, not $folder" ;;
    esac
done

# Ports on 127.0.0.1 of this machine, passed on into the cluster's network. `up` keeps them.
if [ -r "$STATE/ports.env" ]; then . "$STATE/ports.env"; fi
export PORT_API=${PORT_API:-6443} PORT_REGISTRY=${PORT_REGISTRY:-5000}

# First part of the names of network namespaces and control groups: another one for a second cluster beside the first.
export CATAMARAN_CLUSTER_NAME=${CATAMARAN_CLUSTER_NAME:-lab}
HUB=$CATAMARAN_CLUSTER_NAME-hub # the control plane and the switch
MAX_NODES=9

# Addresses; they exist only inside the cluster's network namespaces.
NET=10.77.0 NET6=fd77:77::  # the hub is .1, node N is .(10+N)
PODS=10.78 PODS6=fd77:78    # of node N: 10.78.N.0/24 and fd77:78:N::/64
SERVICES=10.79.0.0/16 SERVICES6=fd77:79::/112
API_IP=10.79.0.1 DNS_IP=10.79.0.10 DNS_IP6=fd77:79::a
DOMAIN=cluster.local
REGISTRY=registry.lab:5000 # as the nodes name it

export KUBECONFIG=$STATE/admin.kubeconfig
export PATH=$PROGRAMS:$PATH:/usr/sbin:/sbin

node_name() { echo "node$1"; }
node_namespace() { echo "$CATAMARAN_CLUSTER_NAME-node$1"; }

# ---- processes: a line "PID START NAME" for each; the start tells a number that was given out again from ours

PIDS=$STATE/pids
# Nothing for a process that is dead: some first processes are slow in collecting the children they inherit.
start_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ { print $20 }'; }
remember() { echo "$1 $(start_of "$1") $2" >>"$PIDS"; }

# pid_of NAME: fails when it does not run
pid_of() {
    local pid start
    read -r pid start _ < <(grep " $1\$" "$PIDS" 2>/dev/null | tail -n 1) || return 1
    [ -n "$start" ] && [ "$(start_of "$pid")" = "$start" ] && echo "$pid"
}

# gone PID: waits until nothing is left of a process that was killed. Its first thread is dead before the others have closed their sockets.
gone() {
    local _
    for _ in $(seq 200); do
        [ -e "/proc/$1" ] || return 0
        sleep 0.05
    done
}

# background NAME COMMAND…: unless it runs already
background() {
    local name=$1
    shift
    if pid_of "$name" >/dev/null; then return 0; fi
    # The lock of `up` must not live on in what it starts.
    setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
    remember $! "$name"
}

in_hub() { nsenter --net="/run/netns/$HUB" -- "$@"; }

# await SECONDS WHAT COMMAND…: until the command succeeds
await() {
    local what=$2 end=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "not in time: $what (logs: $LOGS)"
        sleep 0.2
    done
}
