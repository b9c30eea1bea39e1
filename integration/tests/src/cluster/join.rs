//! What a server's user data says to make a node of the cluster of it: the TLS bootstrap of kubelets, with accounts of the test's namespace.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::servers::{ADDRESS, NODE, NUMBER, registry_port};
use super::{Cluster, Gone};

/// Where the files are on the server.
const FOLDER: &str = "/etc/kubernetes";
/// How long a token is good for.
const TOKEN: &str = "--duration=3h";

impl Cluster {
    /// User data that joins a server with the cluster, as the node [`NODE`] with this `providerID`. What allows it to goes with the second value.
    ///
    /// # Errors
    /// When an account can't be made.
    pub fn joins(&self, provider_id: &str) -> Result<(String, Gone<'_>)> {
        let (bindings, api) = (self.may_join()?, self.api_server()?);
        let config = self.get("configmap/kube-root-ca.crt")?;
        let ca = config["data"]["ca.crt"]
            .as_str()
            .context("no authority")?
            .to_owned();
        let kubeconfig = |account: &str| {
            let token = self.kubectl(["create", "token", account, TOKEN])?;
            let config = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "it",
                "clusters": [{"name": "it", "cluster": {"server": api, "certificate-authority": format!("{FOLDER}/ca.crt")}}],
                "users": [{"name": "it", "user": {"token": token.trim()}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            });
            anyhow::Ok(config.to_string())
        };
        let files = [
            ("ca.crt", ca),
            ("kubelet.yaml", kubelet(provider_id).to_string()),
            ("bootstrap.kubeconfig", kubeconfig("kubelet")?),
            ("kube-proxy.yaml", kube_proxy().to_string()),
            ("kube-proxy.kubeconfig", kubeconfig("kube-proxy")?),
        ];
        let mut files: Vec<Value> = files
            .into_iter()
            .map(|(name, text)| file(&format!("{FOLDER}/{name}"), &text))
            .collect();
        let words = format!("KUBELET_WORDS=--hostname-override={NODE} --node-ip={ADDRESS} --v=0\n");
        files.extend([
            file("/etc/default/kubelet", &words),
            file("/etc/systemd/journald.conf.d/console.conf", JOURNAL),
            file("/etc/containerd/config.toml", CONTAINERD),
            file(
                "/etc/containerd/certs.d/registry.lab:5000/hosts.toml",
                &registry(),
            ),
            file("/etc/cni/net.d/10-lab.conflist", &pods().to_string()),
        ]);
        let data = json!({
            "write_files": files,
            "runcmd": [
                ["sysctl", "--write", "net.ipv4.ip_forward=1"],
                ["systemctl", "restart", "systemd-journald"],
                ["systemctl", "enable", "--now", "containerd", "kubelet", "kube-proxy"],
            ],
        });
        Ok((format!("#cloud-config\n{data}\n"), bindings))
    }

    /// An account that may ask for a kubelet's certificate, which is given at once, and one that may be kube-proxy.
    fn may_join(&self) -> Result<Gone<'_>> {
        let roles = [
            ("kubelet", "system:node-bootstrapper"),
            (
                "kubelet",
                "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            ),
            ("kube-proxy", "system:node-proxier"),
        ];
        let names: Vec<_> = (0..roles.len())
            .map(|number| format!("{}-joins-{number}", self.namespace()))
            .collect();
        let gone = names
            .iter()
            .map(|name| format!("clusterrolebinding/{name}"));
        let gone = self.gone_afterwards(gone);
        for account in ["kubelet", "kube-proxy"] {
            self.kubectl(["create", "serviceaccount", account])?;
        }
        for ((account, role), name) in roles.into_iter().zip(&names) {
            let account = format!("--serviceaccount={}:{account}", self.namespace());
            let role = format!("--clusterrole={role}");
            self.kubectl(["create", "clusterrolebinding", name, &role, &account])?;
        }
        Ok(gone)
    }

    /// Where nodes reach the API server.
    fn api_server(&self) -> Result<String> {
        let selector = "kubernetes.io/service-name=kubernetes";
        let words = [
            "--namespace",
            "default",
            "get",
            "endpointslice",
            "--selector",
            selector,
            "-o",
            "json",
        ];
        let slices: Value = serde_json::from_str(&self.kubectl(words)?)?;
        let slice = &slices["items"][0];
        let address = slice["endpoints"][0]["addresses"][0].as_str();
        let address = address.context("the API server has no address")?;
        Ok(format!("https://{address}:{}", slice["ports"][0]["port"]))
    }
}

fn file(path: &str, text: &str) -> Value {
    json!({"path": path, "content": text, "permissions": "0600"})
}

fn kubelet(provider_id: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "providerID": provider_id,
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": format!("{FOLDER}/ca.crt")}},
        "authorization": {"mode": "Webhook"}, "cgroupDriver": "systemd", "failSwapOn": false,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDomain": "cluster.local", "clusterDNS": ["10.79.0.10"], "resolvConf": "/run/systemd/resolve/resolv.conf",
        "nodeStatusUpdateFrequency": "5s", "runtimeRequestTimeout": "10m", "shutdownGracePeriod": "0s",
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "memory.available": "50Mi"},
    })
}

fn kube_proxy() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
        "clusterCIDR": "10.78.0.0/16", "hostnameOverride": NODE,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "clientConnection": {"kubeconfig": format!("{FOLDER}/kube-proxy.kubeconfig")},
    })
}

/// Its pods' network: the part of it to which the cluster's routes lead.
fn pods() -> Value {
    json!({"cniVersion": "1.0.0", "name": "lab", "plugins": [
        {
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
            "ipam": {
                "type": "host-local", "dataDir": "/run/cni-addresses",
                "ranges": [[{"subnet": format!("10.78.{NUMBER}.0/24")}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

fn registry() -> String {
    let url = format!("http://10.77.0.1:{}", registry_port());
    format!("server = \"{url}\"\n[host.\"{url}\"]\n")
}

/// What goes wrong there is seen on the serial port.
const JOURNAL: &str = "[Journal]\nForwardToConsole=yes\nTTYPath=/dev/ttyS0\nMaxLevelConsole=info\n";

const CONTAINERD: &str = r#"version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "registry.lab:5000/pause:dev"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni"]
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "/usr/local/bin/runc"
SystemdCgroup = true
"#;
