//! Clients that were written for the peer, by others, against ours; and one written from its description alone.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, Cluster, MINIMAL, SYSTEM};
use catamaran_tests::command::{output, stdout};
use catamaran_tests::programs::root;
use catamaran_tests::{BOOT, SHORT, manifest};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// What a set-up of `integration/setup` has made; it does so on the first run.
fn installed(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), PathBuf::from)
        .join(name);
    stdout(Command::new(root().join("integration/setup").join(name)).arg(&folder))?;
    Ok(folder)
}

/// A Python client of `peers`, with the access of a kubeconfig.
fn python(client: &str, access: &NamedTempFile) -> Result<Command> {
    let mut command = Command::new(installed("kubevirt-clients")?.join("bin/python"));
    command
        // Compiled files would lie in the repository.
        .args(["-B", "-Wignore"])
        .arg(root().join("integration/tests/peers").join(client))
        .env("KUBECONFIG", access.path());
    Ok(command)
}

/// A file with some JSON.
fn file(content: &Value) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    serde_json::to_writer(&file, content)?;
    Ok(file)
}

/// The kubeconfig of the administrator, who has a certificate.
fn administrator(cluster: &Cluster) -> Result<Value> {
    let words = ["config", "view", "--raw", "--minify", "--flatten", "-ojson"];
    Ok(serde_json::from_str(&cluster.kubectl(words)?)?)
}

/// The kubeconfig of a service account, who has a token and may use streams and nothing else.
fn visitor(cluster: &Cluster) -> Result<Value> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "visitor"},
        "rules": [{
            "apiGroups": ["subresources.kubevirt.io"],
            "resources": [
                "virtualmachineinstances/console", "virtualmachineinstances/vnc", "virtualmachineinstances/vnc/screenshot",
                "virtualmachineinstances/portforward", "virtualmachines/portforward",
            ],
            "verbs": ["get"],
        }],
    });
    cluster.apply(&[&role])?;
    cluster.kubectl(["create", "serviceaccount", "visitor"])?;
    let account = format!("--serviceaccount={}:visitor", cluster.namespace());
    cluster.kubectl([
        "create",
        "rolebinding",
        "visitor",
        "--role=visitor",
        &account,
    ])?;
    let token = cluster.kubectl(["create", "token", "visitor"])?;
    let mut access = administrator(cluster)?;
    access["users"][0]["user"] = json!({"token": token.trim()});
    Ok(access)
}

/// A machine with the minimal guest.
fn machine(name: &str) -> Value {
    let mut machine = manifest::machine(name);
    let spec = &mut machine["spec"]["template"]["spec"];
    spec["volumes"][0]["containerDisk"]["image"] = MINIMAL.into();
    spec["terminationGracePeriodSeconds"] = 1.into();
    machine
}

#[test]
fn openshift_python_wrapper_lives_through_the_life_of_a_machine() -> Result<()> {
    cluster::run(1, |cluster| {
        let access = file(&administrator(cluster)?)?;
        let said =
            stdout(python("drive_kubevirt.py", &access)?.args([cluster.namespace(), MINIMAL]))?;
        let steps: Vec<&str> = said.lines().collect();
        let wanted = [
            "created",
            "started",
            "read",
            "paused",
            "unpaused",
            "restarted",
            "stopped",
            "deleted",
        ];
        ensure!(steps == wanted, "{said}");
        Ok(())
    })
}

#[test]
fn a_client_written_from_the_description_uses_console_screen_and_ports() -> Result<()> {
    cluster::run(1, |cluster| {
        // Before the machine, so that its console is open when the guest boots.
        let owner = file(&administrator(cluster)?)?;
        let visitor = file(&visitor(cluster)?)?;
        let mut first = python("drive_streams.py", &owner)?;
        let mut second = python("drive_streams.py", &visitor)?;
        cluster.apply(&[&machine("seen")])?;
        cluster.kubectl(["wait", "--for=create", "vmi/seen"])?;
        let said = stdout(first.args([cluster.namespace(), "seen", "boot"]))?;
        ensure!(
            said == "boot\nconsole\nscreen\nscreenshot\nports\n",
            "{said}"
        );
        let said = stdout(second.args([cluster.namespace(), "seen", "browser"]))?;
        ensure!(said == "console\nscreen\nscreenshot\nports\n", "{said}");
        Ok(())
    })
}

