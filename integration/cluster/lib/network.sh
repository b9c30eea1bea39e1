# shellcheck shell=bash
# The cluster's network: a switch in the hub's namespace, and a cable to each node.

# The last route is made last: without it the namespace is half made.
hub() {
    if ip -n "$HUB" -6 route show "$PODS6:$MAX_NODES::/64" 2>/dev/null | grep -q .; then return 0; fi
    remove_hub
    ip netns add "$HUB"
    ip -n "$HUB" link set lo up
    ip -n "$HUB" link add lab0 type bridge
    ip -n "$HUB" addr add "$NET.1/24" dev lab0
    ip -n "$HUB" addr add "${NET6}1/64" dev lab0 nodad
    ip -n "$HUB" link set lab0 up
    in_hub sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    routes_to_pods "$HUB" 0
}

remove_hub() { ip netns del "$HUB" 2>/dev/null || true; }

# cable N: from port nodeN of the switch to eth0 of the node
cable() {
    local namespace
    namespace=$(node_namespace "$1")
    uncable "$1"
    ip link add "node$1" netns "$HUB" type veth peer name eth0 netns "$namespace"
    ip -n "$HUB" link set "node$1" master lab0 up
    ip -n "$namespace" link set lo up
    ip -n "$namespace" addr add "$NET.$((10 + $1))/24" dev eth0
    ip -n "$namespace" addr add "$NET6$((10 + $1))/64" dev eth0 nodad
    ip -n "$namespace" link set eth0 up
    ip -n "$namespace" route add default via "$NET.1"
    ip -n "$namespace" -6 route add default via "${NET6}1"
    routes_to_pods "$namespace" "$1"
}

# uncable N: the kernel takes both ends away with the node's namespace, but some time after that has been deleted
uncable() { ip -n "$HUB" link del "node$1" 2>/dev/null || true; }

# routes_to_pods NAMESPACE SELF: the pods of every other node are behind that node
routes_to_pods() {
    local n
    for n in $(seq $MAX_NODES); do
        [ "$n" != "$2" ] || continue
        ip -n "$1" route replace "$PODS.$n.0/24" via "$NET.$((10 + n))"
        ip -n "$1" -6 route replace "$PODS6:$n::/64" via "$NET6$((10 + n))"
    done
}
