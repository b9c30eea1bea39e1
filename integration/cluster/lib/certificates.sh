# shellcheck shell=bash
# Certificates and kubeconfigs. Made once; what is there stays.

# authority NAME
authority() {
    [ -e "$TLS/$1.crt" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$1" \
        -keyout "$TLS/$1.key" -out "$TLS/$1.crt" -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>/dev/null
}

# certificate NAME AUTHORITY SUBJECT USAGE [ALTERNATIVE-NAMES]
certificate() {
    local file=$TLS/$1
    if [ -e "$file.crt" ]; then return 0; fi
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" -keyout "$file.key" -out "$file.csr" 2>/dev/null
    {
        echo "keyUsage=critical,digitalSignature,keyEncipherment"
        echo "extendedKeyUsage=$4"
        [ -z "${5:-}" ] || echo "subjectAltName=$5"
    } >"$file.ext"
    openssl x509 -req -in "$file.csr" -CA "$TLS/$2.crt" -CAkey "$TLS/$2.key" -CAcreateserial -days 3650 -extfile "$file.ext" \
        -out "$file.crt" 2>/dev/null
    rm "$file.csr" "$file.ext"
}

# kubeconfig FILE USER SERVER
kubeconfig() {
    cat >"$1" <<END
apiVersion: v1
kind: Config
clusters:
- {name: lab, cluster: {server: "$3", certificate-authority: "$TLS/ca.crt"}}
users:
- {name: "$2", user: {client-certificate: "$TLS/$2.crt", client-key: "$TLS/$2.key"}}
contexts:
- {name: lab, context: {cluster: lab, user: "$2"}}
current-context: lab
END
}

cluster_certificates() {
    local name names=DNS:localhost
    for name in kubernetes{,.default,.default.svc,.default.svc.$DOMAIN}; do names+=",DNS:$name"; done
    authority ca
    authority front-proxy-ca
    certificate apiserver ca /CN=kube-apiserver serverAuth "$names,IP:127.0.0.1,IP:::1,IP:$NET.1,IP:$API_IP"
    certificate apiserver-kubelet ca /O=system:masters/CN=apiserver-kubelet clientAuth
    certificate front-proxy front-proxy-ca /CN=front-proxy-client clientAuth
    certificate admin ca /O=system:masters/CN=admin clientAuth
    certificate controller-manager ca /CN=system:kube-controller-manager clientAuth
    certificate scheduler ca /CN=system:kube-scheduler clientAuth
    certificate kube-proxy ca /CN=system:kube-proxy clientAuth
    certificate coredns ca /O=system:masters/CN=coredns clientAuth
    [ -e "$TLS/service-account.key" ] || openssl genrsa -out "$TLS/service-account.key" 2048 2>/dev/null
    for name in admin controller-manager scheduler coredns; do
        kubeconfig "$STATE/$name.kubeconfig" $name "https://127.0.0.1:$PORT_API"
    done
    kubeconfig "$STATE/kube-proxy.kubeconfig" kube-proxy "https://$NET.1:$PORT_API"
}

# node_certificates N
node_certificates() {
    local name
    name=$(node_name "$1")
    certificate "kubelet-$name" ca "/O=system:nodes/CN=system:node:$name" clientAuth
    certificate "kubelet-server-$name" ca "/CN=$name" serverAuth "DNS:$name,IP:$NET.$((10 + $1)),IP:$NET6$((10 + $1))"
    kubeconfig "$STATE/nodes/$name/kubelet.kubeconfig" "kubelet-$name" "https://$NET.1:$PORT_API"
}
