//! What machines could leave behind on the nodes of a cluster.

use std::collections::BTreeSet;

use super::Cluster;

/// What lists it, run inside a node: processes, pods' folders, links, firewall tables, network namespaces and the daemon's files.
const LOOK: &str = r#"
for proc in /proc/[0-9]*; do
    name=$(cat "$proc/comm" 2>/dev/null)
    case $name in
    qemu-*|swtpm|catamaran-init|catamaran-launc*) echo "process $name of $(grep -o -m 1 'pod[0-9a-f-]*' "$proc/cgroup")" ;;
    esac
done
for pod in /var/lib/kubelet/pods/*; do [ -e "$pod/volumes/kubernetes.io~empty-dir/run" ] && echo "pod $pod"; done
ip -o link | grep -v -E ' (veth|lo|eth0|cni0)' | sed 's/^[0-9]*: //; s/[:@].*//; s/^/link /'
nft list tables | grep -i catamaran | sed 's/^/nftables /'
find /run/catamaran /var/lib/catamaran -mindepth 1 2>/dev/null | grep -E '/t[0-9]+-[0-9]+' | sed 's/^/file /'
true
"#;

/// A set of names, each with the node and what it is the name of.
#[derive(Debug)]
pub(super) struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// Looks at all nodes. One that can't be asked has nothing: it may be off. What belongs to a pod that there is (of another test, of a person)
    /// is not left behind.
    pub(super) fn of(cluster: &Cluster) -> Self {
        let mut found = BTreeSet::new();
        let uids = "jsonpath={.items[*].metadata.uid}";
        let pods = cluster
            .kubectl(["get", "pod", "--all-namespaces", "-o", uids])
            .unwrap_or_default();
        let owned = |line: &&str| pods.split_whitespace().any(|uid| line.contains(uid));
        for node in 1..=cluster.nodes() {
            let listed = cluster
                .on_node(node, &["sh", "-c", LOOK])
                .unwrap_or_default();
            let left = listed.lines().filter(|line| !owned(line));
            found.extend(left.map(|line| format!("node{node}: {line}")));
        }
        Self(found)
    }

    /// What is there now and was not before.
    pub(super) fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}
