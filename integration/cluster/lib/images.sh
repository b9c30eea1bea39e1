# shellcheck shell=bash
# The cluster's registry.

# push LAYOUT:IMAGE NAME: only what the registry does not have yet is sent
push() {
    [ $# = 2 ] || usage
    skopeo copy -q --dest-tls-verify=false "oci:$1" "docker://127.0.0.1:$PORT_REGISTRY/$2"
}

# The sandbox of all pods, and a busybox for tests: of guest-images.
base_images() {
    local layout=$HERE/../../guest-images/out/oci name
    await 30 "the registry answers" registry_has ''
    for name in pause tiny; do
        if registry_has "$name/manifests/dev"; then continue; fi
        grep -q "catamaran.local/$name:dev" "$layout/index.json" 2>/dev/null || "$HERE/../../guest-images/build" containers
        push "$layout:catamaran.local/$name:dev" "$name:dev"
    done
}

registry_has() {
    curl -sf -o /dev/null -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://127.0.0.1:$PORT_REGISTRY/v2/$1"
}