/// What the compiler finds in objects that claim to be of types; nothing when they are.
fn mistakes(constants: &[Value]) -> Result<String> {
    let folder = installed("kubevirt-types")?;
    let objects = file(&json!(constants))?;
    let found = output(
        Command::new("node")
            .arg(root().join("integration/tests/peers/kubevirt-types/check.mjs"))
            .arg(folder)
            .arg(objects.path()),
    )?;
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    if found.status.success() {
        ensure!(said.trim() == constants.len().to_string(), "{said}");
        return Ok(String::new());
    }
    ensure!(
        found.status.code() == Some(1) && said.contains("error TS"),
        "{found:?}"
    );
    Ok(said)
}

/// Makes one object of each kind whose types are checked, and waits until their statuses are filled.
fn make_objects(cluster: &Cluster, shared: &str) -> Result<()> {
    let group = "instancetype.kubevirt.io/v1beta1";
    let size = json!({"cpu": {"guest": 1}, "memory": {"guest": "128Mi"}});
    let taste = json!({"cpu": {"preferredCPUTopology": "cores"}, "devices": {"preferredDiskBus": "virtio", "preferredRng": {}}});
    let kind = |kind: &str, spec: &Value| json!({"apiVersion": group, "kind": kind, "metadata": {"name": shared}, "spec": spec});
    let mut guest = machine("typed");
    cluster.add_guest_agent(&mut guest)?;
    if let Value::Object(domain) = &mut guest["spec"]["template"]["spec"]["domain"] {
        domain.remove("memory");
    }
    guest["spec"]["instancetype"] = json!({"name": shared});
    guest["spec"]["preference"] = json!({"name": shared, "kind": "VirtualMachinePreference"});
    let example = std::fs::read_to_string(root().join("crds/examples/vm-full.yaml"))?;
    let mut example: Value = serde_yaml_ng::from_str(&example)?;
    example["spec"]["runStrategy"] = "Halted".into();
    let template = machine("copy")["spec"]["template"].clone();
    let replicas = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceReplicaSet", "metadata": {"name": "copies"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "copy"}}, "template": template},
    });
    cluster.apply(&[
        &kind("VirtualMachineInstancetype", &size),
        &kind("VirtualMachineClusterInstancetype", &size),
        &kind("VirtualMachinePreference", &taste),
        &kind("VirtualMachineClusterPreference", &taste),
    ])?;
    cluster.apply(&[&guest, &example, &replicas])?;
    cluster.wait_field("vm/typed", "/status/printableStatus", "Running", BOOT)?;
    cluster.wait_condition("vmi/typed", "AgentConnected", "True", BOOT)?;
    cluster.wait_condition("vm/typed", "AgentConnected", "True", SHORT)?;
    cluster.wait_field("vm/fleet", "/status/printableStatus", "Stopped", SHORT)?;
    cluster.kubectl([
        "wait",
        "--for=jsonpath={.status.replicas}=1",
        "vmirs/copies",
    ])?;
    // Of nothing every type would be right.
    for (what, pointer) in [
        ("guestosinfo", "/os/id"),
        ("userlist", "/items/0/userName"),
        ("filesystemlist", "/items/0/mountPoint"),
    ] {
        let said = cluster.raw(&cluster.subresource("typed", what))?;
        ensure!(said.pointer(pointer).is_some(), "no {pointer} in {said}");
    }
    Ok(())
}

