# shellcheck shell=bash
# etcd, API server, controller manager, scheduler, registry and DNS, all in the hub's network namespace.

CONTROL_PLANE=(etcd kube-apiserver kube-controller-manager kube-scheduler coredns registry forward)

# settings: files that depend on ports and paths
settings() {
    mkdir -p "$LOGS" "$TLS" "$STATE"/{nodes,etcd,registry}
    chmod 700 "$STATE/etcd" "$TLS"
    printf 'PORT_API=%s\nPORT_REGISTRY=%s\n' "$PORT_API" "$PORT_REGISTRY" >"$STATE/ports.env"
    cluster_certificates
    cat >"$STATE/registry.yaml" <<END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $STATE/registry}, delete: {enabled: true}}
http: {addr: ":$PORT_REGISTRY"}
END
    cat >"$STATE/Corefile" <<END
.:53 {
  errors
  ready 127.0.0.1:8181
  cache 5
  hosts {
    $NET.1 ${REGISTRY%:*}
    fallthrough
  }
  kubernetes $DOMAIN in-addr.arpa ip6.arpa {
    kubeconfig $STATE/coredns.kubeconfig
    pods insecure
  }
}
END
}

control_plane() {
    # Without fsync: quick, and not safe against a power cut of the real machine.
    background etcd ip netns exec "$HUB" etcd --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380
    api_server
    background forward "$HERE/forward" "$HUB" "$PORT_API" "$PORT_REGISTRY"
    background registry ip netns exec "$HUB" docker-registry serve "$STATE/registry.yaml"
    await 120 "kube-apiserver is ready" kubectl get --raw /readyz
    local kubeconfig=$STATE/controller-manager.kubeconfig
    # shellcheck disable=SC2086 # further flags are words
    background kube-controller-manager ip netns exec "$HUB" kube-controller-manager --kubeconfig "$kubeconfig" \
        --authentication-kubeconfig "$kubeconfig" --authorization-kubeconfig "$kubeconfig" --bind-address 127.0.0.1 \
        --use-service-account-credentials --root-ca-file "$TLS/ca.crt" \
        --service-account-private-key-file "$TLS/service-account.key" \
        --cluster-signing-cert-file "$TLS/ca.crt" --cluster-signing-key-file "$TLS/ca.key" \
        --requestheader-client-ca-file "$TLS/front-proxy-ca.crt" --allocate-node-cidrs=false \
        --cluster-cidr "$PODS.0.0/16,$PODS6::/32" --service-cluster-ip-range "$SERVICES,$SERVICES6" \
        --leader-elect=false ${CONTROLLER_MANAGER_FLAGS:-}
    kubeconfig=$STATE/scheduler.kubeconfig
    background kube-scheduler ip netns exec "$HUB" kube-scheduler --kubeconfig "$kubeconfig" \
        --authentication-kubeconfig "$kubeconfig" --authorization-kubeconfig "$kubeconfig" --bind-address 127.0.0.1 \
        --leader-elect=false
    background coredns ip netns exec "$HUB" coredns -conf "$STATE/Corefile"
}

api_server() {
    # shellcheck disable=SC2086 # further flags are words
    background kube-apiserver ip netns exec "$HUB" kube-apiserver \
        --etcd-servers http://127.0.0.1:2379 --bind-address 0.0.0.0 --secure-port "$PORT_API" --advertise-address "$NET.1" \
        --service-cluster-ip-range "$SERVICES,$SERVICES6" --allow-privileged \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --client-ca-file "$TLS/ca.crt" --tls-cert-file "$TLS/apiserver.crt" --tls-private-key-file "$TLS/apiserver.key" \
        --kubelet-client-certificate "$TLS/apiserver-kubelet.crt" --kubelet-client-key "$TLS/apiserver-kubelet.key" \
        --kubelet-certificate-authority "$TLS/ca.crt" --kubelet-preferred-address-types InternalIP \
        --service-account-issuer "https://kubernetes.default.svc.$DOMAIN" \
        --service-account-key-file "$TLS/service-account.key" --service-account-signing-key-file "$TLS/service-account.key" \
        --requestheader-client-ca-file "$TLS/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
        --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
        --requestheader-extra-headers-prefix X-Remote-Extra- --enable-aggregator-routing \
        --proxy-client-cert-file "$TLS/front-proxy.crt" --proxy-client-key-file "$TLS/front-proxy.key" \
        --audit-policy-file "$HERE/audit.yaml" --audit-log-path "$LOGS/audit.log" --audit-log-maxsize 1000 \
        ${APISERVER_FLAGS:-}
}

kill_api_server() {
    local pid
    pid=$(pid_of kube-apiserver) || fail "the API server does not run"
    kill -9 "$pid"
    gone "$pid"
    api_server
    await 120 "kube-apiserver is ready" kubectl get --raw /readyz
}

control_plane_down() {
    local name pid
    for name in coredns registry kube-scheduler kube-controller-manager forward kube-apiserver etcd; do
        if pid=$(pid_of "$name"); then kill "$pid"; fi
    done
    for name in "${CONTROL_PLANE[@]}"; do
        for _ in $(seq 100); do
            pid_of "$name" >/dev/null || break
            sleep 0.1
        done
        if pid=$(pid_of "$name"); then
            kill -9 "$pid"
            gone "$pid"
        fi
    done
}

# objects: those that every cluster has: its DNS, and the right of kube-proxy
objects() {
    kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: $DNS_IP
  clusterIPs: ["$DNS_IP", "$DNS_IP6"]
  ipFamilyPolicy: RequireDualStack
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-4, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints: [{addresses: ["$NET.1"]}]
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-6, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv6
endpoints: [{addresses: ["${NET6}1"]}]
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: lab-kube-proxy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-proxier"}
subjects: [{kind: User, name: "system:kube-proxy"}]
END
}
