# shellcheck shell=bash
# Nodes, seen from outside: their files, control groups and power. What runs inside is in `node`.

# node_files N: written anew at each start
node_files() {
    local name folder
    name=$(node_name "$1") folder=$STATE/nodes/$(node_name "$1")
    mkdir -p "$folder/disk/etc/cni/net.d" "$folder/certs.d/$REGISTRY"
    node_certificates "$1"
    echo "nameserver $NET.1" >"$folder/resolv.conf"
    printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n%s %s\n' "$NET.$((10 + $1))" "$name" "$NET.1" "${REGISTRY%:*}" >"$folder/hosts"
    md5sum <<<"$name" | cut -c1-32 >"$folder/machine-id"
    cat >"$folder/certs.d/$REGISTRY/hosts.toml" <<END
server = "http://$NET.1:$PORT_REGISTRY"
[host."http://$NET.1:$PORT_REGISTRY"]
END
    cat >"$folder/containerd.toml" <<END
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$REGISTRY/pause:dev"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "$folder/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
# In a sandbox, root may not lower the score of a process.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "$PROGRAMS/runc"
SystemdCgroup = false
END
    cat >"$folder/disk/etc/cni/net.d/10-lab.conflist" <<END
{"cniVersion": "1.0.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-addresses",
            "ranges": [[{"subnet": "$PODS.$1.0/24"}], [{"subnet": "$PODS6:$1::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
    cat >"$folder/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$TLS/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: "$TLS/kubelet-server-$name.crt"
tlsPrivateKeyFile: "$TLS/kubelet-server-$name.key"
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDomain: $DOMAIN
clusterDNS: ["$DNS_IP", "$DNS_IP6"]
resolvConf: /etc/resolv.conf
nodeStatusUpdateFrequency: 5s
nodeStatusReportFrequency: 60s
serializeImagePulls: false
maxPods: 250
shutdownGracePeriod: 0s
# One disk for all nodes and everything else on this machine: nothing is evicted for it.
evictionHard: {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "memory.available": "50Mi"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
END
    cat >"$folder/kube-proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: "$PODS.0.0/16,$PODS6::/32"
clientConnection: {kubeconfig: "$STATE/kube-proxy.kubeconfig"}
# The machine's connection tracking is not ours to set.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
}

# ---- control groups: those of a node are the root of what it sees

group_mounts() { awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo | grep -v -x /sys/fs/cgroup/unified | sort -u; }

enter_groups() { # enter_groups N: with this shell
    local mount top group file
    while read -r mount; do
        top=$mount/catamaran-$CATAMARAN_CLUSTER_NAME group=$top/$(node_name "$1")
        mkdir -p "$group"
        if [ -e "$group/cpuset.cpus" ] && [ -e "$mount/cpuset.mems" ] && [ -z "$(cat "$group/cpuset.mems")" ]; then
            for file in cpuset.cpus cpuset.mems; do
                cat "$mount/$file" >"$top/$file"
                cat "$mount/$file" >"$group/$file"
            done
        fi
        if [ -e "$group/memory.use_hierarchy" ]; then echo 1 >"$group/memory.use_hierarchy" 2>/dev/null || true; fi
        echo "$BASHPID" >"$group/cgroup.procs"
    done < <(group_mounts)
}

# A group stays busy for a while after its last process has died. What is left of a node whose first process is not known dies, too.
remove_group() {
    for _ in $(seq 300); do
        [ -d "$1" ] || return 0
        find "$1" -depth -type d -exec rmdir {} + 2>/dev/null && return 0
        find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null | grep -vx 0 | xargs -r kill -9 2>/dev/null || true
        sleep 0.1
    done
    fail "control group still in use: $1"
}

remove_groups() { group_mounts | while read -r mount; do rmdir "$mount/catamaran-$CATAMARAN_CLUSTER_NAME" 2>/dev/null || true; done; }

freeze() { # freeze N FROZEN|THAWED
    local mount group
    mount=$(group_mounts | grep -E 'freezer$' || echo /sys/fs/cgroup)
    group=$mount/catamaran-$CATAMARAN_CLUSTER_NAME/$(node_name "$1")
    if [ -e "$group/freezer.state" ]; then
        find "$group" -type d | while read -r folder; do echo "$2" >"$folder/freezer.state"; done
    elif [ "$2" = FROZEN ]; then
        echo 1 >"$group/cgroup.freeze"
    else
        echo 0 >"$group/cgroup.freeze"
    fi
}

# ---- power

first_process() { pgrep -P "$1" | head -n 1; } # of a node: the child of the process we remember

node_on() {
    local name namespace
    name=$(node_name "$1") namespace=$(node_namespace "$1")
    if pid_of "$name" >/dev/null; then return 0; fi
    node_off "$1"
    ip netns add "$namespace"
    cable "$1"
    node_files "$1"
    (
        enter_groups "$1"
        background "$name" nsenter --net="/run/netns/$namespace" -- \
            unshare --mount --uts --ipc --pid --cgroup --fork --kill-child \
            tini -g -- "$HERE/node" "$name" "$NET.$((10 + $1))" "$NET6$((10 + $1))"
    )
}

# As a power cut: everything in the node dies at once, its disk stays.
node_off() {
    local pid mount
    if pid=$(pid_of "$(node_name "$1")"); then
        kill -9 "$(first_process "$pid")" "$pid" 2>/dev/null || true
        gone "$pid"
    fi
    while read -r mount; do
        remove_group "$mount/catamaran-$CATAMARAN_CLUSTER_NAME/$(node_name "$1")"
    done < <(group_mounts)
    ip netns del "$(node_namespace "$1")" 2>/dev/null || true
}

node() {
    [[ ${2:-} =~ ^[1-$MAX_NODES]$ ]] || usage
    case $1 in
    on) node_on "$2" ;;
    off) node_off "$2" ;;
    forget) node_off "$2" && rm -rf "$STATE/nodes/$(node_name "$2")" ;;
    cut) ip -n "$HUB" link set "node$2" down ;;
    heal) ip -n "$HUB" link set "node$2" up ;;
    freeze) freeze "$2" FROZEN ;;
    thaw) freeze "$2" THAWED ;;
    *) usage ;;
    esac
}

on_node() {
    local pid
    [[ ${1:-} =~ ^[1-$MAX_NODES]$ ]] || usage
    pid=$(pid_of "$(node_name "$1")") || fail "node $1 is off"
    shift
    nsenter -t "$(first_process "$pid")" -m -n -u -i -p -C -- "$@"
}

# networks on|off: a chain of plugins that comes before the nodes' own by its name
networks() {
    local n name folder
    cp "$HERE/networks" "$PROGRAMS/cni/lab-networks"
    for n in $(seq $MAX_NODES); do
        name=$(node_name "$n") folder=$STATE/nodes/$(node_name "$n")/disk/etc/cni/net.d
        pid_of "$name" >/dev/null || continue
        case ${1:-} in
        on)
            sed '$ s|]}$|,|' "$folder/10-lab.conflist" >"$folder/.05-networks"
            cat >>"$folder/.05-networks" <<END
  {"type": "lab-networks", "kubectl": "$PROGRAMS/kubectl", "kubeconfig": "$KUBECONFIG", "server": "https://$NET.1:$PORT_API"}]}
END
            mv "$folder/.05-networks" "$folder/05-networks.conflist"
            ;;
        off) rm -f "$folder/05-networks.conflist" ;;
        *) usage ;;
        esac
    done
}