#[test]
fn typescript_types_of_the_peer_fit_what_the_api_returns() -> Result<()> {
    cluster::run(1, |cluster| {
        let shared = format!("typed-{}", cluster.namespace());
        let _gone = cluster.gone_afterwards([
            format!("virtualmachineclusterinstancetype/{shared}"),
            format!("virtualmachineclusterpreference/{shared}"),
        ]);
        make_objects(cluster, &shared)?;
        let constants = returned(cluster, &shared)?;
        let found = mistakes(&constants)?;
        ensure!(found.is_empty(), "{found}");

        // Types that say nothing would fit everything.
        let mut wrong = constants[0].clone();
        wrong["value"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "1".into();
        let mut strange = constants[1].clone();
        strange["value"]["status"]["printable"] = "Running".into();
        let mut lacking = constants[3].clone();
        lacking["value"]["spec"]["domain"]["devices"] = Value::Null;
        let found = mistakes(&[wrong, strange, lacking])?;
        for mistake in [
            "Type 'string' is not assignable to type 'number'",
            "'\"printable\"' does not exist in type 'V1VirtualMachineStatus'",
            "Type 'null' is not assignable to type 'V1Devices'",
        ] {
            ensure!(found.contains(mistake), "no {mistake}: {found}");
        }
        Ok(())
    })
}

/// What the API returns of everything that [`make_objects`] has made, and of itself, as constants with their types.
fn returned(cluster: &Cluster, shared: &str) -> Result<Vec<Value>> {
    // The peer's answer has no more of the fields that Kubernetes' own type has, and ours says its own version besides.
    let version = "Pick<kubernetes.IoK8sApimachineryPkgVersionInfo, 'gitVersion' | 'gitCommit' | 'gitTreeState' | 'buildDate' \
         | 'goVersion' | 'compiler' | 'platform'> & Record<string, string>";
    let group = "kubevirt.K8sIoApimachineryPkgApisMetaV1APIGroup";
    let resources = "kubevirt.K8sIoApimachineryPkgApisMetaV1APIResourceList";
    let name = cluster.namespace();
    let core = format!("/apis/kubevirt.io/v1/namespaces/{name}");
    let shared_by_all = "/apis/instancetype.kubevirt.io/v1beta1";
    let shared_here = format!("{shared_by_all}/namespaces/{name}");
    let verbs = "/apis/subresources.kubevirt.io/v1";
    let guest = |what: &str| cluster.subresource("typed", what);
    let paths = [
        (format!("{core}/virtualmachines/typed"), "V1VirtualMachine"),
        (format!("{core}/virtualmachines/fleet"), "V1VirtualMachine"),
        (format!("{core}/virtualmachines"), "V1VirtualMachineList"),
        (
            format!("{core}/virtualmachineinstances/typed"),
            "V1VirtualMachineInstance",
        ),
        (
            format!("{core}/virtualmachineinstances"),
            "V1VirtualMachineInstanceList",
        ),
        (
            format!("{core}/virtualmachineinstancereplicasets/copies"),
            "V1VirtualMachineInstanceReplicaSet",
        ),
        (
            format!("{core}/virtualmachineinstancereplicasets"),
            "V1VirtualMachineInstanceReplicaSetList",
        ),
        (
            format!("/apis/kubevirt.io/v1/namespaces/{SYSTEM}/kubevirts/catamaran"),
            "V1KubeVirt",
        ),
        (
            "/apis/kubevirt.io/v1/kubevirts".to_owned(),
            "V1KubeVirtList",
        ),
        (
            format!("{shared_here}/virtualmachineinstancetypes/{shared}"),
            "V1beta1VirtualMachineInstancetype",
        ),
        (
            format!("{shared_by_all}/virtualmachineclusterinstancetypes/{shared}"),
            "V1beta1VirtualMachineClusterInstancetype",
        ),
        (
            format!("{shared_here}/virtualmachinepreferences/{shared}"),
            "V1beta1VirtualMachinePreference",
        ),
        (
            format!("{shared_by_all}/virtualmachineclusterpreferences/{shared}"),
            "V1beta1VirtualMachineClusterPreference",
        ),
        (
            format!("{verbs}/namespaces/{name}/virtualmachines/typed/expand-spec"),
            "V1VirtualMachine",
        ),
        (
            guest("guestosinfo"),
            "V1VirtualMachineInstanceGuestAgentInfo",
        ),
        (guest("userlist"), "V1VirtualMachineInstanceGuestOSUserList"),
        (
            guest("filesystemlist"),
            "V1VirtualMachineInstanceFileSystemList",
        ),
        (format!("{verbs}/version"), version),
        ("/apis/subresources.kubevirt.io".to_owned(), group),
        (verbs.to_owned(), resources),
        ("/apis/kubevirt.io".to_owned(), group),
        ("/apis/kubevirt.io/v1".to_owned(), resources),
    ];
    let constant = |(number, (path, type_)): (usize, (String, &str))| {
        let type_ = if type_.starts_with("V1") {
            format!("kubevirt.{type_}")
        } else {
            type_.to_owned()
        };
        let value = cluster.raw(&path)?;
        Ok(json!({"name": format!("object{number}"), "type": type_, "value": value}))
    };
    paths.into_iter().enumerate().map(constant).collect()
}
