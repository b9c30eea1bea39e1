# shellcheck shell=bash
# Pretended nodes: objects without a machine, whose pods kwok says to be running (pretended.yaml). For what needs many machines and no guest.
#
# No DaemonSet and no pod of others comes to them: they lack the label of an operating system, and have a taint.

PRETENDED=catamaran.dev/pretended
PRETENDED_PODS=10.80.0.0/16

pretend() {
    local count=${1:-}
    if [ "$count" = off ]; then
        pretended_down
        pretended_forget
        return
    fi
    [[ $count =~ ^[1-9][0-9]{0,2}$ ]] || usage
    build_kwok
    pretended_nodes "$count" | kubectl apply --server-side --force-conflicts -f - >/dev/null
    background kwok ip netns exec "$HUB" kwok --kubeconfig "$KUBECONFIG" --config "$HERE/pretended.yaml" \
        --manage-nodes-with-label-selector "$PRETENDED=true" --node-ip "$NET.1" --cidr "$PRETENDED_PODS" \
        --node-lease-duration-seconds 40
    await 120 "$count pretended nodes are ready" kubectl wait --for=condition=Ready node --selector "$PRETENDED=true" --timeout=10s
}

build_kwok() {
    is_built kwok && return
    need_go
    mkdir -p "$PROGRAMS"
    CGO_ENABLED=0 TAGS='' build_module kwok '' "$PROGRAMS/kwok" sigs.k8s.io/kwok/cmd/kwok
}

# pretended_nodes COUNT
pretended_nodes() {
    local n sizes
    # Devices as the node daemon offers them.
    sizes="{cpu: \"64\", memory: 256Gi, ephemeral-storage: 1Ti, pods: \"110\", devices.kubevirt.io/kvm: \"1000\", devices.kubevirt.io/tun: \"1000\"}"
    for n in $(seq "$1"); do
        cat <<END
---
apiVersion: v1
kind: Node
metadata:
  name: pretended$n
  labels: {$PRETENDED: "true", kubernetes.io/hostname: pretended$n, kubernetes.io/arch: amd64}
spec:
  taints: [{key: $PRETENDED, value: "true", effect: NoSchedule}]
status: {capacity: $sizes, allocatable: $sizes}
END
    done
}

pretended_down() {
    local pid
    if pid=$(pid_of kwok); then
        kill "$pid"
        gone "$pid"
    fi
}

# Without kwok nobody says that such a node is there, and nobody ends its pods: they go with it.
pretended_forget() { kubectl delete node --selector "$PRETENDED=true" --wait=false >/dev/null; }
