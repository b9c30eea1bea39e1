# shellcheck shell=bash
# The programs of the cluster, built from Go modules: nothing is downloaded that was built by others.

# The oldest Go that all modules take.
GO_WANTED=1.26

need_go() {
    local have
    command -v go >/dev/null || fail "Go is not installed; Go $GO_WANTED or later builds the cluster's programs (https://go.dev/dl)"
    have=$(GOTOOLCHAIN=local go env GOVERSION)
    [ "$(printf '%s\n' "$GO_WANTED" "${have#go}" | sort -V | head -n 1)" = "$GO_WANTED" ] ||
        fail "Go $GO_WANTED or later builds the cluster's programs; $(command -v go) is $have"
}

version_of() { (cd "$HERE/modules/$1" && GOWORK=off go list -m -f '{{.Version}}' "$2"); }

is_built() { [ "$(cat "$PROGRAMS/.$1" 2>/dev/null)" = "$(cat "$HERE/modules/$1"/* | sha256sum)" ]; }

# build_module MODULE LINKER-FLAGS OUTPUT PACKAGE…: with $TAGS
build_module() {
    local module=$1 flags=$2 output=$3 start=$SECONDS
    shift 3
    if is_built "$module"; then return 0; fi
    echo "cluster: building $module" >&2
    (cd "$HERE/modules/$module" && GOWORK=off GOFLAGS=-buildvcs=false \
        go build -trimpath ${TAGS:+-tags "$TAGS"} -ldflags "-s -w $flags" -o "$output" "$@")
    cat "$HERE/modules/$module"/* | sha256sum >"$PROGRAMS/.$module"
    echo "cluster: built $module in $((SECONDS - start)) s" >&2
}

build() {
    local module version number missing=
    for module in kubernetes containerd runc cni etcd coredns; do is_built $module || missing=yes; done
    [ -n "$missing" ] || return 0
    need_go
    mkdir -p "$PROGRAMS/cni"
    export CGO_ENABLED=0
    TAGS='' build_module etcd '' "$PROGRAMS/etcd" go.etcd.io/etcd/server/v3
    TAGS='' build_module cni '' "$PROGRAMS/cni/" tool
    version=$(version_of containerd github.com/containerd/containerd/v2)
    TAGS=no_btrfs,no_zfs build_module containerd "-X github.com/containerd/containerd/v2/version.Version=${version#v}" "$PROGRAMS/" \
        github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}
    version=$(version_of runc github.com/opencontainers/runc)
    CGO_ENABLED=1 TAGS=seccomp build_module runc "-X main.version=${version#v}" "$PROGRAMS/" github.com/opencontainers/runc
    version=$(version_of kubernetes k8s.io/kubernetes) number=${version#v}
    TAGS='' build_module kubernetes "-X k8s.io/component-base/version.gitVersion=$version \
        -X k8s.io/component-base/version.gitMajor=${number%%.*} \
        -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$number")" "$PROGRAMS/" \
        k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
    TAGS='' build_module coredns '' "$PROGRAMS/coredns" .
}

# helm …, virtctl …: with the administrator's kubeconfig. Built when they are first asked for: the cluster itself does not need them.
helm() { built_first helm helm.sh/helm/v4 cmd/helm helm.sh/helm/v4/internal/version.version "$@"; }
virtctl() { built_first virtctl kubevirt.io/kubevirt cmd/virtctl kubevirt.io/client-go/version.gitVersion "$@"; }

# built_first NAME MODULE PACKAGE VARIABLE WORD…: the variable is where the program looks for its version
built_first() {
    local name=$1 module=$2 package=$3 variable=$4 version
    shift 4
    if ! is_built "$name"; then
        need_go
        mkdir -p "$PROGRAMS"
        version=$(version_of "$name" "$module")
        CGO_ENABLED=0 TAGS='' build_module "$name" "-X $variable=$version" "$PROGRAMS/$name" "$module/$package"
    fi
    exec "$PROGRAMS/$name" "$@"
}
